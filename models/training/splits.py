"""The fixed scenes: train, test and calibration, and styles of a narrower kind than training has, one sample file each.

A split is a list of seeds of its own, so ``test`` is the same everywhere, for ever, and shares no scene with
any shard. ``train`` and ``test`` have the sizes of Micro 3D (382 and 106 stacks of 20 frames of 256 x 256;
Yan et al., Journal of Software 2023), whose labelled data are not public.

In the file (:mod:`models.schema`) the truth is ``/label/height_um``, NaN where it is not known.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.atomic import check_space, replacing
from models.errors import InputError
from models.hdf5 import open_sample
from models.language import _
from models.schema import COMPRESSION, STRUCTURE_BYTES
from models.storage import open_stack, write_stack
from models.training.generator import random_scene
from models.training.processes import each_done, make_folder
from models.training.scene import Scene

FIXED = 1
"""First word of every seed of a split; :data:`models.training.shards.STREAM` is that of the shards."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Split:
    """``count`` scenes of a style (:data:`models.training.styles.STYLES`), each with one of ``frames`` images."""

    number: int
    count: int
    kinds: str = "mixed"
    frames: tuple[int, ...] = (20,)
    size_px: int = 256

    def scene(self, index: int) -> Scene:
        """Scene ``index``, rendered."""
        frames = self.frames[index % len(self.frames)]
        return random_scene((FIXED, self.number, index), size=(self.size_px,) * 2, frames=frames, kinds=self.kinds)


SPLITS: dict[str, Split] = {
    "train": Split(0, 382),
    "test": Split(1, 106),
    "calibration": Split(2, 64),
    "light-field": Split(3, 16, "light-field", (9, 10)),
    "macro": Split(4, 16, "macro", (41,)),
    "rolls": Split(5, 16, "rolls"),
    "fine": Split(6, 12, "textured", (41, 60)),
}


def split(name: str) -> Split:
    """The split called ``name``. Raises InputError where there is none, listing those there are."""
    if name not in SPLITS:
        raise InputError(_("There is no split '{name}'. Splits: {names}.").format(name=name, names=", ".join(SPLITS)))
    return SPLITS[name]


def write_split(
    name: str,
    folder: Path,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> int:
    """Render the scenes of a split into ``folder``, ``<name>_<number>.h5``; those that are there are kept.

    Returns the number of scenes that were rendered. Raises InputError where there is no such split,
    OutputError where the folder cannot be written, Cancelled when cancelled: whole files stay.
    """
    chosen = split(name)
    make_folder(folder)
    missing = [index for index in range(chosen.count) if not split_path(name, folder, index).exists()]
    scene_bytes = chosen.size_px**2 * (max(chosen.frames) + 4) + STRUCTURE_BYTES
    check_space(split_path(name, folder, 0), len(missing) * scene_bytes)
    done = chosen.count - len(missing)
    if progress is not None:
        progress(done, chosen.count)
    works = [(name, folder, index) for index in missing]
    with contextlib.closing(each_done(_write_one, works, jobs, cancel)) as finished:
        for _work in finished:
            done += 1
            if progress is not None:
                progress(done, chosen.count)
    return len(missing)


def split_path(name: str, folder: Path, index: int) -> Path:
    """Where scene ``index`` of a split lies."""
    return folder / f"{name}_{index:03d}.h5"


def write_scene(path: str | Path, scene: Scene) -> None:
    """A scene as a sample file that every part of the program opens. Replaces an existing one.

    Raises OutputError where the disk is full or the place cannot be written.
    """
    path = Path(path).absolute()
    with replacing(path) as temporary:
        write_stack(temporary, scene.stack)
        with open_sample(temporary, "r+") as file:
            label = file.create_group("label")
            label.attrs["z_unit"] = scene.stack.z_unit
            label.attrs["name"], label.attrs["kind"] = scene.name, scene.kind
            height = np.asarray(scene.height_um, dtype=np.float32)
            label.create_dataset("height_um", data=height, chunks=height.shape, **COMPRESSION)


def read_scene(path: str | Path) -> Scene:
    """The stack of a sample file with its label; the frames stay on disk.

    Raises InputError where the file cannot be read, has no label, or one that does not fit its frames.
    """
    path = Path(path).absolute()
    stack = open_stack(path)
    with open_sample(path) as file:
        if "label/height_um" not in file:
            raise InputError(_("{path} has no label: its heights are not known.").format(path=path))
        label = file["label"]
        height_um = np.asarray(label["height_um"][:], dtype=np.float32)
        name, kind = str(label.attrs.get("name", path.stem)), str(label.attrs.get("kind", ""))
    if height_um.shape != stack.image_shape:
        raise InputError(_("The label of {path} has another size than its frames.").format(path=path))
    return Scene(name, kind, stack, height_um)


def read_scenes(folder: str | Path) -> Sequence[Scene]:
    """All scenes of a folder, by name of their files; frames are read when they are asked for.

    Raises InputError where there is no such folder, nothing in it, or a file that is no scene.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(_("There is no folder {path}.").format(path=folder))
    paths = sorted(path for path in folder.glob("*.h5") if not path.name.startswith("."))
    if not paths:
        raise InputError(_("{path} holds no scenes (*.h5).").format(path=folder))
    return [read_scene(path) for path in paths]


def _write_one(work: tuple[str, Path, int]) -> None:
    name, folder, index = work
    write_scene(split_path(name, folder, index), split(name).scene(index))
