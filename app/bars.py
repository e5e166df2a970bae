"""The bars above the workspace: faults, offers and questions that never block the work."""

from collections.abc import Callable

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QToolButton, QVBoxLayout, QWidget

from app.theme import current, icon, set_role
from models.language import _

INFO_MS = 15_000

Choice = tuple[str, Callable[[], object]]


class Bar(QFrame):
    """One message: who speaks, what happened, at most two things to do about it, and a way to put it aside."""

    def __init__(self, kind: str, source: str, text: str, choices: tuple[Choice, ...]) -> None:
        super().__init__()
        set_role(self, f"bar-{kind}")
        self.source, self.text = source, text
        symbol = QLabel()
        theme = current()
        name, color = {
            "fault": ("fault", theme.red),
            "look": ("fault", theme.amber),
            "info": ("about", theme.accent),
        }[kind]
        symbol.setPixmap(icon(name, color).pixmap(20, 20))
        self._label = QLabel()
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setText(f"{source}: {text}" if source else text)
        self._label.setWordWrap(True)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 6, 8, 6)
        row.setSpacing(10)
        row.addWidget(symbol)
        row.addWidget(self._label, 1)
        self.buttons: list[QPushButton] = []
        for title, call in choices:
            button = QPushButton(title)
            button.clicked.connect(self.dismiss)
            button.clicked.connect(lambda _checked=False, call=call: call())
            row.addWidget(button)
            self.buttons.append(button)
        aside = QToolButton()
        set_role(aside, "flat")
        aside.setIcon(icon("close"))
        aside.setToolTip(_("Put this message aside"))
        aside.setAccessibleName(_("Put this message aside"))
        aside.clicked.connect(self.dismiss)
        row.addWidget(aside)

    def dismiss(self) -> None:
        self.hide()
        self.setParent(None)
        self.deleteLater()


class Bars(QWidget):
    """The bars, newest on top. The same message is not shown twice."""

    MOST = 4

    def __init__(self) -> None:
        super().__init__()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)

    def show_fault(self, source: str, text: str, *choices: Choice) -> Bar:
        return self._show("fault", source, text, choices)

    def show_look(self, source: str, text: str, *choices: Choice) -> Bar:
        """Something to look at that is no fault."""
        return self._show("look", source, text, choices)

    def show_info(self, text: str, *choices: Choice) -> Bar:
        """Good news; goes away by itself."""
        bar = self._show("info", "", text, choices)
        QTimer.singleShot(INFO_MS, bar, bar.dismiss)
        return bar

    def bars(self) -> list[Bar]:
        items = (self._column.itemAt(index).widget() for index in range(self._column.count()))
        return [bar for bar in items if isinstance(bar, Bar)]

    def add(self, bar: QWidget) -> None:
        self._column.insertWidget(0, bar)

    def _show(self, kind: str, source: str, text: str, choices: tuple[Choice, ...]) -> Bar:
        for bar in self.bars():
            if (bar.source, bar.text) == (source, text):
                bar.dismiss()
        bar = Bar(kind, source, text, choices)
        self.add(bar)
        for old in self.bars()[self.MOST :]:
            old.dismiss()
        return bar
