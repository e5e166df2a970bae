"""One capture from its start to the finished height map: the sweep, the map that grows beside it, the file."""

import re
import time
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QObject, Signal

from app.capture.device import CaptureEnd
from app.capture.growing_map import GrowingMap, HandOver, MapState
from app.capture.link import MicroscopeLink
from hardware.sweep import Frame, SweepPlan
from models.errors import OutputError, ReliefscopeError
from models.height_map import HeightMap
from models.language import _
from models.methods import ReconstructionOptions, find_method


class CaptureRun(QObject):
    """Runs captures, one at a time. Outlives the panels that show it.

    ``grown``: a newer height map (take it with :meth:`take`). ``finished``: the final map or None, also in
    ``final``; it comes with the last frame, before the file is complete. ``captured``: path of the complete file and
    its map, None where the reconstruction failed. ``stateChanged``: who makes the map, in ``state``, or how long after
    the last frame the final one was there, in ``seconds_to_final``. ``told``: a sentence for the user.
    """

    started = Signal()
    grown = Signal()
    finished = Signal(object)
    captured = Signal(object, object)
    stateChanged = Signal()
    told = Signal(str)
    failed = Signal(str, object)

    def __init__(self, link: MicroscopeLink, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._link = link
        self._map: GrowingMap | None = None
        self._end: CaptureEnd | None = None
        self._options = ReconstructionOptions()
        self.final: HeightMap | None = None
        self.state: MapState | None = None
        self.seconds_to_final = 0.0
        link.captureEnded.connect(self._on_capture_ended)

    def start(self, plan: SweepPlan, folder: Path, sample: str, options: ReconstructionOptions) -> None:
        """Capture ``plan`` into a new file in ``folder``."""
        device, estimate = self._link.device, self._link.estimate(plan)
        if device is None or estimate is None or self._link.busy:
            return
        try:
            path = new_path(folder, sample)
        except OutputError as error:
            self.failed.emit("", error)
            return
        self.close()
        self.final = self.state = None
        self._end, self._options = None, options
        self._map = growing = GrowingMap(
            options,
            frame_count=plan.frame_count,
            frame_bytes=estimate.bytes // plan.frame_count,
            pixel_um=device.pixel_um,
            provenance={"file": path.name, "device": device.name},
            path=path,
            parent=self,
        )
        growing.grown.connect(self.grown)
        growing.finished.connect(self._on_map_finished)
        growing.failed.connect(self._on_map_failed)
        growing.stateChanged.connect(self._on_state)
        growing.handedOver.connect(lambda change: self.told.emit(hand_over_text(change)))
        self.started.emit()

        def take(frame: Frame) -> None:
            growing.add(frame.image, frame.z_measured_um)

        self._link.capture(plan, path, metadata={"sample": sample}, on_frame=take)

    def take(self) -> HeightMap | None:
        """The newest map, once."""
        return self._map.take() if self._map is not None else None

    def drift(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Drift (n, 2) in px and magnification (n,) of the frames so far; None without alignment."""
        if self._map is None or self._options.align == "none":
            return None
        return self._map.drift_px, self._map.magnification

    @property
    def was_cut_short(self) -> bool:
        """Whether the last capture ended before its last frame; ``told`` has said so."""
        return self._end is not None and bool(self._end.reason)

    @property
    def still_wanted(self) -> ReconstructionOptions | None:
        """With what the stack is to be reconstructed when it is complete: where a stand-in made the map meanwhile."""
        return self._options if find_method(self._options.method).whole_stack else None

    def close(self) -> None:
        """Give up the map that is growing, and wait for its thread."""
        if self._map is not None:
            self._map.abandon()
            self._map = None

    def _on_capture_ended(self, end: CaptureEnd) -> None:
        self._end = end
        if end.reason:
            self.told.emit(_report(end))
        if end.path is None:
            self.close()
            self.final = None
            self.finished.emit(None)
        elif self._map is not None and self.final is None:
            self._map.finish()
        else:  # the map is there already; or it failed on the way, and the stack is there all the same
            self._map = None
            self.captured.emit(end.path, self.final)

    def _on_state(self, state: MapState) -> None:
        self.state = state
        self.stateChanged.emit()

    def _on_map_finished(self, height_map: HeightMap) -> None:
        if self._map is None:  # given up while this was on its way
            return
        self.final = height_map
        self.finished.emit(height_map)
        self.seconds_to_final = time.monotonic() - self._map.last_frame_s
        self.stateChanged.emit()
        if self._end is not None and self._end.path is not None:
            self._map = None
            self.captured.emit(self._end.path, height_map)

    def _on_map_failed(self, error: Exception) -> None:
        self._map = None
        self.finished.emit(None)
        self.failed.emit("", error)
        if self._end is not None and self._end.path is not None:
            self.captured.emit(self._end.path, None)


def hand_over_text(change: HandOver) -> str:
    """What a change of method in mid-capture means, in words."""
    slow, method = (_(find_method(name).title) for name in (change.slow, change.method))
    if change.reason is None:
        return _(
            "'{slow}' is too slow for this capture, so '{method}' makes the height map. "
            "Reconstruct in the Surface workspace to have it by the other."
        ).format(slow=slow, method=method)
    reason = str(change.reason)
    if not isinstance(change.reason, ReliefscopeError):
        reason = f"{type(change.reason).__name__}: {reason}"
    return _("'{slow}' failed, so '{method}' makes the height map. {reason}").format(
        slow=slow, method=method, reason=reason
    )


def new_path(folder: Path, sample: str) -> Path:
    """A file name that is not taken: the sample's name and the time. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            _("The folder {path} cannot be made: {error}. Choose another one under File, Captures Folder.").format(
                path=folder, error=error.strerror or error
            )
        ) from error
    name = re.sub(r"[^\w.+-]+", "_", sample) or "stack"
    stem = f"{name}_{datetime.now():%Y%m%d-%H%M%S}"
    path, number = folder / f"{stem}.h5", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.h5"
    return path


def _report(end: CaptureEnd) -> str:
    """What an early end left behind."""
    if end.path is None:
        return _("Capture {reason} before there was anything to keep.").format(reason=end.reason)
    return _("Capture {reason} after {n} of {total} frames. They are kept in {path}.").format(
        reason=end.reason, n=end.frame_count, total=end.planned, path=end.path
    )
