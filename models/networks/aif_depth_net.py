"""AiFDepthNet: N.-H. Wang, R. Wang, Y.-L. Liu, Y.-H. Huang, Y.-L. Chang, C.-P. Chen, K. Jou, Bridging unsupervised and
supervised depth from focus via all-in-focus supervision, ICCV 2021.

Inception-v1 inflated to 3D over the stack (never pooled along it), a decoder of transposed convolutions with links
from each resolution, and one attention per frame and pixel. The same attention sums the focus positions to the depth
and the frames to the all-in-focus image; the latter is ``weights`` here.

Widths, kernels and biases are those of the authors' code, in its supervised form with one shared attention normalised
by softmax; the count is its 16,533,873. It starts from random weights. The third branch of a module has a 3x3x3 kernel,
where Inception-v1 has 5x5.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.networks.prediction import Prediction, expectation

# Widths of a module: 1x1 | 1x1, 3x3 | 1x1, 3x3 | pooled, 1x1. Names as in Inception-v1.
MIXED_3 = ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64))
MIXED_4 = (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
)
MIXED_5 = ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128))


def _convolution(channels: int, width: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """3D convolution, batch normalisation, ReLU; ``stride`` in the image only."""
    conv = nn.Conv3d(channels, width, kernel, stride=(1, stride, stride), padding=kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm3d(width), nn.ReLU())


def _doubled(channels: int, width: int, refined: int) -> nn.Sequential:
    """Twice the size in the image, then a 3x3x3 convolution."""
    up = nn.ConvTranspose3d(channels, width, (3, 4, 4), stride=(1, 2, 2), padding=1)
    return nn.Sequential(up, nn.BatchNorm3d(width), nn.ReLU(), _convolution(width, refined, 3))


def _halve() -> nn.MaxPool3d:
    return nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))


class Mixed(nn.Module):
    """An Inception module: four branches side by side."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        a, b0, b1, c0, c1, d = widths
        self.branches = nn.ModuleList(
            (
                _convolution(channels, a),
                nn.Sequential(_convolution(channels, b0), _convolution(b0, b1, 3)),
                nn.Sequential(_convolution(channels, c0), _convolution(c0, c1, 3)),
                nn.Sequential(nn.MaxPool3d(3, stride=1, padding=1), _convolution(channels, d)),
            )
        )
        self.width = a + b1 + c1 + d

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _mixed(channels: int, modules: tuple[tuple[int, ...], ...]) -> list[nn.Module]:
    chain: list[nn.Module] = []
    for widths in modules:
        module = Mixed(channels, widths)
        chain.append(module)
        channels = module.width
    return chain


class AifDepthNet(nn.Module):
    """Encoder of five resolutions (1/2 to 1/32), decoder, attention over the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            (
                _convolution(3, 64, 7, stride=2),
                nn.Sequential(_halve(), _convolution(64, 64), _convolution(64, 192, 3)),
                nn.Sequential(_halve(), *_mixed(192, MIXED_3)),
                nn.Sequential(_halve(), *_mixed(480, MIXED_4)),
                nn.Sequential(nn.MaxPool3d((1, 2, 2)), *_mixed(832, MIXED_5)),
            )
        )
        self.up = nn.ModuleList(
            (_doubled(1024, 64, 64), _doubled(128, 64, 64), _doubled(128, 32, 32), _doubled(64, 32, 16))
        )
        self.link = nn.ModuleList(
            (_convolution(832, 64), _convolution(480, 64), _convolution(192, 32), _convolution(64, 16))
        )
        self.attention = nn.Sequential(
            nn.ConvTranspose3d(32, 32, (3, 4, 4), stride=(1, 2, 2), padding=1), nn.Conv3d(32, 1, 3, padding=1)
        )

    def forward(self, frames: Tensor, z: Tensor) -> Prediction:
        """``frames`` (B, N, 3, H, W) in 0..1, ``z`` (B, N)."""
        height, width = frames.shape[-2:]
        x = F.pad(frames.transpose(1, 2), (0, -width % 32, 0, -height % 32, 0, 0), mode="replicate")
        features = []
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        for up, link, feature in zip(self.up, self.link, features[-2::-1], strict=True):
            x = torch.cat((up(x), link(feature)), dim=1)
        scores = self.attention(x)[:, 0, :, :height, :width]
        return expectation(scores, z)._replace(spread=None)  # the paper defines no doubt
