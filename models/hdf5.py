"""How every part of the program opens a sample file, and the version of its schema (docs/file-format.md).

Every read and write opens the file and closes it again, one at a time within the process, so that nobody
holds a lock for longer than one frame: a window may read frames while a worker saves a height map into
the same file. HDF5 itself locks the file against other programs; a short conflict is waited for.
"""

import contextlib
import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import h5py

from models.atomic import is_disk_full, write_error
from models.errors import InputError, OutputError
from models.language import _
from models.schema import check_schema

_LOCK_PATIENCE_S = 2.0
_one_at_a_time = threading.RLock()

# What HDF5 raises for content that is missing or makes no sense.
_DAMAGE: tuple[type[Exception], ...] = (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError)


@contextlib.contextmanager
def open_sample(
    path: Path, mode: Literal["r", "r+"] = "r", *, patience_s: float = _LOCK_PATIENCE_S
) -> Iterator[h5py.File]:
    """The sample file, open inside the ``with`` block only; another program's lock is waited for ``patience_s``.

    Raises InputError where it is missing, unreadable, foreign or of a newer schema, or in use by another
    program; OutputError where writing (``r+``) is refused.
    """
    with _one_at_a_time:
        try:
            with _opened(path, mode, patience_s) as file:
                check_schema(file, path)
                yield file
        except _DAMAGE as error:
            if mode == "r+" and (isinstance(error, OSError) or is_disk_full(error)):
                # What HDF5 could not write any more it reports on closing, as a RuntimeError.
                raise write_error(path, error) from error
            raise InputError(
                _("Cannot read {path}: the file is damaged ({reason}).").format(path=path, reason=error)
            ) from error


def _opened(path: Path, mode: str, patience_s: float) -> h5py.File:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return h5py.File(path, mode, rdcc_nbytes=0)  # a chunk is a whole frame: a cache only copies it
        except FileNotFoundError:
            raise InputError(_("There is no file {path}.").format(path=path)) from None
        except OSError as error:
            # HDF5 hides the cause of a lock conflict in its message on some systems.
            locked = error.errno in (errno.EAGAIN, errno.EACCES) and "lock" in str(error)
            if locked and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            if locked:
                raise InputError(
                    _("{path} is in use by another program. Close it there and try again.").format(path=path)
                ) from error
            if path.is_dir():
                raise InputError(_("{path} is a folder, not a sample file.").format(path=path)) from error
            if mode == "r+" and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise OutputError(_("Cannot write {path}: no permission to write there.").format(path=path)) from error
            raise InputError(
                _("Cannot read {path}: it is not an HDF5 file or it is damaged.").format(path=path)
            ) from error
