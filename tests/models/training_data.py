"""Small shards and a small network for the tests of training."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from models.networks.prediction import Prediction, expectation
from models.training.examples import Example


def write_shard(folder: Path, number: int = 0, *, scenes: int = 4, frames: int = 8, size: int = 48) -> Path:
    """Random textures over smooth hills, sharp where the hill is; a corner of each truth is unknown."""
    examples = [render(1000 * number + scene, frames, size) for scene in range(scenes)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"shard_{number:05d}.npz"
    np.savez(
        path,
        frames=np.stack([e.frames for e in examples]),
        z_um=np.stack([e.z for e in examples]),
        height_um=np.stack([e.height for e in examples]),
        kind=np.array([e.kind for e in examples]),
    )
    return path


def render(seed: int | tuple[int, ...], frames: int = 8, size: int = 48) -> Example:
    rng = np.random.default_rng(seed)
    texture = rng.uniform(40, 210, (size, size)).astype(np.float32)
    hill = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), size / 8)
    hill = (hill - hill.min()) / (hill.max() - hill.min()) * (frames - 1)
    blurred = np.stack([texture] + [cv2.GaussianBlur(texture, (0, 0), 0.6 * k) for k in range(1, 2 * frames + 2)])
    index = np.arange(frames)[:, None, None]
    level = np.round(2 * np.abs(hill - index)).astype(int)
    images = np.take_along_axis(blurred, level, axis=0).astype(np.uint8)
    height = (3 + 2.5 * hill).astype(np.float32)
    height[:4, :6] = np.nan
    return Example(images, (3 + 2.5 * np.arange(frames)).astype(np.float32), height, "hills")


class TinyNet(nn.Module):
    """Two convolutions to a score per frame; with dropout, so that its own random numbers matter, too."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(channels, 8, 3, padding=1),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv3d(8, 1, (1, 3, 3), padding=(0, 1, 1)),
        )
        self.unused = nn.Linear(2, 2)

    def forward(self, frames: Tensor, z: Tensor) -> Prediction:
        prediction = expectation(self.layers(frames.transpose(1, 2))[:, 0], z)
        return prediction._replace(side=(torch.zeros_like(prediction.height), prediction.height))
