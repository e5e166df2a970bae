"""A pyqtgraph plot in the colours of the application."""

import pyqtgraph as pg
from PySide6.QtCore import QEvent, Signal
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QWidget


class Plot(pg.PlotWidget):
    """Axes left and below, a faint grid, no menus; follows the palette. ``moved``: x under the mouse."""

    moved = Signal(float)
    left = Signal()
    _is_built = False
    """Qt sends change events while the base class is still being built."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, background=None)
        item = self.getPlotItem()
        item.hideButtons()
        item.layout.setContentsMargins(4, 4, 14, 6)
        item.setMenuEnabled(False)
        self.setMouseEnabled(x=False, y=False)
        self.cursor_line = pg.InfiniteLine(angle=90, movable=False)
        self.cursor_line.setZValue(10)
        self.cursor_line.hide()
        self.addItem(self.cursor_line, ignoreBounds=True)
        self.scene().sigMouseMoved.connect(self._on_moved)
        self.setMinimumSize(120, 80)
        self._is_built = True
        self.apply_palette()

    def set_blank(self, blank: bool) -> None:
        """Without data there are no axes either: their numbers would mean nothing."""
        for side in ("left", "bottom"):
            self.getAxis(side).setVisible(not blank)
        self.getPlotItem().showGrid(x=not blank, y=not blank, alpha=0.12)

    def ink(self, alpha: float = 1.0) -> QColor:
        """The colour of text, more or less transparent."""
        colour = QColor(self.palette().color(QPalette.ColorRole.Text))
        colour.setAlphaF(alpha)
        return colour

    def accent(self) -> QColor:
        return self.palette().color(QPalette.ColorRole.Highlight)

    def set_labels(self, below: str, left: str) -> None:
        for side, text in (("bottom", below), ("left", left)):
            # Units stand in the text: pyqtgraph would turn "µm" into "mµm" and the like.
            self.getAxis(side).enableAutoSIPrefix(False)
            self.getAxis(side).setLabel(text)

    def apply_palette(self) -> None:
        self.setBackground(self.palette().color(QPalette.ColorRole.Base))
        for side in ("left", "bottom"):
            axis = self.getAxis(side)
            axis.setPen(self.ink(0.35))
            axis.setTextPen(self.ink(0.75))
            axis.setTickFont(self.font())
        self.cursor_line.setPen(pg.mkPen(self.ink(0.6), width=1))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if self._is_built and event.type() == QEvent.Type.PaletteChange:
            self.apply_palette()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.left.emit()

    def _on_moved(self, position) -> None:
        box = self.getViewBox()
        if box.sceneBoundingRect().contains(position):
            self.moved.emit(box.mapSceneToView(position).x())
