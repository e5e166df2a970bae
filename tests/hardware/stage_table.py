"""What the tables of tests for all stages share: how a stage is opened on its emulator, and how to wait."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from hardware.line import SerialLine
from hardware.simulator.controllers.emulator import Emulator
from hardware.stage import StageError
from hardware.stages.driver import SerialStage, StageDriver

STOP_LIMIT_S = 0.05
PATIENCE_S = 10.0


def wait_until(condition, timeout_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.002)


def rest(stage) -> float:
    wait_until(lambda: not stage.is_moving())
    return stage.position_um()


class Aside:
    """A call in a thread of its own, as a context that waits for its end."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.raised: list[type[Exception]] = []
        self._call = call
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._call()
        except StageError as error:
            self.raised.append(type(error))

    def __enter__(self) -> "Aside":
        self._thread.start()
        return self

    def __exit__(self, *_details: object) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def identified(driver: StageDriver, emulator: Emulator) -> str | None:
    """What the controller says to the driver's own questions."""
    with contextlib.closing(SerialLine(emulator.port, driver.bauds[0], driver.line_format, name=driver.title)) as line:
        return driver.identify(line)


class StageTable:
    """A driver's test gives ``driver`` and ``emulator()``; the flags say what its protocol has."""

    driver: ClassVar[StageDriver]
    settings: ClassVar[dict[str, Any]] = {}
    """More of the profile's section [stage]."""
    stop_bytes: ClassVar[bytes]
    """What STOP looks like on the line while a move is under way."""
    homing_command: ClassVar[str | None] = None
    tolerance_um: ClassVar[float] = 0.5
    unreferenced_at_power_up: ClassVar[bool] = True
    loses_position_by_reset: ClassVar[bool] = True
    echoes: ClassVar[bool] = True
    """The protocol can be told from its own echo."""
    alarm_words: ClassVar[str] = r"[a-z]{4}"
    """What is told of the alarm that ``trip`` brings about."""
    noise: ClassVar[bytes] = b"\x00\xff\xfe~~garbage\x80\r\n}{\r\n"
    words: ClassVar[tuple[bytes, ...]] = ()
    """Words of the protocol, whole and torn, that are mixed into noise; none: not tried with this variant."""

    def emulator(self) -> Emulator:
        """A controller that was just switched on, 0 um, at least 500 um of way to both sides."""
        raise NotImplementedError

    def trip(self, emulator: Emulator) -> None:
        """Bring about an alarm, if the protocol has any, as a limit switch does."""
        pytest.skip("this protocol has no alarm")

    def exchange(self, emulator: Emulator) -> None:
        """Make another controller of it, as one can tell by its answers."""
        pytest.skip("this protocol has no serial number")

    @contextlib.contextmanager
    def opened(self, **changes):
        with self.emulator() as emulator, contextlib.closing(self.connect(emulator, **changes)) as stage:
            yield stage, emulator

    def connect(self, emulator: Emulator, **changes) -> SerialStage:
        section = {"port": emulator.port, "low_um": -400.0, "high_um": 400.0, "speed_um_s": 1000.0}
        section |= {"driver": self.driver.name, "timeout_s": 0.25, "trust_position": True}
        return self.driver.open(self.driver.settings(**{**section, **self.settings, **changes}))
