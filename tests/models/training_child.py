"""Trains the tiny network of the tests from the command line: SHARDS OUT STEPS. Killed, and run by torchrun."""

import sys
from pathlib import Path

import torch

from models.networks.registry import NETWORKS, NetworkSpec
from models.training.loop import TrainingResult, train
from models.training.recipe import Recipe, load_recipe

TINY = NetworkSpec("tiny", "", "", "test", "tests.models.training_data", "TinyNet", channels=1, multiple=8)
NETWORKS["tiny"] = TINY


def tiny_recipe(**changes: object) -> Recipe:
    """Short, small, and with everything on."""
    small = {
        "network": "tiny",
        "steps": 12,
        "batch": 2,
        "log_every_s": 0,
        "loaders": 2,
        "stages": [
            {"until": 0.5, "crop": [16, 16], "frames": [3, 5]},
            {"crop": [16, 24], "frames": [3, 8], "batch": 1},
        ],
    }
    return load_recipe("default").changed(**{**small, **changes})


def run(shards: Path, out: Path, recipe: Recipe, **options: object) -> TrainingResult:
    return train(recipe, [shards], out, device="cpu", **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    recipe = tiny_recipe(steps=int(sys.argv[3]), checkpoint_every_s=0.05)
    result = run(
        Path(sys.argv[1]), Path(sys.argv[2]), recipe, progress=lambda now: print(now.step, float(now.loss), flush=True)
    )
    print("finished", result.steps, result.skipped, flush=True)
