"""``label``: from a focus map and the map of another instrument to a label."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from app.terminal import INTERRUPTED, cancelled_by_ctrl_c, complain, print_facts, print_json, progress_bar
from models.errors import Cancelled, InputError
from models.formats import check_output, read_height_map, write_height_map
from models.height_map import HeightMap, corrected
from models.language import _

if TYPE_CHECKING:
    from models.labels.registration import Registration


def register(cli: typer.Typer) -> None:
    """Add the group of commands, with help in the language in use."""
    from app.commands.label_fusion import register_fuse  # which takes the scales of maps from here

    group = typer.Typer(no_args_is_help=True)
    _register_register(group)
    register_fuse(group)
    cli.add_typer(group, name="label", help=_("Make labels: known heights for a focal stack, from another instrument."))


def focus_pixel_option() -> Any:
    """An option of every command on two maps; a function, so that its help is in the language in use."""
    return typer.Option("--focus-pixel-um", metavar="UM", help=_("Size of a pixel of FOCUS."))


def scan_pixel_option() -> Any:
    """See :func:`focus_pixel_option`."""
    return typer.Option("--scan-pixel-um", metavar="UM", help=_("Size of a pixel of SCAN."))


def focus_unit_option() -> Any:
    """See :func:`focus_pixel_option`."""
    return typer.Option("--focus-unit-um", metavar="UM", help=_("What the heights of FOCUS count, if not micrometres."))


def scan_unit_option() -> Any:
    """See :func:`focus_pixel_option`."""
    return typer.Option(
        "--scan-unit-um",
        metavar="UM",
        help=_("What the heights of SCAN count, if not micrometres; below 0 where they count downwards."),
    )


def _register_register(group: typer.Typer) -> None:
    @group.command(
        "register",
        help=_("Find where the map of a confocal microscope or an interferometer lies on a map from focus."),
    )
    def register_command(
        focus_path: Annotated[Path, typer.Argument(metavar="FOCUS", help=_("Height map from focus."))],
        scan_path: Annotated[Path, typer.Argument(metavar="SCAN", help=_("Height map of the other instrument."))],
        points: Annotated[
            list[str] | None,
            typer.Option(
                "--points",
                metavar="X,Y,X,Y",
                help=_("The same point in FOCUS and in SCAN, in pixels. Two or more pairs replace the search."),
            ),
        ] = None,
        free_z_scale: Annotated[
            bool, typer.Option("--free-z-scale", help=_("Find the scale of heights, too; otherwise both are right."))
        ] = False,
        focus_pixel_um: Annotated[float | None, focus_pixel_option()] = None,
        scan_pixel_um: Annotated[float | None, scan_pixel_option()] = None,
        focus_unit_um: Annotated[float | None, focus_unit_option()] = None,
        scan_unit_um: Annotated[float | None, scan_unit_option()] = None,
        out: Annotated[
            Path | None,
            typer.Option("--out", metavar="FILE", help=_("Write SCAN as FOCUS would show it: .h5 .tif .x3p .csv .npy")),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))] = False,
    ) -> None:
        from models.labels.registration import register as register_maps  # its SciPy takes a while to load
        from models.labels.registration import warp

        pairs = [_pair(text) for text in points or []]
        focus = with_scale(read_height_map(focus_path), focus_path, "focus", focus_pixel_um, focus_unit_um)
        scan = with_scale(read_height_map(scan_path), scan_path, "scan", scan_pixel_um, scan_unit_um)
        if out is not None:
            if out.resolve() in (focus_path.resolve(), scan_path.resolve()):
                raise InputError(_("{path} is an input; choose another name for the result.").format(path=out))
            check_output(out)
        try:
            with cancelled_by_ctrl_c() as cancel, progress_bar(_("Registering")) as report:
                found = register_maps(
                    focus, scan, points=pairs, free_z_scale=free_z_scale, progress=report, cancel=cancel
                )
        except Cancelled:
            complain(_("Stopped."))
            raise typer.Exit(INTERRUPTED) from None
        if out is not None:
            heights, valid = warp(scan, found)
            write_height_map(
                replace(
                    focus,
                    height_um=heights,
                    confidence=valid.astype(np.float32),
                    flags=np.zeros(valid.shape, np.uint8),
                    all_in_focus=None,
                    interval68_um=None,
                    interval95_um=None,
                    method="registered",
                    parameters=as_values(found),
                    provenance={"source": str(scan_path.absolute()), "focus": str(focus_path.absolute())},
                ),
                out,
            )
        if as_json:
            written = {"written": str(out)} if out is not None else {}
            print_json({"focus": str(focus_path), "scan": str(scan_path), **as_values(found), **written})
        else:
            print_facts(_readable(found) | ({_("written"): str(out)} if out is not None else {}))
        for doubt in found.doubts:
            complain(doubt)


def with_scale(
    height_map: HeightMap, path: Path, side: str, pixel_um: float | None, unit_um: float | None
) -> HeightMap:
    """The map in micrometres with its pixel size; ``side`` begins the names of the options that give what it lacks.

    ``unit_um`` is below 0 for heights that count downwards. Raises InputError for what is still unknown.
    """
    if pixel_um is None and height_map.pixel_um is None:
        raise InputError(
            _("{path} does not say the size of its pixels: give it with {option}.").format(
                path=path, option=f"--{side}-pixel-um"
            )
        )
    if unit_um is None and height_map.z_unit != "um":
        raise InputError(
            _("{path} does not say the unit of its heights: give it with {option}, 1 for micrometres.").format(
                path=path, option=f"--{side}-unit-um"
            )
        )
    return corrected(height_map, z_factor=unit_um, pixel_um=pixel_um)


def as_values(found: "Registration") -> dict[str, Any]:
    """A registration as JSON values; null where there is no runner-up."""
    ratio = found.runner_up_ratio
    return {
        "accepted": found.accepted,
        "doubts": list(found.doubts),
        "matrix": found.matrix.tolist(),
        "flip": found.flip,
        "turn_deg": found.turn_deg,
        "scale_z": found.scale_z,
        "offset_um": found.offset_um,
        "tilt": found.tilt.tolist(),
        "sigma_um": found.sigma_um,
        "overlap": found.overlap,
        "runner_up_ratio": ratio if math.isfinite(ratio) else None,
        "closure_px": found.closure_px,
        "uncertainty_px": found.uncertainty_px,
        "covariance": found.covariance.tolist(),
    }


def _pair(text: str) -> tuple[float, float, float, float]:
    try:
        focus_x, focus_y, scan_x, scan_y = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            _("--points {text}: four numbers are needed, as in --points 120,80,310.5,95.").format(text=text)
        ) from None
    return focus_x, focus_y, scan_x, scan_y


def _readable(found: "Registration") -> dict[str, str]:
    mirrored = _("mirrored, ") if found.flip else ""
    x, y = found.matrix[:, 2]
    facts = {
        _("accepted"): _("yes") if found.accepted else _("no"),
        _("place"): _("{mirrored}turned by {turn:.3f}°, its first pixel at {x:.2f}, {y:.2f}").format(
            mirrored=mirrored, turn=found.turn_deg, x=x, y=y
        ),
        _("uncertainty"): _("{spread:.3f} pixels; there and back {closure:.3f}").format(
            spread=found.uncertainty_px, closure=found.closure_px
        ),
        _("difference of heights"): f"{found.sigma_um:.3f} µm",
        _("offset"): f"{found.offset_um:.3f} µm",
        _("tilt"): f"{found.tilt[0] * 1e3:.3f}, {found.tilt[1] * 1e3:.3f} µm/mm",
        _("scale of heights"): f"{found.scale_z:.5f}",
        _("overlap"): f"{found.overlap:.0%}",
    }
    if math.isfinite(found.runner_up_ratio):
        facts[_("next best place")] = _("{ratio:.2f} times the rest").format(ratio=found.runner_up_ratio)
    return facts
