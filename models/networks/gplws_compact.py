"""Reliefscope's variants of GPLWS-Net: the same modules on an eighth of the resolution, frame by frame.

Five things differ from the published network:

- A *focus stem* looks at every frame alone: band-pass filters, their energy, its logarithm. A change of brightness
  becomes an offset, which the softmax over the frames ignores. It gives a focus measure for each block of 4 x 4
  pixels and a vector for each 2 x 2 blocks, so all that follows costs a 64th.
- Training begins where focus measures end: two of them score the frames, and at first the heights are the means that
  they give. What is learned is when not to believe them.
- Each frame says where, by its measure and those of the frames before and after it, the focus lies between them. So
  heights run on between frames even where the depth of field is smaller than the step and one frame has all the weight.
- The head scores a block as a whole, raised bilinearly to its 16 pixels: height runs on smoothly from one block to
  the next. What it adds for each of the 16 keeps edges sharp, without work at full resolution. It also moves the focus
  position of a frame, so a height between two frames, or exactly on the first, needs no wide softmax.
- A doubt per frame, averaged as the heights are, becomes the spread of the height, and grows where no frame stands out.

Every layer sees a few frames ahead. What a frame needs of its neighbours is kept in a :class:`Past`, so that
pushing the frames one by one gives what the whole stack at once gives.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.networks.past import Past
from models.networks.prediction import Prediction
from models.networks.reparam import ReparameterizedConv3d

BLOCK = 4
"""Side in pixels of the square that one feature vector stands for."""
FAINTEST_ENERGY = 1e-5
"""Added before the logarithm: about the energy of the noise of an 8-bit image."""
LAPLACIANS = 24
"""Filters that make the focus measure at first."""
MEASURES = 2
"""Focus measures of a block: around it and in it."""
FIRST_GAINS = (1.5, 1.5)
"""What a score makes of them before any training: weights like a power of the measure, whose mean is the peak."""
FIRST_DOUBT = 0.5
SHARP_BEND = 3.0
"""Of a score from frame to frame. Sharper peaks give one frame the weight; of blunter ones the mean is the better."""
CLEAR_CONTRAST = 6.0
"""Of scores: logarithms to the power of the gains, so e^2 times the energy of the mean frame in the best one."""
FAINTEST_CONTRAST = 0.5
FARTHEST_PEAK = 0.5
"""In steps: beyond, the next frame is nearer to the peak and says it better."""


def _as_images(x: Tensor) -> Tensor:
    """(B, C, N, H, W) as B N images; no copy where channels lie last in memory."""
    return x.transpose(1, 2).flatten(0, 1)


def _as_stacks(images: Tensor, batch: int) -> Tensor:
    return images.view(batch, -1, *images.shape[1:]).transpose(1, 2)


def raised(blocks: Tensor) -> Tensor:
    """A value for each block, (M, 1, h, w), to its 16 pixels, (M, 16, h, w), bilinearly."""
    return F.pixel_unshuffle(F.interpolate(blocks, scale_factor=BLOCK, mode="bilinear"), BLOCK)


def smoothed(parts: Tensor) -> Tensor:
    """(M, P, h, w), P of 16 or 1 to a block, as it is between the means of the blocks: no step from one to another."""
    return raised(parts.mean(1, keepdim=True)) if parts.shape[1] > 1 else parts


def as_pixels(parts: Tensor) -> Tensor:
    """(M, P, h, w) to (M, 4 h, 4 w): the 16 pixels of each block, or one value for each, raised bilinearly."""
    if parts.shape[1] > 1:
        return F.pixel_shuffle(parts, BLOCK)[:, 0]
    return F.interpolate(parts, scale_factor=BLOCK, mode="bilinear")[:, 0]


def spread_in_steps(doubt: Tensor, contrast: Tensor) -> Tensor:
    """Spread of the heights from the mean ``doubt`` and the ``contrast``, all (M, P, h, w).

    The contrast is how far the best score rises above the mean of all: where nothing can be in focus it is that of
    noise, however sure the layers may be. On scenes not trained on, this power of it told right from wrong best.
    """
    faintness = CLEAR_CONTRAST / smoothed(contrast).clamp_min(FAINTEST_CONTRAST)
    return F.softplus(smoothed(doubt)) * faintness**1.5


def peak_beside(around: Tensor) -> Tensor:
    """Where the focus lies beside each frame, in steps (B, 1, n, h, w), from the scores of it and both neighbours.

    ``around`` (B, 2, n + 2, h, w): the scores, logarithms of focus measures, and 1 where there is a frame. The peak
    of two lines of equal slope through the three (M. Shimizu and M. Okutomi, IJCV 63 (2005) 207): frames that are
    further apart than the depth of field see the flanks of the focus curve, and those are straighter than a parabola.
    0 for the first and the last frame, and less and less of it the blunter the peak.
    """
    scores, there = around[:, :1], around[:, 1:]
    before, here, after = scores[:, :, :-2], scores[:, :, 1:-1], scores[:, :, 2:]
    bend = F.relu(2 * here - before - after)
    fall = (here - torch.minimum(before, after)).clamp_min(1e-3)
    peak = (0.5 * (after - before) / fall).clamp(-FARTHEST_PEAK, FARTHEST_PEAK)
    return peak * (bend**2 / (bend**2 + SHARP_BEND**2)) * (there[:, :, :-2] * there[:, :, 2:])


def _hush(*layers: nn.Module) -> None:
    """Let ``layers`` add next to nothing at first."""
    for layer in layers:
        assert isinstance(layer, nn.Conv2d)
        nn.init.normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class FocusStem(nn.Module):
    """Images (M, 1, H, W) to focus measures (M, 2, h, w) of each block and features (M, width, h / span, w / span).

    Both are made of logarithms of weighted sums of the energies of all ``filters``: the first sum, around a block and
    in it, is the focus measure, ``mixtures`` more are whatever is learned. At first the measure is the mean of
    modified Laplacians in four directions and at three distances (S. K. Nayar and Y. Nakagawa, IEEE TPAMI 16 (1994)
    824). No filter ever answers to an even brightness: one that learned to would cost clear texture its precision.
    """

    def __init__(self, filters: int, mixtures: int, width: int, span: int) -> None:
        super().__init__()
        self.filters = nn.Conv2d(BLOCK**2, filters, 3, bias=False)
        self.shares = nn.Conv2d(filters, 1 + mixtures, 1, bias=False)
        self.energies = nn.Conv2d(MEASURES + mixtures, width, span, stride=span)
        self.values = nn.Conv2d(filters, width, span, stride=span, bias=False)
        with torch.no_grad():
            self.filters.weight[:LAPLACIANS] = _laplacians(LAPLACIANS)
            self.shares.weight.abs_().div_(self.shares.weight.sum(1, keepdim=True))
            self.shares.weight[0] = 0.0
            self.shares.weight[0, :LAPLACIANS] = 1.0 / LAPLACIANS
            assert self.energies.bias is not None
            self.energies.bias.copy_(-math.log(FAINTEST_ENERGY) / 2 * self.energies.weight.sum((1, 2, 3)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        # Beyond the edge the image goes on as it ends: black there would be the strongest detail in every frame.
        blocks = _blocks_of(F.pad(images, (BLOCK,) * 4, mode="replicate"))
        kernels = self.filters.weight - self.filters.weight.mean((1, 2, 3), keepdim=True)
        seen = F.conv2d(blocks, kernels)
        # Channels last in memory from here on: every layer that follows keeps this order.
        mixed = F.linear((seen * seen).permute(0, 2, 3, 1), self.shares.weight.flatten(1).abs())
        here = mixed[..., :1].permute(0, 3, 1, 2)
        around = F.avg_pool2d(here, 3, 1, 1, count_include_pad=False).permute(0, 2, 3, 1)
        strength = torch.log(torch.cat((around, mixed), dim=3) + FAINTEST_ENERGY).permute(0, 3, 1, 2)
        return strength[:, :MEASURES], self.energies(strength) + self.values(seen)


def _blocks_of(images: Tensor) -> Tensor:
    """(M, 1, H, W) to (M, 16, H / 4, W / 4), channels last in memory."""
    count, _one, height, width = images.shape
    blocks = images.reshape(count, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(2, 3)
    return blocks.reshape(count, height // BLOCK, width // BLOCK, BLOCK**2).permute(0, 3, 1, 2)


def _laplacians(count: int) -> Tensor:
    """Second differences (count, 16, 3, 3) in the layout of a pixel-unshuffled block and its neighbours."""
    side = 3 * BLOCK
    kernels = torch.zeros(count, side, side)
    directions = ((0, 1), (1, 0), (1, 1), (1, -1))
    for index, kernel in enumerate(kernels):
        down, right = directions[index % 4]
        distance = 1 + index // 4 % 3
        # Spread over the middle block, so that together they see every pixel of it.
        row, column = BLOCK + 5 * index % BLOCK, BLOCK + (3 * index + index // BLOCK) % BLOCK
        kernel[row, column] = 2.0
        for sign in (-1, 1):
            kernel[row + sign * distance * down, column + sign * distance * right] -= 1.0
    blocks = kernels.view(count, 3, BLOCK, 3, BLOCK).permute(0, 2, 4, 1, 3)
    return blocks.reshape(count, BLOCK**2, 3, 3) / math.sqrt(6.0)


class CompactModule(nn.Module):
    """The group-parallel module: search in groups of channels, 2x2 maximum if ``halve``, merge all groups."""

    def __init__(self, width: int, new_width: int, groups: int, frames: int, *, halve: bool = False) -> None:
        """``frames``: how many frames the search sees at once, an odd number."""
        super().__init__()
        self.search: nn.Module = ReparameterizedConv3d(width, kernel=(frames, 3, 3), groups=groups)
        self.reach = frames // 2
        self.merge = nn.Conv2d(width, new_width, 1)
        self.halve = halve
        self.keeps_shape = width == new_width and not halve
        if self.keeps_shape:
            _hush(self.merge)

    def forward(self, x: Tensor | None, past: Past | None) -> Tensor | None:
        """``x`` (B, C, n, H, W); with a ``past``, which needs the inference form, frames come out ``reach`` later."""
        if past is None:
            assert x is not None
            found = self.search(x)
        else:
            around = past.neighbours(self, x, self.reach)
            if around is None:
                return None
            assert isinstance(self.search, nn.Conv3d)
            weight, bias, groups = self.search.weight, self.search.bias, self.search.groups
            found = F.conv3d(around, weight, bias, padding=(0, 1, 1), groups=groups)
            x = around[:, :, self.reach : -self.reach]
        images = F.relu(_as_images(found), inplace=True)
        if self.halve:
            images = F.max_pool2d(images, 2)
        merged = _as_stacks(self.merge(images), len(x))
        return merged + x if self.keeps_shape else merged


class CompactGplwsNet(nn.Module):
    """``widths``, ``groups``, ``frames`` that a search sees and the numbers of modules that keep the shape: of each
    level, from the finest downwards. Fine levels see more frames: where the depth of field is several steps, a narrow
    place of the relief is found by the whole of its focus curve or not at all.

    ``filters`` and ``mixtures``: see :class:`FocusStem`. ``span``: blocks along a side of what one vector of the finest
    level stands for. ``pixels``: whether a score is found for each pixel or only for each block.

    Takes grey frames (B, N, 1, H, W) in 0..1; of colour frames it sees the mean.
    """

    def __init__(
        self,
        *,
        filters: int,
        mixtures: int,
        span: int,
        pixels: bool,
        widths: Sequence[int],
        groups: Sequence[int],
        frames: Sequence[int],
        modules_down: Sequence[int],
        modules_up: Sequence[int],
    ) -> None:
        super().__init__()
        self.multiple = BLOCK * span * 2 ** (len(widths) - 1)
        self.span, self.pixels = span, pixels
        self.stem = FocusStem(filters, mixtures, widths[0], span)
        self.trust = nn.Conv2d(MEASURES, 1, 1, bias=False)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            modules = [CompactModule(width, width, groups[level], frames[level]) for _ in range(modules_down[level])]
            if level:
                finer = level - 1
                modules.insert(0, CompactModule(widths[finer], width, groups[finer], frames[finer], halve=True))
            self.down.append(nn.ModuleList(modules))
        pairs = list(zip(widths[1:], widths[:-1], strict=True))
        self.up = nn.ModuleList(nn.Conv2d(wide, narrow, 1) for wide, narrow in pairs)
        self.refine = nn.ModuleList(
            nn.ModuleList(CompactModule(width, width, groups[level], frames[level]) for _ in range(modules_up[level]))
            for level, width in enumerate(widths[:-1])
        )
        self.head = nn.Conv2d(widths[0], span**2 * (BLOCK**2 * pixels + 3), 1)
        _hush(*self.up)
        with torch.no_grad():
            self.trust.weight.copy_(torch.tensor(FIRST_GAINS)[:, None, None])
            self.head.weight.zero_()
            assert self.head.bias is not None
            self.head.bias.zero_()[-(span**2) :] = FIRST_DOUBT
        up_and_down = zip(modules_down, (*modules_up, 0), strict=True)
        seen_blocks = span * sum((1 + down + up) * 2**level for level, (down, up) in enumerate(up_and_down))
        self.reach_px = BLOCK * (4 + seen_blocks)
        """How far from a pixel the image can change its height."""

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, frames: Tensor, z: Tensor) -> Prediction:
        """``frames`` (B, N, C, H, W) in 0..1, ``z`` (B, N). Only training needs the weights of the frames."""
        height, width = frames.shape[-2:]
        answers = self.answers(frames, None)
        assert answers is not None
        scores, offset, doubt = split_answers(answers)
        weights = torch.softmax(scores, dim=1)
        spacing = torch.gradient(z, dim=1)[0] if z.shape[1] > 1 else torch.zeros_like(z)
        heights = (weights * z[:, :, None, None, None]).sum(1)
        shift = (weights * (offset * spacing[:, :, None, None, None])).sum(1)
        # In the unit of z; with unequal steps, that of the frames that a pixel is made of.
        step = smoothed((weights * spacing.abs()[:, :, None, None, None]).sum(1))
        # Detached: a network that could lower its spread by steeper scores would make them too steep.
        contrast = (scores.amax(1) - scores.mean(1)).detach()
        spread = spread_in_steps((weights * doubt).sum(1), contrast) * step
        found, unsure = (as_pixels(part)[:, :height, :width] for part in (heights + smoothed(shift), spread))
        if not self.training:
            return Prediction(found, None, unsure)
        shares = as_pixels(weights.flatten(0, 1)).view(*z.shape, -1, answers.shape[-1] * BLOCK)
        return Prediction(found, shares[..., :height, :width], unsure)

    def answers(self, frames: Tensor | None, past: Past | None = None) -> Tensor | None:
        """For :func:`split_answers`: (B, n, C, H / 4, W / 4), H and W padded to a multiple of ``multiple``.

        With a ``past``, ``frames`` are the next ones of the stack or None, and the answers those that are due: None
        at first, the rest when ``past.last`` is set.
        """
        x = scores = None
        if frames is not None:
            scores, x = self._look(frames)
        measured = self._measured(scores, past)
        levels = len(self.down)
        skipped: list[Tensor | None] = []
        for modules in self.down:
            x = _through(modules, x, past)
            skipped.append(x)
        for level in reversed(range(levels - 1)):
            link = skipped[level]
            if past is not None and link is not None:
                past.keep(self.up[level], link)
            if x is not None:
                coarser = F.interpolate(self.up[level](_as_images(x)), scale_factor=2, mode="bilinear")
                finer = _as_stacks(coarser, len(x))
                if past is not None:
                    link = past.take(self.up[level], finer.shape[2])
                assert link is not None
                x = finer + link
            x = _through(self.refine[level], x, past)
        if x is None:
            return None
        if past is not None:
            measured = past.take(self.trust, x.shape[2])
        assert measured is not None
        answers = self._score(_as_images(x).to(self.head.weight.dtype), _as_images(measured))
        return answers.view(len(x), -1, *answers.shape[1:])

    def _look(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Scores by focus measures (B, 1, N, h, w) and features (B, C, N, h / span, w / span) of each frame."""
        grey = frames.mean(2) if frames.shape[2] > 1 else frames[:, :, 0]
        rows, columns = (-side % self.multiple for side in grey.shape[-2:])
        if rows or columns:
            grey = F.pad(grey, (0, columns, 0, rows), mode="replicate")
        measures, features = self.stem(torch.sqrt(grey + 1e-4).flatten(0, 1)[:, None])
        dtype = next(self.down.parameters()).dtype
        return _as_stacks(self.trust(measures), len(frames)), _as_stacks(features, len(frames)).to(dtype)

    def _measured(self, scores: Tensor | None, past: Past | None) -> Tensor | None:
        """What focus measures say, (B, 2, n, h, w): ``scores`` (B, 1, n, h, w) and the peaks beside the frames.

        With a ``past`` it is kept there, and None comes back.
        """
        known = None if scores is None else torch.cat((scores, torch.ones_like(scores)), dim=1)
        if past is None:
            assert known is not None
            around: Tensor | None = F.pad(known, (0, 0, 0, 0, 1, 1))
        else:
            around = past.neighbours(self.trust, known, 1)
        if around is None:
            return None
        measured = torch.cat((around[:, :1, 1:-1], peak_beside(around)), dim=1)
        if past is None:
            return measured
        past.keep(self.trust, measured)
        return None

    def _score(self, images: Tensor, measured: Tensor) -> Tensor:
        """Answers (M, C, h, w) from the vectors of the frames (M, C, h / span, w / span) and what is measured."""
        answers = self.head(images)
        if self.span > 1:
            answers = F.pixel_shuffle(answers, self.span)
        common, offset = (answers[:, -3:-1] + measured).split(1, dim=1)
        if self.pixels:
            common = answers[:, :-3] + raised(common)
        return torch.cat((common, offset, answers[:, -1:]), dim=1)


def split_answers(answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (..., P, h, w) of each block of a frame, P = 16 for its pixels or 1, offset in steps and doubt."""
    scores, offset, doubt = torch.split(answers, [answers.shape[-3] - 2, 1, 1], dim=-3)
    return scores, offset, doubt


def _through(modules: nn.Module, x: Tensor | None, past: Past | None) -> Tensor | None:
    assert isinstance(modules, nn.ModuleList)
    for module in modules:
        x = module(x, past)
    return x
