"""What the map says about the pixel under the cursor."""

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

from app.surface.layers import UNTRUSTED, flag_text, height_unit
from app.surface.ticks import number
from app.theme import set_role, tabular
from models.height_map import HeightMap
from models.language import _

NOTHING = "–"
WIDTH = 250


class Readout(QWidget):
    """Position, height, confidence and flags of one pixel, in figures that do not jump."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMaximumWidth(WIDTH)
        grid = QGridLayout(self)
        grid.setContentsMargins(12, 9, 12, 9)
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(4)
        self._values: dict[str, QLabel] = {}
        rows = (("x", "x"), ("y", "y"), ("height", _("Height")), ("confidence", _("Confidence")))
        for line, (name, title) in enumerate(rows):
            caption = QLabel(title)
            set_role(caption, "hint")
            value = QLabel(NOTHING)
            value.setFont(tabular(value.font()))
            value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            value.setMinimumWidth(value.fontMetrics().horizontalAdvance("−0 000.00 ± 00.00 µm"))
            grid.addWidget(caption, line, 0)
            grid.addWidget(value, line, 1)
            self._values[name] = value
        self._values["height"].setToolTip(_("± half of the interval that holds the height with 95 % probability"))
        self._flags = QLabel()
        self._flags.setWordWrap(True)
        self._flags.setMinimumHeight(2 * self._flags.fontMetrics().lineSpacing())
        self._flags.setAlignment(Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self._flags, len(rows), 0, 1, 2)
        grid.setRowStretch(len(rows) + 1, 1)
        grid.setColumnStretch(1, 1)

    def text(self, name: str) -> str:
        """What stands beside "x", "y", "height" or "confidence", or under them ("flags")."""
        return self._flags.text() if name == "flags" else self._values[name].text()

    def show_pixel(self, height_map: HeightMap, row: int, column: int) -> None:
        """Fill in the values of pixel (row, column)."""
        scale, unit, digits = (1.0, "px", 0) if height_map.pixel_um is None else (height_map.pixel_um, "µm", 2)
        height = float(height_map.height_um[row, column])
        flags = int(height_map.flags[row, column])
        self._values["x"].setText(f"{number(column * scale, digits)} {unit}")
        self._values["y"].setText(f"{number(row * scale, digits)} {unit}")
        self._values["height"].setText(NOTHING if np.isnan(height) else _height_text(height_map, row, column))
        self._values["confidence"].setText(number(float(height_map.confidence[row, column]), 2))
        text = flag_text(flags)
        self._flags.setText(text[:1].upper() + text[1:])
        set_role(self._flags, "amber" if flags & UNTRUSTED else "hint")

    def clear(self) -> None:
        for value in self._values.values():
            value.setText(NOTHING)
        self._flags.clear()


def _height_text(height_map: HeightMap, row: int, column: int) -> str:
    """z ± u, u being half of the 95 % interval where the map states one."""
    height, unit = float(height_map.height_um[row, column]), height_unit(height_map)
    half_um = np.nan if height_map.interval95_um is None else float(height_map.interval95_um[row, column])
    if np.isnan(half_um):
        return f"{number(height, 3)} {unit}"
    return f"{number(height, 2)} ± {number(half_um, 2)} {unit}"
