"""A capture that loses its stage on the way asks, and goes on or ends by a click; the controller is emulated."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton
from pytestqt.qtbot import QtBot

from app.bars import Bar
from app.capture.stack_panel import StackSetup
from app.main_window import MainWindow
from hardware.recovery import WayOn
from hardware.simulator.controllers.grbl import GrblEmulator
from models import storage

LONG = 20_000
LEFT = Qt.MouseButton.LeftButton
FRAMES, LOST = 20, 6

GRBL_MICROSCOPE = """
title = "Emulated drive"
objective = "10x / 0.30"

[[objectives]]
name = "10x / 0.30"
magnification = 10
na = 0.30

[stage]
driver = "grbl"
port = "{port}"
low_um = -3900
high_um = -1
speed_um_s = 5000

[axis]
backlash_um = 2.0
settle_ms = 0
tolerance_um = 2.0

[camera]
driver = "simulated"
image_shape = [48, 64]
sensor_pixel_um = 5.0

[sample]
surface = "sphere"
"""


@pytest.fixture
def controller(window: MainWindow) -> Iterator[GrblEmulator]:
    with GrblEmulator(name="Focus", homing=True, hard_limits=True) as emulator:
        Path(window.settings.profile).write_text(GRBL_MICROSCOPE.format(port=emulator.port))
        yield emulator
        window.link.disconnect()


@pytest.fixture
def homed(qtbot: QtBot, window: MainWindow, controller: GrblEmulator) -> MainWindow:
    with qtbot.waitSignal(window.link.pictureReady, timeout=LONG):
        window.actions_by_name["connect"].trigger()
    window.link.reference.home()
    qtbot.waitUntil(lambda: window.link.stage.referenced and not window.link.busy, timeout=LONG)
    return window


def hit_a_switch(controller: GrblEmulator) -> None:
    with controller.lock:
        controller._critical_alarm(1)


def asked(qtbot: QtBot, window: MainWindow, trouble) -> Bar:
    """Capture, make trouble after some frames; the bar with the question."""
    window.capture.stack.set_value(StackSetup(-500.0, -519.0, by_step=False, frame_count=FRAMES))
    camera = window.link.microscope.camera
    snap, pictures = camera.snap, []

    def snap_and_fail():
        picture = snap()
        pictures.append(picture)
        if len(pictures) == LOST:
            trouble()
        return picture

    def begin() -> None:
        camera.snap = snap_and_fail

    window.run.started.connect(begin)
    window.link.set_live(False)  # its pictures would count
    QTest.mouseClick(window.capture.start, LEFT)
    window.run.started.disconnect(begin)
    qtbot.waitUntil(lambda: question(window) is not None and question(window).isVisible(), timeout=LONG)
    camera.snap = snap
    window.link.set_live(True)
    return question(window)


def question(window: MainWindow) -> Bar | None:
    return next((bar for bar in window.bars.bars() if bar.is_question), None)


def button(bar: Bar, way: WayOn) -> QPushButton:
    return next(button for button in bar.buttons if button.text() == way.title)


def homings(controller: GrblEmulator) -> int:
    return len([command for command in controller.commands if command.startswith("$H")])


def check_kept(window: MainWindow, frames: int) -> None:
    """A stack of this many frames, open, and where the plan put them."""
    stack = window.document.stack
    assert len(stack) == frames
    assert storage.is_complete(window.document.path)
    np.testing.assert_allclose(stack.z_um, np.linspace(-500.0, -519.0, FRAMES)[:frames], atol=0.2)


def captured(qtbot: QtBot, window: MainWindow) -> None:
    qtbot.waitUntil(lambda: window.document.stack is not None and not window.link.busy, timeout=LONG)


@pytest.mark.parametrize("way", [WayOn.HOME, WayOn.CONFIRM])
def test_a_click_lets_it_go_on_at_the_frame_that_it_lost(
    qtbot: QtBot, homed: MainWindow, controller: GrblEmulator, way: WayOn
) -> None:
    bar = asked(qtbot, homed, lambda: hit_a_switch(controller))
    assert "GRBL" in bar.source
    assert "limit switch" in bar.text
    assert f"{LOST} frames are safe" in bar.text
    assert [choice.text() for choice in bar.buttons] == [
        "Home and go on",
        "This position is right: go on",
        "End here and keep the frames",
    ]
    assert homed.link.busy == "capture"
    assert homed.status.task.text() == "Waiting for an answer"
    assert homings(controller) == 1
    faults: dict[int, tuple[str, ...]] = {}
    homed.link.progressed.connect(lambda done, _total: faults.setdefault(done, homed.link.stage.faults))
    QTest.mouseClick(button(bar, way), LEFT)
    captured(qtbot, homed)
    assert len(faults) == FRAMES - LOST
    assert not any(faults.values()), "the panel of the stage would show an alarm that is over"
    check_kept(homed, FRAMES)
    assert homings(controller) == (2 if way is WayOn.HOME else 1)
    assert question(homed) is None
    assert homed.document.stack.metadata["course"]["decisions"] == 1


def test_a_click_ends_it_and_keeps_the_frames(qtbot: QtBot, homed: MainWindow, controller: GrblEmulator) -> None:
    bar = asked(qtbot, homed, lambda: hit_a_switch(controller))
    QTest.mouseClick(button(bar, WayOn.END), LEFT)
    captured(qtbot, homed)
    check_kept(homed, LOST)
    assert question(homed) is None
    assert homings(controller) == 1
    assert any(f"after {LOST} of {FRAMES} frames" in bar.text for bar in homed.bars.bars())
    assert any(button.text() == "Home…" for bar in homed.bars.bars() for button in bar.buttons)


def test_a_reset_counter_cannot_be_confirmed(qtbot: QtBot, homed: MainWindow, controller: GrblEmulator) -> None:
    bar = asked(qtbot, homed, controller.reset)
    assert "it is at 0.00 µm; the last frame was taken at -505.00 µm. The two do not fit" in bar.text
    assert homed.link.z_um == 0.0
    assert [choice.text() for choice in bar.buttons] == ["Home and go on", "End here and keep the frames"]
    QTest.mouseClick(bar.buttons[0], LEFT)
    captured(qtbot, homed)
    check_kept(homed, FRAMES)


def test_stop_ends_the_question_and_needs_its_release(
    qtbot: QtBot, homed: MainWindow, controller: GrblEmulator
) -> None:
    asked(qtbot, homed, lambda: hit_a_switch(controller))
    QTest.keyClick(homed, Qt.Key.Key_Escape)
    assert homed.link.is_stopped
    captured(qtbot, homed)
    check_kept(homed, LOST)
    assert question(homed) is None
    assert any("Capture stopped" in bar.text for bar in homed.bars.bars())
    assert not homed.actions_by_name["home"].isEnabled()
    release = next(bar for bar in homed.bars.bars() if "until you release" in bar.text).buttons[0]
    QTest.mouseClick(release, LEFT)
    assert not homed.link.is_stopped
    qtbot.waitUntil(homed.actions_by_name["home"].isEnabled, timeout=LONG)
    assert homings(controller) == 1


def test_cancel_ends_the_question_and_keeps_the_frames(
    qtbot: QtBot, homed: MainWindow, controller: GrblEmulator
) -> None:
    asked(qtbot, homed, lambda: hit_a_switch(controller))
    QTest.mouseClick(homed.capture.cancel, LEFT)
    captured(qtbot, homed)
    check_kept(homed, LOST)
    assert question(homed) is None
    assert not homed.link.is_stopped
    assert any("Capture cancelled" in bar.text for bar in homed.bars.bars())


@pytest.mark.parametrize("ending", ["stop", "cancel"])
def test_homing_on_the_way_can_be_ended(
    qtbot: QtBot, homed: MainWindow, controller: GrblEmulator, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr("hardware.simulator.controllers.grbl.HOMING_S", 1000.0)
    bar = asked(qtbot, homed, lambda: hit_a_switch(controller))
    QTest.mouseClick(button(bar, WayOn.HOME), LEFT)
    qtbot.waitUntil(lambda: controller.state == "Home", timeout=LONG)
    homed.actions_by_name[ending].trigger()
    captured(qtbot, homed)
    check_kept(homed, LOST)
    assert controller.state == "Alarm"
    assert homed.link.is_stopped
    assert not homed.link.stage.referenced


def test_homing_is_not_left_alone_where_the_picture_fails(
    qtbot: QtBot, homed: MainWindow, controller: GrblEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hardware.simulator.controllers.grbl.HOMING_S", 1000.0)

    def defect() -> None:
        if controller.state == "Home":
            raise RuntimeError("not foreseen")

    qtbot.waitUntil(lambda: homed.link.live, timeout=LONG)
    monkeypatch.setattr(homed.link.pictures, "look", lambda _camera, _z_um: defect())
    homed.link.reference.home()
    qtbot.waitUntil(lambda: controller.state == "Home", timeout=LONG)
    qtbot.wait(300)
    assert homed.link.busy == "home"
    homed.link.cancel()
    qtbot.waitUntil(lambda: not homed.link.busy, timeout=LONG)
    assert homed.link.is_stopped
    assert controller.state == "Alarm"


def test_the_picture_goes_on_while_it_asks_and_while_it_homes(
    qtbot: QtBot, homed: MainWindow, controller: GrblEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hardware.simulator.controllers.grbl.HOMING_S", 1000.0)
    bar = asked(qtbot, homed, lambda: hit_a_switch(controller))
    with qtbot.waitSignals([homed.link.pictureReady] * 3, timeout=LONG):
        pass
    QTest.mouseClick(button(bar, WayOn.HOME), LEFT)
    qtbot.waitUntil(lambda: controller.state == "Home", timeout=LONG)
    said = len(controller.received)
    with qtbot.waitSignals([homed.link.pictureReady] * 3, timeout=LONG):
        pass
    assert homed.status.task.text() == "Homing"
    assert len(controller.received) == said, "homing has the line for itself"
    controller._homed_s = 0.0
    qtbot.waitUntil(lambda: homed.status.task.text() == "Capturing", timeout=LONG)
    captured(qtbot, homed)
    check_kept(homed, FRAMES)


def test_the_question_outlives_other_bars_and_a_change_of_language(
    qtbot: QtBot, homed: MainWindow, controller: GrblEmulator
) -> None:
    bar = asked(qtbot, homed, lambda: hit_a_switch(controller))
    for number in range(2 * homed.bars.MOST):
        homed.tell(f"Something else, {number}")
    homed.set_language("zh_CN")
    homed.set_language("en")
    homed.show_workspace("surface")
    assert question(homed) is bar
    qtbot.waitUntil(bar.isVisible, timeout=LONG)
    QTest.mouseClick(button(bar, WayOn.CONFIRM), LEFT)
    captured(qtbot, homed)
    check_kept(homed, FRAMES)


def test_closing_the_window_while_it_asks_keeps_the_frames(
    qtbot: QtBot, homed: MainWindow, controller: GrblEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.main_window.may_end_capture", lambda _window: True)
    asked(qtbot, homed, lambda: hit_a_switch(controller))
    homed.close()
    (path,) = Path(homed.settings.captures_folder).glob("*.h5")
    assert len(storage.open_stack(path)) == LOST
    assert storage.is_complete(path)
