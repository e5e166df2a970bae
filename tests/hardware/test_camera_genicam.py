"""GenICam cameras, on the simulated producer that comes with the package genicam: no trigger, no exposure, 8 bit.

What it lacks - software trigger, gain, ROI, deep formats - goes through the same :mod:`hardware.cameras.sfnc` as on
Basler's emulated camera, and is tested there.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hardware.camera import CameraDisconnected, CameraError
from hardware.cameras import list_cameras
from hardware.cameras.settings import GenicamCameraProfile
from tests.hardware.camera_behaviour import CameraBehaviour

genicam = pytest.importorskip("genicam", reason="genicam is not installed")
pytest.importorskip("harvesters", reason="harvesters is not installed")

FOLDER = Path(genicam.__file__).parent
PRODUCER = FOLDER / "viky.cti"


@pytest.fixture(autouse=True)
def no_other_producers(monkeypatch):
    monkeypatch.setenv("GENICAM_GENTL64_PATH", "")


@pytest.fixture
def open_camera():
    from hardware.cameras.genicam import GenicamCamera

    opened = []

    def opening(**section):
        profile = {"sensor_pixel_um": 3.45, "producer": PRODUCER, **section}
        opened.append(GenicamCamera(GenicamCameraProfile(driver="genicam", **profile)))
        return opened[-1]

    yield opening
    for camera in opened:
        camera.close()


class TestGenicamCamera(CameraBehaviour):
    driver = "genicam"

    @pytest.fixture
    def camera(self, open_camera):
        return open_camera()


def test_finds_the_cameras_of_the_registered_producers_and_opens_one(open_camera, monkeypatch):
    monkeypatch.setenv("GENICAM_GENTL64_PATH", str(FOLDER))
    found = [camera for camera in list_cameras().cameras if camera.driver == "genicam"]
    assert [camera.serial for camera in found] == ["0", "1", "2"]
    camera = open_camera(producer=None, serial="2")
    assert camera.identity == found[2]


def test_grey_and_colour(open_camera):
    grey = open_camera()
    assert grey.image_shape == (400, 400)
    grey.close()
    assert open_camera(colour=True).snap().image.shape == (400, 400, 3)


def test_without_trigger_nothing_is_acquired_that_was_not_asked_for(open_camera):
    """So that no old picture can wait in a queue."""
    camera = open_camera()
    assert not camera._acquirer.is_acquiring()
    camera.snap()
    assert not camera._acquirer.is_acquiring()
    assert camera._acquirer.num_holding_filled_buffers == 0


class Queue:
    """An acquisition with software trigger: each trigger brings a picture, numbered by its grey value."""

    num_buffers = 8

    def __init__(self):
        self.waiting, self.triggers = [], 0

    def execute(self, _name):
        self.triggers += 1
        self.waiting.append(self.triggers)

    def try_fetch(self, *, timeout):
        if not self.waiting:
            return None
        data = np.full(12, self.waiting.pop(0), np.uint8)
        part = SimpleNamespace(data=data, data_format="Mono8", height=3, width=4)
        return SimpleNamespace(payload=SimpleNamespace(components=[part]), queue=lambda: None)

    def destroy(self):
        pass


def test_a_picture_that_came_late_is_not_taken_for_that_of_the_next_trigger(open_camera, monkeypatch):
    camera, queue = open_camera(), Queue()
    with monkeypatch.context() as patch:
        patch.setattr(camera, "_acquirer", queue)
        patch.setattr(camera, "_features", SimpleNamespace(run=queue.execute))
        patch.setattr(camera, "_triggered", True)
        queue.execute("TriggerSoftware")
        assert (camera.snap().image == 2).all()


def test_a_size_from_the_profile(open_camera):
    assert open_camera(features={"Width": 240, "Height": 200}).snap().image.shape == (200, 240)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"producer": None}, "No GenTL producer is installed"),
        ({"producer": Path("/nowhere/camera.cti")}, "camera.cti cannot be used"),
        ({"serial": "4711"}, "4711 is not connected. Cameras found: 0, 1, 2"),
        ({"features": {"Exposition": 3}}, "no feature 'Exposition'"),
        ({"features": {"Width": 9999}}, r"Viky \(0\) reports: Value = 9999"),
    ],
)
def test_what_cannot_be_opened_is_explained(open_camera, section, words):
    with pytest.raises(CameraError, match=words):
        open_camera(**section)


def test_a_camera_without_trigger_input_says_so(open_camera):
    camera = open_camera()
    with pytest.raises(CameraError, match="no trigger input Line1"):
        camera.arm(3)
    camera.snap()


def test_a_late_picture_is_an_error_not_an_endless_wait(open_camera):
    camera = open_camera(timeout_s=0.001, features={"AcquisitionFrameRate": 20.0})
    camera._settings = camera.settings.model_copy(update={"exposure_ms": 0.001})
    with pytest.raises(CameraError, match="no usable picture"):
        camera.snap()
    assert camera.dropped_frames == 3


def test_a_camera_in_use_is_not_found(open_camera):
    open_camera(serial="1")
    with pytest.raises((CameraDisconnected, CameraError)):
        open_camera(serial="1")
