"""Reliefscope's variants of GPLWS-Net: the same modules on a quarter of the resolution, frame by frame.

Four things differ from the published network:

- A *focus stem* looks at every frame alone: band-pass filters, their energy, its logarithm. A change of brightness
  becomes an offset, which the softmax over the frames ignores. It gives one vector for each 4 x 4 pixels, so all that
  follows costs a sixteenth.
- Training begins where focus measures end: two of the stem's features are such measures, and at first the heights are
  the means that they give. What is learned is when not to believe them.
- The head scores the 16 pixels of each vector separately, so edges stay sharp without work at full resolution, and
  moves the focus position of a frame by up to one step, so a height between two frames, or exactly on the first,
  needs no wide softmax.
- A doubt per frame, averaged as the heights are, becomes the spread of the height.

Every layer sees a few frames ahead. What a frame needs of its neighbours is kept in a :class:`Past`, so that
pushing the frames one by one gives what the whole stack at once gives.
"""

import math
from collections import deque
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.networks.prediction import Prediction
from models.networks.reparam import ReparameterizedConv3d

BLOCK = 4
"""Side in pixels of the square that one feature vector stands for."""
FAINTEST_ENERGY = 1e-5
"""Added before the logarithm: about the energy of the noise of an 8-bit image."""
MEASURES = 2
"""Features that are focus measures from the start."""
FIRST_GAINS = (3.0, 1.0)
"""What a score makes of them before any training: weights like a power of the measure, whose mean is the peak."""


class Past:
    """What the layers keep of earlier frames; ``last`` says that none comes after those that are pushed now."""

    def __init__(self, *, last: bool = False) -> None:
        self.last = last
        self._kept: dict[int, Tensor] = {}
        self._waiting: dict[int, deque[Tensor]] = {}
        self._frames: list[Tensor] = []

    def copy(self) -> "Past":
        """The same past, to go on from twice. Tensors are shared: nobody writes into them."""
        twin = Past(last=self.last)
        twin._kept = dict(self._kept)
        twin._waiting = {layer: deque(frames) for layer, frames in self._waiting.items()}
        twin._frames = list(self._frames)
        return twin

    def gather(self, frames: Tensor | None) -> Tensor | None:
        """For a network that wants all frames at once: those so far (B, N, C, H, W) if they are all, else None."""
        self._frames += [] if frames is None else [frames]
        return torch.cat(self._frames, dim=1) if self.last else None

    def neighbours(self, layer: nn.Module, x: Tensor | None, reach: int) -> Tensor | None:
        """New frames ``x`` (B, C, n, H, W), or None, with ``reach`` frames before and after; zeros beyond both ends.

        None as long as no frame has all of them.
        """
        kept = self._kept.get(id(layer))
        if kept is None:
            if x is None:
                return None
            kept = _blank(x, reach)
        parts = [kept] if x is None else [kept, x]
        if self.last:
            parts.append(_blank(kept, reach))
        around = torch.cat(parts, dim=2)
        self._kept[id(layer)] = around[:, :, -2 * reach :]
        return around if around.shape[2] > 2 * reach else None

    def keep(self, layer: nn.Module, x: Tensor) -> None:
        """Store the frames of ``x`` until the way through the lower resolutions has caught up."""
        self._waiting.setdefault(id(layer), deque()).extend(x.unbind(2))

    def take(self, layer: nn.Module, count: int) -> Tensor:
        """The oldest ``count`` frames stored by :meth:`keep`."""
        waiting = self._waiting[id(layer)]
        return torch.stack([waiting.popleft() for _ in range(count)], dim=2)


def _blank(like: Tensor, count: int) -> Tensor:
    return like.new_zeros(*like.shape[:2], count, *like.shape[3:])


def _as_images(x: Tensor) -> Tensor:
    """(B, C, N, H, W) as B N images; no copy where channels lie last in memory."""
    return x.transpose(1, 2).flatten(0, 1)


def _as_stacks(images: Tensor, batch: int) -> Tensor:
    return images.view(batch, -1, *images.shape[1:]).transpose(1, 2)


def _hush(*layers: nn.Module) -> None:
    """Let ``layers`` add next to nothing at first."""
    for layer in layers:
        assert isinstance(layer, nn.Conv2d)
        nn.init.normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class FocusStem(nn.Module):
    """Images (M, 1, H, W) to focus features (M, width, H / 4, W / 4).

    The first two features are focus measures in their own right, logarithms of the mean energy of all filters around a
    block and in it; the others are whatever is learned. At first the filters are modified Laplacians in four directions
    and at three distances (S. K. Nayar and Y. Nakagawa, IEEE TPAMI 16 (1994) 824).
    """

    def __init__(self, filters: int, width: int) -> None:
        super().__init__()
        self.filters = nn.Conv2d(BLOCK**2, filters, 3, padding=1, bias=False)
        self.shares = nn.Conv2d(filters, MEASURES, 1, bias=False)
        self.energies = nn.Conv2d(filters, width - MEASURES, 1)
        self.values = nn.Conv2d(filters, width - MEASURES, 1, bias=False)
        with torch.no_grad():
            self.filters.weight.mul_(0.05).add_(_laplacians(filters))
            self.shares.weight.fill_(1.0 / filters)
            self.energies.weight.mul_(0.2)
            assert self.energies.bias is not None
            self.energies.bias.copy_(-math.log(FAINTEST_ENERGY) / 2 * self.energies.weight.sum((1, 2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        blocks = F.pixel_unshuffle(images, BLOCK).contiguous(memory_format=torch.channels_last)
        seen = self.filters(blocks)
        energy = seen * seen
        here = F.conv2d(energy, self.shares.weight.abs())
        around = F.avg_pool2d(here[:, :1], 3, 1, 1, count_include_pad=False)
        measures = torch.log(torch.cat((around, here[:, 1:]), dim=1) + FAINTEST_ENERGY / 10)
        learned = self.energies(torch.log(energy + FAINTEST_ENERGY)) + self.values(seen)
        return torch.cat((measures, learned), dim=1)


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
        images = F.relu(_as_images(found))
        if self.halve:
            images = F.max_pool2d(images, 2)
        merged = _as_stacks(self.merge(images), len(x))
        return merged + x if self.keeps_shape else merged


class CompactGplwsNet(nn.Module):
    """``widths``, ``groups``, ``frames`` that a search sees and the numbers of modules that keep the shape: of each
    level, from 1/4 of the resolution downwards. Fine levels see more frames: where the depth of field is several
    steps, a narrow place of the relief is found by the whole of its focus curve or not at all.

    Takes grey frames (B, N, 1, H, W) in 0..1; of colour frames it sees the mean.
    """

    def __init__(
        self,
        *,
        filters: int,
        widths: Sequence[int],
        groups: Sequence[int],
        frames: Sequence[int],
        modules_down: Sequence[int],
        modules_up: Sequence[int],
    ) -> None:
        super().__init__()
        self.multiple = BLOCK * 2 ** (len(widths) - 1)
        self.stem = FocusStem(filters, widths[0])
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
        self.head = nn.Conv2d(widths[0], BLOCK**2 + 2, 1)
        _hush(*self.up, self.head)
        with torch.no_grad():
            self.head.weight[: BLOCK**2, :MEASURES] = torch.tensor(FIRST_GAINS)[:, None, None]
            assert self.head.bias is not None
            self.head.bias[-1] = 0.5
        up_and_down = zip(modules_down, (*modules_up, 0), strict=True)
        self.reach_px = BLOCK * (2 + sum((1 + down + up) * 2**level for level, (down, up) in enumerate(up_and_down)))
        """How far from a pixel the image can change its height."""

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, frames: Tensor, z: Tensor) -> Prediction:
        """``frames`` (B, N, C, H, W) in 0..1, ``z`` (B, N)."""
        height, width = frames.shape[-2:]
        answers = self.answers(frames, None)
        assert answers is not None
        scores, offset, doubt = torch.split(answers, [BLOCK**2, 1, 1], dim=2)
        weights = torch.softmax(scores, dim=1)
        spacing = torch.gradient(z, dim=1)[0] if z.shape[1] > 1 else torch.zeros_like(z)
        heights = (weights * (z[:, :, None, None, None] + offset * spacing[:, :, None, None, None])).sum(1)
        spread = F.softplus((weights * doubt).sum(1))
        full = [F.pixel_shuffle(part, BLOCK)[..., :height, :width] for part in (heights, weights, spread)]
        return Prediction(full[0][:, 0], full[1][:, :, 0], full[2][:, 0])

    def answers(self, frames: Tensor | None, past: Past | None = None) -> Tensor | None:
        """Scores of the 16 pixels of each block, offset in steps and doubt: (B, n, 18, H / 4, W / 4), H and W padded.

        With a ``past``, ``frames`` are the next ones of the stack or None, and the answers those that are due: None
        at first, the rest when ``past.last`` is set.
        """
        x = None if frames is None else self._look(frames)
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
                raised = F.interpolate(self.up[level](_as_images(x)), scale_factor=2, mode="bilinear")
                finer = _as_stacks(raised, len(x))
                if past is not None:
                    link = past.take(self.up[level], finer.shape[2])
                assert link is not None
                x = finer + link
            x = _through(self.refine[level], x, past)
        if x is None:
            return None
        answers: Tensor = self.head(_as_images(x).to(self.head.weight.dtype))
        return answers.view(len(x), -1, *answers.shape[1:])

    def _look(self, frames: Tensor) -> Tensor:
        """Focus features (B, C, N, H / 4, W / 4) of each frame."""
        grey = frames.mean(2) if frames.shape[2] > 1 else frames[:, :, 0]
        rows, columns = (-side % self.multiple for side in grey.shape[-2:])
        grey = F.pad(torch.sqrt(grey + 1e-4), (0, columns, 0, rows), mode="replicate")
        features = _as_stacks(self.stem(grey.flatten(0, 1)[:, None]), len(frames))
        return features.to(next(self.down.parameters()).dtype)


def _through(modules: nn.Module, x: Tensor | None, past: Past | None) -> Tensor | None:
    assert isinstance(modules, nn.ModuleList)
    for module in modules:
        x = module(x, past)
    return x
