"""The vertical scale: where the plane in focus is between its limits, where it goes, and where the stack lies."""

import math

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF, QWheelEvent
from PySide6.QtWidgets import QWidget

from app.status_line import number
from app.theme import current, tabular
from models.language import _

OVERVIEW_WIDTH = 8
MARGIN = 12
LABEL_HEIGHT = 17
LEAST_SPAN_UM = 100.0
"""The position and the stack are seen at least this closely, however long the travel."""


class ZScale(QWidget):
    """Left a thin bar with the whole travel, right of it the part that matters, enlarged.

    The wheel asks for steps (``stepped``: +1 up, -1 down), a double click for a height (``heightChosen``).
    """

    stepped = Signal(int)
    heightChosen = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(150)
        self.setMinimumWidth(150)
        self.setToolTip(_("Wheel: one step. Double click: go there."))
        self._limits: tuple[float, float] | None = None
        self._z_um: float | None = None
        self._target_um: float | None = None
        self._top_um: float | None = None
        self._bottom_um: float | None = None
        self._window: tuple[float, float] | None = None
        self._turned = 0

    def sizeHint(self) -> QSize:
        return QSize(170, 190)

    def show_limits(self, limits_um: tuple[float, float] | None) -> None:
        self._limits, self._window = limits_um, None
        self.update()

    def show_position(self, z_um: float | None, target_um: float | None) -> None:
        if (z_um, target_um) != (self._z_um, self._target_um):
            self._z_um, self._target_um = z_um, target_um
            self.update()

    def show_stack(self, top_um: float | None, bottom_um: float | None) -> None:
        self._top_um, self._bottom_um, self._window = top_um, bottom_um, None
        self.update()

    def window_um(self) -> tuple[float, float]:
        """(lowest, highest) height of the enlarged part; it stays until it is too small or far too large."""
        low, high = self._limits or (-100.0, 100.0)
        shown = [z for z in (self._z_um, self._target_um, self._top_um, self._bottom_um) if z is not None]
        if not shown:
            return low, high
        span = max(max(shown) - min(shown), min(LEAST_SPAN_UM, 0.06 * (high - low)))
        if self._window is not None:
            bottom, top = self._window
            is_lost = self._target_um is None and top - bottom > 3 * span  # after a long way, at rest
            if bottom <= min(shown) and max(shown) <= top and not is_lost:
                return self._window
        middle = (max(shown) + min(shown)) / 2
        room, edge = 0.75 * span, 0.05 * span
        self._window = (  # what lies beyond a limit, as before homing, is seen as well
            max(min(low, *shown) - edge, middle - room),
            min(max(high, *shown) + edge, middle + room),
        )
        return self._window

    def _y(self, z_um: float) -> float:
        low, high = self.window_um()
        return MARGIN + (high - z_um) / (high - low) * (self.height() - 2 * MARGIN)

    def height_at(self, y: float) -> float:
        """The height at a place of the widget, within the limits."""
        low, high = self.window_um()
        z_um = high - (y - MARGIN) / (self.height() - 2 * MARGIN) * (high - low)
        if self._limits:
            z_um = min(max(z_um, self._limits[0]), self._limits[1])
        return z_um

    # --- input

    def wheelEvent(self, event: QWheelEvent) -> None:
        self._turned += event.angleDelta().y()
        steps = int(self._turned / 120)
        self._turned -= steps * 120
        if steps:
            self.stepped.emit(1 if steps > 0 else -1)
        event.accept()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._limits is not None:
            self.heightChosen.emit(self.height_at(event.position().y()))

    # --- drawing

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(tabular(self.font()))
        self._paint_overview(painter)
        axis_x = OVERVIEW_WIDTH + 18.0
        painter.setPen(QPen(QColor(theme.border), 1))
        painter.drawLine(QPointF(axis_x, MARGIN), QPointF(axis_x, self.height() - MARGIN))
        if self._limits is None:
            painter.setPen(QColor(theme.disabled))
            painter.drawText(self.rect().adjusted(40, 0, 0, 0), Qt.AlignmentFlag.AlignCenter, _("not connected"))
            return
        self._paint_ticks(painter, axis_x)
        self._paint_stack(painter, axis_x)
        self._paint_limits(painter, axis_x)
        self._paint_position(painter, axis_x)

    def _paint_overview(self, painter: QPainter) -> None:
        theme = current()
        full = QRectF(0.5, MARGIN, OVERVIEW_WIDTH, self.height() - 2 * MARGIN)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.field))
        painter.drawRoundedRect(full, 3, 3)
        if self._limits is None:
            return
        low, high = self._limits

        def y(z_um: float) -> float:
            return full.top() + (high - min(max(z_um, low), high)) / (high - low) * full.height()

        bottom, top = self.window_um()
        painter.setBrush(QColor(theme.border))
        painter.drawRoundedRect(QRectF(full.left(), y(top), full.width(), max(3.0, y(bottom) - y(top))), 3, 3)
        if self._z_um is not None:
            painter.setBrush(QColor(theme.text))
            painter.drawRect(QRectF(full.left(), y(self._z_um) - 1, full.width(), 2))

    def _paint_ticks(self, painter: QPainter, axis_x: float) -> None:
        theme = current()
        low, high = self.window_um()
        step = nice_step((high - low) / 5)
        painter.setPen(QColor(theme.quiet))
        first = math.ceil(max(low, self._limits[0] if self._limits else low) / step)
        last = math.floor(min(high, self._limits[1] if self._limits else high) / step)
        for index in range(first, last + 1):
            y = self._y(index * step)
            painter.drawLine(QPointF(axis_x - 4, y), QPointF(axis_x, y))
            if self._z_um is None or abs(y - self._y(self._z_um)) > LABEL_HEIGHT:
                digits = max(0, -math.floor(math.log10(step)))
                box = QRectF(axis_x + 26, y - 8, self.width() - axis_x - 28, 16)
                painter.drawText(
                    box, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, number(index * step, digits)
                )

    def _paint_stack(self, painter: QPainter, axis_x: float) -> None:
        theme = current()
        accent = QColor(theme.accent)
        painter.setPen(QPen(accent, 2))
        written = [] if self._z_um is None else [self._y(self._z_um)]
        for z_um, letter in ((self._top_um, _("top")), (self._bottom_um, _("bottom"))):
            if z_um is None:
                continue
            y = self._y(z_um)
            painter.drawLine(QPointF(axis_x, y), QPointF(axis_x + 16, y))
            if all(abs(y - other) > LABEL_HEIGHT for other in written):
                painter.drawText(QPointF(axis_x + 20, y + 4), letter)
                written.append(y)
        if self._top_um is not None and self._bottom_um is not None:
            accent.setAlpha(70)
            area = QRectF(axis_x, self._y(self._top_um), 12, self._y(self._bottom_um) - self._y(self._top_um))
            painter.fillRect(area.normalized(), accent)

    def _paint_limits(self, painter: QPainter, axis_x: float) -> None:
        assert self._limits is not None
        low, high = self.window_um()
        painter.setPen(QPen(QColor(current().red), 2))
        for limit_um in self._limits:
            if low <= limit_um <= high:
                y = self._y(limit_um)
                painter.drawLine(QPointF(axis_x - 6, y), QPointF(axis_x + 6, y))

    def _paint_position(self, painter: QPainter, axis_x: float) -> None:
        theme = current()
        if self._target_um is not None:
            y = self._y(self._target_um)
            painter.setPen(QPen(QColor(theme.text), 1.2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawEllipse(QPointF(axis_x, y), 4, 4)
        if self._z_um is None:
            return
        y = self._y(self._z_um)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.text))
        painter.drawPolygon(
            QPolygonF([QPointF(axis_x + 1, y), QPointF(axis_x + 10, y - 6), QPointF(axis_x + 10, y + 6)])
        )
        box = QRectF(axis_x + 14, y - 10, self.width() - axis_x - 16, 20)
        painter.setBrush(QColor(theme.raised))
        painter.drawRoundedRect(box, 4, 4)
        painter.setPen(QColor(theme.text))
        inside = box.adjusted(6, 0, -6, 0)
        painter.drawText(
            inside, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, f"{number(self._z_um, 2)} µm"
        )


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
