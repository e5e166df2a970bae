"""The Capture workspace on the simulated microscope, by real clicks and keys."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QMessageBox
from pytestqt.qtbot import QtBot

from app.capture.stack_panel import StackSetup
from app.capture.z_scale import ZScale
from app.main_window import MainWindow
from models import storage
from models.errors import OutputError, ReliefscopeError
from models.reconstruct import reconstruct
from tests.gui import mouse

LONG = 20_000
LEFT = Qt.MouseButton.LeftButton


def at_rest(qtbot: QtBot, window: MainWindow, z_um: float) -> None:
    link = window.link
    qtbot.waitUntil(lambda: link.target_um is None and abs(link.z_um - z_um) < 0.3, timeout=LONG)


def type_into(field, text: str) -> None:
    field.setFocus()
    field.selectAll()
    QTest.keyClicks(field, text)
    QTest.keyClick(field, Qt.Key.Key_Return)


def set_stack(window: MainWindow, top_um: float = 6.0, bottom_um: float = -24.0, frames: int = 11) -> None:
    window.capture.stack.set_value(StackSetup(top_um, bottom_um, by_step=False, frame_count=frames))


def texts(window: MainWindow) -> list[str]:
    return [bar.text for bar in window.bars.bars()]


# --- connecting and looking


def test_connecting_shows_the_device_and_live_pictures(qtbot: QtBot, connected: MainWindow) -> None:
    window = connected
    assert window.status.device.text() == "Fast test microscope"
    assert window.capture._pages.currentWidget() is window.capture.live
    assert window.actions_by_name["live"].isChecked()
    for _ in range(3):
        with qtbot.waitSignal(window.link.pictureReady, timeout=LONG):
            pass
    picture = window.capture.live.picture
    assert picture.image.shape == (96, 128)
    assert picture.histogram.sum() == pytest.approx(1.0)
    qtbot.waitUntil(lambda: window.status.fps.text().endswith(" fps"), timeout=LONG)
    assert window.link.pictures.fps > 0


def test_a_microscope_that_cannot_be_opened_says_so(qtbot: QtBot, window: MainWindow, monkeypatch) -> None:
    def refuse(profile: object) -> None:
        raise ReliefscopeError("The port is taken by another program.")

    monkeypatch.setattr("app.capture.link.open_microscope", refuse)
    window.actions_by_name["connect"].trigger()
    qtbot.waitUntil(lambda: "The port is taken by another program." in texts(window), timeout=LONG)
    assert window.link.device is None
    qtbot.waitUntil(window.actions_by_name["connect"].isEnabled)


def test_live_view_can_be_halted(qtbot: QtBot, connected: MainWindow) -> None:
    connected.actions_by_name["live"].trigger()
    qtbot.wait(100)
    connected.link.pictures.take()
    with qtbot.waitSignal(connected.link.pictureReady, timeout=300, raising=False) as blocker:
        pass
    assert not blocker.signal_triggered
    with qtbot.waitSignal(connected.link.pictureReady, timeout=LONG):
        connected.actions_by_name["live"].trigger()


def test_disconnecting_goes_back_to_the_start(qtbot: QtBot, connected: MainWindow) -> None:
    connected.actions_by_name["disconnect"].trigger()
    assert connected.capture._pages.currentIndex() == 0
    assert connected.status.z.text() == "z —" or connected.link.z_um is None
    assert not connected.actions_by_name["stage_up"].isEnabled()
    with qtbot.waitSignal(connected.link.pictureReady, timeout=LONG):
        connected.actions_by_name["connect"].trigger()


def test_exposure_reaches_the_camera_and_is_remembered(qtbot: QtBot, connected: MainWindow) -> None:
    type_into(connected.capture.camera.exposure, "4.5")
    qtbot.waitUntil(lambda: connected.link.settings.exposure_ms == 4.5, timeout=LONG)
    assert connected.settings.exposure_ms == 4.5
    qtbot.waitUntil(lambda: connected.status.exposure.text() == "4.50 ms")


def test_auto_exposure_fills_the_range_without_clipping(qtbot: QtBot, connected: MainWindow) -> None:
    type_into(connected.capture.camera.exposure, "60")
    qtbot.waitUntil(lambda: connected.link.settings.exposure_ms == 60.0, timeout=LONG)
    connected.actions_by_name["auto_exposure"].trigger()
    qtbot.waitUntil(lambda: not connected.link.busy, timeout=LONG)
    for _ in range(3):
        with qtbot.waitSignal(connected.link.pictureReady, timeout=LONG):
            pass
    picture = connected.capture.live.picture
    assert picture.clipped < 0.002
    assert 0.7 < np.percentile(picture.image, 99.8) / 255 < 1.0


# --- moving


@pytest.mark.parametrize(("key", "sign"), [(Qt.Key.Key_PageUp, 1), (Qt.Key.Key_PageDown, -1)])
@pytest.mark.parametrize(("step_key", "step_um"), [("1", 1.0), ("2", 10.0), ("3", 100.0)])
def test_jog_by_keys(qtbot: QtBot, connected: MainWindow, key, sign: int, step_key: str, step_um: float) -> None:
    start_um = connected.link.z_um
    QTest.keyClick(connected, step_key, Qt.KeyboardModifier.AltModifier)
    QTest.keyClick(connected, key)
    at_rest(qtbot, connected, start_um + sign * step_um)


def test_jog_by_click_and_wheel(qtbot: QtBot, connected: MainWindow) -> None:
    stage, start_um = connected.capture.stage, connected.link.z_um
    QTest.mouseClick(stage.up, LEFT)
    at_rest(qtbot, connected, start_um + 10)
    mouse.turn_wheel(stage.scale, QPointF(60, 60), -120)
    at_rest(qtbot, connected, start_um)
    image = connected.capture.live.image.focusProxy().viewport()
    mouse.turn_wheel(image, QPointF(100, 100), 120, keys=Qt.KeyboardModifier.ControlModifier)
    at_rest(qtbot, connected, start_um + 10)


def test_double_click_on_the_scale_goes_there(qtbot: QtBot, connected: MainWindow) -> None:
    scale = connected.capture.stage.scale
    target_um = scale.height_at(scale.height() * 0.3)
    QTest.mouseDClick(scale, LEFT, pos=QPoint(60, round(scale.height() * 0.3)))
    qtbot.waitUntil(lambda: connected.link.target_um is None and abs(connected.link.z_um - target_um) < 1, timeout=LONG)


def test_jogging_never_queues_up(qtbot: QtBot, connected: MainWindow) -> None:
    start_um, link = connected.link.z_um, connected.link
    for _ in range(50):
        link.jog(1.0)
    assert start_um < link.target_um <= start_um + 2.0 + 1e-6
    at_rest(qtbot, connected, start_um + 2.0)


def test_jog_stops_at_the_limit(qtbot: QtBot, connected: MainWindow) -> None:
    high = connected.link.device.limits_um[1]
    connected.link.move_to(high - 1.0)
    at_rest(qtbot, connected, high - 1.0)
    QTest.keyClick(connected, Qt.Key.Key_PageUp)
    at_rest(qtbot, connected, high)
    assert not texts(connected)


def test_go_to_by_typing(qtbot: QtBot, connected: MainWindow) -> None:
    QTest.keyClick(connected, Qt.Key.Key_G, Qt.KeyboardModifier.ControlModifier)
    field = connected.capture.stage.go_to
    assert field.hasFocus()
    QTest.keyClicks(field, "-42.5")
    QTest.keyClick(field, Qt.Key.Key_Return)
    at_rest(qtbot, connected, -42.5)


def test_escape_stops_a_move_and_release_is_deliberate(qtbot: QtBot, connected: MainWindow) -> None:
    connected.link.move_to(450.0)
    QTest.keyClick(connected, Qt.Key.Key_Escape)
    assert connected.link.is_stopped
    assert connected.top.stop_button.text() == "STOPPED"
    qtbot.waitUntil(lambda: connected.link._target_um is None, timeout=LONG)
    stopped_um = connected.link.z_um
    assert stopped_um < 440
    assert not connected.actions_by_name["stage_up"].isEnabled()
    connected.link.move_to(0.0)
    qtbot.wait(100)
    assert connected.link.z_um == pytest.approx(stopped_um, abs=5)
    release = next(bar for bar in connected.bars.bars() if "until you release" in bar.text).buttons[0]
    QTest.mouseClick(release, LEFT)
    assert not connected.link.is_stopped
    assert connected.top.stop_button.text() == "STOP"
    connected.link.move_to(0.0)
    at_rest(qtbot, connected, 0.0)


def test_stop_works_while_the_palette_is_open(qtbot: QtBot, connected: MainWindow) -> None:
    connected.link.move_to(450.0)
    connected.actions_by_name["palette"].trigger()
    from app.palette import Palette

    palette = connected.findChild(Palette)
    QTest.keyClick(palette.field, Qt.Key.Key_Escape)
    assert connected.link.is_stopped


def test_the_window_never_asks_the_stage_itself(qtbot: QtBot, connected: MainWindow) -> None:
    """A stage that answers late would keep the button for STOP from being pressed."""
    stage, askers = connected.link.microscope.stage, set()
    for name in ("position_um", "is_moving"):
        ask = getattr(stage, name)

        def asked(ask=ask):
            askers.add(threading.current_thread())
            return ask()

        setattr(stage, name, asked)
    connected.link.move_to(-60.0)
    at_rest(qtbot, connected, -60.0)
    with qtbot.waitSignal(connected.link.focusFound, timeout=LONG):
        connected.link.focus(-20.0, 20.0, 5.0)
    set_stack(connected)
    with qtbot.waitSignal(connected.link.captureEnded, timeout=LONG):
        connected.capture.start_capture()
    qtbot.waitUntil(lambda: not connected.link.busy, timeout=LONG)
    assert askers
    assert threading.main_thread() not in askers


def test_a_step_begins_where_the_stage_is_and_not_where_it_was_shown(qtbot: QtBot, connected: MainWindow) -> None:
    """Without live pictures nobody looks where a stage comes to rest that was halted on its way."""
    connected.link.set_live(False)
    qtbot.wait(50)
    here_um = connected.link.microscope.axis.move_to(-50.0)
    connected.link.jog(-1.0)
    assert connected.link.target_um == pytest.approx(here_um - 1.0)
    at_rest(qtbot, connected, here_um - 1.0)


def test_the_rate_is_forgotten_by_who_counts_the_pictures(qtbot: QtBot, connected: MainWindow, monkeypatch) -> None:
    threads, forget = [], connected.link.pictures.forget_rate
    monkeypatch.setattr(
        connected.link.pictures, "forget_rate", lambda: (threads.append(threading.current_thread()), forget())
    )
    connected.link.set_live(False)
    connected.link.set_live(True)
    qtbot.waitUntil(lambda: len(threads) == 2, timeout=LONG)
    assert threading.main_thread() not in threads
    assert connected.link.live


def test_autofocus_finds_the_sphere(qtbot: QtBot, connected: MainWindow) -> None:
    sharp_um = connected.link.z_um
    set_stack(connected, 40.0, -60.0)
    with qtbot.waitSignal(connected.link.focusFound, timeout=LONG) as found:
        QTest.keyClick(connected, Qt.Key.Key_F8)
    result = found.args[0]
    assert result.trusted
    assert result.z_um != sharp_um
    at_rest(qtbot, connected, result.z_um)


def test_an_autofocus_without_a_peak_says_why_and_goes_back(qtbot: QtBot, connected: MainWindow) -> None:
    before_um = connected.link.z_um
    set_stack(connected, 100.0, 60.0)  # all of it above the sphere
    with qtbot.waitSignal(connected.link.focusFound, timeout=LONG) as found:
        QTest.keyClick(connected, Qt.Key.Key_F8)
    at_rest(qtbot, connected, before_um)
    assert not found.args[0].trusted
    assert any(found.args[0].reason in text and "back where it was" in text for text in texts(connected))


def test_the_cursor_does_not_slip_from_the_height_into_the_step(qtbot: QtBot, connected: MainWindow) -> None:
    panel = connected.capture.stage
    step_um, target_um = panel.step_um, connected.link.z_um - 7.0
    connected.actions_by_name["go_to"].trigger()
    QTest.keyClicks(panel.go_to, f"{target_um}")
    QTest.keyClick(panel.go_to, Qt.Key.Key_Return)
    at_rest(qtbot, connected, target_um)
    assert not panel.step.hasFocus()
    assert panel.step_um == step_um


def test_the_scale_shows_a_position_beyond_the_limits(qtbot: QtBot) -> None:
    scale = ZScale()
    qtbot.addWidget(scale)
    scale.show_limits((-3900.0, -21.0))
    for z_um in (0.0, -4000.0):
        scale.show_position(z_um, None)
        low, high = scale.window_um()
        assert low < z_um < high


def test_a_short_stack_is_not_lost_on_a_long_stage(qtbot: QtBot) -> None:
    scale = ZScale()
    qtbot.addWidget(scale)
    scale.show_limits((-25_000.0, 0.0))
    scale.show_stack(-480.0, -520.0)
    scale.show_position(-20_000.0, -500.0)
    low, high = scale.window_um()
    assert low < -20_000.0, "where it goes from and to"
    assert high > -480.0
    scale.show_position(-500.0, None)
    low, high = scale.window_um()
    assert low < -520.0
    assert high > -480.0
    assert high - low <= 200.0


# --- the stack


def test_stack_numbers(qtbot: QtBot, connected: MainWindow) -> None:
    panel = connected.capture.stack
    type_into(panel.first, "30")
    type_into(panel.second, "-30")
    type_into(panel.step, "7")
    plan = panel.plan()
    assert (plan.top_um, plan.bottom_um, plan.frame_count) == (30.0, -30.0, 10)
    shown = [label.text() for label in panel.summary._values]
    assert shown[0] == "10"
    assert shown[1] == "6.667 µm"
    assert shown[2] == "60.0 µm"
    assert "kB" in shown[3]
    assert "both ends" in connected.capture._start_hint.text()
    QTest.mouseClick(panel.spacing.buttons[1], LEFT)
    type_into(panel.count, "31")
    assert panel.plan().step_um == pytest.approx(2.0)
    QTest.mouseClick(panel.ends.buttons[1], LEFT)
    assert (panel.first.value(), panel.second.value()) == (0.0, 60.0)
    type_into(panel.second, "100")
    type_into(panel.first, "10")
    assert (panel.value().top_um, panel.value().bottom_um) == (60.0, -40.0)


def test_set_here_takes_the_measured_height(qtbot: QtBot, connected: MainWindow) -> None:
    connected.link.move_to(15.0)
    at_rest(qtbot, connected, 15.0)
    QTest.mouseClick(connected.capture.stack.first_here, LEFT)
    connected.link.move_to(-15.0)
    at_rest(qtbot, connected, -15.0)
    QTest.keyClick(connected, Qt.Key.Key_B, Qt.KeyboardModifier.ControlModifier)
    setup = connected.capture.stack.value()
    assert setup.top_um == pytest.approx(15.0, abs=0.3)
    assert setup.bottom_um == pytest.approx(-15.0, abs=0.3)
    assert connected.actions_by_name["start"].isEnabled()


def test_half_the_depth_of_field_as_step(connected: MainWindow) -> None:
    device = connected.link.device
    QTest.mouseClick(connected.capture.stack.depth_of_field, LEFT)
    expected = device.optics.depth_of_field_um(device.pixel_um) / 2
    assert connected.capture.stack.value().step_um == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("top_um", "bottom_um", "words"),
    [(-10.0, 10.0, "must lie above"), (600.0, 0.0, "leaves the limits"), (None, 0.0, "Set top and bottom")],
)
def test_impossible_stacks_cannot_start(connected: MainWindow, top_um, bottom_um, words: str) -> None:
    connected.capture.stack.set_value(StackSetup(top_um, bottom_um))
    assert not connected.actions_by_name["start"].isEnabled()
    assert words in connected.capture._start_hint.text()


def test_a_full_disk_is_noticed_before_the_start(connected: MainWindow, monkeypatch) -> None:
    monkeypatch.setattr(connected.capture.stack, "_free_bytes", lambda: 1000)
    set_stack(connected)
    assert not connected.actions_by_name["start"].isEnabled()
    assert "disk" in connected.capture._start_hint.text()


# --- capturing


def test_capture_from_start_to_height_map(qtbot: QtBot, connected: MainWindow) -> None:
    window = connected
    set_stack(window, frames=16)
    window.capture.sample.setText("roll 7/b")
    grown: list[int] = []
    shown = window.capture.surface.set_height_map

    def watch(height_map, *, moving: bool = False) -> None:
        if moving:
            grown.append(int(np.isfinite(height_map.height_um).sum()))
        shown(height_map, moving=moving)

    window.capture.surface.set_height_map = watch
    with qtbot.waitSignal(window.run.captured, timeout=LONG) as captured:
        QTest.mouseClick(window.capture.start, LEFT)
        assert window.link.busy == "capture"
    path = captured.args[0]
    qtbot.waitUntil(lambda: window.document.height_map is not None, timeout=LONG)
    assert len(grown) >= 3
    assert path.parent == window.settings.captures_folder
    assert path.name.startswith("roll_7_b_")
    assert storage.is_complete(path)
    assert storage.frames_written(path) == (16, 16)
    stack = window.document.stack
    assert stack.z_um[0] == pytest.approx(6.0, abs=0.2)
    assert stack.z_um[-1] == pytest.approx(-24.0, abs=0.2)
    assert stack.metadata["sample"] == "roll 7/b"
    assert window.document.path == path
    # The map that grew frame by frame is the map of the whole stack, and it is in the file.
    again = reconstruct(stack, window.settings.reconstruction)
    np.testing.assert_array_equal(window.document.height_map.height_um, again.height_um)
    np.testing.assert_array_equal(storage.load_reconstruction(path).height_um, again.height_um)
    assert any(str(path) in text for text in texts(window))
    with qtbot.waitSignal(window.link.pictureReady, timeout=LONG):
        pass
    QTest.mouseClick(window.bars.bars()[0].buttons[0], LEFT)
    assert window._pages.currentWidget() is window.surface


def in_the_middle(qtbot: QtBot, window: MainWindow, frame: int = 4) -> None:
    """Start a long capture and wait until some frames are in."""
    set_stack(window, frames=200)
    with qtbot.waitSignal(window.link.progressed, timeout=LONG, check_params_cb=lambda done, _total: done >= frame):
        window.actions_by_name["start"].trigger()


def test_cancel_keeps_the_frames_and_says_so(qtbot: QtBot, connected: MainWindow) -> None:
    in_the_middle(qtbot, connected)
    assert connected.status.progress.isVisible()
    QTest.mouseClick(connected.capture.cancel, LEFT)
    qtbot.waitUntil(lambda: connected.document.stack is not None, timeout=LONG)
    frames = len(connected.document.stack)
    assert 4 <= frames < 200
    assert any(f"after {frames} of 200 frames" in text for text in texts(connected))
    assert storage.is_complete(connected.document.path)
    assert not connected.link.is_stopped
    qtbot.waitUntil(connected.actions_by_name["start"].isEnabled, timeout=LONG)


def test_escape_during_a_capture(qtbot: QtBot, connected: MainWindow) -> None:
    in_the_middle(qtbot, connected)
    QTest.keyClick(connected, Qt.Key.Key_Escape)
    assert connected.link.is_stopped
    qtbot.waitUntil(lambda: connected.document.stack is not None, timeout=LONG)
    assert len(connected.document.stack) >= 4
    assert not connected.actions_by_name["start"].isEnabled()
    connected.link.release()
    qtbot.waitUntil(connected.actions_by_name["start"].isEnabled, timeout=LONG)


def test_a_camera_fault_names_the_camera_and_keeps_the_frames(
    qtbot: QtBot, connected: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hardware.recovery.PATIENCE_S", 0.5)
    in_the_middle(qtbot, connected)
    connected.link.microscope.camera.fail_at(2)
    qtbot.waitUntil(lambda: any(bar.is_question for bar in connected.bars.bars()), timeout=LONG)
    question = next(bar for bar in connected.bars.bars() if bar.is_question)
    assert question.source == connected.link.device.camera_name
    assert [button.text() for button in question.buttons] == ["Try again", "End here and keep the frames"]
    QTest.mouseClick(question.buttons[1], LEFT)
    qtbot.waitUntil(lambda: connected.document.stack is not None, timeout=LONG)
    qtbot.waitUntil(lambda: any(bar.source for bar in connected.bars.bars()), timeout=LONG)
    fault = next(bar for bar in connected.bars.bars() if bar.source)
    assert fault.source == connected.link.device.camera_name
    assert fault.buttons[0].text() == "Reconnect"
    assert any("They are kept in" in text for text in texts(connected))
    connected.link.microscope.camera.fail_at(None)  # plugged in again
    with qtbot.waitSignal(connected.link.pictureReady, timeout=LONG):
        QTest.mouseClick(fault.buttons[0], LEFT)


def test_a_camera_fault_in_the_live_view(qtbot: QtBot, connected: MainWindow) -> None:
    connected.link.microscope.camera.fail_at(1)
    qtbot.waitUntil(lambda: bool(texts(connected)), timeout=LONG)
    assert not connected.actions_by_name["live"].isChecked()
    assert len(texts(connected)) == 1


def test_a_failing_reconstruction_does_not_hurt_the_capture(qtbot: QtBot, connected: MainWindow, monkeypatch) -> None:
    def broken(*_args: object) -> None:
        raise ArithmeticError("no good")

    monkeypatch.setattr("models.live.LiveReconstruction.add_all", broken)
    set_stack(connected, frames=12)
    connected.actions_by_name["start"].trigger()
    qtbot.waitUntil(lambda: connected.document.stack is not None, timeout=LONG)
    assert len(connected.document.stack) == 12
    assert any("no good" in text for text in texts(connected))


def test_theme_and_language_may_change_during_a_capture(qtbot: QtBot, connected: MainWindow) -> None:
    set_stack(connected, frames=60)
    with qtbot.waitSignal(connected.run.captured, timeout=LONG):
        connected.actions_by_name["start"].trigger()
        connected.actions_by_name["light_theme"].trigger()
        connected.set_language("zh_CN")
        assert not connected.capture.cancel.isHidden()
        with qtbot.waitSignal(connected.run.grown, timeout=LONG):
            pass
    qtbot.waitUntil(lambda: connected.document.height_map is not None, timeout=LONG)
    assert len(connected.document.stack) == 60
    connected.set_language("en")
    assert connected.capture.stack.value().frame_count == 60
    assert connected.actions_by_name["live"].isChecked()


def test_stop_holds_through_a_change_of_language(qtbot: QtBot, connected: MainWindow) -> None:
    QTest.keyClick(connected, Qt.Key.Key_Escape)
    connected.set_language("zh_CN")
    connected.set_language("en")
    assert connected.top.stop_button.text() == "STOPPED"
    QTest.keyClick(connected, Qt.Key.Key_Escape, Qt.KeyboardModifier.ShiftModifier)
    assert not connected.link.is_stopped
    assert connected.top.stop_button.text() == "STOP"
    assert not texts(connected)


def test_measured_drift_is_shown_with_alignment(qtbot: QtBot, connected: MainWindow) -> None:
    connected.actions_by_name["align"].trigger()
    assert connected.settings.reconstruction.align != "none"
    set_stack(connected, frames=8)
    with qtbot.waitSignal(connected.run.captured, timeout=LONG):
        connected.actions_by_name["start"].trigger()
    assert "drift" in connected.capture.reconstruction._drift.text()


def test_a_second_capture_gets_a_file_of_its_own(qtbot: QtBot, connected: MainWindow) -> None:
    paths = set()
    for _ in range(2):
        set_stack(connected, frames=4)
        qtbot.waitUntil(connected.actions_by_name["start"].isEnabled, timeout=LONG)
        with qtbot.waitSignal(connected.run.captured, timeout=LONG) as captured:
            connected.actions_by_name["start"].trigger()
        paths.add(captured.args[0])
    assert len(paths) == 2
    assert all(storage.is_complete(path) for path in paths)


@pytest.mark.parametrize("leave", [False, True])
def test_closing_during_a_capture_asks_once(qtbot: QtBot, connected: MainWindow, monkeypatch, leave: bool) -> None:
    asked = []

    def answer(box: QMessageBox) -> int:
        asked.append(box)
        keep, end = box.buttons()[0], box.buttons()[1]
        keep, end = (keep, end) if keep is box.defaultButton() else (end, keep)
        (end if leave else keep).click()
        return 0

    monkeypatch.setattr(QMessageBox, "exec", answer)
    in_the_middle(qtbot, connected)
    connected.close()
    assert len(asked) == 1
    if not leave:
        assert connected.isVisible()
        assert connected.link.busy == "capture"
        connected.link.cancel()
        qtbot.waitUntil(lambda: connected.document.stack is not None, timeout=LONG)
        return
    assert not connected.isVisible()
    (path,) = Path(connected.settings.captures_folder).glob("*.h5")
    assert storage.frames_written(path)[0] >= 4
    assert len(storage.open_stack(path)) >= 4


def test_no_modal_dialog_from_start_to_end(qtbot: QtBot, connected: MainWindow) -> None:
    set_stack(connected, frames=6)
    with qtbot.waitSignal(connected.run.captured, timeout=LONG):
        connected.actions_by_name["start"].trigger()
        for _ in range(5):
            qtbot.wait(20)
            assert QApplication.activeModalWidget() is None


def test_a_disk_that_filled_after_the_plan_is_no_silent_refusal(
    qtbot: QtBot, connected: MainWindow, monkeypatch
) -> None:
    set_stack(connected)
    assert connected.actions_by_name["start"].isEnabled()
    monkeypatch.setattr("app.capture.workspace.free_bytes", lambda _folder: 1000)
    connected.actions_by_name["start"].trigger()
    assert connected.link.busy == ""
    assert "disk" in connected.capture._start_hint.text()
    assert not connected.actions_by_name["start"].isEnabled()
    monkeypatch.undo()
    connected.status.watch_disk(connected.settings.captures_folder)
    assert connected.actions_by_name["start"].isEnabled()


def test_a_map_that_cannot_be_saved_is_shown_all_the_same(qtbot: QtBot, connected: MainWindow, monkeypatch) -> None:
    def refuse(*_args: object) -> None:
        raise OutputError("The disk is full.")

    monkeypatch.setattr(storage, "save_reconstruction", refuse)
    set_stack(connected, frames=6)
    connected.actions_by_name["start"].trigger()
    qtbot.waitUntil(lambda: connected.document.height_map is not None, timeout=LONG)
    assert len(connected.document.stack) == 6
    assert "The disk is full." in texts(connected)


def test_a_picture_gets_a_suffix_where_none_was_typed(
    qtbot: QtBot, connected: MainWindow, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: (str(tmp_path / "sample 0.5 mm"), ""))
    with qtbot.waitSignal(connected.opening.saved, timeout=LONG):
        connected.actions_by_name["snapshot"].trigger()
    picture = cv2.imread(str(tmp_path / "sample 0.5 mm.tif"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (96, 128)


def test_a_capture_into_a_folder_that_cannot_be_made_says_so(
    qtbot: QtBot, connected: MainWindow, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    connected.settings.captures_folder = tmp_path / "file" / "captures"
    set_stack(connected, frames=6)
    connected.actions_by_name["start"].trigger()
    assert any("Choose another one" in text for text in texts(connected))
    assert connected.link.busy == ""


def test_disconnecting_during_a_capture_keeps_the_frames(qtbot: QtBot, connected: MainWindow) -> None:
    in_the_middle(qtbot, connected)
    with qtbot.waitSignal(connected.run.captured, timeout=LONG) as captured:
        connected.actions_by_name["disconnect"].trigger()
    assert connected.link.device is None
    assert len(storage.open_stack(captured.args[0])) >= 4


def test_a_cancelled_capture_says_so_once(qtbot: QtBot, connected: MainWindow) -> None:
    in_the_middle(qtbot, connected)
    with qtbot.waitSignal(connected.run.captured, timeout=LONG):
        connected.actions_by_name["cancel"].trigger()
    assert len(texts(connected)) == 1
    assert texts(connected)[0].startswith("Capture cancelled after")


def test_the_surface_comes_up_after_a_capture_where_wanted(qtbot: QtBot, connected: MainWindow) -> None:
    set_stack(connected)
    connected.actions_by_name["surface_after_capture"].trigger()
    assert connected.settings.show_surface_after_capture
    with qtbot.waitSignal(connected.run.captured, timeout=LONG):
        connected.actions_by_name["start"].trigger()
    assert connected.settings.workspace == "surface"


def test_nobody_turns_the_exposure_when_the_window_is_built_anew(qtbot: QtBot, connected: MainWindow) -> None:
    """The range of the camera once pushed a fresh field to its lower end, and the field told the camera."""
    type_into(connected.capture.camera.exposure, "7.5")
    qtbot.waitUntil(lambda: connected.link.settings.exposure_ms == 7.5, timeout=LONG)
    connected.actions_by_name["light_theme"].trigger()
    connected.set_language("zh_CN")
    with qtbot.waitSignals([connected.link.pictureReady] * 5, timeout=LONG):
        pass
    assert connected.link.settings.exposure_ms == 7.5
    assert connected.capture.camera.exposure.value() == 7.5


def test_connecting_moves_nothing_where_zero_is_out_of_the_limits(qtbot: QtBot, window: MainWindow) -> None:
    profile = Path(window.settings.profile)
    profile.write_text(profile.read_text().replace("[-300, 500]", "[10, 500]"))
    with qtbot.waitSignal(window.link.pictureReady, timeout=LONG):
        window.actions_by_name["connect"].trigger()
    assert window.link.device.limits_um[0] > 0
    with qtbot.waitSignals([window.link.pictureReady] * 5, timeout=LONG):
        pass
    assert window.link.target_um is None
    assert window.link.z_um == pytest.approx(20, abs=0.5)
