"""The search for stages and cameras, in a thread of its own: a connected microscope goes on working meanwhile."""

from collections.abc import Sequence

from PySide6.QtCore import QObject, Signal

from app.workers import Worker
from hardware.search import Found, search
from models.language import _


class DeviceSearch(QObject):
    """``found``: the latest answer, kept for a page that is opened later; None before the first search."""

    ended = Signal()
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.found: Found | None = None
        self.worker = Worker("search", self)
        self.worker.failed.connect(self.failed)

    def start(self, ports: Sequence[str] | None) -> None:
        """Ask on these ports, None: on all that the system lists. Nothing moves."""
        self.worker.submit(
            _("Looking for devices"),
            lambda progress, cancel: search(ports, progress=progress, told=self.worker.rename, cancel=cancel),
            self._take,
        )

    def close(self) -> None:
        """End the thread."""
        self.worker.close()

    def _take(self, found: Found) -> None:
        self.found = found
        self.ended.emit()
