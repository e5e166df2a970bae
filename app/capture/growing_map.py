"""The height map that grows while the stack is captured: every frame counts, only the newest map is drawn."""

import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QObject, Signal

from app.capture.pace import Pace
from app.capture.taken_frames import TakenFrames
from app.workers import JOIN_SECONDS, Courier, Latest
from models.errors import ReliefscopeError
from models.focal_stack import ZUnit
from models.height_map import HeightMap
from models.live import LiveReconstruction, live_methods, streaming_reconstruction
from models.methods import ReconstructionOptions, find_method

log = logging.getLogger(__name__)

BACKLOG_BYTES = 512 << 20
"""Frames may wait in memory up to this size; beyond it the capture waits for the reconstruction."""
DRAW_SHARE = 0.34
"""Of the time, at most this share goes into maps for the display; the rest takes in frames."""
FRAMES_AT_ONCE = 4
MOST_LAG_S = 1.5
"""A method that would give the final map later than this after the last frame hands over to a faster one."""

Frames = list[tuple[NDArray[Any], float]]


@dataclass(frozen=True)
class MapState:
    """Who makes the map: ``method``, which may stand in for the ``wanted`` one, and whether it is being loaded."""

    method: str
    wanted: str
    is_loading: bool = False


@dataclass(frozen=True)
class HandOver:
    """``slow`` could not keep pace, or failed for the ``reason``; ``method`` goes on from the first frame."""

    slow: str
    method: str
    reason: Exception | None


class GrowingMap(QObject):
    """Feeds a reconstruction in its own thread, the next of :func:`models.live.live_methods` where one fails or is
    too slow. Make one per capture.

    ``grown``: take the newest map with :meth:`take`. ``finished`` carries the final map, which comes with the last of
    the ``frame_count`` frames, or after :meth:`finish`. ``stateChanged`` carries a :class:`MapState`, ``handedOver`` a
    :class:`HandOver`. ``path``: the file of the capture, which has every frame that is added, in the same order.
    """

    grown = Signal()
    finished = Signal(object)
    failed = Signal(object)
    stateChanged = Signal(object)
    handedOver = Signal(object)

    def __init__(
        self,
        options: ReconstructionOptions,
        *,
        frame_count: int,
        frame_bytes: int,
        pixel_um: float | None,
        provenance: Mapping[str, Any],
        z_unit: ZUnit = "um",
        path: Path | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._courier = Courier(self)
        self._options = options
        self._methods = live_methods(options)
        self._about: dict[str, Any] = {"pixel_um": pixel_um, "z_unit": z_unit, "provenance": provenance}
        self._movement: tuple[NDArray[np.float64], NDArray[np.float64]] = np.empty((0, 2)), np.empty(0)
        self._frames: queue.Queue[tuple[NDArray[Any], float] | None] = queue.Queue(
            max(2, BACKLOG_BYTES // max(frame_bytes, 1))
        )
        self._pace = Pace(frame_count)
        self._taken = TakenFrames(path, again=len(self._methods) > 1)
        self._newest = Latest()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="growing map", daemon=True)
        self._thread.start()

    def add(self, image: NDArray[Any], z_um: float) -> None:
        """Any thread. Waits where too many frames are in memory already."""
        self._pace.arrived()
        self._put((image, z_um))

    def finish(self) -> None:
        """No more frames will come: compute the final map."""
        self._pace.end()
        self._put(None)

    def _put(self, item: tuple[NDArray[Any], float] | None) -> None:
        while not self._abandoned.is_set():
            try:
                self._frames.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def abandon(self) -> None:
        """Nobody wants the map any more. Waits for the thread."""
        self._abandoned.set()
        self._thread.join(JOIN_SECONDS)

    @property
    def last_frame_s(self) -> float:
        """When the last frame arrived, on the clock of time.monotonic()."""
        return self._pace.last_frame_s

    @property
    def drift_px(self) -> NDArray[np.float64]:
        """(n, 2) row and column drift of each frame so far against the first."""
        return self._movement[0]

    @property
    def magnification(self) -> NDArray[np.float64]:
        """(n,) scale of each frame against the first."""
        return self._movement[1]

    def take(self) -> HeightMap | None:
        """The newest map, once."""
        value: HeightMap | None = self._newest.take()
        return value

    # --- in its thread

    def _run(self) -> None:
        try:
            for method, following in pairwise((*self._methods, None)):
                if self._grow_by(str(method), following):
                    return
        except Exception as error:
            self._abandoned.set()
            log.exception("The growing height map failed")
            self._courier.send(self.failed.emit, error)
        finally:
            self._taken = TakenFrames(None, again=False)  # this object stays as long as the window; they need not

    def _grow_by(self, method: str, following: str | None) -> bool:
        """Go through all frames with ``method``; False where ``following`` is to take over."""
        reason = None
        try:
            if self._goes_through(method, is_last=following is None):
                return True
        except Exception as error:
            if following is None:
                raise
            is_defect = not isinstance(error, ReliefscopeError)
            log.warning("The map goes on without %s: %s", method, error, exc_info=error if is_defect else None)
            reason = error
        if following is not None:
            self._courier.send(self.handedOver.emit, HandOver(method, following, reason))
        return False

    def _goes_through(self, method: str, *, is_last: bool) -> bool:
        """False where the method is too slow for the camera and another may take over."""
        wanted = self._options.method
        self._say(MapState(method, wanted, is_loading=find_method(method).kind == "network"))
        streaming = streaming_reconstruction(self._options, method=method, live=True, **self._about)
        self._say(MapState(method, wanted))
        self._pace.begin()
        next_map_s = spent_s = 0.0
        for frames in self._groups():
            begun_s = time.monotonic()
            streaming.add_all(frames)
            self._pace.worked(time.monotonic() - begun_s, len(frames))
            self._movement = streaming.drift_px, streaming.magnification
            if not is_last and self._pace.expected_lag_s(streaming.frame_count) > MOST_LAG_S:
                return False
            begun_s = time.monotonic()
            if streaming.frame_count >= 2 and begun_s >= next_map_s and self._is_worth_drawing(streaming, spent_s):
                was_read = self._newest.put(streaming.height_map())
                spent_s = time.monotonic() - begun_s
                next_map_s = begun_s + spent_s / DRAW_SHARE
                if was_read:
                    self._courier.send(self.grown.emit)
        if streaming.frame_count >= 2 and not self._abandoned.is_set():
            self._courier.send(self.finished.emit, streaming.finish())
        return True

    def _is_worth_drawing(self, streaming: LiveReconstruction, takes_s: float) -> bool:
        """Not while frames are gone through again, and not where the last frame would have to wait for it."""
        is_up_to_date = streaming.frame_count == len(self._taken)
        return is_up_to_date and not self._pace.all_arrived and self._pace.seconds_to_last() > takes_s

    @property
    def _at_once(self) -> int:
        """One by one until it is known how long one takes: four slow ones would be noticed late."""
        return FRAMES_AT_ONCE if self._pace.is_known else 1

    def _groups(self) -> Iterator[Frames]:
        """The frames that another method has had already, then the new ones as they come."""
        had, first = len(self._taken), 0
        while first < had and not self._abandoned.is_set():
            following = min(first + self._at_once, had)
            yield [self._taken[k] for k in range(first, following)]
            first = following
        while not self._abandoned.is_set() and len(self._taken) < self._pace.planned:
            frames = self._received()
            if frames:
                yield frames

    def _received(self) -> Frames:
        """The frames that wait, a few at most; empty after a while without any, or where none will come."""
        frames: Frames = []
        try:
            while len(frames) < self._at_once:
                item = self._frames.get(block=not frames, timeout=0.2)
                if item is None:
                    break
                frames.append(item)
        except queue.Empty:
            pass
        for frame in frames:
            self._taken.append(*frame)
        return frames

    def _say(self, state: MapState) -> None:
        self._courier.send(self.stateChanged.emit, state)
