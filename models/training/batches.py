"""Batches: random cuts of random stacks, changed as cameras, lamps and samples change them.

A batch is a function of the recipe, the number of its step and how far the run is: preparing them in threads, ahead
or after a restart changes nothing.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.networks.registry import NetworkSpec
from models.training.augment import augmented
from models.training.examples import Example, Examples
from models.training.recipe import Augmentation, Recipe, Stage

_BEYOND_STEPS = 0.5
"""Heights farther than this outside the chosen frames cannot be learned from them."""
_MOST_UNKNOWN = 0.9
_PLACES = 4
"""Attempts to find a place where heights are known."""

Floats = NDArray[np.float32]


class Batch(NamedTuple):
    """``frames`` (B, N, C, H, W) in 0..1, ``z`` (B, N) rising from 0, ``height`` (B, H, W), NaN unknown.

    All float32; z and height in mean steps of the frames at hand.
    """

    frames: Tensor
    z: Tensor
    height: Tensor

    def pinned(self) -> "Batch":
        """A copy that a GPU can fetch by itself while the processor goes on."""
        return Batch(*(tensor.pin_memory() for tensor in self))

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batch of any step. ``rank`` of ``world``: which of several processes this is."""

    recipe: Recipe
    spec: NetworkSpec
    examples: Examples
    rank: int = 0
    world: int = 1

    def make(self, step: int, fraction: float) -> Batch:
        """The batch of ``step`` when ``fraction`` of the run is done."""
        stage = self.recipe.stage(fraction)
        # Size and frames are the same for all processes: they wait for the slowest one.
        common = np.random.default_rng((self.recipe.seed, step))
        side = _multiple(int(common.integers(stage.crop[0], stage.crop[1] + 1)), self.spec.multiple)
        count = int(common.integers(stage.frames[0], stage.frames[1] + 1))
        chosen = self._draw(step, stage, count)
        count = min(count, *(len(example.frames) for example in chosen))
        smallest = min(min(example.height.shape) for example in chosen)
        side = min(side, _multiple(smallest, self.spec.multiple) if smallest >= self.spec.multiple else smallest)
        rng = np.random.default_rng((self.recipe.seed, step, self.rank + 1))
        samples = [one_sample(example, count, side, self.spec.channels, self.recipe, rng) for example in chosen]
        return Batch(*(torch.from_numpy(np.stack(parts)) for parts in zip(*samples, strict=True)))

    def _draw(self, step: int, stage: Stage, count: int) -> list[Example]:
        size = stage.batch or self.recipe.batch
        # The same stride in every stage, so that draws never go back.
        stride = max(stage.batch or self.recipe.batch for stage in self.recipe.stages)
        first = (step * self.world + self.rank) * stride
        return [self.examples.draw(first + index, count) for index in range(size)]


def one_sample(
    example: Example, count: int, side: int, channels: int, recipe: Recipe, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """``count`` frames of a random square of ``example``: frames (N, C, H, W), z (N,) and height (H, W) in steps."""
    rows, columns = _place(example, side, rng)
    height = np.array(example.height[rows, columns])
    index = pick_frames(example.z, height, count, recipe.augmentation, rng)
    frames = np.stack([example.frames[i, rows, columns] for i in index])
    z = np.asarray(example.z, np.float64)[index]
    step = (z[-1] - z[0]) / (count - 1)
    height = ((height - z[0]) / step).astype(np.float32)
    z = ((z - z[0]) / step).astype(np.float32)
    with np.errstate(invalid="ignore"):
        height[(height < -_BEYOND_STEPS) | (height > z[-1] + _BEYOND_STEPS)] = np.nan
    return augmented(frames, z, height, channels, recipe.augmentation, rng)


def pick_frames(
    z: NDArray[np.floating], height: Floats, count: int, options: Augmentation, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Indices (count,), rising, of the frames to learn from: mostly around the surface, sometimes ending on it."""
    stride = int(rng.integers(1, min(options.stride, (len(z) - 1) // max(count - 1, 1)) + 1))
    span = (count - 1) * stride
    irregular = rng.random() < options.irregular and count > 2
    if irregular:
        # At least one frame is left out, or the steps would be those of the stack.
        span = min(int(np.ceil(span * rng.uniform(1.1, 1.8))), len(z) - 1)
    start = _start(z, height, span, rng.random() < options.land_at_end, rng)
    if not irregular:
        return np.arange(start, start + span + 1, stride)
    inner = rng.choice(np.arange(start + 1, start + span), count - 2, replace=False)
    return np.sort(np.concatenate(([start, start + span], inner))).astype(np.intp)


def _start(z: NDArray[np.floating], height: Floats, span: int, land_at_end: bool, rng: np.random.Generator) -> int:
    """First frame of a window of ``span`` steps in which the surface lies, or on whose end its land lies."""
    last = len(z) - 1 - span
    known = height[np.isfinite(height)]
    if not known.size:
        return int(rng.integers(0, last + 1))
    lowest, highest = np.interp(np.percentile(known, (3, 97)), z, np.arange(len(z)))
    if land_at_end:
        start = round(lowest) if rng.random() < 0.5 else round(highest) - span
        return int(np.clip(start, 0, last))
    earliest, latest = np.ceil(highest) - span, np.floor(lowest)
    if earliest > latest:  # the surface is higher than the window: any part of it
        earliest, latest = latest, earliest
    start = rng.integers(int(earliest), int(latest) + 1)
    return int(np.clip(start, 0, last))


def _place(example: Example, side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A random square, if possible one where some heights are known."""
    height, width = example.height.shape
    for _attempt in range(_PLACES):
        top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        rows, columns = slice(top, top + side), slice(left, left + side)
        if np.isnan(example.height[rows, columns][::4, ::4]).mean() <= _MOST_UNKNOWN:
            break
    return rows, columns


def _multiple(side: int, multiple: int) -> int:
    return max(side // multiple, 1) * multiple


def prefetched(
    maker: BatchMaker, first_step: int, fraction: Callable[[int], float], *, threads: int = 1, pin: bool = False
) -> Generator[Batch, None, None]:
    """The batches from ``first_step`` on, made a few ahead; ``fraction(step)`` says how far the run is then.
    ``pin``: for a GPU. Close the generator to end its threads.
    """

    def made(step: int, done: float) -> Batch:
        batch = maker.make(step, done)
        return batch.pinned() if pin else batch

    ahead = threads + 1
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as executor:
        waiting: deque[Future[Batch]] = deque()
        step = first_step
        try:
            while True:
                while len(waiting) < ahead:
                    waiting.append(executor.submit(made, step, fraction(step)))
                    step += 1
                yield waiting.popleft().result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
