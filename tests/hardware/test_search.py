"""The search for devices, on real ports with emulated controllers."""

import threading

import pytest
from serial.tools.list_ports_common import ListPortInfo

from hardware import search as module
from hardware.camera import CameraIdentity
from hardware.cameras import CamerasFound
from hardware.recognition import question_count
from hardware.search import SerialPort, camera_section, is_camera, search
from hardware.search import serial_ports as serial_ports_of_the_system
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stages.grbl import DRIVER as GRBL
from hardware.stages.registry import DRIVERS
from models.errors import Cancelled

WEBCAM = CameraIdentity("uvc", model="Microscope camera", serial="2")


def cameras() -> CamerasFound:
    return CamerasFound((WEBCAM,), {"basler": "Not installed."})


def look(*ports, **options):
    return search(ports, drivers=[GRBL], cameras=cameras, **options)


@pytest.fixture(autouse=True)
def no_ports_of_this_machine(monkeypatch):
    monkeypatch.setattr(module, "serial_ports", tuple)


def test_finds_the_controller_and_moves_nothing():
    with GrblEmulator(name="Focus") as controller:
        found = look(controller.port)
        assert controller.motor.position_um == 0.0
        assert not [line for line in controller.commands if line.startswith(("$J", "$H"))]
    (answer,) = found.ports
    assert answer.stage.driver is GRBL
    assert answer.stage.identity == "GRBL 1.1h.20190830:Focus"
    assert found.stages == (answer.stage,)
    assert found.cameras == cameras()


def test_every_protocol_tries_and_the_right_one_wins():
    with GrblEmulator(name="Focus") as controller:
        (answer,) = search((controller.port,), cameras=cameras).ports
        assert not controller.motor.is_moving
        assert controller.motor.position_um == 0.0
    assert answer.stage.driver is DRIVERS["grbl"]


def test_a_port_in_use_is_told_and_does_not_hide_the_others():
    with GrblEmulator() as busy, GrblEmulator() as free:
        stage = GRBL.open(GRBL.settings(driver="grbl", port=busy.port, low_um=-1, high_um=1))
        try:
            taken, found = look(busy.port, free.port).ports
        finally:
            stage.close()
    assert taken.stage is None
    assert "in use by another program" in taken.problem
    assert found.stage.port == free.port
    assert found.problem == ""


def test_a_port_that_is_not_there_is_told(tmp_path):
    (answer,) = look(str(tmp_path / "tty")).ports
    assert answer.stage is None
    assert "cannot be opened" in answer.problem


def test_a_port_named_twice_is_asked_once(monkeypatch):
    with GrblEmulator() as controller:
        monkeypatch.setattr(module, "serial_ports", lambda: (SerialPort(controller.port, "Arduino", "A1"),))
        (answer,) = look(controller.port, controller.port).ports
    assert answer.port == SerialPort(controller.port, "Arduino", "A1")
    assert answer.stage is not None


def test_ports_that_belong_to_the_system_are_left_alone(monkeypatch):
    system, wireless = ListPortInfo("/dev/cu.Bluetooth-Incoming-Port"), ListPortInfo("COM5")
    wireless.hwid = "BTHENUM\\{00001101-0000-1000-8000-00805F9B34FB}"
    monkeypatch.setattr(module, "serial_ports", serial_ports_of_the_system)
    monkeypatch.setattr(module.list_ports, "comports", lambda: [system, wireless])
    assert search(drivers=[GRBL], cameras=cameras).ports == ()
    (answer,) = search(["COM5"], drivers=[GRBL], cameras=cameras).ports
    assert answer.problem


def test_progress_counts_to_its_end_and_names_the_ports(tmp_path):
    told, words = [], []
    missing = str(tmp_path / "tty")
    with GrblEmulator() as controller:
        search(
            (controller.port, missing),
            drivers=[GRBL],
            cameras=cameras,
            progress=lambda done, total: told.append((done, total)),
            told=words.append,
        )
        assert words[0] == f"Asking {controller.port}, {missing}, cameras"
    assert [done for done, _total in told] == sorted(done for done, _total in told)
    assert {total for _done, total in told} == {2 * question_count([GRBL]) + 1}
    assert told[-1][0] == told[-1][1]
    assert len(words) == 3
    assert len(words[-1]) < len(words[0])


def test_cancel_ends_it_without_a_result():
    cancel = threading.Event()
    with GrblEmulator() as controller:
        controller.mute = True
        with pytest.raises(Cancelled):
            look(controller.port, cancel=cancel, progress=lambda done, total: cancel.set())


def test_ports_of_the_system_without_empty_words(monkeypatch):
    port, bare = ListPortInfo("/dev/ttyUSB9"), ListPortInfo("/dev/ttyS1")
    port.description, port.serial_number, port.vid = "CP2102", "0001", 0x10C4
    monkeypatch.setattr(module.list_ports, "comports", lambda: [port, bare])
    assert serial_ports_of_the_system() == (
        SerialPort("/dev/ttyS1"),
        SerialPort("/dev/ttyUSB9", "CP2102", "0001", 0x10C4),
    )


@pytest.mark.parametrize(
    ("camera", "section"),
    [
        (WEBCAM, {"driver": "uvc", "index": 2}),
        (CameraIdentity("basler", "Basler", "acA", "123"), {"driver": "basler", "serial": "123"}),
        (CameraIdentity("genicam", "Other"), {"driver": "genicam"}),
    ],
)
def test_what_chooses_a_camera_in_a_profile(camera, section):
    assert camera_section(camera) == section
    assert is_camera({**section, "sensor_pixel_um": 5.0}, camera)
    assert not is_camera({"driver": "simulated"}, camera)
