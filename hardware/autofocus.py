"""Autofocus: one coarse pass, one fine pass around its peak, and a Gaussian through the fine pass.

The result says whether it may be trusted: a curve without a clear peak, or whose peak lies at the end of
the range, is reported as such and the stage goes back to where it was.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.camera import Camera
from hardware.motion import FocusAxis
from hardware.recovery import Recovery
from models.errors import Cancelled, InputError
from models.language import _

COARSE_STEPS = 4
"""One coarse step is this many fine ones."""
LEAST_PROMINENCE = 0.1
"""A peak must stand out from the lowest point on either side by this share of its height."""

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class FocusResult:
    """``z_um``: the best focus; ``curve`` (N,) the focus measure at ``curve_z_um`` (N,), ascending in z.

    ``reason``: why the result is not trusted, for the user; empty where it is.
    """

    z_um: float
    curve_z_um: Curve
    curve: Curve
    trusted: bool
    reason: str = ""


def sharpness(image: NDArray[Any]) -> float:
    """Energy of the detail between 1.2 and 3 px (sigma), relative to the squared brightness; no unit.

    A band-pass instead of a plain gradient: the finest scale is mostly camera noise, and light that changes
    between two pictures must not look like focus. ``image``: (H, W[, 3]) uint8 or uint16.
    """
    grey = image.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.mean(axis=2)
    detail = cv2.GaussianBlur(grey, (0, 0), 1.2) - cv2.GaussianBlur(grey, (0, 0), 3.0)
    return float(np.mean(np.square(detail, dtype=np.float64)) / max(float(grey.mean()), 1.0) ** 2)


def autofocus(
    axis: FocusAxis,
    camera: Camera,
    low_um: float,
    high_um: float,
    *,
    step_um: float,
    cancel: threading.Event | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FocusResult:
    """Find the sharpest height between ``low_um`` and ``high_um`` and go there; ``step_um`` is the fine step.

    ``progress(done, total)`` counts pictures. Raises InputError for an empty range, StageLimitError before
    anything moves, StageStopped, StageError, CameraError and Cancelled like :func:`hardware.sweep.run_sweep`.
    """
    if not (high_um - low_um > step_um > 0):
        raise InputError(_("Autofocus needs a range that is wider than its step."))
    axis.check(low_um)
    axis.check(high_um)
    home_um = axis.position_um()
    coarse = _spaced(low_um, high_um, COARSE_STEPS * step_um)
    total = len(coarse) + 2 * COARSE_STEPS + 1
    measured: dict[float, float] = {}
    recovery = Recovery(axis, camera, cancel=cancel)

    def scan(heights_um: Curve) -> None:
        for z_um in heights_um[:: axis.approach]:  # in the direction that needs no run-up
            here_um = axis.move_to(float(z_um), cancel)
            measured[here_um] = sharpness(recovery.picture(axis.clock.now()).image)
            if progress is not None:
                progress(min(len(measured), total), total)
            if cancel is not None and cancel.is_set():
                raise Cancelled

    scan(coarse)
    around_um = _curve(measured)[0][np.argmax(_curve(measured)[1])]
    reach_um = float(coarse[1] - coarse[0])
    scan(_spaced(max(low_um, around_um - reach_um), min(high_um, around_um + reach_um), step_um))

    curve_z_um, curve = _curve(measured)
    reason = _doubt(curve)
    best_um = float(np.clip(_peak_um(curve_z_um, curve, reach_um), low_um, high_um))
    if reason:
        limits_um = axis.limits_um
        axis.move_to(float(np.clip(home_um, *limits_um)), cancel)
    else:
        axis.move_to(best_um, cancel)
    if progress is not None:
        progress(total, total)
    return FocusResult(best_um, curve_z_um, curve, trusted=not reason, reason=reason)


def _spaced(low_um: float, high_um: float, step_um: float) -> Curve:
    return np.linspace(low_um, high_um, max(3, int(np.ceil((high_um - low_um) / step_um - 1e-9)) + 1))


def _curve(measured: dict[float, float]) -> tuple[Curve, Curve]:
    heights = sorted(measured)
    return np.array(heights), np.array([measured[z_um] for z_um in heights])


def _doubt(curve: Curve) -> str:
    """Why the highest point of this curve is no focus, or an empty text."""
    blurred = _("No height is clearly sharper than the others: more light, or a place with more texture, may help.")
    best = int(np.argmax(curve))
    least = LEAST_PROMINENCE * curve[best]
    if curve[best] - curve.min() <= least:
        return blurred
    if best in (0, len(curve) - 1):
        return _("The picture gets sharper up to the end of the range: widen the range or move the sample.")
    if curve[best] - max(curve[:best].min(), curve[best + 1 :].min()) <= least:
        return blurred
    return ""


def _peak_um(z_um: Curve, curve: Curve, reach_um: float) -> float:
    """Centre of the Gaussian (a parabola in the logarithm) through the upper part of the peak.

    Points count with the square of their height above the floor: what equal noise on the measure itself
    means for its logarithm. Falls back to the highest point where the parabola does not open downwards.
    """
    best = int(np.argmax(curve))
    height = curve - curve.min()
    used = (np.abs(z_um - z_um[best]) <= reach_um) & (height > 0.3 * height[best])
    if used.sum() < 3:
        return float(z_um[best])
    x = z_um[used] - z_um[best]
    a, b, _c = np.polyfit(x, np.log(height[used]), 2, w=height[used])
    if a >= 0 or abs(b / (2 * a)) > reach_um:
        return float(z_um[best])
    return float(z_um[best] - b / (2 * a))
