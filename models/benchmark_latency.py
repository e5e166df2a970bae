"""Times and memory of networks, side by side: all take turns within one process, so that they share its fate.

A shared computer is faster at one minute and slower at the next. What is measured in turns is slowed down alike, so
ratios hold where seconds do not. A round, in which each has its turn, is the smallest part that counts: a race that was
stopped goes on with the rounds that are missing.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from models.benchmark import SCALING_SIZES, Conditions, Peak, Race, Size, Timing
from models.benchmark_child import SLOW_S, TASK, Task, Turn
from models.errors import ReliefscopeError
from models.language import _

Entry = tuple[str, str]
"""(network or method, engine)"""
Report = Callable[[int, int], None]

START_S = 6.0
"""About what a process takes before its first run, for estimates."""

TUNED_ALLOCATOR: Mapping[str, str] = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""For glibc: large pages, and memory once taken is kept. By default every large tensor is given back and taken anew,
page by page, which costs some networks more than their arithmetic."""
ALLOCATORS: Mapping[str, Mapping[str, str]] = {"default": {}, "tuned": TUNED_ALLOCATOR}


@dataclass(frozen=True)
class Plan:
    """What a race measures: every entry at every size, ``rounds`` times with each allocator after a first run to warm
    up, but once where a run takes longer than ``slow_s``; then the memory of each in a process of its own, with the
    default allocator. ``kind`` and ``name``: those of the :class:`models.benchmark.Race`."""

    kind: str
    name: str
    entries: tuple[Entry, ...]
    sizes: tuple[Size, ...]
    rounds: int
    allocators: tuple[str, ...] = ("default",)
    slow_s: float = SLOW_S

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(Turn(*entry, size) for size in self.sizes for entry in self.entries)

    def left(self, sheet: "_Sheet", turn: Turn, allocator: str) -> int:
        """Rounds that are missing."""
        seconds = sheet.seconds.get((turn, allocator), [])
        if (turn, allocator) in sheet.errors or (seconds and max(seconds) > self.slow_s):
            return 0
        return max(self.rounds - len(seconds), 0)


def latency(
    entries: Sequence[Entry],
    size: Size,
    *,
    rounds: int,
    allocators: Sequence[str] = ("default",),
    slow_s: float = SLOW_S,
) -> Plan:
    """All ``entries`` at one size."""
    return Plan("latency", str(size), tuple(entries), (size,), rounds, tuple(allocators), slow_s)


def scaling(
    entry: Entry,
    *,
    rounds: int,
    allocators: Sequence[str] = ("default",),
    slow_s: float = SLOW_S,
    sizes: Sequence[Size] = SCALING_SIZES,
) -> Plan:
    """One network at many ``sizes``: how its time grows with frames and pixels."""
    return Plan("scaling", entry[0], (entry,), tuple(sizes), rounds, tuple(allocators), slow_s)


def run_race(
    plan: Plan, where: Conditions, *, known: Sequence[Race] = (), progress: Report = lambda done, total: None
) -> Iterator[Race]:
    """The race as far as it is, after every round and every measurement of memory, the whole race last.

    A race among ``known`` that was begun with the same entries and sizes in the same conditions is gone on with; where
    nothing of it is missing, it comes as it is. ``progress`` counts runs.
    """
    sheet = _begun(plan, where, known)
    count = _Counter(progress, sum(_runs_left(plan, sheet, turn) for turn in plan.turns))
    for allocator in plan.allocators:
        for _round in _take_turns(plan, where.threads, allocator, sheet, count):
            yield sheet.race(plan, where)
    for turn in plan.turns:
        if turn not in sheet.peaks:
            sheet.peaks[turn] = _peak(turn, where.threads)
            count()
            yield sheet.race(plan, where)
    yield sheet.race(plan, where)


def expected_s(plans: Iterable[Plan], where: Conditions, known: Sequence[Race]) -> float | None:
    """Seconds that what is missing of ``plans`` will take, from times at other sizes in proportion to the pixels of all
    frames; None as long as one of them was never timed."""
    whole = 0.0
    for plan in plans:
        sheet = _begun(plan, where, known)
        for turn in plan.turns:
            runs = _runs_left(plan, sheet, turn)
            if not runs:
                continue
            seconds = _likely_s(turn, known)
            if seconds is None:
                return None
            if seconds > plan.slow_s:  # one to warm up and one that counts for each allocator, one for the memory
                runs = min(runs, 2 * len(plan.allocators) + 1)
            whole += seconds * runs + START_S * (turn not in sheet.peaks)
    return whole


def _runs_left(plan: Plan, sheet: "_Sheet", turn: Turn) -> int:
    """With the runs that warm up, and the one whose memory is measured."""
    rounds = [plan.left(sheet, turn, allocator) for allocator in plan.allocators]
    return sum(left + 1 for left in rounds if left) + (turn not in sheet.peaks)


def _likely_s(turn: Turn, known: Iterable[Race]) -> float | None:
    """Of one run, from the size most like it; 0 for what has always failed."""
    alike = [
        timing
        for one in known
        for timing in one.timings
        if (timing.network, timing.engine) == (turn.network, turn.engine) and (timing.seconds or timing.error)
    ]
    timed = [timing for timing in alike if timing.seconds]
    if not timed:
        return 0.0 if alike else None
    nearest = min(
        timed, key=lambda timing: max(work(timing.size) / work(turn.size), work(turn.size) / work(timing.size))
    )
    return median(nearest.seconds) * work(turn.size) / work(nearest.size)


def work(size: Size) -> int:
    """Pixels of all frames together."""
    return size.rows * size.columns * size.frames


class _Sheet:
    """What has been measured of a race so far."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[Turn, str], list[float]] = {}
        self.errors: dict[tuple[Turn, str], str] = {}
        self.peaks: dict[Turn, Peak] = {}

    def race(self, plan: Plan, where: Conditions) -> Race:
        timings = []
        for allocator in ALLOCATORS:
            for turn in plan.turns:
                key = turn, allocator
                if allocator in plan.allocators or key in self.seconds or key in self.errors:
                    seconds = tuple(self.seconds.get(key, ()))
                    timings.append(
                        Timing(turn.network, turn.engine, allocator, turn.size, seconds, self.errors.get(key))
                    )
        return Race(plan.kind, plan.name, where, tuple(timings), tuple(self.peaks.values()))


def _begun(plan: Plan, where: Conditions, known: Iterable[Race]) -> _Sheet:
    """What ``known`` holds of the race, nothing where it was another one or its times are not to be compared."""
    sheet = _Sheet()
    for one in known:
        entries = {(timing.network, timing.engine, timing.size) for timing in one.timings}
        same = (one.kind, one.name, replace(one.conditions, date=where.date)) == (plan.kind, plan.name, where)
        if same and entries == {(turn.network, turn.engine, turn.size) for turn in plan.turns}:
            for timing in one.timings:
                key = Turn(timing.network, timing.engine, timing.size), timing.allocator
                if timing.seconds:
                    sheet.seconds[key] = list(timing.seconds)
                if timing.error is not None:
                    sheet.errors[key] = timing.error
            sheet.peaks |= {Turn(peak.network, peak.engine, peak.size): peak for peak in one.peaks}
    return sheet


class _Counter:
    """Counts runs over several processes."""

    def __init__(self, progress: Report, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, runs: int = 1) -> None:
        self._done += runs
        self._progress(min(self._done, self._total), self._total)


def _take_turns(
    plan: Plan, threads: int, allocator: str, sheet: _Sheet, count: Callable[[int], None]
) -> Iterator[None]:
    """Enter round after round into ``sheet``, until none is missing; after each one, a step of the iterator.

    Where the system ends the process, such as for want of memory, what was running is left out, and the others go on
    in a new process with the round that was broken off.
    """
    while turns := tuple(turn for turn in plan.turns if plan.left(sheet, turn, allocator)):
        rounds = max(plan.left(sheet, turn, allocator) for turn in turns)
        now: dict[Turn, float] = {}
        try:
            for turn, said in _answers(Task(turns, rounds, threads, plan.slow_s), allocator):
                if turn is None:  # the end of a round; that of the first, which warms up, is none that counts
                    for done, seconds in now.items() if said["round"] else ():
                        sheet.seconds.setdefault((done, allocator), []).append(seconds)
                    now = {}
                    if said["round"]:
                        yield
                elif "seconds" in said:
                    now[turn] = float(said["seconds"])
                    count(1)
                else:
                    sheet.errors[turn, allocator] = str(said["error"])
                    count(rounds + 1)
        except _Ended as end:
            if end.turn is None:
                raise
            sheet.errors[end.turn, allocator] = str(end)


def _peak(turn: Turn, threads: int) -> Peak:
    """Of one run in a process of its own."""
    error = None
    at_end: dict[str, Any] = {}
    try:
        for _turn, said in _answers(Task((turn,), 0, threads), "default", at_end):
            error = said.get("error", error)
    except _Ended as end:
        if end.turn is None:
            raise
        error = str(end)
    return Peak(turn.network, turn.engine, turn.size, None if error else at_end.get("peak_bytes"), error)


class _Ended(ReliefscopeError):
    """The process that measures ended early, while ``turn`` was running; None: while it started."""

    def __init__(self, message: str, turn: Turn | None) -> None:
        super().__init__(message)
        self.turn = turn


def _answers(
    task: Task, allocator: str, at_end: dict[str, Any] | None = None
) -> Iterator[tuple[Turn | None, dict[str, Any]]]:
    """(turn, answer) of every run, (None, answer) of every round; what comes last goes into ``at_end``.

    Raises _Ended where the process does not come to its end.
    """
    running = None
    with _child(task, allocator) as child:
        assert child.stdout is not None
        for line in child.stdout:
            said = json.loads(line)
            if "start" in said:
                running = task.turns[said["start"]]
            elif "peak_bytes" in said:
                if at_end is not None:
                    at_end |= said
                return
            else:
                yield (None if "round" in said else running), said
        child.wait()
        raise _Ended(_why(child.returncode), running)


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
