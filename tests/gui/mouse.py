"""Mouse events with every detail set, delivered at once: the pointer of the test screen plays no part."""

from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QMouseEvent, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

NONE = Qt.MouseButton.NoButton
LEFT = Qt.MouseButton.LeftButton
PLAIN = Qt.KeyboardModifier.NoModifier
BETWEEN_MS = 15
"""pyqtgraph looks at no more than a hundred moves a second."""


def move(widget: QWidget, position: QPointF, *, held: Qt.MouseButton = NONE, keys: Qt.KeyboardModifier = PLAIN) -> None:
    """Move the mouse to ``position`` of ``widget``, with a button held down or not."""
    _send(widget, QEvent.Type.MouseMove, position, NONE, held, keys)
    QTest.qWait(BETWEEN_MS)


def drag(
    widget: QWidget,
    start: QPointF,
    end: QPointF,
    *,
    button: Qt.MouseButton = LEFT,
    keys: Qt.KeyboardModifier = PLAIN,
    steps: int = 8,
) -> None:
    """Press at ``start``, move in a straight line, release at ``end``."""
    move(widget, start)
    _send(widget, QEvent.Type.MouseButtonPress, start, button, button, keys)
    for step in range(1, steps + 1):
        move(widget, start + (end - start) * (step / steps), held=button, keys=keys)
    _send(widget, QEvent.Type.MouseButtonRelease, end, button, NONE, keys)
    QApplication.processEvents()


def turn_wheel(widget: QWidget, position: QPointF, delta: int, *, keys: Qt.KeyboardModifier = PLAIN) -> None:
    """Turn the wheel by ``delta`` eighths of a degree; 120 is one notch away from the user."""
    event = QWheelEvent(
        position, QPointF(widget.mapToGlobal(position.toPoint())), QPoint(), QPoint(0, delta),
        NONE, keys, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(widget, event)
    QApplication.processEvents()


def leave(widget: QWidget) -> None:
    """Take the mouse out of ``widget``."""
    QApplication.sendEvent(widget, QEvent(QEvent.Type.Leave))


def _send(
    widget: QWidget,
    kind: QEvent.Type,
    position: QPointF,
    button: Qt.MouseButton,
    held: Qt.MouseButton,
    keys: Qt.KeyboardModifier,
) -> None:
    at_screen = QPointF(widget.mapToGlobal(position.toPoint()))
    QApplication.sendEvent(widget, QMouseEvent(kind, position, at_screen, button, held, keys))
