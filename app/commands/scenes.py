"""``scenes``: focal stacks of known height, rendered by physics, for training and for tests."""

import time
from pathlib import Path
from typing import Annotated

import typer

from app.terminal import ended_by_ctrl_c, print_facts, print_json, progress_bar
from models.errors import InputError
from models.language import _

_COUNT, _SEED, _SIZE_PX, _FRAMES = 1000, 1, 160, 24


def register(cli: typer.Typer) -> None:
    """Add the command, with help in the language in use."""

    @cli.command("scenes", help=_("Render focal stacks of known height: shards to train from, or a fixed split."))
    def scenes_command(
        out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help=_("Where the scenes go."))],
        count: Annotated[
            int | None, typer.Option("--count", metavar="N", min=1, help=_("Number of scenes."), show_default="1000")
        ] = None,
        seed: Annotated[
            int | None, typer.Option("--seed", min=0, help=_("Another seed, other scenes."), show_default="1")
        ] = None,
        size: Annotated[
            int | None,
            typer.Option("--size", metavar="PX", min=32, help=_("Rows and columns of a frame."), show_default="160"),
        ] = None,
        frames: Annotated[
            int | None,
            typer.Option("--frames", metavar="N", min=3, help=_("Frames of each stack."), show_default="24"),
        ] = None,
        style: Annotated[
            str | None,
            typer.Option(
                "--style",
                metavar="NAME",
                help=_("Kind of scenes: mixed, textured, light-field, macro or rolls."),
                show_default="mixed",
            ),
        ] = None,
        split: Annotated[
            str | None,
            typer.Option(
                "--split",
                metavar="NAME",
                help=_("The fixed scenes, one .h5 file each: train, test, calibration, light-field, macro or rolls."),
            ),
        ] = None,
        jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, help=_("Processes at work."))] = 1,
        as_json: Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))] = False,
    ) -> None:
        if split is not None and any(value is not None for value in (count, seed, size, frames, style)):
            raise InputError(
                _("A split is fixed: --count, --seed, --size, --frames and --style do not go with --split.")
            )
        began_s = time.monotonic()
        with ended_by_ctrl_c(), progress_bar(_("Rendering")) as report:
            if split is not None:
                from models.training.splits import SPLITS, write_split

                rendered = write_split(split, out, jobs=jobs, progress=report)
                scenes = SPLITS[split].count
            else:
                from models.training.shards import ShardPlan, write_shards

                scenes = count or _COUNT
                from models.training.styles import style as known_style

                known_style(style or "mixed")
                stream = _SEED if seed is None else seed
                plan = ShardPlan(out, scenes, stream, size or _SIZE_PX, frames or _FRAMES, style or "mixed")
                rendered = write_shards(plan, jobs=jobs, progress=report)
        _say(out, scenes, rendered, time.monotonic() - began_s, as_json)


def _say(folder: Path, scenes: int, rendered: int, seconds: float, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(folder), "scenes": scenes, "rendered": rendered, "seconds": round(seconds, 3)})
        return
    print_facts(
        {
            _("folder"): str(folder),
            _("scenes"): _("{n}, {rendered} of them new").format(n=scenes, rendered=rendered),
            _("time"): _("{s:.1f} s").format(s=seconds),
        }
    )
