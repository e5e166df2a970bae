"""A picture of the sample: live camera image or a layer of a height map, with scale bar and cursor."""

import math
from typing import Any

import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QHBoxLayout, QWidget

from app.surface.canvas import LARGEST_VIEW, Canvas
from app.surface.colour_bar import ColourBar
from app.surface.layers import (
    CONFIDENCE_MAP,
    UNCERTAINTY_MAP,
    Layer,
    display_range,
    flags_overlay,
    grey_range,
    height_unit,
    layer_picture,
    uncertainty_range,
)
from models.height_map import HeightMap

Pixel = tuple[float, float]


class ImageView(QWidget):
    """Shows one image, y downwards, pixels square. The wheel zooms, dragging moves, a double click shows everything.

    Rows and columns in signals and arguments count pixels; whole numbers are pixel centres.
    """

    cursorMoved = Signal(int, int)
    """Row and column of the pixel under the mouse."""
    cursorLeft = Signal()
    profileLineChanged = Signal(float, float, float, float)
    """Row and column of the start and of the end of the profile line."""
    doubleClicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shape: tuple[int, int] | None = None
        self._pixel_um: float | None = None
        self._height_map: HeightMap | None = None
        self._layer: Layer = "height"
        self._colour_map = "viridis"
        self._height_range: tuple[float, float] | None = None
        self._threshold = 0.0
        self._flags_opacity = 0.0

        self._canvas = Canvas()
        self._box = self._canvas.box
        self._image = pg.ImageItem(axisOrder="row-major")
        self._image.setAutoDownsample(True)
        self._flags = pg.ImageItem(axisOrder="row-major")
        self._flags.setZValue(5)
        self._marker = pg.ScatterPlotItem(
            size=13, pen=pg.mkPen("w", width=1.5), brush=None, pxMode=True, useCache=False
        )
        self._marker.setZValue(30)
        self._box.addItem(self._image, ignoreBounds=True)
        self._box.addItem(self._flags, ignoreBounds=True)
        self._box.addItem(self._marker, ignoreBounds=True)
        self._line: pg.LineSegmentROI | None = None
        self.colour_bar = ColourBar()
        self.colour_bar.hide()

        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._canvas, 1)
        layout.addWidget(self.colour_bar)
        self.setMinimumSize(160, 120)
        self.setFocusProxy(self._canvas)
        self._canvas.moved.connect(self._on_mouse_moved)
        self._canvas.left.connect(self.cursorLeft)
        self._canvas.doubleClicked.connect(self._on_double_click)

    # What is shown

    def set_empty_text(self, text: str) -> None:
        """What to say while there is nothing to show."""
        self._canvas.empty_text = text
        self._canvas.viewport().update()

    def set_image(
        self,
        image: NDArray[Any] | None,
        *,
        pixel_um: float | None = None,
        levels: tuple[float, float] | None = None,
    ) -> None:
        """Show ``image``: (H, W) or (H, W, 3), uint8, uint16 or float; None empties the view.

        ``levels`` are the values shown black and white, by default the whole range in 8 bit and the
        used range otherwise. They are taken as they are: nothing is measured on the image when given.
        """
        self._height_map = None
        self.colour_bar.hide()
        self._flags.setVisible(False)
        if image is None:
            self._set_shape(None, None)
            return
        if levels is None:
            levels = grey_range(image)
        self._image.setImage(image, autoLevels=False, levels=levels)
        self._set_shape((int(image.shape[0]), int(image.shape[1])), pixel_um)

    def set_height_map(self, height_map: HeightMap | None, layer: Layer | None = None) -> None:
        """Show a layer of ``height_map``, the same as before where ``layer`` is None."""
        if layer is not None:
            self._layer = layer
        if height_map is None:
            self.set_image(None)
            return
        self._height_map = height_map
        self._draw_height_map()
        self._set_shape(height_map.shape, height_map.pixel_um)

    def _draw_height_map(self) -> None:
        height_map = self._height_map
        if height_map is None:
            return
        picture = layer_picture(
            height_map,
            self._layer,
            colour_map=self._colour_map,
            height_range=self.height_range,
            threshold=self._threshold,
            missing=self._canvas.missing_colour(),
        )
        self._image.setImage(picture, autoLevels=False, levels=(0, 255))
        if self._layer == "height":
            self.colour_bar.set_colour_map(self._colour_map)
            self.colour_bar.set_range(*self.height_range, height_unit(height_map))
        elif self._layer == "confidence":
            self.colour_bar.set_colour_map(CONFIDENCE_MAP)
            self.colour_bar.set_range(0.0, 1.0, "")
        elif self._layer == "uncertainty":
            self.colour_bar.set_colour_map(UNCERTAINTY_MAP)
            self.colour_bar.set_range(*uncertainty_range(height_map), height_unit(height_map))
        self.colour_bar.setVisible(self._layer in ("height", "confidence", "uncertainty"))
        self._draw_flags()

    def _draw_flags(self) -> None:
        is_shown = self._height_map is not None and self._flags_opacity > 0 and self._layer != "flags"
        if is_shown:
            self._flags.setImage(flags_overlay(self._height_map), autoLevels=False)
            self._flags.setOpacity(self._flags_opacity)
        self._flags.setVisible(is_shown)

    def _set_shape(self, shape: tuple[int, int] | None, pixel_um: float | None) -> None:
        is_new = shape != self._shape
        self._shape, self._pixel_um = shape, pixel_um
        self._image.setVisible(shape is not None)
        if self._line is not None:
            self._line.setVisible(shape is not None)
        if is_new and shape is not None:
            rows, columns = shape
            self._box.largest = LARGEST_VIEW * max(rows, columns)
            # Some of the image always stays in view.
            self._box.setLimits(xMin=-2 * columns, xMax=3 * columns, yMin=-2 * rows, yMax=3 * rows)
            self.show_all()
        self._canvas.scale_unit = None if shape is None else self.scale()
        self._canvas.viewport().update()

    # Properties of the layers

    def set_display(
        self,
        *,
        colour_map: str,
        height_range: tuple[float, float] | None,
        threshold: float,
        flags_opacity: float,
    ) -> None:
        """Set the properties below at once; the picture is drawn anew only where it changes."""
        before = (self._colour_map, self._height_range, self._threshold)
        self._colour_map, self._height_range, self._threshold = colour_map, height_range, threshold
        self._flags_opacity = flags_opacity
        if before != (colour_map, height_range, threshold):
            self._draw_height_map()
        else:
            self._draw_flags()

    @property
    def layer(self) -> Layer:
        return self._layer

    @layer.setter
    def layer(self, layer: Layer) -> None:
        self._layer = layer
        self._draw_height_map()

    @property
    def colour_map(self) -> str:
        return self._colour_map

    @property
    def height_range(self) -> tuple[float, float]:
        """Heights at the ends of the colour map as drawn. None in :meth:`set_display` is the automatic choice."""
        if self._height_range is not None:
            return self._height_range
        return (0.0, 1.0) if self._height_map is None else display_range(self._height_map.height_um)

    @property
    def threshold(self) -> float:
        """Pixels with less confidence are shown as missing."""
        return self._threshold

    @property
    def flags_opacity(self) -> float:
        """Opacity of the amber over pixels that are not to be trusted, 0 to 1."""
        return self._flags_opacity

    # Zoom

    def show_all(self) -> None:
        """Zoom so that the whole image is in view."""
        if self._shape is not None:
            rows, columns = self._shape
            self._box.setRange(QRectF(0, 0, columns, rows), padding=0.02, disableAutoRange=True)

    def visible_rect(self) -> QRectF:
        """The part in view: columns and rows from the upper left corner of the first pixel."""
        return self._box.viewRect()

    # Cursor, marker and profile line

    def pixel_at(self, position: QPointF) -> tuple[int, int] | None:
        """Row and column of the pixel at ``position`` in this widget; None outside the image."""
        if self._shape is None:
            return None
        point = self._box.mapSceneToView(self._canvas.mapToScene(self._canvas.mapFrom(self, position.toPoint())))
        row, column = math.floor(point.y()), math.floor(point.x())
        return (row, column) if 0 <= row < self._shape[0] and 0 <= column < self._shape[1] else None

    def position_of(self, row: float, column: float) -> QPointF:
        """Where the centre of a pixel lies in this widget."""
        scene = self._box.mapViewToScene(QPointF(column + 0.5, row + 0.5))
        return QPointF(self._canvas.mapTo(self, self._canvas.mapFromScene(scene)))

    def set_marker(self, pixel: Pixel | None) -> None:
        """Ring around pixel (row, column); None removes it."""
        if pixel is None:
            self._marker.clear()
        else:
            self._marker.setData([pixel[1] + 0.5], [pixel[0] + 0.5])

    def set_profile_line(self, line: tuple[Pixel, Pixel] | None) -> None:
        """Show a line with two handles from one (row, column) to another; None removes it."""
        if self._line is not None:
            self._box.removeItem(self._line)
            self._line = None
        if line is None:
            return
        ends = [(column + 0.5, row + 0.5) for row, column in line]
        highlight = self.palette().color(QPalette.ColorRole.Highlight)
        self._line = pg.LineSegmentROI(
            ends,
            pen=pg.mkPen(highlight, width=3),
            hoverPen=pg.mkPen("w", width=2),
            handlePen=pg.mkPen("w", width=1.5),
            handleHoverPen=pg.mkPen(highlight, width=2),
        )
        self._line.setZValue(20)
        self._box.addItem(self._line, ignoreBounds=True)
        self._line.sigRegionChanged.connect(self._on_line_moved)

    def profile_line(self) -> tuple[Pixel, Pixel] | None:
        """Start and end as (row, column); None where there is no line."""
        if self._line is None:
            return None
        start, end = (self._line.mapToParent(point) for _name, point in self._line.getLocalHandlePositions())
        return (start.y() - 0.5, start.x() - 0.5), (end.y() - 0.5, end.x() - 0.5)

    def _on_line_moved(self) -> None:
        line = self.profile_line()
        if line is not None:
            self.profileLineChanged.emit(*line[0], *line[1])

    def _on_mouse_moved(self, position: QPointF) -> None:
        pixel = self.pixel_at(QPointF(self._canvas.mapTo(self, position.toPoint())))
        if pixel is None:
            self.cursorLeft.emit()
        else:
            self.cursorMoved.emit(*pixel)

    def _on_double_click(self) -> None:
        self.show_all()
        self.doubleClicked.emit()

    def scale(self) -> tuple[float, str]:
        """Size of a pixel and its unit: micrometres where known, else pixels."""
        return (self._pixel_um, "µm") if self._pixel_um is not None else (1.0, "px")

    def screen_pixels_per_pixel(self) -> float:
        return self._canvas.screen_pixels_per_pixel()
