"""One program per device: a lock file per port or serial number in the user's runtime folder.

The lock belongs to the open file, so the system releases it when the process ends, however it ends; the file itself
stays. It says who holds it, for the message to the other program.
"""

import hashlib
import os
import re
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import platformdirs

from models.errors import ReliefscopeError
from models.language import _

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_LOCKED_BYTE = 4096
"""Windows keeps others from reading what is locked: lock a byte beyond the text."""


def lock_folder() -> Path:
    """Where the lock files of this user lie; it exists."""
    folder = Path(platformdirs.user_runtime_dir("reliefscope", appauthor=False)) / "devices"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class DeviceLock:
    """Holds a device until :meth:`close` or the end of the process.

    ``device``: what tells it from all others: a port's path, a serial number. ``name``: what a message calls it.
    ``in_use``: raised, with a sentence that names the other process, where the device is held already, by this
    process or another; also where the folder cannot be used.
    """

    def __init__(self, device: str, name: str, in_use: type[ReliefscopeError]) -> None:
        self._file: IO[str] | None = None
        try:
            self._file = (lock_folder() / _file_name(device)).open("a+", encoding="utf-8")
            taken = _try_lock(self._file)
        except OSError as error:
            self.close()
            raise in_use(
                _("{device} cannot be reserved for this program: {error}. Check the folder {folder}.").format(
                    device=name, error=error.strerror or error, folder=error.filename or "XDG_RUNTIME_DIR"
                )
            ) from error
        if not taken:
            holder = _holder(self._file)
            self.close()
            raise in_use(_held(name, holder))
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n{time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        self._file.flush()

    def close(self) -> None:
        """Release it."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _file_name(device: str) -> str:
    """Readable, and different for different devices."""
    digest = hashlib.sha256(device.encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '_', device).strip('_')[-60:]}-{digest}.lock"


def _try_lock(file: IO[str]) -> bool:
    """False where somebody else holds it."""
    if sys.platform == "win32":
        try:
            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(0)
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: IO[str]) -> tuple[int, str] | None:
    """Process and the time since when; None where it has not said so yet."""
    file.seek(0)
    match = re.fullmatch(r"(\d+)\n([-: \d]+)\n", file.read())
    return None if match is None else (int(match[1]), match[2])


def _held(name: str, holder: tuple[int, str] | None) -> str:
    if holder is None:
        return _("{device} is in use by another Reliefscope. Close it there and connect again.").format(device=name)
    process, since = holder
    if process == os.getpid():
        return _("{device} is open in this program already, since {since}. Disconnect it there first.").format(
            device=name, since=since
        )
    return _(
        "{device} is in use by another Reliefscope: process {process}, since {since}. Close it there and connect again."
    ).format(device=name, process=process, since=since)
