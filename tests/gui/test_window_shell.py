"""The window around the workspaces: actions, palette, bars, settings, theme, language."""

import gettext
import logging
import sys
import threading
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, Qt
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QWidget

from app import theme
from app.actions import ACTIONS, MENUS, without_mnemonic
from app.application import start_log
from app.bars import Bar
from app.dialogs import ShortcutsDialog
from app.main_window import WORKSPACES, MainWindow
from app.palette import Palette, match
from app.settings import Settings, load_settings, save_settings, settings_file
from app.status_line import free_bytes
from models.errors import InputError
from tests.gui.shell import LONG, bar_texts, opened


def test_starts_empty_and_says_what_to_do(window: MainWindow) -> None:
    assert window.capture._pages.currentIndex() == 0
    assert window.document.stack is None
    assert window.top.stop_button.isVisible()
    assert window.top.stop_button.isEnabled()
    assert window.status.device.text() == "no microscope"
    for name in ("export", "reconstruct", "start", "stage_up", "snapshot"):
        assert not window.actions_by_name[name].isEnabled(), name


def test_every_action_is_complete_and_its_shortcut_unique(window: MainWindow) -> None:
    shortcuts: dict[str, str] = {}
    for spec in ACTIONS:
        action = window.actions_by_name[spec.name]
        assert action.text()
        assert action.statusTip()
        assert not action.icon().isNull(), spec.name
        assert spec.menu in MENUS
        key = action.shortcut().toString()
        assert key, spec.name
        assert key not in shortcuts, f"{spec.name} and {shortcuts.get(key)} share {key}"
        shortcuts[key] = spec.name


def test_every_action_is_in_its_menu_and_does_something(window: MainWindow) -> None:
    for spec in ACTIONS:
        action = window.actions_by_name[spec.name]
        assert action in window.menus.by_name[spec.menu].actions()
        assert action.receivers("2triggered(bool)") > 0, spec.name


@pytest.mark.parametrize(("key", "name"), list(zip("1234", WORKSPACES, strict=True)))
def test_workspace_by_key(qtbot, window: MainWindow, key: str, name: str) -> None:
    window.show_workspace("label" if name != "label" else "capture")
    QTest.keyClick(window, key, Qt.KeyboardModifier.ControlModifier)
    assert window._pages.currentIndex() == WORKSPACES.index(name)
    tab = window.findChild(QWidget, f"tab_{name}")
    assert tab is not None
    assert tab.isChecked()


def test_label_and_inspect_say_that_they_are_empty(window: MainWindow) -> None:
    for name in ("label", "inspect"):
        window.show_workspace(name)
        texts = " ".join(label.text() for label in window._pages.currentWidget().findChildren(QLabel))
        assert "not part of this version" in texts


def test_palette_finds_and_runs_an_action(qtbot, window: MainWindow) -> None:
    QTest.keyClick(window, Qt.Key.Key_K, Qt.KeyboardModifier.ControlModifier)
    palette = window.findChild(Palette)
    assert palette is not None
    QTest.keyClicks(palette.field, "inspe")
    assert palette.list.currentItem().text() == "Inspect"
    QTest.keyClick(palette.field, Qt.Key.Key_Return)
    assert window._pages.currentIndex() == WORKSPACES.index("inspect")
    qtbot.waitUntil(lambda: window.findChild(Palette) is None)


def test_palette_goes_away_on_escape(qtbot, window: MainWindow) -> None:
    window.actions_by_name["palette"].trigger()
    palette = window.findChild(Palette)
    QTest.keyClick(palette.field, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: window.findChild(Palette) is None)


def test_palette_does_not_run_what_is_disabled(qtbot, window: MainWindow) -> None:
    window.actions_by_name["palette"].trigger()
    palette = window.findChild(Palette)
    QTest.keyClicks(palette.field, "Start Capture")
    QTest.keyClick(palette.field, Qt.Key.Key_Return)
    assert palette.isVisible()
    palette.accept()


def test_palette_match_prefers_word_starts() -> None:
    texts = ["Restart", "Start Capture", "Set Top Here"]
    ranked = sorted((score, text) for text in texts if (score := match("sta", text)) is not None)
    assert [text for _score, text in ranked] == ["Start Capture", "Restart"]
    assert match("sth", "Set Top Here") is not None
    assert match("xyz", "Set Top Here") is None


def test_shortcut_page_lists_every_action(qtbot, window: MainWindow) -> None:
    window.actions_by_name["shortcuts"].trigger()
    dialog = window.findChild(ShortcutsDialog)
    texts = {label.text() for label in dialog.findChildren(QLabel)}
    for action in window.actions_by_name:
        assert action.text() in texts
        assert action.shortcut().toString() in texts
    dialog.close()
    qtbot.waitUntil(lambda: window.findChild(ShortcutsDialog) is None)


def test_unexpected_error_shows_and_goes_to_the_log(
    qtbot, window: MainWindow, folder: Path, monkeypatch, caplog
) -> None:
    def broken(path: Path) -> None:
        raise RuntimeError("the flux is low")

    monkeypatch.setattr("app.opening.read_stack", broken)
    with caplog.at_level(logging.ERROR):
        window.open_path(folder)
        qtbot.waitUntil(lambda: any("the flux is low" in text for text in bar_texts(window)), timeout=LONG)
    record = next(record for record in caplog.records if record.exc_info)
    assert record.exc_info[1].args == ("the flux is low",)


def test_bars_do_not_pile_up(window: MainWindow) -> None:
    for _ in range(3):
        window.show_error("Camera", InputError("no picture"))
    assert bar_texts(window) == ["no picture"]
    for index in range(9):
        window.show_error("Camera", InputError(f"fault {index}"))
    assert bar_texts(window) == ["fault 8", "fault 7", "fault 6", "fault 5"]
    bar: Bar = window.bars.bars()[0]
    bar.dismiss()
    assert bar_texts(window)[0] == "fault 7"


def test_settings_come_back(qtbot, window: MainWindow, settings: Settings) -> None:
    window.set_light_theme(True)
    window.show_workspace("inspect")
    settings.step_um = 3.25
    window.close()
    stored = load_settings()
    assert stored == window.settings
    assert (stored.theme, stored.workspace, stored.step_um) == ("light", "inspect", 3.25)
    assert stored.geometry
    assert set(stored.layouts) == {"capture", "surface"}
    again = MainWindow(stored)
    qtbot.addWidget(again)
    assert again._pages.currentIndex() == WORKSPACES.index("inspect")
    again.close()


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "\x00\x01", '{"version": {"a": 1}}'])
def test_broken_settings_never_block_the_start(private_settings: Path, caplog, text: str) -> None:
    private_settings.mkdir(parents=True, exist_ok=True)
    settings_file().write_text(text)
    assert load_settings() == Settings()
    assert caplog.records


def test_bad_values_are_skipped_and_good_ones_kept(private_settings: Path, caplog) -> None:
    private_settings.mkdir(parents=True, exist_ok=True)
    settings_file().write_text('{"theme": "pink", "step_um": -3, "exposure_ms": 7.5, "from_the_future": 1}')
    settings = load_settings()
    assert (settings.theme, settings.step_um, settings.exposure_ms) == ("dark", 2.0, 7.5)
    assert "step_um, theme" in caplog.text


def test_settings_that_cannot_be_saved_are_no_disaster(tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("")
    save_settings(Settings(), tmp_path / "file" / "settings.json")
    assert "cannot be saved" in caplog.text


def test_theme_switches_at_run_time(qtbot, window: MainWindow) -> None:
    def brightness() -> float:
        image = window.status.grab().toImage().convertToFormat(QImage.Format.Format_Grayscale8)
        return float(image.pixelColor(600, 16).red())

    app = QApplication.instance()
    theme.apply_theme(app, "dark")
    dark = brightness()
    window.actions_by_name["light_theme"].trigger()
    assert brightness() > dark + 120
    window.actions_by_name["light_theme"].trigger()
    assert brightness() == dark


class Shouting(gettext.NullTranslations):
    """A language of its own."""

    def gettext(self, message: str) -> str:
        return message.upper() if "{" not in message else message


def test_language_switches_at_once_and_keeps_what_is_open(qtbot, window: MainWindow, folder: Path, monkeypatch) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    height_map = window.document.height_map
    monkeypatch.setattr("models.language.gettext.translation", lambda *_args, **_options: Shouting())
    window.set_language("zh_CN")
    assert window.settings.language == "zh_CN"
    assert window.document.height_map is height_map
    assert window.surface.currentIndex() == 1
    assert window.findChild(QWidget, "tab_capture").text() == "CAPTURE"
    assert window.actions_by_name["open"].text() == "OPEN…"
    assert window.status.device.text() == "NO MICROSCOPE"
    QTest.keyClick(window, "1", Qt.KeyboardModifier.ControlModifier)
    assert window._pages.currentWidget() is window.capture


def test_reset_layout_brings_panels_back(qtbot, window: MainWindow) -> None:
    window.show_workspace("capture")
    toggle = window.capture.dock_actions()[0]
    toggle.trigger()
    assert not toggle.isChecked()
    window.actions_by_name["reset_layout"].trigger()
    qtbot.waitUntil(lambda: all(action.isChecked() for action in window.capture.dock_actions()))


def test_closing_twice_is_fine(qtbot, window: MainWindow) -> None:
    assert window.close()
    assert not window.isVisible()
    window.close()


def test_many_bars_leave_nothing_behind_that_crashes(qtbot, window: MainWindow) -> None:
    """Wrappers of layout items once outlived their widgets; the next list that was filled crashed the program."""
    for number in range(150):
        bar = window.bars.show_fault("Stage", f"message {number % 2}", ("Release", lambda: None))
        QApplication.processEvents()
        bar.dismiss()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    assert window.bars.bars() == []
    for _ in range(3):
        window.actions_by_name["palette"].trigger()
        palette = window.findChild(Palette)
        QTest.keyClicks(palette.field, "exp")
        assert palette.list.count() > 0
        QTest.keyClick(palette.field, Qt.Key.Key_Escape)
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)


def test_bars_outlive_a_change_of_theme_and_their_buttons_work(qtbot, window: MainWindow) -> None:
    pressed: list[bool] = []
    bar = window.bars.show_fault("Camera", "fault", ("Again", lambda: pressed.append(True)))
    window.actions_by_name["light_theme"].trigger()
    assert window.bars.bars() == [bar]
    qtbot.waitUntil(bar.isVisible)
    bar.buttons[0].click()
    assert pressed == [True]
    assert window.bars.bars() == []


def test_headings_lose_their_mnemonics() -> None:
    assert [without_mnemonic(text) for text in ("&File", "S&tage", "文件(&F)", "Open")] == [
        "File", "Stage", "文件", "Open",
    ]  # fmt: skip


def test_the_buttons_of_qt_speak_the_language_too(qtbot, window: MainWindow) -> None:
    def cancel() -> str:
        return QCoreApplication.translate("QPlatformTheme", "Cancel")

    window.set_language("zh_CN")
    assert cancel() == "取消"
    window.set_language("en")
    assert cancel() == "Cancel"


def test_an_exception_that_nobody_caught_is_told_and_written_down(private_settings: Path, caplog) -> None:
    hooks, told = (sys.excepthook, threading.excepthook), []
    handlers = list(logging.getLogger().handlers)
    try:
        start_log(told.append)
        sys.excepthook(ValueError, ValueError("in a slot"), None)
        thread = threading.Thread(target=lambda: {}["in a thread"])
        thread.start()
        thread.join()
    finally:
        sys.excepthook, threading.excepthook = hooks
        for handler in [h for h in logging.getLogger().handlers if h not in handlers]:
            logging.getLogger().removeHandler(handler)
            handler.close()
    assert [str(error) for error in told] == ["in a slot", "'in a thread'"]
    assert caplog.text.count("Unexpected error") == 2


def test_free_space_of_a_folder_that_cannot_be_looked_at(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "made" / "yet") > 0
    assert free_bytes(tmp_path / ("x" * 300)) > 0


def test_a_microscope_that_cannot_be_read_is_told(qtbot, settings: Settings, private_settings: Path) -> None:
    (private_settings / "profiles" / "broken.toml").write_text('title = "bro')
    window = MainWindow(settings, remember=False)
    try:
        assert any("broken.toml" in text for text in bar_texts(window))
        assert window.capture.profile.count() > 1
    finally:
        window.close()
        window.deleteLater()


def test_the_question_for_the_scale_is_asked_in_its_workspace_only(qtbot, window: MainWindow, folder: Path) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    assert window.scale_bar.isVisible()
    window.show_workspace("capture")
    assert not window.scale_bar.isVisible()
    window.actions_by_name["set_scale"].trigger()
    assert window.settings.workspace == "surface"
    assert window.scale_bar.isVisible()
