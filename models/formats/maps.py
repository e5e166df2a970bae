"""Height maps as numbers: float TIFF, NumPy, CSV, X3P (ISO 25178-72) and our own file; written and read back."""

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
from models.formats.mesh import calibrated
from models.height_map import HeightMap
from models.language import _
from models.schema import software_version
from models.storage import SAMPLE_SUFFIXES, load_reconstruction

NUMBER_SUFFIXES = (".tif", ".tiff", ".npy", ".csv", ".x3p")

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
    """What :func:`models.formats.write_height_map` wrote as ``.tif .npy .csv .x3p .h5``.

    Formats other than ``.h5`` keep heights and scale only: confidence is then 1 where there is a height
    and 0 elsewhere. Where a file names no unit (``.npy``, TIFF of another program), ``z_unit`` is "frame":
    numbers of unknown scale. ``name`` chooses among the reconstructions of an ``.h5``. Raises InputError.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in SAMPLE_SUFFIXES:
        return load_reconstruction(path, name)
    readers = {".tif": _read_tiff, ".tiff": _read_tiff, ".npy": _read_npy, ".csv": _read_csv, ".x3p": _read_x3p}
    if suffix not in readers:
        raise InputError(
            _("{path}: height maps can be read from {suffixes}.").format(
                path=path, suffixes=" ".join((*NUMBER_SUFFIXES, *SAMPLE_SUFFIXES))
            )
        )
    try:
        height_um, pixel_um, z_unit = readers[suffix](path)
    except FileNotFoundError:
        raise InputError(_("There is no file {path}.").format(path=path)) from None
    except _READ_ERRORS as error:
        raise InputError(_("{path} is not a readable height map.").format(path=path)) from error
    if height_um.ndim != 2 or height_um.size == 0 or height_um.dtype.kind not in "fiu":
        raise InputError(_("{path} is not a readable height map.").format(path=path))
    if pixel_um is not None and not (np.isfinite(pixel_um) and pixel_um > 0):
        raise InputError(_("The pixel size must be a positive number of micrometres."))
    with np.errstate(over="ignore"):
        height_um = np.ascontiguousarray(height_um, dtype=np.float32)
    height_um = np.where(np.isfinite(height_um), height_um, np.float32(np.nan))
    return HeightMap(
        height_um=height_um,
        confidence=np.isfinite(height_um).astype(np.float32),
        flags=np.zeros(height_um.shape, np.uint8),
        pixel_um=pixel_um,
        z_unit=z_unit,
        provenance={"source": str(path.absolute())},
    )


def is_tiff_map(path: Path) -> bool:
    """True for a TIFF that holds heights of ours rather than images."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return _description(tiff) is not None
    except _READ_ERRORS:
        return False


_Read = tuple[NDArray[Any], float | None, ZUnit]

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


def _read_tiff(path: Path) -> _Read:
    with tifffile.TiffFile(path) as tiff:
        heights = tiff.pages[0].asarray()
        description = _description(tiff)
    if description is None:
        return heights, None, "frame"  # numbers of an unknown unit
    pixel_um = description.get("pixel_um")
    return heights, None if pixel_um is None else float(pixel_um), _unit(description.get("unit"))


def _description(tiff: Any) -> dict[str, Any] | None:
    """What :func:`write_tiff_map` says about the map; None for a TIFF of another program."""
    try:
        description = json.loads(tiff.pages[0].description)
    except ValueError:
        return None
    return description if isinstance(description, dict) and description.get("quantity") == "height" else None


def _read_npy(path: Path) -> _Read:
    return np.load(path, allow_pickle=False), None, "frame"


def _read_csv(path: Path) -> _Read:
    with open(path, encoding="utf-8") as file:
        head = file.readline()
    fields = dict(part.strip().split(": ", 1) for part in head.split(";")[1:]) if head.startswith(_CSV_TITLE) else {}
    pixel = fields.get("pixel", "unknown")
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # an empty file is our caller's to refuse
        heights = np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    return heights, None if pixel == "unknown" else float(pixel.removesuffix(" um")), _unit(fields.get("unit"))


def _read_x3p(path: Path) -> _Read:
    surface = x3pio.read(str(path))
    if not isinstance(surface, x3pio.Surface) or None in (
        surface.header.x.increment,
        surface.header.y.increment,
    ):
        raise ValueError("not a surface on a regular grid")
    pixel_um, other_um = (float(axis.increment) * 1e6 for axis in (surface.header.x, surface.header.y))
    if abs(pixel_um - other_um) > 0.001 * abs(pixel_um):
        raise InputError(
            _("{path} has pixels of {x:g} by {y:g} µm; only square pixels can be used.").format(
                path=path, x=pixel_um, y=other_um
            )
        )
    return surface.layers[0].z[::-1] * 1e6, pixel_um, "um"


def _unit(text: object) -> ZUnit:
    return "um" if text == "um" else "frame"
