"""The objectives of a microscope, and which of them is in use."""

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from app.fields import Form
from hardware.profile import Objective
from models.language import _

COLUMNS = ("name", "magnification", "na", "pixel_um")
ROWS_SHOWN = 3


class ObjectiveTable(QWidget):
    """One line per objective; an empty pixel size is computed from the sensor's."""

    def __init__(self, objectives: Sequence[Objective], in_use: str) -> None:
        super().__init__()
        self._others = [objective.model_dump(exclude_unset=True, exclude=set(COLUMNS)) for objective in objectives]
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels([_("Objective"), _("Magnif."), _("NA"), _("Pixel (µm)")])
        self.table.setToolTip(_("Pixel: measured size of a camera pixel in the sample; empty: computed."))
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setAccessibleName(_("Objectives"))
        self.in_use = QComboBox()
        add, remove = QPushButton(_("Add")), QPushButton(_("Remove"))
        for button in (add, remove):
            button.setAutoDefault(False)  # Return in any field of the page would press it
        form = Form()
        form.row(_("In use"), self.in_use)
        row = QHBoxLayout()
        row.addWidget(form, 1)
        row.addWidget(add)
        row.addWidget(remove)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.table)
        column.addLayout(row)
        for objective in objectives:
            self._add([objective.name, *(_number(getattr(objective, name)) for name in COLUMNS[1:])])
        self.table.setFixedHeight(
            self.table.horizontalHeader().sizeHint().height() + ROWS_SHOWN * self.table.rowHeight(0) + 4
        )
        self._show_names()
        self.in_use.setCurrentText(in_use)
        self.table.itemChanged.connect(lambda _item: self._show_names())
        add.clicked.connect(self.add)
        remove.clicked.connect(self.remove)

    def add(self) -> None:
        """A line to fill in."""
        self._others.append({})
        self._add([_("new objective"), "", "", ""])
        self._show_names()
        self.table.setCurrentCell(self.table.rowCount() - 1, 0)

    def remove(self) -> None:
        """The line that is chosen; the last one stays."""
        row = self.table.currentRow()
        if row >= 0 and self.table.rowCount() > 1:
            del self._others[row]
            self.table.removeRow(row)
            self._show_names()

    def value(self) -> list[dict[str, Any]]:
        """As it stands in a file, unchecked."""
        rows = []
        for row, others in enumerate(self._others):
            cells = {name: self._text(row, column) for column, name in enumerate(COLUMNS)}
            rows.append({**others, **{name: text for name, text in cells.items() if text}})
        return rows

    def show_field(self, row: int, name: str) -> None:
        """Lead the eye to a cell."""
        self.table.setFocus()
        self.table.setCurrentCell(row, COLUMNS.index(name) if name in COLUMNS else 0)

    def _add(self, texts: Sequence[str]) -> None:
        row = self.table.rowCount()
        self.table.insertRow(row)
        for column, text in enumerate(texts):
            item = QTableWidgetItem(text)
            if column:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.table.setItem(row, column, item)

    def _text(self, row: int, column: int) -> str:
        item = self.table.item(row, column)
        return item.text().strip() if item is not None else ""

    def _show_names(self) -> None:
        row, names = self.in_use.currentIndex(), [self._text(row, 0) for row in range(self.table.rowCount())]
        self.in_use.clear()
        self.in_use.addItems(names)
        self.in_use.setCurrentIndex(min(max(row, 0), len(names) - 1))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
