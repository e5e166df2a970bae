"""Everything that is not engraved: machined and rough ground, steps, balls, lenses, boards, smooth forms."""

import cv2
import numpy as np

from models.training.engraved import hexagon
from models.training.fields import (
    FloatImage,
    Shape,
    between,
    blank,
    chance,
    fractal,
    grains,
    grid,
    inside_px,
    smooth_step,
    soft,
    streaks,
    turned,
)
from models.training.relief import Relief, roughness, unit


def _everywhere(height: FloatImage) -> Relief:
    return Relief(np.asarray(height, dtype=np.float32), np.ones(height.shape, dtype=np.float32))


def machined(shape: Shape, rng: np.random.Generator) -> Relief:
    """Turned or milled: the arcs of a tool with a round nose, ridges between its passes, chatter."""
    y, x = turned(shape, rng)
    if chance(rng, 0.5):
        x = np.hypot(x - np.float32(between(rng, 0.2, 6.0) * shape[1]), y)
    feed_px = between(rng, 5.0, 60.0)
    pass_ = np.mod(x / np.float32(feed_px) + 0.05 * grains(shape, rng, 20.0), 1.0) - np.float32(0.5)
    height = 4.0 * pass_**2 + np.float32(rng.uniform(0.0, 0.4)) * np.sin(
        y * np.float32(2 * np.pi / between(rng, 8, 90))
    )
    height = height + np.float32(rng.uniform(0.0, 0.2)) * streaks(shape, rng, 25.0, 0.8, float(rng.uniform(0, np.pi)))
    return _everywhere(soft(height.astype(np.float32), rng.uniform(0.3, 1.5)))


def abraded(shape: Shape, rng: np.random.Generator) -> Relief:
    """Ground, honed or lapped: long marks in one or two directions."""
    angle = float(rng.uniform(0.0, np.pi))
    height = streaks(shape, rng, between(rng, 15.0, 120.0), between(rng, 0.7, 4.0), angle)
    if chance(rng, 0.4):
        height = height + streaks(shape, rng, 60.0, between(rng, 0.7, 4.0), angle + float(rng.uniform(0.4, 1.6)))
    return _everywhere(height + np.float32(rng.uniform(0.0, 3.0)) * grains(shape, rng, between(rng, 20.0, 70.0)))


def etched(shape: Shape, rng: np.random.Generator) -> Relief:
    """Islands and lakes of two levels that an acid leaves, or the craters of a blasted surface."""
    if chance(rng, 0.6):
        field = fractal(shape, rng, rng.uniform(1.2, 2.5), between(rng, 15.0, 120.0))
        level = smooth_step((field - rng.uniform(-0.7, 0.7)) * np.float32(between(rng, 1.0, 20.0)) + 0.5)
        rough = roughness(shape, rng, 0.15)
        return Relief(soft(level, 0.6) + rough * (1.0 - level), level, engraved=chance(rng, 0.5))
    height = np.zeros(shape, dtype=np.float32)
    y, x = grid(shape)
    for _crater in range(int(rng.integers(20, 70))):
        radius = np.float32(between(rng, 3.0, 25.0))
        v, u = y - np.float32(rng.uniform(-0.5, 0.5) * shape[0]), x - np.float32(rng.uniform(-0.5, 0.5) * shape[1])
        height = np.minimum(height, ((u * u + v * v) / radius**2 - 1.0) * radius)
    return _everywhere(soft(height, 1.0))


def rock(shape: Shape, rng: np.random.Generator) -> Relief:
    """Broken ground: a fractal, smooth to very rough, at times with ridges or facets."""
    field = fractal(shape, rng, rng.uniform(1.6, 3.2), between(rng, 40.0, 400.0))
    if chance(rng, 0.25):
        field = -np.abs(field)
    if chance(rng, 0.2):
        field = np.maximum(field, 0.7 * fractal(shape, rng, rng.uniform(1.8, 2.5)))
    return _everywhere(field)


def swell(shape: Shape, rng: np.random.Generator) -> Relief:
    """Smooth hills and valleys; at times nothing but a tilt or a single bend."""
    if chance(rng, 0.4):
        y, x = turned(shape, rng)
        size = np.float32(max(shape))
        height = x / size + np.float32(rng.normal(0.0, 1.0)) * (x / size) ** 2 + rng.normal(0.0, 0.5) * (y / size) ** 2
        return _everywhere(np.asarray(height, dtype=np.float32))
    return _everywhere(grains(shape, rng, between(rng, 12.0, 60.0)))


def steps(shape: Shape, rng: np.random.Generator) -> Relief:
    """Plateaus at several levels with straight or bent edges: a staircase, grooves, chips of a mosaic."""
    wall_px = between(rng, 0.6, 12.0)
    if chance(rng, 0.5):
        _y, x = turned(shape, rng)
        x = x + np.float32(rng.uniform(0.0, 6.0)) * grains(shape, rng, 25.0)
        pitch = np.float32(between(rng, 14.0, 0.6 * min(shape)))
        stair = np.floor(x / pitch) + smooth_step((np.mod(x, pitch) - pitch / 2) / np.float32(wall_px) + 0.5)
        levels = rng.uniform(0.0, 1.0, 64).astype(np.float32)
        if chance(rng, 0.4):
            levels = np.linspace(0.0, 1.0, 64, dtype=np.float32)
        if chance(rng, 0.3):
            levels = np.mod(np.arange(64, dtype=np.float32), 2.0)
        stairs = np.interp(np.mod(stair, 63), np.arange(64), levels).astype(np.float32)
        return _everywhere(soft(stairs, rng.uniform(0.2, 1.0)))
    height = np.full(shape, 0.0, dtype=np.float32)
    for _chip in range(int(rng.integers(2, 9))):
        drawn = blank(shape)
        corners = rng.uniform(0.0, 1.0, 2) + rng.normal(0.0, 0.3, (int(rng.integers(3, 8)), 2))
        hull = cv2.convexHull((corners * drawn.shape[::-1]).astype(np.int32))
        cv2.fillConvexPoly(drawn, hull, 1)
        share = smooth_step(inside_px(drawn) / np.float32(wall_px) + 0.5)
        _y, x = turned(shape, rng)
        top = rng.uniform(0.0, 1.0) + rng.normal(0.0, 0.1) * x / np.float32(max(shape))
        height = (height + (np.asarray(top) - height) * share).astype(np.float32)
    return _everywhere(soft(height, rng.uniform(0.2, 1.0)))


def balls(shape: Shape, rng: np.random.Generator) -> Relief:
    """Domes, beads or solder bumps on a plane; at times the cap of one large ball."""
    y, x = grid(shape)
    half = max(shape) / 2
    height = np.zeros(shape, dtype=np.float32)
    one = chance(rng, 0.4)
    for _ball in range(1 if one else int(rng.integers(3, 20))):
        radius = np.float32((rng.uniform(0.8, 3.0) if one else between(rng, 0.06, 0.6)) * half)
        place = rng.uniform(-0.4 if one else -1.0, 0.4 if one else 1.0, 2) * half
        v, u = y - np.float32(place[0]), x - np.float32(place[1])
        cap = np.sqrt(np.maximum(radius**2 - u * u - v * v, 0.0)) - np.float32(rng.uniform(0.0, 0.6)) * radius
        height = np.maximum(height, cap)
    if chance(rng, 0.2):
        height = -height
    return Relief(height, smooth_step(height / np.float32(0.05 * max(float(np.ptp(height)), 1e-6))))


def lenses(shape: Shape, rng: np.random.Generator) -> Relief:
    """An array of small lenses on a dome or a plane: micro-optics, the eye of an insect."""
    y, x = turned(shape, rng)
    pitch = np.float32(between(rng, 6.0, 40.0))
    inside = hexagon(y + 0.8 * grains(shape, rng, 15.0), x, pitch)
    lens = np.sin(np.clip(inside / (pitch / 2), 0.0, 1.0) * np.float32(np.pi / 2))
    dome = balls(shape, rng).height if chance(rng, 0.7) else grains(shape, rng, 60.0)
    height = unit(dome) + np.float32(rng.uniform(0.02, 0.3)) * lens
    return Relief(soft(np.asarray(height, dtype=np.float32), 0.6), smooth_step(lens * 3.0))


def board(shape: Shape, rng: np.random.Generator) -> Relief:
    """A printed circuit: tracks and pads on a plate, parts with flat tops, a button, solder."""
    height = np.zeros(shape, dtype=np.float32)
    bright = np.zeros(shape, dtype=np.float32)
    for tall in np.sort(rng.uniform(0.05, 1.0, int(rng.integers(3, 10)))):
        drawn = blank(shape)
        rows, columns = drawn.shape
        place = rng.uniform(0.0, 1.0, 2) * (columns, rows)
        size = (between(rng, 0.06, 0.6) * columns, between(rng, 0.06, 0.6) * rows)
        angle = float(rng.choice([0.0, 90.0, 45.0]))
        if chance(rng, 0.35):
            cv2.circle(drawn, tuple(int(p) for p in place), int(min(size) / 2) + 2, 1, -1)
        else:
            cv2.fillPoly(drawn, [cv2.boxPoints((tuple(place), size, angle)).astype(np.int32)], 1)
        inside = inside_px(drawn)
        share = smooth_step(inside / np.float32(between(rng, 0.8, 10.0)) + 0.5)
        top = np.float32(tall) * (1.0 if chance(rng, 0.6) else np.sqrt(np.clip(inside / inside.max(), 0.0, 1.0)))
        height = height + (top - height) * share
        bright = bright + (np.float32(rng.choice([0.0, 1.0, rng.random()])) - bright) * share
    return Relief(soft(np.asarray(height, dtype=np.float32), 0.6), np.asarray(bright, dtype=np.float32))


def plane(shape: Shape, rng: np.random.Generator) -> Relief:
    """Level, before the form that every relief gets."""
    return _everywhere(np.float32(0.001) * grains(shape, rng, 30.0))


GROUND = (machined, abraded, etched, rock, rock, swell, steps, balls, lenses, board)
"""Families that are not engraved; rock counts twice."""
