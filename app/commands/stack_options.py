"""INPUT and the options that say what a stack does not know of itself, shared by the commands that take one."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from models.language import _


class StackOptions(NamedTuple):
    """The types of the parameters, with help in the language in use when :func:`stack_options` was called."""

    input_path: Any
    step_um: Any
    z0_um: Any
    descending: Any
    pixel_um: Any
    window: Any
    align: Any
    regularisation: Any
    as_json: Any


def stack_options() -> StackOptions:
    """Called when the commands are registered: by then the language is chosen."""
    return StackOptions(
        Annotated[Path, typer.Argument(metavar="INPUT", help=_("Folder of images, TIFF, OME-TIFF, .h5 or video."))],
        Annotated[float | None, typer.Option("--step-um", metavar="UM", help=_("Distance between two frames."))],
        Annotated[float | None, typer.Option("--z0-um", metavar="UM", help=_("Height of the first frame."))],
        Annotated[bool, typer.Option("--descending", help=_("The first frame is the highest."))],
        Annotated[float | None, typer.Option("--pixel-um", metavar="UM", help=_("Size of a pixel in the sample."))],
        Annotated[
            int | None,
            typer.Option(
                "--window", metavar="PX", help=_("Side of the square over which focus is summed; odd, 9 at first.")
            ),
        ],
        Annotated[str, typer.Option("--align", help=_("Remove drift between the frames: none, shift or similarity."))],
        Annotated[
            float | None,
            typer.Option(
                "--regularisation", help=_("Let confident neighbours decide weak pixels: 0 is off, 1 a good start.")
            ),
        ],
        Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))],
    )
