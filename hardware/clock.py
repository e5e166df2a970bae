"""Time as devices feel it: real, or running faster for simulated devices so that tests need not wait."""

import threading
import time


class Clock:
    """Real time. ``now`` is ``time.monotonic()``."""

    def now(self) -> float:
        """Seconds; the clock of every time stamp in a capture."""
        return time.monotonic()

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        """Sleep without using the processor; return early, with True, when ``wake`` is set."""
        if wake is not None:
            return wake.wait(max(seconds, 0.0))
        time.sleep(max(seconds, 0.0))
        return False


class FastClock(Clock):
    """Runs ``time_scale`` times as fast as real time, and equal to it at the moment it is made.

    With ``time_scale`` infinite nobody waits: every wait moves the clock on by what was asked for. Use that
    only where one thread works the devices.
    """

    def __init__(self, time_scale: float = 1.0) -> None:
        self.time_scale = time_scale
        self._start = time.monotonic()
        self._skipped_s = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        if self.time_scale == float("inf"):
            return self._start + self._skipped_s
        return self._start + (time.monotonic() - self._start) * self.time_scale

    def wait(self, seconds: float, wake: threading.Event | None = None) -> bool:
        if self.time_scale == float("inf"):
            if wake is not None and wake.is_set():
                return True
            with self._lock:
                self._skipped_s += max(seconds, 0.0)
            return False
        return super().wait(seconds / self.time_scale, wake)
