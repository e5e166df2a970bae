"""Profiles, ticks and layers: the arithmetic behind the views."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.surface.layers import AMBER, display_range, flag_text, flags_overlay, hide_weak, layer_picture, to_rgb8
from app.surface.profile import height_profile, write_csv
from app.surface.ticks import decimals, number, round_step, ticks
from models.errors import OutputError
from models.height_map import Flag, HeightMap


def map_of(height: np.ndarray, *, confidence: np.ndarray | None = None, **fields) -> HeightMap:
    height = np.asarray(height, np.float32)
    if confidence is None:
        confidence = np.ones(height.shape, np.float32)
    flags = fields.pop("flags", np.zeros(height.shape, np.uint8))
    return HeightMap(height, confidence, flags, **fields)


inside = st.floats(0, 1)


@given(inside, inside, inside, inside, st.floats(-5, 5), st.floats(-5, 5))
def test_profile_of_a_plane_is_exact(row0, column0, row1, column1, slope_row, slope_column):
    rows, columns = np.mgrid[:12, :20]
    plane = map_of(slope_row * rows + slope_column * columns + 3.0, pixel_um=0.25)
    start, end = (11 * row0, 19 * column0), (11 * row1, 19 * column1)
    profile = height_profile(plane, plane.height_um, start, end)
    expected = slope_row * profile.row + slope_column * profile.column + 3.0
    np.testing.assert_allclose(profile.height, expected, atol=1e-3)
    assert profile.distance[-1] == pytest.approx(0.25 * math.dist(start, end))
    assert profile.distance_unit == "um"


def test_profile_on_whole_pixels_gives_the_very_heights():
    height = np.random.default_rng(0).normal(size=(9, 14)).astype(np.float32)
    profile = height_profile(map_of(height), height, (4, 0), (4, 13))
    np.testing.assert_array_equal(profile.height, height[4])
    assert profile.distance_unit == "px"


def test_a_hole_is_a_gap_only_where_it_counts():
    height = np.zeros((5, 9), np.float32)
    height[2, 4] = np.nan
    along = height_profile(map_of(height), height, (2, 0), (2, 8)).height
    assert np.isnan(along).tolist() == [column == 4 for column in range(9)]
    # One row further the hole has no weight.
    assert np.isfinite(height_profile(map_of(height), height, (3, 0), (3, 8)).height).all()


def test_outside_the_map_there_is_no_height():
    height = np.ones((5, 5), np.float32)
    profile = height_profile(map_of(height), height, (2, -2), (2, 6))
    assert np.isfinite(profile.height).tolist() == [0 <= column <= 4 for column in profile.column]


def test_csv_says_units_and_leaves_holes_empty(tmp_path: Path):
    height = np.array([[1.0, np.nan, 3.5]], np.float32).repeat(2, axis=0)
    path = tmp_path / "profile.csv"
    write_csv(height_profile(map_of(height, pixel_um=2.0), height, (0, 0), (0, 2)), path)
    rows = list(csv.reader(path.open()))
    assert rows[0] == ["distance_um", "height_um", "row", "column"]
    assert [row[:2] for row in rows[1:]] == [["0", "1"], ["2", ""], ["4", "3.5"]]


def test_csv_into_a_missing_folder_is_an_output_error(tmp_path: Path):
    height = np.zeros((2, 2), np.float32)
    profile = height_profile(map_of(height), height, (0, 0), (1, 1))
    with pytest.raises(OutputError):
        write_csv(profile, tmp_path / "missing" / "profile.csv")
    assert not list(tmp_path.iterdir())


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5), st.integers(1, 20))
def test_ticks_are_round_inside_and_not_too_many(low, span, count):
    high = low + span
    step = round_step(high - low, count)
    values = ticks(low, high, count)
    assert len(values) <= count + 1
    slack = 1e-5 * step + 1e-9 * abs(low)
    assert all(low - slack <= value <= high + slack for value in values)
    mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - nice) for nice in (1, 2, 5)) < 1e-6
    # Neighbouring ticks never read the same.
    texts = [number(value, decimals(step)) for value in values]
    assert len(set(texts)) == len(texts)


def test_numbers_have_a_true_minus_and_no_negative_zero():
    assert number(-1.5, 1) == "−1.5"
    assert number(-0.0001, 2) == "0.00"


def test_display_range_ignores_holes_and_survives_a_flat_map():
    values = np.linspace(0, 100, 10000).reshape(100, 100)
    values[:50] = np.nan
    low, high = display_range(values)
    assert 50 <= low < high <= 100
    assert display_range(np.full((4, 4), 7.0)) == (6.5, 7.5)
    assert display_range(np.full((4, 4), np.nan)) == (0.0, 1.0)


def test_weak_pixels_become_holes():
    height_map = map_of(np.ones((1, 3)), confidence=np.array([[0.1, 0.5, 0.9]], np.float32))
    shown = hide_weak(height_map.height_um, height_map.confidence, 0.5)
    assert np.isnan(shown).tolist() == [[True, False, False]]
    assert hide_weak(height_map.height_um, height_map.confidence, 0.0) is height_map.height_um


def test_layers_show_holes_flags_and_the_camera_image():
    flags = np.array([[0, Flag.PEAK_AT_END, Flag.SATURATED]], np.uint8)
    image = np.array([[0, 128, 255]], np.uint8)
    height_map = map_of([[0.0, np.nan, 10.0]], flags=flags, all_in_focus=image)
    picture = layer_picture(height_map, "height", colour_map="gray", height_range=(0, 10), missing=(9, 8, 7))
    assert picture[0, 1].tolist() == [9, 8, 7]
    assert picture[0, 0].max() < picture[0, 2].min()
    focus = layer_picture(height_map, "all_in_focus", colour_map="gray", height_range=(0, 10))
    assert focus[0, :, 0].tolist() == [0, 128, 255]
    # Overexposed is worth a word but does not make the height doubtful.
    assert flags_overlay(height_map)[0, :, 3].tolist() == [0, 255, 0]
    assert tuple(flags_overlay(height_map)[0, 1, :3]) == AMBER


def test_sixteen_bit_images_are_stretched_between_the_levels():
    image = np.array([[100, 1100, 2100, 4000]], np.uint16)
    assert to_rgb8(image, (100.0, 2100.0))[0, :, 1].tolist() == [0, 127, 255, 255]


def test_flags_in_words():
    assert flag_text(0) == ""
    assert flag_text(Flag.PEAK_AT_END | Flag.SATURATED) == "sharpest on the first or last frame, overexposed"
