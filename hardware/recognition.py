"""Who answers on a serial port, found by asking the questions of all protocols there while it is open once.

The questions are the harmless ones by which each driver gets back in step (:attr:`hardware.line.LineFormat.sync`);
whoever seems to answer one is then asked in full by its own driver. They come one by one, so that nobody who answers
hears the questions meant for others. Protocols whose commands end with a carriage return are asked first: to such a
controller the others' questions are one unfinished command, which must not begin like one that moves (``M115``).
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hardware.cable import Cable
from hardware.framing import LineSplitter
from hardware.line import Accept, Command, SerialLine
from hardware.stage import StageNoReply
from hardware.stages.driver import StageDriver
from hardware.stages.registry import DRIVERS, FoundStage
from models.errors import Cancelled
from models.language import _

ANSWER_S = 0.2
"""From the last bit of a question to the first byte of its answer. Measured with emulated controllers on a busy
computer: up to 15 ms. A USB adapter may add 16 ms, and a controller the time for what it does just now."""
GAP_S = 0.06
"""Within an answer."""
PATIENCE_S = 1.5
"""With one that sends without answering, at each rate."""
BOOT_S = 3.0
"""A board that resets when its port is opened listens after this time."""
LATE_S = 1.0
"""Old firmware of openUC2 answers only so long after the end of a command."""

BOARDS = ("grbl", "marlin", "sangaboard", "openuc2")
USB_VENDORS = {
    0x1A72: ("pi-gcs2",),  # Physik Instrumente
    0x2341: BOARDS,  # Arduino
    0x2A03: BOARDS,  # Arduino
    0x1A86: BOARDS,  # QinHeng: the CH340 of most boards that are compatible with Arduino
    0x303A: BOARDS,  # Espressif
}
"""Protocols that are likely behind a plug. FTDI and CP210x are everywhere and tell nothing."""


@dataclass(frozen=True)
class _Pass:
    """Questions at one rate. ``after_boot``: wait for boards that opening the port has reset. ``may_be_late``:
    wait for slow answers, too."""

    baud: int
    drivers: tuple[StageDriver, ...]
    after_boot: bool = False
    may_be_late: bool = False


def question_count(drivers: Sequence[StageDriver], usb_vendor: int | None = None) -> int:
    """How many questions a silent port is asked."""
    return sum(len(each.drivers) for each in _passes(drivers, usb_vendor))


def identify_port(
    port: str,
    drivers: Iterable[StageDriver] = tuple(DRIVERS.values()),
    *,
    usb_vendor: int | None = None,
    asked: Callable[[], None] = lambda: None,
    cancel: threading.Event | None = None,
) -> FoundStage | None:
    """Ask on a port who is there. Queries only; nothing moves.

    ``usb_vendor``: of the plug, where it has one. ``asked`` is called after each question. None where nobody
    answers. Raises StagePortBusy, StageDisconnected and StageError where the port cannot be had, Cancelled.
    """
    passes = _passes(tuple(drivers), usb_vendor)
    keep_dtr = any(driver.line_format.keep_dtr for each in passes for driver in each.drivers)
    cable = Cable(port, passes[0].baud, keep_dtr=keep_dtr, name=_("The controller"))
    try:
        for each in passes:
            found = _Questions(cable, each, asked, cancel or threading.Event()).answer()
            if found is not None:
                return found
    finally:
        cable.close()
    return None


def _passes(drivers: Sequence[StageDriver], usb_vendor: int | None) -> list[_Pass]:
    """The commonest rate first, likely protocols first. Boards once more at the end: so long may they take to boot."""
    likely = USB_VENDORS.get(usb_vendor or 0, ())
    ordered = sorted(drivers, key=lambda driver: (driver.name not in likely, driver.line_format.command_end != b"\r"))
    boards = [driver for driver in ordered if driver.line_format.keep_dtr]
    rates = _rates(boards)
    return [
        *(_Pass(baud, _at(baud, ordered)) for baud in _rates(ordered)),
        *(_Pass(baud, _at(baud, boards), after_boot=True) for baud in rates[1:]),
        *(_Pass(baud, _at(baud, boards), after_boot=True, may_be_late=True) for baud in rates[:1]),
    ]


def _rates(drivers: Sequence[StageDriver]) -> list[int]:
    return [baud for baud, _count in Counter(baud for driver in drivers for baud in driver.bauds).most_common()]


def _at(baud: int, drivers: Sequence[StageDriver]) -> tuple[StageDriver, ...]:
    return tuple(driver for driver in drivers if baud in driver.bauds)


def _question(driver: StageDriver) -> tuple[Command, Accept]:
    sync = driver.line_format.sync
    assert sync is not None, driver.name
    return sync


class _Questions:
    """One pass."""

    def __init__(self, cable: Cable, each: _Pass, asked: Callable[[], None], cancel: threading.Event) -> None:
        self._cable, self._pass, self._asked, self._cancel = cable, each, asked, cancel
        self._open = list[StageDriver]()  # asked, and not yet known to be somebody else
        self._lines = LineSplitter(b"".join(driver.line_format.reply_ends for driver in each.drivers))
        self._patience_s = PATIENCE_S

    def answer(self) -> FoundStage | None:
        self._cable.change_baud(self._pass.baud)
        if self._pass.after_boot:
            self._wait_for_boot()
        before = b""
        for driver in self._pass.drivers:
            end = driver.line_format.command_end
            query = _question(driver)[0]
            data = query if isinstance(query, bytes) else query.encode("ascii") + end
            if end != before:
                data = end + data  # ends what those before have begun
            before = end
            self._cable.send(data, self._cable.urgents)
            self._open.append(driver)
            found = self._hear(ANSWER_S + 10 * len(data) / self._pass.baud)
            self._asked()
            if found is not None:
                return found
        return self._hear(LATE_S) if self._pass.may_be_late else None

    def _wait_for_boot(self) -> None:
        while time.monotonic() < self._cable.opened_s + BOOT_S and not self._receive():
            pass

    def _hear(self, wait_s: float) -> FoundStage | None:
        """Who answers within this time; while something arrives, longer."""
        end_s = time.monotonic() + wait_s
        while (now_s := time.monotonic()) < end_s:
            if not self._receive():
                continue
            while self._lines:
                line = self._lines.take()
                for driver in tuple(self._open):
                    if _question(driver)[1](line):
                        if (found := self._ask_in_full(driver)) is not None:
                            return found
                        self._open.remove(driver)
            if end_s < now_s + GAP_S and self._patience_s > 0:
                self._patience_s -= now_s + GAP_S - end_s
                end_s = now_s + GAP_S
        return None

    def _ask_in_full(self, driver: StageDriver) -> FoundStage | None:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s and (self._receive() or self._receive()):
            pass  # the rest of that answer answers nothing else
        line = SerialLine(
            self._cable.port_name, self._pass.baud, driver.line_format, name=driver.title, cable=self._cable
        )
        try:
            identity = driver.identify(line)
        except StageNoReply:
            identity = None
        return None if identity is None else FoundStage(driver, self._cable.port_name, self._pass.baud, identity)

    def _receive(self) -> bool:
        if self._cancel.is_set():
            raise Cancelled
        data = self._cable.receive()
        self._lines.feed(data)
        return bool(data)
