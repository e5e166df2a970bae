"""DefocusNet's data set, also called FoD500: five focused images and a depth per scene, in one folder.

Layout (readme and ``source/util_func.py`` of github.com/dvl-tum/defocus-net; Maximov et al., Focus on Defocus,
CVPR 2020): ``000012_01All.tif`` ... five 8-bit images per scene, sorted by name, focused at 0.1, 0.15, 0.3, 0.7
and 1.5 m, and ``000012Dpt.exr``, half floats, the distance in metres in the channel R; distances of 0 are unknown.
The first 80 % of the scenes are for training (readme); the copy in train/test folders that
github.com/wcy199705/DfFintheWild uses is read as it is. Depths may also be ``.npy``, ``.tif`` or ``.pfm``.

Heights are the distance with the sign turned, in um, so that they rise towards the camera: -1.5e6 .. -1e5.
They go on behind the last focus: the background is up to some metres away.
"""

import functools
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.errors import InputError
from models.focal_stack import FocalStack
from models.language import N_, _
from models.training.datasets.data_set import Entry, known_scene, split_of
from models.training.datasets.files import NUMBER_SUFFIXES, folders_below, frames_of, read_numbers
from models.training.scene import Scene

EXPECTED = N_("a folder with 000000_00All.tif and four more per scene, and 000000Dpt.exr")
FOCUS_M = (0.1, 0.15, 0.3, 0.7, 1.5)

_FRAME = re.compile(r"(\d+)_(\d+)All\.tiff?", re.IGNORECASE)
_DEPTH = re.compile(r"(\d+)Dpt(\.\w+)", re.IGNORECASE)
_TRAINING_SHARE = 0.8


def detect(path: Path) -> bool:
    return any(_FRAME.fullmatch(name) for _folder, names in folders_below(path, 2) for name in names)


def entries(path: Path) -> list[Entry]:
    """Every scene below ``path``. Raises InputError where one has no depth or not its five frames."""
    found: list[Entry] = []
    for folder, names in folders_below(path, 2):
        found += _entries_of_folder(folder, names, split_of(folder, path))
    if any(entry.split for entry in found):
        return found
    training = int(len(found) * _TRAINING_SHARE)
    return [replace(entry, split="train" if index < training else "val") for index, entry in enumerate(found)]


def _entries_of_folder(folder: Path, names: list[str], split: str) -> list[Entry]:
    frames: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    depths: dict[str, Path] = {}
    for name in names:
        if match := _FRAME.fullmatch(name):
            frames[match[1]].append((int(match[2]), folder / name))
        elif (match := _DEPTH.fullmatch(name)) and match[2].lower() in NUMBER_SUFFIXES:
            known = depths.get(match[1])
            if known is None or NUMBER_SUFFIXES.index(match[2].lower()) < NUMBER_SUFFIXES.index(known.suffix.lower()):
                depths[match[1]] = folder / name
    found = []
    for number, numbered in sorted(frames.items()):
        if len(numbered) != len(FOCUS_M):
            raise InputError(
                _("{path}: scene {number} has {n} frames; {expected} are expected.").format(
                    path=folder, number=number, n=len(numbered), expected=len(FOCUS_M)
                )
            )
        if number not in depths:
            raise InputError(
                _("{path}: scene {number} has no depth {number}Dpt.exr.").format(path=folder, number=number)
            )
        files = tuple(file for _index, file in sorted(numbered))
        name = f"{split}/{number}" if split else number
        found.append(Entry(name, split, functools.partial(_read_scene, name, files, depths[number])))
    return found


def _read_scene(name: str, files: tuple[Path, ...], depth_file: Path) -> Scene:
    depth_m = read_numbers(depth_file)
    with np.errstate(invalid="ignore"):
        height_um = np.where(depth_m > 0, -1e6 * depth_m, np.nan)
    stack = FocalStack(
        frames_of(files[::-1]),
        -1e6 * np.array(FOCUS_M[::-1]),
        metadata={"source": str(depth_file.parent), "scene": name, "unit": "distance from the camera in um, negative"},
    )
    return known_scene(name, "DefocusNet", stack, height_um, depth_file)
