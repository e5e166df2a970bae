"""Random scenes: a relief, a finish, an objective, a camera, all drawn from one seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from models.focal_stack import FocalStack, Optics
from models.optics import half_aperture_rad, light_from_slope, slope_of
from models.training import engraved, ground
from models.training.camera import draw_conditions, photograph
from models.training.fields import FloatImage, Shape, between, chance, grains
from models.training.finish import reflectance
from models.training.imaging import Blur, PupilBlur, Sheet, SpreadBlur, StackRenderer
from models.training.relief import Relief, Standing, with_form
from models.training.scene import Scene

MARGIN_PX = 20
"""At least this much is rendered around what is shown, so that edges, drift and breathing have surroundings."""
Make = Callable[[Shape, np.random.Generator], Relief]


@dataclass(frozen=True)
class Setup:
    """Objective and stack: ``z_um`` (N,) rising; ``optics`` None for a macro lens, with ``blur`` instead."""

    z_um: NDArray[np.float64]
    pixel_um: float
    blur: Blur
    optics: Optics | None


def random_scene(seed: int | tuple[int, ...], *, size: Shape = (160, 160), frames: int | None = None) -> Scene:
    """The scene of this seed: always the same, ``frames`` (5 to 100 where None) images of ``size`` (H, W), grey 8 bit.

    ``height_um`` is the height of what the camera sees at the centre of each pixel when the drift is at its
    middle; NaN where it lies more than half a step outside the stack.
    """
    rng = np.random.default_rng(seed)
    n = round(between(rng, 5.0, 100.0)) if frames is None else frames
    hard = chance(rng, 0.27)
    macro = not hard and chance(rng, 0.3)
    canvas = _canvas(size)
    families = engraved.ENGRAVED if hard else (*ground.GROUND, *engraved.ENGRAVED[:3], engraved.coin)
    make = families[int(rng.integers(len(families)))]
    relief = make(canvas, rng)
    height = with_form(relief.height, rng, float(rng.uniform(0.0, 0.06 if hard else 0.6)) * chance(rng, 0.6))
    setup = _macro(n, rng) if macro else _microscope(n, rng)
    scale_um, lowest_um = _placed(setup.z_um, height, relief, rng)
    height_um = (lowest_um + (height - height.min()) * np.float32(scale_um)).astype(np.float32)
    light = reflectance(relief, rng) * _returned(height_um, setup, hard, rng)
    sheets = [Sheet(height_um, np.asarray(light, dtype=np.float32))]
    if chance(rng, 0.03 if hard else 0.12):
        span_um = float(np.ptp(height_um))
        sheets += [_standing(t, lowest_um, span_um, setup, light, rng) for t in ground.fibres(canvas, rng)]
    glow = (float(rng.choice([0.0, rng.uniform(0.0, 0.5)])), between(rng, 5.0, 40.0))
    renderer = StackRenderer(sheets, setup.blur, glow)
    level = float(rng.uniform(0.6, 1.3)) if hard and chance(rng, 0.7) else None
    conditions = draw_conditions(size, n, rng, level=level)
    images = photograph(renderer.render, setup.z_um, size, conditions, rng)
    name = "-".join(str(part) for part in (seed if isinstance(seed, tuple) else (seed,)))
    stack = FocalStack(images, setup.z_um, setup.pixel_um, setup.optics, "um", {"generator_seed": name})
    return Scene(f"{make.__name__}-{name}", make.__name__, stack, _truth(sheets, setup.z_um, size))


def _canvas(size: Shape) -> Shape:
    rows, columns = (2 * scipy.fft.next_fast_len(n // 2 + MARGIN_PX, real=True) for n in size)
    return rows, columns


def _z_um(n: int, step_um: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rising; equal steps in most stacks, uneven ones in the rest."""
    steps = np.full(n - 1, step_um)
    if chance(rng, 0.15):
        steps = steps * np.exp(rng.normal(0.0, rng.uniform(0.02, 0.4), n - 1))
    return np.concatenate([[0.0], np.cumsum(steps)]) + rng.uniform(-50.0, 50.0) * step_um


def _microscope(n: int, rng: np.random.Generator) -> Setup:
    na = between(rng, 0.05, 0.8)
    wavelength_um = float(rng.uniform(0.45, 0.65))
    pixel_um = between(rng, 0.25, 2.0) * wavelength_um / (2.0 * na)
    camera_um = float(rng.choice([2.4, 3.45, 4.8, 5.86]))
    optics = Optics(camera_um / pixel_um, na, wavelength_um)
    blur_px = 1.0 / pixel_um * na  # radius per um of defocus
    most_um = between(rng, 15.0, 110.0) / blur_px / max(n - 1, 1)  # the farthest frame is not blurred beyond this
    depth_um = optics.depth_of_field_um(pixel_um)
    step_um = min(between(rng, 0.3, 3.0) * depth_um, max(most_um, 0.08 * depth_um))
    lopsided = float(rng.normal(0.0, 0.08)) * chance(rng, 0.4)
    return Setup(_z_um(n, step_um, rng), pixel_um, PupilBlur(optics, pixel_um, lopsided), optics)


def _macro(n: int, rng: np.random.Generator) -> Setup:
    step_um, pixel_um = between(rng, 20.0, 500.0), between(rng, 5.0, 60.0)
    px_per_step = min(between(rng, 0.12, 2.0), max(between(rng, 5.0, 30.0) / n, 0.1))
    lopsided = float(rng.normal(0.0, 0.1)) * chance(rng, 0.5)
    blur = SpreadBlur(px_per_step / step_um, between(rng, 0.2, 1.0), disc=chance(rng, 0.5), lopsided=lopsided)
    return Setup(_z_um(n, step_um, rng), pixel_um, blur, None)


def _placed(
    z_um: NDArray[np.float64], height: FloatImage, relief: Relief, rng: np.random.Generator
) -> tuple[float, float]:
    """Scale of the height and height of its lowest point, so that the relief takes a random part of the stack."""
    whole_um, n = float(z_um[-1] - z_um[0]), len(z_um)
    share = rng.choice(["thin", "part", "most", "whole"], p=[0.12, 0.28, 0.4, 0.2])
    part = {
        "thin": between(rng, 0.1, 1.0) / (n - 1),
        "part": between(rng, min(1.0, 0.3 * (n - 1)), 0.3 * (n - 1)) / (n - 1),
        "most": float(rng.uniform(0.3, 0.95)),
        "whole": 1.0,
    }[str(share)]
    span_um = part * whole_um
    scale_um = span_um / max(float(np.ptp(height)), 1e-9)
    free_um = whole_um - span_um
    at = float(rng.choice([0.0, 1.0, rng.uniform()], p=[0.15, 0.25, 0.6]))
    lowest_um = float(z_um[0]) + at * free_um
    if at == 1.0 and relief.engraved and float(relief.land.max()) > 0.9:  # the land itself lies on the last frame
        land = float(np.median(height[relief.land > 0.9]) - height.min())
        lowest_um = float(z_um[-1]) - land * scale_um
    return scale_um, lowest_um


def _returned(height_um: FloatImage, setup: Setup, hard: bool, rng: np.random.Generator) -> FloatImage:
    """Share of the light that slopes and walls send back, and the shading of light from one side."""
    slope = slope_of(height_um, setup.pixel_um)
    typical = max(float(np.percentile(slope, 95)), 1e-6)
    optics = setup.optics or Optics(1.0, 0.1)
    na_slope = float(np.tan(half_aperture_rad(optics))) / 2.0
    if hard:
        rough, diffuse = na_slope * between(rng, 0.05, 0.5), between(rng, 0.02, 0.25)
        # walls are steep for the aperture, as in metal; a shallow relief would not be hard
        slope = slope * np.float32(max(between(rng, 1.0, 4.0) * na_slope / typical, 1.0))
    else:
        rough, diffuse = between(rng, 0.1, 2.0), float(rng.uniform(0.15, 1.0))
        slope = slope * np.float32(min(between(rng, 0.2, 2.0) / typical, 1.0))
    light = light_from_slope(slope, optics, roughness_slope=rough, diffuse=diffuse)
    if not hard and chance(rng, 0.35):
        rows, columns = np.gradient(height_um)
        turn, strength = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.1, 0.8)
        lean = (np.cos(turn) * columns + np.sin(turn) * rows) / np.float32(typical * setup.pixel_um)
        light = light * np.clip(1.0 + np.float32(strength) * np.tanh(lean), 0.05, 2.0)
    return np.asarray(light, dtype=np.float32)


def _standing(
    thing: Standing, lowest_um: float, span_um: float, setup: Setup, light: FloatImage, rng: np.random.Generator
) -> Sheet:
    height_um = np.minimum(lowest_um + thing.height * np.float32(span_um), np.float32(setup.z_um[-1]))
    texture = 1.0 + np.float32(rng.uniform(0.0, 0.4)) * grains(thing.height.shape, rng, between(rng, 0.5, 3.0))
    brightness = thing.brightness * float(light.mean())
    return Sheet(
        height_um.astype(np.float32), np.asarray(np.maximum(brightness * texture, 0.0), np.float32), thing.cover
    )


def _truth(sheets: list[Sheet], z_um: NDArray[np.float64], size: Shape) -> FloatImage:
    """Height of the uppermost sheet that covers a pixel."""
    height = sheets[0].height_um.copy()
    for sheet in sheets[1:]:
        if sheet.cover is not None:
            height = np.where(sheet.cover > 0.5, sheet.height_um, height)
    top, left = (height.shape[0] - size[0]) // 2, (height.shape[1] - size[1]) // 2
    shown = np.array(height[top : top + size[0], left : left + size[1]], dtype=np.float32)
    room_um = 0.5 * float(np.median(np.diff(z_um)))
    shown[(shown < z_um[0] - room_um) | (shown > z_um[-1] + room_um)] = np.nan
    return shown
