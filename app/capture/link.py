"""The window's side of the microscope: asks in one thread, answers as Qt signals in the other.

One device thread owns stage and camera. Everything that is asked of them is a job of that thread,
except STOP, which goes straight to the stage from wherever it is asked for.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from app.capture.device import Device, apply_what_fits, auto_exposure, describe, what_is_kept
from app.capture.picture import LivePicture, SteadyLevels, look_at, white_of
from app.capture.stage_watch import StageWatch
from app.workers import Courier, DeviceThread, Latest
from hardware.autofocus import autofocus
from hardware.camera import CameraError, CameraSettings
from hardware.profile import Microscope, load_profile, open_microscope
from hardware.recovery import Recovery
from hardware.stage import StageError, StageStopped
from hardware.sweep import Estimate, Frame, SweepPlan, capture
from models.errors import Cancelled
from models.language import _

log = logging.getLogger(__name__)

DISPLAY_EVERY_S = 1 / 60
RECONNECT_S = 5.0


class MicroscopeLink(QObject):
    """Connect, look, move, focus, capture. Lives in the window thread; outlives the panels that show it."""

    deviceChanged = Signal()
    pictureReady = Signal()
    moved = Signal()
    stoppedChanged = Signal()
    busyChanged = Signal()
    settingsChanged = Signal()
    liveChanged = Signal()
    focusFound = Signal(object)
    progressed = Signal(int, int)
    captureEnded = Signal(object)
    told = Signal(str)
    failed = Signal(str, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.device: Device | None = None
        self.z_um: float | None = None
        self.fps: float | None = None
        self.settings = CameraSettings()
        self.live = False
        self.busy = ""
        self.auto_contrast = True
        self._microscope: Microscope | None = None
        self._pictures = Latest()
        self._steady = SteadyLevels()
        self._cancel = threading.Event()
        self._target_um: float | None = None
        self._waiting_um: float | None = None
        self._intervals: list[float] = []
        self._last_shown_s = 0.0
        self._camera_lost = False
        self._courier = Courier(self)
        self._thread = DeviceThread("microscope", self)
        self._thread.failed.connect(self._on_failed)
        self.stage = StageWatch(self._on_position, self._on_failed, self)

    # --- connection

    def connect_to(self, profile_name: str, settings: CameraSettings | None = None) -> None:
        """Open the microscope of a profile. Nothing moves."""
        self.disconnect()
        self._set_busy("connect")
        tell = self._courier.send

        def job() -> None:
            microscope = open_microscope(load_profile(profile_name))
            try:
                if settings is not None:
                    apply_what_fits(microscope, settings)
                device = describe(profile_name, microscope)
                z_um = microscope.axis.position_um()
            except BaseException:
                microscope.close()
                raise
            tell(self._on_opened, microscope, device)
            tell(self._on_applied, microscope.camera.settings)
            tell(self._on_position, z_um)

        self._run("connect", job)

    def reconnect(self) -> None:
        """Bring back the stage and camera that are described as connected. Nothing moves."""
        microscope = self._microscope
        if microscope is None or self.busy:
            return
        cancel = self._new_cancel()

        def job() -> None:
            self._courier.send(self._on_position, microscope.axis.reconnect(RECONNECT_S, cancel))
            self.stage.found(microscope.axis)
            if self._camera_lost:
                microscope.camera.reconnect()
                self._camera_lost = False
            self._courier.send(self.set_live, True)

        self.set_live(False)
        self._run("connect", job)

    def disconnect(self) -> None:
        """Release stage and camera; a running task is cancelled first."""
        microscope = self._microscope
        if microscope is None:
            return
        self.set_live(False)
        self.cancel()
        self._microscope = None
        self._thread.post(microscope.close)
        self.device = self.z_um = self.fps = None
        self.stage.watch(None)
        self.deviceChanged.emit()
        self.stoppedChanged.emit()
        self.moved.emit()

    def close(self) -> None:
        """Disconnect and end the thread."""
        self.disconnect()
        self._thread.close()

    def estimate(self, plan: SweepPlan) -> Estimate | None:
        """Time and disk space of a capture; None while no microscope is connected."""
        if self._microscope is None:
            return None
        axis, camera = self._microscope.axis, self._microscope.camera
        picture_s = 1 / self.fps if self.fps else None
        return plan.estimate(axis.speed_um_s, camera, axis=axis, picture_s=picture_s)

    def frame_bytes(self) -> int:
        """Size of one picture in memory."""
        if self._microscope is None:
            return 0
        camera = self._microscope.camera
        return math.prod(camera.image_shape) * camera.dtype.itemsize

    # --- looking

    def set_live(self, on: bool) -> None:
        on = on and self._microscope is not None
        if on == self.live:
            return
        self.live, self.fps = on, None
        self._intervals.clear()
        self._thread.set_idle(self._look if on else None)
        self.liveChanged.emit()

    def take_picture(self) -> LivePicture | None:
        """The newest picture, once."""
        picture: LivePicture | None = self._pictures.take()
        return picture

    def set_auto_contrast(self, on: bool) -> None:
        self.auto_contrast = on
        self._steady.forget()

    def apply(self, settings: CameraSettings) -> None:
        """Exposure, gain, bits; what the camera took comes back with ``settingsChanged``."""
        microscope = self._microscope
        if microscope is None:
            return

        def job() -> None:
            try:
                microscope.camera.apply(settings)
            finally:
                self._courier.send(self._on_applied, microscope.camera.settings)

        self._thread.post(job)

    def auto_exposure(self) -> None:
        """Search the exposure at which the brightest part of the picture nearly fills the range."""
        microscope = self._microscope
        if microscope is None or self.busy:
            return

        def job() -> None:
            auto_exposure(microscope.camera)
            self._courier.send(self._on_applied, microscope.camera.settings)

        self._run("exposure", job)

    # --- moving

    @property
    def is_stopped(self) -> bool:
        return self._microscope is not None and self._microscope.axis.is_stopped

    @property
    def can_home(self) -> bool:
        return self._microscope is not None and self._microscope.axis.can_home

    def stop(self) -> None:
        """Halt the stage now, end what is running, hold until :meth:`release`."""
        self._cancel.set()
        self._target_um = self._waiting_um = None
        if self._microscope is not None:
            try:
                self._microscope.axis.stop()
            except StageError as error:  # unheard: the stop is latched all the same, and sent once it is back
                self._on_failed(error)
            self.stoppedChanged.emit()
            self._thread.post(lambda axis=self._microscope.axis: self.stage.tell(axis))

    def release(self) -> None:
        """Allow moves again."""
        if self._microscope is not None:
            self._microscope.axis.release()
            self.stoppedChanged.emit()
            self._thread.post(lambda axis=self._microscope.axis: self.stage.tell(axis))

    def home(self) -> None:
        """Drive the stage to its reference. Only on a person's word: it may go through its whole travel."""
        microscope = self._microscope
        if microscope is None or self.busy or self._target_um is not None:
            return
        self._new_cancel()

        self._run("home", lambda: self._courier.send(self._on_position, microscope.axis.home()))

    def confirm_position(self) -> None:
        """A person vouches for the position; ends an alarm. Nothing moves."""
        microscope = self._microscope
        if microscope is None or self.busy:
            return

        def job() -> None:
            microscope.axis.confirm_position()
            self._courier.send(self._on_position, microscope.axis.position_um())

        self._run("confirm", job)

    def move_to(self, z_um: float) -> None:
        """Go to ``z_um``. While a move is under way only the newest target is kept, never a queue of them."""
        if self._microscope is None or self.busy:
            return
        if self._target_um is not None:
            self._waiting_um = z_um
            return
        self._start_move(z_um)

    def jog(self, dz_um: float) -> None:
        """One step from where the stage is or goes: however fast they come, at most one step waits."""
        start_um = self._target_um if self._target_um is not None else self.z_um
        if start_um is None or self.device is None:
            return
        low, high = self.device.limits_um
        self.move_to(min(max(start_um + dz_um, low), high))

    @property
    def target_um(self) -> float | None:
        """Where the stage is going, None at rest."""
        return self._waiting_um if self._waiting_um is not None else self._target_um

    def _start_move(self, z_um: float) -> None:
        microscope = self._microscope
        assert microscope is not None
        self._target_um, cancel = z_um, self._new_cancel()
        self.moved.emit()

        def job() -> None:
            try:
                self._courier.send(self._on_position, microscope.axis.move_to(z_um, cancel))
            finally:
                self.stage.tell(microscope.axis)
                self._courier.send(self._on_job_done, "move")

        self._thread.post(job)

    def poll(self) -> None:
        """Look where the stage is while it moves; the axis answers at once with its latest reading."""
        if self._microscope is not None and (self._target_um is not None or self.busy in ("focus", "home")):
            with suppress(StageError):  # the job that moves the stage meets the same fault, and tells it
                self._on_position(self._microscope.axis.position_um())

    # --- long tasks

    def focus(self, low_um: float, high_um: float, step_um: float) -> None:
        """Search the sharpest plane between two heights and go there."""
        microscope = self._microscope
        if microscope is None or self.busy:
            return
        cancel = self._new_cancel()

        def job() -> None:
            result = autofocus(
                microscope.axis, microscope.camera, low_um, high_um, step_um=step_um, cancel=cancel,
                progress=self._report,
            )  # fmt: skip
            self._courier.send(self._on_position, microscope.axis.position_um())
            self._courier.send(self.focusFound.emit, result)

        self._run("focus", job)

    def capture(
        self, plan: SweepPlan, path: Path, *, metadata: Mapping[str, Any], on_frame: Callable[[Frame], None]
    ) -> None:
        """Capture ``plan`` into ``path``. ``on_frame`` is called in a thread of its own, once each frame is on disk."""
        microscope = self._microscope
        if microscope is None or self.busy:
            return
        cancel = self._new_cancel()

        def tell(event: str) -> None:
            self._courier.send(self.told.emit, event)

        def see(frame: Frame) -> None:
            self._courier.send(self._on_position, frame.z_measured_um)
            self._show(frame.image, frame.time_s, frame.z_measured_um)
            on_frame(frame)
            self._report(frame.index + 1, plan.frame_count)

        def job() -> None:
            reason, error = "", None
            recovery = Recovery(microscope.axis, microscope.camera, cancel=cancel, told=tell)
            try:
                capture(
                    microscope.axis, microscope.camera, plan, path, pixel_um=microscope.pixel_um,
                    optics=microscope.optics, metadata=metadata, on_frame=see, cancel=cancel, recovery=recovery,
                )  # fmt: skip
            except Cancelled:
                reason = _("cancelled")
            except StageStopped:
                reason = _("stopped")
            except Exception as failure:
                reason, error = _("ended by a fault"), failure
            finally:
                self._courier.send(self.captureEnded.emit, what_is_kept(path, plan.frame_count, reason))
            if error is not None:
                raise error

        self._run("capture", job)

    def cancel(self) -> None:
        """End the running task; the stage stays free to move. Homing has no other end than STOP."""
        if self.busy == "home":
            self.stop()
        self._cancel.set()
        self._waiting_um = None

    # --- in the device thread

    def _look(self) -> None:
        microscope = self._microscope
        if microscope is None:
            time.sleep(0.01)
            return
        picture = microscope.camera.snap()
        now_s = time.monotonic()
        self._count_rate(now_s)
        self.stage.read(microscope.axis, now_s)
        self._show(picture.image, picture.time_s, self.z_um)

    def _show(self, image: Any, time_s: float, z_um: float | None) -> None:
        now_s = time.monotonic()
        if now_s - self._last_shown_s < DISPLAY_EVERY_S:
            return
        self._last_shown_s = now_s
        white = white_of(image.dtype, self.settings.bit_depth)
        steady = self._steady if self.auto_contrast else None
        if self._pictures.put(look_at(image, white, steady, time_s=time_s, z_um=z_um)):
            self._courier.send(self.pictureReady.emit)

    def _report(self, done: int, total: int) -> None:
        self._courier.send(self.progressed.emit, done, total)

    def _count_rate(self, time_s: float) -> None:
        self._intervals.append(time_s)
        del self._intervals[:-20]
        if len(self._intervals) > 2 and self._intervals[-1] > self._intervals[0]:
            self.fps = (len(self._intervals) - 1) / (self._intervals[-1] - self._intervals[0])

    # --- in the window thread

    def _run(self, name: str, job: Callable[[], None]) -> None:
        """A task that shows in the status line; it ends with ``busy`` empty, however it ends."""
        self._set_busy(name)

        def guarded() -> None:
            try:
                job()
            finally:
                if (microscope := self._microscope) is not None:
                    self.stage.tell(microscope.axis)
                self._courier.send(self._on_job_done, name)

        self._thread.post(guarded)

    def _new_cancel(self) -> threading.Event:
        self._cancel = threading.Event()
        return self._cancel

    def _set_busy(self, name: str) -> None:
        if name != self.busy:
            self.busy = name
            self.busyChanged.emit()

    def _on_opened(self, microscope: Microscope, device: Device) -> None:
        self._microscope, self.device, self._camera_lost = microscope, device, False
        self._steady.forget()
        self.deviceChanged.emit()
        self.stoppedChanged.emit()
        self.stage.watch(microscope.axis)
        self.set_live(True)

    def _on_position(self, z_um: float) -> None:
        if self._microscope is not None and z_um != self.z_um:
            self.z_um = z_um
            self.moved.emit()

    def _on_applied(self, settings: CameraSettings) -> None:
        self.settings = settings
        self.settingsChanged.emit()

    def _on_job_done(self, name: str) -> None:
        if name != "move":
            self._set_busy("")
            return
        self._target_um, waiting_um = None, self._waiting_um
        self._waiting_um = None
        if waiting_um is not None and self._microscope is not None:
            self._start_move(waiting_um)
        else:
            self.moved.emit()

    def _on_failed(self, error: Exception) -> None:
        if isinstance(error, StageStopped):
            return  # The window says so already, and offers the release.
        device = self.device
        source = ""
        if device is not None:
            source = {CameraError: device.camera_name, StageError: device.stage_name}.get(_family(error), "")
            if isinstance(error, CameraError):
                self._camera_lost = True
                self.live = False
                self.liveChanged.emit()
        self.failed.emit(source, error)


def _family(error: Exception) -> type[Exception]:
    return next((kind for kind in (CameraError, StageError) if isinstance(error, kind)), Exception)
