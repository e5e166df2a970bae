import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from models.surfaces import SURFACES, surface, surface_parameters

PIXEL_UM = 0.5


@pytest.mark.parametrize("name", SURFACES)
class TestEverySurface:
    def test_is_made_of_plausible_numbers(self, name):
        made = surface(name, (160, 200), PIXEL_UM)
        assert made.height_um.shape == made.reflectance.shape == (160, 200)
        assert made.height_um.dtype == made.reflectance.dtype == np.float32
        assert np.isfinite(made.height_um).all()
        assert made.height_um.max() <= 0.6, "the outermost surface is at 0"
        assert made.reflectance.min() > 0.0
        assert made.reflectance.max() <= 1.0
        assert made.reflectance.std() > 0.03, "texture to focus on"

    def test_is_decided_by_its_seed(self, name):
        first, again, other = (surface(name, (96, 96), PIXEL_UM, seed=seed) for seed in (5, 5, 6))
        np.testing.assert_array_equal(first.height_um, again.height_um)
        np.testing.assert_array_equal(first.reflectance, again.reflectance)
        assert not np.array_equal(first.reflectance, other.reflectance)

    def test_fits_a_stack_of_20_to_40_frames(self, name):
        """At 512 x 512 under 10x / 0.30, with steps of a quarter to a third of the depth of field."""
        made = surface(name, (512, 512), PIXEL_UM)
        range_um = float(np.ptp(made.height_um)) + 8.0
        assert range_um / 1.0 >= 20
        assert range_um / 1.5 <= 40


def test_gravure_cells_have_the_given_depth_pitch_and_wall_angle():
    made = surface("gravure", (512, 512), PIXEL_UM, depth_um=30.0, track_um=110.0, period_um=150.0, stylus_deg=120.0)
    assert made.height_um.min() == pytest.approx(-30.0, abs=1.0)
    middle = made.height_um[256]
    assert int(np.argmin(middle[160:352])) + 160 == pytest.approx(256, abs=2), "a cell in the middle of the image"
    wall = np.polyfit(np.arange(20) * PIXEL_UM, middle[266:286], 1)[0]
    assert np.rad2deg(np.arctan(wall)) == pytest.approx(90 - 120 / 2, abs=2.0)
    assert made.height_um[256 + 150, 256] == pytest.approx(0.0, abs=0.5), "land half a period further"


def test_a_channel_joins_the_cells_of_a_track():
    apart = surface("gravure", (512, 512), PIXEL_UM)
    joined = surface("gravure", (512, 512), PIXEL_UM, channel_um=6.0)
    assert apart.height_um[:, 255].max() > -0.5
    assert joined.height_um[:, 255].max() < -5.0


def test_anilox_cells_form_a_hexagonal_lattice():
    made = surface("anilox", (512, 512), PIXEL_UM, pitch_um=80.0, depth_um=14.0)
    pitch_px = 160
    height = made.height_um - made.height_um.mean()
    for dy, dx in ((0, pitch_px), (round(pitch_px * np.sqrt(3) / 2), pitch_px // 2)):
        h, w = height.shape
        a, b = height[: h - dy, : w - dx], height[dy:, dx:]
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98
    assert made.height_um.min() == pytest.approx(-14.0, abs=0.7)


@given(st.floats(5.0, 40.0), st.floats(60.0, 85.0))
@settings(max_examples=10, deadline=None)
def test_the_step_standard_has_two_levels_of_the_given_distance(depth_um, wall_deg):
    made = surface("step", (64, 512), PIXEL_UM, depth_um=depth_um, wall_deg=wall_deg)
    land = np.median(made.height_um[made.height_um > -0.5])
    floor = np.median(made.height_um[made.height_um < -depth_um + 0.5])
    assert land - floor == pytest.approx(depth_um, abs=0.05)


def test_the_sphere_has_its_radius():
    made = surface("sphere", (400, 400), PIXEL_UM, radius_um=700.0)
    y, x = (np.indices((400, 400)) - 199.5) * PIXEL_UM
    np.testing.assert_allclose(np.sqrt(x**2 + y**2 + (made.height_um + 700.0) ** 2), 700.0, atol=0.01)
    with pytest.raises(InputError, match="needs more than"):
        surface("sphere", (400, 400), PIXEL_UM, radius_um=50.0)


def test_the_digit_stands_on_the_level_of_the_land():
    with_digit = surface("intaglio", (512, 512), PIXEL_UM, digit=8)
    without = surface("intaglio", (512, 512), PIXEL_UM, digit=-1)
    assert not np.array_equal(with_digit.height_um, without.height_um)
    assert (with_digit.height_um[200:312, 200:312] > -0.5).mean() > 0.1


def test_unknown_names_are_answered_with_those_that_exist():
    with pytest.raises(InputError, match="gravure"):
        surface("moon", (8, 8), PIXEL_UM)
    with pytest.raises(InputError, match="depth_um"):
        surface("gravure", (8, 8), PIXEL_UM, depth=3.0)
    assert surface_parameters("sphere") == {"radius_um": 900.0}
