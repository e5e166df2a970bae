"""What is going on, in the status line: readings of the microscope, and the task that runs."""

from collections.abc import Sequence

from PySide6.QtCore import QObject, QTimer

from app.actions import Actions
from app.capture.link import MicroscopeLink
from app.status_line import StatusLine
from app.workers import Worker
from models.language import _

READ_MS = 100


class Tasks(QObject):
    """Keeps the status line true. Of several tasks the device's is shown first, then the first worker's."""

    def __init__(
        self, link: MicroscopeLink, workers: Sequence[Worker], status: StatusLine, actions: Actions, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._link, self._workers, self._status, self._actions = link, workers, status, actions
        link.busyChanged.connect(self._show)
        link.deviceChanged.connect(self._show_device)
        link.progressed.connect(self._show_device_progress)
        link.reference.asked.connect(self._rename)
        link.reference.homingChanged.connect(self._rename)
        for worker in workers:
            worker.started.connect(self._show)
            worker.ended.connect(self._show)
            worker.progressed.connect(self._show_work_progress)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._read)
        self._timer.start(READ_MS)
        self._show_device()
        self._show()

    def cancel(self) -> None:
        """End the task that is shown."""
        if self._link.busy:
            self._link.cancel()
        else:
            next((worker for worker in self._workers if worker.title), self._workers[0]).cancel()

    def _title(self) -> str:
        if self._link.reference.question is not None:
            return _("Waiting for an answer")
        if self._link.reference.is_homing:
            return _("Homing")
        return {
            "": next((worker.title for worker in self._workers if worker.title), ""),
            "connect": _("Connecting"),
            "home": _("Homing"),
            "confirm": _("Confirming the position"),
            "exposure": _("Setting the exposure"),
            "focus": _("Focusing"),
            "capture": _("Capturing"),
        }[self._link.busy]

    def _show(self) -> None:
        title = self._title()
        self._actions.enable(bool(title), "cancel")
        if not title:
            self._status.end_task()
        elif title != self._status.task.text():
            self._status.start_task(title)

    def _rename(self) -> None:
        """The task that is shown goes on under another title."""
        if self._status.task.text() and (title := self._title()):
            self._status.task.setText(title)

    def _show_device(self) -> None:
        self._status.show_device(self._link.device.name if self._link.device else "")
        self._read()

    def _show_device_progress(self, done: int, total: int) -> None:
        if self._link.busy:
            self._status.show_progress(done, total)

    def _show_work_progress(self, done: int, total: int) -> None:
        if not self._link.busy:
            self._status.show_progress(done, total)

    def _read(self) -> None:
        link = self._link
        link.poll()
        self._status.show_height(link.z_um)
        exposure_ms = link.settings.exposure_ms if link.device else None
        self._status.show_camera(exposure_ms, link.pictures.fps if link.live and not link.busy else None)
