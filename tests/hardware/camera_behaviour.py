"""What every camera must do, whichever driver; a test class per driver inherits the table."""

import time

import numpy as np
import pytest

from hardware.camera import Camera, CameraDisconnected, CameraError, Roi


class CameraBehaviour:
    """Subclasses give the fixture ``camera`` and the name of its driver."""

    driver: str

    @pytest.fixture
    def camera(self) -> Camera:
        raise NotImplementedError

    def test_tells_who_it_is(self, camera):
        assert camera.identity.driver == self.driver
        assert camera.identity.model
        assert camera.name

    def test_pictures_have_the_promised_shape_and_type_at_every_depth(self, camera):
        for bits in camera.ranges.bit_depths:
            camera.apply(camera.settings.model_copy(update={"bit_depth": bits}))
            assert camera.settings.bit_depth == bits
            image = camera.snap().image
            assert image.shape == camera.image_shape
            assert image.dtype == camera.dtype == (np.uint8 if bits == 8 else np.uint16)
            assert image.max() < 2**bits

    def test_a_picture_is_asked_for_before_it_begins(self, camera):
        for pause_s in (0.0, 0.2, 0.05):
            time.sleep(pause_s)
            asked_s = time.monotonic()
            picture = camera.snap()
            assert asked_s <= picture.time_s <= time.monotonic()

    def test_a_picture_belongs_to_the_caller(self, camera):
        first = camera.snap().image
        copy = first.copy()
        first_buffer = first.__array_interface__["data"][0]
        others = [camera.snap().image for _ in range(12)]
        np.testing.assert_array_equal(first, copy)
        assert first_buffer not in [image.__array_interface__["data"][0] for image in others]
        first[:] = 0  # and it can be written to

    def test_settings_are_what_the_camera_uses(self, camera):
        low_ms, high_ms = camera.ranges.exposure_ms
        wanted_ms = min(max(7.0, low_ms), high_ms)
        camera.apply(camera.settings.model_copy(update={"exposure_ms": wanted_ms}))
        assert camera.settings.exposure_ms == pytest.approx(wanted_ms, rel=0.02)
        assert camera.snap().image.shape == camera.image_shape

    @pytest.mark.parametrize(
        ("change", "words"), [({"exposure_ms": 1e9}, "exposure"), ({"gain": 1e9}, "gain"), ({"bit_depth": 9}, "9 bit")]
    )
    def test_refuses_what_it_cannot_do_names_itself_and_keeps_its_settings(self, camera, change, words):
        before = camera.settings
        with pytest.raises(CameraError, match=words) as refusal:
            camera.apply(before.model_copy(update=change))
        assert camera.name in str(refusal.value)
        assert camera.settings == before
        camera.snap()

    def test_reads_out_a_part_of_its_sensor_or_says_that_it_cannot(self, camera):
        whole = camera.settings.model_copy(update={"roi": None})
        part = whole.model_copy(update={"roi": Roi(left=16, top=32, width=64, height=48)})
        if camera.ranges.sensor_shape is None:
            with pytest.raises(CameraError, match="ROI"):
                camera.apply(part)
            return
        camera.apply(whole)
        assert camera.snap().image.shape[:2] == camera.ranges.sensor_shape
        camera.apply(part)
        assert camera.settings.roi == part.roi
        assert camera.snap().image.shape[:2] == camera.image_shape[:2] == (48, 64)
        beyond = part.model_copy(update={"roi": Roi(left=10**6, top=0, width=64, height=48)})
        with pytest.raises(CameraError, match="ROI"):
            camera.apply(beyond)

    def test_closed_it_says_so_and_opens_again_with_the_same_settings(self, camera):
        camera.apply(camera.settings.model_copy(update={"bit_depth": camera.ranges.bit_depths[-1]}))
        settings, shape = camera.settings, camera.image_shape
        camera.close()
        camera.close()
        with pytest.raises(CameraDisconnected) as refusal:
            camera.snap()
        assert camera.name in str(refusal.value)
        camera.reconnect()
        assert (camera.settings, camera.image_shape) == (settings, shape)
        assert camera.snap().image.shape == shape
