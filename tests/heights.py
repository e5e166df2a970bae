"""Two maps of one surface, as a focus stack and another instrument would show it, and where one lies on the other."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from models.height_map import HeightMap
from models.labels.registration_fit import after, grid, inverse, mapped, rms


def height_map(height_um: np.ndarray, pixel_um: float | None) -> HeightMap:
    known = np.isfinite(height_um)
    return HeightMap(
        height_um.astype(np.float32), known.astype(np.float32), np.zeros(known.shape, np.uint8), pixel_um=pixel_um
    )


def rough(side: int, seed: int, finest_px: float = 2.0) -> np.ndarray:
    """Random heights of 1 um rms, details of all sizes from ``finest_px`` on."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.normal(size=(side, side)), finest_px * s) for s in (1, 3, 9)]
    return sum(layer / layer.std() for layer in layers) / np.sqrt(3)


def cells(side: int, pitch_px: float, texture_um: float, seed: int) -> np.ndarray:
    """A roll of equal hexagonal cells 10 um deep, with a texture of its own on it."""
    y, x = np.mgrid[:side, :side].astype(float)
    waves = (np.cos(2 * np.pi / pitch_px * (np.cos(a) * x + np.sin(a) * y)) for a in np.radians([30, 90, 150]))
    return 5 * np.tanh(1.5 * (sum(waves) + 0.3)) + texture_um * rough(side, seed)


@dataclass(frozen=True)
class Pair:
    """``truth``: (2, 3), from pixels of the scan to pixels of the focus map."""

    focus: HeightMap
    scan: HeightMap
    truth: np.ndarray

    def error_px(self, matrix: np.ndarray) -> float:
        """Root mean square over the focus map, in its pixels."""
        there = mapped(inverse(self.truth), grid(self.focus.shape))
        return rms(mapped(matrix, there) - mapped(self.truth, there))


def pair(
    surface_um: np.ndarray,
    *,
    seed: int,
    turn_deg: float,
    flip: bool = False,
    focus_shape: tuple[int, int] = (512, 512),
    scan_shape: tuple[int, int] = (900, 900),
    zoom: float = 1.0,
    scale_z: float = 1.0,
    missing: float = 0.1,
    noise: float = 0.02,
) -> Pair:
    """Both maps of one surface (NaN where unknown): pixels of ``zoom`` of its own in the focus map, of 0.8 um; of
    0.5 um in the scan, which is turned, mirrored, tilted, shifted in height, and of ``scale_z`` times lower scale.

    The focus map is blurred and has 2 % spikes; both have noise, of ``noise`` times the relief, and holes.
    """
    rng = np.random.default_rng(seed)
    known = np.isfinite(surface_um)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    surface = surface_um[tuple(nearest)].astype(float)
    y, x = np.mgrid[: surface.shape[0], : surface.shape[1]]
    planes = np.column_stack([np.ones(surface.size), x.ravel(), y.ravel()])
    level = surface.ravel() - planes @ np.linalg.lstsq(planes, surface.ravel(), rcond=None)[0]
    relief = float(np.subtract(*np.percentile(level, (95, 5))))
    spline = ndimage.spline_filter(surface, 3)
    middle = (np.array(surface.shape[::-1]) - 1) / 2

    def view(shape: tuple[int, int], linear: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        centre = (np.array(shape[::-1]) - 1) / 2
        place = np.column_stack([linear, middle + rng.uniform(-8, 8, 2) - linear @ centre])
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        at = mapped(place, np.column_stack([columns.ravel(), rows.ravel()]).astype(float))[:, ::-1].T
        heights = ndimage.map_coordinates(spline, at, order=3, prefilter=False, mode="nearest").reshape(shape)
        seen = ndimage.map_coordinates(known.astype(np.float32), at, order=1, mode="constant").reshape(shape)
        holes = ndimage.gaussian_filter(rng.normal(size=shape), 4)
        return place, heights, (seen > 0.99) & (holes > np.quantile(holes, missing))

    turn = np.radians(turn_deg)
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([-1.0 if flip else 1, 1])
    focus_place, focus, focus_known = view(focus_shape, np.eye(2) * zoom)
    scan_place, scan, scan_known = view(scan_shape, linear * zoom * 0.5 / 0.8)
    focus = ndimage.gaussian_filter(focus, 1.0) + rng.normal(0, noise * relief, focus_shape)
    spikes = rng.random(focus_shape) < 0.02
    focus[spikes] += rng.normal(0, relief, np.count_nonzero(spikes))
    down, across = np.mgrid[: scan_shape[0], : scan_shape[1]] / max(scan_shape)
    scan = scan / scale_z + rng.normal(0, noise * relief / 2, scan_shape) + relief * (20 + 0.3 * across - 0.2 * down)
    return Pair(
        height_map(np.where(focus_known, focus, np.nan), 0.8),
        height_map(np.where(scan_known, scan, np.nan), 0.5),
        after(inverse(focus_place), scan_place),
    )
