"""What the safety of a capture costs, beside writing the same bytes to a plain file with the same fsyncs."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from models.capture_file import StackWriter
from models.storage import open_stack, write_stack

pytestmark = pytest.mark.benchmark

SHAPE, COUNT = (2048, 2048), 30


def camera_frames() -> list[np.ndarray]:
    """Three different 12-bit frames with photon noise, used in turn."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    scene = 1200 + 800 * np.sin(row / 40) * np.cos(column / 55)
    return [np.clip(rng.normal(scene, np.sqrt(scene)), 0, 4095).astype(np.uint16) for _ in range(3)]


def plain_file(path: Path, frames: list[np.ndarray]) -> None:
    with open(path, "wb") as file:
        for index in range(COUNT):
            file.write(frames[index % 3].data)
            file.flush()
            if (index + 1) % 4 == 0:
                os.fsync(file.fileno())
        os.fsync(file.fileno())


def sample_file(path: Path, frames: list[np.ndarray]) -> None:
    with StackWriter(path, image_shape=SHAPE, dtype=np.uint16, frame_count=COUNT) as writer:
        for index in range(COUNT):
            writer.append(frames[index % 3], z_um=index, z_requested_um=index, time_s=0)
        writer.complete()


def seconds(task, *words) -> float:
    start = time.perf_counter()
    task(*words)
    return time.perf_counter() - start


def test_capture_beside_a_plain_file(benchmark, tmp_path):
    frames = camera_frames()
    plain, sample = [], []

    def one_round() -> None:
        for name, task, times in (("a.raw", plain_file, plain), ("a.h5", sample_file, sample)):
            times.append(seconds(task, tmp_path / name, frames))
            (tmp_path / name).unlink()

    benchmark.pedantic(one_round, rounds=3, warmup_rounds=1)
    megabytes = COUNT * frames[0].nbytes / 1e6
    ratio = float(np.median(sample) / np.median(plain))
    rates = megabytes / np.median(sample), megabytes / np.median(plain)
    print(f"\ncapture {rates[0]:.0f} MB/s, plain file {rates[1]:.0f} MB/s: {ratio:.2f} x the time of the plain file")
    benchmark.extra_info["ratio"] = ratio
    assert ratio < 2


def test_reading_beside_numpy(benchmark, tmp_path):
    frames = camera_frames()
    plain_file(tmp_path / "a.raw", frames)
    sample_file(tmp_path / "a.h5", frames)
    stack = open_stack(tmp_path / "a.h5")
    plain, sample = [], []

    def read_plain() -> None:
        for index in range(COUNT):
            np.fromfile(tmp_path / "a.raw", np.uint16, frames[0].size, offset=index * frames[0].nbytes)

    def read_sample() -> None:
        for index in range(COUNT):
            stack.frames[index]

    def one_round() -> None:
        plain.append(seconds(read_plain))
        sample.append(seconds(read_sample))

    benchmark.pedantic(one_round, rounds=3, warmup_rounds=1)
    ratio = float(np.median(sample) / np.median(plain))
    per_frame = 1e3 * float(np.median(sample)) / COUNT
    print(f"\nreading a frame, opening and closing the file each time: {per_frame:.1f} ms, {ratio:.2f} x np.fromfile")
    benchmark.extra_info["ratio"] = ratio


def test_compression(benchmark, tmp_path):
    frames = camera_frames()
    sizes = []

    def one_round() -> None:
        path = tmp_path / "a.h5"
        sample_file(path, frames)
        before = path.stat().st_size
        write_stack(path, open_stack(path))
        sizes.append(before / path.stat().st_size)
        path.unlink()

    benchmark.pedantic(one_round, rounds=1)
    print(f"\n12-bit camera noise becomes {sizes[0]:.2f} times smaller")
    assert sizes[0] > 1.3
