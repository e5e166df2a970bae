"""A height map: what a reconstruction, an instrument or an annotator says about every pixel."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import ZUnit
from models.language import _


class Flag(IntFlag):
    """Why a pixel is not to be trusted; a pixel may carry several. Stored as uint8."""

    PEAK_AT_END = 1
    """The focus measure is largest on the first or last frame: the surface may lie outside the stack."""
    NO_PEAK = 2
    """The focus curve does not rise above its noise: nothing to focus on."""
    SATURATED = 4
    """The pixel is clipped at its best frame."""
    SMOOTHED = 8
    """The regularisation moved the height away from the focus peak by more than one step."""
    OUTSIDE = 16
    """Aligning the frames left this pixel outside one of the frames that decide its height."""


@dataclass(frozen=True)
class HeightMap:
    """Heights (H, W) float32 with confidence, flags and the image in focus everywhere.

    ``height_um``: NaN where missing. ``confidence``: (H, W) float32, 0 to 1. ``flags``: (H, W) uint8 of
    :class:`Flag`. ``all_in_focus``: (H, W[, 3]) in the camera's dtype, or None. ``z_unit`` "frame" and
    ``pixel_um`` None say that a scale is unknown. ``interval68_um``, ``interval95_um``: (H, W) float32, half the width
    of the interval around the height that holds the true one with 68 % and 95 % probability, after regularisation at
    least that; NaN where nobody can say, as at a peak on the first or last frame; or None where the method states none.
    ``parameters`` and ``provenance``, plain JSON values: how the map was made, and from what (file, SHA-256, device).
    """

    height_um: NDArray[np.float32]
    confidence: NDArray[np.float32]
    flags: NDArray[np.uint8]
    all_in_focus: NDArray[Any] | None = None
    pixel_um: float | None = None
    z_unit: ZUnit = "um"
    method: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    interval68_um: NDArray[np.float32] | None = None
    interval95_um: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        shape = self.height_um.shape
        if len(shape) != 2 or self.confidence.shape != shape or self.flags.shape != shape:
            raise ValueError(
                f"height {shape}, confidence {self.confidence.shape} and flags {self.flags.shape} must be one (H, W)"
            )
        for interval in (self.interval68_um, self.interval95_um):
            if interval is not None and interval.shape != shape:
                raise ValueError(f"interval {interval.shape} does not fit the map {shape}")
        if self.all_in_focus is not None and self.all_in_focus.shape[:2] != shape:
            raise ValueError(f"all-in-focus image {self.all_in_focus.shape} does not fit the map {shape}")

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.height_um.shape[0]), int(self.height_um.shape[1])

    def has_flag(self, flag: Flag) -> NDArray[np.bool_]:
        """Where ``flag`` is set, (H, W) bool."""
        return np.asarray((self.flags & np.uint8(flag)) != 0)


def without_weak(height_map: HeightMap, least_confidence: float) -> HeightMap:
    """The same map with the heights below ``least_confidence`` missing; recorded in its parameters.

    What reads a file of heights alone then sees a hole where nobody should trust a number.
    """
    weak = height_map.confidence < least_confidence
    return replace(
        height_map,
        height_um=np.where(weak, np.float32(np.nan), height_map.height_um),
        parameters={**height_map.parameters, "least_confidence": least_confidence},
    )


def corrected(height_map: HeightMap, *, z_factor: float | None = None, pixel_um: float | None = None) -> HeightMap:
    """The same map with the scale that its file got wrong or does not tell; recorded in its provenance.

    Heights are multiplied by ``z_factor``: -1 for a map of depths, 0.001 for one in nanometres that says micrometres.
    Where the unit is unknown, it says how many micrometres one is. ``pixel_um`` replaces the pixel size.
    Raises InputError where a factor is 0 or a pixel size not positive.
    """
    if z_factor is not None and not (math.isfinite(z_factor) and z_factor != 0):
        raise InputError(_("The factor for the heights must be a number other than 0."))
    if pixel_um is not None and not (math.isfinite(pixel_um) and pixel_um > 0):
        raise InputError(_("The pixel size must be a positive number of micrometres."))
    given = {"z_factor": z_factor, "pixel_um": pixel_um}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return height_map
    before = {"pixel_um": height_map.pixel_um, "z_unit": height_map.z_unit}
    done = replace(height_map, provenance={**height_map.provenance, "correction": {**given, "before": before}})
    if pixel_um is not None:
        done = replace(done, pixel_um=pixel_um)
    if z_factor is None:
        return done
    factor, width = np.float32(z_factor), np.float32(abs(z_factor))
    return replace(
        done,
        height_um=done.height_um * factor,
        z_unit="um",
        interval68_um=None if done.interval68_um is None else done.interval68_um * width,
        interval95_um=None if done.interval95_um is None else done.interval95_um * width,
    )
