"""How the stage learns where it is: it homes, or a person vouches for it; and what a capture asks that has lost it."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.workers import Courier
from hardware.calls import started
from hardware.camera import CameraError
from hardware.profile import Microscope
from hardware.recovery import Interruption, Recovery, WayOn
from models.errors import Cancelled

if TYPE_CHECKING:
    from app.capture.link import MicroscopeLink

log = logging.getLogger(__name__)

BLIND_S = 0.05
"""Without a live picture, answers and the end of homing are looked for this often."""


class Reference(QObject):
    """``question``: what the capture under way waits to be told by :meth:`answer`, None where it asks nothing."""

    asked = Signal()
    """``question`` is another one, or None."""
    homingChanged = Signal()
    """``is_homing`` is another than before."""

    def __init__(self, link: "MicroscopeLink") -> None:
        super().__init__(link)
        self.question: Interruption | None = None
        self.is_homing = False
        self._link = link
        self._answer: Future[WayOn] | None = None
        self._courier = Courier(self)

    # --- in the window thread

    def home(self) -> None:
        """Drive the stage to its reference. Only on a person's word: it may go through its whole travel."""
        link, microscope = self._link, self._link.microscope
        if microscope is None or link.busy or link.target_um is not None:
            return
        cancel = link.new_cancel()
        link.run("home", lambda: self._home(microscope, cancel))

    def confirm(self) -> None:
        """A person vouches for the position; ends an alarm. Nothing moves."""
        link, microscope = self._link, self._link.microscope
        if microscope is None or link.busy:
            return

        def job() -> None:
            microscope.axis.confirm_position()
            link.tell_position(microscope.axis.position_um())

        link.run("confirm", job)

    def answer(self, way: WayOn) -> None:
        """What a person chose. The first answer counts."""
        answer = self._answer
        self._show(None, None)
        if answer is not None:
            answer.set_result(way)

    def _show(self, question: Interruption | None, answer: Future[WayOn] | None) -> None:
        if question is not self.question:
            self.question, self._answer = question, answer
            self.asked.emit()

    # --- in the device thread

    def recovery(self, microscope: Microscope, cancel: threading.Event, told: Callable[[str], None]) -> Recovery:
        """For a capture: it asks in the window, and waits there for an answer, STOP or Cancel."""
        return Recovery(
            microscope.axis, microscope.camera, cancel=cancel, told=told,
            decide=lambda interruption: self._decide(microscope, cancel, interruption),
            home=lambda: self._home(microscope, cancel),
        )  # fmt: skip

    def _decide(self, microscope: Microscope, cancel: threading.Event, interruption: Interruption) -> WayOn:
        answer: Future[WayOn] = Future()
        self._link.stage.tell(microscope.axis)
        if interruption.z_um is not None:
            self._link.tell_position(interruption.z_um)
        self._courier.send(self._show, interruption, answer)
        self._look_until(lambda: answer.done() or cancel.is_set(), microscope)
        self._courier.send(self._show, None, None)
        return answer.result() if answer.done() else WayOn.END

    def _home(self, microscope: Microscope, cancel: threading.Event) -> None:
        """In a thread of its own, so that this one can look meanwhile."""
        self.is_homing = True  # first: from now on Cancel is a STOP
        self._courier.send(self.homingChanged.emit)
        try:
            if cancel.is_set():
                raise Cancelled
            homing = started("homing", microscope.axis.home)
            try:
                self._look_until(homing.done, microscope)
            finally:  # whatever becomes of the picture: while the stage homes, Cancel is a STOP and nothing else runs
                self._link.tell_position(homing.result())
        finally:
            self.is_homing = False
            self._courier.send(self.homingChanged.emit)
            self._link.stage.tell(microscope.axis)

    def _look_until(self, done: Callable[[], bool], microscope: Microscope) -> None:
        """The live view goes on, and asks the stage nothing. Where the camera fails it only waits."""
        sees = True
        while not done():
            if not (sees and self._link.live):
                time.sleep(BLIND_S)
                continue
            try:
                self._link.pictures.look(microscope.camera, self._link.z_um)
            except CameraError as error:  # who goes on with this camera meets the fault again, and tells it
                log.info("No live picture meanwhile: %s", error)
                sees = False
