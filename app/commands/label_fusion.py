"""``label fuse``: a focus map and the scan of another instrument become a label."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from app.commands.info import SOURCES
from app.commands.label import (
    as_values,
    focus_pixel_option,
    focus_unit_option,
    scan_pixel_option,
    scan_unit_option,
    with_scale,
)
from app.terminal import (
    INTERRUPTED,
    cancelled_by_ctrl_c,
    complain,
    ended_by_ctrl_c,
    print_facts,
    print_json,
    progress_bar,
)
from models.errors import Cancelled, InputError, OutputError
from models.focal_stack import FocalStack
from models.formats import check_output, read_height_map
from models.height_map import Flag, HeightMap, without_weak
from models.language import _
from models.storage import SAMPLE_SUFFIXES, has_stack, open_stack

if TYPE_CHECKING:
    from models.labels.registration import Registration

_UNTRUSTED = Flag.PEAK_AT_END | Flag.NO_PEAK | Flag.OUTSIDE


def register_fuse(group: typer.Typer) -> None:
    """Add ``fuse`` to the commands of ``label``, with help in the language in use."""

    @group.command("fuse", help=_("Register the scan of another instrument on a map from focus and fuse them."))
    def fuse_command(
        focus_path: Annotated[Path, typer.Argument(metavar="FOCUS", help=_("Height map from focus."))],
        scan_path: Annotated[Path, typer.Argument(metavar="SCAN", help=_("Height map of the other instrument."))],
        out: Annotated[Path, typer.Option("--out", metavar="FILE", help=_("The label, .h5."))],
        reconstruction: Annotated[
            str, typer.Option("--reconstruction", metavar="NAME", help=_("Which height map of FOCUS, if it is a .h5."))
        ] = "main",
        transform: Annotated[
            Path | None,
            typer.Option(
                "--transform", metavar="FILE", help=_("What label register --json printed; nothing is searched then.")
            ),
        ] = None,
        accept_anyway: Annotated[
            bool, typer.Option("--accept-anyway", help=_("Fuse even where the registration is in doubt."))
        ] = False,
        with_stack: Annotated[
            bool, typer.Option("--with-stack", help=_("Put the frames of FOCUS into the label, to be learned from."))
        ] = False,
        scan_sigma_um: Annotated[
            float | None,
            typer.Option(
                "--scan-sigma-um", metavar="UM", help=_("Standard deviation of SCAN; estimated if not given.")
            ),
        ] = None,
        min_confidence: Annotated[
            float,
            typer.Option("--min-confidence", metavar="C", help=_("Less confident heights of FOCUS are left out.")),
        ] = 0.0,
        focus_pixel_um: Annotated[float | None, focus_pixel_option()] = None,
        scan_pixel_um: Annotated[float | None, scan_pixel_option()] = None,
        focus_unit_um: Annotated[float | None, focus_unit_option()] = None,
        scan_unit_um: Annotated[float | None, scan_unit_option()] = None,
        as_json: Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))] = False,
    ) -> None:
        # SciPy's solvers take a while to load, which no other command should wait for.
        from models.labels.fusion import FusionSettings, fuse, pixel_scatter
        from models.labels.label_file import write_label
        from models.labels.registration import warp

        _check_out(out, (focus_path, scan_path))
        if scan_sigma_um is not None and not 0 < scan_sigma_um < float("inf"):
            raise InputError(_("The standard deviation of the scan must be a positive number of micrometres."))
        stack = _stack_of(focus_path) if with_stack else None
        focus = read_height_map(focus_path, reconstruction)
        focus = with_scale(focus, focus_path, "focus", focus_pixel_um, focus_unit_um)
        scan = with_scale(read_height_map(scan_path), scan_path, "scan", scan_pixel_um, scan_unit_um)
        trusted = _trusted(focus, min_confidence)
        found = _registered(trusted, scan) if transform is None else _read_transform(transform, focus)
        if not found.accepted and not accept_anyway:
            raise InputError(
                _(
                    "The registration is not accepted, and nothing was fused: {doubts} Register with pairs of points "
                    "(label register --points ... --json) and give the result with --transform, or use --accept-anyway."
                ).format(doubts=" ".join(found.doubts))
            )
        sigma_um = pixel_scatter(scan.height_um) if scan_sigma_um is None else scan_sigma_um
        with ended_by_ctrl_c(), progress_bar(_("Fusing")):
            fused = fuse(
                trusted.height_um,
                trusted.interval68_um,
                warp(scan, found)[0],
                sigma_um,
                registration_sd_px=found.uncertainty_px,
                settings=FusionSettings(least_likeness=-1.0) if accept_anyway else None,
            )
            label = replace(
                fused,
                pixel_um=focus.pixel_um,
                transform=as_values(found),
                parameters={
                    **fused.parameters,
                    "scan_sigma_um": sigma_um,
                    "scan_sigma_estimated": scan_sigma_um is None,
                    "least_confidence": min_confidence,
                    "accepted_anyway": not found.accepted,
                },
                origin={"focus": _origin(focus_path, focus), "scan": _origin(scan_path, scan)},
            )
            write_label(out, label, focus, stack=stack)
        facts: dict[str, Any] = {
            "shares": label.shares(),
            "median_sigma_um": float(np.nanmedian(label.sigma_um)),
            "parameters": label.parameters,
            "transform": label.transform,
            "written": str(out),
        }
        if as_json:
            print_json(facts)
        else:
            print_facts(_readable(facts))
        for doubt in found.doubts:
            complain(doubt)


def _check_out(out: Path, inputs: tuple[Path, Path]) -> None:
    """Raise now what would be raised after the long computation; work of a person on a label is never overwritten."""
    from models.labels.label_file import read_history

    if out.suffix.lower() != ".h5":
        raise OutputError(_("{path}: a label is an .h5 file.").format(path=out))
    if out.resolve() in (path.resolve() for path in inputs):
        raise InputError(_("{path} is an input; choose another name for the result.").format(path=out))
    check_output(out)
    if not out.exists():
        return
    try:
        touched = len(read_history(out)) > 1
    except InputError:  # no label there
        touched = False
    if touched:
        raise OutputError(
            _("{path} is a label that somebody has worked on, which is never overwritten. Choose another name.").format(
                path=out
            )
        )


def _stack_of(path: Path) -> FocalStack:
    if path.suffix.lower() not in SAMPLE_SUFFIXES or not has_stack(path):
        raise InputError(_("{path} holds no stack: --with-stack needs the file of a capture.").format(path=path))
    return open_stack(path)


def _trusted(focus: HeightMap, min_confidence: float) -> HeightMap:
    """The focus map without the heights that are flagged as none, and without weak ones."""
    if not 0 <= min_confidence <= 1:
        raise InputError(_("The least confidence must be from 0 to 1."))
    weak = without_weak(focus, min_confidence)
    return replace(weak, height_um=np.where(focus.has_flag(_UNTRUSTED), np.float32(np.nan), weak.height_um))


def _registered(focus: HeightMap, scan: HeightMap) -> "Registration":
    from models.labels.registration import register

    try:
        with cancelled_by_ctrl_c() as cancel, progress_bar(_("Registering")) as report:
            return register(focus, scan, progress=report, cancel=cancel)
    except Cancelled:
        complain(_("Stopped."))
        raise typer.Exit(INTERRUPTED) from None


def _read_transform(path: Path, focus: HeightMap) -> "Registration":
    """The registration in the JSON of ``label register``. Raises InputError."""
    from models.labels.registration import Registration

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        ratio = values["runner_up_ratio"]
        found = Registration(
            matrix=np.asarray(values["matrix"], np.float64).reshape(2, 3),
            flip=bool(values["flip"]),
            scale_z=float(values["scale_z"]),
            offset_um=float(values["offset_um"]),
            tilt=np.asarray(values["tilt"], np.float64).reshape(2),
            sigma_um=float(values["sigma_um"]),
            overlap=float(values["overlap"]),
            runner_up_ratio=float("inf") if ratio is None else float(ratio),
            closure_px=float(values["closure_px"]),
            covariance=np.asarray(values["covariance"], np.float64),
            uncertainty_px=float(values["uncertainty_px"]),
            focus_shape=focus.shape,
            focus_pixel_um=float(focus.pixel_um or 0.0),
            doubts=tuple(str(doubt) for doubt in values["doubts"]),
        )
    except FileNotFoundError:
        raise InputError(_("There is no file {path}.").format(path=path)) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            _("{path} is not what 'reliefscope label register --json' prints.").format(path=path)
        ) from error
    numbers = (*found.matrix.ravel(), found.scale_z, found.offset_um, *found.tilt, found.uncertainty_px)
    if not np.isfinite(numbers).all() or abs(np.linalg.det(found.matrix[:, :2])) < 1e-9:
        raise InputError(_("{path} is not what 'reliefscope label register --json' prints.").format(path=path))
    return found


def _origin(path: Path, height_map: HeightMap) -> dict[str, Any]:
    heights = np.ascontiguousarray(height_map.height_um, dtype="<f4")
    return {
        "file": str(path.absolute()),
        "height_sha256": hashlib.sha256(heights.data).hexdigest(),
        "method": height_map.method,
        "provenance": dict(height_map.provenance),
    }


def _readable(facts: dict[str, Any]) -> dict[str, str]:
    known, unit = facts["parameters"], "µm"
    words = {_(SOURCES[kind]): f"{share:.1%}" for kind, share in facts["shares"].items()}
    words[_("median standard deviation")] = f"{facts['median_sigma_um']:.3f} {unit}"
    estimated = _(" (estimated from its pixels)") if known["scan_sigma_estimated"] else ""
    words[_("standard deviation of the scan")] = f"{known['scan_sigma_um']:.3f} {unit}{estimated}"
    words[_("taken off the focus map")] = _("{rms:.3f} µm rms").format(rms=known["seam_rms_um"])
    if known["hole_rms_um"] is not None:
        words[_("difference in test holes")] = _("{rms:.3f} µm rms").format(rms=known["hole_rms_um"])
    words[_("registration")] = _("{spread:.3f} pixels; {sigma:.3f} µm between the maps").format(
        spread=facts["transform"]["uncertainty_px"], sigma=facts["transform"]["sigma_um"]
    )
    return words | {_("written"): facts["written"]}
