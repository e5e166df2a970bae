"""Reconstruction beside the floor: plain OpenCV calls for the same focus measure and argmax, nothing else.

Both run in one process, taking turns, on the same 1024 x 1024 x 20 frames with the plain measure
(``stabilise`` off, which the floor does not have either). The least time of each is compared: other work on
the machine only adds. Run:
python -m pytest tests/benchmarks/test_reconstruction_speed.py --benchmark-only -s
"""

import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from models.focal_stack import FocalStack
from models.methods import MEASURES, ReconstructionOptions
from models.reconstruct import reconstruct
from models.streaming import StreamingReconstruction

SIDE, FRAMES, WINDOW = 1024, 20, 9


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """A tilted textured plane under growing blur, with noise: (20, 1024, 1024) uint8."""
    rng = np.random.default_rng(0)
    texture = rng.normal(120, 40, (SIDE, SIDE)).astype(np.float32)
    levels = [cv2.GaussianBlur(texture, (0, 0), 0.3 + 0.6 * d) for d in range(FRAMES)]
    band = SIDE // FRAMES + 1
    stack = []
    for k in range(FRAMES):
        columns = [levels[abs(k - b)][:, b * band : (b + 1) * band] for b in range(FRAMES)]
        stack.append(np.hstack(columns)[:, :SIDE] + rng.normal(0, 2, (SIDE, SIDE)))
    return np.clip(stack, 0, 255).astype(np.uint8)


def ml_kernels(step: int) -> list[np.ndarray]:
    """Second differences along x, y and both diagonals."""
    side = 2 * step + 1
    kernels = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        kernel = np.zeros((side, side), np.float32)
        kernel[step, step] = 2
        kernel[step - dy * step, step - dx * step] = kernel[step + dy * step, step + dx * step] = -1
        kernels.append(kernel)
    return kernels


SML_KERNELS = ml_kernels(1)[:2]
MDML_KERNELS = [kernel for step in (1, 2, 3) for kernel in ml_kernels(step)]
RADIUS2 = np.add.outer(np.arange(-3, 4) ** 2, np.arange(-3, 4) ** 2)
RING = (RADIUS2 > 4) & (RADIUS2 <= 9)
RDF_KERNEL = ((RADIUS2 <= 1) / 5 - RING / RING.sum()).astype(np.float32)


def detail_sml(image: np.ndarray) -> np.ndarray:
    across, down = (cv2.convertScaleAbs(cv2.filter2D(image, cv2.CV_16S, k), alpha=0.5) for k in SML_KERNELS)
    return cv2.add(across, down, dtype=cv2.CV_16S)


def detail_mdml(image: np.ndarray) -> np.ndarray:
    terms = [cv2.absdiff(cv2.filter2D(image, cv2.CV_16S, k), 0) for k in MDML_KERNELS]
    axes, diagonals = terms[0], terms[2]
    for i, term in enumerate(terms):
        if i % 4 in (0, 1) and i > 0:
            cv2.add(axes, term, dst=axes)
        elif i % 4 in (2, 3) and i > 2:
            cv2.add(diagonals, term, dst=diagonals)
    return cv2.addWeighted(axes, 1, diagonals, 0.5**0.5, 0, dtype=cv2.CV_32F)


def detail_tenengrad(image: np.ndarray) -> np.ndarray:
    across = cv2.Sobel(image, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(image, cv2.CV_32F, 0, 1)
    return cv2.add(cv2.multiply(across, across, dst=across), cv2.multiply(down, down, dst=down), dst=across)


def detail_rdf(image: np.ndarray) -> np.ndarray:
    return cv2.absdiff(cv2.filter2D(image, cv2.CV_32F, RDF_KERNEL), 0)


DETAIL = {"sml": detail_sml, "mdml": detail_mdml, "tenengrad": detail_tenengrad, "rdf": detail_rdf}


def floor(frames: np.ndarray, detail: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The best frame of every pixel; no interpolation, confidence, flags or image in focus."""
    best = np.full(frames.shape[1:], -1, np.float32)
    index = np.zeros(frames.shape[1:], np.uint8)
    for k, frame in enumerate(frames):
        measure = cv2.boxFilter(detail(frame), cv2.CV_32F, (WINDOW, WINDOW))
        better = cv2.compare(measure, best, cv2.CMP_GT)
        index[better > 0] = k
        cv2.max(best, measure, dst=best)
    return index


def seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


@pytest.mark.benchmark(group="reconstruct 1024x1024x20 uint8")
@pytest.mark.parametrize("method", MEASURES)
def test_reconstruction_costs_at_most_twice_the_floor(benchmark, frames, method):
    options = ReconstructionOptions(method=method, window=WINDOW, stabilise=False)
    stack = FocalStack(frames, np.arange(float(FRAMES)))
    ours, plain = lambda: reconstruct(stack, options), lambda: floor(frames, DETAIL[method])
    same = np.abs(ours().height_um - plain()) <= 1
    assert same[8:-8, 8:-8].mean() > 0.99, "both must find the same peaks"
    times = [(seconds(ours), seconds(plain)) for _ in range(15)]
    ours_s, plain_s = (min(t) for t in zip(*times, strict=True))
    stabilised_s = min(
        seconds(lambda: reconstruct(stack, options.model_copy(update={"stabilise": True}))) for _ in range(3)
    )
    benchmark.pedantic(ours, rounds=1)
    benchmark.extra_info.update(floor_ms=plain_s * 1e3, ratio=ours_s / plain_s)
    print(
        f"\n{method}: {ours_s * 1e3:.0f} ms, stabilised {stabilised_s * 1e3:.0f} ms, "
        f"floor {plain_s * 1e3:.0f} ms, ratio {ours_s / plain_s:.2f}"
    )
    assert ours_s <= 2 * plain_s


@pytest.mark.benchmark(group="streaming 1024x1024")
@pytest.mark.parametrize(
    ("align", "regularisation", "limit_ms"), [("none", 0.0, 100), ("none", 1.0, 1000), ("similarity", 0.0, 300)]
)
def test_streaming_latency(benchmark, frames, align, regularisation, limit_ms):
    """Time per frame, and from the last frame to the final map (its own measure included)."""
    per_frame, latency = [], []
    for _ in range(5):
        streaming = StreamingReconstruction(
            ReconstructionOptions(method="mdml", align=align, regularisation=regularisation)
        )
        for z, frame in enumerate(frames[:-1]):
            per_frame.append(seconds(lambda s=streaming, f=frame, z=z: s.add(f, float(z))))
        latency.append(seconds(lambda s=streaming: (s.add(frames[-1], float(FRAMES)), s.finish())))
    live = statistics.median(seconds(streaming.height_map) for _ in range(5))
    benchmark.pedantic(streaming.finish, rounds=1)
    last_ms = statistics.median(latency) * 1e3
    benchmark.extra_info.update(last_frame_to_map_ms=last_ms)
    print(
        f"\nalign {align}, regularisation {regularisation}: {statistics.median(per_frame) * 1e3:.1f} ms per frame, "
        f"live map {live * 1e3:.0f} ms, last frame to final map {last_ms:.0f} ms"
    )
    assert last_ms <= limit_ms
