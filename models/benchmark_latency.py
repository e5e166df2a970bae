"""Times and memory of networks, side by side: all take turns within one process, so that they share its fate.

A shared computer is faster at one minute and slower at the next. What is measured in turns is slowed down alike, so
ratios hold where seconds do not.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.benchmark import SCALING_SIZES, Conditions, Peak, Race, Size, Timing
from models.benchmark_child import TASK, Task
from models.errors import ReliefscopeError
from models.language import _

Entry = tuple[str, str]
"""(network or method, engine)"""
Report = Callable[[int, int], None]

TUNED_ALLOCATOR: Mapping[str, str] = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""For glibc: large pages, and memory once taken is kept. By default every large tensor is given back and taken anew,
page by page, which costs some networks more than their arithmetic."""
ALLOCATORS: Mapping[str, Mapping[str, str]] = {"default": {}, "tuned": TUNED_ALLOCATOR}


def race(
    entries: Sequence[Entry],
    size: Size,
    where: Conditions,
    *,
    rounds: int,
    allocators: Sequence[str] = ("default",),
    progress: Report = lambda done, total: None,
) -> Race:
    """All ``entries`` at one size: times with each allocator, then the memory of each in a process of its own.

    The memory is measured with the default allocator. ``progress`` counts runs.
    """
    total = len(entries) * ((rounds + 1) * len(allocators) + 1)
    count = _Counter(progress, total)
    timings = [
        timing
        for allocator in allocators
        for timing in _times(entries, (size,), rounds, where.threads, allocator, count)
    ]
    peaks = tuple(_peak(entry, size, where.threads, count) for entry in entries)
    return Race("latency", str(size), where, tuple(timings), peaks)


def scaling_race(
    entry: Entry,
    where: Conditions,
    *,
    rounds: int,
    allocators: Sequence[str] = ("default",),
    sizes: Sequence[Size] = SCALING_SIZES,
    progress: Report = lambda done, total: None,
) -> Race:
    """One network at many ``sizes``, in turn: how its time grows with frames and pixels."""
    count = _Counter(progress, len(sizes) * ((rounds + 1) * len(allocators) + 1))
    timings = [
        timing
        for allocator in allocators
        for timing in _times((entry,), sizes, rounds, where.threads, allocator, count)
    ]
    peaks = tuple(_peak(entry, size, where.threads, count) for size in sizes)
    return Race("scaling", entry[0], where, tuple(timings), peaks)


class _Counter:
    """Counts runs over several processes."""

    def __init__(self, progress: Report, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self) -> None:
        self._done += 1
        self._progress(min(self._done, self._total), self._total)


def _times(
    entries: Sequence[Entry],
    sizes: Sequence[Size],
    rounds: int,
    threads: int,
    allocator: str,
    count: Callable[[], None],
) -> list[Timing]:
    """One timing for each entry at each size. The first round warms up and is left out.

    Where the system ends the process, such as for want of memory, the entry that was running is left out and the
    others begin anew.
    """
    running, errors = list(range(len(entries))), dict[tuple[int, int], str]()
    while True:
        seconds: dict[tuple[int, int], list[float]] = {}
        task = Task(tuple(entries[index] for index in running), tuple(sizes), rounds + 1, threads)
        try:
            for index, size, answer in _answers(task, allocator):
                count()
                if "seconds" in answer:
                    seconds.setdefault((running[index], size), []).append(float(answer["seconds"]))
                else:
                    errors[running[index], size] = str(answer["error"])
        except _Ended as end:
            if end.index is None:
                raise
            errors |= {(running[end.index], size): str(end) for size in range(len(sizes))}
            del running[end.index]
            if running:
                continue
            seconds = {}
        return [
            Timing(*entry, allocator, size, tuple(seconds.get((i, k), ())[1:]), errors.get((i, k)))
            for i, entry in enumerate(entries)
            for k, size in enumerate(sizes)
        ]


def _peak(entry: Entry, size: Size, threads: int, count: Callable[[], None]) -> Peak:
    """Of one run in a process of its own."""
    task = Task((entry,), (size,), 1, threads)
    error = None
    at_end: dict[str, Any] = {}
    try:
        for _index, _size, answer in _answers(task, "default", at_end):
            error = answer.get("error")
    except _Ended as end:
        if end.index is None:
            raise
        error = str(end)
    count()
    return Peak(*entry, size, None if error else at_end.get("peak_bytes"), error)


class _Ended(ReliefscopeError):
    """The process that measures ended early, while entry ``index`` was running; None: while it started."""

    def __init__(self, message: str, index: int | None) -> None:
        super().__init__(message)
        self.index = index


def _answers(
    task: Task, allocator: str, at_end: dict[str, Any] | None = None
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(index of the entry, index of the size, answer) of every run; what comes last goes into ``at_end``.

    Raises _Ended where the process does not come to its end.
    """
    running = None
    with _child(task, allocator) as child:
        assert child.stdout is not None
        for line in child.stdout:
            said = json.loads(line)
            if "start" in said:
                running = said["start"], said["size"]
            elif "peak_bytes" in said:
                if at_end is not None:
                    at_end |= said
                return
            elif running is not None:
                yield *running, said
        child.wait()
        raise _Ended(_why(child.returncode), None if running is None else running[0])


@contextmanager
def _child(task: Task, allocator: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The process that measures; ended with the ``with`` block."""
    # -P: another folder "models" in the current directory is none of our business.
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        **ALLOCATORS[allocator],
        "OMP_NUM_THREADS": str(task.threads),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    words = [sys.executable, "-P", "-m", "models.benchmark_child"]
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdin is not None
            child.stdin.write(TASK.dump_json(task))
            child.stdin.close()
            yield child
        finally:
            child.kill()


def _why(code: int) -> str:
    if code < 0 and -code == getattr(signal, "SIGKILL", 9):
        return _("ended by the system, most likely for want of memory")
    return _("the measuring process ended with code {code}").format(code=code)
