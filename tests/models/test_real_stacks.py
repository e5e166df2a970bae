"""Reconstruction of real and independently rendered stacks, all with the same, default options."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from scipy.optimize import least_squares

from models.evaluate import compare
from models.focal_stack import FocalStack
from models.height_map import Flag, HeightMap
from models.methods import MEASURES, ReconstructionOptions
from models.reconstruct import reconstruct
from tests.data import SHARED, needs_shared

pytestmark = needs_shared


def load(name: str, step_um: float = 1.0, pixel_um: float | None = None) -> FocalStack:
    images = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder(name).glob("frame_*"))]
    frames = np.stack([image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in images])
    return FocalStack(frames, np.arange(len(frames)) * step_um, pixel_um)


def folder(name: str) -> Path:
    return SHARED / "stacks" / name


def rock_errors(options: ReconstructionOptions) -> list[float]:
    """Mean absolute error in frames of each of the four rocks."""
    errors = []
    for number in (1, 2, 3, 6):
        name = f"cou_rock_{number}_41f"
        truth = tifffile.imread(folder(name) / "gt_index.tif")
        found = compare(reconstruct(load(name), options), truth, step_um=1.0)
        assert found.coverage > 0.999
        errors.append(found.mean_absolute_um)
    return errors


def test_the_rocks_by_the_default():
    errors = rock_errors(ReconstructionOptions())
    assert np.mean(errors) < 0.095
    assert max(errors) < 0.105


@pytest.mark.parametrize("method", MEASURES)
def test_the_rocks_by_every_method(method):
    errors = rock_errors(ReconstructionOptions(method=method, regularisation=1.0))
    assert np.mean(errors) <= 0.125
    assert max(errors) <= 0.145


def test_the_eye_of_a_fly_has_the_radius_that_it_has():
    stack = load("fly_eye_16f", 12.0, 1.0228)
    height_map = reconstruct(stack)
    mask = cv2.imread(str(folder("fly_eye_16f") / "mask.jpg"), cv2.IMREAD_GRAYSCALE) > 127
    used = mask & (height_map.confidence > 0.5) & ~height_map.has_flag(Flag.PEAK_AT_END)
    assert used.sum() > 0.9 * mask.sum()
    rows, columns = np.nonzero(used)
    empty = np.s_[:300, :300]  # nothing but compressed noise
    assert (height_map.confidence[empty] > 0.5).mean() < 0.05
    assert height_map.has_flag(Flag.NO_PEAK)[empty].mean() > 0.5
    points = np.column_stack([columns * 1.0228, rows * 1.0228, height_map.height_um[used]])[::20]

    def off_the_sphere(sphere: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points - sphere[:3], axis=1) - sphere[3]

    middle = np.median(points, axis=0)
    fits = [
        least_squares(off_the_sphere, [*middle[:2], middle[2] + side * 250, 250], loss="soft_l1", f_scale=5.0)
        for side in (1, -1)
    ]
    best = min(fits, key=lambda fit: fit.cost)
    assert best.x[3] == pytest.approx(277, abs=10)
    assert np.median(np.abs(off_the_sphere(best.x))) < 4


def median_filtered(height_map: HeightMap) -> np.ndarray:
    return cv2.medianBlur(np.nan_to_num(height_map.height_um), 5)


def test_the_roll_cell():
    """Land in focus near frame 6, floor near frame 79, a dark steep wall between them."""
    height_map = reconstruct(load("roll_cell_100f"))
    land, floor = np.s_[:60, :60], np.s_[225:, 225:]
    assert np.median(height_map.height_um[land]) == pytest.approx(6, abs=3)
    assert np.median(height_map.height_um[floor]) == pytest.approx(79, abs=4)
    wall = np.hypot(*(np.indices((256, 256)) - 256))
    wall = (wall > 90) & (wall < 140)
    assert (height_map.all_in_focus[wall] < 100).mean() > 0.9
    assert height_map.confidence[land].mean() > 0.9
    assert height_map.confidence[floor].mean() > 0.9
    doubt = 1 - height_map.confidence
    assert doubt[wall].mean() > 2 * max(doubt[land].mean(), doubt[floor].mean())
    # the wall descends towards the floor, ring by ring
    radius = np.hypot(*(np.indices((256, 256)) - 256))
    rings = [np.median(height_map.height_um[(radius >= r) & (radius < r + 15)]) for r in range(60, 180, 15)]
    assert (np.diff(rings) < 0).all()


def test_the_intaglio_cell_whose_land_lies_on_the_first_frame():
    height_map = reconstruct(load("intaglio_cell_10f"))
    at_end = height_map.has_flag(Flag.PEAK_AT_END)
    land = np.zeros(height_map.shape, bool)
    land[:50] = land[-60:] = True
    land[:, :60] = True
    cell = np.s_[90:390, 110:410]
    assert at_end[land].mean() > 0.97
    assert np.median(height_map.confidence[land]) <= 0.25
    assert at_end[cell].mean() < 0.05
    assert np.median(height_map.height_um[220:280, 220:280]) == pytest.approx(7, abs=1)
    assert height_map.confidence[220:280, 220:280].mean() > 0.85
    smooth = reconstruct(load("intaglio_cell_10f"), ReconstructionOptions(regularisation=1.0))
    assert np.abs(smooth.height_um - median_filtered(smooth))[cell].mean() < 0.05


def test_the_intaglio_digit_on_etched_ground():
    height_map = reconstruct(load("intaglio_nine_10f"))
    digit, counter, ground = np.s_[150:300, 90:110], np.s_[170:200, 215:235], np.s_[:30, :30]
    rim = np.s_[150:350, 25:75]
    assert np.median(height_map.height_um[digit]) == pytest.approx(1.2, abs=0.5)
    assert np.median(height_map.height_um[counter]) > np.median(height_map.height_um[digit]) + 3
    assert np.median(height_map.height_um[ground]) == pytest.approx(5, abs=1)
    assert height_map.confidence[rim].mean() < 0.75 * height_map.confidence[digit].mean()
    assert height_map.has_flag(Flag.PEAK_AT_END).mean() < 0.05
