"""The 3D view: drawn pixels, mouse, camera, and memory."""

import gc
import resource
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMainWindow

from app.surface import height_item, view3d
from app.surface.graphics import Graphics
from app.surface.view3d import SurfaceView
from models.colour_maps import lut, robust_range
from models.height_map import Flag, HeightMap
from tests.gui import mouse


@pytest.fixture
def view(qtbot) -> SurfaceView:
    view = SurfaceView()
    qtbot.addWidget(view)
    view.resize(640, 480)
    view.show()
    qtbot.waitExposed(view)
    assert view.is_available
    return view


def waves(rows: int = 80, columns: int = 120, phase: float = 0.0, **fields) -> HeightMap:
    r, c = np.mgrid[:rows, :columns]
    height = (4 * np.sin(c / 9 + phase) * np.cos(r / 11)).astype(np.float32)
    fields.setdefault("flags", np.zeros(height.shape, np.uint8))
    fields.setdefault("confidence", np.full(height.shape, 0.8, np.float32))
    return HeightMap(height, **fields)


def plain(view: SurfaceView, height_map: HeightMap) -> None:
    """From the top without light: every pixel has the colour of the map."""
    view.set_display(hill_shade=0.0)
    view.set_height_map(height_map)
    view.look_from_top()


def colour_at(view: SurfaceView, row: float, column: float) -> tuple[int, int, int]:
    image = view.scene.grabFramebuffer()
    point = place(view, row, column)
    colour = QColor(image.pixel(round(point.x()), round(point.y())))
    return colour.red(), colour.green(), colour.blue()


def place(view: SurfaceView, row: float, column: float) -> QPointF:
    """Where the centre of a pixel lies in the scene widget, seen from the top (also over a hole)."""
    rows, columns = view._height_map.shape
    width, height = view.scene.item.extent
    return view.scene.to_screen((column / (columns - 1) - 0.5) * width, (0.5 - row / (rows - 1)) * height, 0.0)


def test_heights_get_the_colours_of_the_bar(view):
    height_map = waves()
    plain(view, height_map)
    low, high = view.colour_bar.range()
    assert (low, high) == pytest.approx(robust_range(height_map.height_um), abs=0.02)
    # Near the middle of the picture and of the height, where perspective moves nothing.
    row, column = 40, 57
    expected = lut("viridis")[round(255 * (height_map.height_um[row, column] - low) / (high - low))]
    np.testing.assert_allclose(colour_at(view, row, column), expected, atol=12)


def test_a_hole_shows_the_background(view):
    height_map = waves()
    height_map.height_um[30:50, 50:70] = np.nan
    plain(view, height_map)
    background = QColor(view.scene.grabFramebuffer().pixel(3, 3))
    assert colour_at(view, 40, 60) == background.getRgb()[:3]
    assert colour_at(view, 40, 30) != background.getRgb()[:3]


def test_threshold_makes_holes(view):
    height_map = waves()
    height_map.confidence[30:50, 50:70] = 0.2
    plain(view, height_map)
    solid = colour_at(view, 40, 60)
    view.set_display(threshold=0.5)
    assert colour_at(view, 40, 60) == QColor(view.scene.grabFramebuffer().pixel(3, 3)).getRgb()[:3] != solid


def test_doubtful_pixels_are_grey(view):
    flags = np.zeros((80, 120), np.uint8)
    flags[:, :60] = Flag.PEAK_AT_END
    height_map = waves(flags=flags)
    plain(view, height_map)

    def colourfulness(row: int, column: int) -> int:
        colour = colour_at(view, row, column)
        return max(colour) - min(colour)

    assert colourfulness(40, 30) < colourfulness(40, 90)
    view.set_display(dim_untrusted=False)
    assert colourfulness(40, 30) > 40


def test_the_image_can_be_laid_over_the_surface(view):
    image = np.zeros((80, 120, 3), np.uint8)
    image[:40, :, 0] = 200
    image[40:, :, 2] = 200
    plain(view, waves(all_in_focus=image))
    view.set_display(texture="all_in_focus")
    np.testing.assert_allclose(colour_at(view, 15, 60), (200, 0, 0), atol=3)
    np.testing.assert_allclose(colour_at(view, 65, 60), (0, 0, 200), atol=3)
    assert not view.colour_bar.isVisible()
    view.set_display(texture="confidence")
    np.testing.assert_allclose(colour_at(view, 15, 60), [204] * 3, atol=3)
    assert view.colour_bar.range() == (0.0, 1.0)
    view.set_display(texture="height")
    assert view.colour_bar.isVisible()


def test_without_an_image_the_height_gives_the_colours(view):
    plain(view, waves())
    coloured = colour_at(view, 40, 57)
    view.set_display(texture="all_in_focus")
    assert colour_at(view, 40, 57) == coloured


def test_light_makes_slopes_differ(view):
    view.set_display(height_range=(-1000.0, 1000.0), exaggeration=2.0)
    plain(view, waves())
    np.testing.assert_allclose(colour_at(view, 40, 57), colour_at(view, 40, 85), atol=3)
    view.set_display(hill_shade=1.0)
    away, towards = sum(colour_at(view, 40, 57)), sum(colour_at(view, 40, 85))
    # The light comes from the left: of the two slopes, the one that rises to the right faces it.
    assert towards > away + 60


def test_the_bar_counts_frames_where_no_step_is_known(view):
    view.set_height_map(waves(z_unit="frame"))
    assert view.colour_bar.unit() == "frames"
    view.set_height_map(waves())
    assert view.colour_bar.unit() == "µm"


def test_typed_range_wins_over_the_automatic_one(view, qtbot):
    view.set_height_map(waves())
    with qtbot.waitSignal(view.heightRangeChanged) as changed:
        view.set_display(height_range=(-10.0, 30.0))
    assert tuple(changed.args) == view.colour_bar.range() == (-10.0, 30.0)
    view.set_display(height_range=None)
    assert view.height_range[1] < 5


def test_exaggeration_is_readable_and_can_be_set(view, qtbot):
    view.set_height_map(waves(pixel_um=1.0))
    automatic = view.exaggeration
    assert automatic in (1, 2, 5, 10, 20)
    with qtbot.waitSignal(view.exaggerationChanged) as changed:
        view.set_display(exaggeration=3.0)
    assert changed.args == [3.0]
    scale = view.scene.item.lift[1]
    view.set_display(exaggeration=6.0)
    assert view.scene.item.lift[1] == pytest.approx(2 * scale)
    view.set_display(exaggeration=None)
    assert view.exaggeration == automatic


@pytest.mark.parametrize("pixel", [(40, 60), (70, 20), (75, 100)])
def test_mouse_finds_the_pixel_on_the_surface(view, qtbot, pixel):
    view.set_height_map(waves())
    view.scene.grabFramebuffer()
    where = view.scene._on_surface(*pixel)
    with qtbot.waitSignal(view.cursorMoved) as moved:
        mouse.move(view.scene, where)
    # The point is drawn with whole screen pixels, a little less than a pixel of the map each.
    assert np.abs(np.subtract(moved.args, pixel)).max() <= 1


def test_mouse_finds_nothing_beside_the_surface_and_in_a_hole(view, qtbot):
    height_map = waves()
    height_map.height_um[30:50, 50:70] = np.nan
    plain(view, height_map)
    assert view.scene.pixel_at(QPointF(2, 2)) is None
    with qtbot.waitSignal(view.cursorLeft):
        mouse.move(view.scene, place(view, 40, 60))


def test_dragging_turns_within_the_limits(view):
    view.set_height_map(waves())
    azimuth, elevation, _ = view.scene.camera()
    mouse.drag(view.scene, QPointF(300, 200), QPointF(360, 220))
    turned = view.scene.camera()
    assert turned[0] == pytest.approx(azimuth - 30)
    assert turned[1] == pytest.approx(elevation + 10)
    mouse.drag(view.scene, QPointF(300, 50), QPointF(300, 450))
    assert view.scene.camera()[1] == 90
    mouse.drag(view.scene, QPointF(300, 450), QPointF(300, 50))
    mouse.drag(view.scene, QPointF(300, 450), QPointF(300, 50))
    assert 0 < view.scene.camera()[1] < 10


def test_shift_and_right_button_move_the_surface_but_never_out_of_sight(view):
    view.set_height_map(waves())
    before = view.scene._on_surface(40, 60)
    mouse.drag(view.scene, QPointF(300, 200), QPointF(330, 220), button=Qt.MouseButton.RightButton)
    moved = view.scene._on_surface(40, 60) - before
    assert moved.x() == pytest.approx(30, abs=4)
    assert moved.y() == pytest.approx(20, abs=4)
    angles = view.scene.camera()[:2]
    for _ in range(10):
        mouse.drag(view.scene, QPointF(20, 20), QPointF(620, 20), keys=Qt.KeyboardModifier.ShiftModifier, steps=2)
    assert view.scene.camera()[:2] == angles
    assert abs(view.scene.opts["center"].x()) <= 10


def test_wheel_zooms_within_the_limits(view):
    view.set_height_map(waves())
    start = view.scene.camera()
    mouse.turn_wheel(view.scene, QPointF(300, 200), 120)
    assert view.scene.camera()[2] < 1
    for _ in range(60):
        mouse.turn_wheel(view.scene, QPointF(300, 200), 480)
    nearest = view.scene.camera()[2]
    for _ in range(60):
        mouse.turn_wheel(view.scene, QPointF(300, 200), -480)
    farthest = view.scene.camera()[2]
    assert 0.05 < nearest < 0.2
    assert 2 < farthest < 5
    QTest.mouseDClick(view.scene, Qt.MouseButton.LeftButton)
    assert view.scene.camera() == start


def test_a_tall_pane_is_looked_into_more_from_above(qtbot, view):
    """As long as nobody has turned the surface; what was turned by hand stays as it is."""
    view.set_height_map(waves())
    view.resize(1200, 400)
    qtbot.waitUntil(lambda: view.scene.camera()[1] == 38)
    view.resize(300, 700)
    qtbot.waitUntil(lambda: view.scene.camera()[1] == 56)
    view.scene.turn(0, -10)
    view.resize(1200, 400)
    qtbot.wait(20)
    assert view.scene.camera()[1] == 46


def test_keyboard_does_what_the_mouse_does(view):
    view.set_height_map(waves())
    start = view.scene.camera()
    for key in (Qt.Key.Key_Left, Qt.Key.Key_Up, Qt.Key.Key_Plus):
        QTest.keyClick(view.scene, key)
    turned = view.scene.camera()
    assert turned[0] > start[0]
    assert turned[1] > start[1]
    assert turned[2] < start[2]
    QTest.keyClick(view.scene, Qt.Key.Key_T)
    assert view.scene.camera() == (-90, 90, 1)
    QTest.keyClick(view.scene, Qt.Key.Key_Home)
    assert view.scene.camera() == start


def test_from_the_top_the_map_lies_as_in_the_image(view):
    view.set_height_map(waves())
    view.look_from_top()
    origin, down, right = place(view, 0, 0), place(view, 79, 0), place(view, 0, 119)
    assert down.y() > origin.y()
    assert right.x() > origin.x()
    assert down.x() == pytest.approx(origin.x(), abs=1)


def test_everything_is_in_view_after_a_reset(view):
    for shape in ((80, 120), (20, 200), (200, 20)):
        view.set_height_map(waves(*shape))
        for look in (view.reset_camera, view.look_from_top):
            look()
            rows, columns = shape
            for row in (0, rows - 1):
                for column in (0, columns - 1):
                    point = view.scene._on_surface(row, column)
                    assert view.scene.rect().contains(point.toPoint()), (shape, row, column)


def test_a_growing_map_is_thinned_and_keeps_the_camera(view):
    view.set_height_map(waves(600, 900), moving=True)
    assert max(view.scene.item.grid_shape) <= view3d.LIVE_CELLS[True]
    view.scene.turn(20, 10)
    view.scene.zoom_by(0.7)
    camera = view.scene.camera()
    for phase in range(5):
        view.set_height_map(waves(600, 900, phase), moving=True)
        view.scene.grabFramebuffer()
    assert view.scene.camera() == camera
    view.set_height_map(waves(600, 900))
    assert view.scene.item.grid_shape == (600, 900)
    assert view.scene.camera() == camera
    assert view.scene.pixel_at(view.scene._on_surface(300, 450)) == pytest.approx((300, 450), abs=4)


def test_large_grids_are_thinned_only_while_the_camera_moves(view, qtbot):
    view.set_height_map(waves(600, 900))
    view.scene.is_software = True
    mouse.drag(view.scene, QPointF(300, 200), QPointF(320, 200), steps=2)
    assert view.scene.item.coarse
    turning = view.scene.grabFramebuffer()
    assert turning.pixel(320, 250) != turning.pixel(3, 3)
    qtbot.waitUntil(lambda: not view.scene.item.coarse)


@pytest.mark.parametrize("shape", [(2, 2), (2, 300), (3, 1000), (1, 1), (1, 50)])
def test_odd_sizes_are_drawn_or_called_empty(view, shape):
    view.set_height_map(waves(*shape), moving=True)
    view.set_height_map(waves(*shape))
    view.scene.grabFramebuffer()
    assert (view._pages.currentIndex() == 1) == (min(shape) >= 2)


def test_maps_without_any_height_do_no_harm(view):
    empty = waves()
    empty.height_um[:] = np.nan
    view.set_height_map(empty, moving=True)
    picture = view.scene.grabFramebuffer()
    assert picture.pixel(320, 200) == picture.pixel(3, 3)
    flat = waves()
    flat.height_um[:] = 5.0
    view.set_height_map(flat)
    assert view.height_range == (4.5, 5.5)


def test_emptied_view_says_what_will_come(view):
    view.set_empty_text("The surface appears here")
    view.set_height_map(waves())
    assert not view._message.isVisible()
    view.set_height_map(None)
    assert view._message.isVisible()
    assert view._message.text() == "The surface appears here"


def test_without_opengl_the_view_explains_itself(qtbot, monkeypatch):
    monkeypatch.setattr(view3d, "graphics", lambda: Graphics(fault="OpenGL could not be started."))
    view = SurfaceView()
    qtbot.addWidget(view)
    view.show()
    view.set_empty_text("nothing yet")
    view.set_height_map(waves(), moving=True)
    view.set_display(colour_map="cividis", hill_shade=0.3, threshold=0.5)
    view.set_marker((1, 1))
    view.set_line(((0, 0), (5, 5)))
    view.reset_camera()
    assert not view.is_available
    assert "OpenGL could not be started." in view._message.text()
    assert view._message.isVisible()


def test_a_driver_that_refuses_the_shader_is_reported_once(qtbot, monkeypatch, capfd):
    monkeypatch.setattr(height_item, "FRAGMENT_SHADER", "this is no shader")
    view = SurfaceView()
    qtbot.addWidget(view)
    view.resize(300, 200)
    view.show()
    qtbot.waitExposed(view)
    view.set_height_map(waves())
    qtbot.waitUntil(lambda: not view.is_available)
    view.set_height_map(waves(), moving=True)
    assert view._message.isVisible()
    assert "not available" in view._message.text()
    assert "Traceback" not in capfd.readouterr().err


def test_graphics_memory_is_given_back_and_taken_again(view):
    view.set_height_map(waves())
    before = view.scene.grabFramebuffer()
    view.scene.release()
    assert not view.scene.item._buffers
    after = view.scene.grabFramebuffer()
    assert before == after
    assert view.scene.item._buffers


def test_view_survives_a_move_to_another_window(view, qtbot):
    view.set_height_map(waves())
    view.scene.grabFramebuffer()
    window = QMainWindow()
    qtbot.addWidget(window)
    window.setCentralWidget(view)
    window.resize(640, 480)
    window.show()
    qtbot.waitExposed(window)
    picture = view.scene.grabFramebuffer()
    window.takeCentralWidget()  # each of the two closes for itself
    assert picture.pixel(320, 250) != picture.pixel(3, 3)


def test_memory_stays_level_over_many_live_updates(view):
    view.resize(200, 150)
    maps = [waves(64, 96, phase) for phase in range(4)]

    def run(count: int) -> int:
        for number in range(count):
            view.set_height_map(maps[number % 4], moving=True)
            if number % 4 == 0:
                view.scene.grabFramebuffer()
        gc.collect()
        return resident_bytes()

    run(400)
    begun = run(100)
    grown = run(2000) - begun
    # One 64 x 96 buffer kept per update would be 55 MB.
    assert grown < 6 << 20, f"{grown / 2**20:.1f} MB more after 2,000 updates"


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
