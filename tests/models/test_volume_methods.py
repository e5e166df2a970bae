"""Methods of the whole focus volume: known surfaces, noise, steps that differ, both directions, nothing to see."""

import threading
import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import Cancelled, InputError
from models.evaluate import compare
from models.focal_stack import FocalStack
from models.focus import volume as volume_module
from models.focus.robust import regularised_volume, smooth_along_z
from models.focus.tft import BANDS, bands, fused
from models.focus.variational import _adjoint, _gradient
from models.focus.volume import PLANES, VOLUME_METHODS, VOLUMES, peak_heights, volume_heights
from models.height_map import Flag
from models.methods import ReconstructionOptions
from models.reconstruct import reconstruct
from tests.data import needs_shared

SHAPE = (72, 80)
STEPS = np.arange(14.0)
BLURS = 0.6 * np.arange(20)


def surface(name: str) -> np.ndarray:
    """Heights in steps, (H, W), between 3 and 10 of the 14 frames."""
    y, x = np.indices(SHAPE)
    if name == "sphere":
        return np.sqrt(245.0**2 - (y - 36) ** 2 - (x - 40) ** 2) - 235
    if name == "step":
        return np.where(x < 40, 4.0, 9.0)
    return 3 + 7 * x / SHAPE[1]


def seen(
    truth: np.ndarray, z: np.ndarray = STEPS, noise: float = 1.0, contrast: float = 60.0, grain_px: float = 0.0
) -> FocalStack:
    """A textured surface under a Gaussian blur that grows by 0.6 px with every step out of focus."""
    rng = np.random.default_rng(0)
    texture = rng.uniform(-1, 1, SHAPE)
    if grain_px > 0:
        texture = cv2.GaussianBlur(texture, (0, 0), grain_px)
    texture = 120 + contrast * texture / np.abs(texture).max()
    levels = np.stack([texture, *(cv2.GaussianBlur(texture, (0, 0), blur) for blur in BLURS[1:])])
    rows, columns = np.indices(SHAPE)
    frames = []
    for height in z:
        level = np.clip(np.abs(truth - height), 0, len(BLURS) - 2)
        below, part = np.floor(level).astype(int), level % 1
        image = levels[below, rows, columns] * (1 - part) + levels[below + 1, rows, columns] * part
        frames.append(np.clip(image + rng.normal(0, noise, SHAPE), 0, 255).astype(np.uint8))
    return FocalStack(np.stack(frames), np.asarray(z, dtype=float), 0.5)


def error_steps(height_map, truth: np.ndarray, step_um: float = 1.0) -> float:
    return float(np.abs(height_map.height_um - truth).mean() / step_um)


@pytest.mark.parametrize("method", VOLUME_METHODS)
@pytest.mark.parametrize(("name", "limit"), [("sphere", 0.1), ("step", 0.03), ("ramp", 0.07)])
def test_a_known_surface_is_found(method, name, limit):
    truth = surface(name)
    height_map = volume_heights(seen(truth), method)
    assert error_steps(height_map, truth) < limit
    assert np.median(height_map.confidence) > 0.8
    assert not height_map.has_flag(Flag.NO_PEAK).any()
    assert height_map.has_flag(Flag.PEAK_AT_END).mean() < 0.01
    assert height_map.height_um.dtype == height_map.confidence.dtype == np.float32
    assert height_map.method == height_map.parameters["method"] == method
    assert height_map.parameters["window"] == 9
    assert height_map.pixel_um == 0.5


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_the_step_stays_a_step(method):
    truth = surface("step")
    height_um = volume_heights(seen(truth), method).height_um
    away = np.abs(np.arange(SHAPE[1]) - 39.5) > 8
    assert np.abs(height_um - truth)[:, away].mean() < 0.12
    between = (height_um > 5) & (height_um < 8)
    assert between.mean() < 8 / SHAPE[1]


@pytest.mark.parametrize("method", VOLUME_METHODS)
@pytest.mark.parametrize("name", ["sphere", "step", "ramp"])
def test_noise_does_less_harm_than_without_regularisation(method, name):
    truth = surface(name)
    noisy = seen(truth, noise=15.0, grain_px=1.0)
    plain = error_steps(reconstruct(noisy, ReconstructionOptions()), truth)
    assert plain > 0.5
    assert error_steps(volume_heights(noisy, method), truth) < 0.7 * plain


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_both_directions_give_one_map(method):
    rising = seen(surface("sphere"))
    falling = FocalStack(rising.frames[::-1], rising.z_um[::-1], 0.5)
    one, other = volume_heights(rising, method), volume_heights(falling, method)
    np.testing.assert_array_equal(one.height_um, other.height_um)
    np.testing.assert_array_equal(one.flags, other.flags)
    np.testing.assert_array_equal(one.all_in_focus, other.all_in_focus)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-3)


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_unequal_steps_and_any_origin(method):
    z = np.array([0, 1, 2, 3.4, 4, 5, 5.7, 6.6, 8, 9, 9.6, 10.8, 12, 13])
    truth = surface("sphere")
    stack = seen(truth, z)
    stack = replace(stack, z_um=stack.z_um * 2.5 - 400)
    height_map = volume_heights(stack, method)
    assert np.abs(height_map.height_um - (truth * 2.5 - 400)).mean() < 0.2 * stack.step_um
    assert np.abs(np.median(height_map.height_um - (truth * 2.5 - 400))) < 0.12 * stack.step_um


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_a_constant_image_has_no_peak(method):
    height_map = volume_heights(FocalStack(np.full((6, 30, 31), 77, np.uint8), np.arange(6.0)), method)
    assert height_map.has_flag(Flag.NO_PEAK).all()
    assert np.isnan(height_map.height_um).all()
    assert (height_map.confidence == 0).all()
    assert (height_map.all_in_focus == 77).all()


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_noise_alone_is_not_believed(method):
    noise = np.random.default_rng(1).normal(120, 5, (12, 60, 60)).astype(np.uint8)
    height_map = volume_heights(FocalStack(noise, np.arange(12.0)), method)
    assert (height_map.confidence > 0.5).mean() < 0.03
    assert height_map.has_flag(Flag.NO_PEAK).mean() > 0.5
    assert np.isfinite(height_map.height_um).all()


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_a_surface_beyond_the_stack_is_flagged(method):
    truth = surface("ramp")
    stack = seen(truth, STEPS[5:])  # the lower left of the ramp is never in focus
    height_map = volume_heights(stack, method)
    columns = truth[0]
    beyond, inside = columns < 4, columns > 6.5
    at_end = height_map.has_flag(Flag.PEAK_AT_END)
    assert at_end[:, beyond].mean() > 0.95
    assert at_end[:, inside].mean() < 0.02
    assert height_map.confidence[:, beyond].max() <= 0.25
    assert height_map.height_um.min() >= 5


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_what_is_moved_is_flagged_and_was_worth_it(method):
    truth = surface("sphere")
    noisy = seen(truth, noise=15.0, grain_px=1.0)
    own, height_map = reconstruct(noisy, ReconstructionOptions(method="mdml")), volume_heights(noisy, method)
    moved = np.abs(height_map.height_um - own.height_um) > 1
    assert moved.any()
    np.testing.assert_array_equal(height_map.has_flag(Flag.SMOOTHED), moved)
    assert np.abs(height_map.height_um - truth)[moved].mean() < 0.6 * np.abs(own.height_um - truth)[moved].mean()
    assert (height_map.confidence <= own.confidence + 1e-6).all()
    assert height_map.confidence[moved].mean() < 0.5 * own.confidence[~moved].mean()


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_the_picture_is_in_focus_and_in_colour(method):
    grey = seen(surface("ramp"))
    colour = replace(grey, frames=np.stack([grey.frames, grey.frames // 2, grey.frames], axis=-1))
    height_map = volume_heights(colour, method)
    assert height_map.all_in_focus.shape == (*SHAPE, 3)
    nearest = np.clip(np.rint(height_map.height_um), 0, 13).astype(int)
    expected = np.take_along_axis(grey.frames, nearest[None], axis=0)[0]
    same = (height_map.all_in_focus[..., 0] == expected) | (np.abs(height_map.height_um % 1 - 0.5) < 1e-3)
    assert same.all()


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_saturation_and_provenance_are_kept(method):
    stack = seen(surface("ramp"))
    frames = stack.frames.copy()
    frames[:, :10, :10] = 255
    source = {"provenance": {"file": "stack.h5"}}
    height_map = volume_heights(replace(stack, frames=frames, metadata=source), method)
    assert height_map.has_flag(Flag.SATURATED)[:10, :10].all()
    assert height_map.provenance == {"file": "stack.h5"}


@pytest.mark.parametrize("method", VOLUME_METHODS)
@pytest.mark.parametrize("shape", [(2, 40, 30), (3, 2, 2), (4, 1, 20), (5, 17, 3)])
def test_small_stacks(method, shape):
    frames = np.random.default_rng(0).integers(0, 65535, shape, dtype=np.uint16)
    height_map = volume_heights(FocalStack(frames, np.arange(float(shape[0]))), method, window=3, stabilise=False)
    assert np.isfinite(height_map.height_um).all()
    assert height_map.height_um.min() >= 0
    assert height_map.height_um.max() <= shape[0] - 1


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_progress_rises_to_the_end(method):
    told = []
    volume_heights(seen(surface("ramp")), method, progress=lambda done, in_all: told.append((done, in_all)))
    done = [d for d, _ in told]
    assert done == sorted(done)
    assert told[0] == (0, 28)
    assert told[-1] == (28, 28)
    assert len(set(done)) > 16


@pytest.mark.parametrize("method", VOLUME_METHODS)
@pytest.mark.parametrize("after", [3, 15, 20])
def test_cancel_stops_it_soon(method, after):
    cancel = threading.Event()
    told = []

    def progress(done: int, in_all: int) -> None:
        told.append(done)
        if done >= after:
            cancel.set()

    with pytest.raises(Cancelled):
        volume_heights(seen(surface("ramp")), method, progress=progress, cancel=cancel)
    assert told[-1] == after or told[-1] <= after + 2


def test_an_unknown_method_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"'rdff'.*rr, variational, tft"):
        volume_heights(seen(surface("ramp")), "rdff")


def test_too_large_a_stack_is_refused_before_the_work(monkeypatch):
    class Endless:
        shape, dtype = (5000, 100_000, 100_000), np.dtype(np.uint8)

        def __getitem__(self, index: int) -> np.ndarray:
            raise AssertionError("not read")

    stack = FocalStack(Endless(), np.arange(5000.0))
    with pytest.raises(InputError, match="GB of memory"):
        volume_heights(stack, "rr")
    monkeypatch.setattr(volume_module, "_check_memory", lambda stack: None)
    with pytest.raises(InputError, match="GB of memory"):
        volume_heights(stack, "rr")


@pytest.mark.parametrize("method", VOLUME_METHODS)
def test_memory_is_what_it_says(method):
    frames = np.random.default_rng(0).integers(0, 255, (12, 200, 200), dtype=np.uint8)
    stack = FocalStack(frames, np.arange(12.0))
    volume_heights(stack, method)
    tracemalloc.start()
    try:
        volume_heights(stack, method)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 200 * 200 * (12 * VOLUMES + PLANES)


@given(
    seed=st.integers(0, 1000),
    strength=st.floats(0.1, 10),
    gaps=st.lists(st.floats(0.2, 3.0), min_size=2, max_size=12),
)
@settings(max_examples=25, deadline=None)
def test_smoothing_along_z_keeps_constants_and_the_sum_of_a_curve(seed, strength, gaps):
    z = np.concatenate([[0.0], np.cumsum(gaps)])
    rng = np.random.default_rng(seed)
    curves = rng.uniform(0, 1, (len(z), 3, 4)).astype(np.float32)
    smooth = curves.copy()
    smooth_along_z(smooth, z, strength)
    np.testing.assert_allclose(smooth.sum(axis=0), curves.sum(axis=0), rtol=1e-4)
    assert smooth.min() >= 0
    flat = np.full_like(curves, 0.7)
    smooth_along_z(flat, z, strength)
    np.testing.assert_allclose(flat, 0.7, rtol=1e-5)


def test_a_symmetric_peak_stays_where_it_is():
    z = np.arange(9.0)
    curves = np.exp(-(((z - 4) / 2) ** 2)).astype(np.float32)[:, None, None] * np.ones((1, 4, 5), np.float32)
    np.testing.assert_allclose(peak_heights(curves, z), 4, atol=1e-4)
    grey = np.full((9, 4, 5), 100, np.uint8)
    np.testing.assert_allclose(peak_heights(regularised_volume(curves, grey, z, lambda _: None), z), 4, atol=1e-3)


def test_of_equal_values_the_higher_one_wins():
    assert (peak_heights(np.ones((4, 2, 2), np.float32), np.arange(4.0)) == 3).all()


def test_gradient_and_its_adjoint_belong_together():
    rng = np.random.default_rng(0)
    height, field = rng.normal(size=(7, 9)).astype(np.float32), rng.normal(size=(2, 7, 9)).astype(np.float32)
    assert np.vdot(_gradient(height), field) == pytest.approx(np.vdot(height, _adjoint(field)), rel=1e-4)


def test_bands_answer_to_detail_and_to_nothing_else():
    flat = np.full((5, 20, 24), 50, np.uint8)
    every = [band.max() for band in bands(flat, np.arange(5.0), 5, stabilise=True, check=lambda: None)]
    assert len(every) == BANDS
    assert max(every) < 1e-4


def test_fusion_leaves_the_unsteady_images_out():
    rng = np.random.default_rng(0)
    truth = surface("sphere").astype(np.float32)
    good = [truth + rng.normal(0, 0.1, SHAPE).astype(np.float32) for _ in range(4)]
    bad = [rng.uniform(0, 13, SHAPE).astype(np.float32) for _ in range(5)]
    error = np.abs(fused([*bad, *good], 9) - truth).mean()
    assert error < 0.8 * np.abs(good[0] - truth).mean()


@needs_shared
@pytest.mark.parametrize(("method", "limit"), [("rr", 0.11), ("variational", 0.125), ("tft", 0.1)])
def test_a_rendered_rock(method, limit):
    import tifffile

    from tests.models.test_real_stacks import folder, load

    part = np.s_[100:300, 100:300]
    stack = load("cou_rock_3_41f")
    stack = replace(stack, frames=stack.frames[(slice(None), *part)])
    truth = tifffile.imread(folder("cou_rock_3_41f") / "gt_index.tif")[part]
    assert compare(volume_heights(stack, method), truth, step_um=1.0).mean_absolute_um < limit
