"""Colour maps: even for the eye, readable without colour vision, exact about missing values."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.colour_maps import COLOUR_MAPS, colourise, lut, robust_range
from models.errors import InputError


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of (N, 3) uint8 RGB."""
    return cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0, :, 0]


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_lightness_rises_evenly(name):
    steps = np.diff(lightness(lut(name))[::15])
    assert (steps > 0).all()  # readable without any colour vision, and in a black-and-white print
    assert steps.max() < 3.5 * np.median(steps)


def test_jet_would_fail_this_test():
    jet = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_JET)[0, :, ::-1]
    assert not (np.diff(lightness(jet)[::15]) > 0).all()


@given(
    hnp.arrays(np.float32, (5, 6), elements=st.floats(-100, 100, width=32) | st.just(float("nan"))),
    st.sampled_from(COLOUR_MAPS),
)
def test_values_get_their_colour_and_missing_ones_none(values, name):
    low, high = -50.0, 50.0
    image = colourise(values, name, low, high, missing=(1, 2, 3))
    missing = np.isnan(values)
    assert (image[missing] == (1, 2, 3)).all()
    share = np.clip((values[~missing].astype(np.float64) - low) / (high - low), 0, 1)
    nearest = np.stack([lut(name)[np.clip(np.floor(255 * share + d).astype(int), 0, 255)] for d in (0.49, 0.5, 0.51)])
    assert (np.abs(nearest.astype(int) - image[~missing]).max(axis=2).min(axis=0) == 0).all()


def test_infinite_values_are_missing():
    image = colourise(np.array([[np.inf, -np.inf, 0.0]]), "gray", -1, 1, missing=(9, 9, 9))
    assert image.tolist() == [[[9, 9, 9], [9, 9, 9], [128, 128, 128]]]


def test_a_flat_surface_has_the_middle_colour():
    assert (colourise(np.full((2, 2), 5.0), "viridis", 5.0, 5.0) == lut("viridis")[127]).all()


def test_the_range_leaves_out_outliers_and_missing_values():
    values = np.concatenate([np.linspace(0, 1, 1000), [1e6, -1e6, np.nan]])
    low, high = robust_range(values)
    assert -0.01 < low < 0.02
    assert 0.98 < high < 1.01
    assert robust_range(np.full((3, 3), np.nan)) == (0.0, 1.0)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(InputError, match="viridis, cividis"):
        lut("jet")
