"""From irradiance to the bytes of a stack: changing light, motion, noise of both kinds, faults, JPEG."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.training.fields import FloatImage, Shape, between, chance, grains, grid, soft


@dataclass(frozen=True)
class CameraConditions:
    """All that happens to the pictures of one stack of N frames.

    ``light``, ``tilt`` (N, 2), ``shift_px`` (N, 2), ``scale`` (N,): what changes from frame to frame;
    ``field``: brightness over the sensor; ``level``: the share of full scale at which the brightest percent of
    the stack lies, above 1 saturated; ``electrons`` at full scale; ``veil``: even stray light in shares of the
    mean; ``jpeg`` quality, 0: none; ``faults`` (H, W): NaN where a pixel works, else what it shows.
    """

    field: FloatImage
    light: NDArray[np.float32]
    tilt: NDArray[np.float32]
    shift_px: NDArray[np.float64]
    scale: NDArray[np.float64]
    level: float
    electrons: float
    read_noise_e: float
    offset: float
    veil: float
    gamma: float
    stretch: bool
    jpeg: int
    faults: FloatImage | None


def draw_conditions(
    shape: Shape,
    n: int,
    rng: np.random.Generator,
    *,
    level: float | None = None,
    dim: float = 0.15,
    laboratory: bool = False,
) -> CameraConditions:
    """Conditions for ``n`` frames of ``shape``: even and quiet in the ``laboratory``, else ``dim`` in this share."""
    if laboratory:
        return _laboratory(shape, n, level if level is not None else float(rng.uniform(0.6, 1.05)), rng)
    time = np.linspace(-0.5, 0.5, n)
    light = 1.0 + rng.choice([0.0, 0.005, 0.03]) * rng.standard_normal(n)
    if chance(rng, 0.4):
        light = light * np.exp(rng.normal(0.0, 0.2) * time)
    if chance(rng, 0.1):  # the lamp or the exposure jumps
        light = light * np.where(time > rng.uniform(-0.4, 0.4), rng.uniform(0.7, 1.4), 1.0)
    tilt = rng.normal(0.0, 0.04, 2) + chance(rng, 0.3) * rng.normal(0.0, 0.2, 2) * time[:, None]
    wander = np.cumsum(rng.normal(0.0, 1.0, (n, 2)), axis=0) / np.sqrt(n)
    far_px = float(rng.choice([0.0, 0.3, 1.0, 2.5], p=[0.45, 0.3, 0.18, 0.07]))
    shift = far_px * (rng.normal(0.0, 0.7, 2) * time[:, None] + 0.4 * (wander - wander[n // 2]))
    breathing = float(rng.choice([0.0, 0.002, 0.01, 0.03], p=[0.5, 0.25, 0.2, 0.05])) * rng.normal()
    dark = level is None and chance(rng, dim)
    return CameraConditions(
        field=_field(shape, rng),
        light=light.astype(np.float32),
        tilt=tilt.astype(np.float32),
        shift_px=shift,
        scale=1.0 + breathing * time,
        level=level if level is not None else (between(rng, 0.07, 0.35) if dark else float(rng.uniform(0.4, 1.15))),
        electrons=between(rng, 400.0, 4000.0) if dark else between(rng, 2000.0, 30000.0),
        read_noise_e=between(rng, 1.5, 12.0),
        offset=float(rng.choice([0.0, rng.uniform(0.0, 0.06)])),
        veil=float(rng.uniform(0.02, 0.25)),
        gamma=between(rng, 0.6, 1.6) if chance(rng, 0.4) else 1.0,
        stretch=chance(rng, 0.15),
        jpeg=int(rng.choice([0, int(rng.integers(30, 75)), int(rng.integers(75, 99))], p=[0.55, 0.15, 0.3])),
        faults=_faults(shape, rng) if chance(rng, 0.08) else None,
    )


def _laboratory(shape: Shape, n: int, level: float, rng: np.random.Generator) -> CameraConditions:
    return CameraConditions(
        field=np.ones(shape, dtype=np.float32),
        light=np.ones(n, dtype=np.float32),
        tilt=np.zeros((n, 2), dtype=np.float32),
        shift_px=np.zeros((n, 2)),
        scale=np.ones(n),
        level=level,
        electrons=between(rng, 3e3, 1e5),
        read_noise_e=1.0,
        offset=0.0,
        veil=0.0,
        gamma=1.0,
        stretch=False,
        jpeg=0,
        faults=None,
    )


def photograph(
    render: Callable[[float], FloatImage],
    z_um: NDArray[np.float64],
    shape: Shape,
    conditions: CameraConditions,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """The stack (N, H, W) uint8 that the camera delivers, the middle (H, W) of what ``render(z_um)`` shows."""
    frames = np.empty((len(z_um), *shape), dtype=np.float32)
    y, x = grid(shape)
    v, u = y / np.float32(shape[0] / 2), x / np.float32(shape[1] / 2)
    for index, z in enumerate(z_um):
        image = _moved(render(float(z)), shape, conditions.shift_px[index], float(conditions.scale[index]))
        tilt = conditions.tilt[index]
        frames[index] = image * conditions.field * (conditions.light[index] * (1.0 + tilt[0] * v + tilt[1] * u))
    frames += np.float32(conditions.veil * frames.mean())
    frames *= np.float32(conditions.level / max(float(np.percentile(frames[:: max(1, len(z_um) // 8)], 99)), 1e-9))
    return _developed(_exposed(frames, conditions, rng), conditions)


def _moved(image: FloatImage, shape: Shape, shift_px: NDArray[np.float64], scale: float) -> FloatImage:
    top, left = (image.shape[0] - shape[0]) // 2, (image.shape[1] - shape[1]) // 2
    if scale == 1.0 and not shift_px.any():
        return image[top : top + shape[0], left : left + shape[1]]
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    move = np.array(
        [
            [1.0 / scale, 0.0, left + middle[1] * (1.0 - 1.0 / scale) - shift_px[1]],
            [0.0, 1.0 / scale, top + middle[0] * (1.0 - 1.0 / scale) - shift_px[0]],
        ]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(image, move, shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(np.maximum(moved, 0.0), dtype=np.float32)


def _exposed(frames: FloatImage, conditions: CameraConditions, rng: np.random.Generator) -> FloatImage:
    """Shot noise (its Gaussian limit), read noise, full well; 1 is full scale."""
    electrons = frames * np.float32(conditions.electrons)
    spread = np.sqrt(electrons + np.float32(conditions.read_noise_e**2))
    electrons += spread * rng.standard_normal(frames.shape, dtype=np.float32)
    exposed = np.clip(electrons / np.float32(conditions.electrons) + np.float32(conditions.offset), 0.0, 1.0)
    if conditions.faults is not None:
        works = np.isnan(conditions.faults)
        exposed = np.where(works, exposed, conditions.faults)
    return np.asarray(exposed, dtype=np.float32)


def _developed(frames: FloatImage, conditions: CameraConditions) -> NDArray[np.uint8]:
    """Gamma, contrast, rounding and compression, as a viewer or a cheap camera applies them."""
    if conditions.stretch:
        low, high = np.percentile(frames[::4], (1.0, 99.5))
        frames = np.clip((frames - low) / max(float(high - low), 1e-3), 0.0, 1.0)
    if conditions.gamma != 1.0:
        frames = frames ** np.float32(conditions.gamma)
    counts: NDArray[np.uint8] = (frames * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)
    if conditions.jpeg:
        for index, frame in enumerate(counts):
            _ok, code = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, conditions.jpeg])
            counts[index] = np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE))
    return counts


def _field(shape: Shape, rng: np.random.Generator) -> FloatImage:
    """Vignetting, uneven light, and dust on the sensor, which never comes into focus."""
    y, x = grid(shape)
    v, u = y / np.float32(shape[0] / 2), x / np.float32(shape[1] / 2)
    field = 1.0 - np.float32(rng.uniform(0.0, 0.25)) * (u * u + v * v) / 2.0
    if chance(rng, 0.3):
        field = field * np.exp(np.float32(rng.uniform(0.0, 0.3)) * grains(shape, rng, max(shape) / 3.0))
    if chance(rng, 0.15):
        dust = np.zeros(shape, dtype=np.float32)
        for _speck in range(int(rng.integers(1, 8))):
            place = (int(rng.integers(shape[1])), int(rng.integers(shape[0])))
            cv2.circle(dust, place, int(rng.integers(1, 7)), float(rng.uniform(0.03, 0.3)), -1)
        field = field * (1.0 - soft(dust, rng.uniform(0.5, 2.5)))
    return np.asarray(field, dtype=np.float32)


def _faults(shape: Shape, rng: np.random.Generator) -> FloatImage:
    """Hot and dead pixels, at times a dead or a bright column."""
    faults = np.full(shape, np.nan, dtype=np.float32)
    count = int(rng.integers(1, 30))
    faults[rng.integers(shape[0], size=count), rng.integers(shape[1], size=count)] = rng.choice([0.0, 1.0], count)
    if chance(rng, 0.4):
        faults[:, rng.integers(shape[1])] = rng.random()
    return faults
