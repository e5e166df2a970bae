import math

import cv2
import numpy as np
import pytest

from hardware.camera import CameraDisconnected, CameraError
from hardware.cameras import open_camera
from hardware.cameras.replay import ReplayCamera
from hardware.cameras.settings import ReplayCameraProfile
from hardware.clock import FastClock
from tests.hardware.camera_behaviour import CameraBehaviour

COUNT = 6


@pytest.fixture
def folder(tmp_path):
    for index in range(COUNT):
        cv2.imwrite(str(tmp_path / f"frame_{index:02d}.png"), np.full((48, 64), 1000 * index, np.uint16))
    return tmp_path


def replay(folder, focus_um=lambda: 0.0, **section):
    profile = ReplayCameraProfile(
        **{"driver": "replay", "path": folder, "sensor_pixel_um": 5.0, "step_um": 2.0, "first_um": 10.0, **section}
    )
    return ReplayCamera(profile, FastClock(math.inf), focus_um)


class TestReplayCamera(CameraBehaviour):
    driver = "replay"

    @pytest.fixture
    def camera(self, folder):
        profile = ReplayCameraProfile(driver="replay", path=folder, sensor_pixel_um=5.0, step_um=2.0, first_um=10.0)
        return open_camera(profile, lambda: 12.0)


@pytest.mark.parametrize(("z_um", "grey"), [(-99, 0), (10, 0), (12.9, 1000), (13.1, 2000), (20, 5000), (99, 5000)])
def test_shows_the_frame_nearest_to_the_height_of_the_stage(folder, z_um, grey):
    assert replay(folder, lambda: z_um).snap().image.max() == grey


def test_descending_stacks_begin_at_the_top(folder):
    assert replay(folder, lambda: 8.0, descending=True).snap().image.max() == 1000


def test_in_sequence_it_begins_again_after_the_last(folder):
    camera = replay(folder, order="sequence", step_um=None, first_um=None)
    assert [camera.snap().image.max() for _ in range(COUNT + 2)] == [0, 1000, 2000, 3000, 4000, 5000, 0, 1000]


def test_heights_nobody_knows_are_asked_for(folder):
    with pytest.raises(CameraError, match="step_um"):
        replay(folder, step_um=None, first_um=None)


def test_a_missing_folder_and_a_frame_that_went_missing_are_named(folder, tmp_path):
    with pytest.raises(CameraDisconnected, match="nowhere"):
        replay(tmp_path / "nowhere")
    camera = replay(folder, lambda: 12.0)
    (folder / "frame_01.png").unlink()
    with pytest.raises(CameraError, match=r"frame_01\.png"):
        camera.snap()
