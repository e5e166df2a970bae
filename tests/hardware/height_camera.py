"""A camera in software whose pictures tell where the motor truly stood, and which fails on demand."""

import threading
import time
from collections import deque
from collections.abc import Callable

import cv2
import numpy as np

from hardware.camera import CameraDisconnected, CameraError, CameraIdentity, CameraRanges, CameraSettings, Picture

GRAIN_UM = 0.1
LOWEST_UM = -3000.0


class HeightCamera:
    """Every picture carries the height at its exposure and its own number. ``faults``: what the next pictures do.

    A fault is one of "late" (no picture in time), "corrupt" (a part of one) and "old" (the picture before).
    """

    name = "Height camera"
    identity = CameraIdentity("test", model="Height camera")
    ranges = CameraRanges(exposure_ms=(0.01, 1000.0), gain=(1.0, 1.0), bit_depths=(16,))
    image_shape: tuple[int, ...] = (8, 8)
    dtype = np.dtype(np.uint16)
    settings = CameraSettings(exposure_ms=0.1, bit_depth=16)

    def __init__(self, height_um: Callable[[], float]) -> None:
        self._height_um = height_um
        self.faults: Callable[[], str | None] = lambda: None
        self.plugged = True
        self._open = True
        self.dropped_frames = self.exposures = self.reconnections = 0
        self._last: Picture | None = None
        self.on_exposed: Callable[[], None] = lambda: None
        """The trigger output: called at the end of every exposure."""
        self._armed = 0
        self._queue: deque[Picture] = deque()
        self._arrived = threading.Condition()

    def apply(self, settings: CameraSettings) -> None:
        self.settings = settings

    def snap(self) -> Picture:
        if not (self.plugged and self._open):
            self._open = False
            raise CameraDisconnected(f"{self.name} is gone. Plug it in again.")
        fault = self.faults()
        if fault == "late":
            raise CameraError(f"{self.name} sent no picture in time.")
        if fault == "old" and self._last is not None:
            return self._last
        picture = self._expose()
        if fault == "corrupt":
            return Picture(picture.image[:3], picture.time_s)
        self._last = picture
        self.on_exposed()
        return picture

    def _expose(self) -> Picture:
        began_s = time.monotonic()
        image = np.zeros((8, 8), np.uint16)
        image[0, 0] = round((self._height_um() - LOWEST_UM) / GRAIN_UM)
        self.exposures += 1
        image[0, 1] = self.exposures
        return Picture(image, began_s)

    def reconnect(self) -> None:
        if not self.plugged:
            raise CameraDisconnected(f"{self.name} is gone. Plug it in again.")
        self._open = True
        self.reconnections += 1

    def close(self) -> None:
        self._open = False

    # -- the trigger input

    def arm(self, frame_count: int) -> None:
        self._queue.clear()
        self._armed = frame_count

    def pulse(self) -> None:
        with self._arrived:
            if self._armed > 0 and self.faults() is None:
                self._armed -= 1
                self._queue.append(self._expose())
                self._arrived.notify()

    def next_picture(self, timeout_s: float) -> Picture:
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._queue, timeout_s):
                raise CameraError(f"{self.name} got no pulse.")
            return self._queue.popleft()

    def disarm(self) -> None:
        self._armed = 0


def true_height_um(image: np.ndarray) -> float:
    """Where the motor stood."""
    return float(image[0, 0]) * GRAIN_UM + LOWEST_UM


def exposure_number(image: np.ndarray) -> int:
    return int(image[0, 1])


class FocusCamera(HeightCamera):
    """Looks at a rough plane at ``plane_um``; out of focus it is blurred."""

    name = "Focus camera"
    image_shape = (64, 64)

    def __init__(self, height_um: Callable[[], float], plane_um: float) -> None:
        super().__init__(height_um)
        self._plane_um = plane_um
        texture = np.random.default_rng(3).uniform(200.0, 800.0, self.image_shape)
        self._texture = cv2.GaussianBlur(texture, (0, 0), 0.8)

    def _expose(self) -> Picture:
        began_s = time.monotonic()
        sigma_px = 0.2 + abs(self._height_um() - self._plane_um) / 4.0
        return Picture(np.rint(cv2.GaussianBlur(self._texture, (0, 0), sigma_px)).astype(np.uint16), began_s)
