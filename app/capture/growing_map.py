"""The height map that grows while the stack is captured: every frame counts, only the newest map is drawn."""

import logging
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QObject, Signal

from app.workers import JOIN_SECONDS, Courier, Latest
from models.focal_stack import ZUnit
from models.height_map import HeightMap
from models.methods import ReconstructionOptions
from models.streaming import StreamingReconstruction

log = logging.getLogger(__name__)

BACKLOG_BYTES = 512 << 20
"""Frames may wait in memory up to this size; beyond it the capture waits for the reconstruction."""
DRAW_SHARE = 0.34
"""Of the time, at most this share goes into maps for the display; the rest takes in frames."""


class GrowingMap(QObject):
    """Feeds a streaming reconstruction in its own thread. Make one per capture.

    ``grown``: take the newest map with :meth:`take`. ``finished`` carries the final map.
    """

    grown = Signal()
    finished = Signal(object)
    failed = Signal(object)

    def __init__(
        self,
        options: ReconstructionOptions,
        *,
        frame_bytes: int,
        pixel_um: float | None,
        provenance: Mapping[str, Any],
        z_unit: ZUnit = "um",
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._courier = Courier(self)
        self._streaming = StreamingReconstruction(options, pixel_um=pixel_um, z_unit=z_unit, provenance=provenance)
        self._frames: queue.Queue[tuple[NDArray[Any], float] | None] = queue.Queue(
            max(2, BACKLOG_BYTES // max(frame_bytes, 1))
        )
        self._newest = Latest()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name="growing map", daemon=True)
        self._thread.start()

    def add(self, image: NDArray[Any], z_um: float) -> None:
        """Any thread. Waits where too many frames are in memory already."""
        while not self._abandoned.is_set():
            try:
                self._frames.put((image, z_um), timeout=0.2)
                return
            except queue.Full:
                continue

    def finish(self) -> None:
        """No more frames will come: compute the final map."""
        while not self._abandoned.is_set():
            try:
                self._frames.put(None, timeout=0.2)
                return
            except queue.Full:
                continue

    def abandon(self) -> None:
        """Nobody wants the map any more. Waits for the thread."""
        self._abandoned.set()
        self._thread.join(JOIN_SECONDS)

    @property
    def drift_px(self) -> NDArray[np.float64]:
        """(n, 2) row and column drift of each frame so far against the first."""
        return self._streaming.drift_px

    @property
    def magnification(self) -> NDArray[np.float64]:
        """(n,) scale of each frame against the first."""
        return self._streaming.magnification

    def take(self) -> HeightMap | None:
        """The newest map, once."""
        value: HeightMap | None = self._newest.take()
        return value

    def _run(self) -> None:
        try:
            self._consume()
        except Exception as error:
            self._abandoned.set()
            log.exception("The growing height map failed")
            self._courier.send(self.failed.emit, error)

    def _consume(self) -> None:
        next_map_s = 0.0
        while not self._abandoned.is_set():
            try:
                item = self._frames.get(timeout=0.2)
            except queue.Empty:
                continue
            if item is None:
                if self._streaming.frame_count >= 2:
                    self._courier.send(self.finished.emit, self._streaming.finish())
                return
            self._streaming.add(*item)
            begun_s = time.monotonic()
            if self._streaming.frame_count >= 2 and begun_s >= next_map_s:
                was_read = self._newest.put(self._streaming.height_map())
                spent_s = time.monotonic() - begun_s
                next_map_s = begun_s + spent_s / DRAW_SHARE
                if was_read:
                    self._courier.send(self.grown.emit)
