"""Training scenes by the thousand: shards of a few scenes each, rendered by several processes, resumable.

``shard_00012.npz`` (uncompressed): ``frames`` uint8 (S, N, H, W), ``z_um`` float32 (S, N) rising,
``height_um`` float32 (S, H, W) with NaN where unknown, ``kind`` (S,) text, ``seed`` (2,): the seed of the
stream and the number of its first scene.
"""

import contextlib
import threading
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.atomic import check_space, replacing
from models.errors import InputError
from models.language import _
from models.training.generator import random_scene
from models.training.processes import each_done, make_folder
from models.training.scene import Scene
from models.training.styles import STYLES

SCENES_PER_SHARD = 16
STREAM = 0
"""First word of every seed of a shard; the fixed splits use another one."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ShardPlan:
    """``count`` scenes of ``frames`` images of ``size_px`` squared, from the stream of ``seed``; ``style`` is a key of
    :data:`models.training.styles.STYLES`."""

    folder: Path
    count: int
    seed: int
    size_px: int = 160
    frames: int = 24
    style: str = "mixed"

    def seed_of(self, scene: int) -> tuple[int, ...]:
        """What scene number ``scene`` is made of, and what tells these shards from others."""
        style = list(STYLES).index(self.style)
        return (self.seed, scene, *((style,) if style else ()))

    @property
    def shard_count(self) -> int:
        return -(-self.count // SCENES_PER_SHARD)

    def path(self, shard: int) -> Path:
        return self.folder / f"shard_{shard:05d}.npz"

    def scenes_in(self, shard: int) -> int:
        return min(SCENES_PER_SHARD, self.count - shard * SCENES_PER_SHARD)

    @property
    def shard_bytes(self) -> int:
        return SCENES_PER_SHARD * self.size_px**2 * (self.frames + 4)


def write_shards(
    plan: ShardPlan, *, jobs: int = 1, progress: Progress | None = None, cancel: threading.Event | None = None
) -> int:
    """Render the shards of ``plan`` that are not there yet; returns the number of scenes that were rendered.

    ``progress(scenes done, scenes in all)``, called as each shard is complete. Raises InputError where the
    folder holds shards of another plan, OutputError where it cannot be written, Cancelled when cancelled:
    whole shards stay.
    """
    make_folder(plan.folder)
    missing = [shard for shard in range(plan.shard_count) if not _is_there(plan, shard)]
    check_space(plan.path(0), len(missing) * plan.shard_bytes)
    done = plan.count - sum(plan.scenes_in(shard) for shard in missing)
    rendered = 0
    if progress is not None:
        progress(done, plan.count)
    with contextlib.closing(each_done(_write_shard, [(plan, shard) for shard in missing], jobs, cancel)) as finished:
        for _plan, shard in finished:
            rendered += plan.scenes_in(shard)
            if progress is not None:
                progress(done + rendered, plan.count)
    return rendered


def read_shard(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of one shard by name. Raises InputError where it is missing, damaged or no shard."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in ("frames", "z_um", "height_um", "kind", "seed")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            _("Cannot read {path}: it is no file of training scenes, or damaged.").format(path=path)
        ) from error


def _is_there(plan: ShardPlan, shard: int) -> bool:
    path = plan.path(shard)
    if not path.exists():
        return False
    try:
        with np.load(path, allow_pickle=False) as file:
            seed, heights, z_um = file["seed"], file["height_um"].shape, file["z_um"].shape
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return False  # damaged: rendered again
    expected = (plan.scenes_in(shard), plan.size_px, plan.size_px)
    if tuple(seed) != plan.seed_of(shard * SCENES_PER_SHARD) or heights[1:] != expected[1:] or z_um[1] != plan.frames:
        raise InputError(
            _(
                "{path} holds other scenes (seed, style, size or number of frames). Please choose an empty folder."
            ).format(path=path)
        )
    return bool(heights[0] >= expected[0])


def _write_shard(work: tuple[ShardPlan, int]) -> None:
    plan, shard = work
    first = shard * SCENES_PER_SHARD
    numbers: Iterable[int] = range(first, first + plan.scenes_in(shard))
    size = (plan.size_px, plan.size_px)
    scenes: list[Scene] = [
        random_scene((STREAM, *plan.seed_of(i)), size=size, frames=plan.frames, kinds=plan.style) for i in numbers
    ]
    with replacing(plan.path(shard)) as temporary:
        np.savez(
            temporary,
            frames=np.stack([np.asarray(scene.stack.frames) for scene in scenes]),
            z_um=np.stack([scene.stack.z_um for scene in scenes]).astype(np.float32),
            height_um=np.stack([scene.height_um for scene in scenes]),
            kind=np.array([scene.kind for scene in scenes]),
            seed=np.array(plan.seed_of(first)),
        )
