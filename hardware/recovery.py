"""What a sweep does about faults: what mends itself is waited for, what a person must judge is put to a person.

A cable that was pulled is waited for, a picture that did not come is asked for again, both for a limited time. After
anything that may have cost the position - an alarm, a reset, a stall - nothing moves before a person has looked and
chosen a way on: without one the sweep ends and the file keeps its frames.
"""

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

import cv2
from numpy.typing import NDArray

from hardware.camera import Camera, CameraDisconnected, CameraError, Picture
from hardware.motion import FocusAxis
from hardware.stage import StageDisconnected, StageError, StageNoReply, StageStopped, StageUnreferenced
from models.errors import Cancelled, ReliefscopeError
from models.language import N_, _

PICTURE_TRIES = 5
STEADY_PICTURES = 3
"""The fewest from which a picture is seen to be at rest."""
FRAME_TRIES = 5
"""So often one frame is begun again after a fault that mended itself."""
PATIENCE_S = 60.0
"""So long a sweep waits for a cable to be plugged in again."""
BACK_OFF_S = (0.2, 2.0)
MAX_EVENTS = 50
_CUT_OFF = (StageDisconnected, StageNoReply, CameraDisconnected)
"""What may mend itself."""


@dataclass
class Course:
    """How a sweep went, for the file. ``events``: what happened, as sentences, the first of them.

    ``pictures_repeated``: pictures that were late, lost, corrupt or too old and were taken again by the sweep;
    ``pictures_dropped``: those that the camera's driver itself took again. ``frames_unsteady``: frames taken although
    the picture did not come to rest. ``reconnections``: cables plugged in again. ``decisions``: how often a person
    chose a way on; which one is among the events. ``timing``: who timed the stack: "program", or the leader of a
    hardware-timed one.
    """

    timing: str = "program"
    pictures_repeated: int = 0
    pictures_dropped: int = 0
    frames_unsteady: int = 0
    reconnections: int = 0
    decisions: int = 0
    events: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class WayOn(Enum):
    """What a person may choose where a sweep cannot go on by itself. The values are keys for a terminal."""

    HOME = "h"
    """Home the axis, then take the frame."""
    CONFIRM = "p"
    """The position that the stage tells is right and the way is clear: unlock the controller, take the frame."""
    AGAIN = "t"
    """Something was mended that did not cost the position: see whether it answers, take the frame."""
    END = "e"

    @property
    def title(self) -> str:
        return _(_TITLES[self])


_TITLES = {
    WayOn.HOME: N_("Home and go on"),
    WayOn.CONFIRM: N_("This position is right: go on"),
    WayOn.AGAIN: N_("Try again"),
    WayOn.END: N_("End here and keep the frames"),
}


@dataclass(frozen=True)
class Interruption:
    """A sweep that cannot go on by itself. ``error`` says what happened; ``ways`` are open, END always.

    Frames before ``frame_index`` are safe; it is the next to be taken. ``z_um``: what the stage tells, None where it
    cannot be asked or the camera is at fault. ``last_um``: where the last frame was taken, None before the first.
    """

    error: ReliefscopeError
    frame_index: int
    ways: tuple[WayOn, ...]
    z_um: float | None
    last_um: float | None

    @property
    def text(self) -> str:
        """What a person has to know to choose, in whole sentences."""
        parts = [str(self.error), _("{n} frames are safe; the capture waits.").format(n=self.frame_index)]
        if self.z_um is not None and self.last_um is not None:
            parts.append(
                _("The stage says that it is at {z:.2f} µm; the last frame was taken at {last:.2f} µm.").format(
                    z=self.z_um, last=self.last_um
                )
            )
        elif self.z_um is not None:
            parts.append(_("The stage says that it is at {z:.2f} µm.").format(z=self.z_um))
        elif self.last_um is not None and WayOn.AGAIN not in self.ways:
            parts.append(
                _("The stage does not say where it is; the last frame was taken at {last:.2f} µm.").format(
                    last=self.last_um
                )
            )
        if WayOn.CONFIRM in self.ways:
            parts.append(_("If its position is wrong, going on can drive the objective into the sample."))
        elif WayOn.AGAIN not in self.ways:
            parts.append(_("The two do not fit, so that it cannot go on from there."))
        if WayOn.HOME in self.ways:
            parts.append(_("Homing may drive it through its whole travel: make room first."))
        return " ".join(parts)


Decide = Callable[[Interruption], WayOn]
"""A person's choice among ``ways``, asked in the sweep's thread. After STOP or Cancel return anything, but return."""


class Recovery:
    """The faults of one sweep. ``told`` gets what happens as it happens, but for pictures that are only repeated.

    ``decide`` None: nobody is there to be asked. ``home`` is called where a person chose that, None: ``axis.home``; it
    raises what that does, and Cancelled. ``patience_s``: how long a cable is waited for, None: ``PATIENCE_S``.
    """

    def __init__(
        self,
        axis: FocusAxis,
        camera: Camera,
        *,
        cancel: threading.Event | None = None,
        decide: Decide | None = None,
        home: Callable[[], object] | None = None,
        told: Callable[[str], None] | None = None,
        patience_s: float | None = None,
    ) -> None:
        self._axis, self._camera, self._cancel = axis, camera, cancel
        self._decide, self._home, self._told = decide, home or axis.home, told
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._dropped_before = camera.dropped_frames
        self._shape, self._dtype = camera.image_shape, camera.dtype
        self._frame, self._tries = -1, 0
        self._course = Course()
        self.make_safe: Callable[[], None] = lambda: None
        """Called after a fault: returns when the frames taken so far are safe, raises where they are not."""

    @property
    def course(self) -> Course:
        """How the sweep has gone so far."""
        self._course.pictures_dropped = self._camera.dropped_frames - self._dropped_before
        return self._course

    def note(self, event: str) -> None:
        """Something that the user and the file should know of."""
        self._keep(event)
        if self._told is not None:
            self._told(event)

    def _keep(self, event: str) -> None:
        if len(self._course.events) < MAX_EVENTS:
            self._course.events.append(event)

    def picture(self, settled_s: float) -> Picture:
        """A whole picture whose exposure began after ``settled_s``, in so many tries. Raises CameraError, Cancelled."""
        for attempt in range(1, PICTURE_TRIES + 1):
            try:
                picture = self._camera.snap()
                self.check(picture, settled_s)
            except CameraDisconnected:
                raise
            except CameraError as error:
                if attempt == PICTURE_TRIES:
                    raise
                self._course.pictures_repeated += 1
                self._keep(str(error))
            else:
                return picture
            self.refuse_if_ended()
        raise AssertionError("unreachable")

    def steady_picture(self, first: Picture, settled_s: float) -> Picture:
        """``first``, or a later one that does not differ from the two before it by more than its noise.

        Three pictures of a scene at rest differ equally from each other; one of them still moving does not. After
        the axis' ``settling.limit_s`` the latest is taken as it is, and counted.
        """
        pictures, end_s = [first], self._axis.clock.now() + self._axis.settling.limit_s
        while True:
            while len(pictures) < STEADY_PICTURES:
                pictures.append(self.picture(settled_s))
            if _is_steady(*(picture.image for picture in pictures)):
                return pictures[-1]
            if self._axis.clock.now() > end_s:
                self._course.frames_unsteady += 1
                return pictures[-1]
            pictures.pop(0)

    def check(self, picture: Picture, settled_s: float) -> None:
        """Raises CameraError where the picture is corrupt or from before ``settled_s``."""
        if picture.image.shape != self._shape or picture.image.dtype != self._dtype:
            raise CameraError(
                _("{camera} delivered a picture of {got} instead of {wanted}. Check its cable.").format(
                    camera=self._camera.name, got=picture.image.shape, wanted=self._shape
                )
            )
        if picture.time_s < settled_s:
            raise CameraError(
                _("{camera} delivered a picture from before the stage had settled.").format(camera=self._camera.name)
            )

    def after(
        self,
        error: ReliefscopeError,
        frame_index: int,
        *,
        between_um: tuple[float, float] | None = None,
        another_way: bool = False,
    ) -> None:
        """Return when frame ``frame_index`` may be taken again from its move on; else raise what ends the sweep.

        ``between_um``: measured z of the last frame, and the z that the stage was sent to; None before the first.
        ``another_way``: it will not be taken by the way that failed, so that only connection and position matter.
        """
        if isinstance(error, StageStopped | Cancelled):
            raise error
        if frame_index != self._frame:
            self._frame, self._tries = frame_index, 0
        self._tries += 1
        if another_way or isinstance(error, _CUT_OFF):
            self.note(str(error))
        else:  # told by the question, or by the end
            self._keep(str(error))
        self.make_safe()
        left = error if self._tries >= FRAME_TRIES else self._mended(error)
        if left is None or (another_way and left is error):
            left = self._doubt()
        while left is not None:
            left = self._after_choice(left, frame_index, between_um)
            self._tries = 0

    def _after_choice(
        self, error: ReliefscopeError, frame_index: int, between_um: tuple[float, float] | None
    ) -> ReliefscopeError | None:
        """What is still wrong after a person chose a way on. Raises ``error`` where nobody did."""
        if self._decide is None:
            raise error
        interruption = self._interruption(error, frame_index, between_um)
        way = self._decide(interruption)
        if self._axis.is_stopped:
            raise StageStopped(_("{stage} was stopped.").format(stage=self._axis.name))
        self.refuse_if_ended()
        if way not in interruption.ways:
            raise ValueError(f"{way} is not open: {interruption.ways}")
        if way is WayOn.END:
            raise error
        self._course.decisions += 1
        self._keep(_("A person chose: {way}.").format(way=way.title))
        try:
            if way is WayOn.HOME:
                self._home()
            elif way is WayOn.CONFIRM:
                self._axis.confirm_position()
                if not self._fits(z_um := self._axis.position_um(), between_um):
                    return StageUnreferenced(
                        _("{stage} is at {z:.2f} µm now, where the sweep has not been.").format(
                            stage=self._axis.name, z=z_um
                        )
                    )
            elif isinstance(error, _CUT_OFF) and (still := self._mended(error)) is not None:
                return still
        except StageStopped:
            raise
        except StageError as failed:
            self._keep(str(failed))
            return failed
        return self._doubt()

    def _interruption(
        self, error: ReliefscopeError, frame_index: int, between_um: tuple[float, float] | None
    ) -> Interruption:
        z_um = None
        if isinstance(error, CameraError | StageDisconnected | StageNoReply):
            ways: tuple[WayOn, ...] = (WayOn.AGAIN,)
        else:
            z_um = self._reading_um()
            ways = (WayOn.HOME,) if self._axis.homing_keeps_z else ()
            if z_um is None or self._fits(z_um, between_um):
                ways += (WayOn.CONFIRM,)
        return Interruption(error, frame_index, (*ways, WayOn.END), z_um, between_um[0] if between_um else None)

    def _reading_um(self) -> float | None:
        try:
            return self._axis.position_um()
        except StageError:  # some tell nothing while they are locked
            return None

    def _fits(self, z_um: float, between_um: tuple[float, float] | None) -> bool:
        """Whether the stage can stand there: on its way between two frames, or in its run-up."""
        if between_um is None:
            return True
        slack_um = self._axis.backlash_um + self._axis.tolerance_um
        return min(between_um) - slack_um <= z_um <= max(between_um) + slack_um

    def refuse_if_ended(self) -> None:
        """Raises Cancelled after Cancel."""
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled

    def _mended(self, error: ReliefscopeError) -> ReliefscopeError | None:
        """None where waiting was enough; otherwise what is still wrong."""
        try:
            if isinstance(error, StageDisconnected | StageNoReply):
                self._axis.reconnect(self._patience_s, self._cancel)
            elif isinstance(error, CameraDisconnected):
                self._reconnect_camera()
            else:
                return error
        except (StageStopped, Cancelled):
            raise
        except ReliefscopeError as still:
            return still
        self._course.reconnections += 1
        self.note(_("The connection is back."))
        return None

    def _reconnect_camera(self) -> None:
        clock, wait_s = self._axis.clock, BACK_OFF_S[0]
        end_s = clock.now() + self._patience_s
        while True:
            self.refuse_if_ended()
            try:
                self._camera.reconnect()
                return
            except CameraError:
                if clock.now() + wait_s > end_s or self._axis.is_stopped:
                    raise
            clock.wait(wait_s, self._cancel)
            wait_s = min(2 * wait_s, BACK_OFF_S[1])

    def _doubt(self) -> ReliefscopeError | None:
        """Why the stage must not be moved now, None where it may."""
        faults = self._axis.faults()
        if faults or not self._axis.is_referenced:
            return StageUnreferenced(
                " ".join(faults) or _("{stage} has lost its position.").format(stage=self._axis.name)
            )
        return None


def _is_steady(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> bool:
    """Whether the three mean squared differences agree as far as their own noise lets them."""
    differences = [cv2.norm(x, y, cv2.NORM_L2SQR) for x, y in ((a, b), (b, c), (a, c))]
    return bool(max(differences) <= min(differences) * (1.03 + 8.0 / a.size**0.5))
