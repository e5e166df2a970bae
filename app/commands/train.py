"""``train``: from a recipe and data to the weights of a network."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from app.terminal import INTERRUPTED, complain, duration, print_facts, print_json
from models.errors import Cancelled, InputError
from models.language import _
from models.networks.registry import NETWORKS
from models.training.recipe import Recipe, load_recipe, recipe_names

if TYPE_CHECKING:
    from models.training.loop import TrainingProgress, TrainingResult

DEFAULT_RECIPE = "default"
_LINE_EVERY_S = 20.0
"""Where the output is no terminal, for the log of a server."""


def register(cli: typer.Typer) -> None:
    """Add the command, with help in the language in use."""

    @cli.command(
        "train", help=_("Train a network and write its weights. Stopped or killed runs go on where they were.")
    )
    def train_command(
        config: Annotated[
            str,
            typer.Option(
                "--config",
                metavar="FILE|NAME",
                help=_("Recipe: {names}, or a .toml file.").format(names=", ".join(recipe_names())),
            ),
        ] = DEFAULT_RECIPE,
        network: Annotated[
            str | None, typer.Option("--network", help=_("One of: {names}.").format(names=", ".join(NETWORKS)))
        ] = None,
        data: Annotated[
            list[Path] | None,
            typer.Option(
                "--data",
                metavar="FOLDER",
                help=_("Scenes to learn from; may be given several times. Without it scenes are rendered on the fly."),
            ),
        ] = None,
        validation: Annotated[
            str | None, typer.Option("--validation", metavar="FOLDER", help=_("Scenes that are only tested on."))
        ] = None,
        out: Annotated[
            Path | None,
            typer.Option("--out", metavar="FOLDER", help=_("For weights, card, log and checkpoint.")),
        ] = None,
        resume: Annotated[
            bool, typer.Option("--resume/--fresh", help=_("Go on with the run in that folder, or start again."))
        ] = True,
        minutes: Annotated[
            float | None,
            typer.Option("--minutes", help=_("End after this time in all; the learning rate falls accordingly.")),
        ] = None,
        pause_after: Annotated[
            float | None,
            typer.Option("--pause-after", metavar="MINUTES", help=_("Stop for now after this time, to be resumed.")),
        ] = None,
        steps: Annotated[int | None, typer.Option("--steps", help=_("Number of batches to learn from."))] = None,
        threads: Annotated[int | None, typer.Option("--threads", help=_("Processor threads of the network."))] = None,
        renderers: Annotated[int, typer.Option("--renderers", help=_("Processes that render scenes on the fly."))] = 1,
        seed: Annotated[
            int | None, typer.Option("--seed", help=_("Same seed, same data: same weights on a CPU."))
        ] = None,
        device: Annotated[
            str | None, typer.Option("--device", help=_("cpu or cuda; a GPU at first where there is one."))
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))] = False,
    ) -> None:
        for option, value in (("--minutes", minutes), ("--pause-after", pause_after), ("--threads", threads)):
            if value is not None and value <= 0:
                raise InputError(
                    _("{option} {value} cannot be used: it must be more than 0.").format(option=option, value=value)
                )
        recipe = _recipe(config, network=network, validation=validation, steps=steps, seed=seed)
        folder = out or Path("training") / recipe.network
        result = _train(recipe, data or [], folder, resume, minutes, pause_after, threads, renderers, device)
        if result is not None:
            _conclude(result, recipe, as_json)


def _recipe(config: str, *, steps: int | None, **given: Any) -> Recipe:
    changes = {name: value for name, value in given.items() if value is not None}
    if steps is not None:
        changes |= {"steps": steps, "epochs": None}
    return load_recipe(config).changed(**changes)


def _train(
    recipe: Recipe,
    data: list[Path],
    out: Path,
    resume: bool,
    minutes: float | None,
    pause_after: float | None,
    threads: int | None,
    renderers: int,
    device: str | None,
) -> "TrainingResult | None":
    """None in every process but the first."""
    import torch

    from models.training.loop import train
    from models.training.rendered import rendered_for

    is_first = os.environ.get("RANK", "0") == "0"
    if threads is not None:
        torch.set_num_threads(threads)
    with contextlib.ExitStack() as stack:
        source: Any = data
        if not data:
            source = rendered_for(recipe, workers=renderers)
            stack.callback(source.close)
        report = stack.enter_context(_shown_progress()) if is_first else None
        cancel = stack.enter_context(_cancelled_by_signal())
        try:
            result = train(
                recipe,
                source,
                out,
                progress=report,
                cancel=cancel,
                minutes=minutes,
                pause_after=pause_after,
                resume=resume,
                device=device,
            )
        except Cancelled:
            if is_first:
                complain(_("Stopped. The same command goes on from the checkpoint in {folder}.").format(folder=out))
            raise typer.Exit(INTERRUPTED) from None
    return result if is_first else None


@contextlib.contextmanager
def _shown_progress() -> Iterator[Callable[["TrainingProgress"], None]]:
    """Yield a report that draws a bar on a terminal, and prints a line now and then anywhere else."""
    console = Console(stderr=True)
    if not console.is_terminal:
        printed_at = -_LINE_EVERY_S

        def line(now: "TrainingProgress") -> None:
            nonlocal printed_at
            if now.validation is not None or time.monotonic() - printed_at >= _LINE_EVERY_S:
                printed_at = time.monotonic()
                complain(_described(now))

        yield line
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(_("Training"), total=1.0)

        def draw(now: "TrainingProgress") -> None:
            bar.update(task, completed=now.fraction, description=_described(now))
            if now.validation is not None:
                complain(_described(now))

        yield draw


def _described(now: "TrainingProgress") -> str:
    text = _("step {step}, {done:.1%}, loss {loss:.4f}, {left} left").format(
        step=now.step, done=now.fraction, loss=now.loss, left=duration(now.remaining_s)
    )
    if now.skipped:
        text += _(", {n} steps skipped").format(n=now.skipped)
    if now.validation is not None and now.validation.mean_absolute_steps is not None:
        text += _(", error on unseen scenes {error:.4f} steps").format(error=now.validation.mean_absolute_steps)
    return text


@contextlib.contextmanager
def _cancelled_by_signal() -> Iterator[threading.Event]:
    """An event that Ctrl-C and a request to end set, so that a checkpoint is written; a second one ends at once."""
    cancel = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        cancel.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    is_main = threading.current_thread() is threading.main_thread()
    if is_main:
        for number in numbers:
            signal.signal(number, on_signal)
    try:
        yield cancel
    finally:
        if is_main:
            restore()


def _conclude(result: "TrainingResult", recipe: Recipe, as_json: bool) -> None:
    weights = result.folder / "weights.safetensors"
    error = None if result.validation is None else result.validation.mean_absolute_steps
    if as_json:
        print_json(
            {
                "network": recipe.network,
                "recipe": recipe.name,
                "weights": str(weights),
                "sha256": result.sha256,
                "steps": result.steps,
                "seconds": round(result.seconds, 1),
                "skipped_steps": result.skipped,
                "finished": result.finished,
                "mean_absolute_error_steps": error,
            }
        )
        return
    facts = {
        _("network"): recipe.network,
        _("steps"): str(result.steps),
        _("time"): duration(result.seconds),
        _("error on unseen scenes"): "-" if error is None else _("{error:.4f} steps").format(error=error),
        _("written"): str(weights),
    }
    print_facts(facts)
    if not result.finished:
        complain(_("Paused. The same command goes on from the checkpoint in {folder}.").format(folder=result.folder))
