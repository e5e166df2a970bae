"""The 3D scene around a height item: camera with limits, scale along the edges, finding the pixel under the mouse."""

import gc
import math

import numpy as np
from numpy.typing import NDArray
from OpenGL.error import Error as GLError
from pyqtgraph.opengl import GLViewWidget
from PySide6.QtCore import QPointF, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QKeyEvent,
    QMatrix4x4,
    QMouseEvent,
    QPainter,
    QPalette,
    QPen,
    QResizeEvent,
    QSurfaceFormat,
    QVector3D,
    QVector4D,
    QWheelEvent,
)
from PySide6.QtWidgets import QWidget

from app.surface.graphics import graphics
from app.surface.height_item import HeightItem
from app.surface.picking import first_hit, scene_height
from app.surface.ticks import decimals, number, round_step, ticks

DEFAULT_AZIMUTH = -62.0
WIDE_ELEVATION, TALL_ELEVATION = 38.0, 56.0
"""Camera elevation after a reset in a pane twice as wide as high, and in one that is higher than wide: seen more
from above, a surface fills a tall pane better."""
LOWEST, HIGHEST = 4.0, 90.0
"""Camera elevation in degrees: never from below, where there is nothing to see."""
FIELD_OF_VIEW = 28.0
NEAREST, FARTHEST = 0.08, 3.0
"""Camera distance in units of the distance that shows everything."""
FIRST_SOFTWARE_CELLS = 300_000
"""Grids with more cells are thinned while the camera moves, unless a graphics card draws them."""
SETTLE_MS = 180
SMOOTH_EDGES = 4
"""Samples per pixel where a graphics card draws."""
FRAME_MARGIN = 1.0
"""Room for the scales around the surface, in scene units."""

Pixel = tuple[float, float]


class SurfaceScene(GLViewWidget):
    """Draws one :class:`HeightItem` and takes care of the camera.

    Mouse: left turns, right or middle or Shift+left moves, the wheel zooms, a double click resets.
    Keys: arrows turn, plus and minus zoom, Home resets, T looks from the top.
    """

    hovered = Signal(float, float)
    """Row and column of the surface under the mouse."""
    left = Signal()
    failed = Signal(str)
    """Drawing does not work on this machine; the text is the driver's."""
    _is_built = False
    """Qt sends change events while the base class is still being built."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setMinimumSize(160, 120)
        self.opts["fov"] = FIELD_OF_VIEW
        self.item = HeightItem()
        self.addItem(self.item)
        self.is_software = graphics().is_software
        """No graphics card: grids are kept small and edges are not smoothed."""
        if not self.is_software:
            surface_format = QSurfaceFormat(self.format())
            surface_format.setSamples(SMOOTH_EDGES)
            self.setFormat(surface_format)
        self.heights: NDArray[np.float32] | None = None
        """What the item shows, (rows, columns) in the unit of the map, for picking and for lines on the surface."""
        self.cell_pixels = 1
        """Pixels of the height map per cell of the grid."""
        self.cell_um: float | None = None
        """Size of a cell; None where the lateral scale is unknown."""
        self.base = 0.0
        """Scene height of the bottom frame."""
        self.marker: Pixel | None = None
        self.line: tuple[Pixel, Pixel] | None = None
        self._zoom = 1.0
        self._fitted = DEFAULT_AZIMUTH, WIDE_ELEVATION
        """Camera angles at the last reset."""
        self._has_failed = False
        self._settle = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._settle.timeout.connect(self._on_settled)
        self._is_built = True
        self.apply_palette()
        self.reset_camera()

    # Camera

    def reset_camera(self) -> None:
        self._look(DEFAULT_AZIMUTH, self._best_elevation())

    def _best_elevation(self) -> float:
        wide = min(1.0, max(0.0, self.width() / max(1, self.height()) - 1.0))
        return TALL_ELEVATION + wide * (WIDE_ELEVATION - TALL_ELEVATION)

    def look_from_top(self) -> None:
        """Straight down, row 0 of the map at the top as in the image."""
        self._look(-90.0, HIGHEST)

    def camera(self) -> tuple[float, float, float]:
        """Azimuth and elevation in degrees, distance in units of the distance that shows everything."""
        return self.opts["azimuth"], self.opts["elevation"], self._zoom

    def turn(self, azimuth: float, elevation: float) -> None:
        """Turn the camera by so many degrees."""
        self.opts["azimuth"] = (self.opts["azimuth"] + azimuth + 180.0) % 360.0 - 180.0
        self.opts["elevation"] = min(HIGHEST, max(LOWEST, self.opts["elevation"] + elevation))
        self._moved()

    def zoom_by(self, factor: float) -> None:
        """Multiply the distance of the camera by ``factor``, within the limits."""
        self._zoom = min(FARTHEST, max(NEAREST, self._zoom * factor))
        self._place()
        self._moved()

    def move_by(self, dx: float, dy: float) -> None:
        """Move the surface by so many pixels on the screen; it cannot be lost out of sight."""
        self.pan(dx, dy, 0, relative="view")
        limit = HeightItem.SIZE * 0.75
        center = self.opts["center"]
        inside = (min(limit, max(-limit, value)) for value in (center.x(), center.y(), center.z()))
        self.opts["center"] = QVector3D(*inside)
        self._moved()

    def _look(self, azimuth: float, elevation: float) -> None:
        self._fitted = azimuth, elevation
        self.opts["azimuth"], self.opts["elevation"] = azimuth, elevation
        self.opts["center"] = QVector3D(0, 0, 0)
        self._zoom = 1.0
        self._place()
        self._moved()

    def fit(self) -> None:
        """Take the size of the surface into account after it changed; turning and zoom stay."""
        self._place()
        self.update()

    def _place(self) -> None:
        """The distance from which the surface with its scales fits into the widget, seen as after the last reset."""
        azimuth, elevation = (math.radians(angle) for angle in self._fitted)
        towards = np.array(
            (math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation))
        )
        right = np.array((-math.sin(azimuth), math.cos(azimuth), 0.0))
        up = np.cross(towards, right)
        width, height = self.item.extent
        x, y = width / 2 + FRAME_MARGIN, height / 2 + FRAME_MARGIN
        # Heights stretched beyond all measure may leave the picture; the field of view must not.
        half = min(abs(self.base), HeightItem.SIZE / 2)
        corners = np.array([(sx * x, sy * y, z) for sx in (-1, 1) for sy in (-1, 1) for z in (-half, half)])
        half_width = math.tan(math.radians(FIELD_OF_VIEW / 2))
        half_height = half_width * max(0.2, self.height() / max(1, self.width()))
        nearer = corners @ towards
        needed = max(
            float((nearer + np.abs(corners @ right) / half_width).max()),
            float((nearer + np.abs(corners @ up) / half_height).max()),
        )
        self.opts["distance"] = self._zoom * needed

    def _moved(self) -> None:
        rows, columns = self.item.grid_shape
        self.item.coarse = self.is_software and rows * columns > FIRST_SOFTWARE_CELLS
        if self.item.coarse:
            self._settle.start()
        self.update()

    def _on_settled(self) -> None:
        self.item.coarse = False
        self.update()

    # Events

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self._is_built and self._fitted[0] == DEFAULT_AZIMUTH:
            is_as_fitted = (self.opts["azimuth"], self.opts["elevation"]) == self._fitted
            self._fitted = DEFAULT_AZIMUTH, self._best_elevation()
            if is_as_fitted:
                self.opts["elevation"] = self._fitted[1]
        self._place()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._last = event.position()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        position, buttons = event.position(), event.buttons()
        if buttons == Qt.MouseButton.NoButton:
            pixel = self.pixel_at(position)
            if pixel is None:
                self.left.emit()
            else:
                self.hovered.emit(*pixel)
            return
        step = position - self._last
        self._last = position
        is_shifted = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        if buttons == Qt.MouseButton.LeftButton and not is_shifted:
            self.turn(-step.x() * 0.5, step.y() * 0.5)
        else:
            self.move_by(step.x(), step.y())

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.reset_camera()

    def wheelEvent(self, event: QWheelEvent) -> None:
        self.zoom_by(0.999 ** event.angleDelta().y())
        event.accept()

    def leaveEvent(self, event) -> None:
        self.left.emit()
        super().leaveEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        actions = {
            Qt.Key.Key_Left: lambda: self.turn(5, 0),
            Qt.Key.Key_Right: lambda: self.turn(-5, 0),
            Qt.Key.Key_Up: lambda: self.turn(0, 5),
            Qt.Key.Key_Down: lambda: self.turn(0, -5),
            Qt.Key.Key_Plus: lambda: self.zoom_by(0.9),
            Qt.Key.Key_Equal: lambda: self.zoom_by(0.9),
            Qt.Key.Key_Minus: lambda: self.zoom_by(1 / 0.9),
            Qt.Key.Key_Home: self.reset_camera,
            Qt.Key.Key_T: self.look_from_top,
        }
        action = actions.get(Qt.Key(event.key()))
        if action is None:
            event.ignore()
        else:
            action()

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        event.ignore()

    def changeEvent(self, event) -> None:
        super().changeEvent(event)
        if event.type() == event.Type.PaletteChange:
            self.apply_palette()

    def apply_palette(self) -> None:
        base, text = (self.palette().color(role) for role in (QPalette.ColorRole.Base, QPalette.ColorRole.Text))
        self.setBackgroundColor(base)
        if self._is_built:
            mixed = (0.76 * b + 0.24 * t for b, t in zip(base.getRgbF()[:3], text.getRgbF()[:3], strict=True))
            red, green, blue = mixed
            self.item.wall_colour = (red, green, blue)

    # Drawing

    def initializeGL(self) -> None:
        try:
            super().initializeGL()
        except (GLError, RuntimeError) as error:
            self._fail(error)
            return
        # A widget moved to another window gets another context: what we own there goes first.
        self.context().aboutToBeDestroyed.connect(self.release, Qt.ConnectionType.UniqueConnection)

    def release(self) -> None:
        """Give back what we hold on the graphics card; called before the context goes."""
        if self.isValid():
            self.makeCurrent()
            self.item.release()
            self.doneCurrent()

    def drawItemTree(self, *_arguments, **_keywords) -> None:
        # The scene holds one item. Drawn here and not by the parent, which prints errors on the console and goes on.
        if self._has_failed:
            return
        if self.default_vao.isCreated():
            self.default_vao.bind()
        try:
            self.item.paint()
        except (GLError, RuntimeError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._has_failed = True
        self.failed.emit(str(error).splitlines()[0] if str(error) else type(error).__name__)

    def paintGL(self) -> None:
        # A garbage collection in the middle may delete a forgotten OpenGL widget, which takes the current
        # context away from under the painter: Qt does not survive that.
        was_collecting = gc.isenabled()
        gc.disable()
        try:
            super().paintGL()
            self._draw_marks()
        finally:
            if was_collecting:
                gc.enable()

    def _draw_marks(self) -> None:
        if 0 in self.item.grid_shape or self._has_failed:
            return
        painter = QPainter(self)
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.TextAntialiasing)
        self._draw_frame(painter)
        self._draw_line(painter)
        self._draw_marker(painter)
        painter.end()

    def _draw_frame(self, painter: QPainter) -> None:
        """Scales along the two edges of the bottom that are nearest to the camera; nothing can lie before them."""
        width, height = self.item.extent
        rows, columns = self.item.grid_shape
        cell = self.cell_um if self.cell_um is not None else float(self.cell_pixels)
        unit = "µm" if self.cell_um is not None else "px"
        azimuth = math.radians(self.opts["azimuth"])
        near_x = width / 2 if math.cos(azimuth) > 0 else -width / 2
        near_y = height / 2 if math.sin(azimuth) > 0 else -height / 2
        colour = QColor(self.palette().color(QPalette.ColorRole.Text))
        colour.setAlphaF(0.75)
        painter.setPen(QPen(colour, 1.0))
        # Along each edge: the point at a fraction of it, the direction that leads away from the surface.
        for length, fixed, along_x in ((cell * (columns - 1), near_y, True), (cell * (rows - 1), near_x, False)):
            side = width if along_x else height

            def point(fraction: float, out: float = 0.0, *, x=along_x, side=side, fixed=fixed) -> QPointF:
                away = fixed + math.copysign(out, fixed)
                if x:
                    return self.to_screen((fraction - 0.5) * side, away, self.base)
                return self.to_screen(away, (0.5 - fraction) * side, self.base)

            painter.drawLine(point(0), point(1))
            screen_length = math.hypot(*(point(1) - point(0)).toTuple())
            count = int(screen_length / 70)
            if count < 1:
                continue
            digits = decimals(round_step(length, count))
            marks = ticks(0.0, length, count)
            for value in marks:
                painter.drawLine(point(value / length), point(value / length, 0.12))
                text = number(value, digits) + (f" {unit}" if value == marks[-1] else "")
                _centred(painter, point(value / length, 0.55), text)

    def _draw_line(self, painter: QPainter) -> None:
        if self.line is None or self.heights is None:
            return
        (row0, column0), (row1, column1) = self.line
        count = max(2, round(math.hypot(row1 - row0, column1 - column0) / self.cell_pixels) + 1)
        highlight = self.palette().color(QPalette.ColorRole.Highlight)
        for pen in (QPen(QColor(0, 0, 0, 150), 3.5), QPen(highlight.lighter(125), 1.8)):
            painter.setPen(pen)
            previous = None
            for row, column in zip(np.linspace(row0, row1, count), np.linspace(column0, column1, count), strict=True):
                current = self._on_surface(row, column)
                if previous is not None and current is not None:
                    painter.drawLine(previous, current)
                previous = current

    def _draw_marker(self, painter: QPainter) -> None:
        point = self._on_surface(*self.marker) if self.marker is not None else None
        if point is None:
            return
        for pen in (QPen(QColor(0, 0, 0, 160), 3.5), QPen(QColor(255, 255, 255), 1.5)):
            painter.setPen(pen)
            painter.drawEllipse(point, 5.0, 5.0)

    # Between pixels of the map, the scene and the screen

    def to_screen(self, x: float, y: float, z: float) -> QPointF:
        """Where a point of the scene lies in the widget."""
        rect = self.rect()
        point = self._matrix().map(QVector4D(x, y, z, 1.0))
        depth = point.w() if abs(point.w()) > 1e-9 else 1e-9
        return QPointF(
            (point.x() / depth + 1) / 2 * rect.width(),
            (1 - point.y() / depth) / 2 * rect.height(),
        )

    def _matrix(self) -> QMatrix4x4:
        viewport = self.getViewport()
        return self.projectionMatrix(viewport, viewport) * self.viewMatrix()

    def _on_surface(self, row: float, column: float) -> QPointF | None:
        """Where pixel (row, column) of the height map is drawn; None in a hole or outside."""
        if self.heights is None:
            return None
        rows, columns = self.heights.shape
        grid_row, grid_column = row / self.cell_pixels, column / self.cell_pixels
        nearest = round(grid_row), round(grid_column)
        if not (0 <= nearest[0] < rows and 0 <= nearest[1] < columns) or np.isnan(self.heights[nearest]):
            return None
        width, height = self.item.extent
        x, y = (grid_column / (columns - 1) - 0.5) * width, (0.5 - grid_row / (rows - 1)) * height
        return self.to_screen(x, y, float(scene_height(self.heights[nearest], self.item.clamp, self.item.lift)))

    def pixel_at(self, position: QPointF) -> Pixel | None:
        """Row and column of the height map seen at ``position``: where the line of sight first meets the surface."""
        if self.heights is None or 0 in self.item.grid_shape:
            return None
        inverse, can_invert = self._matrix().inverted()
        if not can_invert:
            return None
        x = 2 * position.x() / self.width() - 1
        y = 1 - 2 * position.y() / self.height()
        near, far = (
            np.array(inverse.map(QVector3D(x, y, depth)).toTuple(), dtype=np.float64) for depth in (-1.0, 0.999)
        )
        hit = first_hit(near, far, self.heights, self.item.extent, self.item.clamp, self.item.lift)
        return None if hit is None else (float(hit[0] * self.cell_pixels), float(hit[1] * self.cell_pixels))


def _centred(painter: QPainter, center: QPointF, text: str) -> None:
    box = QRectF(center.x() - 60, center.y() - 10, 120, 20)
    painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
