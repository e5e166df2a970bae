"""How bright a relief is: random finishes (H, W), about 0..1, of a level patch; slopes and walls come later."""

from collections.abc import Callable

import cv2
import numpy as np

from models.training.fields import FloatImage, Shape, between, blank, chance, fractal, grains, inside_px, soft, streaks
from models.training.relief import Relief


def polished(shape: Shape, rng: np.random.Generator) -> FloatImage:
    """A mirror: next to nothing to focus on."""
    return 1.0 + np.float32(between(rng, 0.001, 0.02)) * grains(shape, rng, between(rng, 0.5, 3.0))


def ground_land(shape: Shape, rng: np.random.Generator) -> FloatImage:
    """Bright land with faint grinding marks, pits and fine scratches."""
    angle = float(rng.uniform(0.0, np.pi))
    marks = streaks(shape, rng, between(rng, 8.0, 80.0), between(rng, 0.3, 1.2), angle)
    cross = streaks(shape, rng, between(rng, 8.0, 80.0), between(rng, 0.3, 1.2), angle + np.pi / 2)
    faint = np.float32(between(rng, 0.008, 0.12))
    field = 1.0 + faint * (marks + np.float32(rng.uniform(0.0, 0.8)) * cross + 0.5 * grains(shape, rng, 0.6))
    return np.asarray(field, dtype=np.float32) * spots(shape, rng)


def cut(shape: Shape, rng: np.random.Generator) -> FloatImage:
    """The grain that a tool, a laser or an acid leaves, of several sizes."""
    contrast = between(rng, 0.05, 0.5)
    field = grains(shape, rng, between(rng, 0.3, 0.9)) + 0.8 * grains(shape, rng, between(rng, 0.8, 2.5))
    field = field + 0.6 * grains(shape, rng, between(rng, 3.0, 15.0))
    return np.asarray(np.exp(np.float32(contrast) * field), dtype=np.float32)


def brushed(shape: Shape, rng: np.random.Generator) -> FloatImage:
    """Marks in one direction, of any contrast."""
    field = streaks(shape, rng, between(rng, 5.0, 80.0), between(rng, 0.3, 1.5), float(rng.uniform(0.0, np.pi)))
    return np.asarray(np.exp(np.float32(between(rng, 0.02, 0.4)) * field), dtype=np.float32)


def stone(shape: Shape, rng: np.random.Generator) -> FloatImage:
    """Light and shadow on a fine broken ground that is too low to matter for the height."""
    bumps = fractal(shape, rng, rng.uniform(1.4, 2.4), between(rng, 10.0, 200.0))
    turn = rng.uniform(0.0, 2.0 * np.pi)
    rows, columns = np.gradient(bumps)
    shade = np.cos(turn) * columns + np.sin(turn) * rows
    shade /= max(float(shade.std()), 1e-9)
    shade = np.tanh(0.7 * shade) + np.float32(rng.uniform(0.0, 0.8)) * fractal(shape, rng, rng.uniform(0.6, 1.4))
    return np.asarray(np.clip(1.0 + np.float32(between(rng, 0.08, 0.4)) * shade, 0.02, 4.0), dtype=np.float32)


def pattern(shape: Shape, rng: np.random.Generator) -> FloatImage:
    """Two colours in blotches, as printed paper, mould or a random target."""
    field = fractal(shape, rng, rng.uniform(0.3, 1.6), between(rng, 3.0, 60.0))
    edge = np.float32(between(rng, 0.5, 8.0))
    dark = np.float32(rng.uniform(0.1, 0.8))
    return np.asarray(dark + (1.0 - dark) * (0.5 + 0.5 * np.tanh(edge * field)), dtype=np.float32)


def speckled(shape: Shape, rng: np.random.Generator) -> FloatImage:
    """Glints on a dull ground: a few points are many times brighter than the rest."""
    field = grains(shape, rng, between(rng, 0.5, 2.5))
    glints = np.maximum(field - np.float32(rng.uniform(1.2, 2.5)), 0.0) * np.float32(between(rng, 1.0, 8.0))
    return np.asarray(cut(shape, rng) + glints, dtype=np.float32)


def spots(shape: Shape, rng: np.random.Generator) -> FloatImage:
    """A factor: 1 on sound metal, less in small pits and along a few fine scratches."""
    drawn = blank(shape)
    for _pit in range(int(rng.poisson(between(rng, 1.0, 60.0)))):
        center = (int(rng.integers(drawn.shape[1])), int(rng.integers(drawn.shape[0])))
        cv2.circle(drawn, center, int(rng.integers(1, 5)), int(rng.integers(30, 180)), -1)
    for _scratch in range(int(rng.poisson(2.0))):
        ends = (rng.uniform(0.0, 1.0, (2, 2)) * drawn.shape[::-1]).astype(int)
        cv2.line(drawn, ends[0].tolist(), ends[1].tolist(), int(rng.integers(20, 90)), 1)
    size = (shape[1], shape[0])
    less = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    return np.asarray(1.0 - less, dtype=np.float32)


Finish = Callable[[Shape, np.random.Generator], FloatImage]
LAND: tuple[Finish, ...] = (ground_land, ground_land, polished, brushed, cut)
FLOOR: tuple[Finish, ...] = (cut, cut, speckled, stone, brushed)
STRONG: tuple[Finish, ...] = (cut, stone, pattern, speckled)
"""With something to focus on everywhere."""
ANY: tuple[Finish, ...] = (*STRONG, stone, pattern, brushed, ground_land, polished)


def one_of(finishes: tuple[Finish, ...], shape: Shape, rng: np.random.Generator) -> FloatImage:
    """Any of these finishes."""
    return finishes[int(rng.integers(len(finishes)))](shape, rng)


def reflectance(relief: Relief, finishes: tuple[Finish, ...], rng: np.random.Generator) -> FloatImage:
    """Reflectance of a relief: its land and what lies lower are finished differently.

    Engraved metal has finishes of its own, all else one or two of ``finishes``.
    """
    shape = (relief.height.shape[0], relief.height.shape[1])
    if relief.engraved:
        land = rng.uniform(0.6, 1.0) * one_of(LAND, shape, rng)
        lower = between(rng, 0.15, 1.0) * one_of(FLOOR, shape, rng)
    else:
        land = between(rng, 0.15, 1.0) * one_of(finishes, shape, rng)
        lower = land
        if chance(rng, 0.5) and float(np.ptp(relief.land)) > 0.5:
            lower = between(rng, 0.1, 1.0) * one_of(finishes, shape, rng)
    field = np.asarray(lower + (land - lower) * relief.land, dtype=np.float32)
    if chance(rng, 0.8):  # few surfaces show nothing at all
        faint = np.float32(between(rng, 0.01, 0.08))
        field *= np.exp(faint * grains(shape, rng, between(rng, 0.3, 1.2)))
    if chance(rng, 0.3):  # stains
        field *= np.exp(np.float32(rng.uniform(0.05, 0.5)) * fractal(shape, rng, 1.8))
    if chance(rng, 0.12) and finishes is ANY:  # a part without any texture, or a nearly black one
        field = _calm(field, shape, rng)
    return np.asarray(np.clip(field, 0.004, 12.0), dtype=np.float32)


def _calm(field: FloatImage, shape: Shape, rng: np.random.Generator) -> FloatImage:
    drawn = blank(shape)
    center = tuple(int(p) for p in rng.uniform(0.1, 0.9, 2) * drawn.shape[::-1])
    axes = tuple(int(a) for a in rng.uniform(0.1, 0.4, 2) * drawn.shape)
    cv2.ellipse(drawn, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    share = np.clip(inside_px(drawn) / np.float32(between(rng, 1.0, 20.0)) + 0.5, 0.0, 1.0)
    if chance(rng, 0.5):
        return np.asarray(field * (1.0 - np.float32(rng.uniform(0.6, 0.97)) * share), dtype=np.float32)
    return np.asarray(field + (soft(field, 6.0) - field) * share, dtype=np.float32)
