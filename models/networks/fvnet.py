"""FVNet and DFVNet: F. Yang, X. Huang, Z. Zhou, Deep depth from focus with differential focus volume, CVPR 2022.

ResNet-18 and a feature pyramid see each frame alone and give a focus volume (channels, frames, rows, columns) at each
of 1/32, 1/16, 1/8 and 1/4. From coarse to fine, 3D convolutions turn each volume into one score per frame and pixel,
and the next finer volume joins in. The softmax of the scores over the frames weighs the focus positions: their mean is
the depth, their standard deviation its doubt. DFVNet takes the difference of neighbouring frames of each volume first.

The pyramid and the blocks of the decoder are those of HSM-Net (G. Yang, J. Manela, M. Happold, D. Ramanan, Hierarchical
deep stereo matching on high-resolution images, CVPR 2019), which the authors build on; that their details are right is
inferred from the count, exactly the 19,501,484 of the authors' code. 513,000 of these belong to ResNet's classifier,
which never runs; it is kept, frozen, for the count. Three things differ:

- The encoder starts from random weights, not from ImageNet.
- Where a batch of one is pooled to one value per channel there is nothing to normalise by, and training such a batch
  fails in that code; here the running statistics step in.
- Volumes of a single row, column or frame are pooled, too, so that small pictures work.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.networks.prediction import Prediction, expectation

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENCODED = (64, 128, 256, 512)
"""Channels of the encoder at 1/4, 1/8, 1/16, 1/32."""
VOLUME = (16, 32, 64, 128)
"""Channels of the focus volumes at the same resolutions."""
DECODED = (32, 32, 64, 128)


def _pool_counts(shortest: int) -> list[int]:
    """Into how many parts the pyramids divide each side: four numbers from one to half the shortest side."""
    most = max(1, shortest // 2)
    return [1 + (most - 1) * i // 3 for i in range(4)]


class ResidualBlock(nn.Module):
    """The basic block of ResNet (K. He et al., Deep residual learning for image recognition, CVPR 2016)."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.convolutions(x) + self.shortcut(x))


def _convolution(channels: int, width: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.LeakyReLU(0.1))


class PyramidPooling(nn.Module):
    """Means over four grids of the image, added to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(_convolution(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        total = x
        for path, count in zip(self.paths, reversed(_pool_counts(min(height, width))), strict=True):
            pooled = path(F.avg_pool2d(x, (height // count, width // count)))
            total = total + 0.25 * F.interpolate(pooled, (height, width), mode="bilinear")
        return F.relu(total / 2)


class FeaturePyramid(nn.Module):
    """Images (B, 3, H, W), H and W multiples of 32 -> features of 1/4, 1/8, 1/16, 1/32 with ``VOLUME`` channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        before = (64, *ENCODED[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(ResidualBlock(c, width, 1 if c == width else 2), ResidualBlock(width, width))
            for c, width in zip(before, ENCODED, strict=True)
        )
        self.classifier = nn.Linear(512, 1000).requires_grad_(False)  # never runs, see above
        self.pool = PyramidPooling(ENCODED[-1])
        self.up = nn.ModuleList(_convolution(2 * width, width, 3) for width in ENCODED[:-1])
        self.join = nn.ModuleList(_convolution(2 * width, width, 3) for width in ENCODED[:-1])
        self.project = nn.ModuleList(_convolution(c, width, 1) for c, width in zip(ENCODED, VOLUME, strict=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        features[-1] = self.pool(x)
        for level in (2, 1, 0):
            raised = self.up[level](F.interpolate(features[level + 1], scale_factor=2.0))
            features[level] = self.join[level](torch.cat((features[level], raised), dim=1))
        return [project(feature) for project, feature in zip(self.project, features, strict=True)]


def _convolution3d(channels: int, width: int, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv3d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(width))


class ResidualBlock3d(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(_convolution3d(channels, width), nn.ReLU(), _convolution3d(width, width))
        self.shortcut: nn.Module = nn.Identity() if channels == width else _convolution3d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.convolutions(x))


class _PooledNorm3d(nn.BatchNorm3d):
    """Batch normalisation that takes its running statistics where there is only one value per channel."""

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > x.shape[1]:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class PyramidPooling3d(nn.Module):
    """Means over four grids of the volume, frames included, added to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.Sequential(nn.Conv3d(channels, channels, 1, bias=False), _PooledNorm3d(channels)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-3:]
        total = x
        for path, count in zip(self.paths, _pool_counts(min(size)), strict=True):
            pooled = path(F.avg_pool3d(x, [side // count for side in size]))
            total = total + 0.25 * F.interpolate(pooled, size, mode="trilinear")
        return F.relu(total / 2)


class FocusDecoder(nn.Module):
    """A focus volume, searched for the best frames -> the result; the same at twice the size for the next finer one."""

    def __init__(self, channels: int, width: int, *, finest: bool, pooled: bool) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            ResidualBlock3d(channels, width),
            ResidualBlock3d(width, width),
            PyramidPooling3d(width) if pooled else nn.Identity(),
        )
        self.up: nn.Module = (
            nn.Identity()
            if finest
            else nn.Sequential(
                nn.Upsample(scale_factor=(1, 2, 2), mode="trilinear"), _convolution3d(width, width // 2), nn.ReLU()
            )
        )

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        x = self.convolutions(volume)
        return x, self.up(x)


class FvNet(nn.Module):
    """FVNet; with ``differential``, DFVNet."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, differential: bool = False) -> None:
        super().__init__()
        self.differential = differential
        self.pyramid = FeaturePyramid()
        raised = (*(width // 2 for width in DECODED[1:]), 0)
        self.decoders = nn.ModuleList(
            FocusDecoder(volume + coarser, width, finest=level == 0, pooled=level >= 2)
            for level, (volume, coarser, width) in enumerate(zip(VOLUME, raised, DECODED, strict=True))
        )
        self.scores = nn.ModuleList(
            nn.Sequential(_convolution3d(width, width), nn.ReLU(), nn.Conv3d(width, 1, 3, padding=1))
            for width in DECODED
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION)[:, None, None], persistent=False)

    def forward(self, frames: Tensor, z: Tensor) -> Prediction:
        """``frames`` (B, N, 3, H, W) in 0..1, ``z`` (B, N). ``side`` (1/32, 1/16, 1/8) in training only."""
        height, width = frames.shape[-2:]
        padded = F.pad(frames, (0, -width % 32, 0, -height % 32, 0, 0), mode="replicate")
        images = ((padded - self.mean) / self.deviation).flatten(0, 1)
        # Training normalises over all frames; afterwards one by one saves memory and a fifth of the time on a CPU.
        one_by_one = not self.training and images.device.type == "cpu"
        parts = [self.pyramid(part) for part in (images[:, None] if one_by_one else images[None])]
        features = [torch.cat(level) for level in zip(*parts, strict=True)]
        volumes = [feature.reshape(*frames.shape[:2], *feature.shape[1:]).transpose(1, 2) for feature in features]
        estimates = []
        raised = None
        for level in (3, 2, 1, 0):
            volume = _differences(volumes[level]) if self.differential else volumes[level]
            x, raised = self.decoders[level](volume if raised is None else torch.cat((raised, volume), dim=1))
            if level == 0 or self.training:
                scores = F.interpolate(self.scores[level](x)[:, 0], padded.shape[-2:], mode="bilinear")
                estimates.append(expectation(scores[..., :height, :width], z))
        return estimates[-1]._replace(side=tuple(estimate.height for estimate in estimates[:-1]))


def _differences(volume: Tensor) -> Tensor:
    """Each frame of (B, C, N, H, W) less the next one; the last stays as it is."""
    return torch.cat((volume[:, :, :-1] - volume[:, :, 1:], volume[:, :, -1:]), dim=2)
