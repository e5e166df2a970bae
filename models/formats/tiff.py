"""Multi-page TIFF, with the scale where OME or ImageJ wrote one."""

import logging
import struct
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from models.errors import InputError
from models.formats.frames import DecodedFrames, describe_image, without_alpha
from models.language import _

TIFF_SUFFIXES = (".tif", ".tiff")

# What is wrong with a file is said by InputError; tifffile would say it a second time on stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
logging.getLogger("tifffile").propagate = False

_UM_PER_UNIT = {
    **dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("inch", "in"), 25400.0),
}

_READ_ERRORS = (
    tifffile.TiffFileError,
    ValueError,
    OSError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    RuntimeError,
    MemoryError,  # a damaged header asks for more than there is
)


@dataclass(frozen=True)
class TiffScale:
    """What the file says about its scale; None where it says nothing usable."""

    pixel_um: float | None = None
    step_um: float | None = None


class TiffPages:
    """The images of one TIFF file, read page by page. Raises InputError where they are not one stack.

    ``shape`` is (N, H, W) or (N, H, W, 3). All pages are checked when the file is opened: same size and
    type, 8 or 16 bit, and every byte that the directory promises is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._tiff = tifffile.TiffFile(path)
        except FileNotFoundError:
            raise InputError(_("There is no file {path}.").format(path=path)) from None
        except _READ_ERRORS as error:
            raise InputError(_("{path} is not a readable TIFF image.").format(path=path)) from error
        weakref.finalize(self, self._tiff.close)
        self._lock = threading.Lock()
        try:
            _check_chain(self._tiff, path)
            self._pages, self._memmap, shape = self._find_frames()
        except InputError:
            raise
        except _READ_ERRORS as error:
            raise _damaged(path) from error
        self.shape, self.dtype = shape, self._dtype()

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, index: int) -> NDArray[Any]:
        """Image ``index``, (H, W) or (H, W, 3)."""
        try:
            with self._lock:
                image = self._memmap[index] if self._memmap is not None else self._pages[index].asarray()
            return without_alpha(self._channels_last(np.asarray(image))).astype(self.dtype, copy=False)
        except _READ_ERRORS as error:
            raise InputError(
                _("Image {n} of {path} is damaged or cut short.").format(n=index + 1, path=self.path)
            ) from error

    def scale(self) -> TiffScale:
        """See :func:`metadata_scale`."""
        return metadata_scale(self._tiff)

    def _find_frames(self) -> tuple[Any, Any, tuple[int, ...]]:
        """The pages in order, or one memory-mapped block, and the shape of the whole."""
        series = self._tiff.series[0]
        if self._tiff.is_ome or self._tiff.is_imagej or len(self._tiff.pages) == 1:
            pages = series.pages
            axes = [(axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]
            long_axes = [(axis, n) for axis, n in axes if n > 1]
            if len(long_axes) > 1 or (long_axes and long_axes[0][0] == "C"):
                raise InputError(
                    _("{path} has the axes {axes}; a stack has one series of frames and no further channels.").format(
                        path=self.path, axes=" x ".join(f"{axis}={n}" for axis, n in long_axes)
                    )
                )
            count = long_axes[0][1] if long_axes else 1
        else:
            pages = [page for page in self._tiff.pages if not page.is_reduced]
            count = len(pages)
        first = pages[0]
        if len(pages) != count:  # ImageJ and tifffile may describe many images by one directory
            block = tifffile.memmap(self.path, series=0, mode="r").reshape(count, *first.shape)
            return pages, block, self._frame_shape(count, first)
        for number, page in enumerate(pages, start=1):
            if page is None:
                raise _damaged(self.path)
            if page.shape != first.shape or page.dtype != first.dtype:
                raise InputError(
                    _("Image {n} of {path} is {found}, the first is {expected}. Frames must be alike.").format(
                        n=number,
                        path=self.path,
                        found=describe_image(page.shape, page.dtype),
                        expected=describe_image(first.shape, first.dtype),
                    )
                )
            _check_extent(page, self._tiff, self.path)
        return pages, None, self._frame_shape(count, first)

    def _frame_shape(self, count: int, page: Any) -> tuple[int, ...]:
        keyframe = page.keyframe
        if keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
            raise InputError(_("{path} uses a colour palette; save it as grey or RGB.").format(path=self.path))
        samples = int(keyframe.samplesperpixel)
        if samples not in (1, 2, 3, 4):
            raise InputError(_("{path} has {n} channels; grey or RGB is needed.").format(path=self.path, n=samples))
        size = (count, int(keyframe.imagelength), int(keyframe.imagewidth))
        return (*size, 3) if samples >= 3 else size

    def _dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self._pages[0].dtype).newbyteorder("=")
        if dtype not in (np.uint8, np.uint16):
            raise InputError(
                _("{path} holds {dtype} values; 8- or 16-bit unsigned images are needed.").format(
                    path=self.path, dtype=dtype
                )
            )
        return dtype

    def _channels_last(self, image: NDArray[Any]) -> NDArray[Any]:
        keyframe = self._pages[0].keyframe
        image = image.reshape(keyframe.shape)
        planar = image.ndim == 3 and keyframe.axes.startswith("S")
        return np.moveaxis(image, 0, -1) if planar else image


def read_tiff(path: Path) -> tuple[DecodedFrames, TiffScale]:
    """The frames of a TIFF file and its scale. Raises InputError."""
    pages = TiffPages(path)
    frames = DecodedFrames(
        pages.read, pages.shape, pages.dtype, lambda index: _("Image {n} of {path}").format(n=index + 1, path=path)
    )
    return frames, pages.scale()


def metadata_scale(tiff: Any) -> TiffScale:
    """The scale from OME or ImageJ metadata; resolution tags of other programs count dots for printers.

    Raises InputError where the pixels are not square.
    """
    if tiff.ome_metadata:
        return _ome_scale(tiff.ome_metadata, Path(tiff.filehandle.path))
    if tiff.imagej_metadata:
        return _imagej_scale(tiff)
    return TiffScale()


def _check_chain(tiff: Any, path: Path) -> None:
    """Follow the directories to the end: a file cut short would otherwise pass as a shorter stack."""
    size = tiff.filehandle.size
    big, order = tiff.is_bigtiff, tiff.byteorder
    count_format, entry_bytes, offset_format = (f"{order}Q", 20, f"{order}Q") if big else (f"{order}H", 12, f"{order}I")
    with open(path, "rb") as file:
        position = 8 if big else 4
        seen: set[int] = set()
        while True:
            file.seek(position)
            (offset,) = struct.unpack(offset_format, file.read(struct.calcsize(offset_format)))
            if offset == 0:
                return
            if offset >= size or offset in seen:
                raise _damaged(path)
            seen.add(offset)
            file.seek(offset)
            (entries,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
            position = offset + struct.calcsize(count_format) + entries * entry_bytes


def _check_extent(page: Any, tiff: Any, path: Path) -> None:
    if page.parent is not tiff:  # an OME series may continue in other files
        return
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    if max(ends, default=0) > tiff.filehandle.size or not page.dataoffsets:
        raise _damaged(path)


def _ome_scale(xml: str, path: Path) -> TiffScale:
    try:
        pixels = next(e for e in ElementTree.fromstring(xml).iter() if e.tag.rpartition("}")[2] == "Pixels")
    except (ElementTree.ParseError, StopIteration):
        return TiffScale()
    x_um, y_um, z_um = (_length_um(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit")) for a in "XYZ")
    return TiffScale(_square(x_um, y_um, path), z_um)


def _imagej_scale(tiff: Any) -> TiffScale:
    metadata = tiff.imagej_metadata
    unit = str(metadata.get("unit", ""))
    step_um = _length_um(metadata.get("spacing"), str(metadata.get("zunit", unit)))
    tags = tiff.pages[0].tags
    sizes: list[float | None] = []
    for name, axis_unit in (("XResolution", unit), ("YResolution", str(metadata.get("yunit", unit)))):
        numerator, denominator = tags[name].value if name in tags else (0, 0)
        sizes.append(_length_um(denominator / numerator, axis_unit) if numerator and denominator else None)
    return TiffScale(_square(sizes[0], sizes[1], Path(tiff.filehandle.path)), step_um)


def _length_um(value: Any, unit: str | None) -> float | None:
    """``value`` in um; None where it is missing, not positive or of no known unit. OME's default unit is um."""
    factor = _UM_PER_UNIT.get("um" if unit is None else unit.strip().lower())
    try:
        length = float(value)
    except (TypeError, ValueError):
        return None
    if factor is None or not (np.isfinite(length) and length > 0):
        return None
    return length * factor


def _square(x_um: float | None, y_um: float | None, path: Path) -> float | None:
    if x_um is None or y_um is None:
        return x_um
    if abs(x_um - y_um) > 0.001 * x_um:
        raise InputError(
            _("{path} has pixels of {x:g} by {y:g} µm; only square pixels can be used.").format(
                path=path, x=x_um, y=y_um
            )
        )
    return x_um


def _damaged(path: Path) -> InputError:
    return InputError(_("{path} is damaged or cut short.").format(path=path))
