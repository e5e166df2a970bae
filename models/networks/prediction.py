"""What every network takes and gives."""

from typing import NamedTuple

import torch
from torch import Tensor


class Prediction(NamedTuple):
    """Depth from focus of a batch of stacks, in the unit of the focus positions that went in.

    ``height`` (B, H, W). ``weights`` (B, N, H, W): how much each frame counts, summing to 1 over the frames, or
    None. ``spread`` (B, H, W): the network's own measure of its doubt, in the unit of ``height``, before calibration,
    or None. ``side``: further estimates (B, H, W), coarsest first, which only multi-scale training looks at.
    """

    height: Tensor
    weights: Tensor | None = None
    spread: Tensor | None = None
    side: tuple[Tensor, ...] = ()


def expectation(scores: Tensor, z: Tensor) -> Prediction:
    """Height as the mean of focus positions ``z`` (B, N) under the softmax of ``scores`` (B, N, H, W)."""
    weights = torch.softmax(scores, dim=1)
    height = (weights * z[:, :, None, None]).sum(1)
    variance = (weights * (z[:, :, None, None] - height[:, None]) ** 2).sum(1)
    return Prediction(height, weights, variance.clamp_min(1e-12).sqrt())
