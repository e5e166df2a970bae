"""The map of another instrument laid over the map from focus: where each of its pixels belongs.

Every place that might be right is refined and judged by what it leaves unexplained. The best is accepted only where
the next best is clearly worse: a roll of equal cells looks the same one cell farther, and a wrong label is worse than
none. Who knows better gives pairs of points.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.errors import InputError
from models.height_map import HeightMap
from models.labels.registration_fit import (
    Affine,
    Fit,
    Image,
    Level,
    Motion,
    covariance,
    grid,
    inverse,
    levelled,
    mapped,
    refine,
    rms,
    sample,
    spread_um,
)
from models.labels.registration_rank import PLACE_SIDE_PX, Measured, Steps, measured, rank
from models.labels.registration_search import LEAST_OVERLAP, Candidate, search
from models.language import _
from models.storage import Progress

CLEARLY_WORSE = 1.2
"""What the runner-up leaves unexplained must be this many times what the best one leaves."""
MOST_UNEXPLAINED = 0.75
"""Of what a plane leaves of the focus map, on the scale of :func:`unlikeness`: unrelated surfaces leave nearly all."""
LARGEST_CLOSURE_PX = 0.5
LARGEST_UNCERTAINTY_PX = 0.5
LARGEST_STRETCH = 0.1
"""Pixel sizes, as stated, and axes at right angles are taken to be right to this part."""
POINTS_APART_PX = 12.0
"""Points set by hand may lie so far from each other (rms, focus pixels) before the heights are asked..."""
POINTS_MOVED_PX = 6.0
"""... and so far after that: more may be the next cell of a roll."""

TURN_SIDE_PX = 72
"""The smaller map has about so many pixels on a side while orientations are searched."""
Points = Sequence[tuple[float, float, float, float]]
"""Pairs: x and y in the focus map, x and y in the scan, in pixels."""


@dataclass(frozen=True)
class Registration:
    """The scan on the focus map: focus(matrix q) = scale_z * scan(q) + offset_um + tilt . way from the centre.

    ``matrix``: (2, 3) float64, from a pixel (x, y, 1) of the scan to one of the focus map; it holds the mirroring that
    ``flip`` tells of. ``offset_um`` is the height added at the centre of the focus map, ``tilt`` (2,) what is gained,
    um per um, to the right and downwards. ``sigma_um``: robust standard deviation of scan minus focus. ``overlap``:
    part of the smaller map that the other covers. ``runner_up_ratio``: what the next best place leaves unexplained over
    what ``matrix`` does (inf: there is none). ``closure_px``: rms over the focus map between registering there
    and back again. ``covariance``: (10, 10) of matrix (by rows), scale_z, offset_um and tilt; zeros for what was fixed.
    ``uncertainty_px``: the standard deviation of a place in the focus map that follows, rms. ``doubts``: sentences
    why nobody should rely on it unseen; ``accepted`` where there are none.
    """

    matrix: Affine
    flip: bool
    scale_z: float
    offset_um: float
    tilt: NDArray[np.float64]
    sigma_um: float
    overlap: float
    runner_up_ratio: float
    closure_px: float
    covariance: NDArray[np.float64]
    uncertainty_px: float
    focus_shape: tuple[int, int]
    focus_pixel_um: float
    doubts: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return not self.doubts

    @property
    def turn_deg(self) -> float:
        """By how much the scan is turned in the focus map, after mirroring left and right where ``flip``; clockwise
        as seen on the screen, -180 to 180."""
        linear = self.matrix[:, :2] @ np.diag([-1.0 if self.flip else 1.0, 1.0])
        return float(np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])))


def register(
    focus: HeightMap,
    scan: HeightMap,
    *,
    points: Points = (),
    motion: Motion = "affine",
    free_z_scale: bool = False,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Registration:
    """Lay ``scan`` over ``focus``, maps in micrometres with pixel sizes; these may differ.

    ``points``: two or more pairs, to begin there instead of searching. ``motion`` "similarity" allows shift, turn and
    magnification, "affine" also shear. ``free_z_scale`` finds the scale of heights, too; it is weakly determined where
    the two resolve details differently. Raises InputError for maps without scale or with too few heights, and
    Cancelled.
    """
    maps = (measured(focus), measured(scan))
    check = Steps(progress, cancel)
    starts = _from_points(points, maps) if points else _searched(maps, cancel)
    check(1)
    if not starts:
        raise InputError(_("The two height maps have no place in common. Give two or more pairs of points."))
    unit_um = max(one.pixel_um for one in maps)
    ranked = rank(maps, starts, unit_um, check)
    best, ratio = ranked[0], float("inf")
    if len(ranked) > 1:
        ratio = ranked[1].unexplained / max(best.unexplained, 1e-9)
    pair = (maps[0].level(unit_um), maps[1].level(unit_um))
    at = sample(pair[0])
    # A scale that is off by half a percent would pull form sideways: it is free while the place is sought.
    fit = refine(*pair, best.fit, at, motion=motion, free_z_scale=True, steps=15)
    check(2)
    back = Fit(inverse(fit.place), np.zeros(3), 1 / fit.scale_z)
    back = refine(pair[1], pair[0], back, sample(pair[1]), motion=motion, free_z_scale=True, steps=15)
    everywhere = grid(maps[0].valid.shape)
    closure_px = rms(mapped(back.place, mapped(fit.place, everywhere)) - everywhere)
    spread = covariance(*pair, fit, at, motion=motion)
    if not free_z_scale:
        fit = levelled(*pair, replace(fit, scale_z=1.0), at)
        spread[6], spread[:, 6] = 0.0, 0.0
    found = _registration(fit, maps, ratio, closure_px, spread)
    warped_um, _valid = warp(scan, found)
    found = replace(found, sigma_um=spread_um((warped_um - focus.height_um)[maps[0].valid]))
    check(3)
    return replace(found, doubts=_doubts(found, maps, best.unexplained, points))


def warp(scan: HeightMap, registration: Registration) -> tuple[Image, NDArray[np.bool_]]:
    """The scan as the focus map would show it: heights (H, W) float32, NaN where it has none, and where it has some.

    A scan of smaller pixels is averaged over those of the focus map first. No height comes from a missing pixel.
    """
    place = inverse(registration.matrix)
    shape = registration.focus_shape
    known = np.isfinite(scan.height_um)
    if not known.any():
        return np.full(shape, np.nan, np.float32), np.zeros(shape, np.bool_)
    step = float(np.sqrt(abs(np.linalg.det(place[:, :2]))))
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    height = scan.height_um[tuple(nearest)]
    if step > 1:
        height = cv2.GaussianBlur(height, (0, 0), 0.5 * np.sqrt(step**2 - 1) + 1e-3)
    size = shape[::-1]
    flags = cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(height, place, size, flags=flags | cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(
        known.astype(np.float32), place, size, flags=flags | cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    valid = share > 0.99
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    across, down = registration.tilt * registration.focus_pixel_um
    plane = registration.offset_um + across * (x - (shape[1] - 1) / 2) + down * (y - (shape[0] - 1) / 2)
    found = (registration.scale_z * warped + plane).astype(np.float32)
    return np.where(valid, found, np.float32(np.nan)), valid


def _searched(maps: tuple[Measured, Measured], cancel: threading.Event | None) -> list[Candidate]:
    sides = [float(np.sqrt(np.count_nonzero(one.valid))) * one.pixel_um for one in maps]
    finest = max(one.pixel_um for one in maps)

    def levels(side_px: float) -> tuple[Level, Level]:
        unit_um = max(finest, min(sides) / side_px, max(sides) / (4 * side_px))
        return maps[0].level(unit_um), maps[1].level(unit_um)

    return search(levels(TURN_SIDE_PX), levels(PLACE_SIDE_PX), cancel)


def _from_points(points: Points, maps: tuple[Measured, Measured]) -> list[Candidate]:
    """The places, as it is and mirrored, at which the points fall nearest to each other (Umeyama, PAMI 13 (1991) 376),
    with the magnification that the pixel sizes tell."""
    pairs = np.array(points, np.float64)
    if pairs.shape[0] < 2 or pairs.shape[1:] != (4,) or not np.isfinite(pairs).all():
        raise InputError(_("Points are given as pairs: x and y in the focus map, x and y in the scan; two or more."))
    near, far = pairs[:, :2], pairs[:, 2:]
    if min(np.linalg.norm(np.ptp(side, axis=0)) for side in (near, far)) < 2 * POINTS_APART_PX:
        raise InputError(_("The points lie too close together to tell how the maps are turned."))
    ratio = maps[0].pixel_um / maps[1].pixel_um
    found = []
    for sign in (1.0, -1.0):
        left, _singular, right = np.linalg.svd((far - far.mean(0)).T @ (near - near.mean(0)))
        linear = ratio * left @ np.diag([1.0, sign * np.linalg.det(left @ right)]) @ right
        place = np.column_stack([linear, far.mean(0) - linear @ near.mean(0)])
        apart = rms(mapped(place, near) - far) / ratio
        if apart <= POINTS_APART_PX:
            found.append(Candidate(-apart, place))
    if not found:
        raise InputError(
            _(
                "The points do not fit the pixel sizes: no turned or mirrored scan brings them within {limit:g} pixels."
            ).format(limit=POINTS_APART_PX)
        )
    return found


def _registration(
    fit: Fit, maps: tuple[Measured, Measured], ratio: float, closure_px: float, spread: NDArray[Any]
) -> Registration:
    focus, scan = maps
    shape = (focus.valid.shape[0], focus.valid.shape[1])
    matrix = inverse(fit.place)
    to_slope = 1 / (max(shape) / 2 * focus.pixel_um)
    units = np.diag([1.0] * 8 + [to_slope] * 2)
    # The heights of both began at their medians: bringing them back couples the offset with the scale.
    units[7, 6] = -scan.median_um
    spread = units @ spread @ units.T
    corners = mapped(fit.place, grid(shape, 64))
    rows, columns = scan.valid.shape
    x, y = np.rint(corners).astype(np.int64).T
    hit = (x >= 0) & (y >= 0) & (x < columns) & (y < rows)
    hit[hit] = scan.valid[y[hit], x[hit]]
    px, py = grid(shape, 64).astype(np.int64).T
    shared = float(np.mean(hit & focus.valid[py, px])) * shape[0] * shape[1]
    areas = [float(np.count_nonzero(focus.valid)), np.count_nonzero(scan.valid) * abs(np.linalg.det(matrix[:, :2]))]
    return Registration(
        matrix=matrix,
        flip=bool(np.linalg.det(matrix[:, :2]) < 0),
        scale_z=fit.scale_z,
        offset_um=float(fit.plane_um[0]) + focus.median_um - fit.scale_z * scan.median_um,
        tilt=fit.plane_um[1:] * to_slope,
        sigma_um=float("nan"),
        overlap=min(1.0, shared / min(areas)),
        runner_up_ratio=ratio,
        closure_px=closure_px,
        covariance=spread,
        uncertainty_px=_uncertainty(spread, mapped(fit.place, grid(shape))),
        focus_shape=shape,
        focus_pixel_um=focus.pixel_um,
    )


def _doubts(
    found: Registration, maps: tuple[Measured, Measured], unexplained: float, points: Points
) -> tuple[str, ...]:
    """Why a person should look at it first."""
    doubts = []
    if found.runner_up_ratio < CLEARLY_WORSE:
        doubts.append(
            _(
                "Another place fits nearly as well ({ratio:.2f} times the rest). Give two or more pairs of points."
            ).format(ratio=found.runner_up_ratio)
        )
    if unexplained > MOST_UNEXPLAINED:
        doubts.append(_("The two maps hardly look alike. Do they show the same place?"))
    if found.overlap < LEAST_OVERLAP:
        doubts.append(_("Only {share:.0%} of the smaller map is covered by the other.").format(share=found.overlap))
    sizes = np.linalg.svd(found.matrix[:, :2], compute_uv=False) * maps[0].pixel_um / maps[1].pixel_um
    if np.abs(sizes - 1).max() > LARGEST_STRETCH:
        doubts.append(_("One map had to be stretched by {share:.0%}. Are the pixel sizes right?").format(
            share=float(np.abs(sizes - 1).max())
        ))  # fmt: skip
    if not found.closure_px <= LARGEST_CLOSURE_PX or not found.uncertainty_px <= LARGEST_UNCERTAINTY_PX:
        doubts.append(
            _("The heights do not fix the place: there and back it differs by {closure:.2f} pixels, "
              "its standard deviation is {spread:.2f} pixels.").format(
                closure=found.closure_px, spread=found.uncertainty_px
            )
        )  # fmt: skip
    if points:
        pairs = np.array(points, np.float64)
        apart = rms(mapped(found.matrix, pairs[:, 2:]) - pairs[:, :2])
        if apart > POINTS_MOVED_PX:
            doubts.append(_("The heights put the points {apart:.0f} pixels apart.").format(apart=apart))
    return tuple(doubts)


def _uncertainty(spread: NDArray[np.float64], scan_points: NDArray[np.float64]) -> float:
    """Root mean square standard deviation of where ``scan_points`` (n, 2) fall in the focus map."""
    point = np.column_stack([scan_points, np.ones(len(scan_points))])
    variance = sum(np.einsum("ni,ij,nj->n", point, spread[k : k + 3, k : k + 3], point) for k in (0, 3))
    return float(np.sqrt(np.mean(np.maximum(variance, 0))))
