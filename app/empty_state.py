"""What a workspace says while it has nothing to show: what it is for and what to do next."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.fields import hint
from app.theme import current, icon, set_role
from app.top_bar import ActionButton

CARD_WIDTH = 520


class EmptyState(QWidget):
    """A card in the middle: symbol, title, a sentence, a list, and the next actions; the first one is the accent."""

    def __init__(
        self, symbol: str, title: str, text: str, *, points: Sequence[str] = (), actions: Sequence[QAction] = ()
    ) -> None:
        super().__init__()
        set_role(self, "picture")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        card = QFrame()
        set_role(card, "card")
        card.setMaximumWidth(CARD_WIDTH)
        inside = QVBoxLayout(card)
        inside.setContentsMargins(28, 26, 28, 26)
        inside.setSpacing(10)
        picture = QLabel()
        picture.setPixmap(icon(symbol, current().quiet).pixmap(32, 32))
        heading = QLabel(title)
        heading.setWordWrap(True)
        set_role(heading, "title")
        inside.addWidget(picture)
        inside.addWidget(heading)
        inside.addWidget(hint(text))
        for point in points:
            row = QHBoxLayout()
            row.setSpacing(8)
            dot = QLabel("•")
            set_role(dot, "hint")
            row.addWidget(dot, 0, Qt.AlignmentFlag.AlignTop)
            row.addWidget(hint(point), 1)
            inside.addLayout(row)
        if actions:
            inside.addSpacing(6)
            row = QHBoxLayout()
            for number, action in enumerate(actions):
                row.addWidget(ActionButton(action, role="" if number else "primary", show_icon=bool(number)))
            row.addStretch(1)
            inside.addLayout(row)
        column = QVBoxLayout(self)
        column.addStretch(2)
        middle = QHBoxLayout()
        middle.setContentsMargins(24, 0, 24, 0)
        middle.addStretch(1)
        middle.addWidget(card, 1000)
        middle.addStretch(1)
        column.addLayout(middle)
        column.addStretch(3)
