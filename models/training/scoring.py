"""How well a network does on scenes that it is not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from models.training.examples import Example

_LARGEST_PX = 512
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Score:
    """Errors in steps over all pixels with a truth; ``by_kind``: the mean absolute one per kind of scene.

    None where there was no such pixel. ``bad_share``: part of the pixels that are off by more than a step.
    """

    mean_absolute_steps: float | None
    median_absolute_steps: float | None
    bad_share: float | None
    by_kind: dict[str, float]
    scenes: int


@torch.no_grad()
def score(network: nn.Module, examples: Sequence[Example], channels: int, device: torch.device) -> Score:
    """Run ``network`` over whole stacks, the middle of large ones, in float32. Leaves it in the mode it was in."""
    was_training = network.training
    network.eval()
    errors = [np.abs(_error(network, example, channels, device)) for example in examples]
    network.train(was_training)
    by_kind: dict[str, list[np.ndarray]] = {}
    for example, error in zip(examples, errors, strict=True):
        by_kind.setdefault(example.kind, []).append(error)
    every = np.concatenate(errors) if errors else np.zeros(0)
    means = {kind: float(np.concatenate(parts).mean()) for kind, parts in by_kind.items() if np.concatenate(parts).size}
    if not every.size:
        return Score(None, None, None, {}, len(examples))
    return Score(float(every.mean()), float(np.median(every)), float((every > 1).mean()), means, len(examples))


def _error(network: nn.Module, example: Example, channels: int, device: torch.device) -> np.ndarray:
    """Errors of the known pixels, in mean steps of the stack; truth half a step outside of it does not count."""
    rows, columns = (_middle(size) for size in example.height.shape)
    frames = torch.from_numpy(np.array(example.frames[:, rows, columns])).to(device).float() / 255
    if frames.ndim == 3:
        frames = frames[:, None].expand(-1, channels, -1, -1)
    else:
        frames = frames.permute(0, 3, 1, 2)
        if channels == 1:
            frames = (frames * frames.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)
    step = (example.z[-1] - example.z[0]) / (len(example.z) - 1)
    z = (np.asarray(example.z, np.float64) - example.z[0]) / step
    truth = (np.asarray(example.height[rows, columns], np.float64) - example.z[0]) / step
    found = network(frames[None], torch.from_numpy(z.astype(np.float32)).to(device)[None]).height[0].float()
    with np.errstate(invalid="ignore"):
        known = (truth > -0.5) & (truth < z[-1] + 0.5)
    error: np.ndarray = found.cpu().numpy()[known] - truth[known]
    return error


def _middle(size: int) -> slice:
    used = min(size, _LARGEST_PX)
    return slice((size - used) // 2, (size - used) // 2 + used)


def spread_over(count: int, most: int) -> list[int]:
    """At most ``most`` indices, evenly over ``count``."""
    return [int(index) for index in np.unique(np.linspace(0, count - 1, min(most, count)).round())]
