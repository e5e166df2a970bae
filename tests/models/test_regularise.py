"""Regularisation: weak pixels follow confident neighbours, edges and confident pixels stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.focus.regularise import regularise
from models.height_map import Flag, HeightMap

SHAPE = (60, 80)


def engraved(confidence: float = 0.95, seed: int = 0) -> HeightMap:
    """A dark floor at -20 in bright land at 0, with a little noise."""
    rng = np.random.default_rng(seed)
    floor = np.zeros(SHAPE, bool)
    floor[15:45, 20:60] = True
    return HeightMap(
        height_um=(np.where(floor, -20, 0) + rng.normal(0, 0.05, SHAPE)).astype(np.float32),
        confidence=np.full(SHAPE, confidence, np.float32),
        flags=np.zeros(SHAPE, np.uint8),
        all_in_focus=(np.where(floor, 40, 180) + rng.normal(0, 3, SHAPE)).astype(np.uint8),
    )


def spoiled(where: tuple[slice, slice], height_um: float, confidence: float) -> tuple[HeightMap, HeightMap]:
    """The engraved map, and the same with a patch of wrong heights."""
    good, bad = engraved(), engraved()
    bad.height_um[where] = height_um
    bad.confidence[where] = confidence
    return good, bad


def test_strength_zero_returns_the_map_itself():
    height_map = engraved()
    assert regularise(height_map, 0.0, 1.0) is height_map


def test_a_confident_map_stays_as_it_is():
    height_map = engraved()
    smooth = regularise(height_map, 1.0, 1.0)
    np.testing.assert_allclose(smooth.height_um, height_map.height_um, atol=0.02)
    np.testing.assert_array_equal(smooth.confidence, height_map.confidence)
    assert not smooth.flags.any()


def test_a_weak_patch_follows_its_surroundings_and_is_flagged():
    patch = np.s_[25:33, 35:43]
    good, bad = spoiled(patch, 12.0, 0.05)
    smooth = regularise(bad, 1.0, 1.0)
    assert np.abs(smooth.height_um - good.height_um)[patch].mean() < 1.0
    assert smooth.has_flag(Flag.SMOOTHED)[patch].all()
    flagged = smooth.has_flag(Flag.SMOOTHED)
    flagged[patch] = False
    assert not flagged.any()
    assert (smooth.confidence[patch] < 0.1).all()


def test_the_edge_of_a_cell_stays_sharp_though_its_pixels_are_weak():
    good = engraved()
    weak = engraved()
    weak.confidence[:, 17:23] = 0.2
    smooth = regularise(weak, 1.0, 1.0)
    assert np.abs(smooth.height_um - good.height_um).max() < 1.0


def test_missing_stays_missing_and_spoils_nothing():
    height_map = engraved()
    height_map.height_um[10:20, 10:20] = np.nan
    height_map.confidence[10:20, 10:20] = 0
    smooth = regularise(height_map, 3.0, 1.0)
    np.testing.assert_array_equal(np.isnan(smooth.height_um), np.isnan(height_map.height_um))
    assert not smooth.has_flag(Flag.SMOOTHED)[10:20, 10:20].any()


def test_a_map_without_any_height():
    nothing = HeightMap(
        np.full(SHAPE, np.nan, np.float32),
        np.zeros(SHAPE, np.float32),
        np.full(SHAPE, Flag.NO_PEAK, np.uint8),
        np.zeros(SHAPE, np.uint8),
    )
    smooth = regularise(nothing, 1.0, 1.0)
    assert np.isnan(smooth.height_um).all()
    assert (smooth.flags == Flag.NO_PEAK).all()


@given(seed=st.integers(0, 1000), strength=st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_the_interval_of_a_moved_height_holds_the_one_that_it_had(seed, strength):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 20)), int(rng.integers(2, 20)))
    half68 = rng.uniform(0, 3, shape).astype(np.float32)
    half68[0, 0] = np.nan  # nobody can say, and smoothing does not tell
    before = HeightMap(
        rng.normal(0, 5, shape).astype(np.float32),
        rng.uniform(0, 1, shape).astype(np.float32),
        np.zeros(shape, np.uint8),
        rng.integers(0, 255, shape, dtype=np.uint8),
        interval68_um=half68,
        interval95_um=2 * half68,
    )
    after = regularise(before, strength, 1.0)
    for old, new in ((half68, after.interval68_um), (2 * half68, after.interval95_um)):
        known = np.isfinite(old)
        assert np.array_equal(np.isfinite(new), known)
        for sign in (-1, 1):
            end = (before.height_um + sign * old)[known]
            assert (np.abs(end - after.height_um[known]) <= new[known] + 1e-4).all()
    unmoved = after.height_um == before.height_um
    assert np.array_equal(after.interval68_um[unmoved], half68[unmoved], equal_nan=True)


def test_maps_without_intervals_get_none():
    assert regularise(engraved(), 1.0, 1.0).interval68_um is None


@given(seed=st.integers(0, 1000), strength=st.floats(0.01, 100), offset_um=st.sampled_from([0.0, 5000.0, -40000.0]))
@settings(max_examples=25, deadline=None)
def test_heights_stay_within_their_range_at_any_level(seed, strength, offset_um):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 20)), int(rng.integers(2, 20)))
    height_map = HeightMap(
        (rng.normal(0, 5, shape) + offset_um).astype(np.float32),
        rng.uniform(0, 1, shape).astype(np.float32),
        np.zeros(shape, np.uint8),
        rng.integers(0, 255, shape, dtype=np.uint8),
    )
    smooth = regularise(height_map, strength, 1.0).height_um
    slack = 1e-3 + 1e-6 * abs(offset_um)
    assert smooth.min() >= height_map.height_um.min() - slack
    assert smooth.max() <= height_map.height_um.max() + slack


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_noise_on_a_weak_slope_shrinks(strength):
    rng = np.random.default_rng(1)
    truth = np.broadcast_to(np.linspace(0, 8, SHAPE[1]), SHAPE).astype(np.float32)
    wrong = rng.random(SHAPE) < 0.2
    height = np.where(wrong, rng.uniform(-10, 20, SHAPE), truth + rng.normal(0, 0.3, SHAPE)).astype(np.float32)
    confidence = np.where(wrong, rng.uniform(0, 0.2, SHAPE), rng.uniform(0.2, 0.7, SHAPE)).astype(np.float32)
    grey = rng.normal(100, 5, SHAPE).astype(np.uint8)
    noisy = HeightMap(height, confidence, np.zeros(SHAPE, np.uint8), grey)
    smooth = regularise(noisy, strength, 1.0)
    assert np.abs(smooth.height_um - truth).mean() < 0.6 * np.abs(height - truth).mean()
