"""Scenes rendered by other processes while the training runs."""

import functools
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.language import _
from models.training.examples import Example, as_example
from models.training.recipe import Recipe

Seed = tuple[int, ...]
_FAMILY = 271_828
"""First part of the seeds, so that no scene of a fixed split is ever trained on."""


class RenderedExamples:
    """An endless source of scenes, each used ``reuse`` times, cut and augmented differently: rendering takes long.

    They come in blocks; while one block is in use the next is rendered, so memory stays constant. The scenes of a block
    have numbers of frames all over the range ``frames``, one in four the highest, so that a batch of many frames
    finds several. ``render(seed, frames)`` runs in the other processes. Close after use.
    """

    def __init__(
        self,
        render: Callable[[Seed, int], Example],
        *,
        seed: int = 0,
        frames: tuple[int, int] = (8, 20),
        workers: int = 1,
        block: int = 32,
        reuse: int = 4,
    ) -> None:
        # A fresh interpreter each: a fork would copy PyTorch's threads in whatever state they are.
        self._executor = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
        self._render, self._seed = render, seed
        self._block, self._reuse = block, reuse
        lowest, highest = frames
        rising = np.linspace(lowest, highest + (highest - lowest) / 3, block).round().astype(int)
        self._counts = np.minimum(rising, highest)
        self._lock = threading.Lock()
        self._blocks: dict[int, list[Future[Example]]] = {}

    @property
    def count(self) -> None:
        return None

    def draw(self, number: int, at_least: int = 2) -> Example:
        """See :class:`models.training.examples.Examples`."""
        block = number // (self._block * self._reuse)
        counts = self._frame_counts(block)
        eligible = np.flatnonzero(counts >= min(at_least, counts.max()))
        with self._lock:
            for wanted in (block, block + 1):
                if wanted not in self._blocks:
                    self._blocks[wanted] = self._submitted(wanted)
            # Batches are prepared a few ahead and out of order: the block before may still be asked for.
            for old in [known for known in self._blocks if known < block - 1]:
                del self._blocks[old]
            scene = self._blocks[block][int(eligible[number % len(eligible)])]
        try:
            return scene.result()
        except BrokenProcessPool as error:
            raise InputError(
                _("A process that renders scenes was ended from outside. Fewer of them need less memory.")
            ) from error

    def _submitted(self, block: int) -> list[Future[Example]]:
        scenes = enumerate(self._frame_counts(block))
        seeds = [((_FAMILY, self._seed, block, index), int(frames)) for index, frames in scenes]
        return [self._executor.submit(self._render, seed, frames) for seed, frames in seeds]

    def _frame_counts(self, block: int) -> NDArray[np.intp]:
        """Of each scene of ``block``: the same numbers in another order."""
        return np.random.default_rng((_FAMILY, self._seed, block)).permutation(self._counts)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def rendered_for(recipe: Recipe, *, workers: int = 1) -> RenderedExamples:
    """Scenes of the generator that fit the crops and frames of ``recipe``."""
    side = max(stage.crop[1] for stage in recipe.stages)
    fewest = min(stage.frames[0] for stage in recipe.stages)
    most = max(stage.frames[1] for stage in recipe.stages)
    render = functools.partial(_render, side=side)
    return RenderedExamples(render, seed=recipe.seed, frames=(max(fewest, 5), max(most, 5)), workers=workers)


def _render(seed: Seed, frames: int, *, side: int) -> Example:
    from models.training.generator import random_scene

    return as_example(random_scene(seed, size=(side, side), frames=frames))
