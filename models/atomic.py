"""Files that appear complete or not at all: written beside their place, then renamed into it."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from models.errors import OutputError
from models.language import _


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder and with the same suffix; rename it to ``path`` at the end.

    On any error the temporary file is removed and an existing ``path`` stays as it was.
    Raises OutputError where the file system refuses.
    """
    check_writable(path)
    temporary = _temporary_beside(path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise OutputError where ``path`` cannot be created: asked before a long computation, not after it."""
    folder = path.parent
    if path.is_dir():
        raise OutputError(_("Cannot write {path}: it is a folder. Please give a file name.").format(path=path))
    if not folder.is_dir():
        raise OutputError(
            _("Cannot write {path}: the folder {folder} does not exist.").format(path=path, folder=folder)
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise OutputError(_("Cannot write {path}: the file is read-only.").format(path=path))
    # Permissions alone do not tell: root, network shares and read-only mounts have rules of their own.
    probe = _temporary_beside(path)
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise write_error(path, error) from error


def check_space(path: Path, needed_bytes: int) -> None:
    """Raise OutputError where the disk of ``path`` has less than ``needed_bytes`` left."""
    free_bytes = shutil.disk_usage(path.parent).free
    if needed_bytes > free_bytes:
        raise OutputError(
            _("Not enough disk space for {path}: {needed:.1f} MB needed, {free:.1f} MB free.").format(
                path=path, needed=needed_bytes / 1e6, free=free_bytes / 1e6
            )
        )


def write_error(path: Path, error: Exception) -> OutputError:
    """What the system's ``error``, or the one that HDF5 makes of it, means to the person who wanted ``path``."""
    if is_disk_full(error):
        return OutputError(_("Cannot write {path}: the disk is full.").format(path=path))
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(_("Cannot write {path}: no permission to write there.").format(path=path))
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return OutputError(_("Cannot write {path}: {reason}.").format(path=path, reason=reason))


def is_disk_full(error: Exception) -> bool:
    """True for a full disk, an exhausted quota and a file larger than the file system allows."""
    if not isinstance(error, OSError) or error.errno is None:  # HDF5 and NumPy keep it to themselves
        return "No space left" in str(error) or "requested and" in str(error)
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _temporary_beside(path: Path) -> Path:
    # Our own name rather than tempfile: the file keeps the usual permissions and its suffix.
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
