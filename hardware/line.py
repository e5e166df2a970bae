"""One serial line to one controller.

Framing, time limits, separation of replies from lines that the controller sends by itself, getting back in step
after a lost or late reply, STOP past everything that waits, and a cable that is pulled and plugged in again.
What the words mean is the drivers' business (:mod:`hardware.stages`).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import serial

from hardware.framing import LineSplitter
from hardware.serial_port import IO_ERRORS, READ_SLICE_S, WRITE_LIMIT_S, open_port, write
from hardware.stage import StageDisconnected, StageError, StageNoReply, StageStopped
from models.language import _

QUIET_S = 0.06
RESYNC_S = 1.0
STOP_GRACE_S = 0.3
"""After STOP nobody waits longer than this for the reply to an earlier command."""
BACK_OFF_S = (0.1, 2.0)
READ_BYTES = 4096
MAX_STRAY_LINES = 1000
LOG_ENTRIES = 400
LOG_ENTRY_BYTES = 200

Command = str | bytes
"""Text gets the protocol's line end; bytes are sent as they are (real-time characters)."""
Accept = Callable[[str], bool]


def is_printable(line: str) -> bool:
    """Whether the line consists of printable ASCII characters, as every reply does but for PI's status bytes."""
    return line.isascii() and line.isprintable()


def _never(_line: str) -> bool:
    return False


@dataclass(frozen=True)
class LineFormat:
    """How one protocol uses the line; a constant of its driver.

    ``reply_ends``: each of these bytes ends a line; empty lines do not count, other white space stays.
    ``is_push``: lines that the controller sends by itself and that answer nothing.
    ``sync``: a harmless query and what its reply looks like, answered in turn with all other commands. After a
    lost reply it is asked until it is answered: whatever comes before belongs to an earlier command.
    ``keep_dtr``: the board resets when DTR changes (Arduino): leave the signal up between two programs (POSIX).
    """

    command_end: bytes = b"\n"
    reply_ends: bytes = b"\r\n"
    stop_bits: int = 1
    is_push: Accept = _never
    sync: tuple[Command, Accept] | None = None
    keep_dtr: bool = False
    timeout_s: float = 1.0


class SerialLine:
    """An open port. Opening it moves nothing and says nothing.

    ``ask`` and its kin may be called from any thread and take turns; :meth:`urgent` waits for none of them.
    ``on_push`` gets every line that the controller sends by itself, from whatever thread reads it; ``on_connect``
    is called after the port was opened again: it asks who is there (StageError: somebody else) and never moves.
    Both are called in turn with the other commands and may ask. No byte that arrives makes a call hang or raise
    anything but StageError.

    Raises StagePortBusy where another program has the port, StageDisconnected where there is none.
    """

    def __init__(self, port: str, baud: int, line_format: LineFormat, *, name: str) -> None:
        self.name = name
        self.port_name = port
        self.on_push: Callable[[str], None] = lambda line: None
        self.on_connect: Callable[[], None] = lambda: None
        self._baud = baud
        self._format = line_format
        self._bus = threading.RLock()  # one conversation at a time
        self._writing = threading.Lock()  # held for one write, or to exchange the port
        self._port: serial.Serial | None = None
        self._deaf: serial.Serial | None = None  # given up, still to be closed
        self._closed = False
        self._urgents = self._urgents_in_step = 0
        self._action = threading.local()
        self._out_of_step = False
        self._unsent: bytes | None = None
        self._back_off_s, self._next_try_s = BACK_OFF_S[0], 0.0
        self._failure: StageError | None = None  # of the latest attempt to open the port again
        self._input = LineSplitter(line_format.reply_ends)
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

    def ask(
        self, command: Command, accept: Accept | None = None, *, timeout_s: float | None = None, repeat: bool = False
    ) -> str:
        """Send ``command``, return the line that answers it: the first that ``accept`` takes.

        ``accept`` defaults to printable text that is no push line. ``repeat``: ask once more where no reply came;
        only for queries. Raises StageNoReply, StageDisconnected, StageStopped where STOP cut the wait short.
        """
        return self.ask_lines(command, lambda line: True, accept, timeout_s=timeout_s, repeat=repeat)[0]

    def ask_lines(
        self,
        command: Command,
        is_last: Accept,
        accept: Accept | None = None,
        *,
        timeout_s: float | None = None,
        repeat: bool = False,
    ) -> list[str]:
        """Like :meth:`ask` for replies of several lines, up to the one for which ``is_last`` holds (included)."""
        urgents = self._urgents_before()
        with self._bus:
            self._get_in_step()
            try:
                return self._exchange(command, is_last, accept, timeout_s, urgents)
            except StageNoReply:
                if not repeat:
                    raise
            self._get_in_step()
            return self._exchange(command, is_last, accept, timeout_s, urgents)

    def tell(self, command: Command, *, in_step: bool = True) -> None:
        """Send what is never answered. ``in_step=False``: also where no query is answered any more (a reset).

        Raises StageDisconnected, StageStopped, StageNoReply where the port takes no bytes.
        """
        urgents = self._urgents_before()
        with self._bus:
            if in_step:
                self._get_in_step()
            else:
                self._ensure_open()
                self._out_of_step = True
            self._send(command, urgents)

    @contextmanager
    def action(self) -> Iterator[None]:
        """What this thread sends in here belongs together: after a STOP meanwhile no further command goes out."""
        self._action.urgents = self._urgents
        try:
            yield
        finally:
            del self._action.urgents

    def hear(self) -> None:
        """Hand what has arrived by itself to ``on_push``, without waiting. Raises StageDisconnected."""
        with self._bus:
            self._ensure_open()
            self._handle_arrivals()

    def listen(self, seconds: float, until: Accept = _never) -> list[str]:
        """Lines that come unasked within a time, or up to one that is waited for; push lines go to ``on_push`` too."""
        with self._bus:
            self._ensure_open()
            heard: list[str] = []
            end_s, urgents = time.monotonic() + seconds, self._urgents_before()
            while len(heard) < MAX_STRAY_LINES and self._urgents == urgents:
                line = self._next_line(end_s)
                if line is None:
                    break
                heard.append(line)
                if self._format.is_push(line):
                    self.on_push(line)
                if until(line):
                    break
            return heard

    def urgent(self, data: bytes) -> None:
        """Write at once, whatever conversation is going on: STOP. Its reply, if any, counts for no command.

        Raises StageDisconnected where there is no port; the bytes are then the first that go out after it is back.
        """
        self._urgents += 1
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

    def reconnect(self, timeout_s: float, cancel: threading.Event | None = None) -> None:
        """Wait for the cable: try to open and identify, ever less often. Raises StageError when the time is over."""
        end_s = time.monotonic() + timeout_s
        while True:
            try:
                with self._bus:
                    self._ensure_open()
                return
            except StageError:
                wait_s = min(self._next_try_s, end_s) - time.monotonic()
                if self._closed or time.monotonic() >= end_s or (cancel is not None and cancel.is_set()):
                    raise
            (cancel or threading.Event()).wait(max(wait_s, READ_SLICE_S))

    def close(self) -> None:
        """Release the port. A conversation in another thread ends with StageDisconnected."""
        self._closed = True
        in_turn = self._bus.acquire(timeout=2.0)
        try:
            self._drop_port()
        finally:
            if in_turn:
                self._bus.release()

    # -- the port

    def _open(self) -> None:
        port = open_port(
            self.port_name, self._baud, self._format.stop_bits, keep_dtr=self._format.keep_dtr, stage=self.name
        )
        self._input.clear()
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
        self._drop_port()
        raise self._unplugged() from failed

    def _ensure_open(self) -> None:
        if self._closed:
            raise StageDisconnected(_("{stage} is closed.").format(stage=self.name))
        if self._port is not None:
            return
        if self._failure is not None and time.monotonic() < self._next_try_s:
            raise type(self._failure)(str(self._failure))
        try:
            self._drop_port()  # one that took no STOP any more
            self._open()
            self._out_of_step = True
            self.on_connect()
        except StageError as error:
            self._drop_port()
            self._failure = error.with_traceback(None)
            self._next_try_s = time.monotonic() + self._back_off_s
            self._back_off_s = min(2 * self._back_off_s, BACK_OFF_S[1])
            raise
        self._back_off_s, self._next_try_s, self._failure = BACK_OFF_S[0], 0.0, None

    def _drop_port(self) -> None:
        with self._writing:
            ports = self._port, self._deaf
            self._port = self._deaf = None
        for port in ports:
            if port is not None:
                with suppress(*IO_ERRORS):  # it is gone already; a slow close must not hold back STOP
                    port.close()

    def _unplugged(self) -> StageDisconnected:
        return StageDisconnected(
            _("{stage} is not connected: the port {port} is gone. Plug in its cable and check its power.").format(
                stage=self.name, port=self.port_name
            )
        )

    def _stopped(self) -> StageStopped:
        return StageStopped(_("{stage} was stopped while it was busy.").format(stage=self.name))

    # -- writing

    def _urgents_before(self) -> int:
        return int(getattr(self._action, "urgents", self._urgents))

    def _send(self, command: Command, urgents: int) -> None:
        """``urgents``: their count when the command was given; none goes out that a STOP has overtaken."""
        data = command if isinstance(command, bytes) else command.encode("ascii") + self._format.command_end
        with self._writing:
            if self._urgents != urgents:
                raise self._stopped()
            port = self._port
            if port is None:
                raise self._unplugged()
            try:
                self._log.append((time.monotonic(), ">", data[:LOG_ENTRY_BYTES]))
                write(port, data)
                return
            except serial.SerialTimeoutException as error:
                self._out_of_step = True
                raise StageNoReply(
                    _("{stage} takes no more commands. Switch it off and on again.").format(stage=self.name)
                ) from error
            except IO_ERRORS as error:
                failed = error
        self._drop_port()
        raise self._unplugged() from failed

    def _write_urgent(self, port: serial.Serial, data: bytes) -> None:
        self._log.append((time.monotonic(), ">", data[:LOG_ENTRY_BYTES]))
        try:
            write(port, data)
        except serial.SerialTimeoutException:
            # The queue is full and nobody fetches it: throw it away, end the line that may be torn.
            port.reset_output_buffer()
            write(port, self._format.command_end + data)

    # -- reading

    def _exchange(
        self, command: Command, is_last: Accept, accept: Accept | None, timeout_s: float | None, urgents: int
    ) -> list[str]:
        accept = accept or self._is_reply
        self._handle_arrivals()
        self._send(command, urgents)
        echo = command.decode("latin-1") if isinstance(command, bytes) else command
        deadline_s = time.monotonic() + (self._format.timeout_s if timeout_s is None else timeout_s)
        stopped = False
        replies: list[str] = []
        strays = 0
        while strays < MAX_STRAY_LINES and len(replies) < MAX_STRAY_LINES:
            if not stopped and self._urgents != urgents:
                stopped = True
                deadline_s = min(deadline_s, time.monotonic() + STOP_GRACE_S)
            line = self._next_line(min(deadline_s, time.monotonic() + READ_SLICE_S))
            if line is None:
                if time.monotonic() >= deadline_s:
                    break
                continue
            if echo and line.startswith(echo):
                line, echo = line[len(echo) :], ""
                if not line.strip():
                    continue
            if accept(line):
                replies.append(line)
                if is_last(line):
                    return replies
            elif self._format.is_push(line):
                self.on_push(line)
            else:
                strays += 1
        self._out_of_step = True
        if stopped:
            raise self._stopped()
        if strays or replies or self._input.has_partial:
            raise StageNoReply(
                _(
                    "{stage} sends text that cannot be understood. Check the baud rate, the cable and "
                    "that {port} is the stage."
                ).format(stage=self.name, port=self.port_name)
            )
        raise StageNoReply(_("{stage} does not answer. Check its cable and power.").format(stage=self.name))

    def _is_reply(self, line: str) -> bool:
        return is_printable(line) and not self._format.is_push(line)

    def _get_in_step(self) -> None:
        """Open the port if need be; after a lost reply or STOP throw away whatever belongs to earlier commands."""
        self._ensure_open()
        urgents = self._urgents
        if not self._out_of_step and self._urgents_in_step == urgents:
            return
        self._drain()
        if self._format.sync is not None:
            command, accept = self._format.sync
            self._exchange(command, lambda line: True, accept, None, self._urgents)
            self._drain()  # the rest of that reply, or its own after a late one to the same question
        self._out_of_step, self._urgents_in_step = False, urgents

    def _drain(self) -> None:
        """Read until nothing but push lines came for a while."""
        begin_s = quiet_s = time.monotonic()
        while (now_s := time.monotonic()) - quiet_s < QUIET_S:
            if now_s - begin_s > RESYNC_S:
                self._out_of_step = True
                raise StageNoReply(
                    _("{stage} sends without a pause. Check the baud rate and that {port} is the stage.").format(
                        stage=self.name, port=self.port_name
                    )
                )
            arrived = self._receive()
            if not self._handle_lines() and arrived:
                quiet_s = time.monotonic()
        self._input.drop_partial()

    def _handle_arrivals(self) -> None:
        """What came since the last command answers nothing. Half a line gets a moment to become whole."""
        end_s = time.monotonic() + RESYNC_S
        while self._waiting() and time.monotonic() < end_s:
            self._receive()
        end_s = time.monotonic() + QUIET_S
        while self._input.has_partial and time.monotonic() < end_s:
            self._receive()
        self._input.drop_partial()
        self._handle_lines()

    def _handle_lines(self) -> bool:
        """True where there were push lines and nothing else."""
        kinds = set()
        while self._input:
            line = self._input.take()
            kinds.add(self._format.is_push(line))
            if self._format.is_push(line):
                self.on_push(line)
        return kinds == {True}

    def _next_line(self, deadline_s: float) -> str | None:
        while not self._input:
            if time.monotonic() >= deadline_s:
                return None
            self._receive()
        return self._input.take()

    def _waiting(self) -> int:
        port = self._port
        if port is None or self._closed:
            return 0
        try:
            return int(port.in_waiting)
        except IO_ERRORS as error:
            self._drop_port()
            raise self._unplugged() from error

    def _receive(self) -> bool:
        """Take in what has arrived; wait a slice of time for it. True: something came."""
        waiting = self._waiting()
        port = self._port
        if port is None or self._closed:
            raise self._unplugged()
        try:
            data = port.read(max(1, min(waiting, READ_BYTES)))
        except IO_ERRORS as error:
            self._drop_port()
            raise self._unplugged() from error
        if not data:
            return False
        self._log.append((time.monotonic(), "<", data[:LOG_ENTRY_BYTES]))
        self._input.feed(data)
        return True
