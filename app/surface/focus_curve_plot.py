"""The focus curve of one pixel: why the pixel got its height."""

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QTimer
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from app.surface.plot import Plot
from app.workers import Worker
from models.focal_stack import FocalStack
from models.language import _
from models.methods import ReconstructionOptions
from models.reconstruct import focus_curve

REST_MS = 60
"""The mouse has to rest so long on a pixel before its curve is computed: that reads every frame."""


class FocusCurvePlot(QWidget):
    """Focus measure over height, with the height that came out of it marked.

    Computed in a thread of its own; while one curve is under way only the newest request is kept.
    """

    _is_built = False

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._stack: FocalStack | None = None
        self._options = ReconstructionOptions()
        self._wanted: tuple[int, int] | None = None
        self._running: tuple[int, int] | None = None
        self._heights: dict[tuple[int, int], float] = {}
        self._plot = Plot()
        self._curve = self._plot.plot(symbolSize=4)
        self._peak = pg.InfiniteLine(angle=90, movable=False)
        self._peak.hide()
        self._plot.addItem(self._peak, ignoreBounds=True)
        self._plot.getAxis("left").setStyle(showValues=False)
        self._title = QLabel()
        self._title.setContentsMargins(10, 9, 10, 8)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._title)
        layout.addWidget(self._plot, 1)
        self._rest = QTimer(self, singleShot=True, interval=REST_MS)
        self._rest.timeout.connect(self._start)
        worker = Worker("focus curve")
        worker.failed.connect(self._on_failed)
        self._worker = worker
        self.destroyed.connect(lambda *_arguments: worker.close())
        self._is_built = True
        self._apply_palette()
        self.clear()

    def set_stack(self, stack: FocalStack | None, options: ReconstructionOptions) -> None:
        """Where the curves come from: the stack and the method that made the map."""
        self._stack, self._options = stack, options
        self.clear()

    def set_pixel(self, row: int, column: int, height: float) -> None:
        """Show the curve of a pixel soon; ``height`` is what the map says there, NaN for nothing."""
        if self._stack is None:
            return
        rows, columns = self._stack.image_shape
        if not (0 <= row < rows and 0 <= column < columns):
            return
        self._wanted = (row, column)
        self._heights = {(row, column): height, **{k: v for k, v in self._heights.items() if k == self._running}}
        if self._running is None:
            self._rest.start()

    def clear(self) -> None:
        self._wanted = None
        self._rest.stop()
        self._blank()
        self._title.setText(
            _("Focus curve: point at a pixel")
            if self._stack is not None
            else _("Focus curve: needs the stack of this height map")
        )

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Heights and focus measure as drawn, (N,) each; empty while nothing is shown."""
        z, measure = self._curve.getData()
        return (np.empty(0), np.empty(0)) if z is None else (z, measure)

    def peak(self) -> float | None:
        """The marked height."""
        return float(self._peak.value()) if self._peak.isVisible() else None

    def close_thread(self) -> None:
        """End the thread; nothing is drawn any more."""
        self._worker.close()

    def _start(self) -> None:
        pixel, stack, options = self._wanted, self._stack, self._options
        if pixel is None or stack is None or pixel == self._running:
            return
        self._running = pixel
        self._worker.submit(
            _("Focus curve"),
            lambda _progress, _cancel: focus_curve(stack, *pixel, options),
            lambda curve: self._show(stack, pixel, curve),
        )

    def _show(self, stack: FocalStack, pixel: tuple[int, int], curve: NDArray[np.float32]) -> None:
        self._running = None
        if stack is self._stack and self._wanted is not None:
            order = np.argsort(stack.z_um)
            self._curve.setData(stack.z_um[order], curve[order])
            self._plot.set_blank(False)
            self._plot.set_labels(
                _("Height ({unit})").format(unit="µm" if stack.z_unit == "um" else _("frames")), _("Focus")
            )
            height = self._heights.get(pixel, float("nan"))
            self._peak.setVisible(bool(np.isfinite(height)))
            if np.isfinite(height):
                self._peak.setPos(height)
            self._title.setText(_("Focus curve of row {row}, column {column}").format(row=pixel[0], column=pixel[1]))
        if self._wanted != pixel:
            self._start()

    def _on_failed(self, error: Exception) -> None:
        self._running = None
        self._blank()
        self._title.setText(_("No focus curve: {reason}").format(reason=error))

    def _blank(self) -> None:
        self._curve.setData([], [])
        self._peak.hide()
        self._plot.set_blank(True)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if self._is_built and event.type() == QEvent.Type.PaletteChange:
            self._apply_palette()

    def _apply_palette(self) -> None:
        self._curve.setPen(pg.mkPen(self._plot.ink(0.8), width=1.4))
        self._curve.setSymbol("o")
        self._curve.setSymbolBrush(self._plot.ink(0.8))
        self._curve.setSymbolPen(None)
        self._peak.setPen(pg.mkPen(self._plot.accent().lighter(115), width=2))
