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

_PUBLISHED = "models.networks.gplws_net"
_COMPACT = "models.networks.gplws_compact"
_DFV = "Yang et al., CVPR 2022"


def _published(name: str, title: str, role: str, parameters: int, **arguments: Any) -> NetworkSpec:
    return NetworkSpec(
        name, title, _PAPER, role, _PUBLISHED, "GplwsNet", arguments, multiple=8, published_parameters=parameters
    )


def _own(name: str, title: str, **arguments: Any) -> NetworkSpec:
    return NetworkSpec(
        name,
        title,
        f"Reliefscope, after {_PAPER}",
        "own",
        _COMPACT,
        "CompactGplwsNet",
        arguments,
        channels=1,
        multiple=16,
    )


def _peer(
    name: str, title: str, source: str, file: str, builder: str, parameters: int, **arguments: Any
) -> NetworkSpec:
    return NetworkSpec(
        name, title, source, "peer", f"models.networks.{file}", builder, arguments, published_parameters=parameters
    )


NETWORKS: dict[str, NetworkSpec] = {
    n.name: n
    for n in (
        _own(
            "gplws-net",
            N_("GPLWS-Net, accurate"),
            filters=40,
            mixtures=12,
            span=2,
            pixels=True,
            widths=(48, 96, 128),
            groups=(48, 12, 16),
            frames=(7, 5, 3),
            modules_down=(2, 2, 2),
            modules_up=(2, 1),
        ),
        _own(
            "gplws-net-live",
            N_("GPLWS-Net, live"),
            filters=24,
            mixtures=4,
            span=2,
            pixels=False,
            widths=(32, 48, 64),
            groups=(32, 12, 8),
            frames=(5, 3, 3),
            modules_down=(1, 1, 2),
            modules_up=(1, 1),
        ),
        _published("gplws-net-2023", N_("GPLWS-Net as published"), "published", 540_273),
        _published("gplws-net-2023-concat", N_("concatenation links"), "ablation", 546_321, links="concat"),
        _published("gplws-net-2023-single", N_("no re-parameterization"), "ablation", 540_936, reparameterized=False),
        _published("gplws-net-2023-plain", N_("plain convolution"), "ablation", 754_020, convolution="plain"),
        _published(
            "gplws-net-2023-depthwise", N_("depthwise convolution"), "ablation", 106_344, convolution="depthwise"
        ),
        _published(
            "gplws-net-2023-concat-plain",
            N_("concatenation links, plain convolution"),
            "ablation",
            1_213_872,
            links="concat",
            convolution="plain",
        ),
        _published(
            "gplws-net-2023-concat-depthwise",
            N_("concatenation links, depthwise convolution"),
            "ablation",
            200_400,
            links="concat",
            convolution="depthwise",
        ),
        _peer("ddff", "DDFF", "Hazirbas et al., ACCV 2018", "ddff", "Ddff", 39_790_343, frames=5),
        _peer("defocus-net", "DefocusNet", "Maximov et al., CVPR 2020", "defocus_net", "DefocusNet", 3_729_042),
        _peer("aif-depth-net", "AiFDepthNet", "Wang et al., ICCV 2021", "aif_depth_net", "AifDepthNet", 16_533_873),
        _peer("fvnet", "FVNet", _DFV, "fvnet", "FvNet", 19_501_484),
        _peer("dfvnet", "DFVNet", _DFV, "fvnet", "FvNet", 19_501_484, differential=True),
        _peer(
            "dff-in-the-wild",
            "DFF in the wild",
            "Won and Jeon, ECCV 2022",
            "dff_in_the_wild",
            "DffInTheWild",
            4_038_832,
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
    """All its parameters, also those that the source counts but never trains."""
    return sum(p.numel() for p in network.parameters())
