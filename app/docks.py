"""Parts of a workspace that can be moved, torn off and hidden."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QDockWidget, QMainWindow, QWidget


def add_dock(desk: QMainWindow, name: str, title: str, content: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
    """Put ``content`` beside the centre of ``desk``. It has a title bar only while it floats: the parts name
    themselves, and a title over each would cost the picture a line."""
    dock = QDockWidget(title)
    dock.setObjectName(name)
    dock.setWidget(content)
    dock.setTitleBarWidget(QWidget())
    dock.topLevelChanged.connect(lambda floating: dock.setTitleBarWidget(None if floating else QWidget()))
    desk.addDockWidget(area, dock)
    return dock


def dock_actions(desk: QMainWindow) -> list[QAction]:
    """Actions that show and hide the parts, for a menu."""
    return [dock.toggleViewAction() for dock in desk.findChildren(QDockWidget)]
