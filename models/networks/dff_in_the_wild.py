"""DFF in the wild: C. Won, H.-G. Jeon, Learning depth from focus in the wild, ECCV 2022.

A focus volume (channels, frames, rows, columns) is made at 1, 1/2 and 1/4 by dilated 9x9 filters, sharp region
detectors (SRD: 2D residual convolutions and an attention along the stack) and effective downsampling (EFD: strided
convolution and maximum pooling, added). An hourglass gathers it over scales down to 1/32; three more bring it back to
full size, each joined by the focus volume of its resolution. Softplus scores, normalised over the frames, weigh the
focus positions, at each of the four.

Widths and layers are those of the authors' code for depth, whose 4,038,832 parameters include four convolutions that
never run; they are kept, frozen, for the count. The separate network that first aligns the frames of a hand-held
camera is left out: drift is corrected before any network here.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.networks.prediction import Prediction

WIDTHS = (8, 16, 32)
"""Channels of the focus volumes at 1, 1/2 and 1/4."""
POINT = (1, 1, 1)


def _convolution(channels: int, width: int, kernel: tuple[int, int, int] = (3, 3, 3), stride: int = 1) -> nn.Sequential:
    """3D convolution and batch normalisation; ``stride`` in the image only."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    conv = nn.Conv3d(channels, width, kernel, stride=(1, stride, stride), padding=padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(width))


def _activated(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_convolution(channels, width, stride=stride), nn.ReLU())


def _doubled(channels: int, width: int) -> nn.Sequential:
    """Twice the size in the image."""
    up = nn.ConvTranspose3d(channels, width, 3, stride=(1, 2, 2), padding=1, output_padding=(0, 1, 1), bias=False)
    return nn.Sequential(up, nn.BatchNorm3d(width))


class SharpRegionDetector(nn.Module):
    """SRD: sharpness within each frame, then attention along the stack."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sharpness = nn.Sequential(
            _convolution(channels, channels, (1, 3, 3)), nn.ReLU(), _convolution(channels, channels, (1, 3, 3))
        )
        self.attention = nn.Sequential(
            nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.ReLU(),
            nn.Conv3d(channels, channels, 1, bias=False),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x + self.sharpness(x))
        attention: Tensor = self.attention(x)
        return x + attention


class EffectiveDownsampling(nn.Module):
    """EFD: half the size in the image."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.strided = _convolution(channels, width, stride=2)
        self.pooled = nn.Sequential(nn.MaxPool3d((1, 2, 2)), _convolution(channels, width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.strided(x) + self.pooled(x))


class PooledScale(nn.Module):
    """The volume at a coarser resolution, by means over ``size`` pixels, with a residual refinement."""

    def __init__(self, channels: int, width: int, size: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.AvgPool3d((1, size, size)), _activated(channels, width), _activated(width, width))
        self.refine = nn.Sequential(_activated(width, width), _convolution(width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        refined: Tensor = self.refine(x)
        return x + refined


class ScaleAggregation(nn.Module):
    """The first hourglass: from the volume at 1/4 down to 1/32 and up to 1/8, pooled scales joining on the way."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.eighth = PooledScale(width, width, 2)
        self.sixteenth = PooledScale(width, 2 * width, 4)
        self.thirtysecond = PooledScale(width, 2 * width, 8)
        self.down16 = nn.Conv3d(width, 2 * width, 3, stride=(1, 2, 2), padding=1, bias=False)
        self.join16 = nn.Sequential(_activated(4 * width, 2 * width), _activated(2 * width, 2 * width))
        self.down32 = nn.Conv3d(2 * width, 4 * width, 3, stride=(1, 2, 2), padding=1, bias=False)
        self.join32 = nn.Sequential(_activated(6 * width, 4 * width), _activated(4 * width, 4 * width))
        self.up16, self.link16 = _doubled(4 * width, 2 * width), _convolution(2 * width, 2 * width, POINT)
        self.up8, self.link8 = _doubled(2 * width, width), _convolution(width, width, POINT)
        self.never_run = _convolution(4 * width, 4 * width, POINT).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        at8 = self.eighth(x)
        at16 = self.join16(torch.cat((self.down16(at8), self.sixteenth(x)), dim=1))
        at32 = self.join32(torch.cat((self.down32(at16), self.thirtysecond(x)), dim=1))
        up = F.relu(self.up16(at32) + self.link16(at16))
        return F.relu(self.up8(up) + self.link8(at8))


class Hourglass(nn.Module):
    """A later hourglass: joins a raised volume and the focus volume of its resolution.

    ``before``: what the previous, coarser hourglass entered with and gave, or None.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = _activated(2 * width, width)
        self.down = nn.Sequential(_activated(width, 2 * width, 2), _convolution(2 * width, 2 * width))
        self.down_again = nn.Sequential(_activated(2 * width, 2 * width, 2), _activated(2 * width, 2 * width))
        self.up, self.up_again = _doubled(2 * width, 2 * width), _doubled(2 * width, width)
        self.never_run = _convolution(2 * width, 2 * width, POINT).requires_grad_(False)

    def forward(
        self, raised: Tensor, volume: Tensor, before: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        entered = self.enter(torch.cat((raised, volume), dim=1))
        half = self.down(entered)
        half = F.relu(half if before is None else half + before[1])
        up = F.relu(self.up(self.down_again(half)) + (half if before is None else before[0]))
        given = self.up_again(up)
        return raised + given, (entered, given)


class DffInTheWild(nn.Module):
    """Focus volumes, aggregation over scales, three hourglasses on the way back to full size."""

    def __init__(self) -> None:
        super().__init__()
        full, half, quarter = WIDTHS
        dilated = nn.Conv3d(3, full, (1, 9, 9), padding=(0, 8, 8), dilation=(1, 2, 2), bias=False)
        self.focus = nn.ModuleList(
            (
                nn.Sequential(dilated, nn.BatchNorm3d(full), nn.ReLU(), SharpRegionDetector(full)),
                nn.Sequential(EffectiveDownsampling(full, half), SharpRegionDetector(half)),
                nn.Sequential(EffectiveDownsampling(half, quarter), SharpRegionDetector(quarter)),
            )
        )
        self.aggregate = ScaleAggregation(quarter)
        self.widen = nn.Sequential(_activated(quarter, 2 * quarter), _activated(2 * quarter, 2 * quarter))
        self.up = nn.ModuleList((_doubled(2 * quarter, quarter), _doubled(quarter, half), _doubled(half, full)))
        self.hourglasses = nn.ModuleList(Hourglass(width) for width in reversed(WIDTHS))
        self.scores = nn.ModuleList(
            (
                nn.Sequential(_activated(quarter, quarter), nn.Conv3d(quarter, 1, 3, padding=1, bias=False)),
                *(nn.Conv3d(width, 1, 1, bias=False) for width in reversed(WIDTHS)),
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                fan_out = math.prod(module.kernel_size) * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def forward(self, frames: Tensor, z: Tensor) -> Prediction:
        """``frames`` (B, N, 3, H, W) in 0..1, ``z`` (B, N). ``side`` (1/8, 1/4, 1/2) in training only."""
        height, width = frames.shape[-2:]
        x = 2 * frames.transpose(1, 2) - 1
        x = F.pad(x, (0, -width % 32, 0, -height % 32, 0, 0), mode="replicate")
        size = x.shape[-2:]
        volumes = []
        for stage in self.focus:
            x = stage(x)
            volumes.append(x)
        x = self.aggregate(x)
        stages = [x]
        x = self.widen(x)
        before = None
        for up, hourglass, volume in zip(self.up, self.hourglasses, reversed(volumes), strict=True):
            x, before = hourglass(up(x), volume, before)
            stages.append(x)
        estimates = []
        for i, (score, stage_volume) in enumerate(zip(self.scores, stages, strict=True)):
            if self.training or i == len(stages) - 1:
                scores = F.interpolate(score(stage_volume)[:, 0], size, mode="bilinear")
                estimates.append(_weighed(scores[..., :height, :width], z))
        return estimates[-1]._replace(side=tuple(estimate.height for estimate in estimates[:-1]))


def _weighed(scores: Tensor, z: Tensor) -> Prediction:
    """Mean of focus positions under softplus ``scores`` (B, N, H, W), normalised over the frames."""
    positive = F.softplus(scores) + 1e-6
    weights = positive / positive.sum(1, keepdim=True)
    return Prediction((weights * z[:, :, None, None]).sum(1), weights)
