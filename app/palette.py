"""Ctrl+K: type what you want to do."""

from collections.abc import Callable, Iterable

from PySide6.QtCore import QEvent, QModelIndex, QObject, QPersistentModelIndex, Qt
from PySide6.QtGui import QAction, QColor, QKeyEvent, QKeySequence, QPainter
from PySide6.QtWidgets import (
    QDialog,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from app.actions import without_mnemonic
from app.theme import current, set_role
from models.language import _

WIDTH, HEIGHT = 560, 420
SHORTCUT = Qt.ItemDataRole.UserRole + 1


def match(query: str, text: str) -> float | None:
    """How well ``query`` fits: its letters must appear in ``text`` in order. Smaller is better, None is no match."""
    query, text = query.casefold().strip(), text.casefold()
    if not query:
        return 0.0
    if (found := text.find(query)) >= 0:
        return found / 100 - (1.0 if found == 0 or text[found - 1] == " " else 0.0)
    position, gaps = -1, 0
    for letter in query.replace(" ", ""):
        following = text.find(letter, position + 1)
        if following < 0:
            return None
        gaps += following - position - 1
        position = following
    return 10.0 + gaps


class Palette(QDialog):
    """A list of actions that narrows while one types. ``on_escape`` is told of Esc, which also means STOP."""

    def __init__(self, actions: Iterable[QAction], parent: QWidget, on_escape: Callable[[], None]) -> None:
        super().__init__(parent, Qt.WindowType.Dialog | Qt.WindowType.FramelessWindowHint)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(_("Find Action"))
        self._actions = [action for action in actions if action.objectName() != "palette"]
        self._on_escape = on_escape
        self.field = QLineEdit()
        self.field.setPlaceholderText(_("What do you want to do?"))
        self.list = QListWidget()
        self.list.setUniformItemSizes(True)
        self.list.setItemDelegate(_WithShortcut(self.list))
        self._hint = QLabel(_("Enter runs it · Esc closes"))
        set_role(self._hint, "hint")
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 10, 10, 8)
        for widget in (self.field, self.list, self._hint):
            column.addWidget(widget)
        self.field.textChanged.connect(self._narrow)
        self.field.installEventFilter(self)
        self.list.itemActivated.connect(self._run)
        self.list.itemClicked.connect(self._run)
        self._narrow("")
        self.resize(min(WIDTH, parent.width() - 40), min(HEIGHT, parent.height() - 80))
        corner = parent.mapToGlobal(parent.rect().topLeft())
        self.move(corner.x() + (parent.width() - self.width()) // 2, corner.y() + 56)

    def _narrow(self, query: str) -> None:
        fits = []
        for action in self._actions:
            score = match(query, action.text())
            if score is None and (in_tip := match(query, action.statusTip())) is not None and in_tip < 1:
                score = 5.0 + in_tip
            if score is not None:
                fits.append((not action.isEnabled(), score, action))
        fits.sort(key=lambda fit: fit[:2])
        self.list.clear()
        for disabled, _score, action in fits:
            item = QListWidgetItem(action.icon(), without_mnemonic(action.text()))
            item.setData(Qt.ItemDataRole.UserRole, action)
            item.setData(SHORTCUT, action.shortcut().toString(QKeySequence.SequenceFormat.NativeText))
            item.setToolTip(action.statusTip())
            if disabled:
                item.setFlags(Qt.ItemFlag.NoItemFlags)
            self.list.addItem(item)
        self.list.setCurrentRow(0)

    def _run(self, item: QListWidgetItem | None) -> None:
        if item is None or not item.flags() & Qt.ItemFlag.ItemIsEnabled:
            return
        action: QAction = item.data(Qt.ItemDataRole.UserRole)
        self.accept()
        action.trigger()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            if event.key() in (Qt.Key.Key_Down, Qt.Key.Key_Up):
                step = 1 if event.key() == Qt.Key.Key_Down else -1
                self.list.setCurrentRow(max(0, min(self.list.count() - 1, self.list.currentRow() + step)))
                return True
            if event.key() == Qt.Key.Key_Escape:
                self._on_escape()
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self._run(self.list.currentItem())
                return True
        return super().eventFilter(watched, event)


class _WithShortcut(QStyledItemDelegate):
    """Draws the shortcut of an entry at its right end."""

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        super().paint(painter, option, index)
        enabled = bool(index.flags() & Qt.ItemFlag.ItemIsEnabled)
        selected = enabled and bool(option.state & QStyle.StateFlag.State_Selected)
        theme = current()
        painter.setPen(QColor(theme.on_accent if selected else theme.quiet if enabled else theme.disabled))
        box = option.rect.adjusted(0, 0, -12, 0)
        painter.drawText(box, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, index.data(SHORTCUT))
