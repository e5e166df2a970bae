"""A trained network applied to a focal stack. Loads PyTorch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from models.errors import InputError
from models.focal_stack import FocalStack
from models.focus.measures import to_grey
from models.language import _
from models.networks.registry import build, find_network
from models.networks.reparam import fuse
from models.networks.weights import shipped_weights, weights_network
from models.sweep_checks import full_scale


@dataclass(frozen=True)
class Inference:
    """What a network says of a stack: ``height_um`` (H, W) float32 in the unit of the stack's ``z_um``.

    ``spread_um`` (H, W) float32: the network's own doubt, not calibrated, or None. ``weights`` (N, H, W) float32: how
    much each frame counts, in the order of the stack, or None.
    """

    height_um: NDArray[np.float32]
    spread_um: NDArray[np.float32] | None
    weights: NDArray[np.float32] | None


def infer(network: nn.Module, stack: FocalStack, *, channels: int) -> Inference:
    """Heights of a whole ``stack`` by a ``network`` that takes ``channels`` (1 or 3) per frame, on its device.

    Grey frames are repeated where the network wants colour, RGB frames turned grey where it does not. Grey values are
    scaled by the full range of their type, focus positions to steps above the lowest one, rising.
    """
    rising = bool(stack.z_um[-1] > stack.z_um[0])
    lowest_um, step_um = float(stack.z_um.min()), stack.step_um
    z = np.sort((stack.z_um - lowest_um) / step_um).astype(np.float32)
    parameter = next(network.parameters(), torch.empty(0))
    with torch.inference_mode():
        frames = network_frames(stack, channels, rising=rising).to(parameter.device)
        found = network(frames[None], torch.from_numpy(z)[None].to(parameter.device))
    weights = None if found.weights is None else _array(found.weights)
    return Inference(
        height_um=_array(found.height) * np.float32(step_um) + np.float32(lowest_um),
        spread_um=None if found.spread is None else _array(found.spread) * np.float32(step_um),
        weights=weights if weights is None or rising else weights[::-1],
    )


def network_frames(stack: FocalStack, channels: int, *, rising: bool = True) -> Tensor:
    """The frames (N, C, H, W) float32 in 0..1, C = ``channels``; in the order of the stack, or turned round.

    A grey stack for a network of three channels takes the memory of one.
    """
    grey = channels == 1 or len(stack.frames.shape) == 3
    scale = np.float32(full_scale(stack.frames[0]))
    pixels = np.empty((len(stack), 1 if grey else 3, *stack.image_shape), np.float32)
    for index in range(len(stack)):
        frame = stack.frames[index]
        to = pixels[index if rising else -1 - index]
        np.divide(to_grey(frame)[None] if grey else frame.transpose(2, 0, 1), scale, out=to)
    return torch.from_numpy(pixels).expand(-1, channels, -1, -1)


def load_network(name: str, weights: Path | None = None) -> nn.Module:
    """The network called ``name`` with trained ``weights``, fused and in eval mode; by default those of the program.

    ``weights``: a .safetensors file of the training form whose metadata name the network. Raises InputError where the
    network is unknown, no weights come with the program, or the file does not fit.
    """
    find_network(name)
    path = weights or shipped_weights(name)
    if path is None:
        raise InputError(
            _("No weights of '{name}' come with this program. Give a file of yours with --weights.").format(name=name)
        )
    found = weights_network(path)
    if found != name:
        raise InputError(
            _("The weights in {path} are of the network '{found}', not of '{name}'.").format(
                path=path, found=found, name=name
            )
        )
    network = build(name)
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            _("The weights in {path} do not fit the network '{name}' of this version.").format(path=path, name=name)
        ) from error
    return fuse(network).requires_grad_(False)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor[0].float().cpu().numpy()
