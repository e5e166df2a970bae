"""GPLWS-Net as published: Yan, Gao, Zhang, Qian, Zhang, A lightweight real-time microscopic 3D shape reconstruction
method based on group parallelism, Journal of Software 34 (2023), figures 3 to 6.

The paper does not print widths, groups or the number of modules. Those below are inferred from the parameter counts
of its tables 1 to 3 and give its 540,273 exactly; they remain an inference.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.networks.prediction import Prediction, expectation
from models.networks.reparam import ReparameterizedConv3d

WIDTHS = (12, 24, 48, 96)
GROUPS = 4
MODULES_DOWN = (0, 2, 2, 5)
"""Modules that keep the shape, per resolution on the way down."""
MODULES_UP = (0, 1, 1)

Convolution = Literal["group", "plain", "depthwise"]


class GroupParallelModule(nn.Module):
    """Search for the maximum of focus in each group of channels, then merge the groups (figure 5).

    A grouped convolution over the stack looks for the maximum within each sub-domain; the 1x1x1 convolution sees all
    of them and selects the global one. ``halve``: 2x2 spatial maximum in between. Where the shape is kept, the input is
    added to the output.
    """

    def __init__(
        self,
        width: int,
        new_width: int,
        *,
        halve: bool = False,
        convolution: Convolution = "group",
        reparameterized: bool = True,
    ) -> None:
        super().__init__()
        groups = {"group": GROUPS, "plain": 1, "depthwise": width}[convolution]
        self.search: nn.Module = (
            ReparameterizedConv3d(width, groups=groups)
            if reparameterized
            else nn.Sequential(nn.Conv3d(width, width, 3, padding=1, groups=groups, bias=False), nn.BatchNorm3d(width))
        )
        self.merge = nn.Conv3d(width, new_width, 1)
        self.halve = halve
        self.keeps_shape = width == new_width and not halve

    def forward(self, x: Tensor) -> Tensor:
        found = F.relu(self.search(x))
        if self.halve:
            found = F.max_pool3d(found, (1, 2, 2))
        merged: Tensor = self.merge(found)
        return merged + x if self.keeps_shape else merged


class GplwsNet(nn.Module):
    """The U-shape of figure 3 over (B, 12, N, H, W), with additive links between equal scales.

    ``links``: "add", or "concat" followed by a bias-free 1x1x1 convolution. ``convolution`` and ``reparameterized``
    are the paper's further ablations.
    """

    def __init__(
        self,
        *,
        links: Literal["add", "concat"] = "add",
        convolution: Convolution = "group",
        reparameterized: bool = True,
    ) -> None:
        super().__init__()
        module = partial(GroupParallelModule, convolution=convolution, reparameterized=reparameterized)
        self.stem = nn.Sequential(nn.Conv3d(3, 3, 3, padding=1, groups=3, bias=False), nn.Conv3d(3, WIDTHS[0], 1))
        self.down = nn.ModuleList(
            nn.Sequential(
                *([module(WIDTHS[level - 1], width, halve=True)] if level else []),
                *(module(width, width) for _ in range(MODULES_DOWN[level])),
            )
            for level, width in enumerate(WIDTHS)
        )
        self.up = nn.ModuleList(module(WIDTHS[level + 1], WIDTHS[level]) for level in range(3))
        self.join = nn.ModuleList(
            nn.Identity() if links == "add" else nn.Conv3d(2 * WIDTHS[level], WIDTHS[level], 1, bias=False)
            for level in range(3)
        )
        self.refine = nn.ModuleList(
            nn.Sequential(*(module(WIDTHS[level], WIDTHS[level]) for _ in range(MODULES_UP[level])))
            for level in range(3)
        )
        self.score = nn.Conv3d(WIDTHS[0], 1, 1, bias=False)
        self.links = links

    def forward(self, frames: Tensor, z: Tensor) -> Prediction:
        """``frames`` (B, N, 3, H, W) in 0..1, ``z`` (B, N)."""
        height, width = frames.shape[-2:]
        x = frames.transpose(1, 2)
        x = F.pad(x, (0, -width % 8, 0, -height % 8, 0, 0), mode="replicate")
        x = self.stem(x)
        levels = []
        for down in self.down:
            x = down(x)
            levels.append(x)
        for level in (2, 1, 0):
            x = F.interpolate(self.up[level](x), scale_factor=(1, 2, 2), mode="nearest")
            both = x + levels[level] if self.links == "add" else torch.cat((x, levels[level]), dim=1)
            x = self.refine[level](self.join[level](both))
        scores = self.score(x)[:, 0, :, :height, :width]
        return expectation(scores, z)
