"""Where one height map may lie on another: every place worth a closer look.

The scan is turned to every angle, as it is and mirrored, and correlated with the focus map over all shifts at once,
counting only pixels that both have measured (Padfield, IEEE TIP 21 (2012) 2706). All peaks are kept, not the highest
alone: on a roll of equal cells the place one cell farther correlates as well as the right one.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from models.errors import Cancelled
from models.labels.registration_fit import Affine, Image, Level, plane_of

LEAST_OVERLAP = 0.3
"""Of the measured pixels of the smaller map; on less, correlations are accidents."""
BEST_ORIENTATIONS = 10
SIMILAR_PEAK = 0.9
"""Peaks of at least this part of the highest one are kept..."""
LEAST_CANDIDATES, MOST_CANDIDATES = 16, 160
"""... and at least and at most so many."""
FLATTENING = 0.12
"""Heights are taken from their mean over this part of the smaller map: tilt and form correlate everywhere."""


@dataclass(frozen=True)
class Candidate:
    """``place``: (2, 3), where a pixel of the focus map may lie in the scan, both at full size."""

    correlation: float
    place: Affine


@dataclass(frozen=True)
class _Spectra:
    """Fourier transforms of heights, of their squares and of where they are known, zero elsewhere."""

    height: NDArray[np.complex64]
    square: NDArray[np.complex64]
    known: NDArray[np.complex64]
    count: float


@dataclass(frozen=True)
class _Orientation:
    correlation: float
    flip: bool
    turn: float
    """In radians."""


def search(
    small: tuple[Level, Level], large: tuple[Level, Level], cancel: threading.Event | None = None
) -> list[Candidate]:
    """Candidates, best first, from (focus, scan) levels of equal pixel size: orientations of the smaller, places of
    the larger ones. Raises Cancelled."""
    focus, scan = (_flat(one) for one in small)
    side = np.sqrt(min(np.count_nonzero(one.valid) for one in small))
    turn_step = 1.0 / max(side / 2, 8)  # by as much as moves the rim by a pixel
    turns = np.arange(0, 2 * np.pi, turn_step)
    size = _transform_size(small)
    still = _spectra(focus, size)
    tried: list[_Orientation] = []
    for flip in (False, True):
        for turn in turns:
            if cancel is not None and cancel.is_set():
                raise Cancelled
            moved, _place = _turned(scan, flip, turn)
            tried.append(_Orientation(float(_correlation(still, _spectra(moved, size), size).max()), flip, turn))
    return _places(large, _best(tried, 2.5 * turn_step), turn_step, cancel)


def _best(tried: list[_Orientation], apart: float) -> list[_Orientation]:
    """The best orientations, no two of them within ``apart`` radians."""
    kept: list[_Orientation] = []
    for one in sorted(tried, key=lambda o: -o.correlation):
        if all(one.flip != k.flip or abs(np.angle(np.exp(1j * (one.turn - k.turn)))) > apart for k in kept):
            kept.append(one)
        if len(kept) == BEST_ORIENTATIONS:
            break
    return kept


def _places(
    levels: tuple[Level, Level], orientations: list[_Orientation], turn_step: float, cancel: threading.Event | None
) -> list[Candidate]:
    """All high peaks of the correlation at these orientations."""
    focus, scan = (_flat(one) for one in levels)
    size = _transform_size(levels)
    still = _spectra(focus, size)
    found: list[Candidate] = []
    for orientation in orientations:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        turns = orientation.turn + turn_step * np.array([-0.4, 0, 0.4])
        surfaces = []
        for turn in turns:
            moved, place = _turned(scan, orientation.flip, turn)
            surfaces.append((_correlation(still, _spectra(moved, size), size), place))
        surface, place = max(surfaces, key=lambda s: float(s[0].max()))
        for correlation, shift in _peaks(surface, focus.shape):
            linear = place[:, :2]
            level_place = np.column_stack([linear, place[:, 2] - linear @ shift])
            full = np.column_stack([level_place[:, :2] / focus.step_px, level_place[:, 2]]) * scan.step_px
            found.append(Candidate(correlation, full))
    found.sort(key=lambda c: -c.correlation)
    high = sum(c.correlation >= SIMILAR_PEAK * found[0].correlation for c in found) if found else 0
    return found[: min(max(high, LEAST_CANDIDATES), MOST_CANDIDATES)]


def _flat(level: Level) -> Level:
    """The level without tilt, form and spikes: it correlates only where details do."""
    sigma = FLATTENING * float(np.sqrt(np.count_nonzero(level.valid)))
    valid = level.valid > 0
    heights = np.where(valid, level.height_um - plane_of(level.height_um, valid), np.float32(0))
    mean = cv2.GaussianBlur(heights, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    weight = cv2.GaussianBlur(level.valid, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    detail = heights - mean / np.maximum(weight, np.float32(1e-6))
    known = detail[valid]
    low, high = np.percentile(known, (0.5, 99.5)) if known.size else (0.0, 0.0)
    flat = np.where(valid, np.clip(detail, low, high), np.float32(0)).astype(np.float32)
    return Level(flat, level.valid, level.step_px, level.map_shape)


def _transform_size(levels: tuple[Level, Level]) -> tuple[int, int]:
    """Large enough that places of enough overlap do not wrap around onto others."""
    focus, scan = levels
    diagonal = int(np.hypot(*scan.shape)) + 2
    shorter = min(*focus.shape, *scan.shape)
    rows, columns = (fft.next_fast_len(int(n + diagonal - LEAST_OVERLAP * shorter), real=True) for n in focus.shape)
    return rows, columns


def _turned(scan: Level, flip: bool, turn: float) -> tuple[Level, Affine]:
    """The scan mirrored and turned, on a canvas that holds all of it, and where a pixel of that lies in the scan."""
    side = int(np.hypot(*scan.shape)) + 2
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if flip:
        linear = np.diag([-1.0, 1.0]) @ linear
    centre = (np.array(scan.shape[::-1]) - 1) / 2
    place = np.column_stack([linear, centre - linear @ np.full(2, (side - 1) / 2)])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    height, valid = (
        cv2.warpAffine(image, place, (side, side), flags=flags, borderMode=cv2.BORDER_CONSTANT)
        for image in (scan.height_um, scan.valid)
    )
    whole = (valid > 0.5).astype(np.float32)
    return Level(height * whole, whole, scan.step_px, (side, side)), place


def _spectra(level: Level, size: tuple[int, int]) -> _Spectra:
    height = level.height_um * level.valid
    images = (height, np.square(height), level.valid)
    one, square, known = (fft.rfft2(image, size) for image in images)
    return _Spectra(one, square, known, float(level.valid.sum()))


def _correlation(still: _Spectra, moved: _Spectra, size: tuple[int, int]) -> Image:
    """(size) normalised correlation at every shift of the moved map, wrapped; 0 where too little overlaps."""

    def over(a: NDArray[np.complex64], b: NDArray[np.complex64]) -> Image:
        return np.asarray(fft.irfft2(a * np.conj(b), size))

    shared = over(still.known, moved.known)
    product = over(still.height, moved.height)
    energy = over(still.square, moved.known) * over(still.known, moved.square)
    enough = shared > LEAST_OVERLAP * min(still.count, moved.count)
    floor = 1e-6 * float(energy.max(initial=0.0)) + 1e-30
    return np.where(enough & (energy > floor), product / np.sqrt(np.maximum(energy, floor)), np.float32(0))


def _peaks(surface: Image, shape: tuple[int, int]) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """Local maxima with their shifts (x, y); larger ones than the focus map (``shape``) are wrapped negative ones."""
    wrapped = np.pad(surface, 2, mode="wrap")
    highest = cv2.dilate(wrapped, np.ones((5, 5), np.uint8))[2:-2, 2:-2]
    shifts = np.argwhere((surface == highest) & (surface > 0.5 * max(float(surface.max()), 0.1)))
    for row, column in shifts:
        y, x = (n - size if n >= side else n for n, size, side in zip((row, column), surface.shape, shape, strict=True))
        yield float(surface[row, column]), np.array([x, y], np.float64)
