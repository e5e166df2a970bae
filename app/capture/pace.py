"""Whether a reconstruction keeps pace with the camera."""

import statistics
import threading
import time
from collections import deque

MEASURED = 3
"""So many times are needed before anything is said; the first one of a method, with its preparations, is not among
them."""
NEWEST = 8


class Pace:
    """Counts the frames that arrive, in the thread of the device, and times the work on them, in another.

    ``planned``: how many frames there will be.
    """

    def __init__(self, planned: int) -> None:
        self.planned = planned
        self.last_frame_s = 0.0
        self._lock = threading.Lock()
        self._first_frame_s = 0.0
        self._arrived = 0
        self._seconds: deque[float] = deque(maxlen=NEWEST)
        self._is_warm = False

    def arrived(self) -> None:
        """A frame is there."""
        with self._lock:
            self.last_frame_s = time.monotonic()
            self._first_frame_s = self._first_frame_s or self.last_frame_s
            self._arrived += 1

    def end(self) -> None:
        """No more will come, fewer than planned perhaps."""
        with self._lock:
            self.planned = self._arrived

    @property
    def all_arrived(self) -> bool:
        return self._arrived >= self.planned

    def begin(self) -> None:
        """Another method starts to work."""
        self._seconds.clear()
        self._is_warm = False

    def worked(self, seconds: float, frames: int) -> None:
        """Taking in so many frames has taken so long."""
        if self._is_warm:
            self._seconds.extend([seconds / frames] * frames)
        self._is_warm = True

    @property
    def is_known(self) -> bool:
        """Whether enough has been timed."""
        return len(self._seconds) >= MEASURED

    def seconds_to_last(self) -> float:
        """How long it will be until the last frame is there; 0 where it is."""
        with self._lock:
            since_last_s = time.monotonic() - self.last_frame_s
            return max(0.0, (self.planned - self._arrived) * self._spacing_s() - since_last_s)

    def _spacing_s(self) -> float:
        return (self.last_frame_s - self._first_frame_s) / max(self._arrived - 1, 1)

    def expected_lag_s(self, done: int) -> float:
        """How long after the last frame all of them will have been taken in, ``done`` being so far; 0 at first."""
        if not self.is_known:
            return 0.0
        with self._lock:
            coming_s = (self.planned - self._arrived) * self._spacing_s()
        return max(0.0, statistics.median(self._seconds) * (self.planned - done) - coming_s)
