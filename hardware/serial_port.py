"""Opening a serial port for oneself alone, and saying in plain words why it cannot be had."""

import errno
import select
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

import serial

from hardware.stage import StageDisconnected, StageError, StagePortBusy
from models.language import _

if sys.platform == "win32":
    IO_ERRORS: tuple[type[Exception], ...] = (OSError,)
    WRITE_LIMIT_S = 0.5  # Windows waits until the bytes are sent, which takes its time at 9600 baud
else:
    import os
    import termios

    IO_ERRORS = (OSError, termios.error)  # SerialException is an OSError; a pulled plug gives any of them
    WRITE_LIMIT_S = 0.015  # the bytes are only queued

READ_SLICE_S = 0.02
"""A blocked read looks up this often."""


def open_port(port_name: str, baud: int, stop_bits: int, *, keep_dtr: bool, stage: str) -> serial.Serial:
    """The open port (a device or a pyserial URL), 8 data bits, no parity, locked against other programs.

    Nothing is written. ``keep_dtr``: see :class:`hardware.line.LineFormat`. ``stage``: what a message calls the
    stage. Raises StagePortBusy, StageDisconnected where there is no such port, StageError without permission.
    """
    try:
        if keep_dtr:
            _keep_dtr(port_name)
        port: serial.Serial = serial.serial_for_url(
            port_name,
            baudrate=baud,
            stopbits=stop_bits,
            timeout=READ_SLICE_S,
            write_timeout=WRITE_LIMIT_S,
            exclusive=None if sys.platform == "win32" else True,  # Windows never shares a port
        )
    except (*IO_ERRORS, ValueError) as error:
        raise _why_not(error, port_name, stage) from error
    return port


def write(port: serial.Serial, data: bytes) -> None:
    """All of ``data``, or serial.SerialTimeoutException where the port does not take it within ``WRITE_LIMIT_S``.

    pyserial's own write also counts as late what was written in time, but by a program that then had to wait for the
    processor. Raises one of ``IO_ERRORS`` where the port is gone.
    """
    if sys.platform == "win32" or not isinstance(port, serial.Serial):
        port.write(data)
        return
    handle, end_s = port.fileno(), time.monotonic() + WRITE_LIMIT_S
    while data:
        with suppress(BlockingIOError):
            data = data[os.write(handle, data) :]
        if data:
            left_s = end_s - time.monotonic()
            if left_s <= 0 or not select.select([], [handle], [], left_s)[1]:
                raise serial.SerialTimeoutException("write timeout")


def _why_not(error: Exception, port_name: str, stage: str) -> StageError:
    number, words = getattr(error, "errno", None), str(error)
    if number in (errno.EAGAIN, errno.EBUSY) or (sys.platform == "win32" and "PermissionError" in words):
        return StagePortBusy(
            _("{stage}: the port {port} is in use by another program. Close that program and try again.").format(
                stage=stage, port=port_name
            )
        )
    if number == errno.EACCES:
        refused = _("{stage}: you may not use the port {port}.").format(stage=stage, port=port_name)
        if (group := _group_of(port_name)) is None:
            return StageError(f"{refused} {_('Ask who looks after this computer for permission.')}")
        ask = _("Ask for membership in the group '{group}'.").format(group=group)
        return StageError(f"{refused} {ask}")
    return StageDisconnected(
        _("{stage}: the port {port} cannot be opened. Check cable and power. ({error})").format(
            stage=stage, port=port_name, error=error
        )
    )


def _group_of(port_name: str) -> str | None:
    """The group whose members may use the port, which every system names as it likes; None where none may."""
    with suppress(OSError, KeyError, NotImplementedError):
        path = Path(port_name)
        if path.stat().st_mode & stat.S_IRGRP and path.stat().st_mode & stat.S_IWGRP:
            return path.group()
    return None


def _keep_dtr(port_name: str) -> None:
    """Tell the port not to drop DTR when it is closed, so that the next opening is no edge that resets a board.

    Only a port that is a device of this machine has the flag (HUPCL); Windows has none.
    """
    if sys.platform == "win32" or not port_name.startswith("/"):
        return
    handle = os.open(port_name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        attributes = termios.tcgetattr(handle)
        if attributes[2] & termios.HUPCL:
            attributes[2] &= ~termios.HUPCL
            termios.tcsetattr(handle, termios.TCSANOW, attributes)
    finally:
        os.close(handle)
