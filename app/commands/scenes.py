"""``scenes``: training, test and calibration scenes rendered by physics."""

import time
from pathlib import Path
from typing import Annotated

import typer

from app.terminal import ended_by_ctrl_c, print_facts, print_json, progress_bar
from models.language import _


def register(cli: typer.Typer) -> None:
    """Add the command, with help in the language in use."""

    @cli.command("scenes", help=_("Render focal stacks of known height, for training and for tests."))
    def scenes_command(
        out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help=_("Where the scenes go."))],
        count: Annotated[int, typer.Option("--count", min=1, help=_("Number of scenes."))] = 1000,
        seed: Annotated[int, typer.Option("--seed", min=0, help=_("Another seed, other scenes."))] = 1,
        size: Annotated[int, typer.Option("--size", metavar="PX", min=32, help=_("Rows and columns."))] = 160,
        frames: Annotated[int, typer.Option("--frames", metavar="N", min=3, help=_("Frames of a stack."))] = 24,
        jobs: Annotated[int, typer.Option("--jobs", min=1, help=_("Processes at work."))] = 1,
        as_json: Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))] = False,
    ) -> None:
        from models.training.shards import ShardPlan, write_shards

        plan = ShardPlan(out, count, seed, size, frames)
        began_s = time.monotonic()
        with ended_by_ctrl_c(), progress_bar(_("Rendering")) as report:
            rendered = write_shards(plan, jobs=jobs, progress=report)
        seconds = time.monotonic() - began_s
        if as_json:
            print_json({"folder": str(out), "scenes": count, "rendered": rendered, "seconds": round(seconds, 3)})
        else:
            print_facts({_("folder"): str(out), _("scenes"): str(count), _("time"): _("{s:.1f} s").format(s=seconds)})
