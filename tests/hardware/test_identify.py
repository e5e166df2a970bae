"""What a driver asks to find out who is there moves no controller that is asked after it."""

import importlib
import time

import pytest

from hardware.line import SerialLine
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stages.driver import StageDriver
from hardware.stages.registry import DRIVERS
from tests.hardware.stage_behaviour import StageBehaviour


def table_of(driver: StageDriver) -> StageBehaviour:
    """The first table among the driver's own tests: it knows the emulator."""
    module = importlib.import_module("tests.hardware.test_" + driver.stage.__module__.rpartition(".")[2])
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, StageBehaviour) and value.__name__.startswith("Test"):
            return value()
    raise LookupError(driver.name)


@pytest.fixture(scope="module")
def questions() -> dict[str, bytes]:
    """All that each driver says to somebody who does not answer."""
    said = {}
    with pytest.MonkeyPatch.context() as patch, GrblEmulator() as listener:
        patch.setattr(SerialLine, "listen", lambda *args, **words: [])  # nobody boots here
        listener.mute = True
        for driver in DRIVERS.values():
            listener.received.clear()
            line = SerialLine(listener.port, driver.bauds[0], driver.line_format, name=driver.title)
            try:
                assert driver.identify(line) is None
            finally:
                line.close()
            said[driver.name] = b"".join(data for _at, data in listener.received)
    return said


@pytest.mark.parametrize("name", DRIVERS)
def test_questions_of_other_protocols_do_no_harm(name, questions):
    driver = DRIVERS[name]
    names = list(DRIVERS)
    with table_of(driver).emulator() as emulator:
        before_um = emulator.motor.position_um
        for other in names[: names.index(name)]:
            line = SerialLine(emulator.port, driver.bauds[0], driver.line_format, name=driver.title)
            line.tell(questions[other])
            line.close()
            time.sleep(0.02)
            assert not emulator.motor.is_moving
        line = SerialLine(emulator.port, driver.bauds[0], driver.line_format, name=driver.title)
        try:
            assert driver.identify(line)
        finally:
            line.close()
        assert emulator.motor.position_um == before_um
        assert not emulator.motor.is_moving


def test_every_driver_asks_something(questions):
    assert all(questions.values())
