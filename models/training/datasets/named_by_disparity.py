"""Focal stacks of FlyingThings3D and Middlebury as AiFDepthNet gives them out: frames named by their disparity.

Layout (github.com/albert100121/AiFDepthNet gives ``FlyingThings3D_FS`` and ``Middlebury_FS``; the names are those in
the lists of github.com/wcy199705/DfFintheWild, Depth_Estimation_Test/Datasets/Middlebury_FS): a folder per scene with
``10.0.png``, ``13.571428571428571.png``, ... - the name is the disparity in pixels that is in focus -, ``AiF.png``
sharp everywhere and ``disp.exr``, the disparity. FlyingThings3D_FS has 15 frames from 10 to 100 in folders ``train``
and ``val``, Middlebury_FS 15 from 10 to 60 in ``focal_stack``. Not positive is unknown. The text files with lists of
paths are not needed. The disparity may also be ``disp.npy``, ``.tif`` or ``.pfm``.

Heights and ``z_um`` are disparities in pixels.
"""

import functools
import re
from pathlib import Path

import numpy as np

from models.errors import InputError
from models.focal_stack import FocalStack
from models.language import N_, _
from models.training.datasets.data_set import Entry, known_scene, split_of
from models.training.datasets.files import folders_below, frames_of, numbers_beside, read_numbers
from models.training.scene import Scene

EXPECTED = N_("folders with 10.0.png, 13.57.png, ... (the disparity in focus) and disp.exr")

_FRAME = re.compile(r"(-?\d+(?:\.\d+)?)\.(png|jpg|jpeg|tif|tiff|bmp)", re.IGNORECASE)


def detect(path: Path) -> bool:
    return any(_is_scene(names) for _folder, names in folders_below(path))


def entries(path: Path) -> list[Entry]:
    """Every scene below ``path``. Raises InputError where one has no disparity."""
    found = []
    for folder, names in folders_below(path):
        if not _is_scene(names):
            continue
        truth = numbers_beside(folder, "disp")
        if truth is None:
            raise InputError(_("{path} has no readable disp.exr (or .npy, .tif, .pfm).").format(path=folder))
        frames = sorted((float(match[1]), folder / name) for name in names if (match := _FRAME.fullmatch(name)))
        name = folder.relative_to(path).as_posix() if folder != path else folder.name
        kind = "Middlebury" if "middlebury" in str(folder).lower() else "FlyingThings3D"
        found.append(
            Entry(name, split_of(folder, path), functools.partial(_read_scene, name, kind, tuple(frames), truth))
        )
    return found


def _is_scene(names: list[str]) -> bool:
    """Frames named by a number with a fraction: a folder 1.png, 2.png, ... is another layout."""
    fractions = [name for name in names if _FRAME.fullmatch(name) and "." in Path(name).stem]
    return len(fractions) >= 2 and any(Path(name).stem == "disp" for name in names)


def _read_scene(name: str, kind: str, frames: tuple[tuple[float, Path], ...], truth_file: Path) -> Scene:
    disparity = read_numbers(truth_file)
    with np.errstate(invalid="ignore"):
        height = np.where(disparity > 0, disparity, np.nan)
    stack = FocalStack(
        frames_of([file for _z, file in frames]),
        np.array([z for z, _file in frames]),
        z_unit="frame",
        metadata={"source": str(truth_file.parent), "scene": name, "unit": "disparity in pixels"},
    )
    return known_scene(name, kind, stack, height, truth_file)
