"""What every serial stage must do, run against its emulator: one class per driver inherits this table.

A driver's test gives ``driver`` and ``emulator()``; the flags say what its protocol has
(:class:`tests.hardware.stage_table.StageTable`). Everything is real bytes over a pseudo-terminal.
"""

from tests.hardware.stage_line import Lines
from tests.hardware.stage_moves import Moves
from tests.hardware.stage_stop import Stops
from tests.hardware.stage_table import PATIENCE_S, Aside, rest, wait_until

__all__ = ["PATIENCE_S", "Aside", "StageBehaviour", "rest", "wait_until"]


class StageBehaviour(Moves, Stops, Lines):
    """All of it."""
