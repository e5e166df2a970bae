"""Comparison of a height map with a known truth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from models.errors import InputError
from models.evaluate import bumpiness, compare, figures, mean_figures
from models.height_map import HeightMap


def height_map(heights: ArrayLike, confidence: float | list[list[float]] = 1.0) -> HeightMap:
    height = np.array(heights, np.float32)
    return HeightMap(
        height,
        np.broadcast_to(np.float32(confidence), height.shape).astype(np.float32),
        np.zeros(height.shape, np.uint8),
    )


def test_figures_by_hand():
    found = compare(height_map([[1, 2], [3, 10]]), np.array([[0.0, 2], [4, 4]]), step_um=2.0)
    assert found.mean_absolute_um == 2.0
    assert found.root_mean_square_um == pytest.approx(np.sqrt(38 / 4))
    assert found.median_absolute_um == 1.0
    assert found.bias_um == 1.5
    assert found.bad_fraction == 0.25
    assert found.coverage == 1.0
    assert found.count == 4
    assert found.mean_absolute_steps == 1.0


def test_only_known_found_and_trusted_pixels_count():
    nan = np.nan
    found = compare(
        height_map([[1, nan, 3, 4]], [[0.9, 0.9, 0.9, 0.2]]),
        np.array([[1.5, 2, nan, 9]]),
        step_um=1.0,
        confidence_above=0.5,
    )
    assert found.count == 1
    assert found.mean_absolute_um == 0.5
    assert found.coverage == pytest.approx(1 / 3)


def test_nothing_to_compare_gives_nan_and_no_coverage():
    found = compare(height_map([[np.nan, 1]]), np.array([[1.0, np.nan]]), step_um=1.0)
    assert np.isnan(found.mean_absolute_um)
    assert found.coverage == 0
    assert found.count == 0


@pytest.mark.parametrize("step_um", [0.0, -1.0, float("nan"), float("inf")])
def test_a_step_must_be_a_distance(step_um):
    with pytest.raises(InputError, match="positive"):
        compare(height_map([[1.0]]), np.array([[1.0]]), step_um=step_um)


def test_shapes_must_agree():
    with pytest.raises(InputError, match="2 x 1"):
        compare(height_map([[1.0]]), np.zeros((2, 1)), step_um=1.0)


# ---------------------------------------------------------------- relative errors, bumps, intervals


def test_depth_is_counted_from_one_step_below_the_lowest_focus_position():
    z_um = np.array([30.0, 20, 10])  # descending: the lowest is the last; depths 10, 20 and 30
    found = compare(height_map([[10, 22, 30, 0]]), np.array([[10.0, 20, 20, 12]]), step_um=10.0, z_um=z_um)
    assert found.absolute_relative == pytest.approx((0 + 2 / 20 + 10 / 20 + 12 / 12) / 4)
    assert found.square_relative_um == pytest.approx((0 + 4 / 20 + 100 / 20 + 144 / 12) / 4)
    # ratios 1, 1.1, 1.5 and, because a depth is one step at least, 1.2
    assert found.within == (0.75, 1.0, 1.0)


@given(origin=st.floats(-1e3, 1e3), scale=st.floats(0.1, 50))
def test_relative_errors_know_neither_origin_nor_unit(origin, scale):
    rng = np.random.default_rng(5)
    truth, error, z = rng.uniform(0, 9, (12, 12)), rng.normal(0, 0.3, (12, 12)), np.arange(10.0)
    plain = compare(height_map(truth + error), truth, step_um=1.0, z_um=z)
    moved = compare(
        height_map((truth + error) * scale + origin),
        truth * scale + origin,
        step_um=scale,
        z_um=z * scale + origin,
    )
    assert moved.absolute_relative == pytest.approx(plain.absolute_relative, rel=1e-2)
    assert moved.bumpiness == pytest.approx(plain.bumpiness, rel=1e-2)
    assert moved.root_mean_square_steps == pytest.approx(plain.root_mean_square_steps, rel=1e-2)


def test_without_focus_positions_and_intervals_there_is_no_figure_of_them():
    found = figures(compare(height_map([[1.0, 2]]), np.array([[1.0, 1]]), step_um=1.0))
    assert found["mean_absolute_error"] == 0.5
    for name in ("absolute_relative_error", "square_relative_error", "bumpiness", "within_1.25^1", "inside_68"):
        assert found[name] is None


def test_an_offset_and_a_tilt_are_not_bumpy_and_noise_is():
    rows, columns = np.mgrid[:20, :30] / 30.0
    assert bumpiness(rows * 0.3 - columns * 0.2 + 5) == pytest.approx(0, abs=1e-6)
    assert bumpiness(np.random.default_rng(0).normal(0, 1, (20, 30))) == pytest.approx(5, abs=0.1)


def test_bumpiness_by_hand():
    columns = np.arange(12.0)
    # The second derivative of a x^2 by (-1, 0, 1) twice is 8 a everywhere.
    assert bumpiness(np.tile(0.001 * columns**2, (9, 1))) == pytest.approx(0.8)


def test_what_is_not_known_makes_no_bumps():
    error = np.zeros((12, 12))
    error[:, 6:] = np.nan
    assert bumpiness(error) == 0
    assert np.isnan(bumpiness(np.full((4, 4), 0.0)))
    found = compare(height_map(np.full((12, 12), 3.0)), np.full((12, 12), 3.0) + error, step_um=1, z_um=np.arange(5))
    assert found.bumpiness == 0
    assert found.count == 72


def test_honest_intervals_cover_what_they_promise():
    rng = np.random.default_rng(2)
    spread = rng.uniform(0.1, 3, (200, 200)).astype(np.float32)
    truth = rng.normal(0, 1, (200, 200)) * spread
    spread[0] = np.nan  # no interval stated: left out
    flat = height_map(np.zeros((200, 200)))
    found = compare(replace(flat, interval68_um=spread, interval95_um=1.96 * spread), truth, step_um=1.0)
    assert found.inside_68 == pytest.approx(0.683, abs=0.01)
    assert found.inside_95 == pytest.approx(0.95, abs=0.01)
    bold = compare(replace(flat, interval68_um=spread / 2), truth, step_um=1.0)
    assert bold.inside_68 < 0.45
    assert np.isnan(bold.inside_95)


def test_means_over_scenes_leave_out_what_a_scene_lacks():
    one = figures(compare(height_map([[1.0, 2]]), np.array([[1.0, 1]]), step_um=1.0, z_um=np.arange(4)))
    two = figures(compare(height_map([[4.0]]), np.array([[1.0]]), step_um=2.0))
    mean = mean_figures([one, two])
    assert mean["mean_absolute_error"] == pytest.approx((0.5 + 3) / 2)
    assert mean["mean_absolute_error_steps"] == pytest.approx((0.5 + 1.5) / 2)
    assert mean["absolute_relative_error"] == one["absolute_relative_error"]
    assert mean["pixels"] == 3
    assert mean["inside_95"] is None
    assert mean_figures([]) == {}
