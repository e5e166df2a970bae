"""What state the connected stage is in: referenced or not, what is wrong with it, cut off or back again."""

from collections.abc import Callable

from PySide6.QtCore import QObject, Signal

from app.workers import Courier
from hardware.motion import FocusAxis
from hardware.stage import StageError

POSITION_EVERY_S = 0.1
RETRY_EVERY_S = 1.0
"""While a stage is cut off, the live view looks for it this often."""


class StageWatch(QObject):
    """``read`` and ``tell`` belong to the device's thread, the rest to the window's.

    ``moved`` and ``failed`` are called in the window's thread, with a measured z and with an error.
    """

    changed = Signal()
    """``referenced`` or ``faults`` are others than before."""
    back = Signal()
    """A stage that was cut off answers again."""

    def __init__(
        self, moved: Callable[[float], None], failed: Callable[[Exception], None], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.referenced = True
        self.faults: tuple[str, ...] = ()
        self._moved, self._failed = moved, failed
        self._courier = Courier(self)
        self._axis: FocusAxis | None = None
        self._is_lost = False
        self._read_s = 0.0

    def watch(self, axis: FocusAxis | None) -> None:
        """From now on this stage; None: no stage."""
        self._axis, self._is_lost = axis, False
        self._show(axis, axis is None or axis.is_referenced, () if axis is None else axis.faults())

    def read(self, axis: FocusAxis, now_s: float) -> None:
        """Measure z where it is time to. A fault is told once, and does not end the live view."""
        if now_s - self._read_s < (RETRY_EVERY_S if self._is_lost else POSITION_EVERY_S):
            return
        self._read_s = now_s
        try:
            self._courier.send(self._moved, axis.position_um())
        except StageError as error:
            if not self._is_lost:
                self._courier.send(self._failed, error)
            self._is_lost = True
            self.tell(axis)
        else:
            self.found(axis)

    def found(self, axis: FocusAxis) -> None:
        """It answers."""
        self.tell(axis)  # first: who hears that it is back asks how it is
        if self._is_lost:
            self._is_lost = False
            self._courier.send(self.back.emit)

    def tell(self, axis: FocusAxis) -> None:
        """Carry its state to the window. Asks nobody."""
        self._courier.send(self._show, axis, axis.is_referenced, axis.faults())

    def _show(self, axis: FocusAxis | None, referenced: bool, faults: tuple[str, ...]) -> None:
        if axis is self._axis and (referenced, faults) != (self.referenced, self.faults):
            self.referenced, self.faults = referenced, faults
            self.changed.emit()
