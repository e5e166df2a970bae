"""Things that stand or lie before a relief and hide a part of it: fibres, dust, cards, chips, balls."""

from dataclasses import dataclass

import cv2
import numpy as np

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
    turned,
)
from models.training.finish import Finish, one_of
from models.training.relief import Drawn, text


@dataclass(frozen=True)
class Standing:
    """``height`` (H, W) in shares of the stack, 0 the first frame; ``light`` 1: like the rest; ``cover`` 0..1."""

    height: FloatImage
    light: FloatImage
    cover: FloatImage


def fibres(base: FloatImage, rng: np.random.Generator) -> Standing:
    """Threads and specks of dust on a relief of height ``base`` or hovering a little above it."""
    shape = (base.shape[0], base.shape[1])
    drawn = blank(shape)
    for _fibre in range(int(rng.integers(1, 4))):
        points = np.cumsum(rng.normal(0.0, 0.12, (12, 2)), axis=0) + rng.uniform(0.0, 1.0, 2)
        points = points + np.linspace(0.0, rng.normal(0.0, 1.0), 12)[:, None]
        curve = cv2.resize(points.astype(np.float32), (2, 120), interpolation=cv2.INTER_CUBIC)
        thick = int(between(rng, 3.0, 20.0))
        cv2.polylines(drawn, [(curve * drawn.shape[::-1]).astype(np.int32)], False, 1, thick, cv2.LINE_8)
    for _speck in range(int(rng.poisson(3.0))):
        center = tuple(int(p) for p in rng.uniform(0.0, 1.0, 2) * drawn.shape[::-1])
        axes = (int(between(rng, 2, 16)), int(between(rng, 2, 16)))
        cv2.ellipse(drawn, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    inside = inside_px(drawn)
    round_ = np.sqrt(np.clip(inside / np.float32(max(float(inside.max()), 1.0)), 0.0, 1.0))
    lies = float(np.percentile(base, rng.uniform(30.0, 100.0)))
    height = lies + rng.uniform(0.0, 0.3) + rng.uniform(0.0, 0.08) * grains(shape, rng, 30.0) + 0.03 * round_
    light = between(rng, 0.1, 1.3) * (1.0 + rng.uniform(0.0, 0.4) * grains(shape, rng, between(rng, 0.5, 3.0)))
    return _standing(height, light, inside, base)


def things(base: FloatImage, finishes: tuple[Finish, ...], rng: np.random.Generator) -> list[Standing]:
    """Two to five solid things, each nearer than the last: cards, chips, letters, blobs, discs, rods."""
    found = []
    count = int(rng.integers(2, 6))
    shape = (base.shape[0], base.shape[1])
    for level in np.sort(rng.uniform(min(float(np.median(base)), 1.0), 1.0, count)):
        drawn = _outline(shape, rng)
        inside = inside_px(drawn)
        if float(inside.max()) < 2.0:
            continue
        bulge = np.clip(inside / inside.max(), 0.0, 1.0)
        _y, x = turned(shape, rng)
        lean = rng.normal(0.0, 0.15) * x / np.float32(max(shape))
        height = level + lean + rng.choice([0.0, rng.uniform(0.0, 0.3)]) * (np.sqrt(bulge * (2.0 - bulge)) - 1.0)
        light = between(rng, 0.3, 1.8) * one_of(finishes, shape, rng)
        found.append(_standing(height, light, inside, base))
    return found


def _outline(shape: Shape, rng: np.random.Generator) -> Drawn:
    kind = rng.choice(["card", "chip", "disc", "blob", "letters", "rods"])
    drawn = blank(shape)
    rows, columns = drawn.shape
    place = rng.uniform(0.0, 1.0, 2) * (columns, rows)
    if kind == "letters":
        return text(shape, rng)
    if kind == "blob":
        y, x = grid(shape)
        center = rng.uniform(-0.4, 0.4, 2) * shape
        away = np.hypot(y - center[0], x - center[1]) / (between(rng, 0.15, 0.6) * max(shape))
        edge = (1.0 - away + 0.35 * fractal(shape, rng, rng.uniform(1.2, 2.0))).astype(np.float32)
        return np.asarray(cv2.resize(edge, (columns, rows)) > 0.3, dtype=np.uint8)
    if kind == "disc":
        cv2.circle(drawn, (int(place[0]), int(place[1])), int(between(rng, 0.06, 0.4) * columns), 1, -1)
    elif kind == "rods":
        for _rod in range(int(rng.integers(1, 6))):
            ends = (rng.uniform(-0.2, 1.2, (2, 2)) * (columns, rows)).astype(int)
            cv2.line(drawn, ends[0].tolist(), ends[1].tolist(), 1, int(between(rng, 4.0, 40.0)))
    else:
        corners = place + rng.normal(0.0, 0.3, (3 if kind == "chip" else 4, 2)) * (columns, rows)
        if kind == "card":
            size = (between(rng, 0.15, 0.9) * columns, between(rng, 0.15, 0.9) * rows)
            corners = cv2.boxPoints(((float(place[0]), float(place[1])), size, float(rng.uniform(0.0, 90.0))))
        cv2.fillConvexPoly(drawn, cv2.convexHull(corners.astype(np.int32)), 1)
        if chance(rng, 0.2):  # a window in it
            cv2.circle(drawn, (int(place[0]), int(place[1])), int(between(rng, 0.03, 0.15) * columns), 0, -1)
    return drawn


def _standing(height: FloatImage, light: FloatImage, inside: FloatImage, base: FloatImage) -> Standing:
    """Nothing sinks into the relief or leaves the stack at its near end."""
    stands = np.clip(np.maximum(height, base), 0.0, max(1.0, float(base.max())))
    cover = np.clip(inside + 0.5, 0.0, 1.0)
    return Standing(stands.astype(np.float32), np.maximum(light, 0.0).astype(np.float32), cover.astype(np.float32))
