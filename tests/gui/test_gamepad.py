"""A gamepad in the window, from the live display to the moving stage. The pads are virtual ones of SDL."""

import sys
from collections.abc import Callable, Iterator

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from app.capture.gamepad_dialog import GamepadDialog
from app.main_window import MainWindow
from tests.gui.virtual_pad import VirtualPad, pads

LONG = 20_000
STICK, HOLD, STOP = 1, 5, 1


@pytest.fixture
def plug_in() -> Iterator[Callable[..., VirtualPad]]:
    with pads() as plug:
        yield plug


@pytest.fixture
def pad(plug_in: Callable[..., VirtualPad]) -> VirtualPad:
    return plug_in()


def opened(qtbot: QtBot, window: MainWindow) -> GamepadDialog:
    window.actions_by_name["gamepad"].trigger()
    dialog = window.findChild(GamepadDialog)
    qtbot.waitUntil(dialog.isVisible)
    return dialog


@pytest.fixture
def dialog(qtbot: QtBot, connected: MainWindow, pad: VirtualPad) -> GamepadDialog:
    return opened(qtbot, connected)


@pytest.fixture
def enabled(qtbot: QtBot, connected: MainWindow, dialog: GamepadDialog) -> MainWindow:
    qtbot.waitUntil(dialog.enable.isEnabled)
    dialog.enable.click()
    assert connected.gamepad.enabled
    dialog.close()
    return connected


def hold(qtbot: QtBot, pad: VirtualPad) -> None:
    pad.press(HOLD)
    qtbot.wait(60)


def at_rest(qtbot: QtBot, window: MainWindow) -> float:
    qtbot.waitUntil(lambda: window.link.target_um is None, timeout=LONG)
    return window.link.z_um


def test_shows_what_the_pad_does_and_moves_nothing_before_it_is_enabled(
    qtbot: QtBot, connected: MainWindow, dialog: GamepadDialog, pad: VirtualPad
) -> None:
    z_um = connected.link.z_um
    assert not dialog.enable.isChecked()
    qtbot.waitUntil(lambda: "Virtual" in dialog.name.text(), timeout=LONG)
    pad.push(STICK, -1.0)
    pad.press(HOLD)
    qtbot.waitUntil(lambda: dialog.axes[STICK].value() == -100, timeout=LONG)
    assert dialog.pressed.text().endswith(str(HOLD + 1))
    assert dialog.result.text() == "Up, at most 50.0 µm/s"
    pad.press(STOP)
    qtbot.waitUntil(lambda: dialog.result.text() == "STOP", timeout=LONG)
    assert not connected.link.is_stopped
    assert connected.link.z_um == z_um
    assert connected.link.target_um is None


def test_moves_while_the_button_is_held_and_no_longer(qtbot: QtBot, enabled: MainWindow, pad: VirtualPad) -> None:
    before_um = enabled.link.z_um
    pad.push(STICK, -1.0)
    qtbot.wait(150)
    assert enabled.link.target_um is None, "without the button"
    pad.push(STICK, 0.0)
    hold(qtbot, pad)
    pad.push(STICK, -1.0)
    qtbot.waitUntil(lambda: enabled.link.z_um > before_um + 8, timeout=LONG)
    pad.press(HOLD, False)
    qtbot.wait(60)
    z_um = at_rest(qtbot, enabled)
    qtbot.wait(300)
    assert enabled.link.z_um == pytest.approx(z_um, abs=0.1)
    assert enabled.link.target_um is None


def test_the_other_way_down_to_the_limit(qtbot: QtBot, enabled: MainWindow, pad: VirtualPad) -> None:
    low_um = enabled.link.device.limits_um[0]
    enabled.link.move_to(low_um + 3)
    at_rest(qtbot, enabled)
    hold(qtbot, pad)
    pad.push(STICK, 1.0)
    qtbot.waitUntil(lambda: abs(enabled.link.z_um - low_um) < 0.5, timeout=LONG)
    pad.press(HOLD, False)
    assert not enabled.bars.bars()


def test_stop_on_the_pad_is_stop(qtbot: QtBot, enabled: MainWindow, pad: VirtualPad) -> None:
    hold(qtbot, pad)
    pad.push(STICK, -1.0)
    qtbot.waitUntil(lambda: enabled.link.target_um is not None, timeout=LONG)
    pad.press(STOP)
    qtbot.waitUntil(lambda: enabled.link.is_stopped, timeout=LONG)
    pad.press(STOP, False)
    z_um = at_rest(qtbot, enabled)
    enabled.link.release()
    qtbot.wait(300)
    assert enabled.link.z_um == pytest.approx(z_um, abs=0.1), "the button has not been let go since"


def enabled_in_front(qtbot: QtBot, window: MainWindow, dialog: GamepadDialog) -> None:
    """The page stays open and has the keys."""
    qtbot.waitUntil(lambda: dialog.enable.isEnabled() and not window.link.busy, timeout=LONG)
    dialog.enable.click()
    dialog.activateWindow()
    qtbot.waitUntil(dialog.isActiveWindow, timeout=LONG)
    qtbot.wait(60)


def test_escape_on_a_page_stops_it_between_two_steps_too(
    qtbot: QtBot, connected: MainWindow, dialog: GamepadDialog, pad: VirtualPad
) -> None:
    enabled_in_front(qtbot, connected, dialog)
    link, pressed = connected.link, []

    def press_at_rest() -> None:
        if link.target_um is None and not pressed:
            pressed.append(True)
            qtbot.keyClick(dialog, Qt.Key.Key_Escape)

    hold(qtbot, pad)
    pad.push(STICK, -1.0)
    qtbot.waitUntil(lambda: link.target_um is not None, timeout=LONG)
    link.moved.connect(press_at_rest)
    qtbot.waitUntil(lambda: bool(pressed), timeout=LONG)
    assert link.is_stopped


def test_escape_closes_the_page_of_a_pad_that_moves_nothing(
    qtbot: QtBot, connected: MainWindow, dialog: GamepadDialog
) -> None:
    enabled_in_front(qtbot, connected, dialog)
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    assert not connected.link.is_stopped
    assert connected.gamepad.enabled


def test_unplugged_it_halts_and_has_to_be_enabled_anew(
    qtbot: QtBot, enabled: MainWindow, pad: VirtualPad, plug_in: Callable[..., VirtualPad]
) -> None:
    hold(qtbot, pad)
    pad.push(STICK, -1.0)
    qtbot.waitUntil(lambda: enabled.link.target_um is not None, timeout=LONG)
    pad.unplug()
    qtbot.waitUntil(lambda: not enabled.gamepad.enabled, timeout=LONG)
    assert any("gamepad is gone" in bar.text for bar in enabled.bars.bars())
    z_um = at_rest(qtbot, enabled)
    again = plug_in()
    again.press(HOLD)
    qtbot.wait(200)
    again.push(STICK, -1.0)
    qtbot.wait(200)
    assert enabled.link.target_um is None
    assert enabled.link.z_um == pytest.approx(z_um, abs=0.1)


def test_a_change_of_what_it_does_disables_it(qtbot: QtBot, connected: MainWindow, dialog: GamepadDialog) -> None:
    qtbot.waitUntil(dialog.enable.isEnabled)
    dialog.enable.click()
    dialog.up_is_negative.click()
    assert not connected.gamepad.enabled
    assert not dialog.enable.isChecked()
    dialog.stop.setValue(dialog.hold.value())
    assert not dialog.enable.isEnabled()
    assert "One button" in dialog.result.text()


def test_the_speed_is_no_larger_than_the_profiles(qtbot: QtBot, connected: MainWindow, dialog: GamepadDialog) -> None:
    dialog.top_speed.setValue(9999)
    assert connected.gamepad.top_um_s == connected.link.microscope.axis.speed_um_s < 9999


def test_a_pad_that_is_plugged_in_later_is_seen(
    qtbot: QtBot, window: MainWindow, plug_in: Callable[..., VirtualPad]
) -> None:
    dialog = opened(qtbot, window)
    assert "No gamepad" in dialog.name.text()
    assert not dialog.enable.isEnabled()
    plug_in()
    qtbot.waitUntil(dialog.enable.isEnabled, timeout=LONG)
    dialog.reject()
    assert not window.gamepad.enabled


def test_without_the_package_it_says_what_to_install(qtbot: QtBot, window: MainWindow, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    dialog = opened(qtbot, window)
    assert "reliefscope[gamepad]" in dialog.name.text()
    assert not dialog.enable.isEnabled()
    dialog.close()


def test_a_halt_that_would_cost_the_position_is_not_sent(
    qtbot: QtBot, enabled: MainWindow, pad: VirtualPad, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = enabled.link.microscope.stage
    monkeypatch.setattr(type(stage), "stop_loses_position", True)
    halts = []
    monkeypatch.setattr(type(stage), "stop", lambda stage: halts.append(stage))
    hold(qtbot, pad)
    pad.push(STICK, -1.0)
    qtbot.waitUntil(lambda: enabled.link.target_um is not None, timeout=LONG)
    pad.press(HOLD, False)
    at_rest(qtbot, enabled)
    assert not halts
    assert not enabled.bars.bars()
