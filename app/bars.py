"""The bars above the workspace: faults, offers and questions that never block the work."""

from collections.abc import Callable

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QToolButton, QVBoxLayout, QWidget

from app.theme import current, icon, set_role
from models.language import _

INFO_MS = 15_000

Choice = tuple[str, Callable[[], object]]


class Bar(QFrame):
    """One message: who speaks, what happened, what can be done about it, and, unless it is a question, a way to put it
    aside.
    """

    dismissed = Signal()

    def __init__(self, kind: str, source: str, text: str, choices: tuple[Choice, ...]) -> None:
        super().__init__()
        set_role(self, "bar-fault" if kind == "question" else f"bar-{kind}")
        self.source, self.text = source, text
        self._kind, self._symbol = kind, QLabel()
        self.is_question = kind == "question"
        self._label = QLabel()
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._label.setText(f"{source}: {text}" if source else text)
        self._label.setWordWrap(True)
        self._label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 6, 8, 6)
        row.setSpacing(10)
        row.addWidget(self._symbol)
        row.addWidget(self._label, 1)
        self.buttons: list[QPushButton] = []
        for title, call in choices:
            button = QPushButton(title)
            button.clicked.connect(self.dismiss)
            button.clicked.connect(lambda _checked=False, call=call: call())
            row.addWidget(button)
            self.buttons.append(button)
        self._aside = aside = QToolButton()
        set_role(aside, "flat")
        aside.setToolTip(_("Put this message aside"))
        aside.setAccessibleName(_("Put this message aside"))
        aside.clicked.connect(self.dismiss)
        aside.setHidden(self.is_question)
        row.addWidget(aside)
        self.refresh_icons()

    def refresh_icons(self) -> None:
        """In the colours of the present theme."""
        theme = current()
        name, color = {
            "fault": ("fault", theme.red),
            "question": ("fault", theme.red),
            "look": ("fault", theme.amber),
            "info": ("about", theme.accent),
        }[self._kind]
        self._symbol.setPixmap(icon(name, color).pixmap(20, 20))
        self._aside.setIcon(icon("close"))

    def dismiss(self) -> None:
        self.hide()
        self.dismissed.emit()
        self.deleteLater()


class Bars(QWidget):
    """The bars, newest on top. The same message is not shown twice."""

    MOST = 4

    def __init__(self) -> None:
        super().__init__()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        # Kept here and not asked of the layout: PySide does not survive the wrappers of layout items whose
        # widgets have gone, and crashes much later, where a new object takes the place of one of them.
        self._bars: list[Bar] = []

    def show_fault(self, source: str, text: str, *choices: Choice) -> Bar:
        return self._show("fault", source, text, choices)

    def show_question(self, source: str, text: str, *choices: Choice) -> Bar:
        """A fault that waits for one of these choices: it stays until then."""
        return self._show("question", source, text, choices)

    def show_look(self, source: str, text: str, *choices: Choice) -> Bar:
        """Something to look at that is no fault."""
        return self._show("look", source, text, choices)

    def show_info(self, text: str, *choices: Choice) -> Bar:
        """Good news; goes away by itself."""
        bar = self._show("info", "", text, choices)
        QTimer.singleShot(INFO_MS, bar, bar.dismiss)
        return bar

    def bars(self) -> list[Bar]:
        return list(self._bars)

    def refresh_icons(self) -> None:
        """After a change of theme."""
        for bar in self._bars:
            bar.refresh_icons()

    def _remove(self, bar: Bar) -> None:
        if bar in self._bars:
            self._bars.remove(bar)

    def _show(self, kind: str, source: str, text: str, choices: tuple[Choice, ...]) -> Bar:
        if source and text.startswith(source):  # it is named once
            text = text.removeprefix(source).lstrip(": ")
        for bar in self.bars():
            if (bar.source, bar.text) == (source, text):
                bar.dismiss()
        bar = Bar(kind, source, text, choices)
        bar.dismissed.connect(lambda: self._remove(bar))
        self._bars.insert(0, bar)
        self._column.insertWidget(0, bar)
        for old in [bar for bar in self._bars if not bar.is_question][self.MOST :]:
            old.dismiss()
        return bar
