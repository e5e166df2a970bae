"""Many renderings at once: a few processes, one thread each, that end when they are told to."""

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import signal
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import cv2

from models.errors import Cancelled, OutputError
from models.language import _

Work = TypeVar("Work")


def each_done(
    do: Callable[[Work], None], works: list[Work], jobs: int, cancel: threading.Event | None = None
) -> Generator[Work, None, None]:
    """``do`` every work in up to ``jobs`` processes and yield it when it is done, in any order.

    Raises Cancelled when cancelled, after the works that have begun; OutputError where the system ends a process.
    """
    if jobs <= 1 or len(works) <= 1:
        yield from _one_by_one(do, works, cancel)
        return
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(min(jobs, len(works)), context, initializer=_prepare_process)
    try:
        waiting = {pool.submit(do, work): work for work in works}
        while waiting:
            if cancel is not None and cancel.is_set():
                raise Cancelled
            done, _rest = concurrent.futures.wait(waiting, 0.2, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                future.result()
                yield waiting.pop(future)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise OutputError(
            _("The system ended a process that was rendering, most likely for want of memory. Use fewer --jobs.")
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_by_one(
    do: Callable[[Work], None], works: list[Work], cancel: threading.Event | None
) -> Generator[Work, None, None]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # on pictures this small, waking others takes longer than the work
    try:
        for work in works:
            if cancel is not None and cancel.is_set():
                raise Cancelled
            do(work)
            yield work
    finally:
        cv2.setNumThreads(threads)


def _prepare_process() -> None:
    """Ctrl-C belongs to the parent, which knows what to keep; one thread each, or they fight for the cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def make_folder(folder: Path) -> None:
    """Make the folder where it is missing. Raises OutputError where that is refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            _("Cannot make the folder {folder}: {reason}.").format(folder=folder, reason=error)
        ) from error
