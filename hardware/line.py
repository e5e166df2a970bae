"""The conversation with one controller on a serial line.

Framing, time limits, separation of replies from lines that the controller sends by itself, and getting back in step
after a lost or late reply or STOP. The port, and what becomes of it: :mod:`hardware.cable`. What the words mean is
the drivers' business (:mod:`hardware.stages`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hardware.cable import Cable
from hardware.framing import LineSplitter
from hardware.serial_port import READ_SLICE_S
from hardware.stage import StageNoReply
from models.language import _

QUIET_S = 0.06
RESYNC_S = 1.0
STOP_GRACE_S = 0.3
"""After STOP nobody waits longer than this for the reply to an earlier command."""
MAX_STRAY_LINES = 1000

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

    def __init__(self, port: str, baud: int, line_format: LineFormat, *, name: str, cable: Cable | None = None) -> None:
        """``cable``: one that is open already, at this port and this rate."""
        self.name = name
        self.port_name = port
        self.on_push: Callable[[str], None] = lambda line: None
        self.on_connect: Callable[[], None] = lambda: None
        self._format = line_format
        self._bus = threading.RLock()  # one conversation at a time
        self._action = threading.local()
        self._urgents_in_step = 0
        self._out_of_step = False
        self._input = LineSplitter(line_format.reply_ends)
        self._cable = cable or Cable(
            port,
            baud,
            name=name,
            command_end=line_format.command_end,
            stop_bits=line_format.stop_bits,
            keep_dtr=line_format.keep_dtr,
        )

    @property
    def fault(self) -> str | None:
        """Why there is no connection, for the user; None where there is one as far as anybody noticed."""
        return self._cable.fault

    @property
    def log(self) -> str:
        """See :attr:`hardware.cable.Cable.log`."""
        return self._cable.log

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
        self._action.urgents = self._cable.urgents
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
            while len(heard) < MAX_STRAY_LINES and self._cable.urgents == urgents:
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
        self._cable.urgent(data)

    def reconnect(self, timeout_s: float, cancel: threading.Event | None = None) -> None:
        """Wait for the cable: try to open and identify, ever less often. Raises StageError when the time is over."""

        def open_it() -> None:
            with self._bus:
                self._ensure_open()

        self._cable.wait_until_open(open_it, timeout_s, cancel or threading.Event())

    def close(self) -> None:
        """Release the port. A conversation in another thread ends with StageDisconnected."""
        self._cable.is_closed = True
        in_turn = self._bus.acquire(timeout=2.0)
        try:
            self._cable.close()
        finally:
            if in_turn:
                self._bus.release()

    def _ensure_open(self) -> None:
        self._cable.ensure_open(self._reopened)

    def _reopened(self) -> None:
        self._input.clear()
        self._out_of_step = True
        self.on_connect()

    # -- sending

    def _urgents_before(self) -> int:
        return int(getattr(self._action, "urgents", self._cable.urgents))

    def _send(self, command: Command, urgents: int) -> None:
        data = command if isinstance(command, bytes) else command.encode("ascii") + self._format.command_end
        try:
            self._cable.send(data, urgents)
        except StageNoReply:
            self._out_of_step = True
            raise

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
            if not stopped and self._cable.urgents != urgents:
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
            raise self._cable.stopped()
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
        urgents = self._cable.urgents
        if not self._out_of_step and self._urgents_in_step == urgents:
            return
        self._drain()
        if self._format.sync is not None:
            command, accept = self._format.sync
            self._exchange(command, lambda line: True, accept, None, self._cable.urgents)
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
        while self._cable.waiting() and time.monotonic() < end_s:
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

    def _receive(self) -> bool:
        """Take in what has arrived; wait a slice of time for it. True: something came."""
        data = self._cable.receive()
        self._input.feed(data)
        return bool(data)
