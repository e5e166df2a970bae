"""Lateral drift and magnification change (focus breathing) between the frames of a sweep.

Every frame is registered onto a running mean of the aligned ones before it and so, link by link, onto the
first. The two differ in blur: what is sharp in one is soft in the other. Therefore their middle
frequencies are compared, which both share, with a free gain; the difference is made least by Gauss-Newton
steps with the mean gradient of both images (Malis, ICRA 2004: converges like Newton's method), from a
coarse level of an image pyramid to a finer one. A phase correlation offers a second start after a jump.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.methods import Alignment

Image = NDArray[np.float32]
Affine = NDArray[np.float64]
"""(2, 3) map of a pixel (x, y, 1) of the first frame to where it lies in another frame."""

SMALLEST_LEVEL_PX = 48
LARGEST_LEVEL_PX = 1024
JUMP_LEVEL_PX = 200
"""Jumps are looked for on the first level of this size: large enough to be distinctive, small enough to be quick."""
MOST_STEPS = 12
SETTLED_PX = 0.005
NEWEST_WEIGHT = 0.5
LEAST_CORRELATION = 0.2
LEAST_SIDE_PX = 16
"""Smaller frames show too little to be matched; they keep their place."""
LARGEST_CHANGE = 0.2
"""From one frame to the next the magnification may change by this much and the picture move by this part of it."""


@dataclass(frozen=True)
class Aligned:
    """A frame brought onto the first one. ``inside``: (H, W) uint8, 255 where it has pixels; None = everywhere."""

    frame: NDArray[Any]
    inside: NDArray[np.uint8] | None


@dataclass(frozen=True)
class _Level:
    """One image of a pyramid; a pixel (x, y) of the frame lies at (scale x, scale y) in it."""

    image: Image
    scale: float


class Aligner:
    """Aligns frames one by one. Where no convincing match is found, a frame keeps the place of the one before."""

    def __init__(self, mode: Alignment) -> None:
        self._mode = mode
        self._mean: Image = np.zeros((1, 1), np.float32)  # of the aligned frames, the latest counting most
        self._maps: list[Affine] = []
        self._shape = (1, 1)

    @property
    def drift_px(self) -> NDArray[np.float64]:
        """(n, 2) rows and columns by which the centre of the first frame has moved in each frame."""
        centre = (np.array(self._shape[::-1]) - 1) / 2
        moved = [m[:, :2] @ centre + m[:, 2] - centre for m in self._maps]
        return np.array(moved, dtype=np.float64).reshape(-1, 2)[:, ::-1]

    @property
    def magnification(self) -> NDArray[np.float64]:
        """(n,) scale of each frame against the first."""
        return np.array([np.hypot(m[0, 0], m[1, 0]) for m in self._maps], dtype=np.float64)

    def align(self, frame: NDArray[Any], grey: NDArray[Any]) -> Aligned:
        """``frame`` (H, W[, 3]) brought onto the first one; ``grey`` (H, W) is its grey image."""
        if self._mode == "none" or not self._maps or min(grey.shape) < LEAST_SIDE_PX:
            self._maps.append(np.eye(2, 3))
            self._shape = grey.shape
            if self._mode != "none":
                self._mean = grey.astype(np.float32)
            return Aligned(frame, None)
        found = _register(_pyramid(self._mean), _pyramid(grey), self._maps[-1], scaling=self._mode == "similarity")
        self._maps.append(found)
        inside = _warp(np.full(grey.shape, 255, np.uint8), found, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
        cv2.accumulateWeighted(_warp(grey, found), self._mean, NEWEST_WEIGHT, mask=inside)
        return Aligned(_warp(frame, found), inside)


def _warp(
    image: NDArray[Any], place: Affine, interpolation: int = cv2.INTER_CUBIC, border: int = cv2.BORDER_REFLECT_101
) -> NDArray[Any]:
    """The values of ``image`` at ``place`` of every pixel."""
    size = image.shape[1::-1]
    return np.asarray(cv2.warpAffine(image, place, size, flags=interpolation | cv2.WARP_INVERSE_MAP, borderMode=border))


def _pyramid(grey: NDArray[Any]) -> list[_Level]:
    """The middle frequencies of a frame, coarse to fine, with unit variance on every level."""
    image, scale = grey.astype(np.float32), 1.0
    levels = []
    while True:
        if max(image.shape) <= LARGEST_LEVEL_PX:
            levels.append(_Level(_middle_frequencies(image), scale))
        if levels and min(image.shape) < 2 * SMALLEST_LEVEL_PX:
            return levels[::-1]
        image, scale = cv2.pyrDown(image), scale / 2


def _middle_frequencies(image: Image) -> Image:
    band = cv2.subtract(cv2.GaussianBlur(image, (0, 0), 1.0), cv2.GaussianBlur(image, (0, 0), 4.0))
    spread = float(band.std())
    return np.asarray(band / spread if spread > 0 else band, dtype=np.float32)


def _at_scale(place: Affine, scale: float) -> Affine:
    """The same map between images that are ``scale`` times as large."""
    return np.column_stack([place[:, :2], place[:, 2] * scale])


def _after(place: Affine, change: Affine) -> Affine:
    """The map that applies ``change`` first."""
    return np.asarray((np.vstack([place, [0, 0, 1]]) @ np.vstack([change, [0, 0, 1]]))[:2])


def _register(reference: list[_Level], moving: list[_Level], start: Affine, *, scaling: bool) -> Affine:
    """The map under which ``moving`` looks like ``reference``; ``start`` where none is convincing."""
    middle = next((i for i, level in enumerate(moving) if max(level.image.shape) >= JUMP_LEVEL_PX), len(moving) - 1)
    target, image, scale = reference[middle].image, moving[middle].image, moving[middle].scale
    still = _at_scale(start, scale)
    hanning = cv2.createHanningWindow(target.shape[::-1], cv2.CV_32F)
    (dx, dy), _response = cv2.phaseCorrelate(target, _warp(image, still), hanning)
    jumped = _after(still, np.array([[1, 0, dx], [0, 1, dy]]))
    found = max((still, jumped), key=lambda place: _correlation(target, _warp(image, place)))
    found = _at_scale(found, 1 / scale)
    for level, other in zip(reference, moving, strict=True):
        found = _refine(level.image, other.image, _at_scale(found, level.scale), scaling=scaling)
        found = _at_scale(found, 1 / level.scale)
    rest = np.abs(found - start) / [[1, 1, max(level.image.shape) / level.scale]]
    matched = _correlation(level.image, _warp(other.image, _at_scale(found, level.scale)))
    return found if rest.max() < LARGEST_CHANGE and matched > LEAST_CORRELATION else start


def _correlation(a: Image, b: Image) -> float:
    norm = float(cv2.norm(a)) * float(cv2.norm(b))
    return float(np.vdot(a, b)) / norm if norm > 0 else 0.0


def _refine(target: Image, image: Image, place: Affine, *, scaling: bool) -> Affine:
    """Gauss-Newton steps towards the least squared difference between ``target`` and ``image`` at ``place``."""
    rows, columns = target.shape
    x = np.arange(columns, dtype=np.float32)[None, :] - np.float32((columns - 1) / 2)
    y = np.arange(rows, dtype=np.float32)[:, None] - np.float32((rows - 1) / 2)
    ones = np.ones(image.shape, np.float32)
    target_slope = _slope(target)
    for _step in range(MOST_STEPS):
        seen = _warp(image, place)  # cubic: a linear look-up biases the match towards whole pixels
        weight = _warp(ones, place, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT)
        gain = float(np.vdot(target, seen)) / max(float(np.vdot(seen, seen)), 1e-12)
        if gain <= 0:
            return place
        seen *= gain
        by_x, by_y = ((a + b) * weight / 2 for a, b in zip(target_slope, _slope(seen), strict=True))
        columns_of_j = [by_x, by_y]
        if scaling:
            columns_of_j += [by_x * x + by_y * y, by_y * x - by_x * y]
        normal = np.array([[np.vdot(a, b) for b in columns_of_j] for a in columns_of_j], dtype=np.float64)
        wanted = np.array([np.vdot(a, target - seen) for a in columns_of_j], dtype=np.float64)
        if np.linalg.cond(normal / np.sqrt(np.outer(np.diag(normal), np.diag(normal)) + 1e-30)) > 1e6:
            return place
        dx, dy, *rest = np.linalg.solve(normal, wanted)
        growth, turn = rest or (0.0, 0.0)
        linear = np.array([[1 + growth, -turn], [turn, 1 + growth]])
        centre = np.array([(columns - 1) / 2, (rows - 1) / 2])
        change = np.column_stack([linear, centre - linear @ centre + [dx, dy]])
        place = _after(place, change)
        if max(abs(dx), abs(dy), np.hypot(growth, turn) * max(rows, columns) / 2) < SETTLED_PX:
            break
    return place


def _slope(image: Image) -> tuple[Image, Image]:
    """Central differences along x and y, zero on the outermost pixels."""
    kernel = np.array([[-0.5, 0, 0.5]], np.float32)
    return cv2.filter2D(image, -1, kernel), cv2.filter2D(image, -1, kernel.T)
