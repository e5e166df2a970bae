"""What every camera can do, and how it says that it cannot."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.errors import ReliefscopeError


class CameraError(ReliefscopeError):
    """The camera refused, failed or does not answer."""


class CameraSettings(BaseModel):
    """Exposure in ms, gain as a factor (1 = none), bits per pixel as delivered (8, 12 or 16)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exposure_ms: float = Field(default=10.0, gt=0)
    gain: float = Field(default=1.0, ge=1.0)
    bit_depth: int = Field(default=8)


@dataclass(frozen=True)
class CameraRanges:
    """What the camera accepts: (lowest, highest) exposure and gain, and the bit depths."""

    exposure_ms: tuple[float, float]
    gain: tuple[float, float]
    bit_depths: tuple[int, ...]


@dataclass(frozen=True)
class Picture:
    """One image (H, W[, 3]) uint8 or uint16 and the moment when its exposure began.

    ``time_s`` is on the clock of ``time.monotonic()``.
    """

    image: NDArray[Any]
    time_s: float


class Camera(Protocol):
    """A driver. All calls come from one thread at a time; ``snap`` blocks for about one exposure."""

    @property
    def name(self) -> str: ...
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
    def settings(self) -> CameraSettings: ...
    def apply(self, settings: CameraSettings) -> None:
        """Raises CameraError where a value is out of range, naming it."""
        ...

    def snap(self) -> Picture:
        """A picture whose exposure began after this call: never a buffered old one. Raises CameraError."""
        ...

    def close(self) -> None: ...
