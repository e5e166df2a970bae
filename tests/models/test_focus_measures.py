"""Focus measures against their formulas, at the image border, at full scale, in tiles and in photon noise."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve, uniform_filter

from models.errors import InputError
from models.focus.measures import continue_outside, focus_measure, margin_px, measure_strip, relative_noise, to_grey
from models.methods import MEASURES


def second_difference(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    kernel = np.zeros((7, 7))
    kernel[3, 3] = 2
    kernel[3 + dy, 3 + dx] = kernel[3 - dy, 3 - dx] = -1
    return np.abs(convolve(image, kernel, mode="mirror"))


def by_formula(image: np.ndarray, method: str) -> np.ndarray:
    """The operators as their papers write them, in float64, by general convolution."""
    image = image.astype(float)
    if method == "sml":
        return second_difference(image, 0, 1) + second_difference(image, 1, 0)
    if method == "mdml":
        return sum(
            second_difference(image, 0, s)
            + second_difference(image, s, 0)
            + (second_difference(image, s, s) + second_difference(image, s, -s)) / np.sqrt(2)
            for s in (1, 2, 3)
        )
    if method == "tenengrad":
        sobel = np.outer([1, 2, 1], [-1, 0, 1])
        return convolve(image, sobel, mode="mirror") ** 2 + convolve(image, sobel.T, mode="mirror") ** 2
    y, x = np.mgrid[-3:4, -3:4]
    radius = np.hypot(y, x)
    disk, ring = radius <= 1, (radius > 2) & (radius <= 3)
    return 80 * np.abs(convolve(image, disk / disk.sum() - ring / ring.sum(), mode="mirror"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("method", MEASURES)
def test_equals_its_formula_up_to_the_border(method, dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 51), dtype=dtype, endpoint=True)
    expected = uniform_filter(by_formula(image, method), 9, mode="mirror")
    np.testing.assert_allclose(focus_measure(image, method, 9), expected, rtol=1e-5)


@pytest.mark.parametrize("stabilise", [False, True])
@pytest.mark.parametrize("method", MEASURES)
def test_full_scale_does_not_overflow(method, stabilise):
    board = (np.indices((32, 32)) // 2).sum(axis=0) % 2
    eight = focus_measure((255 * board).astype(np.uint8), method, 5, stabilise=stabilise)
    sixteen = focus_measure((65535 * board).astype(np.uint16), method, 5, stabilise=stabilise)
    ratio = np.median(sixteen) / np.median(eight)
    np.testing.assert_allclose(sixteen, eight * ratio, rtol=2e-3)
    assert eight.min() > 0


@pytest.mark.parametrize("stabilise", [False, True])
@pytest.mark.parametrize("method", MEASURES)
def test_an_even_image_has_no_focus_at_all(method, stabilise):
    image = np.full((20, 30), 777, np.uint16)
    assert not focus_measure(image, method, 9, stabilise=stabilise).any()


@pytest.mark.parametrize("method", MEASURES)
def test_the_border_is_no_sharper_than_the_middle(method):
    image = np.random.default_rng(1).integers(0, 255, (300, 300), dtype=np.uint8)
    measure = focus_measure(image, method, 9)
    frame = np.ones((300, 300), bool)
    frame[3:-3, 3:-3] = False
    assert abs(measure[frame].mean() / measure[~frame].mean() - 1) < 0.05


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    cut=st.integers(1, 39),
    window=st.sampled_from([1, 2, 5, 9]),
    method=st.sampled_from(MEASURES),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    stabilise=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_tiles_give_exactly_the_whole(rows, columns, cut, window, method, dtype, stabilise, seed):
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (rows, columns), dtype=dtype)
    margin = margin_px(method, window)
    padded = continue_outside(image, margin)
    cut = min(cut, rows)
    parts = [(0, cut), (cut, rows)] if cut < rows else [(0, rows)]
    tiles = [measure_strip(padded[a : b + 2 * margin], method, window, stabilise=stabilise) for a, b in parts]
    whole = focus_measure(image, method, window, stabilise=stabilise)
    np.testing.assert_array_equal(np.concatenate(tiles), whole)
    assert whole.shape == image.shape
    assert np.isfinite(whole).all()
    assert (whole >= 0).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_is_measured_on_its_grey_image(dtype):
    colour = np.random.default_rng(2).integers(0, np.iinfo(dtype).max, (24, 31, 3), dtype=dtype)
    grey = to_grey(colour)
    assert grey.shape == (24, 31)
    assert grey.dtype == dtype
    np.testing.assert_allclose(grey, colour @ [0.299, 0.587, 0.114], atol=1, rtol=1e-4)
    np.testing.assert_array_equal(focus_measure(colour, "mdml", 9), focus_measure(grey, "mdml", 9))


@pytest.mark.parametrize("method", MEASURES)
def test_the_relative_noise_is_that_of_white_noise(method):
    rng = np.random.default_rng(3)
    frames = np.clip(rng.normal(100, 8, (12, 120, 120)), 0, 255).astype(np.uint8)
    measures = np.stack([focus_measure(frame, method, 9) for frame in frames])
    assert measures.std(axis=0).mean() / measures.mean() == pytest.approx(relative_noise(method, 9), rel=0.15)


@pytest.mark.parametrize("method", MEASURES)
def test_stabilised_photon_noise_is_the_same_in_dark_and_bright_places(method):
    rng = np.random.default_rng(4)

    def noise_at(brightness: float, stabilise: bool) -> float:
        photons = rng.poisson(brightness, (128, 128)).astype(np.uint16)
        return float(focus_measure(photons, method, 9, stabilise=stabilise).mean())

    assert noise_at(5000, True) / noise_at(200, True) == pytest.approx(1, abs=0.1)
    assert noise_at(5000, False) / noise_at(200, False) > 3


def test_sharper_is_larger_whatever_the_method():
    sharp = np.random.default_rng(5).integers(0, 255, (64, 64), dtype=np.uint8)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.0)
    for method in MEASURES:
        assert (focus_measure(sharp, method, 9) > focus_measure(blurred, method, 9)).all()


def test_an_unknown_method_is_named():
    with pytest.raises(InputError, match="wavelet"):
        focus_measure(np.zeros((8, 8), np.uint8), "wavelet", 9)
