"""What is changed at random in a stack before a network sees it: place, light, camera, and which way is up."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.training.recipe import Augmentation

Floats = NDArray[np.float32]
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601."""


def augmented(
    frames: NDArray[np.uint8], z: Floats, height: Floats, channels: int, options: Augmentation, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """A changed sample. ``frames`` (N, H, W[, 3]), square; returns frames (N, C, H, W) in 0..1, z (N,), height (H, W).

    ``z`` begins at 0 and rises; it and ``height`` are in steps.
    """
    if options.reverse and rng.random() < 0.5:
        frames, z, height = reversed_relief(frames, z, height)
    turns = int(rng.integers(4)) if options.rotate else 0
    frames, height = np.rot90(frames, turns, (1, 2)), np.rot90(height, turns)
    if options.flip and rng.random() < 0.5:
        frames, height = frames[:, :, ::-1], height[:, ::-1]
    if options.flip and rng.random() < 0.5:
        frames, height = frames[:, ::-1], height[::-1]
    light = _with_light(frames, options, rng)
    if options.blank and rng.random() < options.blank:
        _make_blank(light, rng)
    if light.ndim == 4 and channels == 1:
        light = light @ _GREY
    if options.noise:
        _add_noise(light, options.noise, rng)
    image = np.moveaxis(light, -1, 1) if light.ndim == 4 else light[:, None]
    if channels == 3:
        gains = rng.uniform(1 - options.colour, 1 + options.colour, 3).astype(np.float32)
        if rng.random() < 0.5:
            gains[:] = 1.0
        image = image * gains[:, None, None]
    return np.clip(image, 0, 1, dtype=np.float32), z, np.ascontiguousarray(height)


def reversed_relief(frames: NDArray[np.uint8], z: Floats, height: Floats) -> tuple[NDArray[np.uint8], Floats, Floats]:
    """The same stack of the mirrored surface: last frame first, heights counted from there."""
    return frames[::-1], z[-1] - z[::-1], z[-1] - height


def _with_light(frames: NDArray[np.uint8], options: Augmentation, rng: np.random.Generator) -> Floats:
    """Gamma, gain and offset of the whole stack, brightness from frame to frame: one table per frame."""
    count = len(frames)
    gamma = 2.0 ** rng.uniform(-options.gamma, options.gamma)
    gain = rng.uniform(1 - options.gain, 1 + options.gain)
    offset = rng.uniform(-options.offset, options.offset)
    drift = rng.uniform(-options.drift, options.drift) * np.linspace(-0.5, 0.5, count)
    flicker = rng.normal(0, rng.uniform(0, options.flicker), count) if options.flicker else np.zeros(count)
    brightness = np.maximum(1 + drift + flicker, 0.1)
    grey = np.linspace(0, 1, 256) ** gamma
    # Contrast around mid-grey, so that strong gains do not only saturate.
    tables = (((grey - 0.5) * gain + 0.5 + offset) * brightness[:, None]).astype(np.float32)
    light = np.empty(frames.shape, np.float32)
    for index, table in enumerate(tables):
        np.take(table, frames[index], out=light[index], mode="clip")
    return light


def _make_blank(light: Floats, rng: np.random.Generator) -> None:
    """Take all detail out of a side of the stack (N, H, W[, C]), or of the whole of it, in place; leave faint noise.

    Nobody can know the heights there. What is to be learned is to say so.
    """
    rows, columns = np.indices(light.shape[1:3]) / max(light.shape[1:3]) - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    beyond = rows * np.sin(angle) + columns * np.cos(angle) - rng.uniform(-0.9, 0.2)
    part = np.clip(0.5 + 12 * beyond, 0, 1).astype(np.float32).reshape(1, *light.shape[1:3], *[1] * (light.ndim - 3))
    noise = rng.standard_normal(light.shape[:3], np.float32)
    smooth = rng.uniform(0, 1.5)
    if smooth > 0.3:  # as compression and sensors with a colour filter leave it
        noise = np.stack([cv2.GaussianBlur(frame, (0, 0), smooth) for frame in noise])
    noise *= rng.uniform(0, 0.012) / max(float(noise.std()), 1e-6)
    even = light.mean((1, 2), keepdims=True) + noise.reshape(*light.shape[:3], *[1] * (light.ndim - 3))
    light += part * (even - light)


def _add_noise(light: Floats, most: float, rng: np.random.Generator) -> None:
    """Read noise and shot noise of equal variance at mid-grey, in place."""
    # Squared: little noise is the common case.
    sigma = np.float32(most * rng.random() ** 2 / np.sqrt(2))
    noise = rng.standard_normal(light.shape, np.float32)
    noise *= np.sqrt(np.maximum(light * 2, 0) + 1)
    noise *= sigma
    light += noise
