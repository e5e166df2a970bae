"""Basler cameras, on the camera that the maker's SDK emulates: real SDK, real queues, no hardware."""

import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from hardware.camera import CameraDisconnected, CameraError, CameraSettings, Roi, TriggeredCamera
from hardware.cameras import list_cameras
from hardware.cameras.settings import BaslerCameraProfile
from tests.hardware.camera_behaviour import CameraBehaviour

pytest.importorskip("pypylon", reason="pypylon is not installed")

SMALL = CameraSettings(exposure_ms=2.0, roi=Roi(width=160, height=120))


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    monkeypatch.setenv("PYLON_CAMEMU", "2")


@pytest.fixture
def open_camera():
    from hardware.cameras.basler import BaslerCamera

    opened = []

    def opening(**section):
        profile = {"sensor_pixel_um": 3.45, "settings": SMALL, **section}
        opened.append(BaslerCamera(BaslerCameraProfile(driver="basler", **profile)))
        return opened[-1]

    yield opening
    for camera in opened:
        camera.close()


@pytest.fixture
def numbered(tmp_path):
    """Images whose grey tells their number, as the emulator shows them: the features, and the images."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 65536, (120, 160)).astype(np.uint16) for _ in range(8)]
    for index, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{index:03d}.png"), image)
    return {"TestImageSelector": "Off", "ImageFilename": str(tmp_path), "ImageFileMode": "On"}, images


def number_of(image, images):
    return next(number for number, known in enumerate(images) if np.array_equal(image, known))


DEEP = SMALL.model_copy(update={"bit_depth": 16})


class TestBaslerCamera(CameraBehaviour):
    driver = "basler"

    @pytest.fixture
    def camera(self, open_camera):
        return open_camera()


def test_finds_the_cameras_and_opens_the_one_with_the_serial_number(open_camera):
    serials = [found.serial for found in list_cameras().cameras if found.driver == "basler"]
    assert len(serials) == 2
    for serial in serials:
        camera = open_camera(serial=serial)
        assert camera.identity.serial == serial
        assert serial in camera.name
        camera.close()


def test_a_missing_camera_is_named_with_those_found(open_camera):
    with pytest.raises(CameraDisconnected, match=r"4711 is not connected.*0815-0000"):
        open_camera(serial="4711")


def test_16_bit_values_arrive_unchanged_one_per_trigger(open_camera, numbered):
    features, images = numbered
    camera = open_camera(settings=DEEP, features=features)
    for image in images:
        np.testing.assert_array_equal(camera.snap().image, image)


def test_gain_is_a_factor_whatever_the_camera_counts_in(open_camera):
    camera = open_camera()
    camera.apply(SMALL.model_copy(update={"gain": 10.0}))
    assert camera._features.get("Gain") == pytest.approx(20.0)  # dB
    assert camera.settings.gain == pytest.approx(10.0)


def test_colour_comes_as_rgb(open_camera):
    camera = open_camera(colour=True)
    image = camera.snap().image
    assert image.shape == camera.image_shape == (120, 160, 3)


def test_corrupt_pictures_are_taken_again_and_counted(open_camera, numbered):
    features, images = numbered
    camera = open_camera(settings=DEEP, features=features)
    camera.snap()
    camera._features.set("ForceFailedBufferCount", 2)
    camera._camera.ForceFailedBuffer.Execute()
    good = camera.snap().image
    assert camera.dropped_frames == 2
    assert number_of(good, images) > 0


def test_a_camera_that_sends_only_corrupt_pictures_is_given_up_and_usable_later(open_camera):
    camera = open_camera()
    camera._features.set("ForceFailedBufferCount", 3)
    camera._camera.ForceFailedBuffer.Execute()
    with pytest.raises(CameraError, match="no usable picture in 3 tries"):
        camera.snap()
    camera.snap()


def test_a_picture_left_in_the_queue_is_not_taken_for_a_new_one(open_camera, numbered):
    features, images = numbered
    camera = open_camera(settings=DEEP, features=features)
    for _trigger in range(2):  # behind the driver's back
        camera._is_ready()
        camera._camera.ExecuteSoftwareTrigger()
        time.sleep(0.1)
    np.testing.assert_array_equal(camera.snap().image, images[2])


def test_a_camera_that_is_too_late_is_given_up_and_usable_later(open_camera, numbered):
    features, images = numbered
    hasty = DEEP.model_copy(update={"exposure_ms": 0.01})
    camera = open_camera(settings=hasty, features=features, timeout_s=0.001)

    def many() -> None:  # on a busy computer the wait itself may take long enough for the picture to come
        for _try in range(20):
            camera.snap()

    with pytest.raises(CameraError, match="no usable picture"):
        many()
    assert camera.dropped_frames >= 3
    camera.apply(DEEP.model_copy(update={"exposure_ms": 1000.0}))
    first, second = (number_of(camera.snap().image, images) for _picture in range(2))
    assert second == (first + 1) % len(images)


@pytest.fixture
def with_a_clock(monkeypatch):
    """The emulator has no clock of its own and stamps no pictures: that of their arrival stands for it."""
    from hardware.cameras import sfnc
    from hardware.cameras.basler import BaslerCamera

    receive = BaslerCamera._receive

    def stamped(camera, timeout_s):
        received = receive(camera, timeout_s)
        return received and replace(received, stamp_s=time.monotonic())

    monkeypatch.setattr(BaslerCamera, "_receive", stamped)
    monkeypatch.setattr(sfnc, "read_clock", lambda *_about: sfnc.CameraClock(time.monotonic(), time.monotonic()))


def test_without_a_clock_of_its_own_a_camera_takes_no_series(open_camera):
    camera = open_camera()
    with pytest.raises(CameraError, match="belong to its pulse"):
        camera.arm(3)
    camera.snap()


def test_a_picture_lost_in_a_series_is_noticed(open_camera, with_a_clock):
    camera = open_camera(trigger_line="Software")
    camera.arm(3)
    for _pulse in range(3):
        camera._camera.ExecuteSoftwareTrigger()
        time.sleep(0.05)
    camera.next_picture(2.0)
    camera._camera.RetrieveResult(1000).Release()
    with pytest.raises(CameraError, match="lost a picture"):
        camera.next_picture(2.0)


def test_a_triggered_series_comes_in_order(open_camera, numbered, with_a_clock):
    """The software trigger stands for the wire: the emulator has none."""
    features, images = numbered
    camera = open_camera(settings=DEEP, features=features, trigger_line="Software")
    assert isinstance(camera, TriggeredCamera)
    camera.arm(5)

    def pulses():
        for _pulse in range(5):
            camera._camera.ExecuteSoftwareTrigger()
            time.sleep(0.03)

    controller = threading.Thread(target=pulses)
    controller.start()
    began_s = time.monotonic()
    pictures = [camera.next_picture(2.0) for _ in range(5)]
    controller.join()
    for picture, image in zip(pictures, images, strict=False):
        np.testing.assert_array_equal(picture.image, image)
    times = [picture.time_s for picture in pictures]
    assert times == sorted(times)
    assert times[-1] > began_s
    camera.disarm()
    np.testing.assert_array_equal(camera.snap().image, images[0])  # the emulator begins again


def test_a_series_without_pulses_ends_with_a_question_about_the_line(open_camera, with_a_clock):
    camera = open_camera(trigger_line="Line2")
    camera.arm(3)
    with pytest.raises(CameraError, match="trigger line"):
        camera.next_picture(0.1)
    camera.disarm()
    camera.snap()


def test_an_unknown_trigger_line_is_refused_with_those_there_are(open_camera):
    camera = open_camera(trigger_line="Line9")
    with pytest.raises(CameraError, match=r"Line9; choose one of Software, Line1"):
        camera.arm(3)
    camera.snap()


def test_a_feature_that_is_not_there_or_out_of_range_is_named(open_camera):
    with pytest.raises(CameraError, match="no feature 'Gamme'"):
        open_camera(features={"Gamme": 1.0})
    with pytest.raises(CameraError, match=r"Emulation.*reports: Value 9"):
        open_camera(features={"Gamma": 9.0})


def test_only_what_the_sensor_can_do_is_promised_for_the_roi(open_camera):
    camera = open_camera()
    camera.apply(SMALL.model_copy(update={"roi": Roi(left=3, top=5, width=101, height=77)}))
    roi = camera.settings.roi
    assert camera.snap().image.shape == (roi.height, roi.width) == camera.image_shape
