"""What the commands say: results on stdout, everything else on stderr."""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with one line of headings."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)  # names are copied from the first one
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


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
