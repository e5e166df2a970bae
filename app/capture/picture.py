"""What the live view shows of one picture: histogram, display levels that do not flicker, sharpness."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BINS = 256
LOW_PERCENT, HIGH_PERCENT = 0.5, 99.8
NOISE_SIGMA_PX = 1.5
"""Blur before the sharpness: without it the noise of single pixels outweighs all detail but the finest."""
SAMPLES = 1 << 16
"""Statistics look at about this many pixels: enough for a smooth histogram, cheap at camera rate."""


@dataclass(frozen=True)
class LivePicture:
    """One picture with its statistics. ``histogram``: (256,) share of the pixels per bin from 0 to ``white``.

    ``levels``: black and white point of the display. ``clipped``: share of pixels at ``white``.
    ``sharpness``: mean squared Laplacian over the squared mean, in 1e-5: independent of the exposure.
    """

    image: NDArray[Any]
    white: int
    histogram: NDArray[np.float64]
    levels: tuple[float, float]
    clipped: float
    sharpness: float
    time_s: float
    z_um: float | None = None


class SteadyLevels:
    """Display levels that follow the picture slowly and ignore small changes, so that the display does not flicker.

    A new picture pulls the levels by ``pull`` of the way once its percentiles differ from them by more
    than ``slack`` of the span, and on until they are met; a jump of more than ``jump`` is followed at once.
    """

    def __init__(self, *, pull: float = 0.2, slack: float = 0.08, jump: float = 0.5) -> None:
        self._pull, self._slack, self._jump = pull, slack, jump
        self._levels: tuple[float, float] | None = None
        self._moving = False

    def follow(self, low: float, high: float) -> tuple[float, float]:
        if self._levels is None:
            self._levels = (low, high)
        old_low, old_high = self._levels
        span = max(old_high - old_low, 1.0)
        distance = max(abs(low - old_low), abs(high - old_high)) / span
        if distance > self._jump:
            self._levels, self._moving = (low, high), False
        elif distance > self._slack or self._moving:
            self._levels = (old_low + self._pull * (low - old_low), old_high + self._pull * (high - old_high))
            self._moving = distance > self._slack / 4
        return self._levels

    def forget(self) -> None:
        """The next picture decides alone."""
        self._levels = None


def look_at(
    image: NDArray[Any], white: int, steady: SteadyLevels | None, *, time_s: float, z_um: float | None
) -> LivePicture:
    """Statistics of an image (H, W[, 3]) uint8 or uint16 whose largest value is ``white``.

    ``steady`` None shows the whole range from 0 to ``white``.
    """
    grey = image if image.ndim == 2 else image[..., 1]
    stride = max(1, int(np.sqrt(grey.size / SAMPLES)))
    sample = grey[::stride, ::stride]
    histogram = (
        np.bincount((sample.ravel().astype(np.int64) * (BINS - 1)) // white, minlength=BINS)[:BINS] / sample.size
    )
    if steady is None:
        levels = (0.0, float(white))
    else:
        low, high = np.percentile(sample, (LOW_PERCENT, HIGH_PERCENT))
        levels = steady.follow(float(low), float(max(high, low + white / BINS)))
    return LivePicture(
        image=image,
        white=white,
        histogram=histogram,
        levels=levels,
        clipped=float(np.mean(sample >= white)),
        sharpness=sharpness(grey),
        time_s=time_s,
        z_um=z_um,
    )


def sharpness(grey: NDArray[Any]) -> float:
    """Energy of the Laplacian over the squared mean, times 1e5, of the middle of an image (H, W). Noise is blurred."""
    rows, columns = grey.shape
    middle = grey[rows // 2 - min(rows, 512) // 2 :, columns // 2 - min(columns, 512) // 2 :][:512, :512]
    middle = cv2.GaussianBlur(middle.astype(np.float32), (0, 0), NOISE_SIGMA_PX)
    mean = float(middle.mean())
    if mean <= 0:
        return 0.0
    return 1e5 * float(np.mean(np.square(cv2.Laplacian(middle, cv2.CV_32F)))) / mean**2


def white_of(dtype: np.dtype[Any], bit_depth: int) -> int:
    """The largest value that a pixel can have."""
    return 255 if dtype == np.uint8 else (1 << bit_depth) - 1
