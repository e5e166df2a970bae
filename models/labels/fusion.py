"""Focus map and registered scan become one label: weighted where both see, seamless where only one does.

Weights are inverse variances (Wang, Leach, Jiang, Review of surface profile fusion, NPL report ENG 54, 2014). The scan
is the metre: what the focus map is off by on a larger scale, drift of the stage or a wrong step, is taken off it, and
in holes of the scan continued from their rim (:mod:`models.labels.harmonic`). How far either is to be believed is
measured where both see: the scatter between them, and holes made on purpose where the scan is known.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.errors import InputError
from models.labels.harmonic import Image, Mask, harmonic
from models.labels.label import Label, Provenance
from models.language import _

_HALF_NORMAL = 0.6745
"""Median of the magnitude of a normal deviate."""
_LEAST_COMMON = 200
"""Fewer pixels that both see tell nothing about either."""
_LEAST_SHARE = 0.5


@dataclass(frozen=True)
class FusionSettings:
    """How maps are fused.

    ``conflict_sigma``: differences beyond are conflicts. ``shrink_px``: rim of the scan around its holes that is not
    believed; ``feather_px``: width over which it then comes to its full weight. ``focus_blur_px``: standard deviation
    of the smoothing of the focus map. ``seam_px``: the same of the difference, what is finer is noise. ``spike_sigma``:
    single focus heights further off their neighbours are no heights. ``bridge_px``: holes of both maps of at most so
    many pixels are interpolated. ``least_likeness``: maps whose heights, less their planes, correlate less are not of
    the same place, or not registered; -1 takes all.
    """

    conflict_sigma: float = 3.0
    shrink_px: int = 2
    feather_px: float = 3.0
    focus_blur_px: float = 0.7
    seam_px: float = 4.0
    spike_sigma: float = 5.0
    bridge_px: int = 9
    least_likeness: float = 0.7


@dataclass(frozen=True)
class _Seam:
    """What the focus map is off by, continued into the holes, and its standard deviation beside it, (H, W) float64.

    ``factor`` on the stated sigma, and ``lateral_px``, which counts on slopes: what that deviation is made of.
    """

    offset_um: Image
    sigma_um: Image
    factor: float
    lateral_px: float


def fuse(
    focus_um: NDArray[np.floating],
    focus_sigma_um: NDArray[np.floating] | None,
    scan_um: NDArray[np.floating],
    scan_sigma_um: NDArray[np.floating] | float,
    *,
    registration_sd_px: float = 0.0,
    settings: FusionSettings | None = None,
) -> Label:
    """One label of two maps (H, W) in micrometres on the same pixels, NaN where missing.

    ``focus_sigma_um``: standard deviations by pixel, right up to a common factor, which is found, and what is added on
    slopes; None: all alike.
    ``scan_sigma_um``: the same, right as they are. ``registration_sd_px``: how well the scan lies, which counts on
    slopes. The label has no origin, transform or pixel size yet. Its ``parameters`` tell what was found:
    ``sigma_factor``, ``lateral_px`` (blur and shift of the focus map), ``seam_rms_um``, ``likeness``, and
    ``hole_rms_um``, the difference to the scan in holes made on purpose (None: there was no room for any).
    Raises InputError where the maps have hardly a pixel in common, differ in size or are not alike.
    """
    how = settings or FusionSettings()
    focus, scan = (np.asarray(image, np.float64) for image in (focus_um, scan_um))
    if focus.shape != scan.shape or focus.ndim != 2:
        raise InputError(_("Focus map and scan must have the same size to be fused."))
    focus = without_spikes(focus, how.spike_sigma)
    scan_known = _shrunk(np.isfinite(scan), how.shrink_px)
    scan = np.where(scan_known, scan, np.nan)
    scan_sigma = np.broadcast_to(np.asarray(scan_sigma_um, np.float64), scan.shape)
    scan_sigma = np.hypot(scan_sigma, registration_sd_px * _slope(scan))
    stated = np.ones_like(focus) if focus_sigma_um is None else np.asarray(focus_sigma_um, np.float64)
    focus = np.where(np.isfinite(stated) & (stated > 0), focus, np.nan)
    smooth = blurred(focus, np.isfinite(focus), how.focus_blur_px)
    both = np.isfinite(smooth) & scan_known
    if np.count_nonzero(both) < _LEAST_COMMON:
        raise InputError(
            _(
                "Focus map and scan have only {n} pixels in common; they cannot be fused. Check the registration."
            ).format(n=int(np.count_nonzero(both)))
        )
    likeness = _likeness(smooth[both], scan[both], np.argwhere(both))
    if likeness < how.least_likeness:
        raise InputError(
            _(
                "Where the scan was laid, its heights do not follow those of the focus map (their correlation is "
                "{likeness:.2f}, {least:.2f} is needed): they are not of the same place. Check the registration."
            ).format(likeness=likeness, least=how.least_likeness)
        )

    seam, conflict = _find_seam(scan - smooth, both, stated, _slope(smooth), scan_sigma, how)
    focus_here = smooth + seam.offset_um
    focus_sigma = np.where(np.isfinite(focus_here), seam.sigma_um, np.nan)
    extra, hole_rms_um = _hole_variance(scan, smooth, both & ~conflict, focus_sigma, scan_sigma, how)
    in_hole = np.isfinite(focus_here) & ~scan_known
    depth_px = ndimage.distance_transform_edt(~(both & ~conflict))
    focus_sigma = np.where(in_hole, np.sqrt(focus_sigma**2 + extra(depth_px)), focus_sigma)

    height, sigma = _weighted(focus_here, focus_sigma, scan, scan_sigma, how.feather_px)
    provenance = np.full(height.shape, Provenance.INVALID, np.uint8)
    provenance[np.isfinite(focus_here)] = Provenance.FOCUS
    provenance[scan_known] = Provenance.CONFOCAL
    provenance[both] = Provenance.FUSED
    height[conflict] = sigma[conflict] = np.nan
    provenance[conflict] = Provenance.CONFLICT
    _bridge(height, sigma, provenance, how.bridge_px)
    seam_rms_um = float(np.sqrt(np.mean(seam.offset_um[both] ** 2)))
    found = {
        "sigma_factor": seam.factor,
        "lateral_px": seam.lateral_px,
        "seam_rms_um": seam_rms_um,
        "likeness": likeness,
        "hole_rms_um": hole_rms_um,
    }
    sources = {
        "focus_um": focus_um,
        "focus_sigma_um": seam.sigma_um,
        "scan_um": scan_um,
        "scan_sigma_um": scan_sigma,
        "seam_um": seam.offset_um,
    }
    return Label(
        height_um=height.astype(np.float32),
        sigma_um=sigma.astype(np.float32),
        provenance=provenance,
        valid=np.isfinite(height),
        sources={name: np.asarray(image, np.float32) for name, image in sources.items()},
        parameters={**asdict(how), "registration_sd_px": registration_sd_px, **found},
    )


def pixel_scatter(height_um: NDArray[np.floating]) -> float:
    """Standard deviation of the noise of a map that states none, from how each pixel differs from its neighbours.

    Fine roughness counts as noise, so the true one may be smaller. NaN pixels are left out. Raises InputError where
    hardly any pixel has neighbours.
    """
    height = np.asarray(height_um, np.float64)
    # The mask is blind to planes, and to any saddle (Immerkaer, Computer Vision and Image Understanding 64 (1996) 300).
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]) / 6
    change = ndimage.convolve(height, kernel, mode="nearest")[1:-1, 1:-1]
    known = np.abs(change[np.isfinite(change)])
    if known.size < _LEAST_COMMON:
        raise InputError(_("The scan has too few heights side by side to see its noise. Give its standard deviation."))
    return float(np.median(known) / _HALF_NORMAL)


def without_spikes(height: Image, sigma: float) -> Image:
    """NaN for heights that stand out of the median of the 5 x 5 pixels around them by more than the others do."""
    known = np.isfinite(height)
    if not known.any():
        return height
    near = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    out = np.abs(height - ndimage.median_filter(height[tuple(near)], size=5))
    # On steep ground all stand out: they are compared with what is usual near by.
    usual = ndimage.median_filter(np.where(known, out, np.nanmedian(out))[tuple(near)], size=7) / _HALF_NORMAL
    return np.where(out > sigma * np.maximum(usual, np.nanmedian(out) / _HALF_NORMAL), np.nan, height)


def blurred(image: Image, known: Mask, width_px: float) -> Image:
    """Gaussian mean over the ``known`` pixels, at those; NaN elsewhere."""
    weight = ndimage.gaussian_filter(known.astype(np.float64), width_px)
    total = ndimage.gaussian_filter(np.where(known, image, 0.0), width_px)
    return np.where(known, total / np.maximum(weight, 1e-12), np.nan)


def _shrunk(known: Mask, by_px: int) -> Mask:
    return known if by_px == 0 else np.asarray(ndimage.binary_erosion(known, iterations=by_px, border_value=1))


def _likeness(focus: NDArray[np.float64], scan: NDArray[np.float64], place: NDArray[np.int_]) -> float:
    """Correlation of heights (N,) at ``place`` (N, 2), less the plane of each; 0 where one has nothing else."""
    plane = np.column_stack([place - place.mean(axis=0), np.ones(len(place))])
    rest = []
    for heights in (focus, scan):
        level = heights - heights.mean()
        rest.append(level - plane @ np.linalg.lstsq(plane, level, rcond=None)[0])
    size = float(np.sqrt(np.sum(rest[0] ** 2) * np.sum(rest[1] ** 2)))
    return float(np.sum(rest[0] * rest[1])) / size if size > 0 else 0.0


def _slope(height: Image) -> Image:
    """Steepest rise in um per pixel within a pixel's distance; missing ones are as high as the nearest."""
    near = ndimage.distance_transform_edt(~np.isfinite(height), return_distances=False, return_indices=True)
    down, right = np.gradient(height[tuple(near)])
    return np.asarray(ndimage.maximum_filter(np.nan_to_num(np.hypot(down, right)), size=3))


def _robust_rms(values: NDArray[np.float64]) -> float:
    return float(np.median(np.abs(values)) / _HALF_NORMAL)


def _find_seam(
    difference: Image, both: Mask, stated: Image, slope: Image, scan_sigma: Image, how: FusionSettings
) -> tuple[_Seam, Mask]:
    """The seam and the conflicts: what is a conflict depends on the seam, which must not follow conflicts."""
    centre = float(np.median(difference[both]))
    agree = both & (np.abs(difference - centre) <= 5 * _robust_rms(difference[both] - centre))
    factor, lateral_px, sigma = 1.0, 0.0, stated
    for _round in range(3):
        offset = harmonic(blurred(difference, agree, how.seam_px), both & ~agree)
        rest = difference - np.where(np.isfinite(offset), offset, centre)
        factor, lateral_px = _error_model(rest[agree], stated[agree], slope[agree], scan_sigma[agree])
        sigma = np.hypot(factor * stated, lateral_px * slope)
        agree = both & (np.abs(rest) <= how.conflict_sigma * np.hypot(sigma, scan_sigma))
        if np.count_nonzero(agree) < _LEAST_COMMON:
            raise InputError(_("Focus map and scan contradict each other nearly everywhere. Check the registration."))
    offset = harmonic(blurred(difference, agree, how.seam_px), ~agree)
    return _Seam(np.where(np.isfinite(offset), offset, centre), sigma, factor, lateral_px), both & ~agree


def _error_model(
    rest: NDArray[np.float64], stated: NDArray[np.float64], slope: NDArray[np.float64], scan_sigma: NDArray[np.float64]
) -> tuple[float, float]:
    """For the differences to be what they are: the factor on the stated sigmas of the focus map, judged on flat ground
    and where the scan is most certain, and by how many pixels it blurs or shifts heights, judged on the steepest fifth.

    A scan that claims less certainty than the differences show must not make the focus map perfect: at least half of
    the scatter stays with it.
    """
    flat = slope <= np.median(slope)
    sure = flat & (scan_sigma <= np.median(scan_sigma[flat]))
    scatter, typical = _robust_rms(rest[sure]), float(np.median(stated[sure]))
    unexplained = scatter**2 - float(np.median(scan_sigma[sure] ** 2))
    factor = float(np.sqrt(max(unexplained, (_LEAST_SHARE * scatter) ** 2)) / typical)
    steep = slope >= np.quantile(slope, 0.8)
    excess = float(np.mean(rest[steep] ** 2 - (factor * stated[steep]) ** 2 - scan_sigma[steep] ** 2))
    steepness = float(np.mean(slope[steep] ** 2))
    return factor, float(np.sqrt(excess / steepness)) if min(excess, steepness) > 0 else 0.0


def _weighted(
    focus: Image, focus_sigma: Image, scan: Image, scan_sigma: Image, feather_px: float
) -> tuple[Image, Image]:
    """Mean by inverse variance and its standard deviation; the scan fades out towards its holes."""
    scan_known = np.isfinite(scan)
    inside = np.pad(scan_known, 1, constant_values=True)  # the border of the map is no hole
    fade = np.clip(ndimage.distance_transform_edt(inside)[1:-1, 1:-1] / (feather_px + 1), 0, 1)
    fade = np.where(np.isfinite(focus), fade, 1.0)
    on_focus = np.where(np.isfinite(focus), 1 / focus_sigma**2, 0.0)
    on_scan = np.where(scan_known, fade / scan_sigma**2, 0.0)
    total = np.where(on_focus + on_scan > 0, on_focus + on_scan, np.nan)
    on_focus, on_scan = on_focus / total, on_scan / total
    mean = on_focus * np.nan_to_num(focus) + on_scan * np.nan_to_num(scan)
    return mean, np.hypot(on_focus * np.nan_to_num(focus_sigma), on_scan * scan_sigma)


def _hole_variance(
    scan: Image, smooth: Image, both: Mask, focus_sigma: Image, scan_sigma: Image, how: FusionSettings
) -> tuple[Callable[[Image], Image], float | None]:
    """How the variance of a continued seam grows with the distance from the rim; and the rms difference in such holes.

    Holes of the scan's own shape are made elsewhere, where it is known. Further from the rim than they reach, or
    without room for them, it grows as the seam itself changes with distance.
    """
    difference = scan - smooth
    lags, change = _structure(blurred(difference, both, how.seam_px))
    holes = ~np.isfinite(scan)
    height, width = scan.shape
    ways = ((height // 2, 0), (0, width // 2), (height // 2, width // 2), (height // 3, width // 3))
    hidden = max((both & np.roll(holes, way, (0, 1)) for way in ways), key=np.count_nonzero)
    if not _LEAST_COMMON <= np.count_nonzero(hidden) <= np.count_nonzero(both) * 0.6:
        return lambda depth_px: np.interp(depth_px, lags, change), None
    shown = both & ~_grown(hidden, how.shrink_px)
    continued = harmonic(blurred(difference, shown, how.seam_px), ~shown)
    depth = ndimage.distance_transform_edt(~shown)[hidden]
    error = (difference - continued)[hidden]
    excess = error**2 - (focus_sigma**2 + scan_sigma**2)[hidden]
    known = np.isfinite(error)
    edges = np.unique(np.quantile(depth[known], np.linspace(0, 1, 9)))
    centres, found = [0.0], [0.0]
    for low, high in pairwise(edges):
        here = known & (depth >= low) & (depth <= high)
        if np.count_nonzero(here) >= _LEAST_COMMON // 4:
            centres.append(float(np.mean(depth[here])))
            found.append(max(float(np.mean(excess[here])), found[-1]))

    def extra(depth_px: Image) -> Image:
        beyond = np.interp(depth_px, lags, change) - np.interp(centres[-1], lags, change)
        return np.interp(depth_px, centres, found) + np.maximum(beyond, 0.0)

    return extra, float(np.sqrt(np.mean(error[known] ** 2)))


def _structure(seam: Image) -> tuple[list[float], list[float]]:
    """Mean squared change of the seam over a distance in pixels, for some distances; it does not fall with distance."""
    lags, change = [0.0], [0.0]
    lag = 1
    while lag < min(seam.shape):
        steps = np.concatenate([(seam[lag:] - seam[:-lag]).ravel(), (seam[:, lag:] - seam[:, :-lag]).ravel()])
        steps = steps[np.isfinite(steps)]
        if steps.size >= _LEAST_COMMON:
            lags.append(float(lag))
            change.append(max(float(np.mean(steps**2)), change[-1]))
        lag *= 2
    return lags, change


def _grown(mask: Mask, by_px: int) -> Mask:
    return mask if by_px == 0 else np.asarray(ndimage.binary_dilation(mask, iterations=by_px))


def _bridge(height: Image, sigma: Image, provenance: NDArray[np.uint8], most_px: int) -> None:
    """Interpolate small holes of both maps in place; sigma is that around, and how far one pixel tells the next."""
    missing = provenance == Provenance.INVALID
    regions, count = ndimage.label(missing)
    if count == 0 or most_px == 0:
        return
    small = np.bincount(regions.ravel()) <= most_px
    small[0] = False
    chosen = small[regions]
    if not chosen.any():
        return
    height[chosen] = harmonic(height, chosen)[chosen]
    filled = chosen & np.isfinite(height)
    rough = pixel_scatter(np.where(missing, np.nan, height)) if filled.any() else 0.0
    sigma[filled] = np.hypot(harmonic(sigma, chosen)[filled], rough)
    provenance[filled] = Provenance.INTERPOLATED
