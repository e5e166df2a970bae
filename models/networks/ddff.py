"""DDFF: C. Hazirbas, S. G. Soyer, M. C. Staab, L. Leal-Taixe, D. Cremers, Deep Depth From Focus, ACCV 2018.

VGG16 without its classifier encodes each frame alone, the mirror image of it decodes to one score per pixel, and a
1x1 convolution over the frames makes the depth of them. This is the variant CC3, which the paper reports as the best:
only the third block of the encoder is handed across to the decoder.

Widths, batch normalisation (eps 1e-3), dropout and the missing biases are those of the authors' PyTorch code; the count
is its 39,790,343 for five frames, and one more for each further frame. Four things differ:

- That code draws the variances of the batch normalisation from a Gaussian, so that evaluation before training gives
  NaN; here they start at 1, and the 1x1 convolution starts as the mean of the frames.
- The encoder starts from random weights, not from ImageNet.
- The network is blind to the focus positions and made for one number of frames. The weights of the frames are
  resampled linearly for any other number, their sum kept.
- It regresses a disparity; here its output is a fraction of the way from the first focus position to the last.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.networks.prediction import Prediction

ENCODER = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
DECODER = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64, 1))
LINKED = 2
"""The block of the encoder (0 is the first) whose output the decoder sees as well: CC3."""


def _convolutions(channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU for each of ``widths``."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, eps=1e-3), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)


class Ddff(nn.Module):
    """Encoder, decoder and scoring. ``frames``: how many weights the scoring has."""

    def __init__(self, *, frames: int = 5) -> None:
        super().__init__()
        before = [3, *(widths[-1] for widths in ENCODER)]
        self.encoder = nn.ModuleList(_convolutions(c, widths) for c, widths in zip(before, ENCODER, strict=False))
        incoming = [before[-1], *(widths[-1] for widths in DECODER)]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(c, c, 4, stride=2, padding=1, bias=False) for c in incoming[: len(DECODER)]
        )
        self.decoder = nn.ModuleList(
            _convolutions(2 * c if len(DECODER) - 1 - i == LINKED else c, widths)
            for i, (c, widths) in enumerate(zip(incoming, DECODER, strict=False))
        )
        self.dropout = nn.Dropout(0.5)
        self.scoring = nn.Conv2d(frames, 1, 1, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.constant_(self.scoring.weight, 1 / frames)

    def forward(self, frames: Tensor, z: Tensor) -> Prediction:
        """``frames`` (B, N, 3, H, W) in 0..1, ``z`` (B, N); N of any size, see above."""
        height, width = frames.shape[-2:]
        padded = F.pad(frames, (0, -width % 32, 0, -height % 32, 0, 0), mode="replicate")
        images = padded.flatten(0, 1)
        # Training normalises over all frames; afterwards one by one saves memory and a fifth of the time on a CPU.
        one_by_one = not self.training and images.device.type == "cpu"
        scores = torch.cat([self._score(part) for part in (images[:, None] if one_by_one else images[None])])
        scores = scores[..., :height, :width].reshape(*frames.shape[:2], height, width)
        fraction = F.conv2d(scores, self._frame_weights(frames.shape[1]))[:, 0]
        first, last = z[:, 0, None, None], z[:, -1, None, None]
        return Prediction(first + fraction * (last - first))

    def _score(self, x: Tensor) -> Tensor:
        """(B, 3, H, W), H and W multiples of 32 -> (B, 1, H, W)."""
        linked = x
        for i, block in enumerate(self.encoder):
            x = block(x)
            linked = x if i == LINKED else linked
            x = F.max_pool2d(x, 2)
            x = self.dropout(x) if i >= LINKED else x
        for i, (up, block) in enumerate(zip(self.up, self.decoder, strict=True)):
            mirrored = len(DECODER) - 1 - i
            x = F.relu(up(x))
            x = block(torch.cat((x, linked), dim=1) if mirrored == LINKED else x)
            x = self.dropout(x) if mirrored >= LINKED else x
        return x

    def _frame_weights(self, frames: int) -> Tensor:
        """The scoring's weights (1, ``frames``, 1, 1), resampled where it was built for another number."""
        built: Tensor = self.scoring.weight
        if frames == built.shape[1]:
            return built
        resampled = F.interpolate(built[:, :, :, 0].transpose(1, 2), frames, mode="linear", align_corners=True)
        return resampled.transpose(1, 2)[..., None] * (built.shape[1] / frames)
