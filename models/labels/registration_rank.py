"""Which of the places where one height map may lie on another explains the heights best."""

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import Cancelled, InputError
from models.height_map import Flag, HeightMap
from models.labels.registration_fit import (
    Fit,
    Image,
    Level,
    Motion,
    Sample,
    grid,
    level,
    mapped,
    refine,
    residuals,
    sample,
    spread_um,
    unlikeness,
)
from models.labels.registration_search import LEAST_OVERLAP, Candidate
from models.language import _
from models.storage import Progress

PLACE_SIDE_PX = 128
"""The smaller map has about so many pixels on a side while places are searched."""
SAME_PLACE_PX = 2.0
WORST_KEPT = 1.5
"""A candidate that is this many times worse than the best on a coarser level is given up, but for a few."""
FEWEST_KEPT = 6
LEAST_PIXELS = 2000
"""Fewer measured pixels decide nothing."""


@dataclass(frozen=True)
class Measured:
    """Heights from their median on, what is measured of them, and the size of a pixel."""

    height_um: Image
    valid: NDArray[np.bool_]
    pixel_um: float
    median_um: float

    def level(self, unit_um: float) -> Level:
        return level(self.height_um, self.valid, max(1.0, unit_um / self.pixel_um))


@dataclass(frozen=True)
class Ranked:
    """``unexplained``: what the fit leaves of the focus map over what a plane would leave; 1 and more is nothing."""

    fit: Fit
    unexplained: float


class Steps:
    """Tells how far the work has come, and ends it where that is wished."""

    def __init__(self, progress: Progress | None, cancel: threading.Event | None) -> None:
        self._progress, self._cancel = progress, cancel

    def __call__(self, done: int) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled
        if self._progress is not None:
            self._progress(done, 3)


def measured(height_map: HeightMap) -> Measured:
    """What may be relied on of a map. Raises InputError where it has no scale or too few heights."""
    if height_map.pixel_um is None or height_map.z_unit != "um":
        raise InputError(_("Only height maps in micrometres with a known pixel size can be laid over one another."))
    mistrusted = np.uint8(Flag.PEAK_AT_END | Flag.NO_PEAK | Flag.OUTSIDE)
    valid = np.isfinite(height_map.height_um) & ((height_map.flags & mistrusted) == 0)
    if np.count_nonzero(valid) < LEAST_PIXELS:
        raise InputError(
            _("A height map has {count} measured pixels; at least {least} are needed to find its place.").format(
                count=np.count_nonzero(valid), least=LEAST_PIXELS
            )
        )
    median = float(np.median(height_map.height_um[valid]))
    heights = np.where(valid, height_map.height_um - np.float32(median), np.float32(0))
    return Measured(heights, valid, height_map.pixel_um, median)


def rank(maps: tuple[Measured, Measured], starts: list[Candidate], finest_um: float, check: Steps) -> list[Ranked]:
    """Different places, best first, judged at full resolution: equal cells differ in their finest texture only."""
    side_um = min(float(np.sqrt(np.count_nonzero(one.valid))) * one.pixel_um for one in maps)
    fits = [Fit(one.place, np.zeros(3)) for one in starts]
    ranked: list[Ranked] = []
    rounds: tuple[tuple[float, Motion, int, int], ...] = (
        (side_um / PLACE_SIDE_PX, "similarity", 8, 4000),
        (side_um / (2 * PLACE_SIDE_PX), "affine", 4, 6000),
        (finest_um, "affine", 4, 10_000),
    )
    for unit_um, motion, steps, pixels in rounds:
        pair = (maps[0].level(max(unit_um, finest_um)), maps[1].level(max(unit_um, finest_um)))
        at = sample(pair[0], pixels)
        refined = []
        for fit in fits:
            check(1)
            refined.append(refine(*pair, fit, at, motion=motion, free_z_scale=motion == "affine", steps=steps))
        ranked = _distinct(_judge(pair, refined, at), maps[0].valid.shape)
        good = sum(one.unexplained <= WORST_KEPT * ranked[0].unexplained for one in ranked)
        fits = [one.fit for one in ranked[: max(good, FEWEST_KEPT)]]
    return ranked


def _judge(pair: tuple[Level, Level], fits: list[Fit], at: Sample) -> list[Ranked]:
    """Every fit with what it leaves of what a plane would leave, all measured with the same noise, best first."""
    left = [residuals(*pair, fit, at) for fit in fits]
    noise = [spread_um(one) for one in left if np.count_nonzero(np.isfinite(one)) >= _least(pair, at)]
    if not noise:
        raise InputError(_("The two height maps have no place in common. Give two or more pairs of points."))
    sigma = max(min(noise), 1e-6)
    columns = np.column_stack([np.ones_like(at.u), at.u, at.v])
    ranked = []
    for fit, one in zip(fits, left, strict=True):
        known = np.isfinite(one)
        if np.count_nonzero(known) < _least(pair, at):
            continue
        plane = np.linalg.lstsq(columns[known], at.height_um[known], rcond=None)[0]
        bare = at.height_um[known] - columns[known] @ plane
        ranked.append(Ranked(fit, unlikeness(one, sigma) / unlikeness(bare, sigma)))
    return sorted(ranked, key=lambda r: r.unexplained)


def _least(pair: tuple[Level, Level], at: Sample) -> float:
    """So many pixels of a sample of the focus map must lie in the scan: a share of the smaller of the two."""
    focus, scan = (float(one.valid.sum()) for one in pair)
    return 0.8 * LEAST_OVERLAP * len(at) * min(1.0, scan / focus)


def _distinct(ranked: list[Ranked], shape: tuple[int, int]) -> list[Ranked]:
    """The best of those that have come to the same place."""
    kept: list[Ranked] = []
    places = np.empty((0, 64, 2))
    for one in ranked:
        there = mapped(one.fit.place, grid(shape))
        step = float(np.sqrt(abs(np.linalg.det(one.fit.place[:, :2]))))
        apart = np.sqrt(np.mean(np.sum(np.square(places - there), axis=2), axis=1))
        if apart.min(initial=np.inf) > SAME_PLACE_PX * step:
            kept.append(one)
            places = np.concatenate([places, there[None]])
    return kept
