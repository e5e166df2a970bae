"""``capture``, ``recover`` and ``devices``: everything that works with a microscope."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.terminal import INTERRUPTED, complain, print_facts, print_json, print_table, progress_bar
from hardware.camera import CameraSettings
from hardware.profile import Profile, SimulatedCameraProfile, load_profile, open_microscope, profile_names
from hardware.sweep import SweepPlan, capture
from models.capture_file import check_new
from models.errors import Cancelled, InputError
from models.language import _
from models.storage import frames_written, is_complete, recover
from models.validation import first_problem


def register(cli: typer.Typer) -> None:
    """Add the commands, with help in the language in use."""
    Json = Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))]  # noqa: N806

    @cli.command("capture", help=_("Capture an equally spaced focal stack into a new .h5 file."))
    def capture_command(
        top_um: Annotated[float, typer.Option("--top-um", metavar="UM", help=_("Highest plane of the stack."))],
        bottom_um: Annotated[float, typer.Option("--bottom-um", metavar="UM", help=_("Lowest plane of the stack."))],
        out: Annotated[Path, typer.Option("--out", metavar="FILE", help=_("The new .h5 file."))],
        profile: Annotated[
            str, typer.Option("--profile", metavar="NAME", help=_("A profile listed by 'devices', or a .toml file."))
        ] = "simulated",
        step_um: Annotated[
            float | None,
            typer.Option("--step-um", metavar="UM", help=_("Distance of the planes; reduced to divide the range.")),
        ] = None,
        frames: Annotated[
            int | None, typer.Option("--frames", metavar="N", help=_("Number of planes, instead of --step-um."))
        ] = None,
        exposure_ms: Annotated[float | None, typer.Option("--exposure-ms", metavar="MS", help=_("Exposure."))] = None,
        gain: Annotated[
            float | None, typer.Option("--gain", metavar="X", help=_("Gain as a factor, 1 is none."))
        ] = None,
        bit_depth: Annotated[
            int | None, typer.Option("--bit-depth", metavar="BITS", help=_("Bits per pixel: 8, 12 or 16."))
        ] = None,
        ascending: Annotated[bool, typer.Option("--ascending", help=_("Begin at the bottom."))] = False,
        as_json: Json = False,
    ) -> None:
        if out.suffix.lower() != ".h5":
            raise InputError(_("A capture is an .h5 file; '{name}' is not.").format(name=out.name))
        plan = _plan(top_um, bottom_um, step_um, frames, descending=not ascending)
        changes = {"exposure_ms": exposure_ms, "gain": gain, "bit_depth": bit_depth}
        _capture(profile, plan, out, {name: value for name, value in changes.items() if value is not None}, as_json)

    @cli.command("recover", help=_("Make an interrupted capture a regular, shorter stack."))
    def recover_command(
        path: Annotated[Path, typer.Argument(metavar="FILE", help=_("The .h5 file."))], as_json: Json = False
    ) -> None:
        planned = frames_written(path)[1]
        if is_complete(path):
            raise InputError(_("{file} is complete already: there is nothing to recover.").format(file=path))
        stack = recover(path)
        if as_json:
            print_json({"file": str(path), "frames": len(stack), "frames_planned": planned})
        else:
            complain(
                _("{file} now is a stack of {n} frames ({planned} were planned).").format(
                    file=path, n=len(stack), planned=planned
                )
            )

    @cli.command("devices", help=_("List the microscopes that can be used."))
    def devices_command(as_json: Json = False) -> None:
        found = [_describe(name) for name in profile_names()]
        if as_json:
            print_json({"profiles": found})
            return
        headings = (_("profile"), _("microscope"), _("objective"), _("pixel"), _("image"))
        rows = [
            (
                item["name"],
                _(item["title"]),
                item["objective"],
                f"{item['pixel_um']:g} µm",
                f"{item['image_shape'][1]} × {item['image_shape'][0]}" if item["image_shape"] else "",
            )
            for item in found
        ]
        print_table(headings, rows)


def _plan(top_um: float, bottom_um: float, step_um: float | None, frames: int | None, *, descending: bool) -> SweepPlan:
    if (step_um is None) == (frames is None):
        raise InputError(_("Give either --step-um or --frames."))
    if step_um is not None:
        return SweepPlan.by_step(top_um, bottom_um, step_um, descending)
    assert frames is not None
    return SweepPlan.by_count(top_um, bottom_um, frames, descending)


def _settings(present: CameraSettings, changes: dict[str, Any]) -> CameraSettings:
    try:
        return CameraSettings.model_validate({**present.model_dump(), **changes})
    except ValidationError as error:
        name, value, reason = first_problem(error)
        raise InputError(
            _("--{option} {value} cannot be used: {reason}.").format(
                option=name.replace("_", "-"), value=value, reason=reason
            )
        ) from None


def _capture(profile_name: str, plan: SweepPlan, out: Path, changes: dict[str, Any], as_json: bool) -> None:
    profile = load_profile(profile_name)
    with open_microscope(profile) as microscope:
        axis, camera = microscope.axis, microscope.camera
        camera.apply(_settings(camera.settings, changes))
        axis.check(plan.top_um)
        axis.check(plan.bottom_um)
        check_new(out)
        estimate = plan.estimate(axis.speed_um_s, camera, axis=axis)
        if not as_json:
            size_mb = estimate.bytes / 1e6
            complain(
                _("{n} frames from {first:g} to {last:g} µm: about {seconds:.0f} s and {size:.1f} MB.").format(
                    n=plan.frame_count,
                    first=plan.first_um,
                    last=plan.last_um,
                    seconds=estimate.seconds,
                    size=size_mb,
                )
            )
            if plan.note:
                complain(plan.note)
        began_s = time.monotonic()
        try:
            with _cancelled_by_ctrl_c() as cancel, progress_bar(_("Capturing")) as report:
                capture(
                    axis,
                    camera,
                    plan,
                    out,
                    pixel_um=microscope.pixel_um,
                    optics=microscope.optics,
                    metadata={"profile": profile.name, "objective": profile.objective},
                    on_frame=lambda frame: report(frame.index + 1, plan.frame_count),
                    cancel=cancel,
                )
        except Cancelled:
            _explain_interruption(out)
            raise typer.Exit(INTERRUPTED) from None
    summary = {
        "file": str(out),
        "frames": plan.frame_count,
        "first_um": plan.first_um,
        "last_um": plan.last_um,
        "step_um": plan.step_um,
        "pixel_um": microscope.pixel_um,
        "profile": profile.name,
        "seconds": round(time.monotonic() - began_s, 3),
        "bytes": out.stat().st_size,
    }
    if as_json:
        print_json(summary)
    else:
        print_facts(
            {
                _("file"): str(out),
                _("frames"): str(plan.frame_count),
                _("time"): _("{s:.1f} s").format(s=summary["seconds"]),
            }
        )


@contextlib.contextmanager
def _cancelled_by_ctrl_c() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that a capture ends between two frames; a second Ctrl-C ends at once."""
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


def _explain_interruption(path: Path) -> None:
    if not path.exists():
        complain(_("Stopped before anything was captured; no file was left."))
        return
    written, planned = frames_written(path)
    complain(
        _("Stopped. {n} of {planned} frames are safe in {file}. To use them: reliefscope recover {file}").format(
            n=written, planned=planned, file=path
        )
    )


def _image_shape(profile: Profile) -> list[int] | None:
    """Rows and columns as far as the profile says; otherwise the camera tells when it is opened."""
    camera = profile.camera
    if isinstance(camera, SimulatedCameraProfile):
        return list(camera.image_shape)
    roi = camera.settings.roi if camera.settings is not None else None
    return None if roi is None else [roi.height, roi.width]


def _describe(name: str) -> dict[str, Any]:
    profile = load_profile(name)
    return {
        "name": name,
        "title": profile.title,
        "stage": profile.stage.driver,
        "camera": profile.camera.driver,
        "objective": profile.objective,
        "objectives": [objective.name for objective in profile.objectives],
        "pixel_um": profile.pixel_um,
        "image_shape": _image_shape(profile),
        "simulated": profile.is_simulated,
    }
