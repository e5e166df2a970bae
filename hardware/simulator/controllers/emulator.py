"""The part of an emulated controller that is the same for all: a cable, a motor, a thread, faults on demand."""

import os
import select
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

from hardware.simulator.stage import Ramp

if sys.platform != "win32":
    import pty
    import tty

TICK_S = 0.002


class Motor:
    """One axis between two hard ends, in um from where the controller was switched on. Not thread-safe."""

    def __init__(
        self, low_um: float, high_um: float, *, speed_um_s: float = 2000.0, acceleration_um_s2: float = 50_000.0
    ) -> None:
        self.low_um, self.high_um = low_um, high_um
        self.speed_um_s, self.acceleration_um_s2 = speed_um_s, acceleration_um_s2
        self.is_stalled = False
        self._ramp = Ramp(time.monotonic(), 0.0, 0.0, 1.0, 1.0)

    @property
    def position_um(self) -> float:
        """Where it is; an end stops it."""
        return min(max(self._ramp.at(time.monotonic())[0], self.low_um), self.high_um)

    @property
    def is_moving(self) -> bool:
        """As the controller believes: a stalled motor is thought to be on its way."""
        return self.is_stalled or time.monotonic() < self._ramp.end_s

    @property
    def is_at_end(self) -> bool:
        """A limit switch is pressed."""
        return not self.low_um < self.position_um < self.high_um

    def move_to(self, position_um: float) -> None:
        here_um = self.position_um
        target_um = here_um if self.is_stalled else position_um
        self._ramp = Ramp.between(time.monotonic(), here_um, target_um, self.speed_um_s, self.acceleration_um_s2)

    def halt(self) -> None:
        self.put(self.position_um)

    def put(self, position_um: float) -> None:
        """Stand there at once."""
        self._ramp = Ramp(time.monotonic(), position_um, 0.0, 1.0, 1.0)


class Emulator:
    """A controller behind a pseudo-terminal; ``port`` is what a driver opens. Use it as a context manager.

    Subclasses give ``power_up``, ``handle_line`` and, where the protocol has them, ``handle_byte`` (real-time
    characters) and ``tick`` (called every few milliseconds); they answer with ``send``. All of these run in the
    emulator's thread, holding ``lock``. ``line_end`` ends an incoming line.

    Faults: ``echo``, ``mute`` (hears and says nothing), ``deaf`` (fetches no bytes), ``delay_next_s``, ``drop_next``
    and ``halve_next`` (replies), ``noise``, ``stall``, ``reset``, ``unplug`` and ``replug``.
    ``received`` records every chunk of bytes with its time, ``commands`` every line.
    """

    line_end: ClassVar[bytes] = b"\n"
    reply_end: ClassVar[bytes] = b"\r\n"

    def __init__(self, motor: Motor) -> None:
        self.motor = motor
        self.lock = threading.RLock()
        self.echo = self.mute = self.deaf = False
        self.delay_next_s = 0.0
        self.drop_next = self.halve_next = 0
        self.received: list[tuple[float, bytes]] = []
        self.commands: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix="controller-")
        self.port = str(Path(self._folder.name) / "tty")
        self._master = self._slave = -1
        self._input = bytearray()
        self._outgoing: deque[tuple[float, bytes]] = deque()
        self._running = True
        self._plug_in()
        self.power_up()
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)
        self._thread.start()

    # -- given by subclasses

    def power_up(self) -> None:
        """State after power-up or reset, and the greeting if there is one."""
        raise NotImplementedError

    def handle_line(self, line: str) -> None:
        """A line without its end."""
        raise NotImplementedError

    def handle_byte(self, byte: int) -> bool:
        """True where the byte is a real-time character and no part of a line."""
        return False

    def tick(self) -> None:
        """What happens without a command: a switch is hit, a move ends."""

    # -- for subclasses

    def send(self, text: str, end: bytes | None = None) -> None:
        """Answer, in order, with the faults that were asked for."""
        data = text.encode("latin-1") + (self.reply_end if end is None else end)
        if self.mute:
            return
        if self.drop_next > 0:
            self.drop_next -= 1
            return
        if self.halve_next > 0:
            self.halve_next -= 1
            data = data[: len(data) // 2]
        due_s = time.monotonic() + self.delay_next_s
        self.delay_next_s = 0.0
        if self._outgoing:
            due_s = max(due_s, self._outgoing[-1][0])
        self._outgoing.append((due_s, data))

    # -- faults

    def noise(self, data: bytes) -> None:
        """These bytes appear on the line now."""
        with self.lock:
            self._outgoing.append((0.0, data))

    def stall(self, stalled: bool = True) -> None:
        """Jam the screw: the controller goes on believing that it moves."""
        with self.lock:
            self.motor.halt()
            self.motor.is_stalled = stalled

    def reset(self) -> None:
        """The supply blinks."""
        with self.lock:
            self.motor.halt()
            self._input.clear()
            self._outgoing.clear()
            self.power_up()

    def unplug(self) -> None:
        """Pull the cable; the motor goes on."""
        with self.lock:
            self._outgoing.clear()
            self._input.clear()
            os.unlink(self.port)
            for handle in (self._slave, self._master):
                os.close(handle)
            self._slave = self._master = -1

    def replug(self, *, reset: bool = False) -> None:
        """Plug it in again, at the same name. ``reset``: the board lived on the cable's supply."""
        with self.lock:
            self._plug_in()
        if reset:
            self.reset()

    def wait_for(self, data: bytes, timeout_s: float = 1.0) -> float:
        """When these bytes arrived (``time.monotonic``). Raises TimeoutError."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            for at_s, chunk in tuple(self.received):
                if data in chunk:
                    return at_s
            time.sleep(TICK_S)
        raise TimeoutError(data)

    def close(self) -> None:
        self._running = False
        self._thread.join(2.0)
        if self._master >= 0:
            self.unplug()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    # -- the cable

    def _plug_in(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError("pseudo-terminals need POSIX")
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        os.symlink(os.ttyname(slave), self.port)
        self._master, self._slave = master, slave

    def _run(self) -> None:
        while self._running:
            master = self._master
            if master < 0 or self.deaf:
                time.sleep(TICK_S)
            else:
                with suppress(OSError, ValueError):  # pulled out this very moment
                    select.select([master], [], [], TICK_S)
            with self.lock:
                if self._master >= 0 and not self.deaf:
                    self._take_in()
                self.tick()
                if self._master >= 0:
                    self._give_out()

    def _take_in(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except OSError:
            return
        self.received.append((time.monotonic(), data))
        if self.mute:
            return
        if self.echo:
            self._outgoing.append((0.0, data))
        for byte in data:
            if self.handle_byte(byte):
                continue
            self._input.append(byte)
            if self._input.endswith(self.line_end):
                line = self._input[: -len(self.line_end)].decode("latin-1")
                self._input.clear()
                self.commands.append(line)
                self.handle_line(line)

    def _give_out(self) -> None:
        while self._outgoing and self._outgoing[0][0] <= time.monotonic():
            _due_s, data = self._outgoing.popleft()
            try:
                written = os.write(self._master, data)
            except OSError:
                written = 0
            if written < len(data):
                self._outgoing.appendleft((0.0, data[written:]))
                return
