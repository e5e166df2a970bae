"""What a sweep costs per frame besides the camera's own time and the moves, on Basler's emulated camera.

The alternative in the same run is the bare SDK: trigger, wait, give the buffer back, with no copy and no file.
"""

import resource
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

SIZE, COUNT = 2048, 60


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


@pytest.fixture
def axis():
    stage = SimulatedStage(SimulatedStageSettings(low_um=-1000, high_um=1000, start_um=0, speed_um_s=100_000))
    return FocusAxis(stage)


def bare_pictures(camera) -> None:
    """The camera's own time: nothing of this program."""
    from pypylon import pylon

    device = camera._camera
    for _picture in range(COUNT):
        device.WaitForFrameTriggerReady(1000, pylon.TimeoutHandling_ThrowException)
        device.ExecuteSoftwareTrigger()
        device.RetrieveResult(2000, pylon.TimeoutHandling_ThrowException).Release()


def moves(axis, plan) -> None:
    for z_um in plan.z_um:
        axis.move_to(float(z_um))


def milliseconds_per_frame(task, *words) -> float:
    began_s = time.perf_counter()
    task(*words)
    return 1000.0 * (time.perf_counter() - began_s) / COUNT


def resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_sweep_beside_the_bare_camera(benchmark, camera, axis, tmp_path):
    plan = SweepPlan.by_count(top_um=30.0, bottom_um=0.0, frame_count=COUNT)
    bare, moving, sweeping, capturing = [], [], [], []

    def sweep() -> None:
        for _frame in run_sweep(axis, camera, plan):
            pass

    def to_file(path: Path) -> None:
        capture(axis, camera, plan, path)
        path.unlink()

    def one_round() -> None:
        bare.append(milliseconds_per_frame(bare_pictures, camera))
        moving.append(milliseconds_per_frame(moves, axis, plan))
        sweeping.append(milliseconds_per_frame(sweep))
        capturing.append(milliseconds_per_frame(to_file, tmp_path / "stack.h5"))

    benchmark.pedantic(one_round, rounds=3, warmup_rounds=1)
    camera_ms, moves_ms, sweep_ms, capture_ms = (
        float(np.median(times[1:])) for times in (bare, moving, sweeping, capturing)
    )
    overhead_ms = sweep_ms - camera_ms - moves_ms
    print(
        f"\n{SIZE} x {SIZE} uint16, ms per frame: camera {camera_ms:.1f}, moves {moves_ms:.1f}, sweep {sweep_ms:.1f} "
        f"(overhead {overhead_ms:.1f}), into a file {capture_ms:.1f} (overhead {capture_ms - camera_ms - moves_ms:.1f})"
    )
    benchmark.extra_info["overhead_ms"] = overhead_ms
    assert overhead_ms <= 5.0


def test_memory_does_not_grow_with_the_stack(benchmark, camera, axis, tmp_path):
    def stack(frame_count: int) -> float:
        plan = SweepPlan.by_count(top_um=30.0, bottom_um=0.0, frame_count=frame_count)
        capture(axis, camera, plan, tmp_path / f"{frame_count}.h5")
        (tmp_path / f"{frame_count}.h5").unlink()
        return resident_mb()

    peak_mb: list[float] = []
    benchmark.pedantic(lambda: peak_mb.extend([stack(10), stack(200)]), rounds=1)
    print(f"\npeak memory after 10 frames {peak_mb[0]:.0f} MB, after 200 more (1.7 GB) {peak_mb[1]:.0f} MB")
    assert peak_mb[1] - peak_mb[0] < 50
