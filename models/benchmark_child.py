"""The process in which networks are timed: ``python -m models.benchmark_child`` with a :class:`Task` as JSON on stdin.

It is a process of its own because memory and allocator belong to a process. It answers on stdout, one JSON document
per line: ``{"start": i}`` before turn i runs, then ``{"seconds": s}`` or ``{"error": text}``; after each round
``{"round": n}``, 0 for the one that warms up; at the end ``{"peak_bytes": n}``, null where the system does not tell.
"""

import functools
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from models.benchmark import Size
from models.focal_stack import FocalStack
from models.methods import ReconstructionOptions
from models.networks.registry import NETWORKS, build, find_network

if TYPE_CHECKING:
    from torch import nn

Run = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""Frames (N, C, H, W) in 0..1 and focus positions (N,) in steps, rising, to heights (H, W)."""

SEED = 0
SLOW_S = 60.0
"""A run that takes longer is timed once."""
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, MemoryError, AssertionError, NotImplementedError)
"""What networks raise that cannot take a size; MemoryError is the one that everybody understands."""


@dataclass(frozen=True)
class Turn:
    """A network on an engine, or a method, and the stack that it takes."""

    network: str
    engine: str
    size: Size


@dataclass(frozen=True)
class Task:
    """Every round runs each of ``turns`` once, in an order of its own: what runs after a large network is helped or
    hindered by the memory that it leaves. A first round more warms up. What fails, or takes longer than ``slow_s`` in a
    round that counts, is not run again."""

    turns: tuple[Turn, ...]
    rounds: int
    threads: int
    slow_s: float = SLOW_S


TASK = TypeAdapter(Task)


def main() -> None:
    """Run the task."""
    task = TASK.validate_json(sys.stdin.buffer.read())
    use_threads(task.threads, with_torch=any(turn.network in NETWORKS for turn in task.turns))
    runs = {entry: _built(*entry) for entry in dict.fromkeys((turn.network, turn.engine) for turn in task.turns)}
    left = list(range(len(task.turns)))
    for number in range(task.rounds + 1):
        random.Random(number).shuffle(left)
        for index in tuple(left):
            turn = task.turns[index]
            run = runs[turn.network, turn.engine]
            _say(start=index)
            answer: dict[str, Any] = (
                {"error": run} if isinstance(run, str) else _timed(run, *_stack(turn.network, turn.size))
            )
            _say(**answer)
            if "error" in answer or (number and answer["seconds"] > task.slow_s):
                left.remove(index)
        _say(round=number)
    _say(peak_bytes=peak_bytes())


def peak_bytes() -> int | None:
    """Most memory that this process ever held; not getrusage(), whose peak includes that of the parent at the fork."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


def _built(name: str, engine: str) -> Run | str:
    """Ready to run, or why it cannot."""
    try:
        return ENGINES[engine](name) if name in NETWORKS else _reconstruction(name)
    except (*_FAILURES, ImportError) as error:
        return _reason(error)


def _built_network(name: str) -> "nn.Module":
    """Fused, with random weights: speed does not depend on them."""
    import torch

    from models.networks.reparam import fuse

    torch.manual_seed(SEED)
    return fuse(build(name)).requires_grad_(False)


def _torch(name: str) -> Run:
    """PyTorch as it comes: float32, the memory layout that the network was written with."""
    return _torch_run(_built_network(name))


def _torch_channels_last(name: str) -> Run:
    """PyTorch with channels last in memory, in 2D and 3D, as the program itself runs it."""
    from models.networks.engines import with_channels_last

    return _torch_run(with_channels_last(_built_network(name)))


def _torch_bf16(name: str) -> Run:
    """PyTorch, channels last, with bfloat16: where our networks allow it, everywhere that PyTorch does in others."""
    from models.networks.engines import prepare, with_channels_last
    from models.networks.gplws_compact import CompactGplwsNet

    network = _built_network(name)
    if isinstance(network, CompactGplwsNet):
        return _torch_run(cast("nn.Module", prepare(network, "torch-bf16")))
    return _torch_run(with_channels_last(network), autocast=True)


def _torch_run(network: "nn.Module", *, autocast: bool = False) -> Run:
    import torch

    def run(frames: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = network(torch.from_numpy(frames)[None], torch.from_numpy(z)[None])
        heights: NDArray[np.float32] = found.height[0].float().numpy()
        return heights

    return run


def _openvino(name: str, precision: str = "f32") -> Run:
    """OpenVINO; compiled for each size when it first comes, which the round that is not counted pays."""
    import torch
    from torch import nn

    from models.networks.engines import Compiled, compile_openvino

    class Heights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = _built_network(name)

        def forward(self, frames: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            height: torch.Tensor = self.network(frames, z).height
            return height

    compiled: dict[tuple[int, ...], Compiled] = {}

    def run(frames: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        if frames.shape not in compiled:
            example = (torch.from_numpy(frames)[None], torch.from_numpy(z)[None])
            compiled[frames.shape] = compile_openvino(Heights(), example, precision)
        return np.array(compiled[frames.shape]([frames[None], z[None]])[0][0])

    return run


ENGINES: dict[str, Callable[[str], Run]] = {
    "torch": _torch,
    "torch-channels-last": _torch_channels_last,
    "torch-bf16": _torch_bf16,
    "openvino": _openvino,
    "openvino-bf16": functools.partial(_openvino, precision="bf16"),
}
"""By name, what makes a network ready to run."""


def _reconstruction(name: str) -> Run:
    """A model-based method, for comparison; it takes whole numbers, as a camera gives them."""
    from models.reconstruct import reconstruct

    options = ReconstructionOptions(method=name)

    def run(frames: NDArray[Any], z: NDArray[np.float32]) -> NDArray[np.float32]:
        return reconstruct(FocalStack(frames, z.astype(np.float64)), options).height_um

    return run


def _stack(name: str, size: Size) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Noise of this size, as ``name`` takes it; made anew each time, so that no two runs share its memory."""
    rng = np.random.default_rng(SEED)
    z = np.arange(size.frames, dtype=np.float32)
    if name not in NETWORKS:
        return rng.integers(0, 256, (size.frames, size.rows, size.columns), dtype=np.uint8), z
    shape = (size.frames, find_network(name).channels, size.rows, size.columns)
    return rng.random(shape, dtype=np.float32), z


def _timed(run: Run, frames: NDArray[Any], z: NDArray[np.float32]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        heights = run(frames, z)
    except _FAILURES as error:
        return {"error": _reason(error)}
    seconds = time.perf_counter() - start
    if heights.shape != frames.shape[-2:]:
        return {"error": f"gave {heights.shape} for {frames.shape[-2:]} pixels"}
    return {"seconds": seconds}


def use_threads(threads: int, *, with_torch: bool) -> None:
    """Let this process compute on so many cores."""
    cv2.setNumThreads(threads)
    if with_torch:  # else it would only take memory
        import torch

        torch.set_num_threads(threads)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


def _say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
