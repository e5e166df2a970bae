"""DefocusNet: M. Maximov, K. Galim, L. Leal-Taixe, Focus on defocus: bridging the synthetic to real domain gap for
depth estimation, CVPR 2020.

Two autoencoders. The first estimates from each frame how far each pixel is out of focus; the second makes the depth of
these maps and the focus positions. Frames share their weights, and know of each other by the maximum over the frames,
which is appended to each frame's features after each pooling (and in the second decoder): any number of frames, in any
order.

Widths, LeakyReLU(0.2), initialisation and links are those of the authors' code, where the second decoder is linked to
the first encoder. Its 3,729,042 parameters include a convolution that never runs; it is kept, frozen, for the count.
Two things are ours:

- Depth and focus positions are fractions of the way from the first focus position to the last (published: of the
  largest depth and of the last focus distance), so that heights come out in the unit of ``z``.
- The paper trains the first autoencoder on circles of confusion of a given lens. Here, in training, ``side`` holds the
  height at which its maps say "in focus", so that heights alone can train both.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.networks.prediction import Prediction, expectation

WIDTHS = (16, 32, 64, 128)
"""Features of the encoder, finest first."""


def _convolution(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2))


def _each_frame(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer`` for images (B, C, H, W), applied to (B, N, C, H, W)."""
    if x.device.type == "cpu":  # one after the other stays in the cache: 10 to 25 % less time
        return torch.stack([layer(frame) for frame in x.unbind(1)], dim=1)
    result: Tensor = layer(x.flatten(0, 1))
    return result.reshape(*x.shape[:2], *result.shape[1:])


def _maximum(x: Tensor) -> Tensor:
    """The maximum over the frames of (B, N, C, H, W), repeated for each of them."""
    return x.amax(1, keepdim=True).expand_as(x)


class Encoder(nn.Module):
    """(B, N, C, H, W) -> features of each resolution, finest first, and of the bridge at 1/16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        incoming = (channels, *(2 * width for width in WIDTHS[:-1]))
        self.levels = nn.ModuleList(
            nn.Sequential(_convolution(c, width), _convolution(width, width))
            for c, width in zip(incoming, WIDTHS, strict=True)
        )
        self.bridge = _convolution(2 * WIDTHS[-1], 2 * WIDTHS[-1])

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        features = []
        for level in self.levels:
            x = _each_frame(level, x)
            features.append(x)
            x = _each_frame(nn.MaxPool2d(2), x)
            x = torch.cat((x, _maximum(x)), dim=2)
        return features, _each_frame(self.bridge, x)


class Decoder(nn.Module):
    """The way back up to full resolution; ``shares``: how many tensors of equal width are joined at each level."""

    def __init__(self, shares: int) -> None:
        super().__init__()
        widths = WIDTHS[::-1]
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), _convolution(2 * width, width))
            for width in widths
        )
        self.join = nn.ModuleList(_convolution(shares * width, width) for width in widths)
        self.end = nn.Sequential(_convolution(WIDTHS[0], WIDTHS[0]), nn.Conv2d(WIDTHS[0], 1, 3, padding=1))


class DefocusNet(nn.Module):
    """Frames -> defocus of each frame -> depth."""

    def __init__(self) -> None:
        super().__init__()
        self.encode_frames, self.decode_defocus = Encoder(3), Decoder(2)
        self.encode_defocus, self.decode_depth = Encoder(2), Decoder(3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                nn.init.constant_(module.bias, 0.01)  # type: ignore[arg-type]  # all of them have one
        self.decode_depth.join[-1].requires_grad_(False)  # never runs, see above

    def forward(self, frames: Tensor, z: Tensor) -> Prediction:
        """``frames`` (B, N, 3, H, W) in 0..1, ``z`` (B, N). ``side`` in training only."""
        height, width = frames.shape[-2:]
        padded = F.pad(frames, (0, -width % 16, 0, -height % 16, 0, 0), mode="replicate")
        features, bridge = self.encode_frames(padded)
        defocus = self._defocus(features, bridge)
        first, last = z[:, :1], z[:, -1:]
        focus = ((z - first) / (last - first))[:, :, None, None, None].expand_as(defocus)
        _, bridge = self.encode_defocus(torch.cat((defocus, focus), dim=2))
        fraction = self._depth(features, bridge)[:, 0, :height, :width]
        estimate = first[..., None] + fraction * (last - first)[..., None]
        if not self.training:
            return Prediction(estimate)
        # A map grows with the distance from focus: about one per frame when multiplied by their number.
        closeness = -z.shape[1] * defocus[:, :, 0, :height, :width]
        return Prediction(estimate, side=(expectation(closeness, z).height,))

    def _defocus(self, features: list[Tensor], x: Tensor) -> Tensor:
        """How far each pixel of each frame is out of focus, (B, N, 1, H, W)."""
        decoder = self.decode_defocus
        for up, join, link in zip(decoder.up, decoder.join, reversed(features), strict=True):
            x = _each_frame(join, torch.cat((_each_frame(up, x), link), dim=2))
        return _each_frame(decoder.end, x)

    def _depth(self, features: list[Tensor], x: Tensor) -> Tensor:
        """(B, 1, H, W): the frames are merged by their maximum at full resolution."""
        decoder = self.decode_depth
        for up, join, link in zip(decoder.up[:-1], decoder.join[:-1], features[:0:-1], strict=True):
            x = _each_frame(up, x)
            x = _each_frame(join, torch.cat((x, _maximum(x), link), dim=2))
        merged: Tensor = decoder.end(_each_frame(decoder.up[-1], x).amax(1))
        return merged
