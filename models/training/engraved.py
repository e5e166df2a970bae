"""Engraved, etched and struck metal: gravure and anilox cells, intaglio lines and characters, single cells."""

import cv2
import numpy as np

from models.training.fields import (
    FloatImage,
    Shape,
    between,
    blank,
    chance,
    grains,
    inside_px,
    smooth_step,
    soft,
    turned,
)
from models.training.relief import Relief, burr, pocket, roughness, text, unit


def gravure(shape: Shape, rng: np.random.Generator) -> Relief:
    """Cells cut by a V-shaped stylus that swings in and out: see :func:`models.surfaces.gravure`."""
    track_px = between(rng, 25.0, 0.9 * min(shape))
    period_px = track_px * rng.uniform(0.8, 2.0)
    y, x = turned(shape, rng, angle=rng.normal(0.0, 0.3) + rng.integers(2) * np.pi / 2)
    width = np.float32(rng.uniform(0.35, 0.62))  # half width of a cell at its widest, in tracks
    least = np.float32(rng.uniform(-0.6, 0.3))
    depth = np.zeros(shape, dtype=np.float32)
    column = np.round(x / np.float32(track_px))
    for neighbour in (-1, 0, 1):
        number = column + neighbour
        phase = np.float32(np.pi) * np.mod(number, 2.0)
        swing = np.cos(np.float32(2.0 * np.pi / period_px) * y + phase)
        tip = np.maximum(least + (1.0 - least) * (0.5 + 0.5 * swing), 0.0)
        depth = np.maximum(depth, tip - np.abs(x / np.float32(track_px) - number) / width)
    if chance(rng, 0.3):  # a stylus with a flat tip
        depth = np.minimum(depth, np.float32(rng.uniform(0.4, 0.8)))
    depth = depth / max(float(depth.max()), 1e-6)
    height = soft(-depth, rng.uniform(0.3, 1.5))
    land = smooth_step(1.0 + (height + 0.02) / 0.04)
    if chance(rng, 0.4):
        height = height + burr((depth - 0.03) * np.float32(width * track_px), rng)
    return Relief(height, land, engraved=True)


def anilox(shape: Shape, rng: np.random.Generator) -> Relief:
    """Bowls in a hexagonal, square or long lattice between narrow walls, drawn by a laser."""
    pitch_px = between(rng, 14.0, 0.7 * min(shape))
    y, x = turned(shape, rng)
    x = x * np.float32(1.0 if chance(rng, 0.7) else rng.uniform(0.4, 0.9))  # stretched cells
    if chance(rng, 0.7):
        inside = hexagon(y, x, np.float32(pitch_px))
    else:
        fold = [np.abs(np.mod(axis, np.float32(pitch_px)) - np.float32(pitch_px / 2)) for axis in (y, x)]
        inside = np.float32(pitch_px / 2) - np.maximum(*fold)
    wall_px = rng.uniform(0.03, 0.25) * pitch_px
    inward = np.clip((inside - np.float32(wall_px / 2)) / np.float32(pitch_px / 2 - wall_px / 2), 0.0, 1.0)
    depth = np.sin(inward * np.float32(np.pi / 2)) ** np.float32(rng.uniform(0.6, 2.0))
    height = soft(-depth, max(rng.uniform(0.01, 0.08) * pitch_px, 0.4)) + roughness(shape, rng, 0.06)
    return Relief(height, smooth_step((wall_px / 2 - inside) / 2.0 + 0.5), engraved=chance(rng, 0.5))


def hexagon(y: FloatImage, x: FloatImage, pitch_px: np.float32) -> FloatImage:
    """Distance to the nearest wall of a honeycomb."""
    nearest = np.full(y.shape, np.inf, dtype=np.float32)
    inside = np.zeros(y.shape, dtype=np.float32)
    row_px = pitch_px * np.float32(np.sqrt(3.0) / 2.0)
    for shifted in (0, 1):  # the hexagonal lattice is two rectangular ones
        u = np.mod(x + shifted * pitch_px / 2 + pitch_px / 2, pitch_px) - pitch_px / 2
        v = np.mod(y + shifted * row_px + row_px, 2 * row_px) - row_px
        square = u * u + v * v
        slant = np.float32(np.sqrt(3.0) / 2.0) * np.abs(v) + np.float32(0.5) * np.abs(u)
        inside = np.where(square < nearest, pitch_px / 2 - np.maximum(np.abs(u), slant), inside)
        nearest = np.minimum(nearest, square)
    return inside


def cell(shape: Shape, rng: np.random.Generator) -> Relief:
    """One or a few large pockets with steep walls: rounded rectangles, discs, slots."""
    drawn = blank(shape)
    tall, wide = drawn.shape
    for _cell in range(int(rng.integers(1, 4))):
        center = (int(rng.uniform(0.1, 0.9) * wide), int(rng.uniform(0.1, 0.9) * tall))
        size = (between(rng, 0.15, 0.9) * wide, between(rng, 0.15, 0.9) * tall)
        angle = float(rng.choice([0.0, 45.0, rng.uniform(0.0, 90.0)]))
        if chance(rng, 0.45):
            cv2.ellipse(drawn, (center, size, angle), 1, -1)
        else:
            box = cv2.boxPoints((center, size, angle)).astype(np.int32)
            cv2.fillPoly(drawn, [box], 1)
    corner = 2 * int(between(rng, 1.0, 0.12 * min(drawn.shape))) + 1
    drawn = cv2.morphologyEx(drawn, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (corner, corner)))
    inside = inside_px(drawn)
    inside += np.float32(rng.uniform(0.0, 1.2)) * grains(shape, rng, between(rng, 1.0, 8.0))  # a frayed outline
    return pocket(inside, rng, floor_px=0.25 * min(shape))


def characters(shape: Shape, rng: np.random.Generator) -> Relief:
    """Raised or engraved characters, as on a printing plate."""
    drawn = text(shape, rng)
    if chance(rng, 0.6):  # raised: the ground around them is taken away
        drawn = 1 - drawn
        if chance(rng, 0.5):
            frame = blank(shape)
            middle = (frame.shape[1] // 2, frame.shape[0] // 2)
            cv2.circle(frame, middle, int(min(frame.shape) * rng.uniform(0.3, 0.5)), 1, -1)
            drawn = drawn & frame
    inside = inside_px(drawn)
    inside += np.float32(rng.uniform(0.0, 1.0)) * grains(shape, rng, between(rng, 1.0, 6.0))
    return pocket(inside, rng, floor_px=0.08 * min(shape))


def lines(shape: Shape, rng: np.random.Generator) -> Relief:
    """Engraved lines, straight or waved, of one or several widths."""
    y, x = turned(shape, rng)
    pitch_px = between(rng, 10.0, 0.6 * min(shape))
    wave = rng.uniform(0.0, 0.35) * pitch_px * np.sin(x * np.float32(2 * np.pi / (pitch_px * rng.uniform(1.5, 6.0))))
    wave = wave + rng.uniform(0.0, 0.2) * pitch_px * grains(shape, rng, 40.0)
    row = (y + wave) / np.float32(pitch_px)
    across = np.abs(np.mod(row, 1.0) - np.float32(0.5)) * np.float32(pitch_px)
    widths = rng.uniform(0.15, 0.4, 7).astype(np.float32)
    if chance(rng, 0.5):
        widths[:] = widths[0]
    half = widths[np.mod(np.floor(row), 7).astype(np.intp)] * np.float32(pitch_px)
    return pocket(np.asarray(half - across, dtype=np.float32), rng, floor_px=float(half.max()))


def coin(shape: Shape, rng: np.random.Generator) -> Relief:
    """Struck relief without vertical walls: rounded characters and rims on a gently bent ground."""
    inside = inside_px(text(shape, rng))
    swell = np.tanh(np.maximum(inside, 0.0) / np.float32(between(rng, 2.0, 10.0)))
    ground = grains(shape, rng, between(rng, 15.0, 50.0))
    height = soft(swell.astype(np.float32), rng.uniform(1.0, 3.0)) + np.float32(rng.uniform(0.05, 0.8)) * ground
    return Relief(height, unit(swell))


def scratched(shape: Shape, rng: np.random.Generator) -> Relief:
    """Level metal with V-shaped scratches whose metal stands up beside them."""
    height = np.zeros(shape, dtype=np.float32)
    drawn_depth = 0.0
    for _scratch in range(int(rng.integers(1, 7))):
        drawn = blank(shape)
        start = rng.uniform(-0.1, 1.1, 2) * drawn.shape[::-1]
        end = rng.uniform(-0.1, 1.1, 2) * drawn.shape[::-1]
        bend = (start + end) / 2 + rng.normal(0.0, 0.08, 2) * drawn.shape[::-1]
        cv2.polylines(drawn, [np.array([start, bend, end]).astype(np.int32)], False, 1, 1)
        away = -inside_px(drawn)
        half_px, depth = np.float32(between(rng, 1.0, 9.0)), np.float32(rng.uniform(0.3, 1.0))
        groove = depth * np.clip(1.0 - away / half_px, 0.0, 1.0)
        thrown = depth * np.float32(rng.uniform(0.0, 0.35)) * np.exp(-(((away - 1.4 * half_px) / (0.4 * half_px)) ** 2))
        height = np.minimum(height, -groove) + thrown
        drawn_depth = max(drawn_depth, float(depth))
    height += roughness(shape, rng, 0.1)
    height = soft(height, 0.5)
    return Relief(height, smooth_step(1.0 + (height + 0.1) / 0.1), engraved=chance(rng, 0.5))


ENGRAVED = (gravure, anilox, cell, cell, characters, lines, scratched)
"""Families of the hard kind; single cells count twice."""
