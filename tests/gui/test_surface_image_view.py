"""The image view, with real mouse events."""

import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget

from app.surface.image_view import ImageView
from models.colour_maps import lut, robust_range
from models.height_map import Flag, HeightMap
from tests.gui import mouse


@pytest.fixture
def view(qtbot) -> ImageView:
    view = ImageView()
    qtbot.addWidget(view)
    view.resize(620, 480)
    view.show()
    qtbot.waitExposed(view)
    return view


def surface(rows: int = 60, columns: int = 90, **fields) -> HeightMap:
    r, c = np.mgrid[:rows, :columns]
    height = (0.5 * r + 0.1 * c).astype(np.float32)
    return HeightMap(
        height,
        np.full(height.shape, 0.8, np.float32),
        fields.pop("flags", np.zeros(height.shape, np.uint8)),
        **fields,
    )


def move_to(view: ImageView, row: float, column: float) -> None:
    mouse.move(*place(view, row, column))


def place(view: ImageView, row: float, column: float) -> tuple[QWidget, QPointF]:
    """The widget that takes the mouse, and where the pixel is in it."""
    viewport = view.focusProxy().viewport()
    return viewport, QPointF(viewport.mapFrom(view, view.position_of(row, column).toPoint()))


def colour_at(view: ImageView, row: int, column: int) -> tuple[int, int, int]:
    colour = QColor(view.grab().toImage().pixel(view.position_of(row, column).toPoint()))
    return colour.red(), colour.green(), colour.blue()


@pytest.mark.parametrize("pixel", [(0, 0), (59, 89), (0, 89), (31, 47)])
def test_cursor_names_the_pixel_under_the_mouse(view, qtbot, pixel):
    view.set_height_map(surface())
    move_to(view, 30, 30)
    with qtbot.waitSignal(view.cursorMoved) as moved:
        move_to(view, *pixel)
    assert tuple(moved.args) == pixel


def test_cursor_is_right_to_the_pixel_after_zooming(view, qtbot):
    view.set_height_map(surface())
    target = place(view, 20, 70)
    for _ in range(12):
        mouse.turn_wheel(*target, 240)
    assert view.screen_pixels_per_pixel() > 10
    # Zooming keeps the pixel under the mouse, also at its end.
    assert place(view, 20, 70)[1].x() == pytest.approx(target[1].x(), abs=view.screen_pixels_per_pixel())
    move_to(view, 22, 72)
    with qtbot.waitSignal(view.cursorMoved) as moved:
        move_to(view, 19.55, 69.55)
    assert tuple(moved.args) == (20, 70)


def test_cursor_leaves_outside_the_image(view, qtbot):
    view.set_height_map(surface())
    move_to(view, 10, 10)
    with qtbot.waitSignal(view.cursorLeft):
        move_to(view, -3, 10)
    move_to(view, 10, 10)
    with qtbot.waitSignal(view.cursorLeft):
        mouse.leave(view.focusProxy())


def test_rows_grow_downwards_and_pixels_are_square(view):
    view.set_height_map(surface())
    origin, down, right = view.position_of(0, 0), view.position_of(50, 0), view.position_of(0, 50)
    assert down.y() > origin.y()
    assert right.x() > origin.x()
    assert down.y() - origin.y() == pytest.approx(right.x() - origin.x(), abs=2)


def test_colours_bar_and_holes_say_the_same(view):
    height_map = surface()
    height_map.height_um[20:40, 30:60] = np.nan
    view.set_height_map(height_map)
    bar = view.colour_bar
    assert bar.range() == pytest.approx(robust_range(height_map.height_um), rel=1e-6)
    assert bar.unit() == "µm"
    low, high = bar.range()
    expected = lut("viridis")[round(255 * (height_map.height_um[50, 80] - low) / (high - low))]
    np.testing.assert_allclose(colour_at(view, 50, 80), expected, atol=3)
    assert colour_at(view, 30, 45) == view._canvas.missing_colour()


def test_heights_without_a_scale_are_counted_in_frames_and_pixels(view):
    view.set_height_map(surface(z_unit="frame"))
    assert view.colour_bar.unit() == "frames"
    assert view.scale() == (1.0, "px")
    view.set_height_map(surface(pixel_um=0.5))
    assert view.scale() == (0.5, "µm")


def test_typed_range_and_colour_map_are_used(view):
    view.set_height_map(surface())
    view.set_display(colour_map="gray", height_range=(0.0, 100.0), threshold=0.0, flags_opacity=0.0)
    assert view.colour_bar.range() == (0.0, 100.0)
    value = surface().height_um[50, 80]
    np.testing.assert_allclose(colour_at(view, 50, 80), [round(255 * value / 100)] * 3, atol=3)


def test_weak_pixels_disappear_and_flags_turn_amber(view):
    flags = np.zeros((60, 90), np.uint8)
    flags[:, 45:] = Flag.PEAK_AT_END
    height_map = surface(flags=flags)
    height_map.confidence[:30] = 0.1
    view.set_height_map(height_map)
    before = colour_at(view, 45, 80)
    view.set_display(colour_map="viridis", height_range=None, threshold=0.5, flags_opacity=1.0)
    assert colour_at(view, 10, 10) == view._canvas.missing_colour()
    assert colour_at(view, 45, 10) != view._canvas.missing_colour()
    assert colour_at(view, 45, 80) == (255, 176, 32) != before


def test_live_levels_do_not_follow_the_picture(view):
    dim = np.full((40, 60), 1000, np.uint16)
    view.set_image(dim, levels=(0, 4000))
    assert colour_at(view, 20, 30)[0] == pytest.approx(64, abs=2)
    view.set_image(2 * dim, levels=(0, 4000))
    assert colour_at(view, 20, 30)[0] == pytest.approx(128, abs=2)


def test_colour_images_keep_their_colours(view):
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0], image[..., 2] = 200, 50
    view.set_image(image)
    np.testing.assert_allclose(colour_at(view, 20, 30), (200, 0, 50), atol=2)


def test_zoom_stays_while_the_picture_is_replaced(view):
    view.set_image(np.zeros((60, 90), np.uint8))
    mouse.turn_wheel(*place(view, 30, 45), 480)
    zoomed = view.visible_rect()
    view.set_image(np.full((60, 90), 99, np.uint8))
    assert view.visible_rect() == zoomed
    QTest.mouseDClick(view.focusProxy().viewport(), Qt.MouseButton.LeftButton)
    assert view.visible_rect().contains(0, 0)
    assert view.visible_rect().width() >= 90


def test_wheel_with_ctrl_is_left_to_the_stage(view):
    view.set_image(np.zeros((60, 90), np.uint8))
    before = view.visible_rect()
    mouse.turn_wheel(*place(view, 30, 45), 240, keys=Qt.KeyboardModifier.ControlModifier)
    assert view.visible_rect() == before


def test_profile_line_follows_the_mouse(view, qtbot):
    view.set_height_map(surface())
    view.set_profile_line(((10, 10), (50, 80)))
    assert view.profile_line() == ((10, 10), (50, 80))
    viewport, handle = place(view, 50, 80)
    with qtbot.waitSignal(view.profileLineChanged):
        mouse.drag(viewport, handle, place(view, 30, 80)[1])
    start, end = view.profile_line()
    assert start == pytest.approx((10, 10), abs=0.3)
    assert end == pytest.approx((30, 80), abs=0.6)


def test_empty_view_says_what_to_do(view):
    def ink() -> int:
        pixels = view.grab().toImage()
        background = pixels.pixel(5, 5)
        return sum(pixels.pixel(x, y) != background for x in range(100, 500, 2) for y in range(200, 280, 2))

    assert ink() == 0
    view.set_empty_text("Connect a camera to see the sample")
    assert ink() > 20
    view.set_image(np.zeros((60, 90), np.uint8))
    view.set_image(None)
    assert ink() > 20
    assert view.pixel_at(QPointF(300, 240)) is None
