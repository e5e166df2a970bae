"""Height maps as numbers: float TIFF, NumPy, CSV, X3P (ISO 25178-72) and our own file; written and read back.

What instruments write is read by :mod:`models.formats.instruments`.
"""

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import x3pio
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import ZUnit
from models.formats.instruments import INSTRUMENT_SUFFIXES, Measured, read_instrument_map, square_pixels
from models.formats.mesh import calibrated
from models.formats.tiff import metadata_scale
from models.height_map import HeightMap
from models.language import _
from models.schema import software_version
from models.storage import SAMPLE_SUFFIXES, load_reconstruction

NUMBER_SUFFIXES = (".tif", ".tiff", ".npy", ".csv", ".x3p")
"""Written and read."""
READ_SUFFIXES = (*NUMBER_SUFFIXES, *INSTRUMENT_SUFFIXES)

# What heights in um may lose as float32; the noise of the best interferometers is of this size.
_ROUNDING = 1e-3

_CSV_TITLE = "# Reliefscope height map"


def write_tiff_map(height_map: HeightMap, path: Path) -> None:
    """float32 heights with NaN where missing; the description says the unit and the origin as JSON.

    The resolution tags hold pixels per centimetre where the pixel size is known.
    """
    description = {
        "program": f"Reliefscope {software_version()}",
        "quantity": "height",
        "unit": height_map.z_unit,
        "pixel_um": height_map.pixel_um,
        "method": height_map.method,
        "parameters": dict(height_map.parameters),
        "provenance": dict(height_map.provenance),
    }
    scale: dict[str, Any] = {}
    if height_map.pixel_um is not None:
        per_cm = 1e4 / height_map.pixel_um
        scale = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        path,
        height_map.height_um,
        photometric="minisblack",
        compression="zlib",
        predictor=True,
        description=json.dumps(description, default=str),
        metadata=None,
        **scale,
    )


def write_npy_map(height_map: HeightMap, path: Path) -> None:
    """The bare array (H, W) float32, NaN where missing. The format has no place for a unit."""
    np.save(path, height_map.height_um)


def write_csv_map(height_map: HeightMap, path: Path) -> None:
    """One line per image row, ``nan`` where missing, after one comment line with unit and pixel size.

    Nine significant digits: reading gives the same float32 values back.
    """
    pixel = "unknown" if height_map.pixel_um is None else f"{height_map.pixel_um!r} um"
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{_CSV_TITLE}; unit: {height_map.z_unit}; pixel: {pixel}\n")
        np.savetxt(file, height_map.height_um, fmt="%.9g", delimiter=",")


def write_x3p_map(height_map: HeightMap, path: Path) -> None:
    """ISO 25178-72 in metres; rows run upwards there, since its axes are right-handed.

    Raises InputError for a map without scale: the format knows no other unit.
    """
    height_um, pixel_um = calibrated(height_map, path)
    metadata = x3pio.Metadata.for_software("Reliefscope", software_version())
    metadata.comment = f"Depth from focus, method {height_map.method}" if height_map.method else None
    x3pio.write(
        str(path),
        height_um[::-1].astype(np.float64) * 1e-6,
        x_scale=pixel_um * 1e-6,
        y_scale=pixel_um * 1e-6,
        metadata=metadata,
    )


def read_height_map(path: str | Path, name: str = "main") -> HeightMap:
    """What :func:`models.formats.write_height_map` wrote as ``.tif .npy .csv .x3p .h5``, or an instrument's map.

    Formats other than ``.h5`` keep heights and scale only: confidence is then 1 where there is a height
    and 0 elsewhere. Where a file names no unit (``.npy``, TIFF of another program), ``z_unit`` is "frame":
    numbers of unknown scale, which :func:`models.height_map.corrected` gives one. Pixels that are not square are
    made so (:func:`models.formats.instruments.square_pixels`). ``provenance`` keeps ``pixel_um_in_file`` (x, y) and
    what else the file says, and ``z_offset``, what was taken off heights too large for float32.
    ``name`` chooses among the reconstructions of an ``.h5``. Raises InputError.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in SAMPLE_SUFFIXES:
        return load_reconstruction(path, name)
    readers = {".tif": _read_tiff, ".tiff": _read_tiff, ".npy": _read_npy, ".csv": _read_csv, ".x3p": _read_x3p}
    if suffix not in READ_SUFFIXES:
        raise InputError(
            _("{path}: height maps can be read from {suffixes}.").format(
                path=path, suffixes=" ".join((*READ_SUFFIXES, *SAMPLE_SUFFIXES))
            )
        )
    try:
        read = readers[suffix](path) if suffix in readers else read_instrument_map(path)
    except FileNotFoundError:
        raise InputError(_("There is no file {path}.").format(path=path)) from None
    except _READ_ERRORS as error:
        raise InputError(_("{path} is not a readable height map.").format(path=path)) from error
    if read.height.ndim != 2 or read.height.size == 0 or read.height.dtype.kind not in "fiu":
        raise InputError(_("{path} is not a readable height map.").format(path=path))
    height, offset = _single_precision(read.height)
    pixel_um: float | None = None
    provenance: dict[str, Any] = {"source": str(path.absolute()), **read.facts}
    if offset:
        provenance["z_offset"] = offset
    if read.pixel_um is not None:
        if read.pixel_um[0] != read.pixel_um[1]:
            known = height[np.isfinite(height)]
            provenance["pixel_um_in_file"] = list(read.pixel_um)
            provenance["range_in_file"] = [float(known.min()), float(known.max())] if known.size else None
        height, pixel_um = square_pixels(height, read.pixel_um)
    return HeightMap(
        height_um=height,
        confidence=np.isfinite(height).astype(np.float32),
        flags=np.zeros(height.shape, np.uint8),
        pixel_um=pixel_um,
        z_unit=read.z_unit,
        provenance=provenance,
    )


def is_tiff_map(path: Path) -> bool:
    """True for a TIFF that holds heights rather than images: one of ours, or a single one of real numbers."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return _description(tiff) is not None or (len(tiff.pages) == 1 and tiff.pages[0].dtype.kind == "f")
    except _READ_ERRORS:
        return False


# What the readers raise on damaged files; they share no narrower base.
_READ_ERRORS: tuple[type[Exception], ...] = (
    tifffile.TiffFileError,
    x3pio.X3pError,
    zipfile.BadZipFile,
    ValueError,
    OSError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    EOFError,
)


def _read_tiff(path: Path) -> Measured:
    with tifffile.TiffFile(path) as tiff:
        heights = tiff.pages[0].asarray()
        description = _description(tiff)
        if description is None:  # numbers of an unknown unit; OME and ImageJ know at least the pixel size
            return _square(heights, metadata_scale(tiff).pixel_um, "frame")
    pixel_um = description.get("pixel_um")
    return _square(heights, None if pixel_um is None else float(pixel_um), _unit(description.get("unit")))


def _description(tiff: Any) -> dict[str, Any] | None:
    """What :func:`write_tiff_map` says about the map; None for a TIFF of another program."""
    try:
        description = json.loads(tiff.pages[0].description)
    except ValueError:
        return None
    return description if isinstance(description, dict) and description.get("quantity") == "height" else None


def _read_npy(path: Path) -> Measured:
    return _square(np.load(path, allow_pickle=False), None, "frame")


def _read_csv(path: Path) -> Measured:
    with open(path, encoding="utf-8") as file:
        head = file.readline()
    fields = dict(part.strip().split(": ", 1) for part in head.split(";")[1:]) if head.startswith(_CSV_TITLE) else {}
    pixel = fields.get("pixel", "unknown")
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # an empty file is our caller's to refuse
        heights = np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    return _square(heights, None if pixel == "unknown" else float(pixel.removesuffix(" um")), _unit(fields.get("unit")))


def _read_x3p(path: Path) -> Measured:
    surface = x3pio.read(str(path))
    x, y = surface.header.x.increment, surface.header.y.increment
    if not isinstance(surface, x3pio.Surface) or x is None or y is None:
        raise ValueError("not a surface on a regular grid")
    return Measured(surface.layers[0].z[::-1] * 1e6, (float(x) * 1e6, float(y) * 1e6), "um", {})


def _single_precision(height: NDArray[Any]) -> tuple[NDArray[np.float32], float]:
    """The heights as float32, NaN for what is infinite there, as fill values such as -1.8e308 are; and what was taken
    off them: instruments that count from the base of their stand would lose nanometres otherwise.
    """
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(height, dtype=np.float32)
    known = np.isfinite(single)
    single = np.where(known, single, np.float32(np.nan))
    if not known.any() or np.abs(single[known] - height[known]).max() <= _ROUNDING:
        return single, 0.0
    offset = float(np.round(np.median(height[known])))
    return np.where(known, height - offset, np.nan).astype(np.float32), offset


def _square(height: NDArray[Any], pixel_um: float | None, z_unit: ZUnit) -> Measured:
    return Measured(height, None if pixel_um is None else (pixel_um, pixel_um), z_unit, {})


def _unit(text: object) -> ZUnit:
    return "um" if text == "um" else "frame"
