import threading
import time

import numpy as np
import pytest

from hardware.camera import CameraDisconnected, CameraError, TriggeredCamera
from hardware.profile import load_profile, open_microscope
from tests.hardware.camera_behaviour import CameraBehaviour
from tests.hardware.conftest import SMALL


@pytest.fixture
def microscope():
    profile = load_profile("simulated").changed(camera={**SMALL, "readout_ms": 0.0, "settings": {"exposure_ms": 2.0}})
    with open_microscope(profile) as opened:
        yield opened


class TestSimulatedCamera(CameraBehaviour):
    driver = "simulated"

    @pytest.fixture
    def camera(self, microscope):
        return microscope.camera

    def test_closed_it_says_so_and_opens_again_with_the_same_settings(self, camera):
        camera.fail_at(0)
        for call in (camera.snap, camera.reconnect, lambda: camera.arm(3)):
            with pytest.raises(CameraDisconnected, match="Check its cable"):
                call()
        camera.fail_at(None)
        camera.reconnect()
        camera.snap()


def test_pulses_take_pictures_of_where_the_stage_was_then(microscope):
    camera, axis = microscope.camera, microscope.axis
    assert isinstance(camera, TriggeredCamera)
    camera.trigger()  # nobody listens yet
    camera.arm(3)
    heights_um = (10.0, 0.0, -10.0)

    def controller():
        for z_um in heights_um:
            axis.move_to(z_um)
            camera.trigger()

    began_s = time.monotonic()
    thread = threading.Thread(target=controller)
    thread.start()
    triggered = [camera.next_picture(5.0) for _ in heights_um]
    thread.join()
    with pytest.raises(CameraError, match="no trigger pulse"):
        camera.next_picture(0.01)
    camera.disarm()
    times = [picture.time_s for picture in triggered]
    assert [began_s, *times] == sorted([began_s, *times])
    for picture, z_um in zip(triggered, heights_um, strict=True):
        axis.move_to(z_um)
        asked_for = camera.snap().image.astype(float)
        others = [other for other in triggered if other is not picture]
        distance = np.abs(picture.image - asked_for).mean()
        assert all(distance < np.abs(other.image - asked_for).mean() for other in others)


def test_a_camera_that_is_not_armed_says_so(microscope):
    with pytest.raises(CameraError, match="not armed"):
        microscope.camera.next_picture(0.1)
