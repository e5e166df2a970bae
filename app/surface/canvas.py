"""What an image view is painted on: a zooming box with the scale bar and the text of the empty state over it."""

import math
from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPalette

from app.surface.ticks import decimals, number, round_step

MARGIN = 14
SMALLEST_PIXELS = 8
"""How many pixels of the image stay in view when zooming in."""
LARGEST_VIEW = 3.0
"""How many times the larger side of the image comes into view when zooming out."""


class Box(pg.ViewBox):
    """Zooms with the wheel around the pixel under the mouse, and stops at the limits.

    The limits of pyqtgraph's own box do not stop the zoom but push the picture sideways.
    """

    largest = math.inf

    def wheelEvent(self, event: Any, axis: int | None = None) -> None:
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            event.ignore()  # left to whoever holds the view: the stage listens to it
            return
        visible = self.viewRect()
        smaller, larger = sorted((visible.width(), visible.height()))
        factor = 1.02 ** (-event.delta() / 8)
        factor = min(max(factor, min(1.0, SMALLEST_PIXELS / smaller)), max(1.0, self.largest / larger))
        if factor != 1.0:
            self.scaleBy((factor, factor), center=self.mapToView(event.pos()))
        event.accept()


class Canvas(pg.GraphicsView):
    """The graphics view of one :class:`Box`. ``moved``: where the mouse is in this widget, no button held."""

    moved = Signal(QPointF)
    left = Signal()
    doubleClicked = Signal()

    def __init__(self) -> None:
        super().__init__(background=None)
        self.box = Box(invertY=True, lockAspect=1.0, enableMenu=False, border=None, defaultPadding=0.0)
        self.setCentralItem(self.box)
        self.empty_text = ""
        self.scale_unit: tuple[float, str] | None = None
        """Size of a pixel and its unit; None while there is no picture."""
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self._apply_palette()

    def screen_pixels_per_pixel(self) -> float:
        width = self.box.viewRect().width()
        return float(self.box.width() / width) if width > 0 else 1.0

    def missing_colour(self) -> tuple[int, int, int]:
        """Colour of holes: between the background and the text, so that a hole is seen as one in both themes."""
        base, text = (self.palette().color(role) for role in (QPalette.ColorRole.Base, QPalette.ColorRole.Text))
        mixed = [round(0.85 * b + 0.15 * t) for b, t in zip(base.getRgb()[:3], text.getRgb()[:3], strict=True)]
        return mixed[0], mixed[1], mixed[2]

    def _apply_palette(self) -> None:
        self.setBackground(self.palette().color(QPalette.ColorRole.Base))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._apply_palette()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        super().mouseMoveEvent(event)
        if event.buttons() == Qt.MouseButton.NoButton:
            self.moved.emit(event.position())

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        super().mouseDoubleClickEvent(event)
        self.doubleClicked.emit()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.left.emit()

    def drawForeground(self, painter: QPainter, rect: QRectF) -> None:
        painter.save()
        painter.resetTransform()
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.TextAntialiasing)
        if self.scale_unit is None:
            quiet = QColor(self.palette().color(QPalette.ColorRole.Text))
            quiet.setAlphaF(0.65)
            painter.setPen(quiet)
            box = QRectF(self.viewport().rect()).adjusted(24, 24, -24, -24)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self.empty_text)
        else:
            self._draw_scale_bar(painter, *self.scale_unit)
        painter.restore()

    def _draw_scale_bar(self, painter: QPainter, pixel: float, unit: str) -> None:
        per_screen_pixel = pixel / max(self.screen_pixels_per_pixel(), 1e-9)
        viewport = self.viewport().rect()
        length = round_step(per_screen_pixel * min(viewport.width() * 0.28, 180.0), 1)
        if length / per_screen_pixel > viewport.width() * 0.4:
            length = round_step(length * 0.45, 1)
        width = length / per_screen_pixel
        text = f"{number(length, decimals(length))} {unit}"
        text_width = painter.fontMetrics().horizontalAdvance(text)
        line = painter.fontMetrics().height()
        plate = QRectF(0, 0, max(width, text_width) + 20, line + 18)
        plate.moveBottomLeft(QPointF(MARGIN, viewport.height() - MARGIN))
        # A plate of its own: the bar must be readable on any picture.
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(0, 0, 0, 150))
        painter.drawRoundedRect(plate, 4, 4)
        painter.setPen(QColor(255, 255, 255))
        painter.drawText(plate.adjusted(0, 3, 0, 0), Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop, text)
        painter.fillRect(QRectF(plate.center().x() - width / 2, plate.bottom() - 9, width, 3), QColor(255, 255, 255))
