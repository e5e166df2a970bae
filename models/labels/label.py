"""A label: the height of every pixel that is known best, how well, and where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Provenance(IntEnum):
    """Where a height comes from. Stored as uint8."""

    INVALID = 0
    FOCUS = 1
    CONFOCAL = 2
    """The scan, whatever instrument it is of."""
    FUSED = 3
    INTERPOLATED = 4
    MANUAL = 5
    CLONED = 6
    CONFLICT = 7
    """Focus and scan contradict each other: no height, until a person decides."""


@dataclass(frozen=True)
class Label:
    """Heights (H, W) float32 in micrometres, NaN where unknown.

    ``sigma_um``: (H, W) float32, the standard deviation stated for each, NaN where unknown. ``provenance``: (H, W)
    uint8 of :class:`Provenance`. ``valid``: (H, W) bool, what may be learned from and measured; never where the height
    is NaN. ``sources``: the images (H, W) float32 that it was made of, in its own pixels, by name (``focus_um``,
    ``focus_sigma_um``, ``scan_um``, ``scan_sigma_um``, ``seam_um``). ``pixel_um`` None: unknown. ``transform``: how the
    scan was laid over the focus map; ``parameters``: how they were fused; ``origin``: the files; plain JSON values.
    """

    height_um: NDArray[np.float32]
    sigma_um: NDArray[np.float32]
    provenance: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    sources: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    pixel_um: float | None = None
    transform: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.height_um.shape
        images: dict[str, NDArray[Any]] = {
            "sigma": self.sigma_um,
            "provenance": self.provenance,
            "valid": self.valid,
            **self.sources,
        }
        for name, image in images.items():
            if len(shape) != 2 or image.shape != shape:
                raise ValueError(f"{name} {image.shape} does not fit the label {shape}")
        if np.any(self.valid & ~np.isfinite(self.height_um)):
            raise ValueError("valid pixels without a height")

    def shares(self) -> dict[str, float]:
        """Part of the map by provenance, those that occur."""
        counts = np.bincount(self.provenance.ravel(), minlength=len(Provenance))
        return {kind.name.lower(): float(counts[kind] / self.provenance.size) for kind in Provenance if counts[kind]}
