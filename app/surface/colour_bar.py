"""The colour bar beside a picture: which colour means which height."""

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.surface.ticks import decimals, number, round_step, ticks
from models.colour_maps import lut

BAR_WIDTH = 12
GAP = 6


class ColourBar(QWidget):
    """A vertical bar from ``low`` (bottom) to ``high`` (top) with round ticks and the unit above it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._high = 0.0, 1.0
        self._unit = ""
        self._colour_map = ""
        self._image = QImage()
        self.set_colour_map("viridis")
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Expanding)

    def set_colour_map(self, name: str) -> None:
        if name == self._colour_map:
            return
        self._colour_map = name
        # One pixel wide, the largest value first because y grows downwards.
        column = lut(name)[::-1, None, :].copy()
        self._image = QImage(column.tobytes(), 1, 256, 3, QImage.Format.Format_RGB888).copy()
        self.update()

    def set_range(self, low: float, high: float, unit: str) -> None:
        if (low, high, unit) == (self._low, self._high, self._unit):
            return
        self._low, self._high, self._unit = low, high, unit
        self.setToolTip(f"{low:.4g} … {high:.4g} {unit}")
        self.update()

    def range(self) -> tuple[float, float]:
        """(low, high) in the unit of the bar."""
        return self._low, self._high

    def unit(self) -> str:
        return self._unit

    def sizeHint(self) -> QSize:
        # Room for a sign, four digits and a point: the picture beside it must not jump when digits change.
        return QSize(BAR_WIDTH + 3 * GAP + self.fontMetrics().horizontalAdvance("−0000.0"), 120)

    def minimumSizeHint(self) -> QSize:
        return QSize(self.sizeHint().width(), 60)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        palette = self.palette()
        painter.fillRect(self.rect(), palette.base())
        metrics = self.fontMetrics()
        line = metrics.height()
        bar = QRectF(GAP, line + 2 * GAP, BAR_WIDTH, max(1, self.height() - 2 * line - 2 * GAP))
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(bar, self._image)

        text_colour = palette.text().color()
        painter.setPen(text_colour)
        painter.drawText(QRectF(GAP, GAP / 2, self.width() - GAP, line), Qt.AlignmentFlag.AlignLeft, self._unit)
        if not self._high > self._low:
            return
        count = max(2, int(bar.height() / (3.0 * line)))
        digits = decimals(round_step(self._high - self._low, count))
        for value in ticks(self._low, self._high, count):
            y = bar.bottom() - (value - self._low) / (self._high - self._low) * bar.height()
            painter.drawLine(int(bar.right() + 1), round(y), int(bar.right() + 4), round(y))
            box = QRectF(bar.right() + GAP + 2, y - line / 2, self.width(), line)
            painter.drawText(box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, number(value, digits))
