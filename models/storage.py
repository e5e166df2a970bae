"""The sample file: stacks, recovered or whole, and what was reconstructed from them.

It is captured by :mod:`models.capture_file`, which also says why a kill loses nothing.
"""

import contextlib
import hashlib
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from models.atomic import check_space, check_writable, replacing
from models.capture_file import is_being_captured
from models.errors import Cancelled, InputError
from models.focal_stack import FocalStack
from models.hdf5 import open_sample
from models.height_map import HeightMap
from models.language import _
from models.schema import (
    COMPRESSION,
    OPTIONAL_IMAGES,
    STRUCTURE_BYTES,
    create_stack,
    read_json,
    read_optics,
    read_pixel_um,
    read_reconstruction,
    read_z_unit,
    stamp,
    write_reconstruction,
)

SAMPLE_SUFFIXES = (".h5", ".hdf5")

Progress = Callable[[int, int], None]


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

    def region(self, index: int, rows: slice, columns: slice) -> NDArray[Any]:
        """A part of frame ``index``, without reading the rest of it."""
        with open_sample(self.path) as file:
            return np.asarray(file["stack/frames"][index, rows, columns])


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
    if is_being_captured(path):
        raise InputError(_("{path} is still being captured.").format(path=path))
    with open_sample(path, "r+") as file:
        stack = _read_stack(file, path)  # raises for fewer than two frames, before anything is changed
        file.attrs.modify("complete", True)
        return stack


def find_interrupted(folder: str | Path) -> list[Path]:
    """Sample files directly in ``folder`` whose capture was interrupted and that hold something to recover."""
    found = []
    for path in sorted(p for p in Path(folder).absolute().iterdir() if p.suffix.lower() in SAMPLE_SUFFIXES):
        if is_being_captured(path) or path.name.startswith("."):
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
) -> None:
    """A whole stack into a new file, which appears only when it is complete. Replaces an existing one.

    Compressed, which a capture cannot afford: some 1.7 times smaller, several times slower.
    Raises OutputError where the disk is full or the place cannot be written, Cancelled when cancelled.
    """
    with _new_sample(Path(path), _stack_bytes(stack)) as file:
        _put_stack(file, stack, progress, cancel)


def write_sample(path: str | Path, height_map: HeightMap, stack: FocalStack | None = None, name: str = "main") -> None:
    """A height map, with its stack where that is given, into a new file. Replaces an existing one.

    Raises OutputError where the disk is full or the place cannot be written.
    """
    provenance = dict(height_map.provenance)
    with _new_sample(Path(path), _map_bytes(height_map) + (0 if stack is None else _stack_bytes(stack))) as file:
        if stack is not None:
            _put_stack(file, stack)
            provenance["stack_sha256"] = stack_sha256(stack)
            file["reconstructions"].attrs["stack_sha256"] = provenance["stack_sha256"]
        write_reconstruction(file, height_map, name, provenance)


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
        write_sample(path, height_map, name=name)
        return
    sha256 = _stored_sha256(path)
    if sha256 is not None:
        provenance: dict[str, Any] = {"source": str(path), **height_map.provenance, "stack_sha256": sha256}
    else:
        provenance = dict(height_map.provenance)
    check_space(path, _map_bytes(height_map) + STRUCTURE_BYTES)
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


@contextlib.contextmanager
def _new_sample(path: Path, image_bytes: int) -> Iterator[h5py.File]:
    """A new file, open for writing; it appears at ``path``, complete, at the end of the ``with`` block."""
    path = path.absolute()
    check_writable(path)
    check_space(path, image_bytes + STRUCTURE_BYTES)
    with replacing(path) as temporary, h5py.File(temporary, "x", rdcc_nbytes=0) as file:
        stamp(file)
        yield file
        file.attrs.modify("complete", True)


def _put_stack(
    file: h5py.File,
    stack: FocalStack,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> None:
    shape, dtype = tuple(stack.frames.shape), np.dtype(stack.frames.dtype)
    group = create_stack(file, shape, dtype, stack.pixel_um, stack.optics, stack.z_unit, stack.metadata)
    frames = group.create_dataset("frames", shape, dtype, chunks=(1, *shape[1:]), **COMPRESSION)
    group["z_um"][:] = group["z_requested_um"][:] = stack.z_um
    for index, (image, _z_um) in enumerate(stack):
        if cancel is not None and cancel.is_set():
            raise Cancelled
        frames[index] = image
        if progress is not None:
            progress(index + 1, len(stack))


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
    metadata = read_json(stack, "metadata")
    if "source" in metadata:  # imported from somewhere else
        metadata["origin"] = metadata["source"]
    if course := read_json(stack, "course"):
        metadata["course"] = course
    metadata["source"] = str(path)
    metadata["provenance"] = {"source": str(path)}
    frames = stack["frames"]
    if len(frames) != len(z_um):
        raise ValueError(f"{len(frames)} frames, {len(z_um)} heights")
    return FocalStack(
        frames=StoredFrames(path, (n, *frames.shape[1:]), frames.dtype),
        z_um=z_um[:n],
        pixel_um=read_pixel_um(stack),
        optics=read_optics(stack),
        z_unit=read_z_unit(stack),
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


def _stack_bytes(stack: FocalStack) -> int:
    return math.prod(stack.frames.shape) * stack.frames.dtype.itemsize


def _map_bytes(height_map: HeightMap) -> int:
    images: list[NDArray[Any] | None] = [height_map.height_um, height_map.confidence, height_map.flags]
    images += [getattr(height_map, name) for name in OPTIONAL_IMAGES]
    return sum(image.nbytes for image in images if image is not None)
