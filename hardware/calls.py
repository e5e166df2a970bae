"""Calls that may take long or hang: made in a thread of their own, so that waiting for them can end."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


def started(name: str, call: Callable[[], Result]) -> Future[Result]:
    """One call in a thread of its own, which begins at once; whoever asked for it can do something else meanwhile."""
    calls = CallThread(name)
    future = calls.start(call)
    calls.close()
    return future


class CallThread:
    """One thread that makes the calls one after the other; some SDKs want all of them from the same thread.

    A call that never returns keeps only this thread; the program can still end.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def run(self, call: Callable[[], Result], timeout_s: float) -> Result:
        """What ``call`` returns or raises; TimeoutError where it takes too long, though it may end later."""
        future = self.start(call)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()  # of use where it has not begun
            raise

    def start(self, call: Callable[[], Result]) -> Future[Result]:
        """Make the call when those before it are done, and do not wait for it."""
        future: Future[Result] = Future()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """No more calls; the thread ends after those already made."""
        self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # whatever it is belongs to the thread that waits
                future.set_exception(error)
