"""The live picture on its way from the camera's thread to the window, no faster than it can be shown."""

import time
from typing import Any

from numpy.typing import NDArray
from PySide6.QtCore import QObject, Signal

from app.capture.picture import LivePicture, SteadyLevels, look_at, white_of
from app.workers import Courier, Latest
from hardware.camera import Camera

DISPLAY_EVERY_S = 1 / 60
RATE_OVER = 20
"""The rate of pictures is that of so many."""


class LivePictures(QObject):
    """``look`` and ``forget_rate`` belong to the device's thread, also ``show``, or in a capture to the one that
    writes; the rest to the window's.

    ``fps``: pictures per second by ``look``, None where there have been too few.
    """

    ready = Signal()
    """There is a newer picture: :meth:`take` it."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.fps: float | None = None
        self._auto_contrast = True
        self._latest = Latest()
        self._steady = SteadyLevels()
        self._times_s: list[float] = []
        self._shown_s = 0.0
        self._courier = Courier(self)

    def take(self) -> LivePicture | None:
        """The newest picture, once."""
        picture: LivePicture | None = self._latest.take()
        return picture

    def set_auto_contrast(self, on: bool) -> None:
        self._auto_contrast = on
        self.forget_levels()

    def forget_levels(self) -> None:
        """The next picture decides alone how bright it is shown."""
        self._steady.forget()

    def forget_rate(self) -> None:
        """Pictures begin or end to come."""
        self.fps = None
        self._times_s.clear()

    def look(self, camera: Camera, z_um: float | None) -> None:
        """Take a picture and show it. Raises CameraError."""
        picture = camera.snap()
        self._times_s.append(time.monotonic())
        del self._times_s[:-RATE_OVER]
        if len(self._times_s) > 2 and self._times_s[-1] > self._times_s[0]:
            self.fps = (len(self._times_s) - 1) / (self._times_s[-1] - self._times_s[0])
        self.show(picture.image, camera.settings.bit_depth, time_s=picture.time_s, z_um=z_um)

    def show(self, image: NDArray[Any], bit_depth: int, *, time_s: float, z_um: float | None) -> None:
        """An image (H, W[, 3]) uint8 or uint16 for the window, unless it just got one."""
        now_s = time.monotonic()
        if now_s - self._shown_s < DISPLAY_EVERY_S:
            return
        self._shown_s = now_s
        steady = self._steady if self._auto_contrast else None
        picture = look_at(image, white_of(image.dtype, bit_depth), steady, time_s=time_s, z_um=z_um)
        if self._latest.put(picture):
            self._courier.send(self.ready.emit)
