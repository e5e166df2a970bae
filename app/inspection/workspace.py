"""The Inspect workspace. It holds no tools yet and says so."""

from collections.abc import Sequence

from PySide6.QtGui import QAction

from app.empty_state import EmptyState
from models.language import _


class InspectWorkspace(EmptyState):
    def __init__(self, actions: Sequence[QAction]) -> None:
        super().__init__(
            "inspect",
            _("Inspect is not part of this version"),
            _("This workspace will measure printing rolls and other surfaces:"),
            points=(
                _("Find the cells of a roll: opening, depth, volume, walls and channels"),
                _("Roughness by ISO 25178 and ISO 21920"),
                _("Limits, trends over a roll, and a report on one page"),
            ),
            actions=actions,
        )
