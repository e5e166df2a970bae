"""Scenes for training: what a seed promises, whether the truth is the truth, and the renderer behind them."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from models.focal_stack import Optics
from models.optics import (
    FocusRenderer,
    Illumination,
    defocus_transfer,
    light_from_slope,
    open_aperture,
    slope_of,
)
from models.surfaces import Surface
from models.training import engraved, ground
from models.training.camera import draw_conditions
from models.training.fields import grains
from models.training.generator import random_scene
from models.training.imaging import PupilBlur, Sheet, SpreadBlur, StackRenderer
from models.training.styles import STYLES

SHAPE = (96, 80)


def even(value=1.0, shape=SHAPE):
    return np.full(shape, value, np.float32)


def point(shape=SHAPE):
    image = np.zeros(shape, np.float32)
    image[shape[0] // 2, shape[1] // 2] = 1.0
    return image


def distance_px():
    """From the point, of every pixel."""
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(y - SHAPE[0] // 2, x - SHAPE[1] // 2)


def in_steps(scene):
    """Truth as a position in the stack, 0 the first frame."""
    z_um = scene.stack.z_um
    return np.interp(scene.height_um, z_um, np.arange(len(z_um)), left=-1.0, right=len(z_um))


class TestSeeds:
    def test_the_same_seed_gives_the_same_scene(self):
        first, again, other = (random_scene(seed, size=(48, 64), frames=6) for seed in (5, 5, 6))
        np.testing.assert_array_equal(first.stack.frames, again.stack.frames)
        np.testing.assert_array_equal(first.height_um, again.height_um)
        assert first.name == again.name
        assert not np.array_equal(first.stack.frames, other.stack.frames)

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 2**40),
        rows=st.integers(32, 90),
        columns=st.integers(32, 90),
        frames=st.one_of(st.none(), st.integers(3, 12)),
        kinds=st.sampled_from(sorted(STYLES)),
    )
    def test_any_seed_size_and_style(self, seed, rows, columns, frames, kinds):
        scene = random_scene(seed, size=(rows, columns), frames=frames, kinds=kinds)
        stack, height_um = scene.stack, scene.height_um
        assert stack.frames.shape[1:] == (rows, columns)
        assert stack.frames.dtype == np.uint8
        assert len(stack) == frames if frames else 5 <= len(stack) <= 100
        assert (np.diff(stack.z_um) > 0).all()
        known = height_um[np.isfinite(height_um)]
        assert known.size > 0.3 * height_um.size
        assert known.min() >= stack.z_um[0] - 0.51 * stack.step_um
        assert known.max() <= stack.z_um[-1] + 0.51 * stack.step_um
        assert stack.pixel_um is not None

    def test_an_unknown_style_is_named(self):
        with pytest.raises(InputError, match="light-field"):
            random_scene(1, kinds="underwater")


@pytest.mark.parametrize("make", {*engraved.ENGRAVED, *ground.GROUND, engraved.coin, ground.plane})
def test_every_family_draws_reliefs_of_all_kinds(make):
    drawn = [make(SHAPE, np.random.default_rng(seed)) for seed in range(6)]
    for relief in drawn:
        assert relief.height.shape == relief.land.shape == SHAPE
        assert relief.height.dtype == np.float32
        assert np.isfinite(relief.height).all()
        assert relief.land.min() >= 0.0
        assert relief.land.max() <= 1.0
    assert len({relief.height.tobytes() for relief in drawn}) > 3


@pytest.fixture(scope="module")
def scenes():
    return [random_scene((3, seed), size=(48, 48), frames=9) for seed in range(150)]


class TestMixture:
    """What the mixture for training must cover, counted over small scenes."""

    def test_the_relief_takes_less_than_a_step_or_the_whole_stack(self, scenes):
        spans = np.array([np.nanmax(in_steps(scene)) - np.nanmin(in_steps(scene)) for scene in scenes])
        assert (spans < 1.0).mean() > 0.05
        assert (spans > 6.5).mean() > 0.1
        assert ((spans > 1.5) & (spans < 7.0)).mean() > 0.3

    def test_a_good_share_touches_the_first_or_the_last_frame(self, scenes):
        touches = [min(np.nanmin(s), 8.0 - np.nanmax(s)) < 0.1 for s in map(in_steps, scenes)]
        assert np.mean(touches) > 0.3

    def test_families_apertures_and_light_vary(self, scenes):
        assert len({scene.kind for scene in scenes}) >= 12
        apertures = [scene.stack.optics.na for scene in scenes if scene.stack.optics is not None]
        assert min(apertures) < 0.08
        assert max(apertures) > 0.6
        assert 0.1 < np.mean([scene.stack.optics is None for scene in scenes]) < 0.45
        bright = np.array([scene.stack.frames.mean() for scene in scenes])
        assert bright.min() < 25
        assert bright.max() > 180
        steps = [np.diff(scene.stack.z_um) for scene in scenes]
        assert 0.05 < np.mean([np.ptp(step) > 0.02 * step.mean() for step in steps]) < 0.3

    def test_engraved_metal_has_dark_walls_beside_bright_land(self):
        darker = 0
        for seed in range(12):
            scene = random_scene((4, seed), size=(96, 96), frames=9, kinds="rolls")
            at = np.clip(np.nan_to_num(in_steps(scene)), 0, 8).round().astype(int)
            sharp = np.take_along_axis(np.asarray(scene.stack.frames), at[None], axis=0)[0].astype(float)
            slope = slope_of(cv2.GaussianBlur(np.nan_to_num(scene.height_um), (0, 0), 1.0), 1.0)
            walls, level = slope > np.percentile(slope, 75), slope <= np.percentile(slope, 25)
            darker += np.median(sharp[walls]) < 0.7 * np.median(sharp[level])
        assert darker >= 8


def test_focus_is_found_where_the_truth_says():
    """A plain focus measure finds textured scenes to a fraction of a step, and without a bias."""
    errors = []
    for seed in range(10):
        scene = random_scene((5, seed), size=(96, 96), frames=21, kinds="light-field")
        detail = [cv2.boxFilter(np.abs(cv2.Laplacian(f.astype(np.float32), -1)), -1, (9, 9)) for f, _z in scene.stack]
        errors.append(np.argmax(detail, axis=0) - in_steps(scene))
    medians = np.array([np.nanmedian(np.abs(error)) for error in errors])
    assert np.median(medians) < 0.6
    assert abs(np.median([np.nanmedian(error) for error in errors])) < 0.25


class TestRenderer:
    def test_it_agrees_with_the_exact_one(self):
        """The microscope of the simulator, whose slabs are never merged."""
        rng, shape, pixel_um, optics = np.random.default_rng(0), (160, 160), 0.4, Optics(10, 0.4)
        height_um = 5 * grains(shape, rng, 15.0)
        reflectance = np.clip(1 + 0.2 * grains(shape, rng, 0.8), 0.1, 3.0).astype(np.float32)
        rough = {"roughness_slope": 5.0, "diffuse": 1.0}
        surface = Surface(height_um, reflectance, pixel_um, "hills")
        exact = FocusRenderer(surface, optics, illumination=Illumination(0.0, 0.0, 0.0), **rough)
        light = reflectance * light_from_slope(slope_of(height_um, pixel_um), optics, **rough)
        fast = StackRenderer([Sheet(height_um, light)], PupilBlur(optics, pixel_um))
        inner = np.s_[50:-50, 50:-50]  # the surroundings differ
        for z_um in (-9.0, -3.0, 0.0, 4.0, 9.0):
            expected, found = exact.render(z_um)[inner], fast.render(z_um)[inner]
            assert np.sqrt(np.mean((found - expected) ** 2)) < 0.04 * expected.std()

    def test_nothing_fine_passes_far_from_focus(self):
        transfer = defocus_transfer(np.linspace(0.2, 1.6, 200), np.array([60.0, 500.0, 5000.0]), Optics(20, 0.45))
        assert np.abs(transfer).max() < 0.01

    def test_walls_shade_the_same_when_looked_at_less_often(self):
        pit = np.clip(np.hypot(*np.mgrid[-48:48, -40:40]) - 25.0, -12.0, 0.0).astype(np.float32) * 3.0
        every, fewer = (open_aperture(pit, 0.5, Optics(50, 0.8), coarse=coarse) for coarse in (False, True))
        assert every.min() < 0.6
        np.testing.assert_allclose(fewer, every, atol=0.1)

    @pytest.mark.parametrize("defocus_um", [0.0, 3.0, -8.0])
    def test_the_gaussian_of_a_thin_lens_grows_with_the_defocus(self, defocus_um):
        image = StackRenderer([Sheet(even(0.0), point())], SpreadBlur(0.5, 1.0, disc=False)).render(defocus_um)
        square = 1.0 + (0.5 * defocus_um) ** 2 + 1 / 12  # the pixel adds its own twelfth
        expected = np.exp(-(distance_px() ** 2) / 2 / square) / (2 * np.pi * square)
        np.testing.assert_allclose(image, expected, atol=0.01 * expected.max())

    @pytest.mark.parametrize("defocus_um", [6.0, -10.0])
    def test_the_disc_of_a_thin_lens_is_even_and_has_an_edge(self, defocus_um):
        image = StackRenderer([Sheet(even(0.0), point())], SpreadBlur(0.5, 0.3, disc=True)).render(defocus_um)
        radius_px = abs(defocus_um)  # twice the deviation along a line
        for share in (0.3, 0.6, 0.8):
            assert image[distance_px() < share * radius_px].sum() == pytest.approx(share**2, abs=0.05)
        assert image[distance_px() < 1.15 * radius_px].sum() == pytest.approx(1.0, abs=0.03)

    def test_light_is_neither_lost_nor_made(self):
        rng = np.random.default_rng(1)
        light = np.clip(1 + 0.3 * grains(SHAPE, rng, 1.0), 0.0, 3.0).astype(np.float32)
        renderer = StackRenderer([Sheet(20 * grains(SHAPE, rng, 9.0), light)], SpreadBlur(0.1, 0.3, disc=True))
        for z_um in (-60.0, 0.0, 25.0):
            assert renderer.render(z_um).mean() == pytest.approx(light.mean(), rel=0.01)

    def test_what_stands_before_hides_what_lies_behind(self):
        half = even(0.0)
        half[:, :40] = 1.0
        sheets = [Sheet(even(0.0), even(1.0)), Sheet(even(10.0), even(0.2), half)]
        sharp = StackRenderer(sheets, SpreadBlur(0.5, 0.3, disc=True)).render(10.0)
        assert sharp[40, 20] == pytest.approx(0.2, abs=0.02)
        assert sharp[40, 60] == pytest.approx(1.0, abs=0.02)
        blurred = StackRenderer(sheets, SpreadBlur(0.5, 0.3, disc=True)).render(0.0)
        assert 0.4 < blurred[40, 40] < 0.8  # seen through the blurred edge
        assert blurred[40, 20] == pytest.approx(0.2, abs=0.02)

    def test_an_edge_between_equals_is_invisible(self):
        half = even(0.0)
        half[:, 30:60] = 1.0
        renderer = StackRenderer(
            [Sheet(even(0.0), even(0.7)), Sheet(even(9.0), even(0.7), half)], SpreadBlur(0.6, 0.3, disc=False)
        )
        np.testing.assert_allclose(renderer.render(2.0), 0.7, atol=0.02)


class TestCamera:
    def test_the_laboratory_is_even_and_quiet(self):
        conditions = draw_conditions((32, 32), 5, np.random.default_rng(0), laboratory=True)
        assert np.ptp(conditions.light) == np.ptp(conditions.field) == 0.0
        assert conditions.faults is None
        assert conditions.jpeg == 0

    def test_a_workshop_is_not(self):
        drawn = [draw_conditions((32, 32), 8, np.random.default_rng(seed)) for seed in range(120)]
        assert 0.25 < np.mean([c.jpeg > 0 for c in drawn]) < 0.65
        assert any(c.faults is not None for c in drawn)
        assert any(np.ptp(c.light) > 0.15 for c in drawn)
        assert any(np.abs(c.shift_px).max() > 1.0 for c in drawn)
        assert any(np.ptp(c.scale) > 0.008 for c in drawn)
        assert any(c.level < 0.2 for c in drawn)
        assert any(c.level > 1.0 for c in drawn)
