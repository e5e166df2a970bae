"""``capture`` and ``recover``."""

import time
from concurrent.futures import wait
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.settings import profile_called
from app.terminal import (
    INTERRUPTED,
    ProgressReport,
    broken_off_by_ctrl_c,
    can_ask,
    cancelled_by_ctrl_c,
    choose,
    complain,
    print_facts,
    print_json,
    progress_bar,
)
from hardware.calls import started
from hardware.camera import Camera, CameraError, CameraSettings
from hardware.motion import FocusAxis
from hardware.profile import Profile, load_profile, open_microscope
from hardware.recovery import Interruption, Recovery, WayOn
from hardware.stage import StageError
from hardware.sweep import SweepPlan, capture
from models.capture_file import check_new
from models.errors import Cancelled, InputError
from models.language import _
from models.storage import frames_written, is_complete, recover
from models.validation import first_problem

HOMING_POLL_S = 0.05
HALT_S = 5.0
"""So long a homing that was stopped may take to end."""


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
        port: Annotated[
            str | None, typer.Option("--port", metavar="PORT", help=_("The stage's port, instead of the profile's."))
        ] = None,
        home: Annotated[
            bool,
            typer.Option(
                "--home", help=_("First drive the stage to its reference. It may go through its whole travel.")
            ),
        ] = False,
        trust_position: Annotated[
            bool,
            typer.Option(
                "--trust-position", help=_("Take the position that the stage tells as right, for one not homed.")
            ),
        ] = False,
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
        if home and trust_position:
            raise InputError(_("Give either --home or --trust-position."))
        described = load_profile(profile_called(profile))
        if port is not None:
            if described.stage.driver == "simulated":
                raise InputError(
                    _("The stage of the profile {name} is simulated and has no port.").format(name=profile)
                )
            described = described.changed(stage={"port": port})
        wanted = {name: value for name, value in changes.items() if value is not None}
        reference = "home" if home else "trust" if trust_position else ""
        _capture(described, plan, out, wanted, reference, as_json)

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


def _capture(
    profile: Profile, plan: SweepPlan, out: Path, changes: dict[str, Any], reference: str, as_json: bool
) -> None:
    with open_microscope(profile) as microscope:
        axis, camera = microscope.axis, microscope.camera
        camera.apply(_settings(camera.settings, changes))
        axis.check(plan.top_um)
        axis.check(plan.bottom_um)
        check_new(out)
        _take_reference(axis, reference)
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
            with cancelled_by_ctrl_c() as cancel, progress_bar(_("Capturing")) as report:
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
                    recovery=_recovery(axis, camera, cancel, report),
                )
        except Cancelled:
            _explain_interruption(out)
            raise typer.Exit(INTERRUPTED) from None
        except (StageError, CameraError):
            _explain_interruption(out)
            raise
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


def _take_reference(axis: FocusAxis, reference: str) -> None:
    """Home, trust the position, or neither: a stage that does not know where it is refuses every move."""
    if reference == "home":
        _home(axis)
    elif reference == "trust":
        axis.confirm_position()
    elif not axis.is_referenced:
        raise InputError(
            _("{faults} On the command line: --home drives to the reference, --trust-position confirms.").format(
                faults=" ".join(axis.faults())
            )
        )


def _home(axis: FocusAxis) -> None:
    complain(_("{stage} is homing. Ctrl-C halts it.").format(stage=axis.name))
    homing = started("homing", axis.home)  # so that the STOP comes in its midst, and not after it was broken off
    try:
        while not homing.done():
            time.sleep(HOMING_POLL_S)
    except KeyboardInterrupt:
        axis.stop()
        wait([homing], HALT_S)
        raise
    homing.result()


def _recovery(axis: FocusAxis, camera: Camera, cancel: Event, report: ProgressReport) -> Recovery:
    """Somebody at a terminal is asked how it goes on; without one the capture ends, and keeps its frames."""

    def decide(interruption: Interruption) -> WayOn:
        with report.paused(), broken_off_by_ctrl_c(cancel):
            key = choose(interruption.text, {way.value: way.title for way in interruption.ways})
        return WayOn.END if key is None else WayOn(key)

    def home() -> None:
        with broken_off_by_ctrl_c(cancel):
            _home(axis)

    return Recovery(axis, camera, cancel=cancel, told=complain, decide=decide if can_ask() else None, home=home)


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
