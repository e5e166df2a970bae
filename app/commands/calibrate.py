"""``calibrate``: the intervals of a network, from scenes that it has not trained on."""

from pathlib import Path
from typing import Annotated

import typer

from app.terminal import ended_by_ctrl_c, print_facts, print_json, progress_bar
from models.language import _


def register(cli: typer.Typer) -> None:
    """Add the command, with help in the language in use."""

    @cli.command(
        "calibrate", help=_("Give trained weights intervals that hold, measured on scenes they have not seen.")
    )
    def calibrate_command(
        weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help=_("What train left: weights.safetensors."))],
        scenes: Annotated[
            Path,
            typer.Option("--scenes", metavar="FOLDER", help=_("Scenes of known height, as scenes --split writes.")),
        ],
        out: Annotated[Path, typer.Option("--out", metavar="FILE", help=_("The calibrated weights, .safetensors."))],
        as_json: Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))] = False,
    ) -> None:
        # PyTorch takes over a second to load, which no other command should wait for.
        from models.training.release import release
        from models.training.splits import read_scenes

        with ended_by_ctrl_c(), progress_bar(_("Calibrating")) as report:
            card = release(weights, read_scenes(scenes), out, report)
        if as_json:
            print_json(card)
            return
        held = card["calibration"]
        print_facts(
            {
                _("network"): card["network"],
                _("scenes"): str(held["scenes"]),
                _("inside the interval of 68 %"): f"{held['inside_68']:.1%}",
                _("inside the interval of 95 %"): f"{held['inside_95']:.1%}",
                _("median error"): _("{steps:.3f} steps").format(steps=held["median_error_steps"]),
                _("written"): str(out),
            }
        )
