"""Two height maps laid over one another: Gauss-Newton steps on the heights themselves.

At every pixel p of the focus map the scan should say the same height: s * scan(B p) + offset + tilt . p = focus(p).
The place B, the plane and, where asked for, the scale s are found together, because a tilt between the two looks
like a shift on every slope. Tukey's weights (Beaton and Tukey, Technometrics 16 (1974) 147) take no notice of spikes
and of what only one instrument sees. Steps are composed onto the place, as in Baker and Matthews (IJCV 56 (2004) 221).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Affine = NDArray[np.float64]
"""(2, 3) map of a pixel (x, y, 1) of one height map to where it lies in another."""
Motion = Literal["similarity", "affine"]

BLUR_PX = 0.7
"""Standard deviation, in pixels of a level, of the blur that both maps get: without it, interpolation would favour
places half-way between pixels, where it hides noise."""
LEAST_SUPPORT = 0.5
"""A pixel of a level counts as measured where this share of its blur falls on measured pixels."""
TUKEY = 4.685
"""Residuals beyond this many standard deviations count for nothing; 95 % efficiency under Gaussian noise."""
NORMAL_MAD = 1.4826
SETTLED_PX = 0.002
LONGEST_STEP_PX = 2.0
BLOCK_PX = 24
"""Residuals farther apart than this are taken as independent."""
_LOOKUP_COLUMNS = 256  # cv2.remap takes no more than 32767 columns; points are folded into rows of this many
_FRACTIONS = 32  # cv2.remap rounds places to this part of a pixel


@dataclass(frozen=True)
class Level:
    """One map of a pyramid; its pixel (x, y) lies at (step_px x, step_px y) of the map that it is of."""

    height_um: Image
    """(h, w), holes filled from their rims."""
    valid: Image
    """(h, w), 1 where measured, otherwise 0."""
    step_px: float
    map_shape: tuple[int, int]

    @cached_property
    def height_and_slopes(self) -> Image:
        """(h, w, 3): height, and its slopes along x and y per pixel."""
        kernel = np.array([[-0.5, 0, 0.5]], np.float32)
        slopes = [cv2.filter2D(self.height_um, -1, k, borderType=cv2.BORDER_REPLICATE) for k in (kernel, kernel.T)]
        return np.dstack([self.height_um, *slopes])

    @property
    def centre(self) -> NDArray[np.float64]:
        """(x, y) of the middle of the whole map."""
        return (np.array(self.map_shape[::-1]) - 1) / 2

    @property
    def half(self) -> float:
        """Half the longer side of the whole map."""
        return max(self.map_shape) / 2

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.height_um.shape[0]), int(self.height_um.shape[1])


@dataclass(frozen=True)
class Fit:
    """``place``: (2, 3), where a pixel of the focus map lies in the scan, both at full size.

    ``plane_um``: (3,), what is added to the scaled scan: a constant and what is gained from the centre of the focus
    map to a point half its longer side to the right, or below.
    """

    place: Affine
    plane_um: NDArray[np.float64]
    scale_z: float = 1.0


@dataclass(frozen=True)
class Sample:
    """Pixels of a level of the focus map at which residuals are taken."""

    x: Image
    y: Image
    u: Image
    """x and y from the centre of the map, in units of half its longer side."""
    v: Image
    height_um: Image

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class _Linear:
    """Residuals (n,) and their derivatives by the parameters (n, k); ``inside`` (n,) says where there is a scan."""

    residual_um: Image
    columns: Image
    inside: NDArray[np.bool_]
    sigma_um: float


def level(height_um: Image, valid: NDArray[np.bool_], step_px: float) -> Level:
    """The map (H, W) in pixels ``step_px`` times as large, blurred to them. Missing pixels have no say in the blur."""
    weight = valid.astype(np.float32)
    sigma = BLUR_PX * step_px
    plane = plane_of(height_um, valid)  # beside a hole, the mean of the rest of a slope would be off
    rest = np.where(valid, height_um - plane, np.float32(0))
    total = cv2.GaussianBlur(rest, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    support = cv2.GaussianBlur(weight, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    inside = cv2.GaussianBlur(np.ones_like(weight), (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    mean = total / np.maximum(support, np.float32(1e-6)) + plane
    share = support / inside
    size = tuple(int((n - 1) / step_px) + 1 for n in weight.shape[::-1])
    grid = np.array([[step_px, 0, 0], [0, step_px, 0]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    mean, share = (
        np.asarray(cv2.warpAffine(image, grid, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))
        for image in (mean, share)
    )
    return Level(mean, (share > LEAST_SUPPORT).astype(np.float32), step_px, (weight.shape[0], weight.shape[1]))


def plane_of(height_um: Image, valid: NDArray[np.bool_]) -> Image:
    """(H, W) the plane through the measured heights."""
    y, x = np.nonzero(valid)
    some = slice(None, None, max(1, len(y) // 50_000))
    y, x = y[some].astype(np.float32), x[some].astype(np.float32)
    if len(y) < 3:
        return np.zeros_like(height_um)
    offset, across, down = robust_plane(np.column_stack([np.ones_like(x), x, y]), height_um[valid][some])
    rows, columns = height_um.shape
    plane = offset + across * np.arange(columns)[None, :] + down * np.arange(rows)[:, None]
    return np.asarray(plane, dtype=np.float32)


def sample(focus: Level, most: int | None = None) -> Sample:
    """The measured pixels of a level; where there are more than ``most``, that many of them, drawn at random."""
    chosen = np.flatnonzero(focus.valid)
    if most is not None and len(chosen) > most:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, most, replace=False))
    y, x = (index.astype(np.float32) for index in np.divmod(chosen, focus.shape[1]))
    u, v = ((c * focus.step_px - middle) / focus.half for c, middle in zip((x, y), focus.centre, strict=True))
    return Sample(x, y, u.astype(np.float32), v.astype(np.float32), focus.height_um.ravel()[chosen])


def after(place: Affine, change: Affine) -> Affine:
    """The map that applies ``change`` first."""
    return np.asarray((np.vstack([place, [0, 0, 1]]) @ np.vstack([change, [0, 0, 1]]))[:2])


def inverse(place: Affine) -> Affine:
    """The map back."""
    return np.asarray(np.linalg.inv(np.vstack([place, [0, 0, 1]]))[:2])


def mapped(place: Affine, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n, 2) points (x, y) under ``place``."""
    return np.asarray(points @ place[:, :2].T + place[:, 2])


def grid(shape: tuple[int, ...], count: int = 8) -> NDArray[np.float64]:
    """(count^2, 2) points (x, y) spread over a map."""
    y, x = (np.linspace(0, n - 1, count) for n in shape[:2])
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def rms(vectors: NDArray[np.float64]) -> float:
    """Root mean square length of vectors (n, 2)."""
    return float(np.sqrt(np.mean(np.sum(np.square(vectors), axis=1))))


def refine(
    focus: Level,
    scan: Level,
    start: Fit,
    at: Sample,
    *,
    motion: Motion,
    free_z_scale: bool = False,
    steps: int = 10,
) -> Fit:
    """``start``, improved by at most ``steps`` steps. What the heights say nothing about stays as it was."""
    fit = levelled(focus, scan, start, at)
    wide = np.inf
    for _step in range(steps):
        linear = _linearise(focus, scan, fit, at, motion, free_z_scale)
        if np.count_nonzero(linear.inside) < 4 * linear.columns.shape[1]:
            return start
        # Far from the goal every edge looks like a spike: what counts as one narrows step by step.
        spread = float(np.sqrt(np.mean(np.square(linear.residual_um[linear.inside], dtype=np.float64))))
        wide = min(wide, spread)
        weight = _tukey(linear, max(linear.sigma_um, wide))
        wide /= 2
        weighted = linear.columns * weight[:, None]
        normal = (weighted.T @ linear.columns).astype(np.float64)
        normal[np.diag_indices_from(normal)] *= 1 + 1e-6
        wanted = (weighted.T @ linear.residual_um).astype(np.float64)
        change = -np.linalg.lstsq(normal, wanted, rcond=1e-9)[0]
        moved = float(np.linalg.norm(change[: _lateral(motion)]))
        shortened = np.asarray(change, dtype=np.float64) * min(1.0, LONGEST_STEP_PX / max(moved, 1e-12))
        fit = _changed(fit, focus, shortened, motion, free_z_scale)
        if moved < SETTLED_PX and wide < linear.sigma_um:
            break
    return fit


def residuals(focus: Level, scan: Level, fit: Fit, at: Sample) -> Image:
    """Scan minus focus (n,), NaN where the scan has nothing."""
    linear = _linearise(focus, scan, fit, at, "similarity", False)
    return np.where(linear.inside, linear.residual_um, np.float32(np.nan))


def spread_um(residual_um: NDArray[np.floating]) -> float:
    """Standard deviation of Gaussian residuals (n,) among spikes and NaN; NaN where there is none."""
    known = np.abs(residual_um[np.isfinite(residual_um)])
    return NORMAL_MAD * float(np.median(known)) if known.size else float("nan")


def unlikeness(residual_um: NDArray[np.floating], sigma_um: float) -> float:
    """Root of the mean of Tukey's loss, (n,) with NaN: unlike a median it also sees what only a few pixels say."""
    known = residual_um[np.isfinite(residual_um)]
    beyond = np.minimum(np.square(known / (TUKEY * sigma_um), dtype=np.float64), 1.0)
    return float(np.sqrt(np.mean(1 - (1 - beyond) ** 3))) if known.size else float("nan")


def covariance(focus: Level, scan: Level, fit: Fit, at: Sample, *, motion: Motion) -> NDArray[np.float64]:
    """(10, 10) of: the six numbers of the map from scan to focus pixels by rows, scale_z, and ``plane_um``.

    From the scatter of the residuals between blocks of pixels ("sandwich", Huber 1967; Liang and Zeger 1986), since
    neighbours err together.
    """
    linear = _linearise(focus, scan, fit, at, motion, True)
    ratio = np.square(np.minimum(np.abs(linear.residual_um / (TUKEY * linear.sigma_um)), 1), dtype=np.float64)
    columns = linear.columns.astype(np.float64)
    curvature = np.where(linear.inside, (1 - ratio) * (1 - 5 * ratio), 0)
    pull = columns * (np.where(linear.inside, (1 - ratio) ** 2, 0) * linear.residual_um)[:, None]
    across = int(focus.shape[1] // BLOCK_PX + 1)
    block = (at.y // BLOCK_PX).astype(np.int64) * across + (at.x // BLOCK_PX).astype(np.int64)
    sums = np.array([np.bincount(block, column) for column in pull.T])
    bread = np.linalg.pinv((columns * curvature[:, None]).T @ columns, rcond=1e-12, hermitian=True)
    found = bread @ (sums @ sums.T) @ bread

    to_focus = np.vstack([inverse(fit.place), [0, 0, 1]])
    count = found.shape[0]
    outer = np.zeros((10, count))
    for k in range(_lateral(motion)):
        small = np.zeros(_lateral(motion))
        small[k] = 1.0
        change = _motion(small, focus, motion) - np.eye(2, 3)
        outer[:6, k] = -(np.vstack([change, [0, 0, 0]]) @ to_focus)[:2].ravel()
    outer[7:, _lateral(motion) : _lateral(motion) + 3] = np.eye(3)
    outer[6, -1] = 1.0
    return np.asarray(outer @ found @ outer.T)


def _lateral(motion: Motion) -> int:
    return 6 if motion == "affine" else 4


def _tukey(linear: _Linear, sigma_um: float) -> Image:
    ratio = np.minimum(np.abs(linear.residual_um / np.float32(TUKEY * sigma_um + 1e-12)), 1)
    return np.where(linear.inside, np.square(1 - np.square(ratio)), np.float32(0))


def _linearise(focus: Level, scan: Level, fit: Fit, at: Sample, motion: Motion, free_z_scale: bool) -> _Linear:
    place = _between(fit.place, focus.step_px, scan.step_px)
    height, by_x, by_y, inside = _look_up(scan, place, at)
    offset, across, down = (np.float32(number) for number in fit.plane_um)
    residual = np.float32(fit.scale_z) * height + offset + across * at.u + down * at.v - at.height_um
    turned = (fit.scale_z * place[:, :2]).astype(np.float32)
    gx, gy = turned[0, 0] * by_x + turned[1, 0] * by_y, turned[0, 1] * by_x + turned[1, 1] * by_y
    if motion == "affine":
        columns = [gx, gx * at.u, gx * at.v, gy, gy * at.u, gy * at.v]
    else:
        columns = [gx, gy, gx * at.u + gy * at.v, gy * at.u - gx * at.v]
    columns += [np.ones_like(gx), at.u, at.v]
    if free_z_scale:
        columns.append(height)
    known = residual[inside]
    return _Linear(residual, np.column_stack(columns), inside, max(spread_um(known), 1e-9) if known.size else 1e-9)


def _look_up(scan: Level, place: Affine, at: Sample) -> tuple[Image, Image, Image, NDArray[np.bool_]]:
    """Height and slopes along x and y (n,) of the scan at the places of the sample, and where it has been measured."""
    count = len(at)
    x, y = (row[0] * at.x.astype(np.float64) + row[1] * at.y + row[2] for row in place)
    rows, columns = scan.shape
    inside = (x >= 1) & (y >= 1) & (x <= columns - 2) & (y <= rows - 2)
    x, y = np.clip(x, -2, columns + 1), np.clip(y, -2, rows + 1)
    whole_x, whole_y = (np.round(c * _FRACTIONS) / _FRACTIONS for c in (x, y))
    pad = -count % _LOOKUP_COLUMNS
    at_x, at_y = (np.pad(c, (0, pad)).astype(np.float32).reshape(-1, _LOOKUP_COLUMNS) for c in (whole_x, whole_y))
    seen = cv2.remap(scan.height_and_slopes, at_x, at_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).reshape(
        -1, 3
    )[:count]
    valid = cv2.remap(scan.valid, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT).ravel()[:count]
    height, by_x, by_y = (np.ascontiguousarray(channel) for channel in seen.reshape(-1, 3)[:count].T)
    height = height + by_x * (x - whole_x).astype(np.float32) + by_y * (y - whole_y).astype(np.float32)
    return height, by_x, by_y, inside & (valid > 0.99)


def levelled(focus: Level, scan: Level, fit: Fit, at: Sample) -> Fit:
    """The same place with the plane that fits best in the median sense (iteratively re-weighted)."""
    height, _by_x, _by_y, inside = _look_up(scan, _between(fit.place, focus.step_px, scan.step_px), at)
    if np.count_nonzero(inside) < 16:
        return fit
    rest = (at.height_um - np.float32(fit.scale_z) * height)[inside]
    columns = np.column_stack([np.ones_like(rest), at.u[inside], at.v[inside]])
    return replace(fit, plane_um=robust_plane(columns, rest))


def robust_plane(columns: Image, rest: Image) -> NDArray[np.float64]:
    """(3,) coefficients of ``columns`` (n, 3) that leave the least absolute residuals of ``rest`` (n,), nearly."""
    weight = np.ones_like(rest)
    plane = np.zeros(3)
    for _step in range(4):
        weighted = columns * weight[:, None]
        plane = np.linalg.lstsq(
            (weighted.T @ columns).astype(np.float64), (weighted.T @ rest).astype(np.float64), rcond=1e-9
        )[0]
        left = np.abs(rest - columns @ plane.astype(np.float32))
        weight = 1 / np.maximum(left, np.float32(0.2 * np.median(left) + 1e-9))
    return np.asarray(plane, dtype=np.float64)


def _motion(change: NDArray[np.float64], focus: Level, motion: Motion) -> Affine:
    """The map between pixels of the whole focus map that lateral parameters, in pixels of a level, describe."""
    change = change * focus.step_px
    if motion == "affine":
        shift, linear = change[[0, 3]], np.array([change[1:3], change[4:6]])
    else:
        shift, linear = change[:2], np.array([[change[2], -change[3]], [change[3], change[2]]])
    linear = linear / focus.half
    return np.column_stack([np.eye(2) + linear, shift - linear @ focus.centre])


def _between(place: Affine, focus_step: float, scan_step: float) -> Affine:
    """The map from a level of the focus map to one of the scan."""
    return np.column_stack([place[:, :2] * focus_step, place[:, 2]]) / scan_step


def _changed(fit: Fit, focus: Level, change: NDArray[np.float64], motion: Motion, free_z_scale: bool) -> Fit:
    count = _lateral(motion)
    return Fit(
        after(fit.place, _motion(change[:count], focus, motion)),
        fit.plane_um + change[count : count + 3],
        fit.scale_z + (float(change[-1]) if free_z_scale else 0.0),
    )
