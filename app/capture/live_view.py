"""The live image with its histogram strip and sharpness."""

from collections import deque

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QObject, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF, QWheelEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.capture.picture import LivePicture
from app.status_line import Reading
from app.surface.image_view import ImageView
from app.theme import current, set_role
from models.language import _

SHARPNESS_MEMORY = 120
CLIPPED_SHARE = 0.001


class LiveView(QWidget):
    """``stepped``: the wheel was turned over the image with Ctrl held, +1 up, -1 down."""

    stepped = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.image = ImageView()
        self.image.set_empty_text("")
        self.histogram = HistogramStrip()
        self.sharpness = SharpnessStrip()
        self._readout = Reading(
            _("sharpness {value}").format(value="8888.8"), _("Energy of fine detail; largest in focus")
        )
        self._clipped = QLabel()
        foot = QWidget()
        set_role(foot, "panel")
        foot.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        row = QHBoxLayout(foot)
        row.setContentsMargins(10, 6, 10, 6)
        row.setSpacing(12)
        row.addWidget(self.histogram, 3)
        row.addWidget(self._clipped)
        row.addWidget(self.sharpness, 1)
        row.addWidget(self._readout)
        foot.setFixedHeight(58)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.image, 1)
        column.addWidget(foot)
        self.picture: LivePicture | None = None
        self.image.focusProxy().viewport().installEventFilter(self)

    def show_picture(self, picture: LivePicture, pixel_um: float | None) -> None:
        self.picture = picture
        self.image.set_image(picture.image, pixel_um=pixel_um, levels=picture.levels)
        self.histogram.show_histogram(picture.histogram, picture.levels, picture.white)
        self.sharpness.add(picture.sharpness)
        self._readout.setText(_("sharpness {value}").format(value=f"{picture.sharpness:.1f}"))
        clipped = picture.clipped > CLIPPED_SHARE
        self._clipped.setText(_("{share:.1f} % too bright").format(share=100 * picture.clipped) if clipped else "")
        set_role(self._clipped, "amber")

    def clear(self) -> None:
        self.picture = None
        self.image.set_image(None)
        self.histogram.show_histogram(None, (0, 0), 255)
        self.sharpness.clear()
        self._readout.setText("")
        self._clipped.setText("")

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        # The image takes the wheel for its zoom; with Ctrl held it moves the stage instead.
        if isinstance(event, QWheelEvent) and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            if event.angleDelta().y():
                self.stepped.emit(1 if event.angleDelta().y() > 0 else -1)
            return True
        return super().eventFilter(watched, event)


class HistogramStrip(QWidget):
    """Share of the pixels by brightness, with the black and white point of the display."""

    def __init__(self) -> None:
        super().__init__()
        self._histogram: NDArray[np.float64] | None = None
        self._levels, self._white = (0.0, 255.0), 255
        self.setToolTip(_("How many pixels have which brightness; the lines are black and white of the display"))

    def show_histogram(self, histogram: NDArray[np.float64] | None, levels: tuple[float, float], white: int) -> None:
        self._histogram, self._levels, self._white = histogram, levels, white
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = current()
        painter, area = _framed(self)
        if self._histogram is None:
            return
        # The square root keeps rare grey values visible beside a large even area.
        heights = np.sqrt(self._histogram / max(float(self._histogram[1:-1].max(initial=0.0)), 1e-9)).clip(0, 1)
        x = np.linspace(area.left(), area.right(), heights.size)
        y = area.bottom() - heights * (area.height() - 3)
        outline = [QPointF(area.left(), area.bottom()), *map(QPointF, x, y), QPointF(area.right(), area.bottom())]
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.quiet))
        painter.drawPolygon(QPolygonF(outline))
        if self._histogram[-1] > CLIPPED_SHARE:
            painter.fillRect(QRectF(area.right() - 3, area.top(), 3, area.height()), QColor(theme.amber))
        painter.setPen(QPen(QColor(theme.text), 1))
        for level in self._levels:
            at = area.left() + level / self._white * area.width()
            painter.drawLine(QPointF(at, area.top()), QPointF(at, area.bottom()))


class SharpnessStrip(QWidget):
    """The last few seconds of sharpness: turn the focus and watch for the top of the hill."""

    def __init__(self) -> None:
        super().__init__()
        self._values: deque[float] = deque(maxlen=SHARPNESS_MEMORY)
        self.setMinimumWidth(90)
        self.setToolTip(_("Sharpness over the last pictures"))

    def add(self, value: float) -> None:
        self._values.append(value)
        self.update()

    def clear(self) -> None:
        self._values.clear()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = current()
        painter, area = _framed(self)
        if len(self._values) < 2:
            return
        values = np.asarray(self._values)
        x = np.linspace(area.left(), area.right(), SHARPNESS_MEMORY)[-values.size :]
        y = area.bottom() - 5 - values / max(float(values.max()), 1e-9) * (area.height() - 10)
        painter.setPen(QPen(QColor(theme.text), 1.4))
        painter.drawPolyline(QPolygonF([*map(QPointF, x, y)]))


def _framed(strip: QWidget) -> tuple[QPainter, QRectF]:
    """A painter on ``strip`` with its rounded frame drawn, and the area inside."""
    theme = current()
    painter = QPainter(strip)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    area = QRectF(strip.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
    painter.setPen(QPen(QColor(theme.border), 1))
    painter.setBrush(QColor(theme.field))
    painter.drawRoundedRect(area, 3, 3)
    return painter, area
