"""A scan laid over a map from focus: found where it can be, refused where it cannot, and honest about how well."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from models.errors import Cancelled, InputError
from models.height_map import Flag
from models.labels.registration import register, warp
from models.labels.registration_fit import Fit, covariance, grid, inverse, level, mapped, refine, rms, sample
from tests.heights import Pair, cells, height_map, pair, rough

SMALL = {"focus_shape": (150, 170), "scan_shape": (240, 260)}


def small_pair(seed: int = 0, **changes) -> Pair:
    return pair(rough(240, seed), **{"seed": seed, "turn_deg": 12.0, **SMALL, **changes})


@pytest.fixture(scope="module")
def turned() -> Pair:
    return small_pair(turn_deg=141.0, flip=True)


@pytest.fixture(scope="module")
def found(turned):
    return register(turned.focus, turned.scan)


def hand_placed(both: Pair, where: list[tuple[float, float]], off_px: float = 2.0) -> list[tuple[float, ...]]:
    there = mapped(inverse(both.truth), np.array(where))
    return [(x + off_px, y - off_px, *scan) for (x, y), scan in zip(where, there, strict=True)]


def test_a_turned_mirrored_scan_is_found(turned, found):
    assert found.accepted, found.doubts
    assert found.flip
    assert found.turn_deg == pytest.approx(141.0, abs=0.1)
    assert found.scale_z == 1.0
    assert turned.error_px(found.matrix) < 0.05
    assert found.closure_px < 0.1
    assert found.covariance[6, 6] == 0.0
    assert found.overlap > 0.7


def test_the_warped_scan_has_the_heights_of_the_focus_map(turned, found):
    warped, valid = warp(turned.scan, found)
    assert warped.shape == turned.focus.shape
    assert np.array_equal(np.isfinite(warped), valid)
    apart = (warped - turned.focus.height_um)[valid & np.isfinite(turned.focus.height_um)]
    assert abs(np.median(apart)) < 0.02
    assert 1.4826 * np.median(np.abs(apart)) == pytest.approx(found.sigma_um, rel=0.05)
    assert found.sigma_um < 0.15  # of heights of 1 um rms, with noise of 0.07 um and a blur


def test_no_height_is_taken_from_a_hole(turned, found):
    scan = turned.scan.height_um.copy()
    scan[60:140, 60:140] = np.nan
    warped, valid = warp(replace(turned.scan, height_um=scan), found)
    y, x = np.nonzero(valid)
    inside = mapped(inverse(found.matrix), np.column_stack([x, y]).astype(float))
    assert not ((inside > 60) & (inside < 139)).all(axis=1).any()
    whole, _valid = warp(turned.scan, found)
    far = valid & ~np.isnan(whole)
    assert np.nanmax(np.abs(warped - whole)[far]) < 2.0


def test_a_scale_of_heights_is_found_where_asked_for():
    both = pair(rough(240, 3, finest_px=6.0), seed=3, turn_deg=5.0, scale_z=1.06, noise=0.005, **SMALL)
    found = register(both.focus, both.scan, free_z_scale=True)
    assert found.scale_z == pytest.approx(1.06, abs=0.015)  # the blur of the focus map takes one percent
    assert found.covariance[6, 6] > 0


def test_a_smaller_scan_of_larger_pixels_is_found():
    both = small_pair(4, focus_shape=(150, 170), scan_shape=(240, 260))
    found = register(both.scan, both.focus)  # the other way round
    assert found.accepted, found.doubts
    assert both.error_px(inverse(found.matrix)) < 0.05


def test_equal_cells_are_not_accepted_but_for_points():
    both = pair(cells(240, 17.0, 0.0, 5), seed=5, turn_deg=4.0, **SMALL)
    found = register(both.focus, both.scan)
    assert not found.accepted
    assert found.runner_up_ratio < 1.2
    points = hand_placed(both, [(20, 30), (150, 40), (60, 130)])
    guided = register(both.focus, both.scan, points=points)
    assert guided.accepted, guided.doubts
    assert both.error_px(guided.matrix) < 0.05


def test_other_surfaces_are_not_accepted():
    both, other = small_pair(6), small_pair(7)
    assert not register(both.focus, other.scan).accepted


def test_untrusted_pixels_have_no_say(turned):
    focus = turned.focus
    flags = np.zeros(focus.shape, np.uint8)
    flags[:, :50] = Flag.PEAK_AT_END
    spoilt = np.where(flags != 0, focus.height_um[::-1] * 3, focus.height_um)
    found = register(replace(focus, height_um=spoilt, flags=flags), turned.scan)
    assert found.accepted, found.doubts
    assert turned.error_px(found.matrix) < 0.1


def test_the_stated_uncertainty_is_that_of_repeated_trials():
    errors, stated = [], []
    surface = rough(200, 8)
    for seed in range(8):
        both = pair(surface, seed=seed, turn_deg=5.0, focus_shape=(128, 128), scan_shape=(205, 205), noise=0.05)
        levels = [
            level(np.nan_to_num(one.height_um), np.isfinite(one.height_um), step)
            for one, step in ((both.focus, 1.0), (both.scan, 1.6))
        ]
        at = sample(levels[0])
        fit = refine(*levels, Fit(inverse(both.truth), np.zeros(3)), at, motion="affine", free_z_scale=True, steps=15)
        errors.append(both.error_px(inverse(fit.place)))
        spread = covariance(*levels, fit, at, motion="affine")
        points = np.column_stack([mapped(fit.place, grid((128, 128))), np.ones(64)])
        variance = sum(np.einsum("ni,ij,nj->n", points, spread[k : k + 3, k : k + 3], points) for k in (0, 3))
        stated.append(np.mean(variance))
    ratio = np.sqrt(np.mean(np.square(errors)) / np.mean(stated))
    assert 0.6 < ratio < 1.7


def test_steps_towards_the_place_close_again_on_the_way_back(turned, found):
    back = register(turned.scan, turned.focus, motion="similarity")
    there = grid(turned.focus.shape)
    assert rms(mapped(found.matrix, mapped(back.matrix, there)) - there) < 0.1


def test_points_that_the_heights_contradict_leave_a_doubt(turned):
    far = hand_placed(turned, [(20, 30), (150, 40), (60, 130)], off_px=5.0)  # 7 px away in all
    found = register(turned.focus, turned.scan, points=far)
    assert not found.accepted
    assert "points" in found.doubts[0]


@pytest.mark.parametrize(
    "points",
    [
        [(1.0, 2.0, 3.0, 4.0)],
        [(10.0, 10.0, 10.0, 10.0), (11.0, 11.0, 11.0, 11.0)],
        [(0.0, 0.0, 0.0, 0.0), (100.0, 0.0, 20.0, 0.0)],
        [(0.0, 0.0, 0.0, 0.0), (100.0, float("nan"), 160.0, 0.0)],
    ],
    ids=["one", "close", "of another scale", "not a number"],
)
def test_points_that_cannot_be_right_are_refused(turned, points):
    with pytest.raises(InputError, match="oints"):
        register(turned.focus, turned.scan, points=points)


def test_maps_without_scale_or_heights_are_refused(turned):
    with pytest.raises(InputError, match="pixel size"):
        register(replace(turned.focus, pixel_um=None), turned.scan)
    with pytest.raises(InputError, match="pixel size"):
        register(turned.focus, replace(turned.scan, z_unit="frame"))
    with pytest.raises(InputError, match="measured pixels"):
        register(turned.focus, height_map(np.full((100, 100), np.nan), 0.5))


def test_a_flat_map_is_not_accepted(turned):
    flat = height_map(np.random.default_rng(0).normal(0, 0.01, (200, 200)), 0.5)
    assert not register(turned.focus, flat).accepted


def test_it_can_be_cancelled(turned):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        register(turned.focus, turned.scan, cancel=cancel)
