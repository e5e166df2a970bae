"""The cable to one controller: bytes both ways, STOP past everything that waits, and a plug that is pulled."""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import serial

from hardware.serial_port import IO_ERRORS, READ_SLICE_S, WRITE_LIMIT_S, open_port, write
from hardware.stage import StageDisconnected, StageError, StageNoReply, StageStopped
from models.language import _

BACK_OFF_S = (0.1, 2.0)
READ_BYTES = 4096
LOG_ENTRIES = 400
LOG_ENTRY_BYTES = 200


class Cable:
    """An open port, opened again after it was lost. Opening it moves nothing and says nothing.

    One thread at a time may read, send and open; :meth:`urgent` may be called from any thread at any time.
    ``name``: what messages call the stage. ``urgents``: how often :meth:`urgent` was called. ``opened_s``: when the
    port was opened (``time.monotonic``). ``command_end``, ``stop_bits``, ``keep_dtr``: see
    :class:`hardware.line.LineFormat`.

    Raises StagePortBusy where another program has the port, StageDisconnected where there is none.
    """

    def __init__(
        self,
        port_name: str,
        baud: int,
        *,
        name: str,
        command_end: bytes = b"\n",
        stop_bits: int = 1,
        keep_dtr: bool = False,
    ) -> None:
        self.name = name
        self.port_name = port_name
        self.urgents = 0
        self.is_closed = False
        self.opened_s = 0.0
        self._baud, self._stop_bits, self._keep_dtr = baud, stop_bits, keep_dtr
        self._command_end = command_end
        self._writing = threading.Lock()  # held for one write, or to exchange the port
        self._port: serial.Serial | None = None
        self._deaf: serial.Serial | None = None  # given up, still to be closed
        self._unsent: bytes | None = None
        self._back_off_s, self._next_try_s = BACK_OFF_S[0], 0.0
        self._failure: StageError | None = None  # of the latest attempt to open the port again
        self._log: deque[tuple[float, str, bytes]] = deque(maxlen=LOG_ENTRIES)
        self._open()

    @property
    def fault(self) -> str | None:
        """Why there is no connection, for the user; None where there is one as far as anybody noticed."""
        if self._port is not None:
            return None
        return str(self._failure or self._unplugged())

    @property
    def log(self) -> str:
        """The latest bytes both ways, one write or read per line: seconds, > sent or < received, text."""
        return "\n".join(f"{at:.3f} {way} {data.decode('latin-1')!a}" for at, way, data in tuple(self._log))

    # -- the port

    def ensure_open(self, connected: Callable[[], None]) -> None:
        """Open a lost port again, ever less often; ``connected`` then finds out who is there (StageError: somebody
        else, and the port is given up). Raises StageError."""
        if self.is_closed:
            raise StageDisconnected(_("{stage} is closed.").format(stage=self.name))
        if self._port is not None:
            return
        if self._failure is not None and time.monotonic() < self._next_try_s:
            raise type(self._failure)(str(self._failure))
        try:
            self.drop()  # one that took no STOP any more
            self._open()
            connected()
        except StageError as error:
            self.drop()
            self._failure = error.with_traceback(None)
            self._next_try_s = time.monotonic() + self._back_off_s
            self._back_off_s = min(2 * self._back_off_s, BACK_OFF_S[1])
            raise
        self._back_off_s, self._next_try_s, self._failure = BACK_OFF_S[0], 0.0, None

    def wait_until_open(self, open_it: Callable[[], None], timeout_s: float, cancel: threading.Event) -> None:
        """Call ``open_it``, which calls :meth:`ensure_open` in its turn, until it succeeds. Raises StageError when the
        time is over, when the cable was closed, or after ``cancel``."""
        end_s = time.monotonic() + timeout_s
        while True:
            try:
                open_it()
                return
            except StageError:
                wait_s = min(self._next_try_s, end_s) - time.monotonic()
                if self.is_closed or time.monotonic() >= end_s or cancel.is_set():
                    raise
            cancel.wait(max(wait_s, READ_SLICE_S))

    def change_baud(self, baud: int) -> None:
        """From now on; the signals of the port stay, so that no board resets. Raises StageDisconnected."""
        port = self._port
        if port is None:
            raise self._unplugged()
        self._baud = baud
        try:
            port.baudrate = baud
        except (*IO_ERRORS, ValueError) as error:
            self.drop()
            raise self._unplugged() from error

    def close(self) -> None:
        """Release the port, for good."""
        self.is_closed = True
        self.drop()

    def drop(self) -> None:
        """Release the port; whoever needs it next opens it again."""
        with self._writing:
            ports = self._port, self._deaf
            self._port = self._deaf = None
        for port in ports:
            if port is not None:
                with suppress(*IO_ERRORS):  # it is gone already; a slow close must not hold back STOP
                    port.close()

    def _open(self) -> None:
        port = open_port(self.port_name, self._baud, self._stop_bits, keep_dtr=self._keep_dtr, stage=self.name)
        self.opened_s = time.monotonic()
        with self._writing:
            self._port = port
            unsent, self._unsent = self._unsent, None
            if unsent is None:
                return
            try:
                self._write_urgent(port, unsent)
            except IO_ERRORS as error:
                self._unsent = unsent
                failed = error
            else:
                return
        self.drop()
        raise self._unplugged() from failed

    def _unplugged(self) -> StageDisconnected:
        return StageDisconnected(
            _("{stage} is not connected: the port {port} is gone. Plug in its cable and check its power.").format(
                stage=self.name, port=self.port_name
            )
        )

    # -- writing

    def stopped(self) -> StageStopped:
        """What is raised where STOP has overtaken a command."""
        return StageStopped(_("{stage} was stopped while it was busy.").format(stage=self.name))

    def send(self, data: bytes, urgents: int) -> None:
        """``urgents``: their count when the command was given; none goes out that a STOP has overtaken.

        Raises StageStopped, StageDisconnected, StageNoReply where the port takes no bytes.
        """
        with self._writing:
            if self.urgents != urgents:
                raise self.stopped()
            port = self._port
            if port is None:
                raise self._unplugged()
            try:
                self._log.append((time.monotonic(), ">", data[:LOG_ENTRY_BYTES]))
                write(port, data)
                return
            except serial.SerialTimeoutException as error:
                raise StageNoReply(
                    _("{stage} takes no more commands. Switch it off and on again.").format(stage=self.name)
                ) from error
            except IO_ERRORS as error:
                failed = error
        self.drop()
        raise self._unplugged() from failed

    def urgent(self, data: bytes) -> None:
        """Write at once, whatever goes on: STOP.

        Raises StageDisconnected where there is no port; the bytes are then the first that go out after it is back.
        """
        self.urgents += 1
        locked = self._writing.acquire(timeout=WRITE_LIMIT_S)
        try:
            port = self._port
            if port is not None:
                self._write_urgent(port, data)
                return
            self._unsent = data
        except IO_ERRORS as error:
            self._unsent = data
            # Who reads next closes it and opens it again, which sends the bytes: closing may take its time.
            self._port, self._deaf = None, port
            raise self._unplugged() from error
        finally:
            if locked:
                self._writing.release()
        raise self._unplugged()

    def _write_urgent(self, port: serial.Serial, data: bytes) -> None:
        self._log.append((time.monotonic(), ">", data[:LOG_ENTRY_BYTES]))
        try:
            write(port, data)
        except serial.SerialTimeoutException:
            # The queue is full and nobody fetches it: throw it away, end the line that may be torn.
            port.reset_output_buffer()
            write(port, self._command_end + data)

    # -- reading

    def waiting(self) -> int:
        """Number of bytes that have arrived. Raises StageDisconnected."""
        port = self._port
        if port is None or self.is_closed:
            return 0
        try:
            return int(port.in_waiting)
        except IO_ERRORS as error:
            self.drop()
            raise self._unplugged() from error

    def receive(self) -> bytes:
        """What has arrived; waits a slice of time for it. Raises StageDisconnected."""
        waiting = self.waiting()
        port = self._port
        if port is None or self.is_closed:
            raise self._unplugged()
        try:
            data: bytes = port.read(max(1, min(waiting, READ_BYTES)))
        except IO_ERRORS as error:
            self.drop()
            raise self._unplugged() from error
        if data:
            self._log.append((time.monotonic(), "<", data[:LOG_ENTRY_BYTES]))
        return data
