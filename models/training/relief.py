"""What a relief is before it gets a scale, and the forms that all families share."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.training.fields import FloatImage, Shape, between, blank, chance, grains, grid, smooth_step, soft

Drawn = NDArray[np.uint8]


@dataclass(frozen=True)
class Relief:
    """``height`` (H, W) in any unit, larger is nearer; ``land`` 0..1: where it is the outermost, untouched surface.

    ``engraved``: bright land, steep dark walls and a grainy floor are what makes it hard.
    """

    height: FloatImage
    land: FloatImage
    engraved: bool = False


def unit(height: FloatImage) -> FloatImage:
    """Stretched to 0..1."""
    low, high = float(height.min()), float(height.max())
    return np.asarray((height - low) / max(high - low, 1e-9), dtype=np.float32)


def pocket(inside: FloatImage, rng: np.random.Generator, floor_px: float) -> Relief:
    """A recess of depth 1 where ``inside`` (pixels to the outline) is positive, with walls, rim, burr and floor.

    ``floor_px``: how far inside the wall may end at most.
    """
    wall_px = between(rng, 1.0, max(floor_px, 1.5))
    t = inside / np.float32(wall_px)
    profile = rng.choice(["ramp", "soft", "bowl", "stepped"])
    if profile == "ramp":
        depth = np.clip(t, 0.0, 1.0)
    elif profile == "soft":
        depth = smooth_step(t)
    elif profile == "bowl":
        depth = np.sin(np.clip(t, 0.0, 1.0) * np.float32(np.pi / 2.0))
    else:  # a second tool has gone deeper
        share = np.float32(rng.uniform(0.3, 0.7))
        depth = share * np.clip(t * 2.0, 0.0, 1.0) + (1.0 - share) * np.clip((t - 0.8) * 4.0, 0.0, 1.0)
    floor = smooth_step((t - 0.9) * 3.0)
    if chance(rng, 0.7):
        depth = depth - floor * roughness(inside.shape, rng, 0.08)
    if chance(rng, 0.3):  # a floor that is not flat
        depth = depth * (1.0 + np.float32(rng.uniform(-0.3, 0.3)) * floor * grains(inside.shape, rng, 40.0))
    height = soft(-np.asarray(depth, dtype=np.float32), rng.uniform(0.3, 1.5))
    land = smooth_step(1.0 + (height + 0.02) / 0.04)
    if chance(rng, 0.4):
        height = height + burr(inside, rng)
    return Relief(height, land, engraved=True)


def roughness(shape: Shape, rng: np.random.Generator, most: float) -> FloatImage:
    """Uneven by up to ``most`` of the depth; finer grains are lower, as they are in nature."""
    grain_px = between(rng, 0.8, 15.0)
    return np.float32(rng.uniform(0.0, most) * min(1.0, grain_px / 10.0)) * grains(shape, rng, grain_px)


def burr(inside: FloatImage, rng: np.random.Generator) -> FloatImage:
    """Metal thrown up along an outline: an uneven ridge just outside it, in shares of the depth."""
    width_px, tall = between(rng, 0.8, 4.0), rng.uniform(0.01, 0.12)
    ridge = np.exp(-(((inside + np.float32(width_px)) / np.float32(width_px)) ** 2))
    uneven = np.clip(0.7 + 0.6 * grains(inside.shape, rng, between(rng, 3.0, 15.0)), 0.0, 2.0)
    return np.asarray(tall * ridge * uneven, dtype=np.float32)


def with_form(height: FloatImage, rng: np.random.Generator, share: float) -> FloatImage:
    """Tilted and bent by ``share`` of its own depth, as what lies under a microscope always is."""
    y, x = grid(height.shape)
    half = np.float32(max(height.shape) / 2)
    u, v = x / half, y / half
    tilt, bend = rng.normal(0.0, 0.5, 2), rng.normal(0.0, 0.3, 3)
    form = tilt[0] * u + tilt[1] * v + bend[0] * u * u + bend[1] * v * v + bend[2] * u * v
    form = np.asarray(form, dtype=np.float32)
    return height + np.float32(share * np.ptp(height)) * form / max(float(np.ptp(form)), 1e-6)


def text(shape: Shape, rng: np.random.Generator) -> Drawn:
    """One or a few bold characters, at any place and angle."""
    drawn = blank(shape)
    letters = "".join(rng.choice(list("0123456789ABCDEFGHKLMNPRSTUXYZ$%&#"), rng.integers(1, 4)))
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX]))
    tall = int(min(drawn.shape) * rng.uniform(0.25, 0.75))
    thickness = max(2, int(tall * rng.uniform(0.06, 0.22)))
    scale = cv2.getFontScaleFromHeight(font, max(tall - thickness, 4), thickness)
    (wide, high), _baseline = cv2.getTextSize(letters, font, scale, thickness)
    left = int(drawn.shape[1] * rng.uniform(0.3, 0.7) - wide / 2)
    bottom = int(drawn.shape[0] * rng.uniform(0.4, 0.6) + high / 2)
    cv2.putText(drawn, letters, (left, bottom), font, scale, 1, thickness, cv2.LINE_8)
    middle = (drawn.shape[1] / 2, drawn.shape[0] / 2)
    turn = cv2.getRotationMatrix2D(middle, float(rng.normal(0.0, 25.0)), 1.0)
    return np.asarray(cv2.warpAffine(drawn, turn, drawn.shape[::-1], flags=cv2.INTER_NEAREST), dtype=np.uint8)
