"""From a network's own doubt to intervals that hold what they promise, measured on scenes it has not trained on.

Split conformal calibration in bins of the predicted spread: V. Vovk et al., Algorithmic learning in a random world,
2005; for regression J. Lei et al., J. Am. Stat. Assoc. 113 (2018) 1094.
"""

import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

SHARES = (*np.linspace(0, 23 / 24, 24), 0.985, 0.995, 1.0)
"""Edges of the bins by their share of the pixels: narrower at the top, where errors grow fast."""
TAIL_STEPS = 1.0
"""A height this close to the truth, in steps of the stack, counts as right for the confidence."""


@dataclass(frozen=True)
class Calibration:
    """At each ``log_spread`` (natural logarithm of the spread in steps, rising): the half widths ``half68_steps`` and
    ``half95_steps`` that held 68 % and 95 % of the errors, and the share ``right`` of errors below one step."""

    log_spread: tuple[float, ...]
    half68_steps: tuple[float, ...]
    half95_steps: tuple[float, ...]
    right: tuple[float, ...]

    def half_widths(self, spread_steps: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Half widths of the 68 % and 95 % intervals, in steps, each of the shape of ``spread_steps``."""
        at, beyond = self._place(spread_steps)
        return self._interpolate(at, self.half68_steps) * beyond, self._interpolate(at, self.half95_steps) * beyond

    def confidence(self, spread_steps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability that the height is right to one step."""
        at, beyond = self._place(spread_steps)
        return self._interpolate(at, self.right) / beyond

    def _place(self, spread_steps: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logarithm of the spreads, and by what factor they exceed all that were calibrated, at least 1.

        Errors beyond grow as the spread does, for want of anything better; they must not stay what they were.
        """
        at = np.log(np.maximum(spread_steps, np.float32(1e-9)))
        return at, np.exp(np.maximum(at - np.float32(self.log_spread[-1]), 0), dtype=np.float32)

    def _interpolate(self, at: NDArray[np.float32], values: tuple[float, ...]) -> NDArray[np.float32]:
        return np.interp(at, self.log_spread, values).astype(np.float32)

    def to_json(self) -> str:
        return json.dumps({name: [round(v, 5) for v in values] for name, values in asdict(self).items()})

    @staticmethod
    def from_json(text: str) -> "Calibration":
        """Raises ValueError where ``text`` is no calibration."""
        values = json.loads(text)
        try:
            found = Calibration(**{name: tuple(map(float, numbers)) for name, numbers in values.items()})
        except (AttributeError, TypeError) as error:
            raise ValueError(f"no calibration: {error}") from error
        if len({len(numbers) for numbers in asdict(found).values()}) != 1 or not found.log_spread:
            raise ValueError("no calibration: its rows differ in length")
        return found


def calibrate(spread_steps: NDArray[np.float32], error_steps: NDArray[np.float32]) -> Calibration:
    """Fit to the spreads (n,) and absolute errors (n,) of held-out pixels; both in steps, n at least a few thousand."""
    from scipy.optimize import isotonic_regression  # slow to load, and only whoever calibrates should wait

    order = np.argsort(spread_steps)
    edges = np.round(np.array(SHARES[1:-1]) * order.size).astype(np.intp)
    spreads = np.split(np.log(np.maximum(spread_steps[order], np.float32(1e-9))), edges)
    errors = np.split(np.abs(error_steps[order]), edges)
    half68 = isotonic_regression([np.quantile(e, 0.68) for e in errors]).x
    half95 = isotonic_regression([np.quantile(e, 0.95) for e in errors]).x
    right = isotonic_regression([np.mean(e < TAIL_STEPS) for e in errors], increasing=False).x
    middle = np.maximum.accumulate([np.median(s) for s in spreads]) + 1e-9 * np.arange(len(spreads))
    return Calibration(*(tuple(map(float, values)) for values in (middle, half68, half95, right)))
