"""Comparison of a height map with a known truth."""

import numpy as np
import pytest

from models.errors import InputError
from models.evaluate import compare
from models.height_map import HeightMap


def height_map(heights: list[list[float]], confidence: float | list[list[float]] = 1.0) -> HeightMap:
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
