"""Colour maps for heights: perceptually even, and readable by people with any kind of colour vision.

Even steps in height look like even steps in colour (Crameri et al., Nature Communications 11 (2020) 5444),
so no edge appears that is not in the surface. Rainbow maps such as jet are left out for that reason.
"""

from functools import cache

import cmap
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.language import _

COLOUR_MAPS: tuple[str, ...] = ("viridis", "cividis", "batlow", "inferno", "lapaz", "oslo", "gray")
"""Names in the order of a menu; the first one is the default."""

_CATALOGUE = {"batlow": "crameri:batlow", "lapaz": "crameri:lapaz", "oslo": "crameri:oslo", "gray": "matlab:gray"}

MISSING_RGB = (60, 60, 60)
"""What a pixel without a height looks like: a grey that no map but ``gray`` contains."""


@cache
def lut(name: str) -> NDArray[np.uint8]:
    """The 256 colours of a map, (256, 3) uint8 RGB from low to high; read-only. InputError for an unknown name."""
    if name not in COLOUR_MAPS:
        raise InputError(
            _("There is no colour map called '{name}'. Colour maps: {names}.").format(
                name=name, names=", ".join(COLOUR_MAPS)
            )
        )
    colours: NDArray[np.uint8] = np.round(255 * cmap.Colormap(_CATALOGUE.get(name, name)).lut(256)[:, :3]).astype(
        np.uint8
    )
    colours.flags.writeable = False
    return colours


def colourise(
    values: NDArray[np.floating],
    name: str,
    low: float,
    high: float,
    missing: tuple[int, int, int] = MISSING_RGB,
) -> NDArray[np.uint8]:
    """RGB (H, W, 3) uint8 of ``values`` (H, W): ``low`` gets the first colour, ``high`` the last, NaN ``missing``.

    Values outside are drawn as the nearest end. Where ``high`` is not above ``low`` (a flat surface), every
    value gets the middle colour.
    """
    scaled = np.array(values, dtype=np.float32)
    if high > low:
        scaled -= np.float32(low)
        scaled *= np.float32(255.0 / (high - low))
        np.clip(scaled, 0, 255, out=scaled)
        scaled += np.float32(0.5)
    else:
        scaled[np.isfinite(scaled)] = 127
    index = np.nan_to_num(scaled, nan=256.0).astype(np.uint16)
    index[~np.isfinite(values)] = 256
    return np.vstack([lut(name), np.array([missing], dtype=np.uint8)])[index]


def robust_range(values: NDArray[np.floating], percent: float = 0.5) -> tuple[float, float]:
    """The range (low, high) of ``values`` without the ``percent`` lowest and highest, ignoring NaN.

    (0, 1) where there is nothing to measure, so that a picture can always be drawn.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(finite, (percent, 100 - percent))
    return float(low), float(high)
