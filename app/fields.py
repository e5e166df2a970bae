"""The few small widgets that every panel is made of."""

from collections.abc import Sequence

from PySide6.QtCore import QLocale, Qt, Signal
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QButtonGroup,
    QDoubleSpinBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.theme import icon, set_role, tabular


class NumberField(QDoubleSpinBox):
    """A number with its unit. ``edited`` comes once the user has finished, not on every key and not from code."""

    edited = Signal(float)

    def __init__(self, unit: str, low: float, high: float, *, digits: int = 2, step: float = 1.0) -> None:
        super().__init__()
        self._quiet = False
        _plain(self)
        self.setSuffix(f" {unit}" if unit else "")
        self.setDecimals(digits)
        self.setRange(low, high)
        self.setSingleStep(step)
        self.valueChanged.connect(self._tell)

    def show_value(self, value: float) -> None:
        """Show without telling. A value that the user is typing over is left alone."""
        if self.hasFocus() and self.lineEdit().isModified():
            return
        self._quiet = True
        self.setValue(value)
        self._quiet = False

    def setRange(self, low: float, high: float) -> None:
        """Silent as well: a value that has to move into the range was not wished by anybody."""
        self._quiet = True
        super().setRange(low, high)
        self._quiet = False

    def setDecimals(self, digits: int) -> None:
        self._quiet = True
        super().setDecimals(digits)
        self._quiet = False

    def _tell(self, value: float) -> None:
        if not self._quiet:
            self.edited.emit(value)

    def wheelEvent(self, event: QWheelEvent) -> None:
        _wheel_only_with_focus(self, event, super().wheelEvent)


class CountField(QSpinBox):
    """A whole number; ``edited`` as in :class:`NumberField`."""

    edited = Signal(int)

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        _plain(self)
        self.setRange(low, high)
        self._quiet = False
        self.valueChanged.connect(self._tell)

    def show_value(self, value: int) -> None:
        if self.hasFocus() and self.lineEdit().isModified():
            return
        self._quiet = True
        self.setValue(value)
        self._quiet = False

    def _tell(self, value: int) -> None:
        if not self._quiet:
            self.edited.emit(value)

    def wheelEvent(self, event: QWheelEvent) -> None:
        _wheel_only_with_focus(self, event, super().wheelEvent)


class OddField(CountField):
    """A whole odd number: the next larger one where an even number is typed or set."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__(low, high)
        self.setSingleStep(2)

    def setValue(self, value: int) -> None:
        super().setValue(value | 1)

    def valueFromText(self, text: str) -> int:
        return super().valueFromText(text) | 1


def _plain(box: QAbstractSpinBox) -> None:
    box.setAlignment(Qt.AlignmentFlag.AlignRight)
    box.setKeyboardTracking(False)
    box.setLocale(QLocale.c())
    box.setFont(tabular(box.font()))
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)


def _wheel_only_with_focus(box: QAbstractSpinBox, event: QWheelEvent, turn: object) -> None:
    # Scrolling the column must not change a number that happens to pass under the pointer.
    if box.hasFocus():
        turn(event)  # type: ignore[operator]
    else:
        event.ignore()


class Section(QWidget):
    """A titled part of the control column that folds away."""

    def __init__(self, title: str, content: QWidget) -> None:
        super().__init__()
        self.header = QToolButton()
        set_role(self.header, "section")
        self.header.setText(title)
        self.header.setCheckable(True)
        self.header.setChecked(True)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.header.toggled.connect(self._fold)
        self._content = content
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.header)
        column.addWidget(content)
        self._fold(True)

    def _fold(self, opened: bool) -> None:
        self._content.setVisible(opened)
        self.header.setIcon(icon("chevron-down" if opened else "chevron-right"))


class Segments(QWidget):
    """A row of buttons of which one is down. ``chosen`` carries its index, from the user only."""

    chosen = Signal(int)

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        self.buttons: list[QPushButton] = []
        for index, text in enumerate(texts):
            button = QPushButton(text)
            button.setCheckable(True)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            set_role(button, "segment")
            self._group.addButton(button, index)
            row.addWidget(button, 1)
            self.buttons.append(button)
        self.buttons[0].setChecked(True)
        self._group.idClicked.connect(self.chosen)

    @property
    def index(self) -> int:
        return self._group.checkedId()

    def set_index(self, index: int) -> None:
        self.buttons[index].setChecked(True)


class Form(QWidget):
    """Labels on the left, fields on the right, all in one line each."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = QGridLayout(self)
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setHorizontalSpacing(8)
        self.grid.setVerticalSpacing(6)
        self.grid.setColumnStretch(1, 1)

    def row(self, label: str, *widgets: QWidget) -> QLabel:
        """Add a line; of several widgets the first takes the room."""
        line = self.grid.rowCount()
        caption = QLabel(label)
        set_role(caption, "hint")
        caption.setBuddy(widgets[0])
        self.grid.addWidget(caption, line, 0)
        self.grid.addWidget(widgets[0], line, 1, 1, 1 if len(widgets) > 1 else 2)
        if len(widgets) > 1:
            self.grid.addWidget(widgets[1], line, 2)
        widgets[0].setAccessibleName(label)
        return caption

    def wide(self, widget: QWidget) -> None:
        """Add a line without a label."""
        self.grid.addWidget(widget, self.grid.rowCount(), 0, 1, 3)


def line() -> QFrame:
    """A thin horizontal separator."""
    frame = QFrame()
    set_role(frame, "line")
    return frame


def hint(text: str = "") -> QLabel:
    """Quiet explaining text that wraps."""
    label = QLabel(text)
    label.setWordWrap(True)
    set_role(label, "hint")
    return label
