"""Menu, workspace tabs and STOP in one row."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QButtonGroup, QFrame, QHBoxLayout, QMenuBar, QPushButton, QSizePolicy

from app.actions import Actions
from app.theme import icon, set_role
from models.language import _


class ActionButton(QPushButton):
    """A button that follows an action: text, enabled, checked, tip."""

    def __init__(self, action: QAction, *, role: str = "", show_icon: bool = False, text: str = "") -> None:
        super().__init__()
        self._action, self._show_icon, self._text = action, show_icon, text
        self.setCheckable(action.isCheckable())
        if role:
            set_role(self, role)
        action.changed.connect(self._follow)
        self.clicked.connect(action.trigger)
        self._follow()

    def _follow(self) -> None:
        action = self._action
        self.setText(self._text or action.text().rstrip("…"))
        self.setEnabled(action.isEnabled())
        self.setToolTip(action.toolTip())
        if action.isCheckable():
            self.setChecked(action.isChecked())
        if self._show_icon:
            self.setIcon(action.icon())


class TopBar(QFrame):
    """``stop_button`` is always enabled: stopping must never depend on what the program believes."""

    def __init__(self, actions: Actions, menu_bar: QMenuBar) -> None:
        super().__init__()
        set_role(self, "top")
        self._actions = actions
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 0, 8, 0)
        row.setSpacing(2)
        menu_bar.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Preferred)
        row.addWidget(menu_bar, 0, Qt.AlignmentFlag.AlignVCenter)
        row.addSpacing(12)
        self._tabs = QButtonGroup(self)
        for name in ("capture", "surface", "label", "inspect"):
            tab = ActionButton(actions[name], role="tab", show_icon=True)
            tab.setObjectName(f"tab_{name}")
            tab.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            self._tabs.addButton(tab)
            row.addWidget(tab)
        row.addStretch(1)
        self.stop_button = QPushButton()
        self.stop_button.setObjectName("stop")
        self.stop_button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.stop_button.setIcon(icon("stop", "#ffffff"))
        self.stop_button.setToolTip(actions["stop"].toolTip())
        self.stop_button.clicked.connect(actions["stop"].trigger)
        row.addWidget(self.stop_button, 0, Qt.AlignmentFlag.AlignVCenter)
        self.show_stopped(False)

    def show_stopped(self, stopped: bool) -> None:
        """The button keeps its place and its work; it says whether the stage is held."""
        self.stop_button.setText(_("STOPPED") if stopped else _("STOP"))
        self.stop_button.setIcon(icon("stop", "#d93a3f" if stopped else "#ffffff"))
        set_role(self.stop_button, "stopped" if stopped else "stop")
        widths = [self.stop_button.fontMetrics().horizontalAdvance(text) for text in (_("STOP"), _("STOPPED"))]
        self.stop_button.setFixedWidth(max(widths) + 64)
