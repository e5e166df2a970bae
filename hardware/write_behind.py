"""Writing behind the capture: the disk works while the stage moves, settles and the camera exposes."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

MOST_WAITING = 3
"""Frames that may wait for the disk: they bridge a slow moment, and take little memory."""

Item = TypeVar("Item")


class WriteBehind(Generic[Item]):
    """Calls ``write`` for each item, in their order, in one thread of its own.

    Where the disk is slower than the camera, :meth:`put` waits: memory stays constant. After an error nothing more is
    written, since what follows would seem to be what is missing; the next call raises it. Leaving the ``with`` block,
    however that happens, waits until everything is written.
    """

    def __init__(self, write: Callable[[Item], None]) -> None:
        self._write = write
        self._waiting: queue.Queue[Item | None] = queue.Queue(MOST_WAITING)
        self._error: BaseException | None = None
        # A disk that never answers must not keep the program from ending.
        self._thread = threading.Thread(target=self._work, name="frames to disk", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand over the next item. Raises what ``write`` raised for an earlier one."""
        self._waiting.put(item)
        self._raise_error()

    def drain(self) -> None:
        """Wait until everything is written. Raises what ``write`` raised."""
        self._waiting.join()
        self._raise_error()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._waiting.put(None)
        self._thread.join()
        if error is not self._error:
            self._raise_error()  # what was lost on the disk counts more than what ended the sweep

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                if self._error is None:
                    self._write(item)
            except BaseException as error:  # whatever it is belongs to the thread that captures
                self._error = error
            finally:
                self._waiting.task_done()
