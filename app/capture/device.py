"""What is done with a microscope in its own thread: plain functions, without a window."""

import logging
from dataclasses import dataclass
from pathlib import Path

from app.capture.picture import SteadyLevels, look_at, white_of
from hardware.camera import Camera, CameraError, CameraRanges, CameraSettings
from hardware.profile import Microscope
from hardware.stage import StageError
from models.errors import ReliefscopeError
from models.focal_stack import Optics
from models.language import _
from models.storage import frames_written, recover

log = logging.getLogger(__name__)

EXPOSURE_AIM, EXPOSURE_CLIPPED, EXPOSURE_TRIES = 0.85, 0.001, 6


@dataclass(frozen=True)
class Device:
    """What the window needs to know about the connected microscope."""

    profile: str
    name: str
    stage_name: str
    camera_name: str
    limits_um: tuple[float, float]
    ranges: CameraRanges
    pixel_um: float | None
    optics: Optics | None

    def source_of(self, error: Exception) -> str:
        """Which device an error is about, empty where it is about neither."""
        if isinstance(error, CameraError):
            return self.camera_name
        return self.stage_name if isinstance(error, StageError) else ""


@dataclass(frozen=True)
class CaptureEnd:
    """How a capture ended: the file (None where no frame was kept), frames kept, and why it ended early."""

    path: Path | None
    frame_count: int
    planned: int
    reason: str = ""


def describe(profile_name: str, microscope: Microscope) -> Device:
    """What the window shows of an open microscope."""
    axis, camera = microscope.axis, microscope.camera
    return Device(
        profile=profile_name,
        name=_(microscope.profile.title),
        stage_name=axis.name,
        camera_name=camera.name,
        limits_um=axis.limits_um,
        ranges=camera.ranges,
        pixel_um=microscope.pixel_um,
        optics=microscope.optics,
    )


def auto_exposure(camera: Camera) -> None:
    """Search the exposure at which the brightest part of the picture nearly fills the range."""
    low, high = camera.ranges.exposure_ms
    for _try in range(EXPOSURE_TRIES):
        settings = camera.settings
        white = white_of(camera.dtype, settings.bit_depth)
        picture = look_at(camera.snap().image, white, SteadyLevels(), time_s=0.0, z_um=None)
        brightest = picture.levels[1] / white
        clipped = picture.clipped > EXPOSURE_CLIPPED
        if not clipped and abs(brightest - EXPOSURE_AIM) < 0.05:
            return
        factor = 0.5 if clipped else EXPOSURE_AIM / max(brightest, 0.05)
        exposure_ms = min(max(settings.exposure_ms * factor, low), high)
        if exposure_ms == settings.exposure_ms:
            return
        camera.apply(settings.model_copy(update={"exposure_ms": exposure_ms}))


def apply_what_fits(microscope: Microscope, settings: CameraSettings) -> None:
    """Remembered settings from another camera may be out of range: then the camera keeps its own.

    The region of the sensor is not remembered: it is the profile's.
    """
    try:
        microscope.camera.apply(settings.model_copy(update={"roi": microscope.camera.settings.roi}))
    except CameraError as error:
        log.info("The remembered camera settings do not fit: %s", error)


def what_is_kept(path: Path, planned: int, reason: str) -> CaptureEnd:
    """After an early end the frames on disk become a regular, shorter stack."""
    if not reason:
        return CaptureEnd(path, planned, planned)
    try:
        kept = frames_written(path)[0] if path.exists() else 0
        if kept >= 2:
            recover(path)
    except ReliefscopeError as error:
        log.warning("The frames in %s could not be made a regular stack: %s", path, error)
        kept = 0
    return CaptureEnd(path if kept >= 2 else None, kept, planned, reason)
