"""Surfaces whose height is known at every pixel: what the simulated microscope looks at.

Heights are in the sample's frame, um, larger = closer to the objective; the land (the outermost surface
before engraving) is at 0. Everything is drawn from a seed: the same call gives the same surface.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.language import _

FloatImage = NDArray[np.float32]
Shape = tuple[int, int]


@dataclass(frozen=True)
class Surface:
    """``height_um`` and ``reflectance`` (H, W) float32; reflectance 0..1 of a level patch, with its texture."""

    height_um: FloatImage
    reflectance: FloatImage
    pixel_um: float
    name: str


# ---- texture ---------------------------------------------------------------------------------------


def noise(shape: Shape, rng: np.random.Generator, grain_px: tuple[float, float]) -> FloatImage:
    """Gaussian noise (H, W), mean 0, deviation 1, whose grains have this (row, column) size in pixels (sigma)."""
    white = rng.standard_normal(shape, dtype=np.float32)
    rows, columns = (max(g, 0.0) for g in grain_px)
    smooth = cv2.GaussianBlur(white, (0, 0), sigmaX=max(columns, 0.05), sigmaY=max(rows, 0.05))
    spread = float(smooth.std())
    return (smooth - smooth.mean()) / (spread if spread > 0 else 1.0)


def ground_metal(shape: Shape, pixel_um: float, rng: np.random.Generator) -> FloatImage:
    """Polished and ground land: bright, with long fine grinding marks, a few scratches and small dark pits."""

    def grain(rows_um: float, columns_um: float) -> FloatImage:
        return noise(shape, rng, (rows_um / pixel_um, columns_um / pixel_um))

    marks = 0.045 * grain(60.0, 0.45) + 0.035 * grain(14.0, 0.3) + 0.02 * grain(0.3, 5.0)
    value = 0.80 + marks + 0.035 * grain(0.35, 0.35) + 0.03 * grain(25.0, 25.0)
    return value * _pits(shape, pixel_um, rng, per_mm2=900.0) * _scratches(shape, pixel_um, rng)


def cut_metal(shape: Shape, pixel_um: float, rng: np.random.Generator) -> FloatImage:
    """The wall and floor that a tool leaves: rougher, darker, with strong grain of several sizes."""

    def grain(rows_um: float, columns_um: float) -> FloatImage:
        return noise(shape, rng, (rows_um / pixel_um, columns_um / pixel_um))

    speckle = 0.30 * grain(0.4, 0.4) + 0.22 * grain(0.9, 0.9) + 0.15 * grain(3.0, 1.2) + 0.12 * grain(8.0, 8.0)
    return 0.55 * np.exp(speckle)


def _pits(shape: Shape, pixel_um: float, rng: np.random.Generator, per_mm2: float) -> FloatImage:
    """A factor that is 1 on sound metal and drops in small round pits, 0.5 to 2.5 um in radius."""
    canvas = np.ones(shape, dtype=np.float32)
    count = rng.poisson(per_mm2 * shape[0] * shape[1] * (pixel_um / 1000.0) ** 2)
    for _unused in range(count):
        center = (int(rng.integers(shape[1]) * 16), int(rng.integers(shape[0]) * 16))
        radius = int(16 * rng.uniform(0.5, 2.5) ** 1.0 / pixel_um)
        cv2.circle(canvas, center, radius, float(rng.uniform(0.25, 0.7)), -1, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(canvas, (0, 0), 0.7)


def _scratches(shape: Shape, pixel_um: float, rng: np.random.Generator) -> FloatImage:
    """A factor with a few long thin lines across the grinding direction."""
    canvas = np.ones(shape, dtype=np.float32)
    for _unused in range(int(rng.integers(2, 5))):
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        angle, length = rng.uniform(0, np.pi), rng.uniform(50, 300) / pixel_um
        ends = [
            (int(16 * (x + s * length * np.cos(angle))), int(16 * (y + s * length * np.sin(angle)))) for s in (0, 1)
        ]
        cv2.line(canvas, ends[0], ends[1], float(rng.uniform(0.75, 0.9)), 1, cv2.LINE_AA, shift=4)
    return canvas


def _blend(low: FloatImage, high: FloatImage, share: FloatImage) -> FloatImage:
    return np.clip(low + (high - low) * share, 0.02, 1.0).astype(np.float32)


# ---- geometry --------------------------------------------------------------------------------------


def _grid(shape: Shape, pixel_um: float) -> tuple[FloatImage, FloatImage]:
    """Coordinates (y_um, x_um) of the pixel centres, 0 in the middle of the image."""
    y = (np.arange(shape[0], dtype=np.float32) - (shape[0] - 1) / 2) * pixel_um
    x = (np.arange(shape[1], dtype=np.float32) - (shape[1] - 1) / 2) * pixel_um
    rows, columns = np.meshgrid(y, x, indexing="ij")
    return rows, columns


def _rounded(height_um: FloatImage, pixel_um: float, radius_um: float) -> FloatImage:
    """Edges and corners rounded as by a tool tip of about this radius."""
    return cv2.GaussianBlur(height_um, (0, 0), max(radius_um / pixel_um, 0.1))


def _ramp(distance_um: FloatImage, depth_um: float, wall_deg: float) -> FloatImage:
    """Depth profile of a flat-bottomed trench: ``distance_um`` inwards from its rim, walls at ``wall_deg``."""
    return np.clip(distance_um * np.tan(np.deg2rad(wall_deg)), 0.0, depth_um)


def _finish(height_um: FloatImage, pixel_um: float, name: str, rng: np.random.Generator) -> Surface:
    """Land where the height is 0, cut metal below, and the fine roughness that both really have."""
    shape = (height_um.shape[0], height_um.shape[1])
    land = np.clip(1.0 + height_um / 1.5, 0.0, 1.0)
    rough = 0.04 * noise(shape, rng, (20.0 / pixel_um, 0.6 / pixel_um)) * land
    rough = rough + 0.10 * noise(shape, rng, (1.5 / pixel_um, 1.5 / pixel_um)) * (1.0 - land)
    reflectance = _blend(cut_metal(shape, pixel_um, rng), ground_metal(shape, pixel_um, rng), land)
    return Surface((height_um + rough).astype(np.float32), reflectance, pixel_um, name)


def gravure(
    shape: Shape,
    pixel_um: float,
    rng: np.random.Generator,
    *,
    track_um: float = 105.0,
    period_um: float = 150.0,
    depth_um: float = 32.0,
    stylus_deg: float = 130.0,
    channel_um: float = 0.0,
) -> Surface:
    """Cells of an engraved gravure roll: a V-shaped stylus swings while the roll turns under it.

    ``track_um`` between neighbouring tracks (x), ``period_um`` along a track (y), ``stylus_deg`` the full
    angle of the diamond; ``channel_um`` > 0 joins the cells of a track by a groove of this depth.
    """
    y, x = _grid(shape, pixel_um)
    steep = 1.0 / np.tan(np.deg2rad(stylus_deg / 2.0))
    reach = int(shape[1] * pixel_um / track_um / 2) + 2
    deepest = np.zeros(shape, dtype=np.float32)
    for track in range(-reach, reach + 1):
        phase = np.pi * (track % 2)
        swing = 0.5 + 0.5 * np.cos(2.0 * np.pi * y / period_um + phase)
        cut = channel_um + (depth_um - channel_um) * (1.35 * swing - 0.35)
        depth = np.maximum(cut, channel_um) - np.abs(x - track * track_um) * steep
        deepest = np.maximum(deepest, depth)
    return _finish(_rounded(-deepest, pixel_um, 0.8), pixel_um, "gravure", rng)


def step(
    shape: Shape,
    pixel_um: float,
    rng: np.random.Generator,
    *,
    depth_um: float = 20.0,
    pitch_um: float = 120.0,
    wall_deg: float = 75.0,
) -> Surface:
    """A depth-setting standard (ISO 25178-70 type PGR): parallel grooves of one depth with steep walls."""
    _y, x = _grid(shape, pixel_um)
    inside = pitch_um / 4.0 - np.abs((x + pitch_um / 4.0) % pitch_um - pitch_um / 2.0)
    height = -_ramp(inside, depth_um, wall_deg)
    return _finish(_rounded(height, pixel_um, 0.4), pixel_um, "step", rng)


SURFACES: dict[str, Callable[..., Surface]] = {f.__name__: f for f in (gravure, step)}


def surface(name: str, shape: Shape, pixel_um: float, *, seed: int = 0, **parameters: float) -> Surface:
    """The surface called ``name`` (a key of SURFACES), (H, W) pixels of ``pixel_um``.

    Raises InputError where the name or a parameter is not known, listing those that are.
    """
    if name not in SURFACES:
        raise InputError(
            _("There is no surface called '{name}'. Surfaces: {names}.").format(name=name, names=", ".join(SURFACES))
        )
    make = SURFACES[name]
    known = [p.name for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for parameter in parameters:
        if parameter not in known:
            raise InputError(
                _("The surface '{name}' has no parameter '{parameter}'. Parameters: {known}.").format(
                    name=name, parameter=parameter, known=", ".join(known)
                )
            )
    return make(shape, pixel_um, np.random.default_rng(seed), **parameters)
