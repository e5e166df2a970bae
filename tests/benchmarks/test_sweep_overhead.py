"""What a sweep costs per frame besides the camera's own time and the moves, on Basler's emulated camera.

The alternatives in the same run: the bare SDK - trigger, wait, give the buffer back, with no copy and no file - and
the same bytes written to a plain file, which is what the disk can do. The file is written behind the capture: a step
that takes longer than writing a frame hides it, a slower disk makes the sweep wait. What the program itself costs with
a file shows in memory, which is a disk that never makes it wait. Figures are medians over short rounds in which all
of it is measured, one after the other: some milliseconds are less than whatever else the computer does.
"""

import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from hardware.camera import CameraSettings, Roi
from hardware.cameras.settings import BaslerCameraProfile
from hardware.motion import FocusAxis
from hardware.simulator.stage import SimulatedStage, SimulatedStageSettings
from hardware.sweep import SweepPlan, capture, run_sweep

pytestmark = pytest.mark.benchmark

SIZE, COUNT, ROUNDS = 2048, 12, 12
PLAN = SweepPlan.by_count(top_um=30.0, bottom_um=0.0, frame_count=COUNT)
MEMORY = Path("/dev/shm")
LONG = 100
STEPS_MS = (0, 33, 100)
"""Settling that stands for move, settling and exposure of a real microscope: nothing is computed meanwhile."""


@pytest.fixture
def camera(monkeypatch):
    pytest.importorskip("pypylon", reason="pypylon is not installed")
    from hardware.cameras.basler import BaslerCamera

    monkeypatch.setenv("PYLON_CAMEMU", "1")
    settings = CameraSettings(exposure_ms=1.0, bit_depth=16, roi=Roi(width=SIZE, height=SIZE))
    opened = BaslerCamera(
        BaslerCameraProfile(
            driver="basler", sensor_pixel_um=3.45, settings=settings, features={"AcquisitionFrameRateEnable": False}
        )
    )
    yield opened
    opened.close()


def an_axis(settle_ms: float = 0.0) -> FocusAxis:
    stage = SimulatedStage(SimulatedStageSettings(low_um=-1000, high_um=1000, start_um=0, speed_um_s=100_000))
    return FocusAxis(stage, settle_ms=settle_ms)


def bare_pictures(camera) -> float:
    """Milliseconds that a picture takes by the camera's own SDK: nothing of this program."""
    from pypylon import pylon

    device, began_s = camera._camera, time.perf_counter()
    for _picture in range(COUNT):
        device.WaitForFrameTriggerReady(1000, pylon.TimeoutHandling_ThrowException)
        device.ExecuteSoftwareTrigger()
        device.RetrieveResult(2000, pylon.TimeoutHandling_ThrowException).Release()
    return 1000.0 * (time.perf_counter() - began_s) / COUNT


def moves(axis) -> float:
    """Milliseconds from the end of one move to the end of the next; the way to the first height does not count."""
    ends_s = []
    for z_um in PLAN.z_um:
        axis.move_to(float(z_um))
        ends_s.append(time.monotonic())
    return pace_ms(ends_s)


def sweep(axis, camera) -> float:
    """Milliseconds from one exposure to the next."""
    return pace_ms([frame.time_s for frame in run_sweep(axis, camera, PLAN)])


def to_file(axis, camera, folder: Path, plan: SweepPlan = PLAN) -> float:
    """The same with a file."""
    began_s: list[float] = []
    path = capture(axis, camera, plan, folder / "stack.h5", on_frame=lambda frame: began_s.append(frame.time_s))
    path.unlink()
    return pace_ms(began_s)


def pace_ms(began_s: list[float]) -> float:
    return 1000.0 * (began_s[-1] - began_s[0]) / (len(began_s) - 1)


def plain_file(path: Path, frame_count: int) -> float:
    """Milliseconds per frame of as many bytes, as often asked to be on the disk."""
    image = np.random.default_rng(0).integers(0, 4096, (SIZE, SIZE), dtype=np.uint16)
    began_s = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for index in range(frame_count):
            file.write(image.data)
            if (index + 1) % 4 == 0:
                os.fsync(file.fileno())
    end_s = time.perf_counter()
    path.unlink()
    return 1000.0 * (end_s - began_s) / frame_count


def resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture
def memory():
    """A folder that no disk slows down."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < 2 * COUNT * SIZE * SIZE * 2:
        pytest.skip("needs a file system in memory")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


def test_sweep_beside_the_bare_camera(benchmark, camera, memory):
    times: dict[int, list[tuple[float, ...]]] = {step_ms: [] for step_ms in STEPS_MS}

    def one_round() -> None:
        for step_ms, measured in times.items():
            axis = an_axis(step_ms)
            camera_ms = bare_pictures(camera)
            moves_ms = moves(axis)
            paces = sweep(axis, camera), to_file(axis, camera, memory)
            measured.append((camera_ms, moves_ms, *(pace - camera_ms - moves_ms for pace in paces)))

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=1)
    print(
        f"\n{SIZE} x {SIZE} uint16, ms per frame; overhead:\n"
        "camera alone   move + settling   without a file   file in memory"
    )
    for step_ms, measured in times.items():
        camera_ms, moves_ms, bare_ms, fast_ms = np.median(measured[1:], axis=0)
        print(f"{camera_ms:12.1f}   {moves_ms:15.1f}   {bare_ms:14.1f}   {fast_ms:14.1f}")
        benchmark.extra_info[f"{step_ms} ms"] = {"without": bare_ms, "memory": fast_ms}
        assert bare_ms <= 5.0
        if step_ms:
            assert fast_ms <= 5.0, "a step hides the file"


@pytest.mark.parametrize("step_ms", STEPS_MS)
def test_a_long_stack_beside_what_the_disk_can_do(benchmark, camera, tmp_path, step_ms):
    """839 MB: more than caches of a disk take at once."""
    plan = SweepPlan.by_count(top_um=30.0, bottom_um=0.0, frame_count=LONG)
    axis, measured = an_axis(step_ms), []

    def one_round() -> None:
        alone_ms = bare_pictures(camera) + moves(axis)
        measured.append((alone_ms, to_file(axis, camera, tmp_path, plan), plain_file(tmp_path / "plain", LONG)))

    benchmark.pedantic(one_round, rounds=3)
    alone_ms, pace_with_file_ms, disk_ms = np.median(measured, axis=0)
    print(
        f"\ncamera and moves {alone_ms:.1f} ms per frame, with the file {pace_with_file_ms:.1f} (overhead "
        f"{pace_with_file_ms - alone_ms:.1f}); a plain file takes {disk_ms:.1f} "
        f"({SIZE * SIZE * 2e-3 / disk_ms:.0f} MB/s)"
    )
    assert pace_with_file_ms < 1.5 * max(alone_ms, disk_ms) + 5.0, "the slower of the two decides, not their sum"


def test_memory_does_not_grow_with_the_stack(benchmark, camera, tmp_path):
    """Without steps to hide the file, so that as many frames wait for the disk as can be."""

    def stack(frame_count: int) -> float:
        plan = SweepPlan.by_count(top_um=30.0, bottom_um=0.0, frame_count=frame_count)
        capture(an_axis(), camera, plan, tmp_path / f"{frame_count}.h5")
        (tmp_path / f"{frame_count}.h5").unlink()
        return resident_mb()

    peak_mb: list[float] = []
    benchmark.pedantic(lambda: peak_mb.extend([stack(10), stack(200)]), rounds=1)
    print(f"\npeak memory after 10 frames {peak_mb[0]:.0f} MB, after 200 more (1.7 GB) {peak_mb[1]:.0f} MB")
    assert peak_mb[1] - peak_mb[0] < 50
