"""What training makes small. Heights are in steps of the stack; where the truth is NaN nothing is asked.

Every term is a mean over the pixels with a truth and 0, with zero gradients, where there are none.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from models.errors import InputError
from models.language import _
from models.networks.prediction import Prediction
from models.training.recipe import LossWeights

_CHARBONNIER_STEPS = 0.05
_SCALES = 3
_EDGE_STEPS = 0.5
_SMALLEST_SPREAD = 0.02
_SMALLEST_WEIGHT = 1e-5


def total_loss(
    prediction: Prediction, z: Tensor, truth: Tensor, weights: LossWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the terms, and each term of weight above 0 by name (without gradients).

    ``z`` (B, N) and ``truth`` (B, H, W) in steps. Terms that the prediction has nothing for are left out;
    raises InputError where that leaves none.
    """
    known = torch.isfinite(truth)
    # NaN times 0 is NaN: it must not get into any term.
    filled = torch.where(known, truth, 0.0)
    height = prediction.height.float()
    terms = {}
    if weights.charbonnier:
        terms["charbonnier"] = charbonnier(height, filled, known)
    if weights.absolute:
        terms["absolute"] = masked_mean((height - filled).abs(), known)
    if weights.scale_invariant_log:
        terms["scale_invariant_log"] = scale_invariant_log(height, filled, known)
    if weights.gradient:
        terms["gradient"] = gradient(height, filled, known)
    if weights.edge:
        terms["edge"] = edge(height, filled, known)
    if weights.side and prediction.side:
        terms["side"] = multi_scale(tuple(estimate.float() for estimate in prediction.side), filled, known)
    if weights.laplace and prediction.spread is not None:
        terms["laplace"] = laplace(height, prediction.spread.float(), filled, known)
    if weights.focus and prediction.weights is not None:
        terms["focus"] = focus(prediction.weights.float(), z, filled, known)
    if not terms:
        raise InputError(_("The loss of the recipe asks for nothing that this network gives."))
    total = sum((getattr(weights, name) * term for name, term in terms.items()), height.new_zeros(()))
    return total, {name: term.detach() for name, term in terms.items()}


def masked_mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean of ``values`` where ``known``; 0 where nothing is."""
    return torch.where(known, values, 0.0).sum() / known.sum().clamp_min(1)


def charbonnier(height: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """sqrt(d^2 + e^2) - e: smooth at 0, else the absolute error (Charbonnier et al., ICIP 1994)."""
    d = height - truth
    return masked_mean(torch.sqrt(d * d + _CHARBONNIER_STEPS**2) - _CHARBONNIER_STEPS, known)


def scale_invariant_log(height: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Eigen, Puhrsch, Fergus, NIPS 2014, equation 4 with lambda = 0.5, per stack.

    Depths count from one step before the first frame: the logarithm needs them positive.
    """
    d = torch.log((height + 1).clamp_min(0.1)) - torch.log((truth + 1).clamp_min(0.1))
    d = torch.where(known, d, 0.0).flatten(1)
    count = known.flatten(1).sum(1).clamp_min(1)
    return ((d * d).sum(1) / count - 0.5 * (d.sum(1) / count) ** 2).mean()


def gradient(height: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Differences of the error between neighbours, over several scales (Li and Snavely, MegaDepth, CVPR 2018)."""
    total = height.new_zeros(())
    d = height - truth
    for scale in range(_SCALES):
        e, k = d[:, :: 2**scale, :: 2**scale], known[:, :: 2**scale, :: 2**scale]
        for axis in (1, 2):
            size = e.shape[axis] - 1
            both = k.narrow(axis, 0, size) & k.narrow(axis, 1, size)
            total = total + masked_mean((e.narrow(axis, 1, size) - e.narrow(axis, 0, size)).abs(), both)
    return total / (2 * _SCALES)


def edge(height: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Absolute error beside steep walls: where the truth changes by half a step or more within 3 x 3 pixels."""
    highest = max_pool2d(torch.where(known, truth, -math.inf)[:, None], 3, 1, 1)[:, 0]
    lowest = -max_pool2d(torch.where(known, -truth, -math.inf)[:, None], 3, 1, 1)[:, 0]
    return masked_mean((height - truth).abs(), known & (highest - lowest >= _EDGE_STEPS))


def multi_scale(side: tuple[Tensor, ...], truth: Tensor, known: Tensor) -> Tensor:
    """Error of the side estimates, each half as important as the next finer one."""
    total, share = truth.new_zeros(()), 0.0
    for index, estimate in enumerate(reversed(side)):
        total = total + 0.5**index * charbonnier(estimate, truth, known)
        share += 0.5**index
    return total / share


def laplace(height: Tensor, spread: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Negative log likelihood of a Laplace distribution whose standard deviation is ``spread``."""
    scale = spread.clamp_min(_SMALLEST_SPREAD) / math.sqrt(2)
    return masked_mean((height - truth).abs() / scale + torch.log(2 * scale), known)


def focus(weights: Tensor, z: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of the frames' weights (B, N, H, W) against the two frames around the true height.

    They share the target so that its mean is the truth; beyond the ends the end frame has it all.
    """
    step = torch.diff(z, dim=1)
    endless = step.new_full((len(z), 1), math.inf)
    below = torch.cat((endless, step), 1)[:, :, None, None]
    above = torch.cat((step, endless), 1)[:, :, None, None]
    d = truth[:, None] - z[:, :, None, None]
    target = (1 - torch.where(d > 0, d / above, -d / below)).clamp_min(0)
    entropy = -(target * torch.log(weights + _SMALLEST_WEIGHT)).sum(1)
    return masked_mean(entropy, known)
