"""OpenEXR images as numbers: what depth-from-focus data sets keep their depths in.

Read here: scan lines of half or float values, uncompressed or compressed by RLE or ZIP, which is what
Blender and OpenCV write. For the other compressions the package ``OpenEXR`` is used where it is installed.
Layout: "OpenEXR File Layout" and "Technical Introduction to OpenEXR", openexr.com.
"""

import importlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.language import _

_MAGIC = b"\x76\x2f\x31\x01"
_TILED, _DEEP, _MULTIPART = 0x200, 0x800, 0x1000
_LINES_PER_BLOCK = {0: 1, 1: 1, 2: 1, 3: 16}
"""Compressions read here: none, RLE, ZIP of single lines, ZIP of 16 lines."""
_TYPES = (np.dtype("<u4"), np.dtype("<f2"), np.dtype("<f4"))
_CHANNELS = ("R", "Y", "Z", "V")
"""Where a depth is, in order of preference; a grey depth saved as RGB is in all three."""
_MOST_PIXELS = 1 << 28


@dataclass(frozen=True)
class _Header:
    channels: tuple[tuple[str, "np.dtype[Any]"], ...]
    compression: int
    window: tuple[int, int, int, int]
    """xMin, yMin, xMax, yMax, all inclusive."""
    end: int
    """Position of the table of offsets."""

    @property
    def shape(self) -> tuple[int, int]:
        x0, y0, x1, y1 = self.window
        return y1 - y0 + 1, x1 - x0 + 1


def read_exr(path: Path) -> NDArray[np.float32]:
    """One channel (H, W) float32 of ``path``: R, else Y, Z, V, else the first. Raises InputError naming the file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(_("{path} cannot be read: {reason}.").format(path=path, reason=error.strerror)) from error
    if data[:4] != _MAGIC:
        raise InputError(_("{path} is not an OpenEXR image.").format(path=path))
    try:
        header = _read_header(data)
        if header is None:
            return _read_by_package(path)
        return _read_pixels(data, header)
    except (ValueError, LookupError, struct.error, zlib.error) as error:
        raise InputError(_("{path} is damaged or cut short ({reason}).").format(path=path, reason=error)) from error


def _read_header(data: bytes) -> _Header | None:
    """None for a valid file of a kind that is not read here."""
    (version,) = struct.unpack_from("<I", data, 4)
    if version & (_TILED | _DEEP | _MULTIPART):
        return None
    position = 8
    values: dict[str, bytes] = {}
    while data[position] != 0:
        name, position = _text(data, position)
        _kind, position = _text(data, position)
        (size,) = struct.unpack_from("<i", data, position)
        if size < 0:
            raise ValueError("header")
        values[name] = data[position + 4 : position + 4 + size]
        position += 4 + size
    channels, is_full = _read_channels(values["channels"])
    header = _Header(channels, values["compression"][0], struct.unpack("<4i", values["dataWindow"]), position + 1)
    rows, columns = header.shape
    if rows < 1 or columns < 1 or rows * columns > _MOST_PIXELS or not channels:
        raise ValueError("size")
    return header if is_full and header.compression in _LINES_PER_BLOCK else None


def _read_channels(data: bytes) -> tuple[tuple[tuple[str, "np.dtype[Any]"], ...], bool]:
    """Names and types in the order of storage, and whether each has a value for every pixel."""
    channels = []
    is_full = True
    position = 0
    while data[position] != 0:
        name, position = _text(data, position)
        kind, _linear, x_step, y_step = struct.unpack_from("<iIii", data, position)
        channels.append((name, _TYPES[kind]))
        is_full &= x_step == 1 and y_step == 1
        position += 16
    return tuple(channels), is_full


def _text(data: bytes, position: int) -> tuple[str, int]:
    end = data.index(b"\0", position)
    return data[position:end].decode("latin-1"), end + 1


def _read_pixels(data: bytes, header: _Header) -> NDArray[np.float32]:
    """Each block holds lines, each line the row of every channel in turn."""
    rows, columns = header.shape
    names = [name for name, _dtype in header.channels]
    chosen = next((names.index(name) for name in _CHANNELS if name in names), 0)
    row_bytes = [columns * dtype.itemsize for _name, dtype in header.channels]
    start, dtype = sum(row_bytes[:chosen]), header.channels[chosen][1]
    block_rows = _LINES_PER_BLOCK[header.compression]
    blocks = -(-rows // block_rows)
    image = np.full((rows, columns), np.nan, np.float32)
    for offset in struct.unpack_from(f"<{blocks}Q", data, header.end):
        y, size = struct.unpack_from("<ii", data, offset)
        first = y - header.window[1]
        count = min(block_rows, rows - first)
        packed = data[offset + 8 : offset + 8 + size]
        if size < 0 or len(packed) != size or not 0 <= first < rows:
            raise ValueError("block")
        lines = _unpacked(packed, header.compression, count * sum(row_bytes)).reshape(count, -1)
        values = np.ascontiguousarray(lines[:, start : start + row_bytes[chosen]]).view(dtype)
        image[first : first + count] = values
    return image


def _unpacked(packed: bytes, compression: int, size: int) -> NDArray[np.uint8]:
    """``size`` bytes; a block that would have grown is stored as it is."""
    if len(packed) == size:
        return np.frombuffer(packed, np.uint8)
    coded = np.frombuffer(_run_lengths(packed) if compression == 1 else zlib.decompress(packed), np.uint8)
    if compression == 0 or coded.size != size:
        raise ValueError("block")
    # each byte is the difference to the one before, plus 128; even bytes come first, then the odd ones
    differences = coded.astype(np.int64) - 128
    differences[0] += 128
    halves = np.cumsum(differences).astype(np.uint8)
    values = np.empty(size, np.uint8)
    values[0::2], values[1::2] = halves[: (size + 1) // 2], halves[(size + 1) // 2 :]
    return values


def _run_lengths(packed: bytes) -> bytes:
    """A count below zero is followed by that many bytes, any other by one byte that comes once more than it says."""
    parts = []
    position = 0
    while position < len(packed):
        count = packed[position] - 256 if packed[position] > 127 else packed[position]
        if count < 0:
            parts.append(packed[position + 1 : position + 1 - count])
            position += 1 - count
        else:
            parts.append(packed[position + 1 : position + 2] * (count + 1))
            position += 2
    return b"".join(parts)


def _read_by_package(path: Path) -> NDArray[np.float32]:
    try:
        package = importlib.import_module("OpenEXR")
    except ImportError:
        raise InputError(
            _(
                "{path} is an OpenEXR image of a kind that Reliefscope does not read itself (PIZ, tiles, ...). "
                "Install the Python package OpenEXR, or save the image with ZIP compression or as .tif or .npy."
            ).format(path=path)
        ) from None
    try:
        with package.File(str(path), separate_channels=True) as file:
            channels = file.channels()
            name = next((name for name in _CHANNELS if name in channels), next(iter(channels)))
            pixels = np.asarray(channels[name].pixels, np.float32)
    except (RuntimeError, ValueError, StopIteration, OSError) as error:
        raise InputError(_("{path} is damaged or cut short ({reason}).").format(path=path, reason=error)) from error
    if pixels.ndim != 2:
        raise InputError(_("{path} holds no plain image.").format(path=path))
    return pixels
