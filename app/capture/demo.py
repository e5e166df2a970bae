"""The demonstration: what a user would click, clicked by the program."""

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, QTimer

from app.capture.link import MicroscopeLink
from app.capture.workspace import CaptureWorkspace
from app.settings import Settings

PROFILE = "simulated"
TOP_UM, BOTTOM_UM, STEP_UM = 6.0, -34.0, 1.0
LOOK_MS = 1200
"""How long the live image is shown before the capture starts."""


def demo_settings() -> Settings:
    """Defaults, with captures in the folder ``demo`` of the current directory."""
    return Settings(captures_folder=Path("demo").absolute(), profile=PROFILE)


class Demo(QObject):
    """Connects, sets the stack up, captures."""

    def __init__(self, capture: CaptureWorkspace, link: MicroscopeLink) -> None:
        super().__init__(capture)
        self._capture, self._link = capture, link
        self._looking = False
        link.pictureReady.connect(self._look)
        capture.profile.setCurrentIndex(capture.profile.findData(PROFILE))
        QTimer.singleShot(0, self, capture.connect_microscope)

    def _look(self) -> None:
        if self._looking:
            return
        self._looking = True
        setup = self._capture.stack.value()
        self._capture.stack.set_value(replace(setup, top_um=TOP_UM, bottom_um=BOTTOM_UM, by_step=True, step_um=STEP_UM))
        self._capture.sample.setText("demo")
        QTimer.singleShot(LOOK_MS, self, self._capture.start_capture)
