"""Random fields and drawn shapes that reliefs and finishes are made of. Lengths are in pixels of the canvas."""

import functools

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
Shape = tuple[int, int]

FINE = 2
"""Shapes are drawn this much finer than the pixels, so that distances to their outline are smooth."""


@functools.lru_cache(maxsize=8)
def _frequency(shape: Shape) -> tuple[FloatImage, FloatImage]:
    fy = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    return fy, fx


def _coloured(shape: Shape, rng: np.random.Generator, amplitude: FloatImage) -> FloatImage:
    white = scipy.fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    field = scipy.fft.irfft2(white * amplitude, s=shape)
    field -= field.mean()
    return np.asarray(field / max(float(field.std()), 1e-9), dtype=np.float32)


def grains(shape: Shape, rng: np.random.Generator, rows_px: float, columns_px: float | None = None) -> FloatImage:
    """Gaussian noise, mean 0 and deviation 1, whose grains have this size (standard deviation of the filter)."""
    fy, fx = _frequency(shape)
    columns_px = rows_px if columns_px is None else columns_px
    return _coloured(shape, rng, np.exp(-2.0 * np.pi**2 * ((rows_px * fy) ** 2 + (columns_px * fx) ** 2)))


def streaks(shape: Shape, rng: np.random.Generator, long_px: float, wide_px: float, angle: float) -> FloatImage:
    """:func:`grains` drawn out to ``long_px`` in the direction ``angle`` (radians, from the x axis)."""
    fy, fx = _frequency(shape)
    along = np.cos(angle) * fx + np.sin(angle) * fy
    across = -np.sin(angle) * fx + np.cos(angle) * fy
    return _coloured(shape, rng, np.exp(-2.0 * np.pi**2 * ((long_px * along) ** 2 + (wide_px * across) ** 2)))


def fractal(shape: Shape, rng: np.random.Generator, exponent: float, largest_px: float = 1e9) -> FloatImage:
    """Noise with amplitude f^-exponent (1 pink, 2 mountains), flat above ``largest_px``; mean 0, deviation 1."""
    fy, fx = _frequency(shape)
    least = max(1.0 / largest_px, 0.5 / max(shape))
    return _coloured(shape, rng, (fy**2 + fx**2 + np.float32(least**2)) ** np.float32(-exponent / 2.0))


def grid(shape: Shape) -> tuple[FloatImage, FloatImage]:
    """Coordinates (y, x) of the pixel centres, 0 in the middle."""
    y = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32((shape[0] - 1) / 2)
    x = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32((shape[1] - 1) / 2)
    return np.broadcast_to(y, shape), np.broadcast_to(x, shape)


def turned(shape: Shape, rng: np.random.Generator, angle: float | None = None) -> tuple[FloatImage, FloatImage]:
    """:func:`grid`, turned by ``angle`` (any where None) around a random point."""
    angle = float(rng.uniform(0.0, 2.0 * np.pi)) if angle is None else angle
    y, x = grid(shape)
    y = y + np.float32(rng.uniform(-0.5, 0.5) * shape[0])
    x = x + np.float32(rng.uniform(-0.5, 0.5) * shape[1])
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * y - s * x, s * y + c * x


def blank(shape: Shape) -> NDArray[np.uint8]:
    """A canvas to draw a shape on with OpenCV, ``FINE`` times finer than the pixels."""
    return np.zeros((shape[0] * FINE, shape[1] * FINE), dtype=np.uint8)


def inside_px(drawn: NDArray[np.uint8]) -> FloatImage:
    """Distance to the outline of a drawn shape (H, W) in pixels: positive inside it, negative outside."""
    into = cv2.distanceTransform(drawn, cv2.DIST_L2, cv2.DIST_MASK_5)
    out = cv2.distanceTransform(1 - drawn, cv2.DIST_L2, cv2.DIST_MASK_5)
    size = (drawn.shape[1] // FINE, drawn.shape[0] // FINE)
    return np.asarray(cv2.resize(into - out, size, interpolation=cv2.INTER_AREA) / FINE, dtype=np.float32)


def soft(image: FloatImage, radius_px: float) -> FloatImage:
    """Blurred by a Gaussian of this deviation."""
    if radius_px < 0.1:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), radius_px), dtype=np.float32)


def smooth_step(x: FloatImage) -> FloatImage:
    """0 below 0, 1 above 1, without a kink between."""
    t = np.clip(x, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number, evenly distributed over the orders of magnitude from ``low`` to ``high``."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def chance(rng: np.random.Generator, share: float) -> bool:
    """True in this share of the cases."""
    return bool(rng.random() < share)
