"""Opening, dropping, exporting and recovering files through the window, and the options they carry."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QMessageBox, QWidget

from app.dialogs import FORMATS, ExportDialog
from app.main_window import MainWindow
from app.settings import Settings
from models import capture_file, storage
from models.formats import MAP_SUFFIXES, read_height_map, read_stack
from models.methods import ReconstructionOptions
from models.reconstruct import reconstruct
from tests.gui.shell import LONG, bar_texts, opened

PLAIN = Qt.KeyboardModifier.NoModifier


def choose_format(dialog: ExportDialog, suffix: str) -> None:
    rows = [dialog.list.item(row).data(Qt.ItemDataRole.UserRole) for row in range(dialog.list.count())]
    dialog.list.setCurrentRow(rows.index(suffix))


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
