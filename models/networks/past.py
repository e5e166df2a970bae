"""What a network keeps of the frames that came before, so that each is looked at once."""

from collections import deque

import torch
from torch import Tensor, nn


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
