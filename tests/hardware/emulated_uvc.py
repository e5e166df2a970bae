"""UVC cameras on the emulated Video4Linux device; run by test_camera_uvc.py in a process of its own."""

import ctypes
import time

import numpy as np
import pytest

from hardware.camera import CameraDisconnected, CameraError, CameraSettings
from hardware.cameras.settings import UvcCameraProfile
from hardware.cameras.uvc import UvcCamera
from tests.hardware.camera_behaviour import CameraBehaviour

DEVICE = ctypes.CDLL(None)
BEGIN, END, NONE = range(3)
# Video4Linux control numbers, linux/v4l2-controls.h
GAIN, WHITE_BALANCE, EXPOSURE_MODE, EXPOSURE, AUTOFOCUS = 0x980913, 0x98090C, 0x9A0901, 0x9A0902, 0x9A090C


@pytest.fixture
def open_camera():
    opened = []

    def opening(**section):
        profile = UvcCameraProfile(**{"driver": "uvc", "index": 42, "sensor_pixel_um": 3.0, **section})
        opened.append(UvcCamera(profile))
        return opened[-1]

    yield opening
    DEVICE.emulator_plug(1)
    DEVICE.emulator_stall(0)
    DEVICE.emulator_stamp(BEGIN)
    DEVICE.emulator_stubborn(0)
    for camera in opened:
        camera.close()


def true_beginning_s(image):
    """The device writes it into the first 16 pixels; YUV to grey stretches 16..235 to 0..255."""
    values = image[0, :16].astype(float)
    digits = (values / 256 - 16) / 8 if image.dtype == np.uint16 else values * (219 / 255) / 8
    assert np.abs(digits - np.round(digits)).max() < 0.3
    return sum(int(digit) << (4 * place) for place, digit in enumerate(np.round(digits))) / 1e9


class TestUvcCamera(CameraBehaviour):
    driver = "uvc"

    @pytest.fixture
    def camera(self, open_camera):
        return open_camera()


@pytest.mark.parametrize("stamp", [BEGIN, END, NONE])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pause_s", [0.0, 0.013, 0.15])
def test_no_picture_is_older_than_the_request(open_camera, stamp, bits, pause_s):
    DEVICE.emulator_stamp(stamp)
    camera = open_camera(settings=CameraSettings(exposure_ms=10.0, bit_depth=bits))
    for _picture in range(4):
        time.sleep(pause_s)
        asked_s = time.monotonic()
        picture = camera.snap()
        assert true_beginning_s(picture.image) >= asked_s
        assert asked_s <= picture.time_s <= true_beginning_s(picture.image) + 1e-3


def test_the_queue_of_the_system_really_holds_old_pictures(open_camera):
    """What the driver is for: OpenCV alone delivers a picture from before the pause."""
    camera = open_camera()
    camera.snap()
    time.sleep(0.3)
    asked_s = time.monotonic()
    _good, image = camera._calls.run(camera._capture.read, 2.0)
    assert true_beginning_s(image[..., 0]) < asked_s - 0.2


def test_exposure_is_manual_and_in_milliseconds(open_camera):
    camera = open_camera()
    assert DEVICE.emulator_exposure_mode() == 1
    assert camera.ranges.exposure_ms == (0.3, 204.7)
    camera.apply(camera.settings.model_copy(update={"exposure_ms": 12.34}))
    assert DEVICE.emulator_exposure() == 123
    assert camera.settings.exposure_ms == pytest.approx(12.3)


def test_the_first_picture_after_a_change_shows_the_change(open_camera):
    camera = open_camera()
    for exposure_ms in (5.0, 60.0):
        camera.apply(camera.settings.model_copy(update={"exposure_ms": exposure_ms}))
        body = camera.snap().image[10:]
        assert body.min() == body.max() == pytest.approx((20 + exposure_ms * 10 / 12 - 16) * 255 / 219, abs=2)


def test_16_bit_where_the_camera_has_y16(open_camera):
    camera = open_camera()
    assert camera.ranges.bit_depths == (8, 16)
    camera.apply(camera.settings.model_copy(update={"bit_depth": 16}))
    image = camera.snap().image
    assert (image.dtype, image.shape) == (np.uint16, (48, 64))
    assert image[20, 20] > 255


def test_colour_comes_as_rgb(open_camera):
    assert open_camera(colour=True).snap().image.shape == (48, 64, 3)


def test_gain_only_where_the_profile_tells_its_unit(open_camera):
    camera = open_camera()
    assert camera.ranges.gain == (1.0, 1.0)
    camera.close()
    camera = open_camera(unit_gain=16)
    assert camera.ranges.gain == (1.0, pytest.approx(255 / 16))
    camera.apply(camera.settings.model_copy(update={"gain": 4.0}))
    assert camera._capture.get(14) == 64.0  # CAP_PROP_GAIN


@pytest.mark.parametrize(
    ("control", "change", "words"),
    [
        (EXPOSURE, {"exposure_ms": 60.0, "gain": 4.0}, r"did not take an exposure of 60 ms; it stays at 10"),
        (GAIN, {"exposure_ms": 60.0, "gain": 4.0}, r"did not take a gain of 4; it stays at 1"),
    ],
)
def test_a_setting_that_the_camera_does_not_take_is_said_and_nothing_is_changed(open_camera, control, change, words):
    camera = open_camera(unit_gain=16, settings=CameraSettings(exposure_ms=10.0))
    before = camera.settings
    DEVICE.emulator_stubborn(control)
    with pytest.raises(CameraError, match=words) as refusal:
        camera.apply(before.model_copy(update=change))
    assert camera.name in str(refusal.value)
    assert camera.settings == before
    assert (DEVICE.emulator_exposure(), camera._capture.get(14)) == (100, 16.0)  # CAP_PROP_GAIN


@pytest.mark.parametrize(
    ("control", "colour", "words"),
    [
        (EXPOSURE_MODE, False, "automatic exposure off"),
        (AUTOFOCUS, False, "automatic focus off"),
        (WHITE_BALANCE, True, "automatic white balance off"),
    ],
)
def test_a_camera_that_adapts_by_itself_is_refused(open_camera, control, colour, words):
    DEVICE.emulator_power_up()
    DEVICE.emulator_stubborn(control)
    with pytest.raises(CameraError, match=words):
        open_camera(colour=colour)


def test_white_balance_does_not_matter_to_grey_pictures(open_camera):
    DEVICE.emulator_power_up()
    DEVICE.emulator_stubborn(WHITE_BALANCE)
    assert open_camera().snap().image.shape == (48, 64)


def test_a_camera_pulled_out_is_missed_at_once_and_found_again(open_camera):
    camera = open_camera(settings=CameraSettings(exposure_ms=8.0, bit_depth=16))
    camera.snap()
    DEVICE.emulator_plug(0)
    began_s = time.monotonic()
    with pytest.raises(CameraDisconnected, match="Check its cable"):
        camera.snap()
    assert time.monotonic() - began_s < 5.0
    with pytest.raises(CameraDisconnected):
        camera.reconnect()
    DEVICE.emulator_plug(1)
    camera.reconnect()
    assert camera.settings == CameraSettings(exposure_ms=8.0, bit_depth=16)
    assert camera.snap().image.dtype == np.uint16


def test_a_camera_that_stands_still_ends_the_wait(open_camera):
    camera = open_camera(timeout_s=0.2)
    camera.snap()
    DEVICE.emulator_stall(1)
    began_s = time.monotonic()
    with pytest.raises(CameraError, match=r"does not answer|no new picture"):
        camera.snap()
    assert time.monotonic() - began_s < 5.0


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"index": 41}, "no camera 41"),
        ({"width": 1920, "height": 1080}, "no pictures of 1920 × 1080 pixels; it offers 64 × 48"),
        ({"fourcc": "MJPG"}, "no format MJPG"),
    ],
)
def test_what_cannot_be_opened_is_explained(open_camera, section, words):
    with pytest.raises(CameraError, match=words):
        open_camera(**section)
