"""Variational depth from focus (Moeller, Benning, Schoenlieb and Cremers, IEEE TIP 2015, arXiv 1408.0173).

The height map u makes least  fidelity * sum c(x, u(x)) + sum |grad u|,  where c(x, z) is the negative focus curve
of pixel x: smooth, but not convex; the total variation keeps steps and flattens noise. Linearised ADMM with d in
place of grad u and the scaled multiplier b:

    u <- (1 + penalty K^T K)^-1 [u - descent fidelity c'(u) + penalty K^T (d - b)],  held within the stack
    d <- grad u + b, shortened by descent / penalty;      b <- b + grad u - d

K is the gradient by forward differences, and its system is solved by the cosine transform. The penalty grows from
step to step, which makes the method converge although c is not convex.

The steps and the softening of the curves by 0.3 of the mean peak follow the implementation of the paper by Haarbach
et al. (adrelino/variational-depth-from-focus, read for its constants). Ours: the paper fits a polynomial of degree 6
to each curve, which is far too smooth for the narrow peaks of a microscope; we smooth the curve a little along z and
take it as it is, its slope linear from one middle between two frames to the next. Heights count in steps.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from models.focus.robust import normalised, smooth_along_z

Plane = NDArray[np.float32]

FIDELITY = 12.0
"""Against the total variation of heights in steps. The authors' 6 for a stack 20 units high is 12 for 40 frames."""
DESCENT = 5.0
"""Descent times fidelity: how many steps a slope of 1 moves a height at once."""
GROWTH = 1.02
ITERATIONS = 150
CURVE_SMOOTHING = 1.0
START_BLUR_PX = 2.0


class _Slopes:
    """The slope of every focus curve at any height: c is minus the curve."""

    def __init__(self, curves: NDArray[np.float32], z: NDArray[np.float64]) -> None:
        """``curves``: (N, H, W); ``z``: (N,) in steps, rising."""
        self._knots = np.concatenate([z[:1], (z[1:] + z[:-1]) / 2, z[-1:]]).astype(np.float32)
        self._shape = curves.shape[1:]
        slopes = np.empty((len(z) + 1, curves[0].size), np.float32)
        steps = np.diff(z).astype(np.float32)[:, None]
        np.divide(np.diff(curves.reshape(len(z), -1), axis=0), steps, out=slopes[1:-1])
        slopes[0] = np.maximum(slopes[1], 0)  # a peak on the first or last frame lies there, not beyond
        slopes[-1] = np.minimum(slopes[-2], 0)
        self._slopes = slopes.ravel()
        self._pixel = np.arange(curves[0].size)

    def at(self, height: Plane) -> Plane:
        """The slope of each curve (H, W) at the ``height`` (H, W) of its pixel, within the stack."""
        flat = height.ravel()
        below = np.clip(np.searchsorted(self._knots, flat) - 1, 0, len(self._knots) - 2)
        part = (flat - self._knots[below]) / np.diff(self._knots)[below]
        place = below * self._pixel.size + self._pixel
        low = self._slopes.take(place)
        high = self._slopes.take(place + self._pixel.size)
        return np.asarray((low + (high - low) * part).reshape(self._shape))


def variational_heights(
    measure: NDArray[np.float32], own: Plane, z: NDArray[np.float64], tick: Callable[[float], None]
) -> Plane:
    """The height map (H, W) float32 in steps, between the first and the last of ``z``.

    ``measure``: (N, H, W) focus measures; ``own``: (H, W) heights in steps of the pixels' own peaks, none missing;
    ``z``: (N,) heights in steps, rising. ``tick`` is called with the part done, 0 to 1, and may raise to stop.
    Memory: three volumes for a short time, then one.
    """
    from scipy.fft import dctn, idctn  # 0.1 s that the start of the program need not wait for

    curves = normalised(measure)
    smooth_along_z(curves, z, CURVE_SMOOTHING)
    slopes = _Slopes(curves, z)
    del curves
    lowest, highest = np.float32(z[0]), np.float32(z[-1])
    down, across = (2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in own.shape)
    laplace = np.add.outer(down, across).astype(np.float32)  # eigenvalues of K^T K in the cosine transform
    height: Plane = cv2.GaussianBlur(cv2.medianBlur(own, 5), (0, 0), START_BLUR_PX)
    wanted = _gradient(height)
    multiplier = np.zeros_like(wanted)
    penalty, descent = 1.0, DESCENT / FIDELITY
    for turn in range(ITERATIONS):
        tick(turn / ITERATIONS)
        target = height + np.float32(DESCENT) * slopes.at(height)
        target += np.float32(penalty) * _adjoint(wanted - multiplier)
        solved = idctn(dctn(target) / (1 + np.float32(penalty) * laplace))
        height = np.clip(solved, lowest, highest, dtype=np.float32)
        sought = _gradient(height) + multiplier
        length = np.maximum(np.hypot(sought[0], sought[1]), np.finfo(np.float32).tiny)
        wanted = sought * np.maximum(1 - np.float32(descent / penalty) / length, 0)
        multiplier = (sought - wanted) / np.float32(GROWTH)
        penalty *= GROWTH
    return height


def _gradient(height: Plane) -> NDArray[np.float32]:
    """(2, H, W): differences to the next row and to the next column, zero at the last."""
    gradient = np.zeros((2, *height.shape), np.float32)
    np.subtract(height[1:], height[:-1], out=gradient[0, :-1])
    np.subtract(height[:, 1:], height[:, :-1], out=gradient[1, :, :-1])
    return gradient


def _adjoint(field: NDArray[np.float32]) -> Plane:
    """K^T of :func:`_gradient`."""
    down, across = field[0, :-1], field[1, :, :-1]
    result = np.zeros(field.shape[1:], np.float32)
    result[1:] += down
    result[:-1] -= down
    result[:, 1:] += across
    result[:, :-1] -= across
    return result
