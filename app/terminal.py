"""What the commands say: results on stdout, everything else on stderr."""

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from models.errors import Cancelled
from models.language import _

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


def complain(message: str) -> None:
    """One message for a person, on stderr."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(message))


@contextlib.contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Say that the user stopped the work; typer would end without a word."""
    try:
        yield
    except KeyboardInterrupt:
        complain(_("Stopped."))
        raise typer.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def cancelled_by_ctrl_c() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that the work ends in good order; a second Ctrl-C ends at once."""
    cancel = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        cancel.set()
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, on_signal)
    try:
        yield cancel
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def broken_off_by_ctrl_c(cancel: threading.Event) -> Iterator[None]:
    """Within :func:`cancelled_by_ctrl_c`, around what cannot look at it: Ctrl-C sets ``cancel``, raises Cancelled."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        cancel.set()
        raise Cancelled from None
    finally:
        signal.signal(signal.SIGINT, before)


def can_ask() -> bool:
    """Whether a person would see a question, and could answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def choose(question: str, choices: Mapping[str, str]) -> str | None:
    """Ask for one of ``choices``, titles by their keys; None where the input has ended. See :func:`can_ask`."""
    complain(question)
    for key, title in choices.items():
        complain(f"  {key}  {title}")
    _forget_what_was_typed()
    while True:
        complain(_("Type {keys} and press Enter.").format(keys=" / ".join(choices)))
        line = sys.stdin.readline()
        if not line:
            return None
        if (key := line.strip().lower()) in choices:
            return key


def _forget_what_was_typed() -> None:
    """Before the question was asked: it is no answer."""
    if sys.platform != "win32":
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)


def print_json(document: Any) -> None:
    """Exactly one JSON document on stdout."""
    print(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False, default=str), flush=True)


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and values in two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(Text(name), Text(value))
    Console(soft_wrap=False, highlight=False).print(table)


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, whole: Collection[int] = (0,), numbers: int = 0
) -> None:
    """A table with one line of headings.

    ``whole``: the columns that are never broken into lines, by default the first, from which names are copied.
    ``numbers``: how many columns at the end are numbers, which stand flush right and stay whole, too.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for place, heading in enumerate(headings):
        number = place >= len(headings) - numbers
        table.add_column(
            heading, overflow="fold", no_wrap=number or place in whole, justify="right" if number else "left"
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    if numbers:  # rather beyond the edge of the terminal than digits cut off
        unbound = console.options.update(max_width=1000)
        console.width = max(console.width, console.measure(table, options=unbound).minimum)
    console.print(table)


def duration(seconds: float) -> str:
    """In minutes, from an hour on in hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h" if minutes >= 60 else f"{seconds / 60:.1f} min"


class ProgressReport:
    """A bar with the time left where stderr is a terminal, nothing elsewhere. What is not given stays as it was."""

    def __init__(self, title: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(title, total=None)

    def __call__(self, done: int | None = None, total: int | None = None, title: str | None = None) -> None:
        self._bar.update(self._task, completed=done, total=total, description=title)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        self._bar.start()
        try:
            yield
        finally:
            self._bar.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Out of the way of a question."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[ProgressReport]:
    """Yield ``report(done, total, title)``, and draw it meanwhile."""
    report = ProgressReport(title)
    with report.shown():
        yield report
