"""A folder of images, one file per frame."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import InputError
from models.formats.frames import DecodedFrames, describe_image
from models.formats.tiff import TIFF_SUFFIXES, TiffPages
from models.language import _

_KINDS = {".tif": "tiff", ".tiff": "tiff", ".png": "png", ".bmp": "bmp", ".jpg": "jpeg", ".jpeg": "jpeg"}
IMAGE_SUFFIXES = tuple(_KINDS)
_GREY_MODES = ("1", "L", "LA", "La")
_LOSSLESS_FIRST = ("tiff", "png", "bmp", "jpeg")


@dataclass(frozen=True)
class _Series:
    """Files whose names differ in one number only."""

    pattern: str
    kind: str
    numbered: list[tuple[int, Path]]

    @property
    def rank(self) -> tuple[int, int]:
        """Longest first; of the same images saved twice, the lossless ones."""
        return -len(self.numbered), _LOSSLESS_FIRST.index(self.kind)


def read_folder(folder: Path) -> DecodedFrames:
    """The frames of ``folder``: the longest series of images whose names differ in one running number.

    Other files (notes, masks, results) are left out. Sizes and types are checked now, from the headers;
    pixels are decoded on demand. Orientation tags are ignored, so that all frames keep the camera's pixels.
    Raises InputError where no series is found, a number is missing, or the images differ.
    """
    files = frame_files(folder)
    first_shape, first_dtype = probe(files[0])
    for path in files[1:]:
        shape, dtype = probe(path)
        if (shape, dtype) != (first_shape, first_dtype):
            raise InputError(
                _("{name} is {found}, the first frame is {expected}. All frames of a stack must be alike.").format(
                    name=path,
                    found=describe_image(shape, dtype),
                    expected=describe_image(first_shape, first_dtype),
                )
            )
    return DecodedFrames(
        lambda index: read_image(files[index]),
        (len(files), *first_shape),
        first_dtype,
        lambda index: str(files[index]),
    )


def frame_files(folder: Path) -> list[Path]:
    """The files that :func:`read_folder` takes, in the order of their number."""
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in _KINDS and not p.name.startswith("."))
    if not images:
        raise InputError(
            _("The folder {folder} holds no images. A stack needs PNG, TIFF, BMP or JPEG files.").format(folder=folder)
        )
    if len(images) == 1:
        raise InputError(
            _("The folder {folder} holds one image; at least 2 are needed to find a focus.").format(folder=folder)
        )
    series = sorted(_all_series(images), key=lambda s: s.rank)
    if not series or len(series[0].numbered) < 2:
        raise InputError(
            _("The images in {folder} have no running number in their names, so their order is unknown.").format(
                folder=folder
            )
        )
    best = series[0]
    taken = {path for _number, path in best.numbered}
    for other in series[1:]:
        if other.rank == best.rank and not taken & {path for _number, path in other.numbered}:
            raise InputError(
                _("The folder {folder} holds several series: {first} and {second}. Put each in its own folder.").format(
                    folder=folder, first=best.pattern, second=other.pattern
                )
            )
    _check_no_gap(best)
    return [path for _number, path in best.numbered]


def probe(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an image from its header; raises InputError where it is no image or an unusable one."""
    _check_not_empty(path)
    if path.suffix.lower() in TIFF_SUFFIXES:
        pages = _single_page(path)
        return pages.shape[1:], pages.dtype
    with _opened(path) as image:
        if image.mode in ("F", "I", "CMYK", "LAB", "HSV", "YCbCr"):
            raise InputError(
                _("{name}: images of type {mode} cannot be used; save as 8- or 16-bit grey or RGB.").format(
                    name=path, mode=image.mode
                )
            )
        height, width = image.height, image.width
        if image.mode.startswith("I;16"):
            return (height, width), np.dtype(np.uint16)
        dtype = np.dtype(np.uint16 if _is_deep_png(image) else np.uint8)
        return ((height, width) if _is_grey(image) else (height, width, 3)), dtype


def read_image(path: Path) -> NDArray[Any]:
    """One image (H, W) or RGB (H, W, 3), uint8 or uint16, values as stored. Raises InputError naming the file."""
    _check_not_empty(path)
    if path.suffix.lower() in TIFF_SUFFIXES:
        return _single_page(path).read(0)
    with _opened(path) as image:
        if _is_deep_png(image):  # Pillow would cut 16-bit colour to 8 bit
            return _read_deep_png(path, is_grey=_is_grey(image))
        try:
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise _damaged(path, error) from error
        if image.mode in ("1", "LA", "La"):
            image = image.convert("L")
        elif image.mode not in ("L", "RGB") and not image.mode.startswith("I;16"):
            image = image.convert("RGB")
        pixels = np.asarray(image)
        return pixels.astype(np.uint16, copy=False) if pixels.dtype.itemsize == 2 else pixels


def _all_series(images: list[Path]) -> list[_Series]:
    """Every way to see the files as a series: each run of digits in a name may be the running number."""
    groups: dict[tuple[str, str], dict[Path, int]] = defaultdict(dict)
    for path in images:
        kind = _KINDS[path.suffix.lower()]
        for run in re.finditer(r"\d+", path.stem):
            pattern = f"{path.stem[: run.start()]}*{path.stem[run.end() :]}"
            groups[pattern, kind][path] = int(run.group())
    return [
        _Series(f"{pattern} ({kind})", kind, sorted((number, path) for path, number in numbers.items()))
        for (pattern, kind), numbers in groups.items()
    ]


def _check_no_gap(series: _Series) -> None:
    """A lost file would shift every height above it: say so rather than measure wrongly.

    Names numbered irregularly on purpose, such as by the time of day, are left alone.
    """
    numbers = np.array([number for number, _path in series.numbered])
    steps = np.diff(numbers)
    usual = int(np.median(steps))
    if usual == steps.min() and (steps != usual).any():
        at = int(np.argmax(steps != usual))
        raise InputError(
            _("Frames are missing between {before} and {after}. A stack must be equally spaced.").format(
                before=series.numbered[at][1], after=series.numbered[at + 1][1].name
            )
        )


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            _("{path} is not a readable {kind} image.").format(path=path, kind=_KINDS[path.suffix.lower()].upper())
        ) from error


def _is_deep_png(image: Image.Image) -> bool:
    tiles = getattr(image, "tile", [])
    return image.format == "PNG" and bool(tiles) and str(tiles[0][3]).endswith(";16B") and image.mode != "I;16"


def _is_grey(image: Image.Image) -> bool:
    """Pillow calls grey with alpha RGBA where it has 16 bits; how the pixels are stored tells."""
    tiles = getattr(image, "tile", [])
    return image.mode in _GREY_MODES or (bool(tiles) and tiles[0][3] == "LA;16B")


def _read_deep_png(path: Path, *, is_grey: bool) -> NDArray[Any]:
    """RGB or RGBA, or grey with alpha, which OpenCV makes four channels of."""
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise _damaged(path, "PNG")
    if is_grey:
        return np.asarray(pixels[..., 0])
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGB))


def _single_page(path: Path) -> TiffPages:
    pages = TiffPages(path)
    if len(pages) != 1:
        raise InputError(
            _("{path} holds {n} images; open that file itself instead of its folder.").format(path=path, n=len(pages))
        )
    return pages


def _check_not_empty(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:  # a link that leads nowhere
        raise InputError(_("{path} cannot be read: {reason}.").format(path=path, reason=error.strerror)) from error
    if size == 0:
        raise InputError(_("{path} is empty.").format(path=path))


def _damaged(path: Path, reason: object) -> InputError:
    return InputError(_("{path} is damaged or cut short ({reason}).").format(path=path, reason=reason))
