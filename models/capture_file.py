"""Capturing a stack into a sample file that survives a crash of the program.

Why a kill at any moment loses nothing: the file gets all its structure before the first frame. Every chunk
is allocated, every attribute exists, and the file takes its final name only after that has reached the
disk. Adding a frame then overwrites reserved bytes and touches no HDF5 structure, so there is no moment
at which the file is inconsistent. A frame counts as captured once its height is in ``/stack/z_um``, which
is written after its image; frames that never arrived have NaN there. Saving a height map later changes
the group ``/reconstructions`` only, never what leads to the stack.
"""

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from models.atomic import check_space, check_writable, replacing, write_error
from models.errors import OutputError
from models.focal_stack import Optics, ZUnit
from models.language import _
from models.schema import STRUCTURE_BYTES, create_stack, reserve_course, reserve_frames, rewrite_course, stamp

_FRAMES_PER_FSYNC = 4
"""A power cut may cost this many of the last frames; a crash of the program costs none."""

_being_captured: set[Path] = set()


def is_being_captured(path: Path) -> bool:
    """Whether this process captures into ``path``, an absolute one, at this moment."""
    return path in _being_captured


def check_new(path: Path) -> None:
    """Raise OutputError where ``path`` exists already or cannot be written: asked before a microscope moves."""
    if path.exists():
        raise _exists_already(path)
    check_writable(path)


def _exists_already(path: Path) -> OutputError:
    return OutputError(
        _("{path} exists already. Captures are never overwritten; choose another name.").format(path=path)
    )


@contextlib.contextmanager
def _reserved(path: Path) -> Iterator[None]:
    """Take the name ``path`` for the file that is prepared inside: of two programs, one gets it."""
    try:
        path.open("x").close()
    except FileExistsError:
        raise _exists_already(path) from None
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class StackWriter:
    """Captures a stack into a new file; each frame is safe on disk when :meth:`append` returns.

    ``image_shape`` is (H, W) or (H, W, 3), ``dtype`` uint8 or uint16, ``frame_count`` the number planned.
    Leaving the ``with`` block by an exception leaves an incomplete file, which :func:`models.storage.recover`
    turns into a shorter stack. Raises OutputError where ``path`` exists, cannot be written or the disk is too small.
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
        check_new(self.path)
        check_space(self.path, frame_count * self._frame_bytes + STRUCTURE_BYTES)
        with _reserved(self.path), replacing(self.path) as temporary, h5py.File(temporary, "x") as file:
            stamp(file)
            shape = (frame_count, *self._image_shape)
            stack = create_stack(file, shape, self._dtype, pixel_um, optics, z_unit, metadata or {})
            reserve_frames(stack, shape, self._dtype)
            reserve_course(stack)
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

        Raises OutputError where the disk is full or gone (frames before this one stay, it says how many), and
        ValueError for a frame of another shape or type, a height that is not finite or one frame too many.
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
            reason = str(write_error(self.path, error))
            if index >= 2:
                reason += " " + _("The {n} frames before are kept: recover them.").format(n=index)
            raise OutputError(reason) from error
        self._written = index + 1

    def write_course(self, course: Mapping[str, Any]) -> None:
        """How the capture goes so far: into room that is reserved, so it may be written at any time.

        Lists are cut where they do not fit. Raises OutputError.
        """
        try:
            rewrite_course(self._file["stack"], course)
            self._file.flush()
        except OSError as error:
            raise write_error(self.path, error) from error

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
