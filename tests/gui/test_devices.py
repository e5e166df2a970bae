"""From nothing to a moving stage through the real window: the controller is emulated, its port and bytes are real."""

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLineEdit, QTreeWidgetItem
from pytestqt.qtbot import QtBot

from app.capture.device_page import DATA, DevicePage
from app.main_window import MainWindow
from app.settings import Settings, profiles_folder
from hardware import search as search_module
from hardware.camera import CameraIdentity
from hardware.cameras import CamerasFound
from hardware.profile import load_profile
from hardware.search import SerialPort
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stages.grbl import DRIVER as GRBL

LONG = 20_000
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Iterator[GrblEmulator]:
    """A GRBL board with homing and limit switches, on the only port of this machine."""
    with GrblEmulator(name="Focus", homing=True, hard_limits=True) as emulator:
        monkeypatch.setattr(search_module, "serial_ports", lambda: (SerialPort(emulator.port, "Arduino Uno"),))
        monkeypatch.setattr(search_module, "list_cameras", lambda: CamerasFound((), {"basler": "No pylon here."}))
        monkeypatch.setattr(search_module, "DRIVERS", {"grbl": GRBL})
        yield emulator


@pytest.fixture
def page(qtbot: QtBot, window: MainWindow, controller: GrblEmulator) -> DevicePage:
    window.actions_by_name["devices"].trigger()
    page = window.findChild(DevicePage)
    qtbot.waitUntil(page.isVisible)
    return page


def entries(page: DevicePage) -> list[QTreeWidgetItem]:
    groups = [page.found.topLevelItem(row) for row in range(page.found.topLevelItemCount())]
    return [group.child(row) for group in groups for row in range(group.childCount())]


def write(field: QLineEdit, text: str) -> None:
    field.setFocus()
    field.selectAll()
    QTest.keyClicks(field, text)


def search(qtbot: QtBot, page: DevicePage) -> None:
    with qtbot.waitSignal(page._search.ended, timeout=LONG):
        QTest.mouseClick(page.search, LEFT)


def describe(qtbot: QtBot, page: DevicePage) -> None:
    search(qtbot, page)
    write(page.form.title, "Roll microscope")
    fields = page.form.stage.fields
    write(fields["low_um"], "-3900")
    write(fields["high_um"], "-1")
    axis = page.form.axis.fields
    write(axis["backlash_um"], "2")
    write(axis["settle_ms"], "0")
    axis["soft_limits_um"].clear()


@pytest.fixture
def on_grbl(qtbot: QtBot, window: MainWindow, page: DevicePage) -> MainWindow:
    """The window connected to the emulated controller, by the page."""
    describe(qtbot, page)
    with qtbot.waitSignal(window.link.pictureReady, timeout=LONG):
        QTest.mouseClick(page.save_and_connect, LEFT)
    return window


@pytest.fixture
def homed(qtbot: QtBot, on_grbl: MainWindow) -> MainWindow:
    on_grbl.link.reference.home()
    qtbot.waitUntil(lambda: on_grbl.link.stage.referenced and not on_grbl.link.busy, timeout=LONG)
    return on_grbl


def bar_with(window: MainWindow, words: str):
    return next((bar for bar in window.bars.bars() if words in bar.text), None)


def bar_to(window: MainWindow, action: str):
    """The bar that offers this."""
    return next((bar for bar in window.bars.bars() if any(b.text() == action for b in bar.buttons)), None)


def at_rest(qtbot: QtBot, window: MainWindow, z_um: float) -> None:
    link = window.link
    qtbot.waitUntil(lambda: link.target_um is None and abs(link.z_um - z_um) < 0.3, timeout=LONG)


# --- the page


def test_search_finds_the_controller_and_fills_the_page_in(qtbot: QtBot, page: DevicePage, controller) -> None:
    assert "press Search" in page.reasons.text()
    search(qtbot, page)
    port, none = entries(page)
    assert controller.port in port.text(0)
    assert "Arduino Uno" in port.text(0)
    assert "Focus" in port.text(0)
    assert none.data(0, DATA) is None
    assert "No pylon here." in page.reasons.text()
    assert page.form.stage_driver.currentData() == "grbl"
    assert page.form.stage.fields["port"].text() == controller.port
    assert page.form.stage.fields["baud"].text() == "115200"
    assert controller.motor.position_um == 0.0
    assert not [line for line in controller.commands if line.startswith(("$J", "$H", "$X"))]


def test_the_search_shows_progress_and_can_be_cancelled(qtbot: QtBot, page: DevicePage, monkeypatch) -> None:
    waiting = page._search.worker

    def never(ports, *, progress, told, cancel):
        progress(3, 8)
        told("Asking COM7")
        cancel.wait(LONG / 1000)
        raise search_module.Cancelled

    monkeypatch.setattr("app.capture.device_search.search", never)
    QTest.mouseClick(page.search, LEFT)
    qtbot.waitUntil(lambda: page.progress.value() == 3 and page.progress.maximum() == 8, timeout=LONG)
    assert page.progress.isVisible()
    qtbot.waitUntil(lambda: page.asking.text() == "Asking COM7", timeout=LONG)
    assert page.progress.value() == 3
    assert not page.search.isVisible()
    QTest.mouseClick(page.cancel, LEFT)
    qtbot.waitUntil(lambda: not waiting.title, timeout=LONG)
    assert page.search.isVisible()
    assert page._search.found is None


def test_only_the_port_that_is_typed_is_asked(qtbot: QtBot, page: DevicePage) -> None:
    write(page.port, "/dev/not-there")
    search(qtbot, page)
    assert "/dev/not-there" in entries(page)[0].text(0)
    assert "cannot be opened" in entries(page)[0].text(0)


def test_a_camera_that_was_found_is_used_by_a_click(qtbot: QtBot, page: DevicePage, monkeypatch) -> None:
    cameras = (CameraIdentity("basler", "Basler", "acA1300", "11"), CameraIdentity("basler", "Basler", "acA2040", "22"))
    monkeypatch.setattr(search_module, "list_cameras", lambda: CamerasFound(cameras, {}))
    search(qtbot, page)
    item = entries(page)[-1]
    box = page.found.visualItemRect(item)
    QTest.mouseClick(page.found.viewport(), LEFT, pos=QPoint(box.left() + 20, box.center().y()))
    assert page.form.camera_driver.currentData() == "basler"
    assert page.form.camera.fields["serial"].text() == "22"
    write(page.form.title, "Mine")
    write(page.form.region, "8, 16, 640, 480")
    QTest.mouseClick(page.save, LEFT)
    camera = load_profile(profiles_folder() / "mine.toml").camera
    assert (camera.serial, camera.settings.roi.top, camera.settings.roi.width) == ("22", 16, 640)


def test_the_port_of_the_connected_stage_is_not_called_taken(qtbot: QtBot, on_grbl: MainWindow) -> None:
    on_grbl.actions_by_name["devices"].trigger()
    page = next(page for page in on_grbl.findChildren(DevicePage) if page.isVisible())
    search(qtbot, page)
    assert "connected now" in entries(page)[0].text(0)
    on_grbl.set_language("zh_CN")
    assert not page.isVisible(), "the page speaks the language in which it was opened"
    on_grbl.set_language("en")


@pytest.mark.parametrize(
    ("section", "field", "text", "message"),
    [
        ("stage", "low_um", "much", "Stage, Lowest position (µm): it must be a number"),
        ("stage", "port", "", "Stage, Port: it is missing"),
        ("stage", "high_um", "-5000", "Stage: high_um must be more than low_um"),
        ("axis", "backlash_um", "-1", "Motion, Backlash (µm): it must be 0 or more"),
        ("axis", "tolerance_um", "0", "Motion, tolerance_um: it must be more than 0"),
        ("camera", "sensor_pixel_um", "0", "Camera, Pixel on the sensor (µm): it must be more than 0"),
    ],
)
def test_a_mistake_names_its_field_and_saves_nothing(
    qtbot: QtBot, page: DevicePage, section: str, field: str, text: str, message: str
) -> None:
    describe(qtbot, page)
    line = getattr(page.form, section).fields[field]
    line.setText(text)
    QTest.mouseClick(page.save, LEFT)
    assert message in page.message.text()
    assert not (profiles_folder() / "roll-microscope.toml").exists()


def test_return_in_a_field_of_the_page_adds_nothing(qtbot: QtBot, page: DevicePage, controller) -> None:
    objectives = page.form.objectives.value()
    write(page.port, controller.port)
    with qtbot.waitSignal(page._search.ended, timeout=LONG):
        QTest.keyClick(page.port, Qt.Key.Key_Return)
    QTest.keyClick(page.form.title, Qt.Key.Key_Return)
    assert page.form.objectives.value() == objectives


def test_objectives_can_be_added_and_chosen(qtbot: QtBot, page: DevicePage) -> None:
    describe(qtbot, page)
    objectives = page.form.objectives
    objectives.add()
    row = objectives.table.rowCount() - 1
    for column, text in enumerate(("50x", "50", "much", "0.069")):
        objectives.table.item(row, column).setText(text)
    QTest.mouseClick(page.save, LEFT)
    assert "Objectives, na" in page.message.text()
    objectives.table.item(row, 2).setText("0.8")
    objectives.in_use.setCurrentText("50x")
    QTest.mouseClick(page.save, LEFT)
    profile = load_profile(profiles_folder() / "roll-microscope.toml")
    assert profile.pixel_um == 0.069
    assert profile.selected_objective.na == 0.8


def test_a_saved_microscope_is_in_the_list_and_loads_again(qtbot: QtBot, window: MainWindow, page: DevicePage) -> None:
    describe(qtbot, page)
    page.form.axis.fields["sign"].setCurrentText("down")
    QTest.mouseClick(page.save, LEFT)
    path = profiles_folder() / "roll-microscope.toml"
    assert str(path) in page.message.text()
    profile = load_profile(path)
    assert (profile.title, profile.stage.driver, profile.stage.low_um) == ("Roll microscope", "grbl", -3900)
    assert (profile.axis.sign, profile.axis.backlash_um, profile.axis.soft_limits_um) == (-1, 2, None)
    assert window.capture.profile.currentData() == str(path)
    assert window.capture.profile.currentText() == "Roll microscope"
    page.close()
    window.actions_by_name["devices"].trigger()
    again = next(other for other in window.findChildren(DevicePage) if other is not page)
    assert again.form.title.text() == "Roll microscope"
    assert again.form.profile(profile.name) == profile
    again.close()


def test_a_microscope_that_comes_along_lends_its_values_but_not_its_name(
    qtbot: QtBot, window: MainWindow, controller: GrblEmulator
) -> None:
    window.capture.show_profiles(Settings().profile)
    assert window.capture.profile.currentText() == "Simulated: engraved roll"
    window.actions_by_name["devices"].trigger()
    page = window.findChild(DevicePage)
    search(qtbot, page)
    assert page.form.title.text() == ""
    QTest.mouseClick(page.save, LEFT)
    assert "name" in page.message.text()


def test_another_microscope_is_not_replaced_unasked(qtbot: QtBot, page: DevicePage) -> None:
    path = profiles_folder() / "roll-microscope.toml"
    path.write_text('based_on = "simulated"\ntitle = "The other one"\n')
    describe(qtbot, page)
    QTest.mouseClick(page.save, LEFT)
    assert "already" in page.message.text()
    assert load_profile(path).title == "The other one"
    QTest.mouseClick(page.save, LEFT)
    assert load_profile(path).title == "Roll microscope"


def test_escape_on_the_page_stops_a_moving_stage(qtbot: QtBot, homed: MainWindow) -> None:
    homed.actions_by_name["devices"].trigger()
    page = next(page for page in homed.findChildren(DevicePage) if page.isVisible())
    homed.link.move_to(-3500)
    QTest.keyClick(page, Qt.Key.Key_Escape)
    assert homed.link.is_stopped


# --- the stage


def test_connecting_moves_nothing_and_offers_two_ways_out(qtbot: QtBot, on_grbl: MainWindow, controller) -> None:
    stage, actions = on_grbl.capture.stage, on_grbl.actions_by_name
    assert stage.unknown.isVisible()
    assert stage.home.isVisible()
    assert stage.confirm.isVisible()
    for name in ("stage_up", "stage_down", "go_to", "autofocus", "start"):
        assert not actions[name].isEnabled(), name
    assert "home it" in on_grbl.capture._start_hint.text()
    assert controller.motor.position_um == 0.0
    assert not any(line.startswith("$H") for line in controller.commands)


def test_homing_is_asked_about_first_and_then_allows_moves(qtbot: QtBot, on_grbl: MainWindow, controller) -> None:
    QTest.mouseClick(on_grbl.capture.stage.home, LEFT)
    bar = bar_with(on_grbl, "whole travel")
    assert controller.motor.position_um == 0.0
    QTest.mouseClick(bar.buttons[0], LEFT)
    qtbot.waitUntil(lambda: on_grbl.link.stage.referenced and not on_grbl.link.busy, timeout=LONG)
    assert not on_grbl.capture.stage.unknown.isVisible()
    start_um = on_grbl.link.z_um
    assert start_um == pytest.approx(-200, abs=1)
    QTest.keyClick(on_grbl, Qt.Key.Key_PageDown)
    at_rest(qtbot, on_grbl, start_um - 10)
    assert controller.machine_mm == pytest.approx(-0.21, abs=0.001)


@pytest.mark.parametrize("ending", ["stop", "cancel", "disconnect"])
def test_homing_can_be_ended(qtbot: QtBot, on_grbl: MainWindow, controller, monkeypatch, ending: str) -> None:
    monkeypatch.setattr("hardware.simulator.controllers.grbl.HOMING_S", 1000.0)
    on_grbl.link.reference.home()
    qtbot.waitUntil(lambda: controller.state == "Home", timeout=LONG)
    on_grbl.actions_by_name[ending].trigger()
    qtbot.waitUntil(lambda: controller.state == "Alarm", timeout=LONG)
    qtbot.waitUntil(lambda: not on_grbl.link.busy, timeout=LONG)
    if ending != "disconnect":
        assert on_grbl.link.is_stopped
        assert not on_grbl.link.stage.referenced
        assert bar_with(on_grbl, "stays so until you release it") is not None


def test_confirming_is_asked_about_first_and_moves_nothing(qtbot: QtBot, on_grbl: MainWindow, controller) -> None:
    QTest.mouseClick(on_grbl.capture.stage.confirm, LEFT)
    bar = bar_with(on_grbl, "really at")
    assert not on_grbl.link.stage.referenced
    QTest.mouseClick(bar.buttons[0], LEFT)
    qtbot.waitUntil(lambda: on_grbl.link.stage.referenced, timeout=LONG)
    assert controller.motor.position_um == 0.0
    assert not any(line.startswith("$H") for line in controller.commands)


def test_a_key_that_is_held_never_queues_up_steps(qtbot: QtBot, homed: MainWindow, controller) -> None:
    start_um = homed.link.z_um
    QTest.keyClick(homed, "3", Qt.KeyboardModifier.AltModifier)
    for _repeat in range(60):  # faster than the stage can follow: 60 steps of 100 um would be 6 mm
        QTest.keyClick(homed, Qt.Key.Key_PageDown)
    assert homed.link.target_um >= start_um - 2 * 100 - 0.5
    qtbot.waitUntil(lambda: homed.link.target_um is None, timeout=LONG)
    assert homed.link.z_um >= start_um - 2 * 100 - 0.5


def test_stop_halts_and_demands_a_deliberate_release(qtbot: QtBot, homed: MainWindow, controller) -> None:
    homed.link.move_to(-3500)
    qtbot.waitUntil(lambda: controller.motor.is_moving, timeout=LONG)
    QTest.mouseClick(homed.top.stop_button, LEFT)
    qtbot.waitUntil(lambda: not controller.motor.is_moving, timeout=LONG)
    qtbot.waitUntil(lambda: homed.link.target_um is None, timeout=LONG)
    assert controller.motor.position_um > -3000
    assert not homed.actions_by_name["stage_up"].isEnabled()
    assert not homed.actions_by_name["home"].isEnabled()
    bar = bar_with(homed, "stays so until you release it")
    assert bar.buttons[0].text() == "Release"
    QTest.mouseClick(bar.buttons[0], LEFT)
    qtbot.waitUntil(homed.actions_by_name["stage_up"].isEnabled, timeout=LONG)
    start_um = 1000 * controller.machine_mm
    qtbot.waitUntil(lambda: abs(homed.link.z_um - start_um) < 1, timeout=LONG)
    homed.actions_by_name["stage_up"].trigger()
    at_rest(qtbot, homed, start_um + 10)


def test_a_limit_switch_ends_in_a_bar_that_offers_homing(qtbot: QtBot, homed: MainWindow, controller) -> None:
    with controller.lock:
        controller.motor.low_um = controller.motor.position_um - 500  # somebody moved the switch
    homed.link.move_to(-3500)
    qtbot.waitUntil(lambda: not homed.link.stage.referenced, timeout=LONG)
    qtbot.waitUntil(lambda: bar_with(homed, "limit switch") is not None, timeout=LONG)
    bar = bar_with(homed, "limit switch")
    assert "GRBL" in bar.source
    assert bar.buttons[0].text() == "Home…"
    QTest.mouseClick(bar.buttons[0], LEFT)
    QTest.mouseClick(bar_with(homed, "whole travel").buttons[0], LEFT)
    qtbot.waitUntil(lambda: homed.link.stage.referenced and not homed.link.busy, timeout=LONG)
    assert bar_with(homed, "limit switch") is None


def test_a_pulled_cable_is_told_and_its_return_noticed(qtbot: QtBot, homed: MainWindow, controller) -> None:
    controller.unplug()
    qtbot.waitUntil(lambda: bar_to(homed, "Reconnect") is not None, timeout=LONG)
    assert "cable" in bar_to(homed, "Reconnect").text
    for _picture in range(3):  # the camera goes on
        with qtbot.waitSignal(homed.link.pictureReady, timeout=LONG):
            pass
    controller.replug()
    qtbot.waitUntil(lambda: bar_with(homed, "answers again") is not None, timeout=LONG)
    assert bar_to(homed, "Reconnect") is None
    assert homed.link.stage.referenced, "nothing moved meanwhile: the position still fits"
    controller.unplug()
    qtbot.waitUntil(lambda: bar_to(homed, "Reconnect") is not None, timeout=LONG)
    assert bar_with(homed, "answers again") is None, "good news that holds no longer"


def test_of_a_cable_that_is_waited_for_only_the_latest_is_told(homed: MainWindow) -> None:
    homed.link.told.emit("The port is gone.")
    homed.link.told.emit("The connection is back.")
    assert [bar.text for bar in homed.bars.bars()] == ["The connection is back."]


def test_reconnect_brings_the_stage_back(qtbot: QtBot, homed: MainWindow, controller) -> None:
    homed.link.set_live(False)
    controller.unplug()
    homed.link.move_to(homed.link.z_um - 20)
    qtbot.waitUntil(lambda: bar_to(homed, "Reconnect") is not None, timeout=LONG)
    controller.replug()
    QTest.mouseClick(bar_to(homed, "Reconnect").buttons[0], LEFT)
    qtbot.waitUntil(lambda: homed.link.live and not homed.link.busy, timeout=LONG)
    assert homed.link.stage.faults == ()


def test_a_reconnection_that_fails_leaves_the_picture_on(
    qtbot: QtBot, homed: MainWindow, controller, monkeypatch
) -> None:
    monkeypatch.setattr("app.capture.link.RECONNECT_S", 0.1)
    controller.unplug()
    qtbot.waitUntil(lambda: bar_to(homed, "Reconnect") is not None, timeout=LONG)
    QTest.mouseClick(bar_to(homed, "Reconnect").buttons[0], LEFT)
    qtbot.waitUntil(lambda: not homed.link.busy, timeout=LONG)
    qtbot.waitUntil(lambda: homed.link.live, timeout=LONG)
    controller.replug()
    qtbot.waitUntil(lambda: bar_with(homed, "answers again") is not None, timeout=LONG)


def test_stop_with_the_cable_out_is_latched_and_told(qtbot: QtBot, homed: MainWindow, controller) -> None:
    controller.unplug()
    homed.stop()
    assert homed.link.is_stopped
    assert bar_with(homed, "stays so until you release it") is not None
    controller.replug()
    qtbot.waitUntil(lambda: homed.link.stage.faults == (), timeout=LONG)


def test_a_controller_that_was_reset_must_be_homed_again(qtbot: QtBot, homed: MainWindow, controller) -> None:
    controller.reset()
    qtbot.waitUntil(lambda: not homed.link.stage.referenced, timeout=LONG)
    assert homed.capture.stage.unknown.isVisible()
    assert not homed.actions_by_name["stage_up"].isEnabled()


def test_a_port_in_use_offers_to_try_again(qtbot: QtBot, window: MainWindow, page: DevicePage, controller) -> None:
    describe(qtbot, page)
    other = GRBL.open(GRBL.settings(driver="grbl", port=controller.port, low_um=-1, high_um=1))
    try:
        QTest.mouseClick(page.save_and_connect, LEFT)
        qtbot.waitUntil(lambda: bar_with(window, "in use by another program") is not None, timeout=LONG)
    finally:
        other.close()
    bar = bar_with(window, "in use by another program")
    assert bar.buttons[0].text() == "Try Again"
    with qtbot.waitSignal(window.link.pictureReady, timeout=LONG):
        QTest.mouseClick(bar.buttons[0], LEFT)
