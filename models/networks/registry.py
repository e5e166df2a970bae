"""The networks by name. This list loads no PyTorch; :func:`build` does."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.errors import InputError
from models.language import N_, _

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class NetworkSpec:
    """One network: where it is built, with which arguments, and what its source says of it.

    The network takes frames (B, N, C, H, W) in 0..1, ``channels`` = C, and focus positions (B, N), rising, in
    steps of the stack; it gives a :class:`models.networks.prediction.Prediction`. ``multiple``: H and W that it is
    trained with must be multiples of this (any size works otherwise). ``published_parameters``: what the source
    counts, or None. ``role``: "own" (shipped), "published", "ablation" or "peer".
    """

    name: str
    title: str
    source: str
    role: str
    module: str
    builder: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    channels: int = 3
    multiple: int = 32
    published_parameters: int | None = None


_PAPER = "Yan et al., Journal of Software 34 (2023)"

NETWORKS: dict[str, NetworkSpec] = {
    n.name: n
    for n in (
        NetworkSpec(
            "gplws-net-2023",
            N_("GPLWS-Net as published"),
            _PAPER,
            "published",
            "models.networks.gplws_net",
            "GplwsNet",
            published_parameters=540_273,
        ),
    )
}


def find_network(name: str) -> NetworkSpec:
    """The network called ``name``; raises InputError that lists the names otherwise."""
    try:
        return NETWORKS[name]
    except KeyError:
        raise InputError(
            _("There is no network called '{name}'. Networks: {names}.").format(name=name, names=", ".join(NETWORKS))
        ) from None


def build(name: str) -> "nn.Module":
    """A new network called ``name`` with random weights, in its training form. Raises InputError for an unknown one."""
    spec = find_network(name)
    builder = getattr(importlib.import_module(spec.module), spec.builder)
    network: nn.Module = builder(**spec.arguments)
    return network


def parameter_count(network: "nn.Module") -> int:
    """All trainable numbers."""
    return sum(p.numel() for p in network.parameters())
