"""How every part of the program opens a sample file, and the version of its schema (docs/file-format.md).

Every read and write opens the file and closes it again, one at a time within the process, so that nobody
holds a lock for longer than one frame: a window may read frames while a worker saves a height map into
the same file. HDF5 itself locks the file against other programs; a short conflict is waited for.
"""

import contextlib
import errno
import json
import threading
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import h5py

from models.atomic import write_error
from models.errors import InputError, OutputError
from models.language import _

FORMAT = "reliefscope"
SCHEMA_VERSION = 1

_LOCK_PATIENCE_S = 2.0
_one_at_a_time = threading.RLock()


def software_version() -> str:
    """Version of the installed program, written into every file."""
    try:
        return metadata.version("reliefscope")
    except metadata.PackageNotFoundError:
        return "unknown"


@contextlib.contextmanager
def open_sample(path: Path, mode: Literal["r", "r+"] = "r") -> Iterator[h5py.File]:
    """The sample file, open inside the ``with`` block only.

    Raises InputError where it is missing, unreadable, foreign or of a newer schema, or in use by another
    program; OutputError where writing (``r+``) is refused.
    """
    with _one_at_a_time, _opened(path, mode) as file:
        _check_schema(file, path)
        try:
            yield file
        except OSError as error:
            if mode == "r+":
                raise write_error(path, error) from error
            raise InputError(
                _("Cannot read {path}: the file is damaged ({reason}).").format(path=path, reason=error)
            ) from error


def stamp(file: h5py.File) -> None:
    """Mark a new file as ours. ``complete`` is false until everything else is in it."""
    file.attrs["format"] = FORMAT
    file.attrs["schema_version"] = SCHEMA_VERSION
    file.attrs["software_version"] = software_version()
    file.attrs["created"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    file.attrs["complete"] = False


def write_json(group: h5py.Group, name: str, values: Mapping[str, Any]) -> None:
    """A mapping as JSON text in a scalar data set: attributes end at 64 KiB, device logs do not."""
    group[name] = json.dumps(dict(values), ensure_ascii=False, default=str)


def read_json(group: h5py.Group, name: str) -> dict[str, Any]:
    """The mapping stored by :func:`write_json`; empty where there is none."""
    if name not in group:
        return {}
    values = json.loads(group[name].asstr()[()])
    return values if isinstance(values, dict) else {}


def _opened(path: Path, mode: str) -> h5py.File:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            return h5py.File(path, mode)
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


def _check_schema(file: h5py.File, path: Path) -> None:
    if file.attrs.get("format") != FORMAT or "schema_version" not in file.attrs:
        raise InputError(_("{path} is an HDF5 file, but not one of Reliefscope.").format(path=path))
    version = int(file.attrs["schema_version"])
    if version > SCHEMA_VERSION:
        raise InputError(
            _(
                "{path} was written by a newer Reliefscope (file version {version}; this program reads up to "
                "{known}). Please update Reliefscope."
            ).format(path=path, version=version, known=SCHEMA_VERSION)
        )
