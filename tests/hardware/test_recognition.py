"""Who answers on a port is found out soon, whoever it is, and without moving anybody."""

import collections
import contextlib
import importlib
import threading
import time

import pytest

from hardware import recognition
from hardware.cable import Cable
from hardware.line import SerialLine
from hardware.recognition import identify_port, question_count
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stages.driver import StageDriver
from hardware.stages.registry import DRIVERS
from models.errors import Cancelled
from tests.hardware.stage_behaviour import StageBehaviour

ALL = tuple(DRIVERS.values())
ARDUINO, PI = 0x2341, 0x1A72


def table_of(driver: StageDriver) -> StageBehaviour:
    """The first table among the driver's own tests: it knows the emulator."""
    module = importlib.import_module("tests.hardware.test_" + driver.stage.__module__.rpartition(".")[2])
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, StageBehaviour) and value.__name__.startswith("Test"):
            return value()
    raise LookupError(driver.name)


def all_that_was_sent(ask) -> bytes:
    """To somebody who does not answer. ``ask`` gets the port."""
    with pytest.MonkeyPatch.context() as patch, GrblEmulator() as listener:
        patch.setattr(SerialLine, "listen", lambda *args, **words: [])  # nobody boots here
        for limit in ("ANSWER_S", "BOOT_S", "LATE_S"):
            patch.setattr(recognition, limit, 0.01)
        listener.mute = True
        ask(listener.port)
        time.sleep(0.05)
        return b"".join(data for _at, data in listener.received)


def identify_at(port: str, driver: StageDriver) -> str | None:
    with contextlib.closing(SerialLine(port, driver.bauds[0], driver.line_format, name=driver.title)) as line:
        return driver.identify(line)


@pytest.fixture(scope="module")
def questions() -> dict[str, bytes]:
    """What the search asks, for each plug, and what each driver asks by itself when its profile is connected."""
    said = {
        f"search {plug}": all_that_was_sent(lambda port, plug=plug: identify_port(port, ALL, usb_vendor=plug))
        for plug in (None, ARDUINO, PI)
    }
    for driver in ALL:
        said[driver.name] = all_that_was_sent(lambda port, driver=driver: identify_at(port, driver))
    return said


@pytest.mark.parametrize("name", DRIVERS)
def test_no_question_moves_any_controller(name, questions):
    driver = DRIVERS[name]
    with table_of(driver).emulator() as emulator:
        emulator.motor.put(50.0)
        for asked in questions:
            with contextlib.closing(
                SerialLine(emulator.port, driver.bauds[0], driver.line_format, name=driver.title)
            ) as line:
                line.tell(questions[asked], in_step=False)
                line.tell("", in_step=False)
                line.listen(0.02)
            assert not emulator.motor.is_moving, asked
            assert emulator.motor.position_um == 50.0, asked
        assert identify_at(emulator.port, driver)
        assert emulator.motor.position_um == 50.0


@pytest.mark.parametrize("vendor", [None, ARDUINO, PI])
def test_what_ends_with_a_return_begins_with_a_question(vendor, monkeypatch):
    """To a controller that waits for it, all since the last one is one command: M, V, U and D move a Prior."""
    heard = collections.defaultdict(bytes)

    def send(cable, data, urgents):
        heard[cable._baud] += data

    monkeypatch.setattr(Cable, "send", send)
    for _search in range(2):
        all_that_was_sent(lambda port: identify_port(port, usb_vendor=vendor))
    for baud in {baud for driver in ALL if driver.line_format.command_end == b"\r" for baud in driver.bauds}:
        for command in heard[baud].split(b"\r"):
            assert command.strip()[:1] in (b"", b"?", b"B", b"$", b"/", b"*"), (baud, command)


@pytest.mark.parametrize("vendor", [None, ARDUINO])
@pytest.mark.parametrize("name", DRIVERS)
def test_every_controller_is_recognised_among_all(name, vendor):
    with table_of(DRIVERS[name]).emulator() as emulator:
        emulator.motor.put(50.0)
        found = identify_port(emulator.port, usb_vendor=vendor)
        assert emulator.motor.position_um == 50.0
        assert not emulator.motor.is_moving
        assert found is not None
        assert found.driver.name == name
        assert found.identity == identify_at(emulator.port, DRIVERS[name])


def test_a_likely_protocol_is_asked_first_and_alone_where_it_answers():
    with table_of(DRIVERS["pi-gcs2"]).emulator() as emulator:
        found = identify_port(emulator.port, usb_vendor=PI)
        assert found is not None
        assert b"".join(data for _at, data in emulator.received).startswith(b"\n*IDN?\n*IDN?")


def test_a_board_that_resets_when_the_port_is_opened_is_waited_for_once(monkeypatch):
    monkeypatch.setattr(recognition, "BOOT_S", 1.0)
    monkeypatch.setattr(recognition, "ANSWER_S", 0.02)
    openings = []
    monkeypatch.setattr(recognition, "Cable", lambda *args, **words: openings.append(args) or Cable(*args, **words))
    with GrblEmulator(name="Focus") as board:
        board.mute = True

        def boot():
            board.mute = False
            board.reset()

        timer = threading.Timer(0.7, boot)
        timer.start()
        found = identify_port(board.port)
        timer.join()
    assert found is not None
    assert found.identity.endswith("Focus")
    assert len(openings) == 1


def test_one_that_talks_without_answering_does_not_hold_the_search(monkeypatch):
    monkeypatch.setattr(recognition, "ANSWER_S", 0.02)
    monkeypatch.setattr(recognition, "BOOT_S", 0.1)
    monkeypatch.setattr(recognition, "LATE_S", 0.05)
    monkeypatch.setattr(recognition, "PATIENCE_S", 0.1)

    class Chatterer(GrblEmulator):
        def handle_line(self, line):
            pass

        def tick(self):
            self.send("$GPGGA,123519,4807.038,N")

    asked = []
    with Chatterer() as device:
        assert identify_port(device.port, asked=lambda: asked.append(1)) is None
    assert len(asked) == question_count(ALL)


def test_cancel_ends_it_within_a_question():
    cancel = threading.Event()
    asked = []

    def count():
        asked.append(time.monotonic())
        cancel.set()

    with GrblEmulator() as device:
        device.mute = True
        with pytest.raises(Cancelled):
            identify_port(device.port, asked=count, cancel=cancel)
    assert len(asked) == 1
