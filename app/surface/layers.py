"""What can be shown of a height map as a picture, as plain arrays."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.colour_maps import colourise, robust_range
from models.height_map import Flag, HeightMap
from models.language import N_, _

Layer = Literal["height", "confidence", "uncertainty", "all_in_focus", "flags"]
UNTRUSTED = Flag.PEAK_AT_END | Flag.NO_PEAK | Flag.OUTSIDE
AMBER = (255, 176, 32)
CONFIDENCE_MAP = "gray"
UNCERTAINTY_MAP = "inferno"
SAMPLE = 256
"""Side of the sample from which a display range is taken: enough for a percentile, cheap enough for every update."""

FLAG_TEXTS = {
    Flag.PEAK_AT_END: N_("sharpest on the first or last frame"),
    Flag.NO_PEAK: N_("no focus peak"),
    Flag.SATURATED: N_("overexposed"),
    Flag.SMOOTHED: N_("moved by smoothing"),
    Flag.OUTSIDE: N_("outside a frame after alignment"),
}


def flag_text(flags: int) -> str:
    """The flags of one pixel in words; empty where none is set."""
    return ", ".join(_(text) for flag, text in FLAG_TEXTS.items() if flags & flag)


def height_unit(height_map: HeightMap) -> str:
    return "µm" if height_map.z_unit == "um" else _("frames")


def hide_weak(height_um: NDArray[np.float32], confidence: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Heights (H, W) with NaN where the confidence is below ``threshold``."""
    return np.where(confidence >= threshold, height_um, np.float32(np.nan)) if threshold > 0 else height_um


def display_range(values: NDArray[Any]) -> tuple[float, float]:
    """Robust (low, high) of ``values`` for colours, from a regular sample; (0, 1) where nothing is finite."""
    step_row, step_column = (max(1, side // SAMPLE) for side in values.shape[:2])
    sample = values[::step_row, ::step_column]
    if not np.isfinite(sample).any():
        sample = values
        if not np.isfinite(sample).any():
            return 0.0, 1.0
    low, high = robust_range(sample)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def uncertainty_range(height_map: HeightMap) -> tuple[float, float]:
    """From 0 to what nearly all half widths of the 95 % interval stay below; (0, 1) where none are stated."""
    if height_map.interval95_um is None:
        return 0.0, 1.0
    return 0.0, max(display_range(height_map.interval95_um)[1], 1e-6)


def grey_range(image: NDArray[Any]) -> tuple[float, float]:
    """Levels that show ``image`` as the camera saw it: the whole range in 8 bit, the used one in 16 bit."""
    if image.dtype == np.uint8:
        return 0.0, 255.0
    return display_range(image)


def to_rgb8(image: NDArray[Any], levels: tuple[float, float]) -> NDArray[np.uint8]:
    """Grey or RGB ``image`` as (H, W, 3) uint8, ``levels`` mapped to black and white."""
    low, high = levels
    if image.dtype != np.uint8 or (low, high) != (0.0, 255.0):
        image = np.clip((image.astype(np.float32) - low) * (255.0 / max(high - low, 1e-9)), 0, 255).astype(np.uint8)
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else np.ascontiguousarray(image)


def flags_overlay(height_map: HeightMap) -> NDArray[np.uint8]:
    """Amber (H, W, 4) where a pixel is not to be trusted, transparent elsewhere."""
    overlay = np.zeros((*height_map.shape, 4), np.uint8)
    overlay[height_map.has_flag(UNTRUSTED)] = (*AMBER, 255)
    return overlay


def layer_picture(
    height_map: HeightMap,
    layer: Layer,
    *,
    colour_map: str,
    height_range: tuple[float, float],
    threshold: float = 0.0,
    missing: tuple[int, int, int] = (60, 60, 60),
) -> NDArray[np.uint8]:
    """The picture of one layer, (H, W, 3) uint8; what the map does not have gives the ``missing`` colour."""
    if layer == "uncertainty" and height_map.interval95_um is not None:
        return colourise(height_map.interval95_um, UNCERTAINTY_MAP, *uncertainty_range(height_map), missing=missing)
    if layer == "uncertainty":
        return np.full((*height_map.shape, 3), missing, np.uint8)
    if layer == "confidence":
        return colourise(height_map.confidence, CONFIDENCE_MAP, 0.0, 1.0, missing=missing)
    if layer == "all_in_focus":
        image = height_map.all_in_focus
        if image is None:
            return np.full((*height_map.shape, 3), missing, np.uint8)
        return to_rgb8(image, grey_range(image))
    if layer == "flags":
        picture = np.full((*height_map.shape, 3), missing, np.uint8)
        picture[height_map.has_flag(UNTRUSTED)] = AMBER
        return picture
    heights = hide_weak(height_map.height_um, height_map.confidence, threshold)
    return colourise(heights, colour_map, *height_range, missing=missing)
