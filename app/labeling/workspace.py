"""The Label workspace. It holds no tools yet and says so."""

from collections.abc import Sequence

from PySide6.QtGui import QAction

from app.empty_state import EmptyState
from models.language import _


class LabelWorkspace(EmptyState):
    def __init__(self, actions: Sequence[QAction]) -> None:
        super().__init__(
            "label",
            _("Label is not part of this version"),
            _("This workspace will make reference heights that networks learn from and instruments are checked with:"),
            points=(
                _("Align the map of a confocal instrument with your height map"),
                _("Fuse both by slope and confidence"),
                _("Touch up by hand, with a record of every change"),
                _("Review and export a data set"),
            ),
            actions=actions,
        )
