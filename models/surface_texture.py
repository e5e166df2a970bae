"""How bright machined, engraved and struck surfaces are: reflectance maps with the texture that focus needs.

Every map is (H, W) float32, 0..1, for light that falls on a level patch; what slopes and walls lose is
the business of :mod:`models.optics`. Grain sizes are in um, so a texture looks the same at any pixel size.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
Shape = tuple[int, int]


def noise(shape: Shape, rng: np.random.Generator, grain_px: tuple[float, float]) -> FloatImage:
    """Gaussian noise (H, W), mean 0, deviation 1, whose grains have this (row, column) size in pixels (sigma)."""
    white = rng.standard_normal(shape, dtype=np.float32)
    rows, columns = (max(grain, 0.05) for grain in grain_px)
    smooth: FloatImage = cv2.GaussianBlur(white, (0, 0), sigmaX=columns, sigmaY=rows)
    smooth -= smooth.mean()
    return smooth / np.float32(max(smooth.std(), 1e-9))


def grain(shape: Shape, pixel_um: float, rng: np.random.Generator, *layers: tuple[float, float, float]) -> FloatImage:
    """Sum of noise layers, each (deviation, row size in um, column size in um)."""
    total = np.zeros(shape, dtype=np.float32)
    for deviation, rows_um, columns_um in layers:
        total += np.float32(deviation) * noise(shape, rng, (rows_um / pixel_um, columns_um / pixel_um))
    return total


def ground_metal(shape: Shape, pixel_um: float, rng: np.random.Generator) -> FloatImage:
    """Polished and ground land: bright, with long fine grinding marks, a few scratches and small dark pits."""
    marks = grain(shape, pixel_um, rng, (0.055, 60.0, 0.45), (0.05, 14.0, 0.3), (0.025, 0.3, 5.0))
    spots = grain(shape, pixel_um, rng, (0.055, 0.35, 0.35), (0.03, 25.0, 25.0))
    sound = pits(shape, pixel_um, rng, per_mm2=900.0) * scratches(shape, pixel_um, rng)
    return np.clip((0.80 + marks + spots) * sound, 0.02, 1.0)


def cut_metal(shape: Shape, pixel_um: float, rng: np.random.Generator) -> FloatImage:
    """The wall and floor that a tool or an etch leaves: rougher, darker, with strong grain of several sizes."""
    layers = ((0.30, 0.4, 0.4), (0.22, 0.9, 0.9), (0.15, 3.0, 1.2), (0.12, 8.0, 8.0))
    return np.clip(0.55 * np.exp(grain(shape, pixel_um, rng, *layers)), 0.02, 1.0)


def struck_metal(shape: Shape, pixel_um: float, rng: np.random.Generator) -> FloatImage:
    """A coin in use: the grain of the metal, flow lines of the strike, many fine scratches in all directions."""
    layers = ((0.09, 0.4, 0.4), (0.06, 1.2, 1.2), (0.05, 1.0, 6.0), (0.05, 20.0, 20.0))
    worn = scratches(shape, pixel_um, rng, count=25) * pits(shape, pixel_um, rng, per_mm2=400.0)
    return np.clip((0.7 + grain(shape, pixel_um, rng, *layers)) * worn, 0.02, 1.0)


def ceramic(shape: Shape, pixel_um: float, rng: np.random.Generator) -> FloatImage:
    """Laser-engraved chromium oxide: grey, molten grain with glints."""
    layers = ((0.20, 0.45, 0.45), (0.14, 1.5, 1.5), (0.10, 5.0, 5.0))
    return np.clip(0.45 * np.exp(grain(shape, pixel_um, rng, *layers)), 0.02, 1.0)


def pits(shape: Shape, pixel_um: float, rng: np.random.Generator, per_mm2: float) -> FloatImage:
    """A factor that is 1 on sound metal and drops in small round pits, 0.5 to 2.5 um in radius."""
    canvas = np.ones(shape, dtype=np.float32)
    for _pit in range(rng.poisson(per_mm2 * shape[0] * shape[1] * (pixel_um / 1000.0) ** 2)):
        center = (int(rng.integers(shape[1]) * 16), int(rng.integers(shape[0]) * 16))
        radius = int(16 * rng.uniform(0.5, 2.5) / pixel_um)
        cv2.circle(canvas, center, radius, float(rng.uniform(0.25, 0.7)), -1, cv2.LINE_AA, shift=4)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.7), dtype=np.float32)


def scratches(shape: Shape, pixel_um: float, rng: np.random.Generator, count: int = 4) -> FloatImage:
    """A factor with a few long thin darker lines in any direction."""
    canvas = np.ones(shape, dtype=np.float32)
    for _scratch in range(count):
        x, y = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        angle, length = rng.uniform(0, np.pi), rng.uniform(30, 300) / pixel_um
        far = (x + length * np.cos(angle), y + length * np.sin(angle))
        ends = [(int(16 * px), int(16 * py)) for px, py in ((x, y), far)]
        cv2.line(canvas, ends[0], ends[1], float(rng.uniform(0.75, 0.92)), 1, cv2.LINE_AA, shift=4)
    return canvas
