"""Peak search: exact where it can be exact, and honest where there is little to find."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.focus.peak import PeakSearch
from models.height_map import Flag

ROWS = slice(0, None)


def search(measures: np.ndarray, z_um: np.ndarray, inside: np.ndarray | None = None, relative_noise: float = 0.07):
    """Peaks of (N, H, W) measures; the picture of frame k is k everywhere."""
    found = PeakSearch(measures.shape[1:], np.uint8)
    rising = z_um[1] > z_um[0]
    for k, measure in enumerate(measures.astype(np.float32)):
        image = np.full(measure.shape, k, np.uint8)
        found.add(ROWS, measure, image, k, rising=rising, inside=None if inside is None else inside[k])
    return found.peaks(ROWS, z_um, relative_noise), found


def gaussian(z_um: np.ndarray, centre_um: float, width_um: float, height: float = 100.0) -> np.ndarray:
    return (height * np.exp(-((z_um - centre_um) ** 2) / (2 * width_um**2)))[:, None, None]


@given(
    steps=st.lists(st.floats(0.5, 2.0), min_size=6, max_size=20),
    place=st.floats(0.2, 0.8),
    width=st.floats(0.7, 6.0),
    down=st.booleans(),
    z0=st.floats(-500, 500),
)
@settings(deadline=None)
def test_a_gaussian_curve_on_unequal_steps_is_found_exactly(steps, place, width, down, z0):
    z_um = np.concatenate([[0], np.cumsum(steps)]) * (-1 if down else 1) + z0
    centre = z_um[0] + place * (z_um[-1] - z_um[0])
    peaks, found = search(gaussian(z_um, centre, width), z_um)
    best = int(found.index[0, 0])
    if best in (0, len(z_um) - 1):
        assert peaks.flags[0, 0] & Flag.PEAK_AT_END
        assert peaks.height_um[0, 0] == np.float32(z_um[best])
    else:
        assert peaks.height_um[0, 0] == pytest.approx(centre, abs=2e-3)


@given(seed=st.integers(0, 10_000), frames=st.integers(2, 12), levels=st.sampled_from([3, 1000]))
@settings(deadline=None)
def test_a_sweep_gives_the_same_heights_in_both_directions(seed, frames, levels):
    rng = np.random.default_rng(seed)
    measures = rng.integers(0, levels, (frames, 6, 7)).astype(np.float32)
    z_um = np.cumsum(rng.uniform(0.5, 2, frames))
    up, _ = search(measures, z_um)
    down, _ = search(measures[::-1], z_um[::-1])
    np.testing.assert_allclose(up.height_um, down.height_um, atol=1e-4)
    np.testing.assert_allclose(up.confidence, down.confidence, atol=1e-4)
    np.testing.assert_array_equal(up.flags & Flag.PEAK_AT_END, down.flags & Flag.PEAK_AT_END)


@given(seed=st.integers(0, 10_000), frames=st.integers(2, 12))
@settings(deadline=None)
def test_heights_stay_between_the_neighbours_of_the_best_frame(seed, frames):
    rng = np.random.default_rng(seed)
    measures = rng.gamma(1.0, 10.0, (frames, 5, 5))
    z_um = np.cumsum(rng.uniform(0.1, 5, frames))
    peaks, found = search(measures, z_um)
    best = measures.argmax(axis=0)
    np.testing.assert_array_equal(found.index, best)
    assert (peaks.height_um >= z_um[np.maximum(best - 1, 0)] - 1e-4).all()
    assert (peaks.height_um <= z_um[np.minimum(best + 1, frames - 1)] + 1e-4).all()
    assert ((peaks.confidence >= 0) & (peaks.confidence <= 1)).all()
    np.testing.assert_array_equal(found.all_in_focus, best)


def test_second_neighbours_steady_a_broad_peak():
    """Half the error of the three-point vertex, by a lever twice as long."""
    rng = np.random.default_rng(0)
    z_um = np.arange(30.0)
    measures = gaussian(z_um, 14.3, 6.0) * (1 + rng.normal(0, 0.01, (30, 100, 100)))
    peaks, found = search(measures, z_um)
    rows, columns = np.indices((100, 100))
    before, best, after = (np.log(measures[found.index.astype(int) + d, rows, columns]) for d in (-1, 0, 1))
    three = found.index + 0.5 * (before - after) / (before - 2 * best + after)
    assert np.abs(peaks.height_um - 14.3).mean() < 0.7 * np.abs(three - 14.3).mean()


def test_a_clear_peak_is_trusted_and_one_at_the_end_is_not():
    z_um = np.arange(20.0)
    middle, _ = search(gaussian(z_um, 9.6, 1.5) + 5, z_um)
    end, _ = search(gaussian(z_um, -1.0, 1.5) + 5, z_um)
    assert middle.confidence[0, 0] > 0.85
    assert middle.flags[0, 0] == 0
    assert end.flags[0, 0] == Flag.PEAK_AT_END
    assert end.confidence[0, 0] <= 0.25
    assert end.height_um[0, 0] == 0.0


def test_a_broad_clean_peak_is_trusted_though_it_is_flat():
    z_um = np.arange(20.0)
    peaks, _ = search(gaussian(z_um, 9.6, 8.0), z_um)
    assert peaks.confidence[0, 0] > 0.4
    assert peaks.flags[0, 0] == 0


@pytest.mark.parametrize("frames", [3, 10, 40])
def test_noise_alone_earns_no_confidence(frames):
    measures = np.random.default_rng(0).normal(30, 30 * 0.07, (frames, 100, 100))
    peaks, _ = search(measures, np.arange(float(frames)))
    assert peaks.confidence.mean() < 0.05
    assert (peaks.confidence > 0.5).mean() < 0.003
    assert ((peaks.flags & Flag.NO_PEAK) > 0).mean() > 0.85


@pytest.mark.parametrize("spread", [0.2, 0.4])
def test_noise_that_is_not_white_earns_no_confidence_either(spread):
    """Compressed or interpolated pictures vary over the window several times as much as white noise does."""
    measures = np.random.default_rng(0).gamma(spread**-2, 30 * spread**2, (16, 100, 100))
    peaks, _ = search(measures, np.arange(16.0))
    assert (peaks.confidence > 0.5).mean() < 0.08
    assert np.median(peaks.confidence) < 0.15


def test_confidence_grows_with_the_signal():
    rng = np.random.default_rng(1)
    z_um = np.arange(20.0)
    noise = rng.normal(30, 2, (20, 50, 50))
    means = [search(noise + gaussian(z_um, 8.2, 1.5, a), z_um)[0].confidence.mean() for a in (0, 10, 30, 100, 1000)]
    assert means == sorted(means)
    assert means[-1] > 0.85


def test_no_detail_in_any_frame_leaves_the_height_missing():
    peaks, _ = search(np.zeros((5, 2, 2)), np.arange(5.0))
    assert np.isnan(peaks.height_um).all()
    assert (peaks.confidence == 0).all()
    assert (peaks.flags & Flag.NO_PEAK).all()


def test_frames_that_do_not_show_a_pixel_do_not_decide_its_height():
    z_um = np.arange(9.0)
    measures = np.repeat(gaussian(z_um, 4.3, 1.5) + 5, 3, axis=2)
    inside = np.full((9, 1, 3), 255, np.uint8)
    measures[3, 0, 0] = 900  # a false maximum, outside
    inside[3, 0, 0] = 0
    inside[5:, 0, 1] = 0
    inside[:, 0, 2] = 0
    peaks, found = search(measures, z_um, inside)
    assert list(found.index[0, :2]) == [4, 4]
    assert ((peaks.flags & Flag.OUTSIDE) > 0).all()
    assert peaks.height_um[0, 0] == 4.0
    assert np.isnan(peaks.height_um[0, 2])
    assert (peaks.confidence <= 0.25).all()
