"""The list of methods, by kind."""

from PySide6.QtCore import QMargins, QModelIndex, QPersistentModelIndex, QSize, Qt
from PySide6.QtGui import QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QComboBox, QStyledItemDelegate, QStyleOptionViewItem, QWidget

from models.errors import InputError
from models.language import N_, _
from models.methods import DEFAULT_METHOD, METHODS, Kind, Method, find_method

HEADINGS: tuple[tuple[Kind, str], ...] = (
    ("network", N_("Networks")),
    ("measure", N_("Focus measures")),
    ("volume", N_("The whole focus volume")),
)


class _Indented(QStyledItemDelegate):
    """Sets the entries of the open list off from their headings; the closed box shows them as they are."""

    def initStyleOption(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        super().initStyleOption(option, index)
        if index.data(Qt.ItemDataRole.UserRole) is not None:
            option.text = f"    {option.text}"

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return super().sizeHint(option, index).grownBy(QMargins(0, 2, 0, 2))


class MethodBox(QComboBox):
    """All methods under a heading for each kind; the data of an entry is the name of the method."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entries = QStandardItemModel(self)
        for kind, heading in HEADINGS:
            title = QStandardItem(_(heading))
            title.setFlags(Qt.ItemFlag.NoItemFlags)
            font = title.font()
            font.setBold(True)
            title.setFont(font)
            self._entries.appendRow(title)
            for method in METHODS.values():
                if method.kind == kind:
                    self._entries.appendRow(_entry(method))
        self.setModel(self._entries)
        self.setItemDelegate(_Indented(self))
        self.setAccessibleName(_("Method"))
        # The long titles may be cut in the narrow column; the list that opens shows them whole.
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.setMaxVisibleItems(self._entries.rowCount() + 4)
        self.view().setMinimumWidth(300)
        self.choose(DEFAULT_METHOD)

    def name(self) -> str:
        """The method that is chosen."""
        return str(self.currentData())

    def choose(self, name: str) -> None:
        """Choose ``name``, also a network that is not in the list yet; the default where there is no such method."""
        if self.findData(name) < 0:
            try:  # only networks can be known without being in the list, and theirs is the first heading
                self._entries.insertRow(
                    1 + sum(m.kind == "network" for m in METHODS.values()), _entry(find_method(name))
                )
            except InputError:
                name = DEFAULT_METHOD
        self.setCurrentIndex(self.findData(name))


def _entry(method: Method) -> QStandardItem:
    item = QStandardItem(_(method.title))
    item.setData(method.name, Qt.ItemDataRole.UserRole)
    item.setData(f"{_(method.summary)}\n{method.source}", Qt.ItemDataRole.ToolTipRole)
    return item
