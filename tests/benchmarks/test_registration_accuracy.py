"""Scans of real instruments laid over maps of the same surfaces, simulated as a focus stack would give them.

Each is resampled, turned, mirrored, tilted, of another scale of heights, with noise, blur, spikes and 5 to 15 % holes.
Errors are rms over the focus map, in its pixels. Run:
python -m pytest tests/benchmarks/test_registration_accuracy.py --benchmark-only -s
"""

import time

import numpy as np
import pytest
import tifffile

from models.labels.registration import register
from tests.data import SHARED, needs_shared
from tests.heights import cells, pair

TURNS = [(2.3, False), (-5.6, True), (93.0, False), (37.0, False), (141.0, True), (178.0, False)]
SURFACES = {
    "ski_base_alicona": {},
    "alicona_al3d": {"zoom": 0.45},
    "coin_dime_truemap": {"zoom": 0.5},
    "laser_texture_dcm3d": {},
    "rings_wyko_1": {"zoom": 0.9},
}
MOST_CPU_S = 15.0


def timed(both):
    start = time.process_time()
    found = register(both.focus, both.scan)
    return found, time.process_time() - start


@needs_shared
@pytest.mark.parametrize(("turn_deg", "flip"), TURNS)
@pytest.mark.parametrize("name", SURFACES)
def test_real_surfaces(benchmark, name, turn_deg, flip):
    surface = tifffile.imread(SHARED / "heightmaps" / name / "height_um.tif")
    seed = TURNS.index((turn_deg, flip))
    rng = np.random.default_rng(seed)
    both = pair(
        surface,
        seed=seed,
        turn_deg=turn_deg,
        flip=flip,
        scale_z=1 + rng.uniform(-0.005, 0.005),
        missing=rng.uniform(0.05, 0.15),
        **SURFACES[name],
    )
    found, cpu_s = benchmark.pedantic(timed, args=(both,), rounds=1)
    error_px = both.error_px(found.matrix)
    print(
        f"\n{name} {turn_deg}: {error_px:.3f} px (stated {found.uncertainty_px:.3f}), next best "
        f"{found.runner_up_ratio:.2f}, {cpu_s:.1f} s CPU"
    )
    assert found.accepted, found.doubts
    assert found.flip == flip
    assert error_px <= 0.05
    assert cpu_s <= MOST_CPU_S


@needs_shared
@pytest.mark.parametrize(("turn_deg", "flip"), TURNS)
def test_a_striated_surface(benchmark, turn_deg, flip):
    """A bullet land: strong form, and only weak detail along its striae. Right, or not accepted."""
    surface = tifffile.imread(SHARED / "heightmaps" / "bullet_land_1" / "height_um.tif")
    shapes = {"focus_shape": (300, 512), "scan_shape": (560, 900)}
    both = pair(surface, seed=1, turn_deg=turn_deg, flip=flip, noise=0.003, **shapes)
    found, cpu_s = benchmark.pedantic(timed, args=(both,), rounds=1)
    error_px = both.error_px(found.matrix)
    print(f"\n{turn_deg}: {error_px:.3f} px, accepted {found.accepted}, {cpu_s:.1f} s CPU")
    assert error_px <= 0.25 or not found.accepted
    assert cpu_s <= MOST_CPU_S


@pytest.mark.parametrize(("turn_deg", "flip"), [(2.3, False), (141.0, True)])
@pytest.mark.parametrize("pitch_px", [14.0, 40.0])
@pytest.mark.parametrize("texture_um", [0.0, 0.3, 1.0, 2.0])
def test_rolls_of_equal_cells_are_never_accepted_wrongly(benchmark, texture_um, pitch_px, turn_deg, flip):
    surface = cells(800, pitch_px, texture_um, 10)
    both = pair(surface, seed=10, turn_deg=turn_deg, flip=flip, focus_shape=(400, 400), scan_shape=(640, 640))
    found, cpu_s = benchmark.pedantic(timed, args=(both,), rounds=1)
    error_px = both.error_px(found.matrix)
    print(
        f"\ntexture {texture_um} um, pitch {pitch_px} px, {turn_deg}: {error_px:.3f} px, "
        f"next best {found.runner_up_ratio:.2f}, accepted {found.accepted}, {cpu_s:.1f} s CPU"
    )
    assert error_px <= 0.05 or not found.accepted
    assert cpu_s <= MOST_CPU_S
