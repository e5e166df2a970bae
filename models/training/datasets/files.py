"""What data sets keep on disk: frames as image files, and depths, disparities or heights as arrays (H, W)."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.formats.frames import DecodedFrames
from models.formats.images import probe, read_image
from models.formats.maps import read_height_map
from models.language import _
from models.training.datasets.exr import read_exr

NUMBER_SUFFIXES = (".npy", ".tif", ".tiff", ".pfm", ".exr", ".mat", ".png", ".bmp")
"""In order of preference where one thing is there twice: a converted copy is easier to read than its EXR."""


def frames_of(files: Sequence[Path]) -> DecodedFrames:
    """The frames in the order of ``files``, decoded on demand. Raises InputError where the first cannot be read."""
    shape, dtype = probe(files[0])
    return DecodedFrames(
        lambda index: read_image(files[index]), (len(files), *shape), dtype, lambda index: str(files[index])
    )


def folders_below(root: Path, depth: int = 4) -> list[tuple[Path, list[str]]]:
    """``root`` and the folders in it, ``depth`` levels down, sorted, each with its sorted file names.

    Hidden folders are left out. Raises InputError where ``root`` cannot be listed.
    """
    found = []
    top = len(root.parts)

    def refuse(error: OSError) -> None:
        raise InputError(_("{path} cannot be read: {reason}.").format(path=error.filename, reason=error.strerror))

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=natural)
        path = Path(folder)
        if len(path.parts) - top >= depth:
            folders.clear()
        found.append((path, sorted(name for name in names if not name.startswith("."))))
    return found


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts]


def numbers_beside(folder: Path, stem: str) -> Path | None:
    """The file ``stem`` with one of ``NUMBER_SUFFIXES`` in ``folder``, or None."""
    return next((path for suffix in NUMBER_SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


def read_numbers(path: Path) -> NDArray[np.float32]:
    """The values (H, W) float32 as stored, infinities included; NaN and infinity mean what the data set says.

    Formats: OpenEXR, PFM (netpbm: rows from below), NumPy, TIFF, 8- and 16-bit grey images, MATLAB up to 7.2
    (``SD_Result`` or the only two-dimensional array). Raises InputError naming the file.
    """
    match path.suffix.lower():
        case ".exr":
            values = read_exr(path)
        case ".pfm":
            values = _read_pfm(path)
        case ".mat":
            values = _read_mat(path)
        case ".png" | ".bmp":
            values = read_image(path).astype(np.float32)
        case _:
            values = read_height_map(path).height_um
    if values.ndim != 2 or values.size == 0:
        raise InputError(
            _("{path} holds values of shape {shape}; one value per pixel is needed.").format(
                path=path, shape=values.shape
            )
        )
    return values


def _read_pfm(path: Path) -> NDArray[np.float32]:
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error):
        image = None
    if image is None or image.dtype != np.float32:
        raise InputError(_("{path} is not a readable PFM image.").format(path=path))
    return np.asarray(image)


def _read_mat(path: Path) -> NDArray[np.float32]:
    import scipy.io  # a tenth of a second, which only these files should cost

    try:
        variables = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
        arrays = {
            name: value
            for name, value in variables.items()
            if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "fiu" and value.size > 1
        }
        only = next(iter(arrays.values())) if len(arrays) == 1 else None
        return np.asarray(arrays.get("SD_Result", only), dtype=np.float32)
    except (OSError, ValueError, TypeError, NotImplementedError, LookupError, EOFError) as error:
        raise InputError(_("{path} is not a readable MATLAB file with one map in it.").format(path=path)) from error
