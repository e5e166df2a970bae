"""The frame in which each pixel is sharpest, found frame by frame without keeping the focus volume.

What is kept per pixel: the largest focus measure so far, the measures of the frames just before and
just after it, its frame, running sums for the confidence, and the grey or colour value of that frame.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.height_map import Flag

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Peaks:
    """The outcome for (H, W) pixels, in the terms of :class:`models.height_map.HeightMap`."""

    height_um: Plane
    confidence: Plane
    flags: NDArray[np.uint8]


class PeakSearch:
    """Running maximum over the frames of a sweep; strips of rows may be added from several threads."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        """``shape`` is (H, W) or (H, W, 3), that of the frames; ``dtype`` theirs."""
        plane = shape[:2]
        self.best = np.full(plane, -1, np.float32)
        self.before = np.zeros(plane, np.float32)
        self.after = np.zeros(plane, np.float32)
        self.last = np.zeros(plane, np.float32)
        self.sum = np.zeros(plane, np.float32)
        self.sum_of_squares = np.zeros(plane, np.float32)
        self.is_last = np.zeros(plane, np.uint8)  # 255 where the best frame is the one added last
        self.index = np.zeros(plane, np.uint16)
        self.all_in_focus = np.zeros(shape, dtype)

    def add(self, rows: slice, measure: Plane, image: NDArray[Any], index: int, *, rising: bool) -> None:
        """Take in the ``measure`` of ``rows`` of frame ``index``; ``image`` are these rows of the frame.

        Of two equal measures the one at the larger z wins, whichever came first (``rising``: z grows from
        frame to frame), so that a sweep gives the same map in both directions.
        """
        best, last, is_last = self.best[rows], self.last[rows], self.is_last[rows]
        cv2.copyTo(measure, is_last, self.after[rows])
        cv2.compare(measure, best, cv2.CMP_GE if rising else cv2.CMP_GT, dst=is_last)
        cv2.copyTo(last, is_last, self.before[rows])
        cv2.copyTo(measure, is_last, best)
        cv2.copyTo(np.full(best.shape, index, np.uint16), is_last, self.index[rows])
        cv2.copyTo(image, is_last, self.all_in_focus[rows])
        cv2.accumulate(measure, self.sum[rows])
        cv2.accumulateSquare(measure, self.sum_of_squares[rows])
        last[...] = measure

    def peaks(self, rows: slice, z_um: NDArray[np.float64]) -> Peaks:
        """Height, confidence and flags of ``rows`` after the frames at ``z_um`` (n,) have been added."""
        index, best = self.index[rows], self.best[rows]
        count = len(z_um)
        at_end = (index == 0) | (index == count - 1)
        height_um = interpolate(best, self.before[rows], self.after[rows], index, z_um)
        flags = np.where(at_end, np.uint8(Flag.PEAK_AT_END), np.uint8(0))
        others = (self.sum[rows] - best) / max(count - 1, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            confidence = np.where(best > 0, np.clip(1 - others / best, 0, 1), 0).astype(np.float32)
        confidence[at_end] *= 0.25
        dead = best <= 0
        height_um[dead] = np.nan
        flags[dead] |= np.uint8(Flag.NO_PEAK)
        return Peaks(height_um, confidence, flags)


def interpolate(
    best: Plane, before: Plane, after: Plane, index: NDArray[np.uint16], z_um: NDArray[np.float64]
) -> Plane:
    """The z of the vertex of the parabola through the logarithms of three neighbouring measures.

    Exact where the focus curve is a Gaussian in z, also on unequal steps. The vertex is held between the
    two neighbours; on the first and last frame it is the z of that frame.
    """
    count = len(z_um)
    gap = np.diff(z_um, prepend=np.nan, append=np.nan)
    below = np.nan_to_num(-gap[:-1]).astype(np.float32)[index]  # z of the frame before, from the best one
    above = np.nan_to_num(gap[1:]).astype(np.float32)[index]
    tiny = np.maximum(best, np.finfo(np.float32).tiny) * np.float32(1e-6)
    log_before = cv2.log(np.maximum(before, tiny) / np.maximum(best, tiny))
    log_after = cv2.log(np.maximum(after, tiny) / np.maximum(best, tiny))
    with np.errstate(invalid="ignore", divide="ignore"):
        slope_before, slope_after = log_before / below, log_after / above
        curvature = (slope_before - slope_after) / (below - above)
        offset = curvature * below - slope_before
        offset /= 2 * curvature
    inside = (index > 0) & (index < count - 1) & np.isfinite(offset)
    offset = np.clip(offset, np.minimum(below, above), np.maximum(below, above))
    z0 = z_um[index]
    return np.where(inside, z0 + offset, z0).astype(np.float32)
