"""What the commands say: results on stdout, everything else on stderr."""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

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


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[..., None]]:
    """Yield ``report(done, total, title)``, drawn as a bar with the time left where stderr is a terminal.

    What is not given stays as it was.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done=None, total=None, title=None: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def report(done: int | None = None, total: int | None = None, title: str | None = None) -> None:
            progress.update(task, completed=done, total=total, description=title)

        yield report
