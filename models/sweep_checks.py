"""What every frame of a sweep must satisfy before a reconstruction takes it in."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import MOST_FRAMES
from models.language import _

COARSEST_ROUNDING = 0.1
"""Height maps are float32: a stack whose heights lie so far from zero that neighbouring numbers are further
apart than this part of a step is refused. Steps of 0.1 um are good up to 131 mm from zero."""
LARGEST_HEIGHT, SMALLEST_STEP = 1e9, 1e-6
"""In um or frames: what lies beyond is a mistake in the unit, and would overflow on the way."""


def check_arrivals(
    frames: Sequence[tuple[NDArray[Any], float]], first: NDArray[Any], z_um: Sequence[float]
) -> list[float]:
    """``z_um`` of the frames so far with those of the new ``frames``; ``first`` is the first frame of the sweep.

    Raises InputError where one does not fit to those before it.
    """
    heights = list(z_um)
    for frame, z in frames:
        check_frame(frame, first, len(heights) + 1)
        heights.append(float(z))
        check_heights(heights)
    return heights


def check_frame(frame: NDArray[Any], first: NDArray[Any], number: int) -> None:
    """Raises InputError where ``frame``, the ``number``-th, is no image or unlike the ``first``."""
    if frame.dtype not in (np.uint8, np.uint16):
        raise InputError(
            _("The frame holds {dtype} values; 8- or 16-bit unsigned images are needed.").format(dtype=frame.dtype)
        )
    if frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] != 3):
        raise InputError(
            _("The frame has shape {shape}; it must be grey (H, W) or RGB (H, W, 3).").format(shape=frame.shape)
        )
    if frame.size == 0:
        raise InputError(_("The frames of the stack have no pixels."))
    if frame.shape != first.shape or frame.dtype != first.dtype:
        raise InputError(
            _("Frame {n} is {shape} {dtype}, but the first one was {first} {first_dtype}.").format(
                n=number, shape=frame.shape, dtype=frame.dtype, first=first.shape, first_dtype=first.dtype
            )
        )


def check_heights(z_um: Sequence[float]) -> None:
    """Raises InputError unless the last of ``z_um`` goes on in the direction of the others, told apart by float32."""
    if len(z_um) > MOST_FRAMES:
        raise InputError(
            _("The stack has {n} frames; at most {most} can be used.").format(n=len(z_um), most=MOST_FRAMES)
        )
    if not np.isfinite(z_um[-1]):
        raise InputError(_("The heights of the frames must be finite numbers."))
    if len(z_um) > 1:
        whole, last = z_um[-1] - z_um[0], z_um[-1] - z_um[-2]
        if whole * last <= 0:
            raise InputError(_("The heights of the frames must run strictly upwards or strictly downwards."))
        step = abs(whole) / (len(z_um) - 1)
        farthest = max(abs(z_um[0]), abs(z_um[-1]))
        if farthest > LARGEST_HEIGHT or step < SMALLEST_STEP:
            raise InputError(
                _("Heights up to {z:g} in steps of {step:g} cannot be measured; check their unit.").format(
                    z=farthest, step=step
                )
            )
        if np.spacing(np.float32(farthest)) > COARSEST_ROUNDING * step:
            raise InputError(
                _(
                    "Heights near {z:g} are too far from zero for steps of {step:g}: rounding would spoil the "
                    "height map. Count the heights from a place near the sample."
                ).format(z=farthest, step=step)
            )


def full_scale(image: NDArray[Any]) -> int:
    """The largest value of the smallest bit depth that holds ``image``.

    A 16-bit file may come from a 10-, 12- or 14-bit camera, which clips at 1023, 4095 or 16383.
    """
    bits = (8,) if image.dtype == np.uint8 else (10, 12, 14, 16)
    return int(next(2**n - 1 for n in bits if image.max() <= 2**n - 1))


def is_saturated(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels (H, W) at full scale."""
    clipped = image == full_scale(image)
    return np.asarray(clipped.any(axis=2) if image.ndim == 3 else clipped)
