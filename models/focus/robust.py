"""RR: regularisation of the focus volume that keeps its steps, after Ali and Mahmood.

Ali and Mahmood, "Robust focus volume regularization in shape from focus", IEEE TIP 30 (2021) 7215. Its text
was not to be had; what follows rests on its title, on the abstract of the method that it grew from ("Image
focus volume regularization for shape from focus through 3D weighted least squares": the image sequence as
guide, one tridiagonal system per line of each dimension) and on the abstract of a later paper of the same
authors (a penalty that is not convex, majorise-minimise). The volume V that is sought makes least

    sum_p (V_p - F_p)^2 + sum_{p ~ q in a frame} strength g_pq psi(V_p - V_q) + sum_{p ~ q along z} h_pq (V_p - V_q)^2

with F the measured volume, psi(d) = s^2 (1 - exp(-d^2 / s^2)) the penalty of Welsch and g_pq = exp(-(change of
grey / scale)^2) from the frame itself. Majorise-minimise: psi is replaced by the parabola that touches it at the
last V, which makes weights exp(-d^2 / s^2) of it; the weighted least squares are solved by lines along y, x and
z in passes of falling strength (fast global smoother, Min et al., IEEE TIP 23 (2014) 5638).

Our choices, as the text is missing: F is divided by the largest measure of its pixel, softened as in
:mod:`models.focus.variational`; along z the coupling is quadratic and weighted by the inverse distance of the
frames, which keeps a straight line straight on unequal steps; the constants below.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from models.focus.regularise import EDGE_CONTRAST, smooth_along_first_axis

Volume = NDArray[np.float32]

STRENGTH = 8.0
"""In a frame: curves are shared over about its square root in pixels. Chosen, like the others, so that the
method does well on simulated surfaces without losing on clean, densely textured stacks."""
STRENGTH_ALONG_Z = 1.0
TOLERATED = 0.3
"""s: normalised curves that differ by more are left apart; 1 is the height of a strong peak."""
ROUNDS = 2
"""Of majorise-minimise; more change the errors by less than 1 %."""
PASSES = 2
SOFTNESS = 0.3
PIXELS_AT_ONCE = 2**18
"""So many are smoothed together: enough to be quick, few enough to need little memory and to be stopped soon."""


def normalised(measure: Volume) -> Volume:
    """Curves (N, H, W) with a peak near 1 where texture is strong, and lower where it is weak."""
    best = measure.max(axis=0)
    softened = best + np.float32(SOFTNESS) * best.mean()
    return np.asarray(measure / np.maximum(softened, np.finfo(np.float32).tiny))


def smooth_along_z(volume: Volume, z: NDArray[np.float64], strength: float) -> None:
    """Curves (N, H, W) at the heights ``z`` (N,) in steps, rising, smoothed in place; straight lines stay straight."""
    tie = (strength / np.diff(z)).astype(np.float32)[:, None]
    rows_at_once = max(PIXELS_AT_ONCE // volume[:, 0].size, 1)
    for top in range(0, volume.shape[1], rows_at_once):
        part = volume[:, top : top + rows_at_once]
        lines = np.ascontiguousarray(part).reshape(len(part), 1, -1)
        smooth_along_first_axis(lines, np.broadcast_to(tie, (len(tie), lines.shape[2])))
        part[...] = lines.reshape(part.shape)


def regularised_volume(
    measure: Volume, grey: NDArray[np.uint8 | np.uint16], z: NDArray[np.float64], tick: Callable[[float], None]
) -> Volume:
    """The focus volume (N, H, W) float32, normalised and regularised; frames of two by two pixels at least.

    ``measure``, ``grey``: (N, H, W) focus measures and grey frames; ``z``: (N,) heights in steps, rising.
    ``tick`` is called with the part done, 0 to 1, and may raise to stop. Memory: three volumes beside ``measure``.
    """
    data = normalised(measure)
    scale = _edge_scale(grey)
    at_once = max(PIXELS_AT_ONCE // data[0].size, 1)
    shares = [1.5 * 4.0 ** (PASSES - 1 - turn) / (4.0**PASSES - 1) for turn in range(PASSES)]
    last = data
    for turn in range(ROUNDS):
        volume = data.copy()
        for number, share in enumerate(shares, start=turn * PASSES):
            for first in range(0, len(volume), at_once):
                frames = slice(first, first + at_once)
                links = _links(last[frames], grey[frames], scale)
                volume[frames] = _smooth_in_plane(volume[frames], links, STRENGTH * share)
                tick((number + min(frames.stop, len(volume)) / len(volume)) / (ROUNDS * PASSES))
            smooth_along_z(volume, z, STRENGTH_ALONG_Z * share)
        last = volume
    return last


def _soft(grey: NDArray[np.uint8 | np.uint16]) -> Volume:
    return np.asarray(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.5))


def _edge_scale(grey: NDArray[np.uint8 | np.uint16]) -> np.float32:
    """The change of grey between neighbours from which it counts as an edge, one for all frames: what is out of
    focus has none."""
    mean = np.mean([np.abs(np.diff(_soft(frame), axis=axis)).mean() for frame in grey for axis in (0, 1)])
    return np.float32(EDGE_CONTRAST * mean + np.finfo(np.float32).tiny)


def _links(volume: Volume, grey: NDArray[np.uint8 | np.uint16], scale: np.float32) -> tuple[Volume, Volume]:
    """Weights of the differences down the columns (H - 1, n W) and along the rows (W - 1, n H)."""
    soft = np.stack([_soft(frame) for frame in grey])

    def along(axis: int) -> Volume:
        edge = np.diff(soft, axis=axis) / scale
        cost = edge**2 + (np.diff(volume, axis=axis) / np.float32(TOLERATED)) ** 2
        cost = np.minimum(cost, np.float32(30))  # exp of more is slow: denormal numbers
        lines = np.moveaxis(cost, axis, 0)
        return np.asarray(cv2.exp(-np.ascontiguousarray(lines).reshape(len(lines), -1)))

    return along(1), along(2)


def _smooth_in_plane(volume: Volume, links: tuple[Volume, Volume], strength: float) -> Volume:
    """Frames (n, H, W) smoothed down the columns, then along the rows; the ones given may be overwritten."""
    for axis, tie in zip((1, 2), links, strict=True):
        lines = np.moveaxis(volume, axis, 0)
        solved = np.ascontiguousarray(lines).reshape(len(lines), 1, -1)
        smooth_along_first_axis(solved, tie * np.float32(strength))
        volume = np.moveaxis(solved.reshape(lines.shape), 0, axis)
    return volume
