import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j1

from models.focal_stack import Optics
from models.optics import (
    FocusRenderer,
    Illumination,
    blur_radius_um,
    defocus_transfer,
    light_from_slope,
    open_aperture,
)
from models.surfaces import Surface, surface

OPTICS = Optics(10.0, 0.3)
EVEN = Illumination(vignetting=0.0, tilt=0.0, stray=0.0)
PIXEL_UM = 0.5


def flat(shape=(128, 128), height_um=0.0, reflectance=0.5):
    return Surface(np.full(shape, height_um, np.float32), np.full(shape, reflectance, np.float32), PIXEL_UM, "flat")


def point(height_um=0.0, shape=(128, 128)):
    spot = np.zeros(shape, np.float32)
    spot[shape[0] // 2, shape[1] // 2] = 1.0
    return Surface(np.full(shape, height_um, np.float32), spot, PIXEL_UM, "point")


class TestTransfer:
    def test_in_focus_it_is_the_diffraction_limit(self):
        """Against the closed form 2/pi (acos v - v sqrt(1 - v^2)), v = f lambda / 2 NA."""
        frequency = np.linspace(0.0, 2.5, 60)
        v = np.clip(frequency * OPTICS.wavelength_um / (2 * OPTICS.na), 0, 1)
        expected = 2 / np.pi * (np.arccos(v) - v * np.sqrt(1 - v**2))
        found = defocus_transfer(frequency, np.zeros(1), OPTICS, bandwidth=0.0)[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_far_from_focus_it_is_that_of_the_geometric_blur_circle(self):
        """2 J1(a) / a with a = 2 pi f r. The rim of the wave front lies 2 % inside the thin lens's cone at NA 0.3."""
        a = np.linspace(0.01, 3.5, 30)
        for defocus_um in (100.0, 300.0):
            frequency = a / (2 * np.pi * blur_radius_um(defocus_um, OPTICS))
            found = defocus_transfer(frequency, np.array([defocus_um]), OPTICS, bandwidth=0.0)[0]
            np.testing.assert_allclose(found, 2 * j1(a) / a, atol=0.045)

    @given(st.floats(0, 500), st.floats(0.1, 0.9))
    @settings(max_examples=30, deadline=None)
    def test_passes_all_light_and_never_adds_contrast(self, defocus_um, na):
        optics = Optics(10.0, na)
        transfer = defocus_transfer(np.linspace(0, 4, 40), np.array([0.0, defocus_um]), optics)
        assert transfer[1, 0] == pytest.approx(1.0, abs=1e-4)
        assert np.all(np.abs(transfer[1]) <= transfer[0] + 0.01)

    def test_is_symmetric_in_defocus(self):
        frequency = np.linspace(0, 1, 20)
        up, down = defocus_transfer(frequency, np.array([7.0, -7.0]), OPTICS)
        np.testing.assert_array_equal(up, down)

    def test_blur_grows_with_aperture(self):
        assert blur_radius_um(10.0, Optics(10, 0.3)) == pytest.approx(10 * np.tan(np.arcsin(0.3)))
        assert blur_radius_um(-10.0, Optics(20, 0.45)) > blur_radius_um(10.0, Optics(10, 0.3))


class TestLight:
    def test_a_mirror_is_dark_when_it_throws_the_light_past_the_aperture(self):
        """sin(2 beta) = 2 NA: beyond this tilt nothing specular comes back."""
        slopes = np.tan(np.deg2rad(np.array([0.0, 5.0, 10.0, 17.0, 19.0, 40.0]))).astype(np.float32)
        light = light_from_slope(slopes, OPTICS, roughness_slope=1e-6, diffuse=0.0)
        assert light[0] == pytest.approx(1.0)
        assert np.all(np.diff(light) <= 1e-6)
        assert light[3] > 0.005
        assert light[4] == pytest.approx(0.0, abs=1e-3)

    def test_roughness_and_scatter_light_up_walls(self):
        wall = np.array([0.0, 0.5], np.float32)
        polished = light_from_slope(wall, OPTICS, roughness_slope=0.02, diffuse=0.0)[1]
        rough = light_from_slope(wall, OPTICS, roughness_slope=0.3, diffuse=0.0)[1]
        scattering = light_from_slope(wall, OPTICS, roughness_slope=0.02, diffuse=0.2)[1]
        assert polished < 0.01 < rough < 1
        assert scattering == pytest.approx(0.2 / np.hypot(1, 0.5), abs=0.01)

    def test_a_vertical_wall_hides_half_of_the_aperture_at_its_foot_and_nothing_far_away(self):
        height = np.zeros((64, 96), np.float32)
        height[:, :48] = 40.0
        share = open_aperture(height, PIXEL_UM, OPTICS, azimuths=36)
        assert share[32, 40] == pytest.approx(1.0), "the top sees everything"
        assert share[32, 49] == pytest.approx(0.5, abs=0.06)
        reach_px = 40.0 * np.tan(np.arcsin(0.3)) / PIXEL_UM
        assert share[32, 48 + int(reach_px) + 2] == pytest.approx(1.0, abs=0.01)
        assert np.all(np.diff(share[32, 49:80]) >= -1e-3)

    def test_illumination_is_one_in_the_middle_and_falls_to_the_corners(self):
        field = Illumination(vignetting=0.2, tilt=0.0).field((101, 151))
        assert field[50, 75] == pytest.approx(1.0)
        assert field[0, 0] == pytest.approx(0.8, abs=1e-6)


class TestRenderer:
    def test_stray_light_lifts_the_dark_by_a_share_of_the_mean(self):
        scene = surface("step", (96, 96), PIXEL_UM)
        clear = FocusRenderer(scene, OPTICS, illumination=EVEN).render(-3.0)
        veiled = FocusRenderer(scene, OPTICS, illumination=Illumination(0.0, 0.0, stray=0.1)).render(-3.0)
        np.testing.assert_allclose(veiled - clear, 0.1 * clear.mean(), rtol=1e-3)

    def test_an_even_surface_stays_even_at_every_focus(self):
        renderer = FocusRenderer(flat(), OPTICS, illumination=EVEN)
        for z_um in (0.0, 3.0, -20.0, 300.0):
            np.testing.assert_allclose(renderer.render(z_um), 0.5, atol=2e-3)

    @given(st.floats(-30, 30), st.floats(0, 25))
    @settings(max_examples=8, deadline=None)
    def test_a_point_is_sharpest_at_its_own_height(self, height_um, away_um):
        """Also where the height falls between two slabs."""
        renderer = FocusRenderer(point(height_um, (64, 64)), OPTICS, illumination=EVEN)
        at_focus = renderer.render(height_um).max()
        for z_um in (height_um + away_um, height_um - away_um):
            assert renderer.render(z_um).max() <= at_focus * (1 + 1e-4)
        up, down = renderer.render(height_um + 4.0).max(), renderer.render(height_um - 4.0).max()
        assert up == pytest.approx(down, rel=0.05), "focus curves are symmetric about the height"

    def test_defocus_keeps_the_light(self):
        renderer = FocusRenderer(point(shape=(192, 192)), OPTICS, illumination=EVEN)
        sums = [float(renderer.render(z_um).sum()) for z_um in (0.0, 10.0, 40.0)]
        assert sums[1] == pytest.approx(sums[0], rel=0.02)
        assert sums[2] == pytest.approx(sums[0], rel=0.03)

    def test_the_blur_circle_has_the_radius_of_the_light_cone(self):
        defocus_um = 80.0
        renderer = FocusRenderer(point(shape=(192, 192)), OPTICS, illumination=EVEN)
        image = renderer.render(defocus_um)
        y, x = np.indices(image.shape) - 96.0
        radius = np.hypot(y, x) * PIXEL_UM
        rms = np.sqrt((image * radius**2)[radius < 50].sum() / image[radius < 50].sum())
        assert rms == pytest.approx(blur_radius_um(defocus_um, OPTICS) / np.sqrt(2), rel=0.08)

    def test_out_of_focus_land_spills_into_the_cell(self):
        """What a blur "per pixel" gets wrong: the sharp floor beside a wall receives the light of the land."""
        height = np.zeros((128, 128), np.float32)
        height[:, 64:] = -40.0
        reflectance = np.where(height < -1, 0.0, 0.8).astype(np.float32)
        renderer = FocusRenderer(Surface(height, reflectance, PIXEL_UM, "edge"), OPTICS, illumination=EVEN)
        floor = renderer.render(-40.0)[64, 70]
        assert floor > 0.05
        assert renderer.render(0.0)[64, 74] < 0.01

    def test_magnification_breathes_about_the_middle_of_the_image(self):
        texture = surface("sphere", (128, 128), PIXEL_UM, seed=1)
        still = FocusRenderer(texture, OPTICS, illumination=EVEN)
        breathing = FocusRenderer(texture, OPTICS, illumination=EVEN, breathing_per_um=0.004)
        z_um = float(np.median(texture.height_um)) + 10.0
        plain, scaled = still.render(z_um), breathing.render(z_um)
        by_hand = cv2.warpAffine(
            plain, cv2.getRotationMatrix2D((63.5, 63.5), 0.0, 1.04), (128, 128), flags=cv2.INTER_CUBIC
        )
        assert np.abs(by_hand - scaled).max() < 0.2 * np.abs(plain - scaled).max()

    def test_shift_moves_the_sample(self):
        texture = surface("sphere", (96, 96), PIXEL_UM, seed=1)
        renderer = FocusRenderer(texture, OPTICS, illumination=EVEN)
        plain, moved = renderer.render(0.0), renderer.render(0.0, shift_px=(3.0, -2.0))
        inner = np.s_[8:-8, 8:-8]
        np.testing.assert_allclose(np.roll(plain, (3, -2), axis=(0, 1))[inner], moved[inner], atol=1e-3)

    def test_odd_and_oblong_images(self):
        for shape in ((33, 57), (16, 200), (101, 101)):
            image = FocusRenderer(surface("gravure", shape, PIXEL_UM), OPTICS).render(-5.0)
            assert image.shape == shape
            assert image.dtype == np.float32
            assert np.isfinite(image).all()
            assert image.min() >= 0.0
