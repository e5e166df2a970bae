"""A data set of other people: scenes that are read when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import FocalStack
from models.language import _
from models.training.scene import Scene

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Entry:
    """One scene still on disk. ``split`` is "train", "val", "test" or empty; ``read`` can be pickled."""

    name: str
    split: str
    read: Callable[[], Scene]


class DataSet(Sequence[Scene]):
    """The scenes of a file or folder, each read from disk whenever it is asked for.

    ``data_set[3]`` is a ``Scene``, ``data_set[:3]`` a ``DataSet``. Heights and ``z_um`` of all scenes rise
    towards the camera; ``z_unit`` is "um" only where the set is metric, ``stack.metadata["unit"]`` says what
    else they are. A height is known, too, where it lies beyond the first or the last frame. Can be sent to other
    processes. Reading a scene raises InputError where its files are damaged.
    """

    def __init__(self, path: Path, layout: str, entries: Sequence[Entry]) -> None:
        self.path, self.layout = path, layout
        self._entries = tuple(entries)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self._entries)

    @property
    def splits(self) -> tuple[str, ...]:
        """What :meth:`split` takes: the parts the authors made, in the order in which they appear."""
        return tuple(dict.fromkeys(entry.split for entry in self._entries if entry.split))

    def split(self, name: str) -> "DataSet":
        """The scenes of the part ``name``. Raises InputError where the set has no such part."""
        if name not in self.splits:
            raise InputError(
                _("{path} has no part '{name}'. Parts: {parts}.").format(
                    path=self.path, name=name, parts=", ".join(self.splits) or _("none")
                )
            )
        return DataSet(self.path, self.layout, [entry for entry in self._entries if entry.split == name])

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Scene: ...
    @overload
    def __getitem__(self, index: slice) -> "DataSet": ...
    def __getitem__(self, index: int | slice) -> "Scene | DataSet":
        if isinstance(index, slice):
            return DataSet(self.path, self.layout, self._entries[index])
        return self._entries[index].read()

    def __iter__(self) -> Iterator[Scene]:
        return (entry.read() for entry in self._entries)


def split_of(path: Path, root: Path) -> str:
    """The part that the folders between ``root`` (included) and ``path`` name, or an empty text."""
    names = (root.name, *path.relative_to(root).parts)
    return next((_SPLITS[name.lower()] for name in reversed(names) if name.lower() in _SPLITS), "")


def known_scene(name: str, kind: str, stack: FocalStack, height: NDArray[np.floating], source: Path) -> Scene:
    """The scene, ``height`` (H, W) with NaN or infinity where unknown. Raises InputError where the sizes differ."""
    if height.shape != stack.image_shape:
        raise InputError(
            _("{path} has {truth} pixels, the frames have {frames}; they do not belong together.").format(
                path=source,
                truth=" x ".join(map(str, height.shape)),
                frames=" x ".join(map(str, stack.image_shape)),
            )
        )
    height_um = np.where(np.isfinite(height), height, np.nan).astype(np.float32)
    return Scene(name, kind, stack, height_um)
