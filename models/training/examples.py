"""Where training takes its stacks from: folders of shards and of scenes. Scenes made on the fly: ``rendered.py``."""

import threading
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.language import _
from models.training.scene import Scene

SHARDS = "shard_*.npz"
_RESCAN_S = 20.0
_KEPT_BYTES = 2 << 30
"""Scenes of other formats are kept decoded up to this much."""


@dataclass(frozen=True)
class Example:
    """One stack to learn from: ``frames`` (N, H, W[, 3]) uint8, ``z`` (N,) rising, ``height`` (H, W), NaN unknown.

    ``z`` and ``height`` share a unit. The arrays may be maps of a file.
    """

    frames: NDArray[np.uint8]
    z: NDArray[np.float32]
    height: NDArray[np.float32]
    kind: str = ""


class Examples(Protocol):
    """A source of stacks. ``count``: how many there are now, or None where there is no end to them."""

    @property
    def count(self) -> int | None: ...

    def draw(self, number: int, at_least: int = 2) -> Example:
        """The stack of the ``number``-th draw of a run, with ``at_least`` this many frames where there are any such.

        The same draw gives the same stack, from any thread and in any order.
        """
        ...


class ExampleFolder(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Example: ...
    def refresh(self) -> None: ...
    def frame_counts(self) -> NDArray[np.int64]: ...


class ShardFolder:
    """The scenes of all ``shard_*.npz`` in a folder, mapped into memory; files that appear later are taken in, too.

    A shard holds frames uint8 (S, N, H, W), z_um float32 (S, N) rising, height_um float32 (S, H, W), kind (S,).
    One that cannot be read may be half written: it is tried again as long as it changes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unreadable: dict[Path, str] = {}
        self._tried: dict[Path, float] = {}
        self._shards: list[_Shard] = []
        self._ends: NDArray[np.int64] = np.zeros(0, np.int64)
        self.refresh()
        if not self._shards:
            path, reason = next(iter(self.unreadable.items()))
            raise InputError(_("The shard {path} cannot be read: {reason}").format(path=path, reason=reason))

    def refresh(self) -> None:
        for path in sorted(self.folder.glob(SHARDS)):
            try:
                changed = path.stat().st_mtime
                if self._tried.get(path) == changed or (path in self._tried and path not in self.unreadable):
                    continue
                self._tried[path] = changed
                shard = _open_shard(path)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                self.unreadable[path] = str(error) or type(error).__name__
                continue
            self.unreadable.pop(path, None)
            self._shards.append(shard)
        self._ends = np.cumsum([len(shard.frames) for shard in self._shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        which = int(np.searchsorted(self._ends, index, side="right"))
        shard = self._shards[which]
        row = index - int(self._ends[which - 1] if which else 0)
        return Example(shard.frames[row], shard.z[row], shard.height[row], str(shard.kind[row]))

    def frame_counts(self) -> NDArray[np.int64]:
        counts = [np.full(len(shard.frames), shard.frames.shape[1], np.int64) for shard in self._shards]
        return np.concatenate(counts)


class SceneFolder:
    """Scenes of any other kind, decoded when they are first needed and kept while there is room."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._scenes = scenes
        self._kept: dict[int, Example] = {}
        self._bytes = 0

    def refresh(self) -> None:
        """Nothing: the list was given."""

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> Example:
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        example = as_example(self._scenes[index])
        if self._bytes + example.frames.nbytes <= _KEPT_BYTES:
            self._kept[index] = example
            self._bytes += example.frames.nbytes
        return example

    def frame_counts(self) -> NDArray[np.int64]:
        # Opening every file to count its frames would take long: they are taken as they come.
        return np.full(len(self._scenes), np.iinfo(np.int64).max, np.int64)


class ExamplePool:
    """All stacks of some folders, in a new random order each time they have all been seen."""

    def __init__(self, folders: Sequence[ExampleFolder], *, seed: int = 0) -> None:
        self._folders = list(folders)
        self._seed = seed
        self._lock = threading.Lock()
        self._orders: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._read()

    def _read(self) -> None:
        self._counts = np.concatenate([folder.frame_counts() for folder in self._folders])
        self._ends = np.cumsum([len(folder) for folder in self._folders])
        self._eligible: dict[int, NDArray[np.intp]] = {}
        self._read_at = time.monotonic()

    @property
    def count(self) -> int:
        return len(self._counts)

    def __getitem__(self, index: int) -> Example:
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self._folders[which][index - int(self._ends[which - 1] if which else 0)]

    def draw(self, number: int, at_least: int = 2) -> Example:
        with self._lock:
            if time.monotonic() - self._read_at > _RESCAN_S:
                for folder in self._folders:
                    folder.refresh()
                self._read()
            return self[self._index(number, at_least)]

    def _index(self, number: int, at_least: int) -> int:
        if at_least not in self._eligible:
            longest = int(self._counts.max())
            self._eligible[at_least] = np.flatnonzero(self._counts >= min(at_least, longest))
        eligible = self._eligible[at_least]
        epoch, position = divmod(number, len(eligible))
        return int(eligible[self._order(epoch, len(eligible))[position]])

    def _order(self, epoch: int, count: int) -> NDArray[np.int64]:
        key = (epoch, count)
        if key not in self._orders:
            if len(self._orders) >= 64:
                self._orders.clear()
            self._orders[key] = np.random.default_rng((self._seed, epoch)).permutation(count)
        return self._orders[key]


def open_examples(folders: Sequence[Path], *, seed: int = 0) -> ExamplePool:
    """The stacks of ``folders``: shards, scenes of this program (.h5) or a data set of another group.

    Raises InputError where a folder is missing, holds none of these or cannot be read.
    """
    return ExamplePool([_open_folder(folder) for folder in folders], seed=seed)


def _open_folder(folder: Path) -> ExampleFolder:
    if not folder.exists():
        raise InputError(_("There is no folder {path}.").format(path=folder))
    if folder.is_dir() and any(folder.glob(SHARDS)):
        return ShardFolder(folder)
    scenes = _read_scenes(folder)
    if not scenes:
        raise InputError(
            _("There is nothing to train on in {path}: neither shards ({shards}) nor scenes.").format(
                path=folder, shards=SHARDS
            )
        )
    return SceneFolder(scenes)


def _read_scenes(folder: Path) -> Sequence[Scene]:
    from models.training.datasets import open_data_set
    from models.training.splits import read_scenes

    if folder.is_dir() and any(folder.glob("*.h5")):
        return read_scenes(folder)
    return open_data_set(folder)


def as_example(scene: Scene) -> Example:
    """A scene with all its frames in memory, in 8 bits and with rising z."""
    stack = scene.stack
    frames = _in_8_bits(np.stack([stack.frames[index] for index in range(len(stack))]))
    z = stack.z_um.astype(np.float32)
    if z[0] > z[-1]:
        frames, z = frames[::-1], z[::-1]
    return Example(frames, z, np.asarray(scene.height_um, np.float32), scene.kind)


def _in_8_bits(frames: NDArray[Any]) -> NDArray[np.uint8]:
    """The upper 8 of the bits that are in use: cameras of 12 bits fill only part of 16."""
    return (frames >> max(int(frames.max()).bit_length() - 8, 0)).astype(np.uint8)


@dataclass(frozen=True)
class _Shard:
    frames: NDArray[np.uint8]
    z: NDArray[np.float32]
    height: NDArray[np.float32]
    kind: NDArray[np.str_]


def _open_shard(path: Path) -> _Shard:
    """Map a shard. Raises OSError, ValueError, KeyError or BadZipFile where it is none or not whole."""
    with zipfile.ZipFile(path) as archive:
        frames, z, height, kind = (_member(path, archive, name) for name in ("frames", "z_um", "height_um", "kind"))
    if frames.ndim != 4 or frames.dtype != np.uint8:
        raise ValueError(f"frames are {frames.dtype} of shape {frames.shape}")
    scenes, count, rows, columns = frames.shape
    if z.shape != (scenes, count) or height.shape != (scenes, rows, columns) or kind.shape != (scenes,):
        raise ValueError(f"frames {frames.shape}, z_um {z.shape}, height_um {height.shape}, kind {kind.shape}")
    if not scenes or count < 2 or not (np.diff(z, axis=1) > 0).all():
        raise ValueError("z_um does not rise")
    return _Shard(frames, z.astype(np.float32), height, kind)


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array of an .npz file: a map of the file where it is not compressed, otherwise a copy."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(member)
        header = member.tell()
        if info.compress_type != zipfile.ZIP_STORED or fortran or dtype.hasobject:
            member.seek(0)
            whole: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            return whole
    with open(path, "rb") as file:  # the local header, PKWARE's APPNOTE.TXT 4.3.7: two lengths at 26, 30 bytes in all
        file.seek(info.header_offset + 26)
        lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
    start = info.header_offset + 30 + lengths + header
    if start + int(np.prod(shape)) * dtype.itemsize > path.stat().st_size:
        raise ValueError("the file is shorter than it should be")
    return np.memmap(path, dtype, "r", start, shape)
