"""Regularisation: where a pixel's own focus peak is weak, confident neighbours decide.

A neighbourhood estimate is made first: the mean of the heights around, each with the precision that its
confidence stands for. It spreads along rows and columns by the fast global smoother (Min et al., IEEE TIP 23
(2014) 5638: a sequence of tridiagonal systems, cost linear in the pixels), and not across edges: of the image
in focus, or between two heights that are both confident. It is made twice: the second time, heights far off
the first estimate lose their say, and the edges are those of the map as it stands by then. At the end each
pixel takes the mean of its own height and the estimate, weighted by its own precision and by the strength of
the regularisation.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.focus.measures import to_grey
from models.focus.peak import HALF_CONFIDENCE_RISE
from models.height_map import Flag, HeightMap

Plane = NDArray[np.float32]

SPREAD = 10.0
"""The smoother's lambda: estimates reach about its square root in pixels, and further where nothing is known."""
PASSES = 2
EDGE_CONTRAST = 3.0
"""An intensity step counts as an edge from about this many times the mean step between neighbours."""
LARGEST_JUMP = np.float32(9)
"""Squared steps; a jump counts no more than this, or a wrong height would be an edge however weak its pixel."""
HIGHEST_CONFIDENCE = 0.97


def regularise(height_map: HeightMap, strength: float, step_um: float) -> HeightMap:
    """The map with weak pixels drawn to their confident neighbours, all of it within the range of the heights.

    ``strength`` 1 leaves half of its own say to a pixel of confidence 0.25; 0 returns the map as it is, and so
    does a map of a single row or column.
    ``step_um`` is the distance between frames: a pixel moved by more is flagged SMOOTHED. Confidence stays
    that of the pixel's own peak; NaN stays NaN. Intervals grow by what their pixel is moved, so that the new ones hold
    all of the old ones and what these promised: how much better the neighbours know is not measured.
    """
    if strength == 0 or min(height_map.shape) < 2:
        return height_map
    missing = np.isnan(height_map.height_um)
    own = np.where(missing, np.float32(0), height_map.height_um)
    confidence = np.minimum(height_map.confidence, np.float32(HIGHEST_CONFIDENCE))
    # The rise of the peak over its noise, from which the confidence was made: errors go with its inverse.
    precision = (np.float32(HALF_CONFIDENCE_RISE) * confidence / (1 - confidence)) ** 2
    precision[missing] = 0
    assert height_map.all_in_focus is not None
    grey = cv2.GaussianBlur(to_grey(height_map.all_in_focus).astype(np.float32), (0, 0), 1.5)

    def pulled(towards: Plane) -> Plane:
        return np.asarray((precision * own + np.float32(strength) * towards) / (precision + np.float32(strength)))

    step = np.float32(step_um)
    around = _neighbourhood(own, precision, _links(grey, own, step, confidence))
    trust = precision / (1 + ((own - around) / step) ** 2)
    height_um = pulled(_neighbourhood(own, trust, _links(grey, pulled(around), step, np.ones_like(own))))
    moved_um = np.abs(height_um - own)
    flags = height_map.flags.copy()
    flags[(moved_um > step_um) & ~missing] |= np.uint8(Flag.SMOOTHED)
    height_um[missing] = np.nan
    return replace(
        height_map,
        height_um=height_um,
        flags=flags,
        interval68_um=_widened(height_map.interval68_um, moved_um),
        interval95_um=_widened(height_map.interval95_um, moved_um),
    )


def _widened(half_um: Plane | None, moved_um: Plane) -> Plane | None:
    return None if half_um is None else half_um + moved_um


def _neighbourhood(height: Plane, precision: Plane, links: tuple[Plane, Plane]) -> Plane:
    """The precision-weighted mean height around each pixel."""
    offset = np.float32(np.median(height))  # small numbers keep float32 exact enough at any z
    sums = np.stack([precision * (height - offset), precision + np.float32(1e-6)])
    for turn in range(PASSES):
        strength = np.float32(SPREAD * 1.5 * 4.0 ** (PASSES - 1 - turn) / (4.0**PASSES - 1))
        down = np.ascontiguousarray(sums.transpose(1, 0, 2))
        smooth_along_first_axis(down, links[0] * strength)
        across = np.ascontiguousarray(down.transpose(2, 1, 0))
        smooth_along_first_axis(across, links[1] * strength)
        sums = across.transpose(1, 2, 0)
    return np.asarray(sums[0] / sums[1] + offset, dtype=np.float32)


def _links(grey: Plane, height: Plane, step: np.float32, confidence: Plane) -> tuple[Plane, Plane]:
    """How strongly each pixel is tied to the next, 0 to 1: down the columns (H - 1, W), along the rows (W - 1, H)."""

    def along_first_axis(grey: Plane, height: Plane, confidence: Plane) -> Plane:
        contrast = np.abs(np.diff(grey, axis=0))
        scale = np.float32(EDGE_CONTRAST) * contrast.mean() + np.finfo(np.float32).tiny
        jump = np.minimum((np.diff(height, axis=0) / step) ** 2, LARGEST_JUMP) * confidence[1:] * confidence[:-1]
        cost = np.minimum((contrast / scale) ** 2 + jump, np.float32(30))  # exp of more is slow: denormal numbers
        return np.asarray(cv2.exp(-cost))

    turned = (cv2.transpose(plane) for plane in (grey, height, confidence))
    return along_first_axis(grey, height, confidence), along_first_axis(*turned)


def smooth_along_first_axis(values: NDArray[np.float32], tie: Plane) -> None:
    """Solve (I + L) x = values in place for every column; L is the Laplacian with the weights ``tie``.

    ``values``: (n, k, m), k right-hand sides of m columns; ``tie``: (n - 1, m). Thomas algorithm.
    """
    count = len(values)
    ratio = np.empty_like(tie)
    diagonal = np.ones((count, tie.shape[1]), np.float32)
    diagonal[:-1] += tie
    diagonal[1:] += tie
    for i in range(count):
        if i > 0:
            diagonal[i] -= tie[i - 1] * ratio[i - 1]
            values[i] += tie[i - 1] * values[i - 1]
        if i < count - 1:
            np.divide(tie[i], diagonal[i], out=ratio[i])
        values[i] /= diagonal[i]
    for i in range(count - 2, -1, -1):
        values[i] += ratio[i] * values[i + 1]
