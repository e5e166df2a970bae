"""The Surface workspace with a real stack: cursor, curve, profile, controls."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QFileDialog, QWidget

from app.document import Document
from app.surface.display_panel import Display, DisplayPanel
from app.surface.reconstruction_panel import ReconstructionPanel
from app.surface.workspace import FRAMES_TAB, TABS, SurfaceWorkspace
from models.errors import OutputError
from models.focal_stack import FocalStack
from models.height_map import Flag, HeightMap
from models.methods import METHODS, ReconstructionOptions
from models.reconstruct import focus_curve, reconstruct
from tests.gui import mouse

Z_UM = np.arange(12) * 2.0 + 100.0


def stack() -> FocalStack:
    """Left half in focus at 106 um, right half at 116 um: a texture that fades away from there."""
    noise = np.random.default_rng(3).normal(0.0, 60.0, (64, 96))
    surface = np.where(np.arange(96) < 48, 106.0, 116.0)[None, :]
    contrast = np.exp(-(((Z_UM[:, None, None] - surface) / 4.0) ** 2))
    frames = np.clip(128 + contrast * noise, 0, 255).astype(np.uint8)
    return FocalStack(frames, Z_UM, pixel_um=0.5)


@pytest.fixture
def workspace(qtbot):
    workspace = SurfaceWorkspace(Document())
    qtbot.addWidget(workspace)
    workspace.resize(1200, 720)
    workspace.show()
    qtbot.waitExposed(workspace)
    yield workspace
    workspace.close_threads()


@pytest.fixture
def filled(workspace):
    document = workspace._document
    document.set_stack(stack())
    document.set_height_map(reconstruct(document.stack, ReconstructionOptions(method="sml", window=5)))
    return workspace


def hover(workspace: SurfaceWorkspace, row: int, column: int) -> None:
    mouse.move(*place(workspace, row, column))


def place(workspace: SurfaceWorkspace, row: float, column: float) -> tuple[QWidget, QPointF]:
    image = workspace.image
    viewport = image.focusProxy().viewport()
    return viewport, QPointF(viewport.mapFrom(image, image.position_of(row, column).toPoint()))


def test_without_data_the_workspace_says_what_to_do(workspace):
    texts = [label.text() for label in workspace.currentWidget().findChildren(QWidget) if hasattr(label, "text")]
    assert any("Open a stack" in text for text in texts)
    workspace._document.set_stack(stack())
    assert workspace.currentIndex() == 1
    workspace._document.close()
    assert workspace.currentIndex() == 0


def test_an_opened_stack_shows_its_frames_until_it_is_reconstructed(workspace, qtbot):
    document = workspace._document
    document.set_stack(stack())
    assert workspace.tabs.tabData(workspace.tabs.currentIndex()) == "frames"
    assert workspace.frame_slider.maximum() == 11
    workspace.frame_slider.setValue(3)
    assert "4 of 12" in workspace._frame_text.text()
    assert "106.00 µm" in workspace._frame_text.text()
    assert workspace.reconstruction.start.isEnabled()
    assert workspace.view._message.isVisible()
    document.set_height_map(reconstruct(document.stack))
    assert workspace.tabs.tabData(workspace.tabs.currentIndex()) == "height"
    assert not workspace.view._message.isVisible()


def test_a_map_without_its_stack_works_too(workspace):
    height = np.ones((20, 30), np.float32)
    workspace._document.set_height_map(HeightMap(height, height, np.zeros((20, 30), np.uint8)))
    assert workspace.currentIndex() == 1
    assert workspace.tabs.tabData(workspace.tabs.currentIndex()) == "height"
    assert not workspace.tabs.isTabVisible(FRAMES_TAB)
    assert not workspace.reconstruction.start.isEnabled()
    assert workspace.display.exaggeration.suffix() == ""
    hover(workspace, 5, 5)
    assert workspace.readout.text("x") == "5 px"


@pytest.mark.parametrize("tab", ["height", "confidence", "all_in_focus"])
def test_cursor_reads_the_map_to_the_pixel(filled, tab):
    filled.tabs.setCurrentIndex([name for name, *_ in TABS].index(tab))
    height_map = filled._document.height_map
    hover(filled, 30, 20)
    assert filled.readout.text("x") == "10.00 µm"
    assert filled.readout.text("y") == "15.00 µm"
    assert float(filled.readout.text("height").split()[0]) == pytest.approx(height_map.height_um[30, 20], abs=6e-4)
    assert float(filled.readout.text("confidence")) == pytest.approx(height_map.confidence[30, 20], abs=6e-3)
    mouse.leave(filled.image.focusProxy())
    assert filled.readout.text("height") == "–"


def test_cursor_says_why_a_pixel_is_doubtful(filled):
    height_map = filled._document.height_map
    height_map.flags[30, 20] = Flag.PEAK_AT_END
    height_map.height_um[30, 20] = np.nan
    hover(filled, 30, 20)
    assert filled.readout.text("flags") == "Sharpest on the first or last frame"
    assert filled.readout.text("height") == "–"
    height_map.flags[30, 21] = 0
    hover(filled, 30, 21)
    assert filled.readout.text("flags") == ""


def test_cursor_in_the_3d_view_reads_the_same_pixel(filled, qtbot):
    scene = filled.view.scene
    scene.grabFramebuffer()
    with qtbot.waitSignal(filled.view.cursorMoved) as moved:
        mouse.move(scene, scene._on_surface(40, 70))
    row, column = moved.args
    assert abs(row - 40) <= 1
    assert abs(column - 70) <= 1
    assert filled.readout.text("x") == f"{column * 0.5:.2f} µm"
    assert filled.image._marker.getData()[0] == pytest.approx([column + 0.5])


def test_focus_curve_of_the_pixel_arrives_with_its_peak(filled, qtbot):
    document = filled._document
    hover(filled, 32, 20)
    qtbot.waitUntil(lambda: len(filled.focus_curve.curve()[0]) == 12, timeout=5000)
    z, measure = filled.focus_curve.curve()
    np.testing.assert_allclose(z, Z_UM)
    options = ReconstructionOptions(method="sml", window=5)
    np.testing.assert_allclose(measure, focus_curve(document.stack, 32, 20, options), rtol=1e-6)
    assert filled.focus_curve.peak() == pytest.approx(float(document.height_map.height_um[32, 20]))
    assert filled.focus_curve.peak() == pytest.approx(106.0, abs=1.0)


def test_of_many_positions_the_last_one_is_shown(filled, qtbot):
    for column in range(10, 80, 7):
        filled.focus_curve.set_pixel(20, column, 106.0)
    qtbot.waitUntil(lambda: "row 20, column 73" in filled.focus_curve._title.text(), timeout=5000)


def test_focus_curve_of_a_descending_stack_runs_upwards(filled, qtbot):
    up = stack()
    down = FocalStack(up.frames[::-1], up.z_um[::-1], pixel_um=0.5)
    filled._document.set_stack(down)
    filled._document.set_height_map(reconstruct(down))
    filled.focus_curve.set_pixel(32, 20, 106.0)
    qtbot.waitUntil(lambda: len(filled.focus_curve.curve()[0]) == 12, timeout=5000)
    z, measure = filled.focus_curve.curve()
    assert (np.diff(z) > 0).all()
    assert z[np.argmax(measure)] == 106.0


def test_profile_follows_the_line_in_the_image(filled):
    profile = filled.profile.profile()
    heights = filled._document.height_map.height_um
    assert profile.height_unit == "um"
    assert np.nanmedian(profile.height[:30]) == pytest.approx(106.0, abs=1.0)
    assert np.nanmedian(profile.height[-30:]) == pytest.approx(116.0, abs=1.0)
    (row, column), end = filled.image.profile_line()
    viewport, handle = place(filled, row, column)
    mouse.drag(viewport, handle, place(filled, 10, column)[1])
    moved = filled.profile.profile()
    assert moved.row[0] == pytest.approx(10, abs=0.7)
    assert (moved.row[-1], moved.column[-1]) == pytest.approx(end, abs=0.3)
    nearest = heights[np.rint(moved.row).astype(int), np.rint(moved.column).astype(int)]
    assert np.nanmedian(np.abs(moved.height - nearest)) < 0.2
    assert filled.view.scene.line == filled.image.profile_line()


def test_line_stays_when_the_stack_is_reconstructed_anew(filled):
    filled.image.set_profile_line(((5, 5), (50, 90)))
    document = filled._document
    document.set_height_map(reconstruct(document.stack, ReconstructionOptions(method="rdf")))
    assert filled.image.profile_line() == ((5, 5), (50, 90))
    assert filled.profile.profile().row[0] == 5


def test_cursor_on_the_profile_marks_image_and_surface(filled):
    plot = filled.profile._plot
    box = plot.getViewBox()
    where = QPointF(plot.mapFromScene(box.mapViewToScene(QPointF(20.0, box.viewRect().center().y()))))
    mouse.move(plot.viewport(), where)
    profile = filled.profile.profile()
    index = int(np.argmin(np.abs(profile.distance - 20.0)))
    assert filled.view.scene.marker[1] == pytest.approx(profile.column[index], abs=1.0)
    assert filled.readout.text("x") != "–"
    assert "at " in filled.profile._summary.text()


def test_profile_is_saved_where_the_user_says(filled, tmp_path: Path, monkeypatch, qtbot):
    target = tmp_path / "line.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *arguments: (str(target), ""))
    filled.profile._export.click()
    assert target.read_text().startswith("distance_um,height_um")
    target = tmp_path / "missing" / "line.csv"
    with qtbot.waitSignal(filled.failed) as failed:
        filled.profile._export.click()
    assert isinstance(failed.args[0], OutputError)


def test_weak_pixels_leave_every_view(filled):
    height_map = filled._document.height_map
    height_map.confidence[:, :48] = 0.2
    filled.display.setValue(Display(threshold=0.5))
    assert np.isnan(filled.view.scene.heights[30, 20])
    assert np.isfinite(filled.view.scene.heights[30, 80])
    profile = filled.profile.profile()
    assert np.isnan(profile.height[profile.column < 47]).all()
    assert filled.image.threshold == filled.view.threshold == 0.5


def test_display_controls_reach_the_views_and_show_what_was_chosen(filled, qtbot):
    low, high = filled.view.height_range
    assert filled.display.low.value() == pytest.approx(low, abs=0.1)
    assert filled.display.high.value() == pytest.approx(high, abs=0.1)
    assert filled.display.low.suffix() == " µm"
    assert filled.display.exaggeration.suffix() == " ×"
    assert filled.display.exaggeration.value() == pytest.approx(filled.view.exaggeration)
    QTest.mouseClick(
        filled.display.auto_range, Qt.MouseButton.LeftButton, pos=filled.display.auto_range.rect().center()
    )
    filled.display.auto_range.setChecked(False)
    filled.display.high.setValue(150.0)
    assert filled.view.height_range[1] == filled.image.height_range[1] == 150.0
    filled.display.colour_map.setCurrentText("cividis")
    assert filled.view.colour_map == filled.image.colour_map == "cividis"
    filled.display.hill_shade.setValue(0.2)
    assert filled.view.hill_shade == pytest.approx(0.2)
    filled.display.texture.setCurrentIndex(1)
    assert filled.view.texture == "all_in_focus"


def test_reset_and_top_buttons(filled):
    filled.view.scene.turn(30, 20)
    start = filled.view.scene.camera()
    QTest.mouseClick(filled.display.reset, Qt.MouseButton.LeftButton)
    assert filled.view.scene.camera() != start
    QTest.mouseClick(filled.display.top, Qt.MouseButton.LeftButton)
    assert filled.view.scene.camera()[1] == 90


def test_layout_comes_back(filled):
    saved = filled.save_layout()
    action = next(action for action in filled.dock_actions() if action.text() == "Profile")
    action.trigger()
    assert not filled.profile.isVisible()
    assert filled.restore_layout(saved)
    assert filled.profile.isVisible()


def test_the_reconstruct_button_is_in_reach_in_a_low_window(filled, qtbot):
    filled.resize(1366, 560)
    qtbot.waitUntil(lambda: filled.height() == 560)
    button = filled.reconstruction.start
    assert button.visibleRegion().boundingRect() == button.rect()
    assert filled.rect().contains(button.mapTo(filled, button.rect().bottomRight()))


def test_reconstruct_button_sends_the_options(filled, qtbot):
    panel = filled.reconstruction
    panel.method.setCurrentIndex(panel.method.findData("rdf"))
    panel.window_px.setValue(15)
    panel.align.setChecked(True)
    panel.regularise.setChecked(True)
    with qtbot.waitSignal(filled.reconstructRequested) as requested:
        QTest.mouseClick(panel.start, Qt.MouseButton.LeftButton)
    assert requested.args[0] == ReconstructionOptions(method="rdf", window=15, align="shift", regularisation=1.0)


@pytest.mark.parametrize(
    "options",
    [
        ReconstructionOptions(),
        *(ReconstructionOptions(method=name, window=21, align="similarity", regularisation=2.5) for name in METHODS),
        ReconstructionOptions(stabilise=False),
        ReconstructionOptions(method="gplws-net", weights="/somewhere/own.safetensors", engine="torch"),
        ReconstructionOptions(method="fvnet", weights="/somewhere/fvnet.safetensors"),
    ],
)
def test_reconstruction_panel_gives_back_what_it_was_given(qtbot, options):
    panel = ReconstructionPanel()
    qtbot.addWidget(panel)
    told = []
    panel.valueChanged.connect(told.append)
    panel.setValue(options)
    assert panel.value() == options
    assert told == ([] if options == ReconstructionOptions() else [options])


@pytest.mark.parametrize(("typed", "shown"), [("8", 9), ("10", 11), ("7", 7), ("100", 101), ("2", 3)])
def test_a_window_has_a_middle(qtbot, typed, shown):
    panel = ReconstructionPanel()
    qtbot.addWidget(panel)
    panel.show()
    panel.window_px.setFocus()
    panel.window_px.selectAll()
    QTest.keyClicks(panel.window_px, typed)
    QTest.keyClick(panel.window_px, Qt.Key.Key_Return)
    assert panel.window_px.value() == panel.value().window == shown
    assert panel.window_px.text() == f"{shown} px"
    panel.window_px.stepDown()
    assert panel.value().window == shown - 2


def test_measured_drift_is_shown_in_words(qtbot):
    panel = ReconstructionPanel()
    qtbot.addWidget(panel)
    panel.show()
    assert not panel._drift.isVisible()
    panel.set_drift(np.array([[0.0, 0.0], [3.0, -4.0]]), np.array([1.0, 1.012]))
    assert panel._drift.text() == "Measured drift: up to 5.00 px, size up to 1.20 %"
    panel.set_drift(None)
    assert not panel._drift.isVisible()


def test_drift_that_the_map_remembers_is_shown(filled):
    document = filled._document
    parameters = {**document.height_map.parameters, "drift_px": [[0.0, 0.0], [0.0, 1.5]]}
    document.set_height_map(replace(document.height_map, parameters=parameters))
    assert filled.reconstruction._drift.text() == "Measured drift: up to 1.50 px"
    document.set_height_map(reconstruct(document.stack))
    assert not filled.reconstruction._drift.isVisible()


@pytest.mark.parametrize(
    "display",
    [
        Display(),
        Display("cividis", "confidence", 0.3, 7.5, (-2.0, 14.0), 0.25, 0.5, False),
    ],
)
def test_display_panel_gives_back_what_it_was_given(qtbot, display):
    panel = DisplayPanel()
    qtbot.addWidget(panel)
    told = []
    panel.valueChanged.connect(told.append)
    panel.setValue(display)
    assert panel.value() == display
    assert told == ([] if display == Display() else [display])


def test_a_range_typed_upside_down_is_understood(qtbot):
    panel = DisplayPanel()
    qtbot.addWidget(panel)
    panel.auto_range.setChecked(False)
    panel.low.setValue(20.0)
    panel.high.setValue(5.0)
    assert panel.value().height_range == (5.0, 20.0)
    panel.low.setValue(5.0)
    low, high = panel.value().height_range
    assert low < high
