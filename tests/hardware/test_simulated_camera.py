import math

import numpy as np
import pytest

from hardware.autofocus import sharpness
from hardware.camera import CameraError, CameraSettings
from hardware.profile import load_profile, open_microscope
from tests.hardware.conftest import SMALL


def grey_card(sensor=None, **settings):
    """A camera in focus on the flat ball top, far from its texture's peak: nearly even light."""
    profile = load_profile("simulated-sphere").changed(
        time_scale=math.inf,
        camera={**SMALL, **(sensor or {}), "settings": settings},
        sample={"vignetting": 0, "tilt": 0},
    )
    return open_microscope(profile).camera


def test_twice_the_exposure_is_twice_the_signal():
    camera = grey_card({"offset_share": 0.0, "dark_e_per_s": 0.0}, bit_depth=16)
    means = []
    for exposure_ms in (2.0, 4.0, 8.0):
        camera.apply(CameraSettings(exposure_ms=exposure_ms, bit_depth=16))
        means.append(camera.snap().image.mean())
    assert means[1] / means[0] == pytest.approx(2.0, rel=0.01)
    assert means[2] / means[1] == pytest.approx(2.0, rel=0.01)


def test_shot_noise_grows_with_the_root_of_the_light_and_gain_does_not_change_the_ratio():
    """The photon transfer curve of EMVA 1288: variance over mean in electrons is 1."""
    camera = grey_card({"offset_share": 0.0, "dark_e_per_s": 0.0, "read_noise_e": 0.0})
    for gain in (1.0, 2.0):
        camera.apply(CameraSettings(exposure_ms=4.0, gain=gain, bit_depth=16))
        first, second = (camera.snap().image.astype(float) for _ in range(2))
        per_electron = gain * 65535 / camera.sensor.full_well_e
        mean_e = first.mean() / per_electron
        variance_e = np.var(first - second) / 2 / per_electron**2
        assert variance_e == pytest.approx(mean_e, rel=0.05)


def test_in_the_dark_only_offset_and_read_noise_are_left():
    camera = grey_card({"light_e_per_ms": 1e-6, "dark_e_per_s": 0.0, "read_noise_e": 8.0, "offset_share": 0.02})
    camera.apply(CameraSettings(bit_depth=12))
    image = camera.snap().image.astype(float)
    assert image.mean() == pytest.approx(0.02 * 4095, abs=0.5)
    assert image.std() == pytest.approx(8.0 * 4095 * 0.98 / camera.sensor.full_well_e, rel=0.1)


@pytest.mark.parametrize(("bits", "dtype", "top"), [(8, np.uint8, 255), (12, np.uint16, 4095), (16, np.uint16, 65535)])
def test_saturates_at_the_top_of_every_bit_depth(bits, dtype, top):
    camera = grey_card(exposure_ms=100.0, bit_depth=bits)
    image = camera.snap().image
    assert image.dtype == camera.dtype == dtype
    assert image.shape == camera.image_shape
    assert image.min() == image.max() == top


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"exposure_ms": 1e6}, "exposure"), ({"gain": 100.0}, "gain"), ({"bit_depth": 10}, "8, 12, 16")],
)
def test_refuses_what_it_cannot_do_and_keeps_its_settings(settings, words):
    camera = grey_card()
    before = camera.settings
    with pytest.raises(CameraError, match=words):
        camera.apply(CameraSettings(**settings))
    assert camera.settings == before


def test_a_picture_takes_at_least_its_exposure_and_readout(microscope):
    clock = microscope.axis.clock
    microscope.camera.apply(CameraSettings(exposure_ms=200.0))
    began_s = clock.now()
    picture = microscope.camera.snap()
    assert picture.time_s >= began_s
    assert clock.now() - began_s >= 0.215 - 1e-6


def test_motion_during_the_exposure_blurs_the_picture():
    profile = load_profile("simulated-sphere").changed(time_scale=math.inf, camera={**SMALL, "light_e_per_ms": 200.0})
    microscope = open_microscope(profile)
    microscope.camera.apply(CameraSettings(exposure_ms=40.0, bit_depth=16))
    microscope.axis.move_to(0.0)
    still = sharpness(microscope.camera.snap().image)
    microscope.stage.start_move_to(-40.0)
    assert sharpness(microscope.camera.snap().image) < 0.8 * still


def test_the_same_seed_gives_the_same_picture():
    first, second = (grey_card().snap().image for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_sample_drifts_sideways():
    profile = load_profile("simulated").changed(
        time_scale=math.inf, camera={**SMALL, "drift_px_per_min": (0.0, 60.0)}, stage={"start_um": 0.0}
    )
    microscope = open_microscope(profile)
    early = microscope.camera.snap().image.astype(float)
    microscope.axis.clock.wait(5.0)
    late = microscope.camera.snap().image.astype(float)
    inner = np.s_[10:-10, 10:-10]
    moved = np.roll(late, -5, axis=1)
    assert np.abs(moved[inner] - early[inner]).mean() < 0.5 * np.abs(late[inner] - early[inner]).mean()
