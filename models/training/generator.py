"""Random scenes: a relief, a finish, an objective, a camera, all drawn from one seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from models.focal_stack import FocalStack, Optics
from models.optics import half_aperture_rad, light_from_slope, open_aperture, slope_of
from models.training.camera import draw_conditions, photograph
from models.training.fields import FloatImage, Shape, between, chance, soft
from models.training.finish import reflectance
from models.training.imaging import Blur, PupilBlur, Sheet, SpreadBlur, StackRenderer
from models.training.objects import Standing, fibres, things
from models.training.relief import Relief, with_form
from models.training.scene import Scene
from models.training.styles import Style, style

MARGIN_PX = 20
"""At least this much is rendered around what is shown, so that edges, drift and breathing have surroundings."""
FEWEST, MOST = 5, 100
"""Frames of a scene where their number is not given."""
FINE_STEPS = 0.7
"""What is too small to be seen may not be deeper than this: no network could find it."""
_MACRO_LENS = Optics(1.0, 0.1)


@dataclass(frozen=True)
class Setup:
    """Objective and stack: ``z_um`` (N,) rising; ``optics`` None for a macro lens."""

    z_um: NDArray[np.float64]
    pixel_um: float
    blur: Blur
    optics: Optics | None

    @property
    def whole_um(self) -> float:
        """From the first to the last frame."""
        return float(self.z_um[-1] - self.z_um[0])

    @property
    def step_um(self) -> float:
        return float(np.median(np.diff(self.z_um)))


def random_scene(
    seed: int | Sequence[int], *, size: Shape = (160, 160), frames: int | None = None, kinds: str = "mixed"
) -> Scene:
    """The scene of this seed: always the same, ``frames`` (5 to 100 where None) images of ``size`` (H, W), grey 8 bit.

    ``kinds``: a key of :data:`models.training.styles.STYLES`. ``height_um`` is the height of what the camera
    sees at the centre of each pixel when the drift is at its middle; NaN where it lies more than half a step
    outside the stack. In a quarter of the scenes the relief is seen upside down, land lowest, as in a stack of
    unknown direction. Raises InputError where the style is not known.
    """
    rng = np.random.default_rng(seed)
    chosen = style(kinds)
    n = round(between(rng, FEWEST, MOST)) if frames is None else frames
    hard = chance(rng, chosen.hard)
    families = chosen.engraved if hard else chosen.families
    make = families[int(rng.integers(len(families)))]
    setup = _macro(n, chosen, rng) if not hard and chance(rng, chosen.macro) else _microscope(n, chosen, rng)
    relief = make(_canvas(size), rng)
    while float(np.ptp(relief.height)) < 1e-3:  # a shape that fell beside the picture
        relief = make(_canvas(size), rng)
    height_um = _placed(relief, setup, chosen, hard, rng)
    light = reflectance(relief, chosen.finishes, rng) * _returned(height_um, setup, hard, rng)
    sheets = [Sheet(height_um, np.asarray(light, dtype=np.float32)), *_before(height_um, light, setup, chosen, rng)]
    if setup.optics is None and chance(rng, 0.08):
        sheets = _in_the_dark(sheets, size)

    share = float(rng.choice([0.0, rng.uniform(0.0, 0.5)]))
    renderer = StackRenderer(sheets, setup.blur, glow=(share, between(rng, 5.0, 40.0)))
    level = float(rng.uniform(0.6, 1.3)) if hard and chance(rng, 0.7) else None
    even = chosen.laboratory == 1.0 or (chosen.laboratory > 0.0 and chance(rng, chosen.laboratory))
    conditions = draw_conditions(size, n, rng, level=level, dim=chosen.dim, laboratory=even)
    images = photograph(renderer.render, _reached(setup, rng), size, conditions, rng)
    truth = _truth(sheets, setup, size)
    z_um = setup.z_um
    if chance(rng, 0.25):
        images, z_um, truth = images[::-1].copy(), -z_um[::-1], -truth
    name = "-".join(str(part) for part in (seed if isinstance(seed, Sequence) else (seed,)))
    stack = FocalStack(images, z_um, setup.pixel_um, setup.optics, "um", {"scene": f"{make.__name__} {name}"})
    return Scene(f"{make.__name__}-{name}", make.__name__, stack, truth)


def _canvas(size: Shape) -> Shape:
    rows, columns = (2 * scipy.fft.next_fast_len(n // 2 + MARGIN_PX, real=True) for n in size)
    return rows, columns


def _z_um(n: int, step_um: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Rising; equal steps in most stacks, uneven ones in the rest."""
    steps = np.full(n - 1, step_um)
    if chance(rng, 0.15):
        steps = steps * np.exp(rng.normal(0.0, rng.uniform(0.02, 0.4), n - 1))
    return np.concatenate([[0.0], np.cumsum(steps)]) + rng.uniform(-50.0, 50.0) * step_um


def _reached(setup: Setup, rng: np.random.Generator) -> NDArray[np.float64]:
    """Where the focus really was in each frame: in some stacks the stage misses its places a little."""
    miss = float(rng.choice([0.0, 0.02, 0.06], p=[0.7, 0.2, 0.1]))
    return np.asarray(setup.z_um + miss * setup.step_um * rng.standard_normal(len(setup.z_um)))


def _microscope(n: int, chosen: Style, rng: np.random.Generator) -> Setup:
    na = between(rng, *chosen.na)
    wavelength_um = float(rng.uniform(0.45, 0.65))
    pixel_um = between(rng, *chosen.sampling) * wavelength_um / (2.0 * na)
    camera_um = float(rng.choice([2.4, 3.45, 4.8, 5.86]))
    optics = Optics(camera_um / pixel_um, na, wavelength_um)
    depth_um = optics.depth_of_field_um(pixel_um)
    # The farthest frame is not blurred beyond what leaves something to see; many frames have small steps.
    most_um = between(rng, 15.0, 110.0) * pixel_um / na / max(n - 1, 1)
    step_um = min(between(rng, *chosen.step_dof) * depth_um, max(most_um, 0.08 * depth_um))
    lopsided = float(rng.normal(0.0, 0.08)) * chance(rng, 0.4)
    return Setup(_z_um(n, step_um, rng), pixel_um, PupilBlur(optics, pixel_um, lopsided), optics)


def _macro(n: int, chosen: Style, rng: np.random.Generator) -> Setup:
    step_um, pixel_um = between(rng, 20.0, 500.0), between(rng, 5.0, 60.0)
    most_px = between(rng, *chosen.most_blur_px) / max(n - 1, 1)
    px_per_step = min(between(rng, *chosen.blur_px_per_step), max(most_px, 0.1))
    lopsided = float(rng.normal(0.0, 0.1)) * chance(rng, 0.5)
    disc = chance(rng, chosen.disc)
    blur = SpreadBlur(px_per_step / step_um, between(rng, 0.2, 1.0), disc=disc, lopsided=lopsided)
    return Setup(_z_um(n, step_um, rng), pixel_um, blur, None)


def _placed(relief: Relief, setup: Setup, chosen: Style, hard: bool, rng: np.random.Generator) -> FloatImage:
    """Height in um (H, W): the relief with its form, scaled to a random part of the stack and put into it."""
    at = float(rng.choice([0.0, 1.0, rng.uniform()], p=[0.15, 0.25, 0.6]))
    fine = float(np.percentile(np.abs(relief.height - soft(relief.height, 2.0)), 80)) / float(np.ptp(relief.height))
    if hard:
        form = float(rng.uniform(0.0, 0.06)) * chance(rng, 0.6) * (at < 1.0)
    elif fine > 0.03:  # all of it is fine: on a larger form it may still take the whole stack
        form = between(rng, 0.1, 20.0)
    else:
        form = float(rng.uniform(0.0, 0.8)) * chance(rng, 0.6)
    height = with_form(relief.height, rng, form)
    span = float(np.ptp(height))
    fine *= float(np.ptp(relief.height)) / span

    n, least = len(setup.z_um), 1.0 / (len(setup.z_um) - 1)
    part = (
        between(rng, 0.1, 1.0) * least,
        between(rng, min(least, 0.3), 0.3),
        float(rng.uniform(0.3, 0.95)),
        1.0,
    )[int(rng.choice(4, p=chosen.parts))]
    part = min(part, FINE_STEPS / (max(fine, 1e-9) * (n - 1)))
    scale_um = part * setup.whole_um / span
    lowest_um = float(setup.z_um[0]) + at * (1.0 - part) * setup.whole_um
    if at == 1.0 and relief.engraved and float(relief.land.max()) > 0.9:  # the land itself lies on the last frame
        land = float(np.median(height[relief.land > 0.9]) - height.min())
        lowest_um = float(setup.z_um[-1]) - land * scale_um
    return np.asarray(lowest_um + (height - height.min()) * np.float32(scale_um), dtype=np.float32)


def _returned(height_um: FloatImage, setup: Setup, hard: bool, rng: np.random.Generator) -> FloatImage:
    """Share of the light that slopes and walls send back into the aperture, and the shading of light from one side."""
    optics = setup.optics or _MACRO_LENS
    slope = slope_of(soft(height_um, 1.0), setup.pixel_um)  # what is finer belongs to the finish
    typical = max(float(np.percentile(slope, 95)), 1e-6)
    aperture_slope = float(np.tan(half_aperture_rad(optics))) / 2.0
    if hard:
        rough, diffuse = aperture_slope * between(rng, 0.1, 0.8), between(rng, 0.04, 0.4)
        # walls are steep for the aperture, as in metal: a shallow relief would not be hard
        slope = slope * np.float32(max(between(rng, 1.0, 4.0) * aperture_slope / typical, 1.0))
    else:
        rough, diffuse = between(rng, 0.1, 2.0), float(rng.uniform(0.15, 1.0))
        slope = slope * np.float32(min(between(rng, 0.2, 2.0) / typical, 1.0))
    light = light_from_slope(slope, optics, roughness_slope=rough, diffuse=diffuse)
    if setup.optics is not None and slope.max() > 1.0 / np.tan(half_aperture_rad(optics)):
        light = light * open_aperture(height_um, setup.pixel_um, optics, azimuths=8, coarse=True) ** 2
    if not hard and chance(rng, 0.35):
        rows, columns = np.gradient(height_um)
        turn, strength = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.1, 0.8)
        lean = (np.cos(turn) * columns + np.sin(turn) * rows) / np.float32(typical * setup.pixel_um)
        light = light * np.clip(1.0 + np.float32(strength) * np.tanh(lean), 0.05, 2.0)
    return np.asarray(light, dtype=np.float32)


def _before(
    height_um: FloatImage, light: FloatImage, setup: Setup, chosen: Style, rng: np.random.Generator
) -> list[Sheet]:
    """What stands before the relief, lowest first."""
    base = np.asarray((height_um - setup.z_um[0]) / setup.whole_um, dtype=np.float32)
    standing: list[Standing] = []
    if setup.optics is None and chance(rng, chosen.things):
        standing += things(base, chosen.finishes, rng)
    if chance(rng, chosen.fibres):
        standing.append(fibres(base, rng))
    mean = np.float32(light.mean())
    return [
        Sheet((setup.z_um[0] + s.height * setup.whole_um).astype(np.float32), s.light * mean, s.cover) for s in standing
    ]


def _in_the_dark(sheets: list[Sheet], size: Shape) -> list[Sheet]:
    """Nothing lights what lies beyond the edge of the picture."""
    lit = np.zeros_like(sheets[0].light)
    top, left = (lit.shape[0] - size[0]) // 2, (lit.shape[1] - size[1]) // 2
    lit[top : top + size[0], left : left + size[1]] = 1.0
    return [Sheet(sheet.height_um, sheet.light * lit, sheet.cover) for sheet in sheets]


def _truth(sheets: list[Sheet], setup: Setup, size: Shape) -> FloatImage:
    """Height of the uppermost sheet that covers a pixel."""
    height = sheets[0].height_um.copy()
    for sheet in sheets[1:]:
        if sheet.cover is not None:
            height = np.where(sheet.cover > 0.5, sheet.height_um, height)
    top, left = (height.shape[0] - size[0]) // 2, (height.shape[1] - size[1]) // 2
    shown = np.array(height[top : top + size[0], left : left + size[1]], dtype=np.float32)
    room_um = 0.5 * setup.step_um
    shown[(shown < setup.z_um[0] - room_um) | (shown > setup.z_um[-1] + room_um)] = np.nan
    return shown
