"""What every camera can do, and how it says that it cannot."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.errors import ReliefscopeError
from models.language import _


class CameraError(ReliefscopeError):
    """The camera refused, failed or does not answer."""


class CameraDisconnected(CameraError):
    """The connection is gone: cable, power or another program. ``reconnect`` may bring it back."""


class Roi(BaseModel):
    """The part of the sensor that is read out, in pixels of the sensor; ``left``, ``top`` count from 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    left: int = Field(default=0, ge=0)
    top: int = Field(default=0, ge=0)
    width: int = Field(ge=8)
    height: int = Field(ge=8)


class CameraSettings(BaseModel):
    """Exposure in ms, gain as a factor (1 = none), bits per pixel as delivered; ``roi`` None: the whole sensor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exposure_ms: float = Field(default=10.0, gt=0)
    gain: float = Field(default=1.0, ge=1.0)
    bit_depth: int = Field(default=8)
    roi: Roi | None = None


@dataclass(frozen=True)
class CameraRanges:
    """What the camera accepts: (lowest, highest) exposure and gain, and the bit depths.

    ``sensor_shape``: (H, W) within which a region may be read out; None where only the whole picture comes.
    """

    exposure_ms: tuple[float, float]
    gain: tuple[float, float]
    bit_depths: tuple[int, ...]
    sensor_shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class CameraIdentity:
    """Which camera it is: what a profile remembers and a captured file tells. Empty where it does not say."""

    driver: str
    vendor: str = ""
    model: str = ""
    serial: str = ""


@dataclass(frozen=True)
class Picture:
    """One image (H, W[, 3]) uint8 or uint16, colours in RGB order, and the moment when its exposure began.

    ``time_s`` is on the clock of ``time.monotonic()``, and never later than the true beginning.
    """

    image: NDArray[Any]
    time_s: float


class Camera(Protocol):
    """A driver. All calls come from one thread at a time; ``snap`` blocks for about one exposure."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> CameraIdentity: ...
    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, 3) of every picture."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 for 8 bit, uint16 above."""
        ...

    @property
    def ranges(self) -> CameraRanges: ...
    @property
    def settings(self) -> CameraSettings:
        """What the camera really uses; it may round what :meth:`apply` was given to its own steps."""
        ...

    @property
    def dropped_frames(self) -> int:
        """Pictures lost or corrupt since the camera was opened. Each was taken again: none is missing."""
        ...

    def apply(self, settings: CameraSettings) -> None:
        """Raises CameraError where a value is out of range, naming it; then the old settings stay in force."""
        ...

    def snap(self) -> Picture:
        """A picture whose exposure began after this call: never a buffered old one.

        Raises CameraDisconnected where the camera is gone, CameraError where it fails otherwise. No call waits forever.
        """
        ...

    def reconnect(self) -> None:
        """Open the same camera again with the same settings, after CameraDisconnected. Raises CameraError."""
        ...

    def close(self) -> None:
        """Let go of the camera. Never raises."""
        ...


@runtime_checkable
class TriggeredCamera(Camera, Protocol):
    """A camera that a stage's controller can release by a wire, for stacks timed by the hardware."""

    def arm(self, frame_count: int) -> None:
        """From here to :meth:`disarm` every pulse on the trigger line takes one picture.

        Raises CameraError, also where the camera cannot tell which picture belongs to which pulse.
        """
        ...

    def next_picture(self, timeout_s: float) -> Picture:
        """The next picture, in the order of the pulses; its ``time_s`` is told by the camera's own clock, not by its
        arrival. Raises CameraError where one is late, lost, corrupt or from before :meth:`arm`.
        """
        ...

    def disarm(self) -> None:
        """Back to pictures by :meth:`Camera.snap`. Raises CameraError."""
        ...


def check_settings(camera_name: str, settings: CameraSettings, ranges: CameraRanges) -> None:
    """Raises CameraError that says which value this camera cannot do and what it can."""
    for what, value, (low, high) in (
        (_("an exposure of {value:g} ms"), settings.exposure_ms, ranges.exposure_ms),
        (_("a gain of {value:g}"), settings.gain, ranges.gain),
    ):
        if not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
            raise CameraError(
                _("{camera} cannot do {what}; choose {low:g} to {high:g}.").format(
                    camera=camera_name, what=what.format(value=value), low=low, high=high
                )
            )
    if settings.bit_depth not in ranges.bit_depths:
        raise CameraError(
            _("{camera} cannot do {depth} bit; choose one of {depths}.").format(
                camera=camera_name,
                depth=settings.bit_depth,
                depths=", ".join(str(depth) for depth in ranges.bit_depths),
            )
        )
    roi = settings.roi
    if roi is None:
        return
    if ranges.sensor_shape is None:
        raise CameraError(_("{camera} always reads out its whole sensor; remove the ROI.").format(camera=camera_name))
    height, width = ranges.sensor_shape
    if roi.left + roi.width > width or roi.top + roi.height > height:
        raise CameraError(
            _("{camera}: the ROI reaches beyond the sensor of {width} × {height} pixels.").format(
                camera=camera_name, width=width, height=height
            )
        )
