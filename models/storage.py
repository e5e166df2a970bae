"""The sample file: a stack that survives a crash of the program, and what was reconstructed from it.

Why a kill at any moment loses nothing: the file gets all its structure before the first frame. Every chunk
is allocated, every attribute exists, and the file takes its final name only after that has reached the
disk. Adding a frame then overwrites reserved bytes and touches no HDF5 structure, so there is no moment
at which the file is inconsistent. A frame counts as captured once its height is in ``/stack/z_um``, which
is written after its image; frames that never arrived have NaN there.
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
from models.hdf5 import open_sample, read_json, stamp, write_json
from models.height_map import HeightMap
from models.language import _

SAMPLE_SUFFIXES = (".h5", ".hdf5")

_FRAMES_PER_FSYNC = 4
"""A power cut may cost this many of the last frames; a crash of the program costs none."""
_STRUCTURE_BYTES = 1 << 20
_COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
"""Built into every HDF5; without the byte shuffle camera noise does not compress at all."""

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
            stack = _create_stack(file, shape, self._dtype, pixel_um, optics, z_unit, metadata or {})
            _create_reserved_frames(stack, shape, self._dtype)
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
        with contextlib.suppress(OSError):  # every frame is flushed already; a lost disk has been reported
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _fsync(self) -> None:
        os.fsync(self._file.id.get_vfd_handle())


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
        with contextlib.suppress(InputError, PermissionError):  # foreign, damaged or captured by another process
            if not is_complete(path) and frames_written(path)[0] >= 2:
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
    with replacing(path) as temporary, h5py.File(temporary, "x") as file:
        stamp(file)
        shape, dtype = tuple(stack.frames.shape), np.dtype(stack.frames.dtype)
        group = _create_stack(file, shape, dtype, stack.pixel_um, stack.optics, stack.z_unit, stack.metadata)
        settings = _COMPRESSION if compressed else {}
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
    with replacing(path) as temporary, open_sample(path) as source, h5py.File(temporary, "x") as target:
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
            "frames", (n, *old["frames"].shape[1:]), old["frames"].dtype, chunks=old["frames"].chunks, **_COMPRESSION
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
        with replacing(path) as temporary, h5py.File(temporary, "x") as file:
            stamp(file)
            _write_reconstruction(file, height_map, name)
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
        group = file.require_group("reconstructions")
        if waiting in group:  # left by a crash
            del group[waiting]
        _write_reconstruction(file, height_map, waiting, provenance)
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
        group = file["reconstructions"][name]
        pixel_um = group.attrs.get("pixel_um")
        return HeightMap(
            height_um=group["height_um"][:],
            confidence=group["confidence"][:],
            flags=group["flags"][:],
            all_in_focus=group["all_in_focus"][:] if "all_in_focus" in group else None,
            pixel_um=None if pixel_um is None else float(pixel_um),
            z_unit=group.attrs["z_unit"],
            method=group.attrs["method"],
            parameters=read_json(group, "parameters"),
            provenance=read_json(group, "provenance"),
        )


def reconstruction_names(path: str | Path) -> list[str]:
    """Names of the height maps in the file, sorted."""
    with open_sample(Path(path)) as file:
        return sorted(name for name in file.get("reconstructions", ()) if not name.startswith("."))


def has_stack(path: str | Path) -> bool:
    """False for a file that holds only height maps."""
    with open_sample(Path(path)) as file:
        return "stack" in file


def _create_stack(
    file: h5py.File,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    pixel_um: float | None,
    optics: Optics | None,
    z_unit: ZUnit,
    metadata: Mapping[str, Any],
) -> h5py.Group:
    """``/stack`` with everything but the frames; heights are NaN until their frame is there."""
    stack = file.create_group("stack")
    stack.attrs["z_unit"] = z_unit
    if pixel_um is not None:
        stack.attrs["pixel_um"] = pixel_um
    if optics is not None:
        stack.attrs["magnification"] = optics.magnification
        stack.attrs["na"] = optics.na
        stack.attrs["wavelength_um"] = optics.wavelength_um
        stack.attrs["refractive_index"] = optics.refractive_index
    write_json(stack, "metadata", metadata)
    for name in ("z_um", "z_requested_um", "time_s"):
        stack[name] = np.full(shape[0], np.nan)
    return stack


def _create_reserved_frames(stack: h5py.Group, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """All chunks, one per frame, get their place in the file now and are not filled."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((1, *shape[1:]))
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(dtype)
    h5py.h5d.create(stack.id, b"frames", kind, h5py.h5s.create_simple(shape), layout)


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
    optics = None
    if "magnification" in attributes:
        optics = Optics(
            magnification=float(attributes["magnification"]),
            na=float(attributes["na"]),
            wavelength_um=float(attributes["wavelength_um"]),
            refractive_index=float(attributes["refractive_index"]),
        )
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
        optics=optics,
        z_unit=attributes["z_unit"],
        metadata=metadata,
    )


def _stored_sha256(path: Path) -> str | None:
    """SHA-256 of the stack in the file, kept in an attribute once it has been computed."""
    if not has_stack(path):
        return None
    stack = open_stack(path)
    with open_sample(path) as file:
        known = file["stack"].attrs.get("sha256")
    if known is None:
        known = stack_sha256(stack)
        with open_sample(path, "r+") as file:
            file["stack"].attrs["sha256"] = known
    return str(known)


def _write_reconstruction(
    file: h5py.File, height_map: HeightMap, name: str, provenance: Mapping[str, Any] | None = None
) -> None:
    group = file.create_group(f"reconstructions/{name}")
    group.attrs["z_unit"] = height_map.z_unit
    group.attrs["method"] = height_map.method
    if height_map.pixel_um is not None:
        group.attrs["pixel_um"] = height_map.pixel_um
    write_json(group, "parameters", height_map.parameters)
    write_json(group, "provenance", height_map.provenance if provenance is None else provenance)
    images: dict[str, NDArray[Any]] = {
        "height_um": height_map.height_um,
        "confidence": height_map.confidence,
        "flags": height_map.flags,
    }
    if height_map.all_in_focus is not None:
        images["all_in_focus"] = height_map.all_in_focus
    for key, image in images.items():
        group.create_dataset(key, data=image, chunks=image.shape, **_COMPRESSION)


def _map_bytes(height_map: HeightMap) -> int:
    images = (height_map.height_um, height_map.confidence, height_map.flags, height_map.all_in_focus)
    return sum(image.nbytes for image in images if image is not None)
