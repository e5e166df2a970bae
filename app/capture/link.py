"""The window's side of the microscope: asks in one thread, answers as Qt signals in the other.

One device thread owns stage and camera. Everything that is asked of them is a job of that thread,
except STOP, which goes straight to the stage from wherever it is asked for.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from app.capture.device import Device, apply_what_fits, auto_exposure, describe, what_is_kept
from app.capture.live_pictures import LivePictures
from app.capture.reference import Reference
from app.capture.stage_watch import StageWatch
from app.workers import Courier, DeviceThread
from hardware.autofocus import autofocus
from hardware.camera import CameraError, CameraSettings
from hardware.motion import FocusAxis
from hardware.profile import Microscope, load_profile, open_microscope
from hardware.stage import StageError, StageStopped
from hardware.sweep import Estimate, Frame, SweepPlan, capture
from models.errors import Cancelled
from models.language import _

log = logging.getLogger(__name__)

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
        self.settings = CameraSettings()
        self.live = False
        self.busy = ""
        self.microscope: Microscope | None = None
        self._cancel = threading.Event()
        self._target_um: float | None = None
        self._waiting_um: float | None = None
        self._camera_lost = False
        self._courier = Courier(self)
        self._thread = DeviceThread("microscope", self)
        self._thread.failed.connect(self._on_failed)
        self.stage = StageWatch(self._on_position, self._on_failed, self)
        self.reference = Reference(self)
        self.pictures = LivePictures(self)
        self.pictures.ready.connect(self.pictureReady)

    # --- connection

    def connect_to(self, profile_name: str, settings: CameraSettings | None = None) -> None:
        """Open the microscope of a profile. Nothing moves. Without effect while one is being opened."""
        if self.busy == "connect":
            return
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

        self.run("connect", job)

    def reconnect(self) -> None:
        """Bring back the stage and camera that are described as connected. Nothing moves."""
        microscope = self.microscope
        if microscope is None or self.busy:
            return
        cancel = self.new_cancel()

        def job() -> None:
            try:
                self.tell_position(microscope.axis.reconnect(RECONNECT_S, cancel))
                self.stage.found(microscope.axis)
            finally:  # the one may be back without the other, and the picture is what one looks at meanwhile
                if self._camera_lost:
                    microscope.camera.reconnect()
                    self._camera_lost = False
                self._courier.send(self.set_live, True)

        self.set_live(False)
        self.run("connect", job)

    def disconnect(self) -> None:
        """Release stage and camera; a running task is cancelled first."""
        microscope = self.microscope
        if microscope is None:
            return
        self.set_live(False)
        self.cancel()
        self.microscope = None
        self._thread.post(microscope.close)
        self.device = self.z_um = None
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
        if self.microscope is None:
            return None
        axis, camera = self.microscope.axis, self.microscope.camera
        picture_s = 1 / self.pictures.fps if self.pictures.fps else None
        return plan.estimate(axis.speed_um_s, camera, axis=axis, picture_s=picture_s)

    # --- looking

    def set_live(self, on: bool) -> None:
        on = on and self.microscope is not None
        if on == self.live:
            return
        self.live = on
        self._thread.post(self.pictures.forget_rate)
        self._thread.set_idle(self._look if on else None)
        self.liveChanged.emit()

    def apply(self, settings: CameraSettings) -> None:
        """Exposure, gain, bits; what the camera took comes back with ``settingsChanged``."""
        microscope = self.microscope
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
        microscope = self.microscope
        if microscope is None or self.busy:
            return

        def job() -> None:
            auto_exposure(microscope.camera)
            self._courier.send(self._on_applied, microscope.camera.settings)

        self.run("exposure", job)

    # --- moving

    @property
    def is_stopped(self) -> bool:
        return self.microscope is not None and self.microscope.axis.is_stopped

    @property
    def can_home(self) -> bool:
        return self.microscope is not None and self.microscope.axis.can_home

    def stop(self) -> None:
        """Halt the stage now, end what is running, hold until :meth:`release`."""
        self._target_um = self._waiting_um = None
        if self.microscope is not None:
            try:
                self.microscope.axis.stop()
            except StageError as error:  # unheard: the stop is latched all the same, and sent once it is back
                self._on_failed(error)
            self._show_stopped(self.microscope.axis)
        self._cancel.set()  # not before: what ends now was stopped, not cancelled

    def release(self) -> None:
        """Allow moves again."""
        if self.microscope is not None:
            self.microscope.axis.release()
            self._show_stopped(self.microscope.axis)

    def move_to(self, z_um: float) -> None:
        """Go to ``z_um``. While a move is under way only the newest target is kept, never a queue of them."""
        if self.microscope is None or self.busy:
            return
        if self._target_um is not None:
            self._waiting_um = z_um
            return
        self._start_move(z_um)

    def jog(self, dz_um: float) -> None:
        """One step from where the stage is or goes: however fast they come, at most one step waits."""
        if self.microscope is None or self.device is None:
            return
        start_um = self._target_um if self._target_um is not None else self.microscope.axis.latest_um
        low, high = self.device.limits_um
        self.move_to(min(max(start_um + dz_um, low), high))

    @property
    def target_um(self) -> float | None:
        """Where the stage is going, None at rest."""
        return self._waiting_um if self._waiting_um is not None else self._target_um

    def _start_move(self, z_um: float) -> None:
        microscope = self.microscope
        assert microscope is not None
        self._target_um, cancel = z_um, self.new_cancel()
        self.moved.emit()

        def job() -> None:
            try:
                self.tell_position(microscope.axis.move_to(z_um, cancel))
            finally:
                self.stage.tell(microscope.axis)
                self._courier.send(self._on_job_done, "move")

        self._thread.post(job)

    def poll(self) -> None:
        """Show where the stage was seen last while it moves. Asks nobody: a late answer would hold up STOP."""
        if self.microscope is not None and (self._target_um is not None or self.busy in ("focus", "home")):
            self._on_position(self.microscope.axis.latest_um)

    # --- long tasks

    def focus(self, low_um: float, high_um: float, step_um: float) -> None:
        """Search the sharpest plane between two heights and go there."""
        microscope = self.microscope
        if microscope is None or self.busy:
            return
        cancel = self.new_cancel()

        def job() -> None:
            result = autofocus(
                microscope.axis, microscope.camera, low_um, high_um, step_um=step_um, cancel=cancel,
                progress=self._report,
            )  # fmt: skip
            self.tell_position(microscope.axis.position_um())
            self._courier.send(self.focusFound.emit, result)

        self.run("focus", job)

    def capture(
        self, plan: SweepPlan, path: Path, *, metadata: Mapping[str, Any], on_frame: Callable[[Frame], None]
    ) -> None:
        """Capture ``plan`` into ``path``. ``on_frame`` is called in a thread of its own, once each frame is on disk."""
        microscope = self.microscope
        if microscope is None or self.busy:
            return
        cancel = self.new_cancel()

        def see(frame: Frame) -> None:
            self.tell_position(frame.z_measured_um)
            self.stage.tell(microscope.axis)
            bit_depth = microscope.camera.settings.bit_depth
            self.pictures.show(frame.image, bit_depth, time_s=frame.time_s, z_um=frame.z_measured_um)
            on_frame(frame)
            self._report(frame.index + 1, plan.frame_count)

        def job() -> None:
            reason, error = "", None
            recovery = self.reference.recovery(
                microscope, cancel, told=lambda event: self._courier.send(self.told.emit, event)
            )
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

        self.run("capture", job)

    def cancel(self) -> None:
        """End the running task; the stage stays free to move. Homing has no other end than STOP."""
        self._cancel.set()
        self._waiting_um = None
        if self.busy == "home" or self.reference.is_homing:
            self.stop()

    # --- in the device thread

    def _look(self) -> None:
        microscope = self.microscope
        if microscope is None:
            time.sleep(0.01)
            return
        self.pictures.look(microscope.camera, self.z_um)
        self.stage.read(microscope.axis, time.monotonic())

    def tell_position(self, z_um: float) -> None:
        """A measured height for the window."""
        self._courier.send(self._on_position, z_um)

    def _report(self, done: int, total: int) -> None:
        self._courier.send(self.progressed.emit, done, total)

    # --- in the window thread

    def run(self, name: str, job: Callable[[], None]) -> None:
        """A task that shows in the status line; it ends with ``busy`` empty, however it ends."""
        self._set_busy(name)

        def guarded() -> None:
            try:
                job()
            finally:
                if (microscope := self.microscope) is not None:
                    self.stage.tell(microscope.axis)
                self._courier.send(self._on_job_done, name)

        self._thread.post(guarded)

    def new_cancel(self) -> threading.Event:
        """What will end the task that begins."""
        self._cancel = threading.Event()
        return self._cancel

    def _set_busy(self, name: str) -> None:
        if name != self.busy:
            self.busy = name
            self.busyChanged.emit()

    def _show_stopped(self, axis: FocusAxis) -> None:
        self.stoppedChanged.emit()
        self._thread.post(lambda: self.stage.tell(axis))

    def _on_opened(self, microscope: Microscope, device: Device) -> None:
        self.microscope, self.device, self._camera_lost = microscope, device, False
        self.pictures.forget_levels()
        self.deviceChanged.emit()
        self.stoppedChanged.emit()
        self.stage.watch(microscope.axis)
        self.set_live(True)

    def _on_position(self, z_um: float) -> None:
        if self.microscope is not None and z_um != self.z_um:
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
        if waiting_um is not None and self.microscope is not None:
            self._start_move(waiting_um)
        else:
            self.moved.emit()

    def _on_failed(self, error: Exception) -> None:
        if isinstance(error, StageStopped):
            return  # The window says so already, and offers the release.
        if self.device is not None and isinstance(error, CameraError):
            self._camera_lost = True
            self.live = False
            self.liveChanged.emit()
        self.failed.emit(self.device.source_of(error) if self.device is not None else "", error)
