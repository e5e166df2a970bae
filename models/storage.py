"""The sample file: a stack that survives a crash of the program, and what was reconstructed from it.

Why a kill at any moment loses nothing: the file gets all its structure before the first frame. Every chunk
is allocated, every attribute exists, and the file takes its final name only after that has reached the
disk. Adding a frame then overwrites reserved bytes and touches no HDF5 structure, so there is no moment
at which the file is inconsistent. A frame counts as captured once its height is in ``/stack/z_um``, which
is written after its image; frames that never arrived have NaN there. Saving a height map later changes
the group ``/reconstructions`` only, never what leads to the stack.
"""

import contextlib
import hashlib
import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from models.atomic import check_space, check_writable, replacing, write_error
from models.errors import Cancelled, InputError, OutputError
from models.focal_stack import FocalStack, Optics, ZUnit
from models.hdf5 import open_sample
from models.height_map import HeightMap
from models.language import _
from models.schema import (
    COMPRESSION,
    create_stack,
    read_json,
    read_optics,
    read_reconstruction,
    reserve_frames,
    stamp,
    write_reconstruction,
)

SAMPLE_SUFFIXES = (".h5", ".hdf5")

_FRAMES_PER_FSYNC = 4
"""A power cut may cost this many of the last frames; a crash of the program costs none."""
_STRUCTURE_BYTES = 1 << 20

_being_captured: set[Path] = set()

Progress = Callable[[int, int], None]


class StackWriter:
    """Captures a stack into a new file; each frame is safe on disk when :meth:`append` returns.

    ``image_shape`` is (H, W) or (H, W, 3), ``dtype`` uint8 or uint16, ``frame_count`` the number planned.
    Leaving the ``with`` block by an exception leaves an incomplete file, which :func:`recover` turns into
    a shorter stack. Raises OutputError where ``path`` exists, cannot be written or the disk is too small.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        image_shape: tuple[int, ...],
        dtype: Any,
        frame_count: int,
        pixel_um: float | None = None,
        optics: Optics | None = None,
        z_unit: ZUnit = "um",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self._image_shape = tuple(int(n) for n in image_shape)
        self._dtype = np.dtype(dtype)
        self._planned = frame_count
        self._written = 0
        if self.path.exists():
            raise OutputError(
                _("{path} exists already. Captures are never overwritten; choose another name.").format(path=self.path)
            )
        check_writable(self.path)
        check_space(self.path, frame_count * self._frame_bytes + _STRUCTURE_BYTES)
        with replacing(self.path) as temporary, h5py.File(temporary, "x") as file:
            stamp(file)
            shape = (frame_count, *self._image_shape)
            stack = create_stack(file, shape, self._dtype, pixel_um, optics, z_unit, metadata or {})
            reserve_frames(stack, shape, self._dtype)
        # HDF5's own cache stays out: it would hold frames back until the next flush.
        self._file = h5py.File(self.path, "r+", rdcc_nbytes=0)
        _being_captured.add(self.path)

    @property
    def frame_count(self) -> int:
        """Frames safely on disk."""
        return self._written

    @property
    def _frame_bytes(self) -> int:
        return math.prod(self._image_shape) * int(self._dtype.itemsize)

    def append(self, image: NDArray[Any], *, z_um: float, z_requested_um: float, time_s: float) -> None:
        """Write the next frame; on disk when this returns.

        Raises OutputError where the disk is full or gone (frames before this one stay), and ValueError for
        a frame of another shape or type, a height that is not finite or one frame too many.
        """
        index = self._written
        if image.shape != self._image_shape or image.dtype != self._dtype:
            raise ValueError(f"frame is {image.dtype} {image.shape}, planned {self._dtype} {self._image_shape}")
        if index >= self._planned:
            raise ValueError(f"{self._planned} frames were planned, one more was given")
        if not np.isfinite(z_um):
            raise ValueError(f"the height of a frame must be finite, not {z_um}")
        stack = self._file["stack"]
        try:
            offset = (index, *(0 for _axis in self._image_shape))
            stack["frames"].id.write_direct_chunk(offset, np.ascontiguousarray(image))
            stack["z_requested_um"][index] = z_requested_um
            stack["time_s"][index] = time_s
            self._file.flush()
            if (index + 1) % _FRAMES_PER_FSYNC == 0:
                self._fsync()
            stack["z_um"][index] = z_um  # from here on the frame counts
            self._file.flush()
        except OSError as error:
            raise write_error(self.path, error) from error
        self._written = index + 1

    def complete(self) -> None:
        """Declare the stack finished; the last thing written. Fewer frames than planned are allowed."""
        try:
            self._file.flush()
            self._fsync()
            self._file.attrs.modify("complete", True)
            self._file.flush()
            self._fsync()
        except OSError as error:
            raise write_error(self.path, error) from error

    def close(self) -> None:
        """Release the file; does not complete it."""
        _being_captured.discard(self.path)
        # Every frame is flushed already, and a lost disk has been reported.
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _fsync(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class StoredFrames:
    """Frames of a sample file, read when asked for; usable from any thread. See :mod:`models.hdf5` on locks."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.shape, self.dtype = path, shape, dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> NDArray[Any]:
        """Frame ``index`` as a fresh array."""
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"frame {index} of {n}")
        with open_sample(self.path) as file:
            return np.asarray(file["stack/frames"][index % n])


def open_stack(path: str | Path) -> FocalStack:
    """The stack of a completed or recovered file; its frames stay on disk.

    Raises InputError where the file has no stack, cannot be read, or was interrupted and not recovered yet.
    """
    path = Path(path).absolute()
    with open_sample(path) as file:
        if not file.attrs["complete"]:
            raise InputError(_("The capture of {path} was interrupted: recover it first.").format(path=path))
        return _read_stack(file, path)


def is_complete(path: str | Path) -> bool:
    """False for a capture that was interrupted or is still running."""
    with open_sample(Path(path)) as file:
        return bool(file.attrs["complete"])


def frames_written(path: str | Path) -> tuple[int, int]:
    """(frames on disk, frames planned)."""
    with open_sample(Path(path)) as file:
        z_um = _stack_group(file, Path(path))["z_um"][:]
        return _count_captured(z_um), len(z_um)


def recover(path: str | Path) -> FocalStack:
    """Make an interrupted capture a regular, shorter stack of the frames that reached the disk.

    Only the ``complete`` attribute is written. Raises InputError where fewer than two frames were captured
    or the capture is still running.
    """
    path = Path(path).absolute()
    if path in _being_captured:
        raise InputError(_("{path} is still being captured.").format(path=path))
    with open_sample(path, "r+") as file:
        stack = _read_stack(file, path)  # raises for fewer than two frames, before anything is changed
        file.attrs.modify("complete", True)
        return stack


def find_interrupted(folder: str | Path) -> list[Path]:
    """Sample files directly in ``folder`` whose capture was interrupted and that hold something to recover."""
    found = []
    for path in sorted(p for p in Path(folder).absolute().iterdir() if p.suffix.lower() in SAMPLE_SUFFIXES):
        if path in _being_captured or path.name.startswith("."):
            continue
        # Foreign, damaged, or captured by another process at this moment: nothing to offer.
        with contextlib.suppress(InputError), open_sample(path, patience_s=0) as file:
            if not file.attrs["complete"] and _count_captured(_stack_group(file, path)["z_um"][:]) >= 2:
                found.append(path)
    return found


def write_stack(
    path: str | Path,
    stack: FocalStack,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    *,
    compressed: bool = False,
) -> None:
    """A whole stack into a new file, which appears only when it is complete. Replaces an existing one.

    ``compressed`` makes the file some 1.7 times smaller and writing several times slower.
    Raises OutputError where the disk is full or the place cannot be written, Cancelled when cancelled.
    """
    path = Path(path).absolute()
    n = len(stack)
    check_writable(path)
    check_space(path, math.prod(stack.frames.shape) * stack.frames.dtype.itemsize + _STRUCTURE_BYTES)
    with replacing(path) as temporary, h5py.File(temporary, "x", rdcc_nbytes=0) as file:
        stamp(file)
        shape, dtype = tuple(stack.frames.shape), np.dtype(stack.frames.dtype)
        group = create_stack(file, shape, dtype, stack.pixel_um, stack.optics, stack.z_unit, stack.metadata)
        settings = COMPRESSION if compressed else {}
        frames = group.create_dataset("frames", shape, dtype, chunks=(1, *shape[1:]), **settings)
        group["z_um"][:] = group["z_requested_um"][:] = stack.z_um
        for index, (image, _z_um) in enumerate(stack):
            if cancel is not None and cancel.is_set():
                raise Cancelled
            frames[index] = image
            if progress is not None:
                progress(index + 1, n)
        file.attrs.modify("complete", True)


def compress(path: str | Path, progress: Progress | None = None, cancel: threading.Event | None = None) -> None:
    """Rewrite a finished capture with gzip and byte shuffle, which lose nothing and need no plug-in.

    Everything else in the file is carried over; space reserved for frames that never came is given back.
    """
    path = Path(path).absolute()
    open_stack(path)
    with replacing(path) as temporary, open_sample(path) as source, h5py.File(temporary, "x", rdcc_nbytes=0) as target:
        old = source["stack"]
        n = _count_captured(old["z_um"][:])
        for name, value in source.attrs.items():
            target.attrs[name] = value
        for name in source:
            if name != "stack":
                source.copy(name, target)
        new = target.create_group("stack")
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in old:
            if name == "frames":
                continue
            if old[name].shape[:1] == old["z_um"].shape:
                new[name] = old[name][:n]
            else:
                old.copy(name, new)
        frames = new.create_dataset(
            "frames", (n, *old["frames"].shape[1:]), old["frames"].dtype, chunks=old["frames"].chunks, **COMPRESSION
        )
        for index in range(n):
            if cancel is not None and cancel.is_set():
                raise Cancelled
            frames[index] = old["frames"][index]
            if progress is not None:
                progress(index + 1, n)


def stack_sha256(stack: FocalStack, cancel: threading.Event | None = None) -> str:
    """SHA-256 over type, shape, heights and pixels: the identity of a stack, whatever file it came from."""
    digest = hashlib.sha256(f"{np.dtype(stack.frames.dtype)} {tuple(stack.frames.shape)}".encode())
    digest.update(np.ascontiguousarray(stack.z_um, dtype="<f8").data)
    for image, _z_um in stack:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def save_reconstruction(path: str | Path, height_map: HeightMap, name: str = "main") -> None:
    """Store ``height_map`` as ``/reconstructions/<name>`` of a sample file, replacing one of that name.

    A missing file is made. Where the file holds the stack, its SHA-256 goes into the provenance. The old
    map is removed only after the new one is in the file.
    """
    path = Path(path).absolute()
    if not name or "/" in name or name.startswith("."):
        raise InputError(_("'{name}' cannot be the name of a reconstruction.").format(name=name))
    if not path.exists():
        check_writable(path)
        check_space(path, _map_bytes(height_map) + _STRUCTURE_BYTES)
        with replacing(path) as temporary, h5py.File(temporary, "x") as file:
            stamp(file)
            write_reconstruction(file, height_map, name)
            file.attrs.modify("complete", True)
        return
    sha256 = _stored_sha256(path)
    if sha256 is not None:
        provenance: dict[str, Any] = {"source": str(path), **height_map.provenance, "stack_sha256": sha256}
    else:
        provenance = dict(height_map.provenance)
    check_space(path, _map_bytes(height_map) + _STRUCTURE_BYTES)
    with open_sample(path, "r+") as file:
        waiting = f".{name}"
        group = file["reconstructions"]
        if waiting in group:  # left by a crash
            del group[waiting]
        write_reconstruction(file, height_map, waiting, provenance)
        file.flush()
        if name in group:
            del group[name]
        group.move(waiting, name)


def load_reconstruction(path: str | Path, name: str = "main") -> HeightMap:
    """The height map stored under ``name``. Raises InputError where there is none, listing those there are."""
    path = Path(path).absolute()
    names = reconstruction_names(path)
    if name not in names:
        raise InputError(
            _("{path} holds no height map '{name}'. It holds: {names}.").format(
                path=path, name=name, names=", ".join(names) or "-"
            )
        )
    with open_sample(path) as file:
        return read_reconstruction(file["reconstructions"][name])


def reconstruction_names(path: str | Path) -> list[str]:
    """Names of the height maps in the file, sorted."""
    with open_sample(Path(path)) as file:
        return sorted(name for name in file["reconstructions"] if not name.startswith("."))


def has_stack(path: str | Path) -> bool:
    """False for a file that holds only height maps."""
    with open_sample(Path(path)) as file:
        return "stack" in file


def may_hold_capture(path: str | Path) -> bool:
    """False only for a file of ours that has no stack: overwriting anything else might destroy frames."""
    try:
        return has_stack(path)
    except InputError:
        return True


def _stack_group(file: h5py.File, path: Path) -> h5py.Group:
    if "stack" not in file:
        raise InputError(_("{path} holds a height map but no stack of images.").format(path=path))
    return file["stack"]


def _count_captured(z_um: NDArray[np.float64]) -> int:
    missing = np.flatnonzero(~np.isfinite(z_um))
    return int(missing[0]) if missing.size else len(z_um)


def _read_stack(file: h5py.File, path: Path) -> FocalStack:
    stack = _stack_group(file, path)
    z_um = stack["z_um"][:]
    n = _count_captured(z_um)
    if n < 2:
        raise InputError(_("{path} holds {n} captured frame(s); at least 2 are needed.").format(path=path, n=n))
    attributes = stack.attrs
    metadata = read_json(stack, "metadata")
    if "source" in metadata:  # imported from somewhere else
        metadata["origin"] = metadata["source"]
    metadata["source"] = str(path)
    metadata["provenance"] = {"source": str(path)}
    frames = stack["frames"]
    return FocalStack(
        frames=StoredFrames(path, (n, *frames.shape[1:]), frames.dtype),
        z_um=z_um[:n],
        pixel_um=float(attributes["pixel_um"]) if "pixel_um" in attributes else None,
        optics=read_optics(stack),
        z_unit=attributes["z_unit"],
        metadata=metadata,
    )


def _stored_sha256(path: Path) -> str | None:
    """SHA-256 of the stack in the file, None without one; kept beside the maps once it has been computed."""
    if not has_stack(path):
        return None
    stack = open_stack(path)
    with open_sample(path) as file:
        known = file["reconstructions"].attrs.get("stack_sha256")
    if known is None:
        known = stack_sha256(stack)
        with open_sample(path, "r+") as file:
            file["reconstructions"].attrs["stack_sha256"] = known
    return str(known)


def _map_bytes(height_map: HeightMap) -> int:
    images = (height_map.height_um, height_map.confidence, height_map.flags, height_map.all_in_focus)
    return sum(image.nbytes for image in images if image is not None)
