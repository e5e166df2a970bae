"""The frame in which each pixel is sharpest, found frame by frame without keeping the focus volume.

What is kept per pixel: the largest focus measure so far and the measures of up to two frames on either
side of it, its frame, two running sums for the confidence, and the grey or colour value of that frame.

**Height.** The logarithm of the focus measure is close to a parabola around its peak (exactly one where
the curve is a Gaussian in z), so the vertex of the parabola through the best frame and its neighbours
lies between the frames. Where the peak is broad against the step, the vertex of three neighbouring frames
is ruled by noise; there the parabola through the second neighbours, with its longer lever, joins in.
A height is NaN only where nothing at all is known: the focus measure is zero in every frame.

**Confidence** answers one question: how far does the peak rise above what noise does by chance? With
``others`` the mean measure of the other frames, the rise ``best - others`` is counted in units of the
spread that noise gives the measure. That spread is read off the bends of the curve away from the peak: the
second differences of noise have six times its variance. Few frames tell little, so the spread of white
noise of the level ``others`` in this window has the weight of two more; noise that is not white (JPEG
blocks, interpolated colours) shows in the bends. The largest of N noise values rises by about sqrt(2 ln N)
units; from there the confidence goes from 0 towards 1: 0.25 at 1 unit, below which the pixel is flagged
NO_PEAK, and 0.5 at 3 units. A peak on the first or last frame, or beside a frame that does not show the
pixel, keeps a quarter of it, for the true peak may lie beyond.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.height_map import Flag

Plane = NDArray[np.float32]

BROAD = (0.1, 0.2)
"""Mean fall of the log measure from the best frame to its neighbours: below the first value the second
neighbours count fully, above the second not at all. Chosen on simulated and on real stacks: rules that use
the second neighbours on narrow peaks, too, are pulled aside by the noise floor."""
PRIOR_FRAMES = np.float32(2)
"""How many frames' worth of evidence the estimate from white noise has against the bends of the curve."""
LEAST_SPREAD = 0.5
"""However smooth the curve, this much of the spread of white noise remains: not all that misleads is noise."""
HALF_CONFIDENCE_RISE = 3.0
LEAST_CONFIDENCE = 0.25
END_CONFIDENCE = 0.25
OUTSIDE = np.float32(-1)
"""Stands for the measure of a pixel that a frame does not show; a measure is never negative."""


@dataclass(frozen=True)
class Peaks:
    """The outcome for (H, W) pixels, in the terms of :class:`models.height_map.HeightMap`."""

    height_um: Plane
    confidence: Plane
    flags: NDArray[np.uint8]


class PeakSearch:
    """Running maximum over the frames of a sweep; separate rows may be added from several threads."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        """``shape`` is (H, W) or (H, W, 3), that of the frames; ``dtype`` theirs."""
        plane = shape[:2]
        self.best = np.full(plane, OUTSIDE)
        # Measures of the neighbours, nearest first. Those after the best frame hold a left-over until they arrive.
        self.before = (np.zeros(plane, np.float32), np.zeros(plane, np.float32))
        self.after = (np.zeros(plane, np.float32), np.zeros(plane, np.float32))
        self.recent = (np.zeros(plane, np.float32), np.zeros(plane, np.float32))  # frame k in [k % 2]
        self.is_last = np.zeros(plane, np.uint8)  # 255 where the best frame is the one added last,
        self.is_second_last = np.zeros(plane, np.uint8)  # or the one before
        self.index = np.zeros(plane, np.uint16)
        self.sum = np.zeros(plane, np.float32)
        self.sum_of_squared_bends = np.zeros(plane, np.float32)
        self.all_in_focus = np.zeros(shape, dtype)
        self.frames_outside = np.zeros(plane, np.uint16)

    def add(
        self,
        rows: slice,
        measure: Plane,
        image: NDArray[Any],
        index: int,
        *,
        rising: bool,
        inside: NDArray[np.uint8] | None = None,
    ) -> None:
        """Take in the ``measure`` of ``rows`` of frame ``index``; ``image`` are these rows of the frame.

        ``inside`` is 255 where the frame has this pixel, 0 where aligning left it outside; None = everywhere.

        Of two equal measures the one at the larger z wins, whichever came first (``rising``: z grows from
        frame to frame), so that a sweep gives the same map in both directions.
        """
        best, is_last, is_second_last = self.best[rows], self.is_last[rows], self.is_second_last[rows]
        last, second_last = self.recent[(index + 1) % 2][rows], self.recent[index % 2][rows]
        if inside is not None:
            measure = np.where(inside > 0, measure, OUTSIDE)
            self.frames_outside[rows] += inside == 0
        cv2.copyTo(measure, is_last, self.after[0][rows])
        cv2.copyTo(measure, is_second_last, self.after[1][rows])
        is_better = cv2.compare(measure, best, cv2.CMP_GE if rising else cv2.CMP_GT)
        cv2.bitwise_and(is_last, cv2.bitwise_not(is_better), dst=is_second_last)
        is_last[...] = is_better
        cv2.copyTo(last, is_better, self.before[0][rows])
        cv2.copyTo(second_last, is_better, self.before[1][rows])
        cv2.max(measure, best, dst=best)
        cv2.copyTo(np.full(best.shape, index, np.uint16), is_better, self.index[rows])
        cv2.copyTo(image, is_better, self.all_in_focus[rows])
        cv2.accumulate(measure, self.sum[rows], mask=inside)
        if index > 1:
            bend = cv2.scaleAdd(last, -2, measure)
            cv2.add(bend, second_last, dst=bend)
            if inside is not None:
                bend[(inside == 0) | (last < 0) | (second_last < 0)] = 0
            cv2.accumulateSquare(bend, self.sum_of_squared_bends[rows])
        second_last[...] = measure

    def peaks(self, rows: slice, z_um: NDArray[np.float64], relative_noise: float) -> Peaks:
        """Height, confidence and flags of ``rows`` after the frames at ``z_um`` (n,), n >= 2, have been added.

        ``relative_noise``: standard deviation over mean of the measure on white noise.
        """
        index, best, count = self.index[rows], self.best[rows], len(z_um)
        neighbours = [(self.before[i][rows], self.after[i][rows]) for i in (0, 1)]
        height_um = interpolate(best, neighbours, index, z_um)
        rest = np.maximum(np.float32(count - 1) - self.frames_outside[rows], 1)
        others = (self.sum[rows] - best) / rest
        white = np.maximum(others * np.float32(relative_noise), np.float32(1e-12))
        own, own_count = bends_of_peak(best, neighbours, index, count)
        bends = np.maximum(self.sum_of_squared_bends[rows] - own, 0) / (6 * white**2)
        evidence = np.maximum(rest - 1 - own_count, 0)
        spread = white * np.maximum(cv2.sqrt((bends + PRIOR_FRAMES) / (evidence + PRIOR_FRAMES)), LEAST_SPREAD)
        by_chance = np.float32(np.sqrt(2 * np.log(count)))
        rise = np.maximum((best - others) - by_chance * spread, 0)
        confidence = rise / np.maximum(rise + np.float32(HALF_CONFIDENCE_RISE) * spread, np.finfo(np.float32).tiny)
        flags = (confidence < LEAST_CONFIDENCE).astype(np.uint8) * np.uint8(Flag.NO_PEAK)
        at_end = (index == 0) | (index == count - 1)
        flags[at_end] |= np.uint8(Flag.PEAK_AT_END)
        before, after = neighbours[0]
        outside = (before < 0) | (after < 0) & (index < count - 1) | (best < 0)
        flags[outside] |= np.uint8(Flag.OUTSIDE)
        confidence[at_end | outside] *= np.float32(END_CONFIDENCE)
        height_um[best <= 0] = np.nan
        return Peaks(height_um, confidence, flags)


def bends_of_peak(
    best: Plane, neighbours: list[tuple[Plane, Plane]], index: NDArray[np.uint16], count: int
) -> tuple[Plane, Plane]:
    """Sum of the squared second differences at the best frame and beside it, and how many there are, all (H, W).

    ``neighbours`` as in :func:`interpolate`. Those that reach beyond the stack or to an OUTSIDE measure do not exist.
    """
    (before, after), (second_before, second_after) = neighbours
    total, number = np.zeros_like(best), np.zeros_like(best)
    for first, middle, last, centre in (
        (second_before, before, best, -1),
        (before, best, after, 0),
        (best, after, second_after, 1),
    ):
        shown = cv2.min(cv2.min(first, last), middle) >= 0
        exists = shown & (index >= 1 - centre) & (index <= count - 2 - centre)
        bend = cv2.add(cv2.scaleAdd(middle, -2, first), last)
        cv2.accumulateSquare(bend, total, mask=exists.view(np.uint8))
        number += exists
    return total, number


def interpolate(
    best: Plane, neighbours: list[tuple[Plane, Plane]], index: NDArray[np.uint16], z_um: NDArray[np.float64]
) -> Plane:
    """The z of the peak from the largest measure and those of the frames around it, all (H, W).

    ``neighbours``: the measures of the frames before and after the best one, then of the second before and
    after. ``index`` is the best frame, ``z_um`` (n,) all heights, on equal steps or not. The result stays
    between the frames next to the best one. On the first and last frame, and where a neighbour is OUTSIDE,
    it is the z of the best frame.
    """
    count = len(z_um)
    place = index.astype(np.intp)  # what lookups are fastest with
    lowest = best * np.float32(1e-6) + np.finfo(np.float32).tiny
    log_best = cv2.log(np.maximum(best, lowest))

    def parabola(distance: int) -> tuple[Plane, Plane, Plane]:
        """Slope, curvature at the best frame and mean fall to the neighbours that many frames away."""
        table = np.empty((2, count), np.float32)  # their z, seen from the best frame
        table[0], table[1] = z_um[0] - z_um[-1], z_um[-1] - z_um[0]  # any will do where there is no neighbour
        table[0, distance:] = z_um[:-distance] - z_um[distance:]
        table[1, :-distance] = z_um[distance:] - z_um[:-distance]
        before, after = neighbours[distance - 1]
        z_before, z_after = np.take(table[0], place), np.take(table[1], place)
        fall_before = cv2.log(np.maximum(before, lowest)) - log_best
        fall_after = cv2.log(np.maximum(after, lowest)) - log_best
        chord_before, chord_after = fall_before / z_before, fall_after / z_after
        curvature = (chord_after - chord_before) / (z_after - z_before)
        return chord_after - curvature * z_after, curvature, (fall_before + fall_after) * np.float32(-0.5)

    slope, curvature, fall = parabola(1)
    if count >= 5:
        weight = np.clip((BROAD[1] - fall) * np.float32(4 / (BROAD[1] - BROAD[0])), 0, 4)
        weight[(index < 2) | (index >= count - 2) | (np.minimum(*neighbours[1]) < 0)] = 0
        far_slope, far_curvature, _far_fall = parabola(2)
        slope += weight * far_slope
        curvature += weight * far_curvature
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        offset = slope / (-2 * curvature)
    offset[(curvature >= 0) | (np.minimum(*neighbours[0]) < 0)] = 0
    below = np.concatenate([[0], np.diff(z_um)]).astype(np.float32)
    above = np.concatenate([np.diff(z_um), [0]]).astype(np.float32)
    low, high = np.minimum(-below, above), np.maximum(-below, above)
    low[[0, -1]] = high[[0, -1]] = 0
    offset = np.clip(offset, np.take(low, place), np.take(high, place))
    height_um: Plane = (np.take(z_um, place) + offset).astype(np.float32)
    return height_um
