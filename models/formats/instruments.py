"""Height maps in the formats of instruments: confocal microscopes, interferometers, focus variation.

The decoding is SurfaceTopography's (github.com/ContactEngineering/SurfaceTopography, MIT), an optional package since
it brings others along and takes seconds to load. What is decided here: which channel is heights, that lengths
become micrometres, that masked points and fill values become NaN, and that pixels become square.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import ZUnit
from models.language import _

READERS: Mapping[str, str] = {
    ".al3d": "al3d",
    ".bcr": "bcr",
    ".bcrf": "bcr",
    ".dat": "metropro",
    ".datx": "datx",
    ".gwy": "gwy",
    ".lext": "lext",
    ".mnt": "mnt",
    ".nms": "nms",
    ".opd": "opd",
    ".opdx": "opdx",
    ".os3d": "os3d",
    ".plu": "plu",
    ".plux": "plux",
    ".sdf": "sdf",
    ".sur": "sur",
    ".tmd": "tmd",
    ".vk3": "vk",
    ".vk4": "vk",
    ".vk6": "vk",
    ".vk7": "vk",
    ".zmg": "zmg",
    ".zon": "zon",
}
"""SurfaceTopography's name of the format, by suffix. Named, not recognised: a wrong guess would be a wrong height."""

INSTRUMENT_SUFFIXES = tuple(READERS)

# What the decoders trip over in damaged files; all of it says the same to a person.
_DAMAGE: tuple[type[Exception], ...] = (
    ValueError,
    OSError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
    ArithmeticError,
    MemoryError,
    AssertionError,
)

# Pixels that differ less than this are square to any instrument's own accuracy.
_SQUARE = 0.001

_Real = TypeVar("_Real", bound=np.floating[Any])


@dataclass(frozen=True)
class Measured:
    """Heights (H, W) as a file holds them, NaN where missing, in ``z_unit``; pixels may not be square.

    ``pixel_um``: (x, y), None where the file names no unit. ``facts``: what else the file says, plain JSON values.
    """

    height: NDArray[Any]
    pixel_um: tuple[float, float] | None
    z_unit: ZUnit
    facts: Mapping[str, Any]


def read_instrument_map(path: Path) -> Measured:
    """The heights of ``path``, whose suffix is one of ``INSTRUMENT_SUFFIXES``; rows in the order of the file.

    Raises InputError where the reader is not installed, the file is damaged or of another format, or holds no
    heights on a regular grid.
    """
    try:
        from SurfaceTopography.Exceptions import ReadFileError, UnknownFileFormat
        from SurfaceTopography.IO import open_topography
        from SurfaceTopography.IO.Reader import DataKind
        from SurfaceTopography.Support.UnitConversion import get_unit_conversion_factor
    except ImportError as error:
        raise InputError(
            _(
                "{path}: files of instruments ({suffix}) need the reader SurfaceTopography, which is not installed. "
                "Install it with: pip install 'reliefscope[instruments]'"
            ).format(path=path, suffix=path.suffix.lower())
        ) from error
    if not path.is_file():
        raise InputError(_("There is no file {path}.").format(path=path))
    try:
        with warnings.catch_warnings(action="ignore"):
            reader = open_topography(str(path), READERS[path.suffix.lower()])
            channel = reader.default_channel
            if channel.dim != 2 or not channel.is_uniform or channel.data_kind is not DataKind.HEIGHT:
                raise InputError(
                    _("{path} holds no heights on a regular grid: '{channel}' is something else.").format(
                        path=path, channel=channel.name
                    )
                )
            topography = channel.topography()
            heights = np.ma.filled(np.ma.asarray(topography.heights(), dtype=np.float64), np.nan)
            unit = topography.unit
            um_per_unit = None if unit is None else float(get_unit_conversion_factor(unit, "µm"))
            sizes = topography.pixel_size
            facts = _facts(channel, unit)
    except (ReadFileError, UnknownFileFormat, *_DAMAGE) as error:
        raise InputError(
            _("{path} is not a readable {suffix} file: it is damaged or of another kind.").format(
                path=path, suffix=path.suffix.lower()
            )
        ) from error
    height = np.ascontiguousarray(heights.T)  # there x comes first
    if um_per_unit is None:
        return Measured(height, None, "frame", facts)
    return Measured(height * um_per_unit, (float(sizes[0]) * um_per_unit, float(sizes[1]) * um_per_unit), "um", facts)


def square_pixels(height: NDArray[_Real], pixel_um: tuple[float, float]) -> tuple[NDArray[_Real], float]:
    """The map (H, W) with pixels of one size, the finer of ``pixel_um`` (x, y); and that size.

    The other axis is interpolated linearly: no height leaves the range of its two neighbours, and beside a
    missing one it is missing. Raises InputError where a size is not a positive number.
    """
    if not all(math.isfinite(size) and size > 0 for size in pixel_um):
        raise InputError(_("The pixel size must be a positive number of micrometres."))
    x_um, y_um = pixel_um
    if abs(x_um - y_um) <= _SQUARE * x_um:
        return height, x_um
    axis, ratio = (0, x_um / y_um) if y_um > x_um else (1, y_um / x_um)
    count = height.shape[axis]
    place = np.arange(int((count - 1) / ratio * (1 + 1e-12)) + 1) * ratio
    before = np.minimum(place.astype(int), count - 1)
    share = np.expand_dims((place - before).astype(height.dtype), 1 - axis)
    low, high = height.take(before, axis), height.take(np.minimum(before + 1, count - 1), axis)
    between = low * (1 - share) + high * share
    return np.where(share > 0, between, low).astype(height.dtype, copy=False), min(pixel_um)


def _facts(channel: Any, unit: str | None) -> dict[str, Any]:
    info = channel.info
    instrument = info.get("instrument") or {}
    found = {
        "channel": channel.name,
        "unit_in_file": unit,
        "instrument": " ".join(str(instrument[key]) for key in ("vendor", "name") if instrument.get(key)),
        "measured": str(info.get("acquisition_time") or ""),
    }
    return {name: value for name, value in found.items() if value}
