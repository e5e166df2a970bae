"""Reconstruction frame by frame, in the order of the sweep: the map grows while the stack is captured."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import ZUnit
from models.focus.alignment import Aligner
from models.focus.measures import continue_outside, margin_px, measure_strip, relative_noise, to_grey
from models.focus.peak import Peaks, PeakSearch
from models.focus.regularise import regularise
from models.height_map import Flag, HeightMap
from models.language import _
from models.methods import MEASURES, ReconstructionOptions, find_method
from models.sweep_checks import check_arrivals, is_saturated

T = TypeVar("T")

ROWS_PER_STRIP = 128
"""Few enough that a strip's working set stays in the processor's cache. The result does not depend on it."""


@cache
def _workers() -> ThreadPoolExecutor:
    """Threads shared by all reconstructions: numpy and OpenCV release the interpreter while they compute."""
    return ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8), thread_name_prefix="reconstruction")


def _for_each(job: Callable[[slice], T], strips: Iterable[slice]) -> list[T]:
    return list(_workers().map(job, strips))


class StreamingReconstruction:
    """Takes the frames of one sweep, up or down, and gives the height map of what has arrived, by a focus measure.

    Frames are (H, W) or (H, W, 3) RGB, uint8 or uint16, all alike. Memory is a fixed number of images,
    whatever the length of the sweep. Not to be called from several threads at once.
    """

    def __init__(
        self,
        options: ReconstructionOptions,
        *,
        pixel_um: float | None = None,
        z_unit: ZUnit = "um",
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises InputError for a method that is no focus measure; see :mod:`models.live` for any method."""
        find_method(options.method)
        if options.method not in MEASURES:
            raise InputError(
                _("'{name}' is no focus measure. Focus measures: {names}.").format(
                    name=options.method, names=", ".join(MEASURES)
                )
            )
        self._options = options
        self._pixel_um = pixel_um
        self._z_unit: ZUnit = z_unit
        self._provenance = dict(provenance or {})
        self._z_um: list[float] = []
        self._aligner = Aligner(options.align)
        self._search: PeakSearch | None = None

    @property
    def frame_count(self) -> int:
        return len(self._z_um)

    @property
    def drift_px(self) -> NDArray[np.float64]:
        """(n, 2) movement in rows and columns of each frame against the first; zeros without alignment."""
        return self._aligner.drift_px

    @property
    def magnification(self) -> NDArray[np.float64]:
        """(n,) scale of each frame against the first; ones without alignment."""
        return self._aligner.magnification

    def add(self, frame: NDArray[Any], z_um: float) -> None:
        """Take in the next frame. Raises InputError where it does not fit to the ones before it."""
        self.add_all([(frame, z_um)])

    def add_all(self, frames: Sequence[tuple[NDArray[Any], float]]) -> None:
        """Take in the next frames, each with its z in um: to the bit what :meth:`add` makes of one after the other.

        Faster, because what is kept of a strip of rows stays in the processor's cache from frame to frame.
        Raises InputError where one does not fit; then none of them is taken in.
        """
        first = frames[0][0] if self._search is None else self._search.all_in_focus
        z_um = check_arrivals(frames, first, self._z_um)
        search = self._search = self._search or PeakSearch(first.shape, first.dtype)
        method, window, stabilise = self._options.method, self._options.window, self._options.stabilise
        margin = margin_px(method, window)
        aligned = [self._aligner.align(frame, to_grey(frame)) for frame, _z in frames]
        padded = [continue_outside(to_grey(a.frame), margin) for a in aligned]

        def take(rows: slice) -> None:
            reach = slice(rows.start, rows.stop + 2 * margin)
            for index, (grey, seen) in enumerate(zip(padded, aligned, strict=True), start=self.frame_count):
                measure = measure_strip(grey[reach], method, window, stabilise=stabilise)
                rising = index > 0 and z_um[index] > z_um[index - 1]
                inside = None if seen.inside is None else seen.inside[rows]
                search.add(rows, measure, seen.frame[rows], index, rising=rising, inside=inside)

        _for_each(take, self._strips(search.best.shape[0]))
        self._z_um = z_um

    def height_map(self) -> HeightMap:
        """The map of the frames so far, every pixel for itself. Raises InputError before the second frame."""
        search = self._search
        if search is None or self.frame_count < 2:
            raise InputError(
                _("The stack has {n} frame; at least 2 are needed to find a focus.").format(n=self.frame_count)
            )
        z_um = np.array(self._z_um)
        noise = relative_noise(self._options.method, self._options.window)
        strips = _for_each(lambda rows: search.peaks(rows, z_um, noise), self._strips(search.best.shape[0]))
        peaks = Peaks(*(np.concatenate(parts) for parts in zip(*map(_planes, strips), strict=True)))
        flags = peaks.flags
        flags[is_saturated(search.all_in_focus)] |= np.uint8(Flag.SATURATED)
        return HeightMap(
            peaks.height_um,
            peaks.confidence,
            flags,
            search.all_in_focus.copy(),
            self._pixel_um,
            self._z_unit,
            self._options.method,
            {**self._options.record(), **self._movement()},
            self._provenance,
        )

    def finish(self) -> HeightMap:
        """The final map, with the regularisation that the options ask for."""
        steps_um = np.abs(np.diff(self._z_um))
        return regularise(self.height_map(), self._options.regularisation, float(np.median(steps_um)))

    def _movement(self) -> dict[str, Any]:
        """What the alignment found, for the record."""
        if self._options.align == "none":
            return {}
        return {"drift_px": self.drift_px.tolist(), "magnification": self.magnification.tolist()}

    @staticmethod
    def _strips(height: int) -> list[slice]:
        return [slice(top, min(top + ROWS_PER_STRIP, height)) for top in range(0, height, ROWS_PER_STRIP)]


def _planes(peaks: Peaks) -> tuple[NDArray[Any], ...]:
    return peaks.height_um, peaks.confidence, peaks.flags
