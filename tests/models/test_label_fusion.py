"""Fusion of a focus map with a registered scan: holes, seams, conflicts, and whether the stated sigma is true."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from models.errors import InputError
from models.focal_stack import FocalStack
from models.formats import read_height_map
from models.height_map import HeightMap
from models.labels.fusion import FusionSettings, fuse, pixel_scatter, without_spikes
from models.labels.harmonic import harmonic
from models.labels.label import Label, Provenance
from models.labels.label_file import read_history, read_label, write_label
from models.storage import load_reconstruction, open_stack, write_stack
from models.training.splits import read_scene
from tests.data import SHARED, needs_shared

SCAN_SIGMA, FOCUS_SIGMA = 0.06, 0.35


def field(rng, size, width, rms):
    rough = ndimage.gaussian_filter(rng.normal(size=(size, size)), width, mode="wrap")
    return rms * rough / rough.std()


class Pair:
    """A rough surface as a drifting, spiky focus map and an accurate scan with holes would show it."""

    def __init__(self, seed, drift_um=0.7, size=192):
        rng = np.random.default_rng(seed)
        shape = (size, size)
        self.truth = field(rng, size, 20, 4.0) + field(rng, size, 5, 0.8) + field(rng, size, 2, 0.15)
        self.focus = self.truth + rng.normal(0, FOCUS_SIGMA, shape) + field(rng, size, size / 8, drift_um)
        spikes = rng.random(shape) < 0.02
        self.focus[spikes] += rng.choice([-6.0, 6.0], spikes.sum())
        self.focus[150:170, 20:60] = np.nan
        self.scan = self.truth + rng.normal(0, SCAN_SIGMA, shape)
        steep = field(rng, size, 8, 1.0)
        self.holes = steep > np.quantile(steep, 0.9)
        self.holes[40:80, 110:150] = True
        self.scan[self.holes] = np.nan

    def fuse(self, **known):
        return fuse(self.focus, np.full(self.focus.shape, FOCUS_SIGMA), self.scan, SCAN_SIGMA, **known)


def rms(values):
    return float(np.sqrt(np.nanmean(np.square(values))))


@pytest.fixture(scope="module")
def pair():
    return Pair(0)


@pytest.fixture(scope="module")
def label(pair):
    return pair.fuse()


# ---------------------------------------------------------------- what is promised


@pytest.mark.parametrize(("seed", "drift_um"), [(0, 0.7), (1, 0.7), (2, 0.0)])
def test_holes_are_filled_better_than_from_the_nearest_pixel_or_by_pasting(seed, drift_um):
    pair = Pair(seed, drift_um)
    label = pair.fuse()
    near = ndimage.distance_transform_edt(pair.holes, return_distances=False, return_indices=True)
    pasted = without_spikes(pair.focus, 5.0)  # else its outliers would decide
    at = pair.holes & label.valid & np.isfinite(pasted)
    ours = rms((label.height_um - pair.truth)[at])
    assert 3 * ours < rms((pair.scan[tuple(near)] - pair.truth)[at])
    assert 2 * ours < rms((pasted - pair.truth)[at])


def test_the_stated_sigma_is_the_error():
    in_holes = []
    for seed, drift_um in ((0, 0.7), (1, 0.7), (2, 0.0), (5, 1.0), (6, 1.0)):
        pair = Pair(seed, drift_um)
        label = pair.fuse()
        score = (label.height_um - pair.truth) / label.sigma_um
        for where in (label.valid, label.provenance == Provenance.FUSED, label.provenance == Provenance.CONFOCAL):
            assert 0.8 < rms(score[where]) < 1.2
        in_holes.append(score[pair.holes & (label.provenance == Provenance.FOCUS)])
    assert 0.8 < rms(np.concatenate(in_holes)) < 1.2  # over several: the drift in one hole is one throw of the dice


def test_a_scan_said_to_be_worse_than_it_is_does_not_make_the_focus_map_perfect(pair):
    label = fuse(pair.focus, None, pair.scan, 1.0)
    assert rms(((label.height_um - pair.truth) / label.sigma_um)[label.valid]) < 2.5


@pytest.mark.parametrize("stated", [0.1, 1.0, None])
def test_a_wrong_or_missing_sigma_of_the_focus_map_is_set_right(pair, stated):
    sigma = None if stated is None else np.full(pair.focus.shape, stated)
    label = fuse(pair.focus, sigma, pair.scan, SCAN_SIGMA)
    score = (label.height_um - pair.truth) / label.sigma_um
    assert 0.8 < rms(score[label.valid]) < 1.2
    assert label.parameters["sigma_factor"] * (stated or 1.0) == pytest.approx(0.14, abs=0.03)  # smoothed by 0.7 px


REAL = ("laser_texture_dcm3d/test_1.plu", "ski_base_alicona/SkiInfiniteFocus.x3p")


@needs_shared
@pytest.mark.parametrize("name", REAL)
def test_on_a_real_surface_the_steep_holes_are_filled_and_their_sigma_is_true(name):
    truth = read_height_map(SHARED / "heightmaps" / name).height_um[100:300, 100:300].astype(float)
    near = ndimage.distance_transform_edt(np.isnan(truth), return_distances=False, return_indices=True)
    truth = truth[tuple(near)]
    rng = np.random.default_rng(1)
    focus = ndimage.gaussian_filter(truth, 0.8) + rng.normal(0, 0.4, truth.shape) + field(rng, 200, 40, 1.0)
    scan = truth + rng.normal(0, SCAN_SIGMA, truth.shape)
    slope = np.hypot(*np.gradient(ndimage.gaussian_filter(truth, 1)))
    hole = ndimage.binary_opening(ndimage.binary_closing(slope > np.quantile(slope, 0.9)))
    scan[hole] = np.nan
    label = fuse(focus, None, scan, SCAN_SIGMA)
    error = label.height_um - truth
    assert 0.8 < rms((error / label.sigma_um)[label.valid]) < 1.2
    assert 0.5 < rms((error / label.sigma_um)[hole]) < 1.6
    near = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    pasted = without_spikes(focus, 5.0)
    at = hole & label.valid & np.isfinite(pasted)
    assert 1.5 * rms(error[at]) < rms((scan[tuple(near)] - truth)[at])
    assert rms(error[at]) < 1.1 * rms((pasted - truth)[at])  # on such slopes the blur of the focus map decides
    assert (label.provenance == Provenance.CONFLICT).mean() < 0.01


def test_where_both_see_the_better_one_decides_and_both_together_are_better():
    rng = np.random.default_rng(4)
    truth = field(rng, 160, 20, 3.0)
    focus, scan = truth + rng.normal(0, 0.2, truth.shape), truth + rng.normal(0, 0.2, truth.shape)
    label = fuse(focus, np.full(truth.shape, 0.2), scan, 0.2, settings=FusionSettings(focus_blur_px=0.01))
    fused = label.provenance == Provenance.FUSED
    error = rms((label.height_um - truth)[fused])
    assert error == pytest.approx(0.2 / np.sqrt(2), rel=0.05)
    assert rms(label.sigma_um[fused]) == pytest.approx(error, rel=0.1)


def test_there_is_no_step_at_the_rim_of_a_hole():
    rng = np.random.default_rng(6)
    truth = field(rng, 160, 20, 3.0)
    scan = truth + rng.normal(0, 0.02, truth.shape)
    scan[60:100, 60:100] = np.nan
    label = fuse(truth + 3.0 + rng.normal(0, 0.05, truth.shape), None, scan, 0.02)  # focus: 3 um too high
    error = label.height_um - truth
    assert np.nanmax(np.abs(np.diff(error, axis=0))) < 0.3
    assert abs(np.nanmean(error[60:100, 60:100])) < 0.05


# ---------------------------------------------------------------- classes


def test_every_height_says_where_it_comes_from(pair, label):
    kinds = set(np.unique(label.provenance))
    assert {Provenance.FOCUS, Provenance.CONFOCAL, Provenance.FUSED} <= kinds
    assert kinds <= set(range(8))
    assert np.isin(label.provenance[pair.holes], (Provenance.INVALID, Provenance.FOCUS, Provenance.INTERPOLATED)).all()
    assert (label.provenance[155:165, 25:55] == Provenance.CONFOCAL)[~pair.holes[155:165, 25:55]].mean() > 0.8
    np.testing.assert_array_equal(label.valid, np.isfinite(label.height_um))
    np.testing.assert_array_equal(label.valid, np.isfinite(label.sigma_um))
    np.testing.assert_array_equal(~label.valid, np.isin(label.provenance, (Provenance.INVALID, Provenance.CONFLICT)))
    assert sum(label.shares().values()) == pytest.approx(1.0)


def test_the_scan_is_not_believed_at_its_rim(pair):
    wide, narrow = (pair.fuse(settings=FusionSettings(shrink_px=px)) for px in (4, 0))
    rim = ndimage.binary_dilation(pair.holes, iterations=3) & ~pair.holes
    assert not np.isin(wide.provenance[rim], (Provenance.FUSED, Provenance.CONFOCAL)).any()
    assert np.isin(narrow.provenance[rim], (Provenance.FUSED, Provenance.CONFOCAL)).mean() > 0.7


def test_contradictions_have_no_height_and_a_class_of_their_own(pair):
    focus = pair.focus.copy()
    focus[90:120, 90:120] += 5.0
    seen = np.isfinite(pair.scan) & np.isfinite(focus)
    block = np.zeros_like(seen)
    block[90:120, 90:120] = True
    label = fuse(focus, None, pair.scan, SCAN_SIGMA)
    conflict = label.provenance == Provenance.CONFLICT
    assert conflict[block & seen].mean() > 0.8
    assert conflict[~block].mean() < 0.01
    assert not label.valid[conflict].any()
    assert np.isnan(label.height_um[conflict]).all()


def test_what_neither_sees_stays_unknown_but_for_single_pixels(pair):
    focus, scan = pair.focus.copy(), pair.scan.copy()
    focus[100:120, 10:30] = scan[100:120, 10:30] = np.nan
    focus[130, 130] = scan[130, 130] = np.nan
    label = fuse(focus, None, scan, SCAN_SIGMA, settings=FusionSettings(shrink_px=0))
    assert not label.valid[104:116, 14:26].any()
    assert label.provenance[130, 130] == Provenance.INTERPOLATED
    assert abs(label.height_um[130, 130] - pair.truth[130, 130]) < 4 * label.sigma_um[130, 130]


def test_far_from_the_scan_the_label_gets_less_certain(pair):
    scan = pair.scan.copy()
    scan[:, 96:] = np.nan
    label = fuse(pair.focus, None, scan, SCAN_SIGMA)
    near, far = (np.nanmedian(label.sigma_um[:, part]) for part in (slice(98, 104), slice(180, 192)))
    assert far > 1.5 * near
    assert rms(((label.height_um - pair.truth) / label.sigma_um)[:, 96:]) < 1.2


def test_a_scan_that_lies_badly_counts_less_on_slopes(pair):
    sure, unsure = pair.fuse(), pair.fuse(registration_sd_px=1.0)
    down, right = np.gradient(pair.truth)
    steep = np.hypot(down, right) > 0.5
    fused = (sure.provenance == Provenance.FUSED) & (unsure.provenance == Provenance.FUSED)
    assert np.median(unsure.sigma_um[fused & steep]) > 1.2 * np.median(sure.sigma_um[fused & steep])
    scan_only = steep & (unsure.provenance == Provenance.CONFOCAL) & (sure.provenance == Provenance.CONFOCAL)
    assert np.median(unsure.sigma_um[scan_only]) > 5 * np.median(sure.sigma_um[scan_only])


# ---------------------------------------------------------------- refusals and odd maps


def test_maps_that_do_not_meet_are_refused(pair):
    scan = np.full_like(pair.scan, np.nan)
    scan[:10, :10] = 1.0
    with pytest.raises(InputError, match="pixels in common"):
        fuse(pair.focus, None, scan, SCAN_SIGMA)
    with pytest.raises(InputError, match="same size"):
        fuse(pair.focus, None, pair.scan[:-1], SCAN_SIGMA)


def test_a_scan_of_another_place_is_refused(pair):
    elsewhere = np.roll(pair.scan, (60, 40), (0, 1))
    for scan in (elsewhere, -pair.scan):
        with pytest.raises(InputError, match="not of the same place"):
            fuse(pair.focus, None, scan, SCAN_SIGMA)
    insisted = fuse(pair.focus, None, elsewhere, SCAN_SIGMA, settings=FusionSettings(least_likeness=-1.0))
    assert insisted.parameters["likeness"] < 0.7
    assert pair.fuse().parameters["likeness"] > 0.9


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_any_holes_and_any_scale_give_a_consistent_label(seed, scale):
    rng = np.random.default_rng(seed)
    truth = field(rng, 48, 6, 4.0)
    focus, scan = truth + rng.normal(0, 0.3, truth.shape), truth + rng.normal(0, 0.05, truth.shape)
    focus[rng.random(truth.shape) < rng.random() * 0.3] = np.nan
    scan[field(rng, 48, 4, 1.0) > rng.normal()] = np.nan
    try:
        label = fuse(focus * scale, None, scan * scale, 0.05 * scale)
    except InputError:
        return
    np.testing.assert_array_equal(label.valid, np.isfinite(label.height_um))
    assert (label.sigma_um[label.valid] > 0).all()
    assert rms((label.height_um / scale - truth)[label.valid]) < 1.0


def test_the_noise_of_a_scan_is_never_underestimated():
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:100, :120]
    tilted = 3.0 * row - 2.0 * column + rng.normal(0, 0.1, row.shape)
    tilted[20:40, 20:50] = np.nan
    assert pixel_scatter(tilted) == pytest.approx(0.1, rel=0.05)
    with pytest.raises(InputError, match="too few heights"):
        pixel_scatter(np.full((50, 50), np.nan))


# ---------------------------------------------------------------- harmonic


def test_a_hole_in_a_harmonic_function_is_filled_exactly():
    row, column = np.mgrid[:60, :70].astype(float)
    plane, saddle = 2.0 * row - column + 5.0, row**2 - column**2
    hole = np.zeros(plane.shape, bool)
    hole[10:40, 20:50] = hole[50, 60] = True
    for values in (plane, saddle):  # harmonic on the grid, too
        np.testing.assert_allclose(harmonic(np.where(hole, np.nan, values), hole), values, atol=1e-8)


def test_many_unknown_pixels_are_solved_as_well(monkeypatch):
    rng = np.random.default_rng(0)
    values = field(rng, 128, 4, 1.0)
    hole = field(rng, 128, 10, 1.0) > 0
    exact = harmonic(values, hole)
    monkeypatch.setattr("models.labels.harmonic._DIRECT", 100)
    np.testing.assert_allclose(harmonic(values, hole), exact, atol=5e-3)


def test_nothing_crosses_a_wall_and_nothing_is_made_of_nothing():
    values = np.array([[1.0, np.nan, np.nan, np.nan, 9.0]])
    unknown = np.array([[False, True, False, True, False]])
    np.testing.assert_allclose(harmonic(values, unknown), [[1.0, 1.0, np.nan, 9.0, 9.0]])
    assert np.isnan(harmonic(np.full((4, 4), np.nan), np.ones((4, 4), bool))).all()


# ---------------------------------------------------------------- the file


def as_map(height):
    height = np.asarray(height, np.float32)
    known = np.isfinite(height).astype(np.float32)
    return HeightMap(height, known, np.zeros(height.shape, np.uint8), pixel_um=0.8, method="mdml")


def test_a_label_comes_back_from_its_file(tmp_path, pair, label):
    facts = {"transform": {"matrix": [[1.0, 0.0, 2.5], [0.0, 1.0, 0.0]]}, "origin": {"scan": "b.plu"}}
    written = Label(**{**vars(label), **facts, "pixel_um": 0.8})
    write_label(tmp_path / "a.h5", written, as_map(pair.focus))
    back = read_label(tmp_path / "a.h5")
    for name in ("height_um", "sigma_um", "provenance", "valid"):
        np.testing.assert_array_equal(getattr(back, name), getattr(written, name))
        assert getattr(back, name).dtype == getattr(written, name).dtype
    assert back.sources.keys() == written.sources.keys()
    np.testing.assert_array_equal(back.sources["seam_um"], written.sources["seam_um"])
    assert (back.transform, back.origin, back.pixel_um) == (facts["transform"], facts["origin"], 0.8)
    assert back.parameters == dict(written.parameters)
    np.testing.assert_array_equal(load_reconstruction(tmp_path / "a.h5").height_um, pair.focus.astype(np.float32))
    (first,) = read_history(tmp_path / "a.h5")
    assert first["action"] == "fused"
    assert first["shares"] == label.shares()
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def test_files_without_such_a_label_are_refused(tmp_path, pair, label):
    write_stack(tmp_path / "s.h5", FocalStack(np.zeros((2, 4, 5), np.uint8), np.arange(2.0)))
    with pytest.raises(InputError, match="no label"):
        read_label(tmp_path / "s.h5")
    with pytest.raises(InputError, match="no label"):
        read_history(tmp_path / "s.h5")
    assert len(open_stack(tmp_path / "s.h5")) == 2
    write_label(tmp_path / "a.h5", label, as_map(pair.focus))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["label/provenance"][0, 0] = 200
    with pytest.raises(InputError, match="damaged"):
        read_label(tmp_path / "a.h5")


def test_a_label_with_its_stack_is_a_scene_to_learn_from(tmp_path, pair, label):
    stack = FocalStack(np.zeros((3, 192, 192), np.uint8), np.arange(3.0), z_unit="um")
    write_label(tmp_path / "a.h5", label, as_map(pair.focus), name="roll 7", stack=stack)
    scene = read_scene(tmp_path / "a.h5")
    assert (scene.name, scene.kind) == ("roll 7", "fused")
    np.testing.assert_array_equal(scene.height_um, label.height_um)
    assert len(scene.stack) == 3
