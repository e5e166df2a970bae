"""Weights for tests: networks as they are soon after the begin of training, in files as the program ships them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.networks import engines, weights
from models.networks.calibration import calibrate
from models.networks.gplws_compact import CompactGplwsNet
from models.networks.registry import build


def begun(name: str, *, seed: int = 0) -> nn.Module:
    """The network ``name`` with random weights; the heads of our own, which begin with none, say something, too."""
    torch.manual_seed(seed)
    network = build(name)
    if isinstance(network, CompactGplwsNet):
        nn.init.normal_(network.head.weight, std=0.01)
    return network


def save_weights(folder: Path, name: str, *, calibrated: bool = True, seed: int = 0) -> Path:
    """A file of random weights of the network ``name``; ``calibrated`` with intervals, as honest as they are."""
    path = folder / f"{name}.safetensors"
    metadata = {"network": name}
    if calibrated:
        rng = np.random.default_rng(seed)
        spread = rng.uniform(0.05, 3, 5000).astype(np.float32)
        metadata["calibration"] = calibrate(spread, spread * rng.normal(size=5000).astype(np.float32)).to_json()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in begun(name, seed=seed).state_dict().items()}, path, metadata)
    return path


def ship(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    """Make the program believe that it came with weights of these networks, and of no others.

    "auto" is PyTorch: no engines are raced, and nothing is kept in the user's cache.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        save_weights(folder, name)
    monkeypatch.setattr(weights, "FOLDER", folder)
    monkeypatch.setattr(engines, "fastest_engine", lambda *_arguments: "torch")
