"""Middlebury stereo scenes, refocused: the left image and its disparity become a focal stack behind a thin lens.

Layout: a folder per scene with ``im0.png`` and ``disp0.pfm`` (``disp0GT.pfm`` in MiddEval3), the disparity of the left
image in pixels, infinite where unknown; ``im1.png`` and ``calib.txt`` are not needed. Source:
vision.middlebury.edu/stereo/data/scenes2014, for PFM and unknown values stereo/submit3/upload-format.html there;
Scharstein et al., High-Resolution Stereo Datasets with Subpixel-Accurate Ground Truth, GCPR 2014.

AiFDepthNet (Wang et al., ICCV 2021) makes its Middlebury stacks from the same scenes, 15 frames equally spaced in
disparity; its ready-made ones are read by ``named_by_disparity``. Its lens is not published: the one here is ours.
Scenes wider than 1024 pixels are halved until they are not, as the set's own half and quarter sizes are.

Heights and ``z_um`` are disparities in pixels of the image given, larger = nearer.
"""

import functools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import FocalStack
from models.formats.frames import DecodedFrames
from models.formats.images import read_image
from models.language import N_, _
from models.training.datasets.data_set import Entry, known_scene, split_of
from models.training.datasets.files import folders_below, read_numbers
from models.training.scene import Scene

EXPECTED = N_("folders with im0.png and disp0.pfm or disp0GT.pfm")
FRAMES = 15
BLUR_PX_PER_DISPARITY = 0.25
"""Radius of the blur circle for one pixel of disparity off focus: half the ratio of aperture to stereo baseline."""

_TRUTH_NAMES = ("disp0.pfm", "disp0GT.pfm")
_LAYERS_PER_ROOT_PX = 6.0
"""Layers lie where the root of the blur radius, in pixels, grows by the inverse of this: finest near focus."""
_MOST_COLUMNS = 1024


def detect(path: Path) -> bool:
    return any(_truth_name(names) for _folder, names in folders_below(path, 3))


def entries(path: Path) -> list[Entry]:
    """Every scene below ``path``."""
    found = []
    for folder, names in folders_below(path, 3):
        truth_name = _truth_name(names)
        if truth_name is not None:
            name = folder.relative_to(path).as_posix() if folder != path else folder.name
            read = functools.partial(_read_scene, name, folder / "im0.png", folder / truth_name)
            found.append(Entry(name, split_of(folder, path), read))
    return found


def refocused(image: NDArray[np.uint8], disparity: NDArray[np.float32], focus: float) -> NDArray[np.uint8]:
    """``image`` (H, W[, 3]) as a thin lens focused at the disparity ``focus`` shows it; ``disparity`` all known.

    The blur circle of a thin lens is proportional to the difference of inverse distances, so to that of
    disparities (Hecht, Optics, ch. 5). The scene is cut into layers of equal disparity, each blurred as a whole
    and laid over those behind it (Barsky et al., Camera models and optical systems in computer graphics, ICCSA
    2003); where a blurred near edge uncovers what the image does not show, what is seen is scaled up instead.
    Takes some tenths of a second for a megapixel: copy such a set into shards before training.
    """
    blur_px = BLUR_PX_PER_DISPARITY * (disparity - focus)
    layer_of = np.rint(np.sign(blur_px) * np.sqrt(np.abs(blur_px)) * _LAYERS_PER_ROOT_PX).astype(np.int64)
    colour = image.astype(np.float32).reshape(*disparity.shape, -1)
    light = np.zeros_like(colour)
    cover = np.zeros(disparity.shape, np.float32)
    for layer in np.unique(layer_of):  # from far to near
        mask = (layer_of == layer).astype(np.float32)
        disc = _disc((float(layer) / _LAYERS_PER_ROOT_PX) ** 2)
        opaque = cv2.filter2D(mask, -1, disc, borderType=cv2.BORDER_REFLECT)
        own = cv2.filter2D(colour * mask[..., None], -1, disc, borderType=cv2.BORDER_REFLECT).reshape(colour.shape)
        light = light * (1.0 - opaque)[..., None] + own
        cover = cover * (1.0 - opaque) + opaque
    return np.rint(light / np.maximum(cover, 1e-6)[..., None]).clip(0, 255).astype(np.uint8).reshape(image.shape)


def _truth_name(names: list[str]) -> str | None:
    return next((name for name in _TRUTH_NAMES if name in names), None) if "im0.png" in names else None


def _read_scene(name: str, image_file: Path, truth_file: Path) -> Scene:
    image, disparity = read_image(image_file), read_numbers(truth_file)
    if image.dtype != np.uint8:
        raise InputError(_("{path}: an image of 8 bits is expected.").format(path=image_file))
    if image.shape[:2] != disparity.shape:
        raise InputError(
            _("{path} has {truth} pixels, the frames have {frames}; they do not belong together.").format(
                path=truth_file,
                truth=" x ".join(map(str, disparity.shape)),
                frames=" x ".join(map(str, image.shape[:2])),
            )
        )
    image, disparity = _halved(image, disparity)
    known = np.isfinite(disparity) & (disparity > 0)
    least, most = (float(v) for v in np.quantile(disparity[known], (0.001, 0.999))) if known.any() else (0.0, 0.0)
    if most <= least:
        raise InputError(_("{path} knows no two different disparities.").format(path=truth_file))
    z_px = np.linspace(least, most, FRAMES)
    filled = _filled(disparity, known, least)
    frames = DecodedFrames(
        lambda index: refocused(image, filled, float(z_px[index])),
        (FRAMES, *image.shape),
        image.dtype,
        lambda index: f"{image_file}, {index}",
    )
    metadata = {"source": str(image_file.parent), "scene": name, "unit": "disparity in pixels", "rendered": "thin lens"}
    stack = FocalStack(frames, z_px, z_unit="frame", metadata=metadata)
    return known_scene(name, "Middlebury", stack, np.where(known, disparity, np.nan), truth_file)


def _halved(image: NDArray[np.uint8], disparity: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Smaller by a power of two; a disparity is picked, never mixed with that of another surface."""
    factor = 1
    while image.shape[1] // factor > _MOST_COLUMNS:
        factor *= 2
    if factor == 1:
        return image, disparity
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    small = cv2.resize(image[: rows * factor, : columns * factor], (columns, rows), interpolation=cv2.INTER_AREA)
    picked = disparity[factor // 2 :: factor, factor // 2 :: factor][:rows, :columns] / np.float32(factor)
    return np.asarray(small, np.uint8), picked


def _filled(disparity: NDArray[np.float32], known: NDArray[np.bool_], least: float) -> NDArray[np.float32]:
    """Unknown places take the farther of the known neighbours in their row: they are mostly occluded background."""
    sides: list[NDArray[np.float32]] = []
    for values, mask in ((disparity, known), (disparity[:, ::-1], known[:, ::-1])):
        last = np.maximum.accumulate(np.where(mask, np.arange(mask.shape[1]), -1), axis=1)
        side = np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), axis=1), np.inf)
        sides.append(side if not sides else side[:, ::-1])
    farther = np.minimum(*sides)
    return np.where(known, disparity, np.where(np.isfinite(farther), farther, least)).astype(np.float32)


@functools.lru_cache(maxsize=256)
def _disc(radius: float) -> NDArray[np.float32]:
    """A blur circle of sum 1. Its points are shared out between the pixels around them, so that it grows steadily."""
    reach = int(np.ceil(radius))
    count = 32 * (reach + 1) ** 2
    turn, ring = np.arange(count) * np.pi * (3.0 - np.sqrt(5.0)), radius * np.sqrt((np.arange(count) + 0.5) / count)
    disc = np.zeros((2 * reach + 3, 2 * reach + 3))
    y, x = ring * np.sin(turn) + reach + 1, ring * np.cos(turn) + reach + 1
    top, left = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (y - top)) * np.abs(1 - right - (x - left))
            np.add.at(disc, (np.minimum(top + down, 2 * reach + 2), np.minimum(left + right, 2 * reach + 2)), share)
    return np.asarray(disc / disc.sum(), np.float32)
