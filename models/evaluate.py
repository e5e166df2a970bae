"""How far a height map is from the truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.height_map import HeightMap
from models.language import _


@dataclass(frozen=True)
class Comparison:
    """Errors are height minus truth, in micrometres (or frames, where the map counts frames).

    They are taken over ``count`` pixels: those with a height, a truth and enough confidence. Without any,
    every error is NaN.
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

    @property
    def mean_absolute_steps(self) -> float:
        return self.mean_absolute_um / self.step_um


def compare(
    height_map: HeightMap,
    truth: NDArray[np.floating],
    *,
    step_um: float,
    confidence_above: float = 0.0,
) -> Comparison:
    """Compare with the ``truth`` (H, W) in the unit of the map, NaN where it is not known.

    ``step_um`` is the distance between the frames. Only pixels with a confidence of at least
    ``confidence_above`` count; 0 takes all. Raises InputError where the shapes differ or the step is no
    positive number.
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
    error = height_map.height_um[used].astype(np.float64) - truth[used]
    count = int(error.size)
    coverage = count / int(known.sum()) if known.any() else 0.0
    if count == 0:
        nan = float("nan")
        return Comparison(nan, nan, nan, nan, nan, coverage, 0, step_um)
    size = np.abs(error)
    return Comparison(
        mean_absolute_um=float(size.mean()),
        root_mean_square_um=float(np.sqrt(np.mean(error**2))),
        median_absolute_um=float(np.median(size)),
        bias_um=float(error.mean()),
        bad_fraction=float(np.mean(size > step_um)),
        coverage=coverage,
        count=count,
        step_um=step_um,
    )
