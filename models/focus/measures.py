"""Focus measures: how much fine detail surrounds each pixel of one frame.

Every measure is the mean, over a square window, of an operator that answers to detail and not to
brightness. Grey values are worked on as whole numbers in int16 or float32, which hold every intermediate
value exactly, so nothing overflows and the result of a pixel does not depend on how the image was cut.

Outside the image the frame is continued by mirroring about its outermost pixels, which invents no
edge and therefore no false maximum at the border.

**Stabilised** measures work on the square root of the grey values (Anscombe, Biometrika 35 (1948) 246).
Light comes in photons, whose noise grows with the square root of their number: where blurred light of a
bright land spills over a dark wall, the wall's noise rises, and a plain measure takes that for focus.
After the square root the noise is the same everywhere and at any time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.language import _
from models.methods import find_method

Work = NDArray[Any]
"""A strip of grey values, int16 or float32."""


def to_grey(frame: NDArray[Any]) -> NDArray[Any]:
    """A frame (H, W) or RGB (H, W, 3), uint8 or uint16, as one grey image (H, W) of the same dtype.

    RGB is weighted 0.299, 0.587, 0.114 (ITU-R BT.601): in a Bayer camera green has twice the pixels and
    most of the light, blue the least of both, so these weights are close to those of least noise. One
    grey image also costs a third of measuring focus in every channel.
    """
    if frame.ndim == 2:
        return frame
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY))


def _inner(image: Work, margin: int, dy: int = 0, dx: int = 0) -> Work:
    """The view of ``image`` without its margin, moved by (dy, dx)."""
    rows, columns = image.shape
    return image[margin + dy : rows - margin + dy, margin + dx : columns - margin + dx]


def _second_difference(image: Work, margin: int, dy: int, dx: int, twice: Work) -> Work:
    """|2 I - I(-dy, -dx) - I(+dy, +dx)| away from the margin."""
    both = np.add(_inner(image, margin, -dy, -dx), _inner(image, margin, dy, dx))
    return np.asarray(cv2.absdiff(twice, both, dst=both))


def _sml(image: Work) -> Work:
    """Modified Laplacian (Nayar and Nakagawa 1994): |I_xx| + |I_yy| by second differences."""
    twice = _inner(image, 1) * 2
    across = _second_difference(image, 1, 0, 1, twice)
    down = _second_difference(image, 1, 1, 0, twice)
    return np.add(across, down, out=across)


def _mdml(image: Work) -> Work:
    """Multi-directional modified Laplacian: steps 1, 2, 3 along rows, columns and both diagonals.

    sum over s of ML_h + ML_v + (ML_d1 + ML_d2) / sqrt 2, after Yan et al. (2020); diagonal neighbours are
    sqrt 2 further away, hence their weight. Second differences amplify noise alike at every step, so equal
    weights normalise the steps by their noise: detail coarser than a pixel then counts by its own strength.
    """
    twice = _inner(image, 3) * 2
    axes = np.zeros_like(twice)
    diagonals = np.zeros_like(twice)
    for step in (1, 2, 3):
        for total, directions in ((axes, ((0, 1), (1, 0))), (diagonals, ((1, 1), (1, -1)))):
            for y, x in directions:
                np.add(total, _second_difference(image, 3, step * y, step * x, twice), out=total)
    return np.asarray(cv2.addWeighted(axes, 1, diagonals, 0.5**0.5, 0, dtype=cv2.CV_32F))


def _tenengrad(image: Work) -> NDArray[np.float32]:
    """Squared length of the Sobel gradient (Krotkov 1988)."""
    across, down = (_inner(cv2.Sobel(image, cv2.CV_32F, dx, 1 - dx), 1) for dx in (1, 0))
    squared = cv2.multiply(across, across)
    return np.asarray(cv2.accumulateSquare(down, squared))


def _rdf(image: Work) -> Work:
    """Ring difference filter (Jeon et al. 2020): |mean of a disk - mean of a ring around it|.

    Disk of radius 1 (5 pixels), gap up to radius 2, ring up to radius 3 (16 pixels). The difference is
    scaled by 5 * 16 to stay in whole numbers; a constant factor does not move the peak.
    """
    rows, columns = image.shape
    centre = image[:, 3:-3]
    pair = [image[:, 3 - d : columns - 3 - d] + image[:, 3 + d : columns - 3 + d] for d in (1, 2, 3)]
    near = pair[0] + pair[1]

    def at(lines: Work, dy: int) -> Work:
        return lines[3 + dy : rows - 3 + dy]

    disk = at(centre, -1) + at(centre, 1) + at(centre, 0) + at(pair[0], 0)
    ring = (
        at(centre, -3) + at(centre, 3) + at(near, -2) + at(near, 2) + at(pair[1], -1) + at(pair[1], 1) + at(pair[2], 0)
    )
    return np.asarray(cv2.absdiff(disk * 16, ring * 5))


@dataclass(frozen=True)
class _Operator:
    """``reach_px``: how far it looks. ``gain``: the largest number it makes of a grey value of 1.
    ``relative_noise``: standard deviation over mean of its window mean on white noise, for a window of one
    pixel side; a window of w divides it by w (measured on 5 to 15)."""

    apply: Callable[[Work], Work]
    reach_px: int
    gain: int
    relative_noise: float


_OPERATORS = {
    "sml": _Operator(_sml, 1, 4, 0.85),
    "mdml": _Operator(_mdml, 3, 12, 0.67),
    "tenengrad": _Operator(_tenengrad, 1, 4, 1.73),
    "rdf": _Operator(_rdf, 3, 80, 1.05),
}


def relative_noise(method: str, window: int) -> float:
    """Standard deviation over mean of the focus measure of white noise."""
    return _OPERATORS[method].relative_noise / window


def margin_px(method: str, window: int) -> int:
    """How far a pixel looks: rows and columns that ``measure_strip`` consumes on every side."""
    return _OPERATORS[method].reach_px + window // 2 + 1


def continue_outside(grey: NDArray[Any], margin: int) -> NDArray[Any]:
    """``grey`` with ``margin`` mirrored rows and columns added on every side."""
    return np.asarray(cv2.copyMakeBorder(grey, margin, margin, margin, margin, cv2.BORDER_REFLECT_101))


def measure_strip(padded: NDArray[Any], method: str, window: int, *, stabilise: bool) -> NDArray[np.float32]:
    """The focus measure of the inner part of ``padded`` (h + 2 m, w + 2 m), m = :func:`margin_px`: (h, w) float32."""
    operator = _OPERATORS[method]
    detail = operator.apply(_working_values(padded, operator.gain, stabilise=stabilise))
    rest = margin_px(method, window) - operator.reach_px
    mean = cv2.boxFilter(detail, cv2.CV_32F, (window, window))
    return np.asarray(mean[rest:-rest, rest:-rest])


_ROOTS_OF_8_BIT = np.rint(128 * np.sqrt(np.arange(256))).astype(np.int16)


def _working_values(grey: NDArray[Any], gain: int, *, stabilise: bool) -> Work:
    """Whole numbers, in int16 where the operator's largest result fits in."""
    if grey.dtype == np.uint8:
        values = cv2.LUT(grey, _ROOTS_OF_8_BIT) if stabilise else grey
        largest = int(_ROOTS_OF_8_BIT[-1]) if stabilise else 255
        return values.astype(np.int16 if largest * gain <= np.iinfo(np.int16).max else np.float32, copy=False)
    values = grey.astype(np.float32)
    return np.rint(cv2.sqrt(values) * np.float32(64)) if stabilise else values


def focus_measure(frame: NDArray[Any], method: str, window: int, *, stabilise: bool = False) -> NDArray[np.float32]:
    """The focus measure of a whole frame (H, W[, 3]) uint8 or uint16: (H, W) float32, not negative.

    ``method`` is one of :data:`models.methods.MEASURES`; ``window`` is the side in pixels of the square
    over which the operator is averaged. Raises InputError for an unknown method.
    """
    if find_method(method).kind != "measure":
        raise InputError(_("'{name}' is no focus measure.").format(name=method))
    padded = continue_outside(to_grey(frame), margin_px(method, window))
    return measure_strip(padded, method, window, stabilise=stabilise)
