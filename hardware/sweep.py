"""The equally spaced focal stack: the plan, the sweep through it, and its capture into a file."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware.camera import Camera, CameraError
from hardware.motion import FocusAxis
from hardware.recovery import STEADY_PICTURES, Recovery
from hardware.stage import StageError
from hardware.timed_stack import Frame, timed_frames
from hardware.write_behind import WriteBehind
from models.capture_file import StackWriter
from models.errors import InputError
from models.focal_stack import Optics
from models.language import _

MAX_FRAMES = 20_000


@dataclass(frozen=True)
class Estimate:
    """What a sweep will take: seconds, and bytes on disk."""

    seconds: float
    bytes: int


class SweepPlan(BaseModel):
    """Frames at equal distances from ``first_um`` to ``last_um``, both of them hit exactly, in this order.

    ``requested_step_um``: the step asked for, where it had to be reduced so that it divides the range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_um: float = Field(allow_inf_nan=False)
    last_um: float = Field(allow_inf_nan=False)
    frame_count: int = Field(ge=2, le=MAX_FRAMES)
    requested_step_um: float | None = None

    @model_validator(mode="after")
    def _has_a_range(self) -> Self:
        if self.step_um < 1e-4:
            raise ValueError(_("top and bottom of a stack must differ, by at least 0.0001 µm per frame"))
        return self

    @classmethod
    def by_step(cls, top_um: float, bottom_um: float, step_um: float, descending: bool = True) -> "SweepPlan":
        """Steps of at most ``step_um``: it is reduced where it does not divide the range.

        Raises InputError where the values make no stack.
        """
        if not (math.isfinite(step_um) and step_um > 0):
            raise InputError(_("The step must be a positive number of micrometres, not {step}.").format(step=step_um))
        _check_range(top_um, bottom_um)
        steps = (top_um - bottom_um) / step_um
        if steps >= MAX_FRAMES:
            raise InputError(
                _("A step of {step:g} µm would make more than {limit} frames.").format(step=step_um, limit=MAX_FRAMES)
            )
        steps = max(1, math.ceil(round(steps, 6)))
        plan = cls.by_count(top_um, bottom_um, steps + 1, descending)
        if plan.step_um < step_um * (1 - 1e-6):
            plan = plan.model_copy(update={"requested_step_um": step_um})
        return plan

    @classmethod
    def by_count(cls, top_um: float, bottom_um: float, frame_count: int, descending: bool = True) -> "SweepPlan":
        """This many frames. Raises InputError where the values make no stack."""
        _check_range(top_um, bottom_um)
        if not 2 <= frame_count <= MAX_FRAMES:
            raise InputError(_("A stack needs 2 to {limit} frames, not {n}.").format(limit=MAX_FRAMES, n=frame_count))
        if (top_um - bottom_um) / (frame_count - 1) < 1e-4:
            raise InputError(_("The step of this stack would be below 0.0001 µm; take fewer frames."))
        first_um, last_um = (top_um, bottom_um) if descending else (bottom_um, top_um)
        return cls(first_um=first_um, last_um=last_um, frame_count=frame_count)

    @classmethod
    def around(
        cls,
        center_um: float,
        range_um: float,
        *,
        step_um: float | None = None,
        frame_count: int | None = None,
        descending: bool = True,
    ) -> "SweepPlan":
        """Half of ``range_um`` on either side of ``center_um``; give either the step or the number of frames."""
        top_um, bottom_um = center_um + range_um / 2, center_um - range_um / 2
        if step_um is not None and frame_count is None:
            return cls.by_step(top_um, bottom_um, step_um, descending)
        if frame_count is not None and step_um is None:
            return cls.by_count(top_um, bottom_um, frame_count, descending)
        raise ValueError(_("give either step_um or frame_count"))

    @property
    def z_um(self) -> NDArray[np.float64]:
        """Requested heights (N,), first and last exactly as planned."""
        return np.linspace(self.first_um, self.last_um, self.frame_count)

    @property
    def top_um(self) -> float:
        return max(self.first_um, self.last_um)

    @property
    def bottom_um(self) -> float:
        return min(self.first_um, self.last_um)

    @property
    def range_um(self) -> float:
        return self.top_um - self.bottom_um

    @property
    def step_um(self) -> float:
        """Distance between neighbouring frames, always positive."""
        return self.range_um / (self.frame_count - 1)

    @property
    def note(self) -> str | None:
        """What the user should know about the step, or None."""
        if self.requested_step_um is None:
            return None
        return _("Step {step:.6g} µm instead of {requested:g} µm, so that both ends are hit.").format(
            step=self.step_um, requested=self.requested_step_um
        )

    def estimate(
        self, axis_speed: float, camera: Camera, *, axis: FocusAxis | None = None, picture_s: float | None = None
    ) -> Estimate:
        """Time and disk space of the stack; nothing moves to find out.

        ``picture_s``: measured time of one picture; otherwise the exposure and a typical readout. With ``axis`` its
        way to the first frame, settling and run-ups count too; otherwise only the steps at ``axis_speed`` um/s.
        """
        if picture_s is None:
            picture_s = camera.settings.exposure_ms / 1000.0 + 0.02
        if axis is not None:
            moves_s = axis.dry_run(float(z_um) for z_um in self.z_um).seconds
            picture_s *= STEADY_PICTURES if axis.settling.by == "image" else 1
        else:
            moves_s = self.range_um / axis_speed
        size = self.frame_count * math.prod(camera.image_shape) * camera.dtype.itemsize
        return Estimate(seconds=moves_s + self.frame_count * picture_s, bytes=size)


def run_sweep(
    axis: FocusAxis,
    camera: Camera,
    plan: SweepPlan,
    cancel: threading.Event | None = None,
    recovery: Recovery | None = None,
) -> Iterator[Frame]:
    """Move, settle, expose, for every height of the plan, each once and in order, through the faults that
    ``recovery`` can deal with. Nothing moves before the whole plan is checked.

    Raises StageLimitError, StageStopped, StageError, CameraError, Cancelled; the stage stays where it is.
    """
    axis.check(plan.first_um)
    axis.check(plan.last_um)
    return _sweep(axis, camera, plan, cancel, recovery or Recovery(axis, camera, cancel=cancel))


def _sweep(
    axis: FocusAxis, camera: Camera, plan: SweepPlan, cancel: threading.Event | None, recovery: Recovery
) -> Iterator[Frame]:
    heights_um = [float(z_um) for z_um in plan.z_um]
    done = 0
    frame: Frame | None = None

    def way_to(z_um: float) -> tuple[float, float] | None:
        return None if frame is None else (frame.z_measured_um, z_um)

    try:
        for frame in timed_frames(axis, camera, heights_um, cancel, recovery):
            yield frame
            done = frame.index + 1
    except (StageError, CameraError) as error:
        recovery.after(error, done, between_um=way_to(heights_um[-1]), another_way=True)
    for index in range(done, len(heights_um)):
        while True:
            try:
                taken = _frame(axis, camera, index, heights_um[index], cancel, recovery)
                _check_progress(axis, frame, taken)
                frame = taken
                break
            except (StageError, CameraError) as error:
                recovery.after(error, index, between_um=way_to(heights_um[index]))
        recovery.refuse_if_ended()
        yield frame


def _check_progress(axis: FocusAxis, before: Frame | None, frame: Frame) -> None:
    """Raises StageError where a frame does not lie beyond the one before it: no height map could be made of them."""
    if before is None:
        return
    ahead_um = frame.z_requested_um - before.z_requested_um
    if (frame.z_measured_um - before.z_measured_um) * ahead_um <= 0:
        raise StageError(
            _(
                "{stage} stands at {z:.3f} µm as before, although it was sent {step:g} µm further. Take larger steps."
            ).format(stage=axis.name, z=frame.z_measured_um, step=ahead_um)
        )


def _frame(
    axis: FocusAxis, camera: Camera, index: int, z_um: float, cancel: threading.Event | None, recovery: Recovery
) -> Frame:
    measured_um = axis.move_to(z_um, cancel)
    settled_s = axis.clock.now()
    picture = recovery.picture(settled_s)
    if axis.settling.by == "image":
        picture = recovery.steady_picture(picture, settled_s)
        measured_um = axis.position_um()
    return Frame(index, z_um, measured_um, picture.image, picture.time_s)


def capture(
    axis: FocusAxis,
    camera: Camera,
    plan: SweepPlan,
    path: str | Path,
    *,
    pixel_um: float | None = None,
    optics: Optics | None = None,
    metadata: Mapping[str, Any] | None = None,
    on_frame: Callable[[Frame], None] | None = None,
    cancel: threading.Event | None = None,
    recovery: Recovery | None = None,
) -> Path:
    """Sweep into the new file ``path``, which is written while the next frames are taken; ``on_frame`` is called when
    a frame is safely on disk, in the thread that writes.

    Limits and disk space are checked before anything moves. Whatever interrupts the sweep is raised again, once all
    frames taken so far are on disk, to be recovered; with fewer than two of them the file is removed. A disk that
    fails ends the sweep by an OutputError at the next frame. How the sweep went is kept in the file
    (:class:`hardware.recovery.Course`).
    """
    recovery = recovery or Recovery(axis, camera, cancel=cancel)
    frames = run_sweep(axis, camera, plan, cancel, recovery)
    writer = StackWriter(
        path,
        image_shape=camera.image_shape,
        dtype=camera.dtype,
        frame_count=plan.frame_count,
        pixel_um=pixel_um,
        optics=optics,
        metadata={**_description(axis, camera, plan), **(metadata or {})},
    )

    def keep(frame: Frame) -> None:
        writer.append(frame.image, z_um=frame.z_measured_um, z_requested_um=frame.z_requested_um, time_s=frame.time_s)
        if on_frame is not None:
            on_frame(frame)

    try:
        with writer:
            try:
                with WriteBehind(keep) as behind:
                    recovery.make_safe = behind.drain
                    for frame in frames:
                        behind.put(frame)
            finally:
                writer.write_course(recovery.course.as_json())
            writer.complete()
    except BaseException:
        if writer.frame_count < 2:
            Path(path).unlink(missing_ok=True)
        raise
    return Path(path)


def _description(axis: FocusAxis, camera: Camera, plan: SweepPlan) -> dict[str, Any]:
    """How the stack was taken, for the file."""
    return {
        "stage": axis.name,
        "camera": camera.name,
        "camera_identity": {name: value for name, value in asdict(camera.identity).items() if value},
        "plan": plan.model_dump(exclude_none=True),
        "camera_settings": camera.settings.model_dump(exclude_none=True),
        "backlash_um": axis.backlash_um,
        "settle": axis.settling.by,
        "settle_ms": axis.settling.rest_ms,
    }


def _check_range(top_um: float, bottom_um: float) -> None:
    if not (math.isfinite(top_um) and math.isfinite(bottom_um)):
        raise InputError(_("Top and bottom of the stack must be finite numbers of micrometres."))
    if not top_um > bottom_um:
        raise InputError(
            _("The top of the stack ({top:g} µm) must lie above its bottom ({bottom:g} µm).").format(
                top=top_um, bottom=bottom_um
            )
        )
