"""The window around the workspaces: actions, palette, bars, files, settings, theme, language."""

import gettext
import logging
import sys
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QLabel, QMessageBox, QWidget

from app import theme
from app.actions import ACTIONS, MENUS, without_mnemonic
from app.application import start_log
from app.bars import Bar
from app.dialogs import FORMATS, ExportDialog, ShortcutsDialog
from app.main_window import WORKSPACES, MainWindow
from app.palette import Palette, match
from app.settings import Settings, load_settings, save_settings, settings_file
from app.status_line import free_bytes
from models import capture_file, storage
from models.errors import InputError
from models.formats import MAP_SUFFIXES, read_height_map, read_stack
from models.methods import ReconstructionOptions
from models.reconstruct import reconstruct

LONG = 20_000
PLAIN = Qt.KeyboardModifier.NoModifier


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of six images: noise that is sharpest in the third."""
    folder = tmp_path / "stack"
    folder.mkdir()
    noise = np.random.default_rng(1).normal(0, 60, (48, 64))
    for index in range(6):
        image = np.clip(128 + noise * np.exp(-((index - 2) ** 2) / 2), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"frame_{index}.png"), image)
    return folder


def opened(qtbot, window: MainWindow) -> None:
    qtbot.waitUntil(lambda: window.document.height_map is not None, timeout=LONG)


def bar_texts(window: MainWindow) -> list[str]:
    return [bar.text for bar in window.bars.bars()]


def choose_format(dialog: ExportDialog, suffix: str) -> None:
    rows = [dialog.list.item(row).data(Qt.ItemDataRole.UserRole) for row in range(dialog.list.count())]
    dialog.list.setCurrentRow(rows.index(suffix))


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
    window.show_palette()
    palette = window.findChild(Palette)
    QTest.keyClick(palette.field, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: window.findChild(Palette) is None)


def test_palette_does_not_run_what_is_disabled(qtbot, window: MainWindow) -> None:
    window.show_palette()
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


def test_dropped_folder_opens_and_is_reconstructed(qtbot, window: MainWindow, folder: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(folder))])
    copy, left = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    enter = QDragEnterEvent(QPoint(50, 50), copy, data, left, PLAIN)
    QApplication.sendEvent(window, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(window, QDropEvent(QPointF(50, 50), copy, data, left, PLAIN))
    opened(qtbot, window)
    assert window.document.stack is not None
    assert len(window.document.stack) == 6
    assert np.nanmedian(window.document.height_map.height_um) == pytest.approx(2.0, abs=0.3)
    assert window._pages.currentWidget() is window.surface
    assert folder.name in window.windowTitle()


def test_a_file_dropped_on_the_picture_opens_too(qtbot, window: MainWindow, folder: Path, tmp_path: Path) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    stack = window.document.stack
    storage.write_stack(tmp_path / "dropped.h5", stack)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "dropped.h5"))])
    copy, left = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    for place in (window.surface.image.focusProxy().viewport(), window.surface.view.scene):
        enter = QDragEnterEvent(QPoint(9, 9), copy, data, left, PLAIN)
        enter.ignore()
        QApplication.sendEvent(place, enter)
        assert enter.isAccepted()
    QApplication.sendEvent(place, QDropEvent(QPointF(9, 9), copy, data, left, PLAIN))
    qtbot.waitUntil(lambda: window.document.path == tmp_path / "dropped.h5", timeout=LONG)


def test_unknown_scale_is_asked_for_and_rescales_at_once(qtbot, window: MainWindow, folder: Path) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    assert window.scale_bar.isVisible()
    assert window.document.height_map.z_unit == "frame"
    before = window.document.height_map.height_um
    window.scale_bar.step.setFocus()
    window.scale_bar.step.selectAll()
    QTest.keyClicks(window.scale_bar.step, "2.5")
    QTest.keyClick(window.scale_bar.step, Qt.Key.Key_Return)
    after = window.document.height_map
    assert after.z_unit == "um"
    assert window.document.stack.step_um == pytest.approx(2.5)
    np.testing.assert_allclose(after.height_um, 2.5 * before, rtol=1e-5)
    QTest.mouseClick(window.scale_bar.downwards, Qt.MouseButton.LeftButton, pos=QPoint(8, 8))
    np.testing.assert_allclose(window.document.height_map.height_um, -2.5 * before, rtol=1e-5)


def test_recent_files_are_offered_newest_first(qtbot, window: MainWindow, folder: Path) -> None:
    window.settings.remember_file(Path("/nowhere/old.h5"))
    window.open_path(folder)
    opened(qtbot, window)
    window.menus.recent.aboutToShow.emit()
    entries = window.menus.recent.actions()
    assert [entry.text() for entry in entries] == [str(folder), "/nowhere/old.h5"]
    assert not entries[1].isEnabled()
    window.files.close_stack()
    entries[0].trigger()
    opened(qtbot, window)


@pytest.mark.parametrize("name", ["missing", "notes.txt", "empty"])
def test_what_is_no_stack_is_refused_in_a_bar(qtbot, window: MainWindow, tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    window.open_path(tmp_path / name)
    qtbot.waitUntil(lambda: any(name in text for text in bar_texts(window)), timeout=LONG)
    assert window.document.stack is None


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


def test_export_by_dialog(qtbot, window: MainWindow, folder: Path, tmp_path: Path, monkeypatch) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    window.document.set_scale(step_um=2.0, pixel_um=0.5)
    out = tmp_path / "out"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: (str(out), ""))
    window.actions_by_name["export"].trigger()
    dialog = window.findChild(ExportDialog)
    rows = [dialog.list.item(row).data(Qt.ItemDataRole.UserRole) for row in range(dialog.list.count())]
    assert set(rows) <= set(MAP_SUFFIXES)
    dialog.list.setCurrentRow(rows.index(".stl"))
    assert dialog.watertight.isEnabled()
    dialog.watertight.setChecked(True)
    with qtbot.waitSignal(window.opening.saved, timeout=LONG):
        QTest.mouseClick(dialog.save, Qt.MouseButton.LeftButton)
    assert out.with_suffix(".stl").stat().st_size > 84
    assert any("out.stl" in text for text in bar_texts(window))


@pytest.mark.parametrize("suffix", [".h5", ".tif", ".x3p", ".csv", ".npy"])
def test_what_is_hidden_on_screen_is_missing_in_the_file(
    qtbot, window: MainWindow, folder: Path, tmp_path: Path, monkeypatch, suffix: str
) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    window.document.set_scale(step_um=2.0, pixel_um=0.5)
    height_map = window.document.height_map
    height_map.confidence[:, :20] = 0.2
    height_map.confidence[:, 20:] = 0.9
    for percent in (0, 30):
        out = tmp_path / f"{percent}{suffix}"
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args, out=out: (str(out), ""))
        window.surface.display.threshold.slider.setValue(percent)
        window.actions_by_name["export"].trigger()
        dialog = window.findChild(ExportDialog)
        assert dialog.without_weak.isChecked() == dialog.without_weak.isEnabled() == (percent > 0)
        assert f"{percent} %" in dialog.without_weak.text()
        choose_format(dialog, suffix)
        with qtbot.waitSignal(window.opening.saved, timeout=LONG):
            QTest.mouseClick(dialog.save, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: window.findChild(ExportDialog) is None)
        hidden = np.isnan(read_height_map(out).height_um)
        expected = np.isnan(height_map.height_um)
        expected[:, :20] |= percent > 0
        np.testing.assert_array_equal(hidden, expected)


def test_weak_heights_are_exported_where_wanted(
    qtbot, window: MainWindow, folder: Path, tmp_path: Path, monkeypatch
) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    out = tmp_path / "all.npy"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: (str(out), ""))
    window.surface.display.threshold.slider.setValue(90)
    window.actions_by_name["export"].trigger()
    dialog = window.findChild(ExportDialog)
    choose_format(dialog, ".npy")
    dialog.without_weak.click()
    with qtbot.waitSignal(window.opening.saved, timeout=LONG):
        QTest.mouseClick(dialog.save, Qt.MouseButton.LeftButton)
    np.testing.assert_array_equal(np.load(out), window.document.height_map.height_um)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_written_by_the_dialog(
    qtbot, window: MainWindow, folder: Path, tmp_path: Path, monkeypatch, suffix: str
) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    window.document.set_scale(step_um=2.0, pixel_um=0.5)
    out = tmp_path / f"map{suffix}"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: (str(tmp_path / "map"), ""))
    window.actions_by_name["export"].trigger()
    dialog = window.findChild(ExportDialog)
    choose_format(dialog, suffix)
    with qtbot.waitSignal(window.opening.saved, timeout=LONG):
        QTest.mouseClick(dialog.save, Qt.MouseButton.LeftButton)
    assert out.stat().st_size > 84
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("map")] == [out.name]


def test_an_exported_file_of_ours_opens_here_again(qtbot, window: MainWindow, folder: Path, tmp_path: Path) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    window.document.set_scale(step_um=2.0, pixel_um=0.5)
    height_map = window.document.height_map
    with qtbot.waitSignal(window.opening.saved, timeout=LONG):
        window.opening.export(tmp_path / "map.h5")
    window.files.close_stack()
    window.open_path(tmp_path / "map.h5")
    opened(qtbot, window)
    assert window.document.stack is None
    np.testing.assert_array_equal(window.document.height_map.height_um, height_map.height_um)
    assert window.document.height_map.pixel_um == 0.5
    assert "map.h5" in window.windowTitle()
    assert not window.actions_by_name["reconstruct"].isEnabled()
    assert not bar_texts(window)[1:]  # only that it was written


@pytest.mark.parametrize("replaces", [True, False])
def test_a_file_is_not_replaced_unasked_because_a_suffix_was_added(
    qtbot, window: MainWindow, folder: Path, tmp_path: Path, monkeypatch, replaces: bool
) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    (tmp_path / "map_1.5.npy").write_text("precious")
    asked: list[str] = []

    def answer(_parent: QWidget, _title: str, question: str) -> QMessageBox.StandardButton:
        asked.append(question)
        return QMessageBox.StandardButton.Yes if replaces else QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, "question", answer)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_args: (str(tmp_path / "map_1.5"), ""))
    window.actions_by_name["export"].trigger()
    dialog = window.findChild(ExportDialog)
    choose_format(dialog, ".npy")
    if replaces:
        with qtbot.waitSignal(window.opening.saved, timeout=LONG):
            dialog.save.click()
        assert np.load(tmp_path / "map_1.5.npy").shape == (48, 64)
    else:
        dialog.save.click()
        assert dialog.isVisible()
        assert (tmp_path / "map_1.5.npy").read_text() == "precious"
        dialog.reject()
    assert asked == ["map_1.5.npy exists already. Replace it?"]


# --- options of the reconstruction


def test_the_window_begins_with_the_options_of_the_command_line(window: MainWindow) -> None:
    for panel in (window.capture.reconstruction, window.surface.reconstruction):
        assert panel.value() == ReconstructionOptions()
    assert not window.actions_by_name["smooth"].isChecked()


MADE_WITH = ReconstructionOptions(method="sml", window=5, align="similarity", regularisation=0.5, stabilise=False)


@pytest.fixture
def sample(folder: Path, tmp_path: Path) -> Path:
    """A file of ours with a map that was made with other options than the user's."""
    path = tmp_path / "sample.h5"
    stack = read_stack(folder)
    storage.write_sample(path, reconstruct(stack, MADE_WITH), stack)
    return path


def test_the_panel_describes_the_stored_map_and_the_users_options_stay(
    qtbot, window: MainWindow, sample: Path, folder: Path
) -> None:
    window.open_path(sample)
    opened(qtbot, window)
    assert window.surface.reconstruction.value() == MADE_WITH
    assert window.actions_by_name["align"].isChecked()
    assert window.surface.reconstruction._drift.isVisibleTo(window.surface)
    window.actions_by_name["light_theme"].trigger()
    assert window.surface.reconstruction.value() == MADE_WITH
    assert window.settings.reconstruction == window.capture.reconstruction.value() == ReconstructionOptions()
    window.open_path(folder)
    qtbot.waitUntil(lambda: window.document.path == folder, timeout=LONG)
    opened(qtbot, window)
    assert window.surface.reconstruction.value() == ReconstructionOptions()
    assert window.document.height_map.method == ReconstructionOptions().method


def test_reconstructing_anew_uses_the_options_that_are_shown(qtbot, window: MainWindow, sample: Path) -> None:
    window.open_path(sample)
    opened(qtbot, window)
    with qtbot.waitSignal(window.document.heightMapChanged, timeout=LONG):
        window.actions_by_name["reconstruct"].trigger()
    made = window.document.height_map.parameters
    assert (made["method"], made["window"], made["align"]) == ("sml", 5, "similarity")
    assert window.settings.reconstruction == ReconstructionOptions()
    window.actions_by_name["align"].trigger()  # from here on the user has chosen
    assert window.settings.reconstruction == MADE_WITH.model_copy(update={"align": "none"})
    assert window.capture.reconstruction.value() == window.settings.reconstruction


@pytest.mark.parametrize("stored", [{"window": 8}, {"window": "wide"}, {"align": "round"}, {"regularisation": -1.0}])
def test_a_map_made_with_impossible_options_opens_all_the_same(
    qtbot, window: MainWindow, folder: Path, tmp_path: Path, stored: dict
) -> None:
    stack = read_stack(folder)
    made = reconstruct(stack)
    odd = replace(made, parameters={**made.parameters, **stored})
    storage.write_sample(tmp_path / "odd.h5", odd, stack)
    window.open_path(tmp_path / "odd.h5")
    opened(qtbot, window)
    assert window.surface.reconstruction.value() == window.settings.reconstruction
    assert bar_texts(window) == []


def test_meshes_need_a_scale(qtbot, window: MainWindow, folder: Path) -> None:
    window.open_path(folder)
    opened(qtbot, window)
    window.files.export()
    dialog = window.findChild(ExportDialog)
    enabled = {
        dialog.list.item(row).data(Qt.ItemDataRole.UserRole): bool(
            dialog.list.item(row).flags() & Qt.ItemFlag.ItemIsEnabled
        )
        for row in range(dialog.list.count())
    }
    assert not enabled[".stl"]
    assert enabled[".tif"]
    assert dialog.note.isVisible()
    dialog.reject()


def test_interrupted_capture_is_offered_and_recovered(qtbot, settings: Settings) -> None:
    settings.captures_folder.mkdir(parents=True)
    path = settings.captures_folder / "cut.h5"
    rng = np.random.default_rng(2)
    writer = capture_file.StackWriter(
        path, image_shape=(32, 32), dtype=np.dtype(np.uint8), frame_count=10, pixel_um=0.5
    )
    for index in range(5):
        image = rng.integers(0, 255, (32, 32), dtype=np.uint8)
        writer.append(image, z_um=2.0 * index, z_requested_um=2.0 * index, time_s=float(index))
    writer.close()
    window = MainWindow(settings)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: any("cut.h5" in text for text in bar_texts(window)), timeout=LONG)
    recover, later = window.bars.bars()[0].buttons
    assert (recover.text(), later.text()) == ("Recover", "Later")
    QTest.mouseClick(recover, Qt.MouseButton.LeftButton)
    opened(qtbot, window)
    assert len(window.document.stack) == 5
    assert storage.is_complete(path)
    window.close()
    window.deleteLater()


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
        window.show_palette()
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
