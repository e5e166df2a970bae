"""How far a height map is from the truth.

Relative errors need a depth that is positive. Here it is the height above the lowest focus position plus one step,
and at least one step: the lowest plane has depth 1 step, the highest one N, whatever the origin and the unit of the
stack.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.height_map import HeightMap
from models.language import _

Image = NDArray[np.float64]

STEEPEST_BUMP = 0.05
"""Curvature of the error at which a bump counts in full, as in the 4D Light Field benchmark."""
_NAN = float("nan")
_NO_RELATIVE = (_NAN, _NAN, (_NAN, _NAN, _NAN))


@dataclass(frozen=True)
class Comparison:
    """Errors are height minus truth, in micrometres (or frames, where the map counts frames).

    They are taken over ``count`` pixels: those with a height, a truth and enough confidence. Without any,
    every error is NaN. So is what needs focus positions that were not given, or intervals that the map does not state.
    """

    mean_absolute_um: float
    root_mean_square_um: float
    median_absolute_um: float
    bias_um: float
    """Mean error: an offset between the two."""
    bad_fraction: float
    """Part of the compared pixels that are off by more than one step."""
    coverage: float
    """Part of the pixels with a truth that are compared."""
    count: int
    step_um: float
    absolute_relative: float = _NAN
    """Mean of |error| / true depth; see the top of this module for depth."""
    square_relative_um: float = _NAN
    """Mean of error^2 / true depth."""
    within: tuple[float, float, float] = (_NAN, _NAN, _NAN)
    """Part of the pixels whose depth and true depth differ by less than a factor of 1.25, 1.25^2, 1.25^3."""
    bumpiness: float = _NAN
    """See :func:`bumpiness`; the unit of length is the height of the stack."""
    inside_68: float = _NAN
    """Part of the pixels whose truth lies in the stated 68 % interval; honest is 0.68."""
    inside_95: float = _NAN

    @property
    def mean_absolute_steps(self) -> float:
        return self.mean_absolute_um / self.step_um

    @property
    def root_mean_square_steps(self) -> float:
        return self.root_mean_square_um / self.step_um

    @property
    def mean_square_um2(self) -> float:
        return self.root_mean_square_um**2

    @property
    def mean_square_steps2(self) -> float:
        return self.root_mean_square_steps**2


def compare(
    height_map: HeightMap,
    truth: NDArray[np.floating],
    *,
    step_um: float,
    confidence_above: float = 0.0,
    z_um: NDArray[np.floating] | None = None,
) -> Comparison:
    """Compare with the ``truth`` (H, W) in the unit of the map, NaN where it is not known.

    ``step_um`` is the distance between the frames. Only pixels with a confidence of at least
    ``confidence_above`` count; 0 takes all. ``z_um`` (N,), the focus positions in any order, allow relative errors
    and bumpiness. Raises InputError where the shapes differ or the step is no positive number.
    """
    if truth.shape != height_map.shape:
        raise InputError(
            _("The truth has {truth} pixels, the height map {map}; they cannot be compared.").format(
                truth=" x ".join(map(str, truth.shape)), map=" x ".join(map(str, height_map.shape))
            )
        )
    if not (np.isfinite(step_um) and step_um > 0):
        raise InputError(_("The distance between the frames must be a positive number."))
    known = np.isfinite(truth)
    used = known & np.isfinite(height_map.height_um) & (height_map.confidence >= confidence_above)
    errors = np.where(used, height_map.height_um.astype(np.float64) - np.where(used, truth, 0.0), np.nan)
    error = errors[used]
    count = int(error.size)
    coverage = count / int(known.sum()) if known.any() else 0.0
    if count == 0:
        return Comparison(_NAN, _NAN, _NAN, _NAN, _NAN, coverage, 0, step_um)
    size = np.abs(error)
    relative, bumps = _NO_RELATIVE, _NAN
    if z_um is not None:
        relative = _relative_errors(truth[used], error, float(np.min(z_um)), step_um)
        bumps = bumpiness(errors / float(np.ptp(z_um)))
    return Comparison(
        mean_absolute_um=float(size.mean()),
        root_mean_square_um=float(np.sqrt(np.mean(error**2))),
        median_absolute_um=float(np.median(size)),
        bias_um=float(error.mean()),
        bad_fraction=float(np.mean(size > step_um)),
        coverage=coverage,
        count=count,
        step_um=step_um,
        absolute_relative=relative[0],
        square_relative_um=relative[1],
        within=relative[2],
        bumpiness=bumps,
        inside_68=_inside(size, height_map.interval68_um, used),
        inside_95=_inside(size, height_map.interval95_um, used),
    )


def bumpiness(error: Image) -> float:
    """Mean Frobenius norm of the Hessian of ``error`` (H, W; NaN where unknown), clipped at 0.05, times 100.

    Derivatives by the kernel (-1, 0, 1) x (3, 10, 3) / 16 (Scharr), applied twice. A pixel counts where all of the
    5 x 5 that its derivatives look at are known. From 0, smooth, to 5; NaN where no pixel counts. Measure:
    K. Honauer et al., A dataset and evaluation methodology for depth estimation on 4D light fields, ACCV 2016.
    """
    known = np.isfinite(error)
    surrounded = cv2.erode(
        known.astype(np.uint8), np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    ).astype(bool)
    if not surrounded.any():
        return _NAN
    slopes = _slopes(np.where(known, error, 0.0))
    curvature = np.sqrt(sum(part**2 for slope in slopes for part in _slopes(slope)))
    return float(np.minimum(curvature[surrounded], STEEPEST_BUMP).mean() * 100)


def figures(found: Comparison) -> dict[str, float | None]:
    """Every figure by its name in results, plain numbers; None instead of NaN.

    Errors are in the unit of the map, those that end in ``_steps`` in steps of the stack (squares in their squares).
    """
    values = {
        "mean_absolute_error": found.mean_absolute_um,
        "mean_absolute_error_steps": found.mean_absolute_steps,
        "mean_square_error": found.mean_square_um2,
        "mean_square_error_steps": found.mean_square_steps2,
        "root_mean_square_error": found.root_mean_square_um,
        "root_mean_square_error_steps": found.root_mean_square_steps,
        "median_absolute_error": found.median_absolute_um,
        "median_absolute_error_steps": found.median_absolute_um / found.step_um,
        "bias": found.bias_um,
        "absolute_relative_error": found.absolute_relative,
        "square_relative_error": found.square_relative_um,
        "square_relative_error_steps": found.square_relative_um / found.step_um,
        "bumpiness": found.bumpiness,
        **{f"within_1.25^{k}": share for k, share in enumerate(found.within, 1)},
        "bad_share": found.bad_fraction,
        "inside_68": found.inside_68,
        "inside_95": found.inside_95,
        "compared_share": found.coverage,
    }
    return {name: value if np.isfinite(value) else None for name, value in values.items()} | {"pixels": found.count}


def mean_figures(scenes: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The :func:`figures` of many scenes as one: every scene weighs the same, one without a value is left out.

    So the root mean square error is the mean of those of the scenes, as in the depth-from-focus literature. Pixels
    are added up.
    """
    means: dict[str, float | None] = {}
    for name in scenes[0] if scenes else ():
        values = [value for scene in scenes if (value := scene[name]) is not None]
        total = float(np.sum(values))
        means[name] = int(total) if name == "pixels" else total / len(values) if values else None
    return means


def _relative_errors(
    truth: NDArray[np.floating], error: Image, lowest_um: float, step_um: float
) -> tuple[float, float, tuple[float, float, float]]:
    """AbsRel, SqRel and the parts within 1.25, 1.25^2 and 1.25^3, over pixels (P,)."""
    depth = np.maximum(truth.astype(np.float64) - lowest_um + step_um, step_um)
    found = np.maximum(truth + error - lowest_um + step_um, step_um)
    ratio = np.maximum(found / depth, depth / found)
    first, second, third = (float(np.mean(ratio < 1.25**k)) for k in (1, 2, 3))
    return float(np.mean(np.abs(error) / depth)), float(np.mean(error**2 / depth)), (first, second, third)


def _inside(size: Image, half_width: NDArray[np.float32] | None, used: NDArray[np.bool_]) -> float:
    """Part of the errors ``size`` (P,) of the ``used`` pixels (H, W) within their intervals; NaN without any."""
    if half_width is None:
        return _NAN
    stated = np.isfinite(half_width[used])
    return float(np.mean((size <= half_width[used])[stated])) if stated.any() else _NAN


def _slopes(image: Image) -> tuple[Image, Image]:
    """Derivatives along columns and rows."""
    along, across = np.array([-1.0, 0.0, 1.0]), np.array([3.0, 10.0, 3.0]) / 16
    return (
        np.asarray(cv2.sepFilter2D(image, cv2.CV_64F, along, across)),
        np.asarray(cv2.sepFilter2D(image, cv2.CV_64F, across, along)),
    )
