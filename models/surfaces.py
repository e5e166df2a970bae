"""Surfaces whose height is known at every pixel: what the simulated microscope looks at.

Heights are in the sample's frame, um, larger = closer to the objective; the outermost surface (the land
before engraving) is at 0. Everything is drawn from a seed: the same call gives the same surface. The
defaults suit a 10x/0.30 or 20x/0.45 objective and some 20 to 40 frames.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.language import _
from models.surface_texture import ceramic, cut_metal, grain, ground_metal, struck_metal

FloatImage = NDArray[np.float32]
Shape = tuple[int, int]


@dataclass(frozen=True)
class Surface:
    """``height_um`` and ``reflectance`` (H, W) float32; reflectance 0..1 of a level patch, with its texture."""

    height_um: FloatImage
    reflectance: FloatImage
    pixel_um: float
    name: str


def gravure(
    shape: Shape,
    pixel_um: float,
    rng: np.random.Generator,
    *,
    track_um: float = 100.0,
    period_um: float = 160.0,
    depth_um: float = 28.0,
    stylus_deg: float = 130.0,
    channel_um: float = 0.0,
) -> Surface:
    """Cells of a gravure roll: a V-shaped diamond stylus swings in and out while the roll turns under it.

    ``track_um`` between neighbouring tracks (x), ``period_um`` along a track (y), ``stylus_deg`` the full
    angle of the diamond; ``channel_um`` > 0 joins the cells of a track by a groove of this depth.
    """
    y, x = _grid(shape, pixel_um)
    steep = 1.0 / np.tan(np.deg2rad(stylus_deg / 2.0))
    reach = int(shape[1] * pixel_um / track_um / 2) + 2
    deepest = np.zeros(shape, dtype=np.float32)
    for track in range(-reach, reach + 1):
        swing = np.cos(2.0 * np.pi * y / period_um + np.pi * (track % 2))
        tip_um = np.maximum(depth_um * (0.3 + 0.7 * swing), channel_um)
        deepest = np.maximum(deepest, tip_um - np.abs(x - track * track_um) * steep)
    return _engraved(_rounded(-deepest, pixel_um, 0.8), pixel_um, "gravure", rng)


def anilox(
    shape: Shape,
    pixel_um: float,
    rng: np.random.Generator,
    *,
    pitch_um: float = 85.0,
    depth_um: float = 14.0,
    wall_um: float = 8.0,
) -> Surface:
    """Hexagonal cells of a ceramic anilox roll (60 degree screen): round bowls between walls ``wall_um`` wide."""
    y, x = _grid(shape, pixel_um)
    toward = [np.deg2rad(a) for a in (0.0, 60.0, 120.0)]
    nearest = np.full(shape, np.inf, dtype=np.float32)
    wall_distance = np.zeros(shape, dtype=np.float32)
    row_um = pitch_um * np.sqrt(3.0) / 2.0
    for shifted in (0, 1):  # the hexagonal lattice is two rectangular ones
        u = (x + shifted * pitch_um / 2 + pitch_um / 2) % pitch_um - pitch_um / 2
        v = (y + shifted * row_um + row_um) % (2 * row_um) - row_um
        square = u**2 + v**2
        edge = np.max([np.abs(u * np.cos(a) + v * np.sin(a)) for a in toward], axis=0)
        wall_distance = np.where(square < nearest, pitch_um / 2 - edge, wall_distance)
        nearest = np.minimum(nearest, square)
    inward = np.clip((wall_distance - wall_um / 2) / (pitch_um / 2 - wall_um / 2), 0.0, 1.0)
    height = -depth_um * np.sin(inward * np.pi / 2)
    height = _rounded(np.asarray(height, dtype=np.float32), pixel_um, 1.0)
    height += grain(shape, pixel_um, rng, (0.12, 2.0, 2.0))
    return _surface(height, ceramic(shape, pixel_um, rng), pixel_um, "anilox")


def intaglio(
    shape: Shape,
    pixel_um: float,
    rng: np.random.Generator,
    *,
    depth_um: float = 18.0,
    line_um: float = 50.0,
    pitch_um: float = 110.0,
    wall_deg: float = 50.0,
    digit: float = 9,
) -> Surface:
    """A printing plate with waved engraved lines and, in the middle, a raised ``digit`` (-1: none)."""
    fine = 3  # drawn finer than the pixels, so that the distance to the rim is smooth
    size = (shape[0] * fine, shape[1] * fine)
    y, x = _grid(size, pixel_um / fine)
    wave = 12.0 * np.sin(2.0 * np.pi * x / 230.0)
    engraved = np.abs((y + wave + pitch_um / 2) % pitch_um - pitch_um / 2) < line_um / 2
    if digit >= 0:
        tall = int(min(size) * 0.62)
        engraved = engraved | _disc(size, int(tall * 0.68))
        engraved = engraved & ~_digit(size, str(int(digit) % 10), tall)
    inside = cv2.distanceTransform(engraved.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inside = cv2.resize(inside, (shape[1], shape[0]), interpolation=cv2.INTER_AREA) * (pixel_um / fine)
    height = -_ramp(inside, depth_um, wall_deg)
    floor = (height < -0.8 * depth_um).astype(np.float32)
    height = _rounded(height + floor * grain(shape, pixel_um, rng, (0.8, 7.0, 7.0)), pixel_um, 0.8)
    return _engraved(height, pixel_um, "intaglio", rng)


def coin(
    shape: Shape, pixel_um: float, rng: np.random.Generator, *, relief_um: float = 22.0, detail_um: float = 5.0
) -> Surface:
    """Struck relief without vertical walls: a domed rosette, raised letters and a rim; the top at 0."""
    y, x = _grid(shape, pixel_um)
    extent = float(min(shape)) * pixel_um
    u, v = x / extent, y / extent
    dome = np.clip(1.0 - ((u + 0.08) / 0.36) ** 2 - ((v - 0.04) / 0.42) ** 2, 0.0, 1.0)
    shoulder = 1.0 - (1.0 - np.clip(dome * 2.0, 0.0, 1.0)) ** 2
    head = (relief_um - detail_um) * (0.35 * shoulder + 0.65 * dome)
    turn = np.arctan2(v - 0.04, u + 0.08)
    hair = np.sin(2.0 * np.pi * (np.hypot(u + 0.08, v - 0.04) * 6.0) + 2.0 * np.sin(3.0 * turn))
    head += 0.35 * detail_um * hair * np.clip(dome * 4.0, 0.0, 1.0)
    letters = _digit(shape, "R5", int(min(shape) * 0.2), (0.36, -0.34)).astype(np.float32)
    head = np.maximum(head, detail_um * 1.2 * _rounded(letters, pixel_um, 2.5))
    rim = np.clip((np.hypot(u - 0.1, v) - 0.6) / 0.12, 0.0, 1.0)
    head = np.maximum(head, 0.7 * relief_um * rim * rim * (3.0 - 2.0 * rim))
    height = _rounded(head.astype(np.float32), pixel_um, 1.5)
    height = height - height.max() + grain(shape, pixel_um, rng, (0.08, 3.0, 3.0))
    return _surface(height, struck_metal(shape, pixel_um, rng), pixel_um, "coin")


def step(
    shape: Shape,
    pixel_um: float,
    rng: np.random.Generator,
    *,
    depth_um: float = 20.0,
    pitch_um: float = 120.0,
    wall_deg: float = 75.0,
) -> Surface:
    """A depth standard: parallel grooves of one depth with steep walls (ISO 25178-70, type PGR)."""
    _y, x = _grid(shape, pixel_um)
    inside = pitch_um / 4.0 - np.abs((x + pitch_um / 4.0) % pitch_um - pitch_um / 2.0)
    height = -_ramp(inside, depth_um, wall_deg)
    return _engraved(_rounded(height, pixel_um, 0.4), pixel_um, "step", rng)


def sphere(shape: Shape, pixel_um: float, rng: np.random.Generator, *, radius_um: float = 900.0) -> Surface:
    """The cap of a matt steel ball, its top at 0 in the middle of the image.

    Raises InputError where the ball is smaller than the image.
    """
    y, x = _grid(shape, pixel_um)
    square = x**2 + y**2
    if float(square.max()) >= radius_um**2:
        raise InputError(
            _("A ball of radius {radius:g} µm does not fill the image; it needs more than {least:.0f} µm.").format(
                radius=radius_um, least=float(np.sqrt(square.max()))
            )
        )
    height = (np.sqrt(radius_um**2 - square) - radius_um).astype(np.float32)
    return _surface(height, struck_metal(shape, pixel_um, rng), pixel_um, "sphere")


SURFACES: dict[str, Callable[..., Surface]] = {
    make.__name__: make for make in (gravure, anilox, intaglio, coin, step, sphere)
}


def surface(name: str, shape: Shape, pixel_um: float, *, seed: int = 0, **parameters: float) -> Surface:
    """The surface called ``name`` (a key of SURFACES), (H, W) pixels of ``pixel_um``.

    Raises InputError where the name or a parameter is not known, listing those that are.
    """
    if name not in SURFACES:
        raise InputError(
            _("There is no surface called '{name}'. Surfaces: {names}.").format(name=name, names=", ".join(SURFACES))
        )
    known = surface_parameters(name)
    for parameter in parameters:
        if parameter not in known:
            raise InputError(
                _("The surface '{name}' has no parameter '{parameter}'. Parameters: {known}.").format(
                    name=name, parameter=parameter, known=", ".join(known)
                )
            )
    return SURFACES[name](shape, pixel_um, np.random.default_rng(seed), **parameters)


def surface_parameters(name: str) -> dict[str, float]:
    """The continuous parameters of a surface with their defaults; lengths in um, angles in degrees."""
    parameters = inspect.signature(SURFACES[name]).parameters.values()
    return {p.name: float(p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}


def _grid(shape: Shape, pixel_um: float) -> tuple[FloatImage, FloatImage]:
    """Coordinates (y_um, x_um) of the pixel centres, 0 in the middle of the image."""
    y = (np.arange(shape[0], dtype=np.float32) - (shape[0] - 1) / 2) * np.float32(pixel_um)
    x = (np.arange(shape[1], dtype=np.float32) - (shape[1] - 1) / 2) * np.float32(pixel_um)
    rows, columns = np.meshgrid(y, x, indexing="ij")
    return rows, columns


def _rounded(height_um: FloatImage, pixel_um: float, radius_um: float) -> FloatImage:
    """Edges and corners rounded as by a tool tip of about this radius."""
    return np.asarray(cv2.GaussianBlur(height_um, (0, 0), max(radius_um / pixel_um, 0.1)), dtype=np.float32)


def _ramp(distance_um: FloatImage, depth_um: float, wall_deg: float) -> FloatImage:
    """Depth of a flat-bottomed trench at ``distance_um`` inwards from its rim, with walls at ``wall_deg``."""
    depth = np.clip(distance_um * np.tan(np.deg2rad(wall_deg)), 0.0, depth_um)
    return np.asarray(depth, dtype=np.float32)


def _disc(shape: Shape, radius_px: int) -> NDArray[np.bool_]:
    canvas = np.zeros(shape, dtype=np.uint8)
    cv2.circle(canvas, (shape[1] // 2, shape[0] // 2), radius_px, 1, -1)
    return canvas > 0


def _digit(shape: Shape, text: str, tall_px: int, center: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.bool_]:
    """Bold rounded characters ``tall_px`` high; ``center``: (x, y) in shares of the image from its middle."""
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, tall_px // 5)
    scale = cv2.getFontScaleFromHeight(font, tall_px - thickness, thickness)
    (wide, high), _baseline = cv2.getTextSize(text, font, scale, thickness)
    left = int(shape[1] * (0.5 + center[0]) - wide / 2)
    bottom = int(shape[0] * (0.5 + center[1]) + high / 2)
    canvas = np.zeros(shape, dtype=np.uint8)
    cv2.putText(canvas, text, (left, bottom), font, scale, 1, thickness)
    return canvas > 0


def _engraved(height_um: FloatImage, pixel_um: float, name: str, rng: np.random.Generator) -> Surface:
    """Ground land where the height is 0, cut metal below, and the fine roughness that both really have."""
    shape = (height_um.shape[0], height_um.shape[1])
    land = np.clip(1.0 + height_um / 1.5, 0.0, 1.0)
    rough = grain(shape, pixel_um, rng, (0.04, 20.0, 0.6)) * land
    rough += grain(shape, pixel_um, rng, (0.10, 1.5, 1.5)) * (1.0 - land)
    cut = cut_metal(shape, pixel_um, rng)
    reflectance = cut + (ground_metal(shape, pixel_um, rng) - cut) * land
    return _surface(height_um + rough, reflectance, pixel_um, name)


def _surface(height_um: FloatImage, reflectance: FloatImage, pixel_um: float, name: str) -> Surface:
    return Surface(height_um.astype(np.float32), reflectance.astype(np.float32), pixel_um, name)
