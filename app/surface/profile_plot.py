"""The height profile along the line drawn in the image."""

from pathlib import Path

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from app.dialogs import ask_where_to_save
from app.surface.plot import Plot
from app.surface.profile import Profile, write_csv
from app.surface.ticks import number
from app.theme import set_role, tabular
from models.errors import OutputError
from models.language import _


class ProfilePlot(QWidget):
    """Shows a profile; moving over it emits the pixel of the map that belongs to it."""

    cursorMoved = Signal(float, float)
    """Row and column of the profile point under the mouse."""
    cursorLeft = Signal()
    failed = Signal(object)
    """An OutputError of the export."""
    _is_built = False

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._profile: Profile | None = None
        self._plot = Plot()
        self._curve = self._plot.plot(connect="finite")
        self._point = pg.ScatterPlotItem(size=8, pxMode=True)
        self._plot.addItem(self._point, ignoreBounds=True)
        self._title = QLabel(_("Profile"))
        self._summary = QLabel()
        self._summary.setFont(tabular(self._summary.font()))
        set_role(self._summary, "hint")
        self._export = QPushButton(_("Save CSV…"))
        self._export.setToolTip(_("Write distance and height of every point of the line into a file"))
        self._export.clicked.connect(self._ask_and_export)
        top = QHBoxLayout()
        top.setContentsMargins(10, 4, 10, 4)
        top.addWidget(self._title)
        top.addSpacing(12)
        top.addWidget(self._summary, 1)
        top.addSpacing(8)
        top.addWidget(self._export)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(top)
        layout.addWidget(self._plot, 1)
        self._plot.moved.connect(self._on_moved)
        self._plot.left.connect(self._on_left)
        self._is_built = True
        self._apply_palette()
        self.set_profile(None)

    def profile(self) -> Profile | None:
        return self._profile

    def set_profile(self, profile: Profile | None) -> None:
        """Draw ``profile``; gaps stay open. None empties the plot."""
        self._profile = profile
        self._export.setEnabled(profile is not None)
        self._plot.set_blank(profile is None)
        if profile is None:
            self._curve.setData([], [])
            self._summary.setText("")
            self._on_left()
            return
        along = "µm" if profile.distance_unit == "um" else "px"
        up = "µm" if profile.height_unit == "um" else _("frames")
        self._plot.set_labels(
            _("Distance ({unit})").format(unit=along),
            _("Height ({unit})").format(unit=up),
        )
        self._curve.setData(profile.distance, profile.height)
        self._plot.setXRange(0.0, float(profile.distance[-1]) or 1.0, padding=0.01)
        self._plot.enableAutoRange(axis="y")
        self._summarise()

    def set_cursor(self, index: int | None) -> None:
        """Mark point ``index`` of the profile; None removes the mark."""
        profile = self._profile
        if profile is None or index is None:
            self._plot.cursor_line.hide()
            self._point.clear()
            if profile is not None:
                self._summarise()
            return
        distance, height = float(profile.distance[index]), float(profile.height[index])
        self._plot.cursor_line.setPos(distance)
        self._plot.cursor_line.show()
        if np.isnan(height):
            self._point.clear()
        else:
            self._point.setData([distance], [height])
        self._summarise(index)

    def _summarise(self, index: int | None = None) -> None:
        """In words: under the cursor, or over the whole line."""
        profile = self._profile
        if profile is None:
            return
        along = "µm" if profile.distance_unit == "um" else "px"
        up = "µm" if profile.height_unit == "um" else _("frames")
        if index is not None:
            height = float(profile.height[index])
            self._summary.setText(
                _("at {distance} {along}: {height} {up}").format(
                    distance=number(float(profile.distance[index]), 2),
                    along=along,
                    height="–" if np.isnan(height) else number(height, 3),
                    up=up,
                )
            )
            return
        finite = profile.height[np.isfinite(profile.height)]
        span = number(float(np.ptp(finite)), 2) if finite.size else "–"
        self._summary.setText(
            _("length {length} {along}   peak to valley {span} {up}").format(
                length=number(float(profile.distance[-1]), 1), along=along, span=span, up=up
            )
        )

    def _on_moved(self, distance: float) -> None:
        profile = self._profile
        if profile is None:
            return
        index = int(np.argmin(np.abs(profile.distance - distance)))
        self.set_cursor(index)
        self.cursorMoved.emit(float(profile.row[index]), float(profile.column[index]))

    def _on_left(self) -> None:
        self.set_cursor(None)
        self.cursorLeft.emit()

    def _ask_and_export(self) -> None:
        start = Path("profile.csv")
        path = ask_where_to_save(self, _("Save profile"), start, _("Table (*.csv)"), (".csv", ".txt"))
        if path is not None:
            self.export(path)

    def export(self, path: Path) -> None:
        """Write the profile; a fault comes out of ``failed``."""
        if self._profile is None:
            return
        try:
            write_csv(self._profile, path)
        except OutputError as error:
            self.failed.emit(error)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if self._is_built and event.type() == QEvent.Type.PaletteChange:
            self._apply_palette()

    def _apply_palette(self) -> None:
        accent = self._plot.accent().lighter(115)
        self._curve.setPen(pg.mkPen(accent, width=1.6))
        self._point.setBrush(accent)
        self._point.setPen(pg.mkPen(self._plot.ink(), width=1))
