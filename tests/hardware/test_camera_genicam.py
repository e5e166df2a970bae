"""GenICam cameras, on the simulated producer that comes with the package genicam: no trigger, no exposure, 8 bit.

What it lacks - software trigger, gain, ROI, deep formats - goes through the same :mod:`hardware.cameras.sfnc` as on
Basler's emulated camera, and is tested there.
"""

import time
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


class Device:
    """An acquisition by trigger, for what the producer lacks: each trigger brings a picture, numbered by its grey
    value, by a counter and by a stamp of a clock that was at ``STARTED_S`` when the device was made."""

    num_buffers = 8
    STARTED_S = 7000.0

    def __init__(self):
        self.waiting, self.triggers, self.source = [], 0, "Software"
        self._made_s = time.monotonic()
        self.stamps = True
        self.counts = True

    # the camera

    def now_s(self):
        return time.monotonic() - self._made_s + self.STARTED_S

    def has(self, name):
        return name in ("TriggerSource", "TriggerMode")

    def writable(self, name):
        return name in ("TriggerSoftware", "TriggerMode") or (self.stamps and name == "TimestampLatch")

    def choices(self, name):
        return ("Software", "Line1") if name == "TriggerSource" else ()

    def get(self, name):
        return {"TimestampLatchValue": self._latched, "PixelFormat": "Mono8"}[name]

    def set(self, name, value):
        if name == "TriggerSource":
            self.source = value

    def run(self, name):
        if name == "TimestampLatch":
            self._latched = round(self.now_s() * 1e9)
        else:
            self.pulse()

    def pulse(self, *, began_s=None, arrives=True):
        self.triggers += 1
        if arrives:
            self.waiting.append((self.triggers, self.now_s() if began_s is None else began_s))

    # the acquisition

    def start(self):
        self.waiting.clear()

    def stop(self):
        pass

    def try_fetch(self, *, timeout):
        if not self.waiting:
            return None
        number, began_s = self.waiting.pop(0)
        part = SimpleNamespace(data=np.full(12, number, np.uint8), data_format="Mono8", height=3, width=4)
        module = SimpleNamespace(frame_id=number) if self.counts else Uncounted()
        return SimpleNamespace(
            payload=SimpleNamespace(components=[part]), queue=lambda: None, module=module,
            timestamp=round(began_s * 1e9) if self.stamps else 0, timestamp_frequency=10**9,
        )  # fmt: skip

    def destroy(self):
        pass


class Uncounted:
    @property
    def frame_id(self):
        raise genicam.gentl.NotImplementedException("no count")


@pytest.fixture
def triggered(open_camera, monkeypatch):
    """A camera with a trigger, and the device behind it."""
    camera, device = open_camera(), Device()
    camera.settings = camera.settings.model_copy(update={"exposure_ms": 0.01})
    with monkeypatch.context() as patch:
        patch.setattr(camera, "_acquirer", device)
        patch.setattr(camera, "_features", device)
        patch.setattr(camera, "_triggered", True)
        yield camera, device


def test_a_picture_that_came_late_is_not_taken_for_that_of_the_next_trigger(triggered):
    camera, device = triggered
    device.pulse()
    assert (camera.snap().image == 2).all()


def test_a_series_comes_with_the_times_of_the_camera_not_of_its_arrival(triggered):
    camera, device = triggered
    camera.arm(3)
    assert device.source == "Line1"
    pulses_s = []
    for _pulse in range(3):
        before_s = time.monotonic()
        device.pulse()
        pulses_s.append((before_s, time.monotonic()))
        time.sleep(0.02)
    for number, (before_s, after_s) in enumerate(pulses_s, 1):
        picture = camera.next_picture(1.0)
        assert (picture.image == number).all()
        assert before_s - 0.01 < picture.time_s <= after_s
    with pytest.raises(CameraError, match="trigger line"):
        camera.next_picture(0.01)
    camera.disarm()
    assert device.source == "Software"
    camera.snap()


def test_a_picture_lost_on_its_way_is_noticed_by_the_count(triggered):
    camera, device = triggered
    camera.arm(3)
    device.pulse()
    device.pulse(arrives=False)
    device.pulse()
    camera.next_picture(1.0)
    with pytest.raises(CameraError, match="lost a picture"):
        camera.next_picture(1.0)
    assert camera.dropped_frames == 1


def test_a_producer_need_not_count(triggered):
    camera, device = triggered
    device.counts = False
    camera.arm(2)
    for _pulse in range(2):
        device.pulse()
        camera.next_picture(1.0)


@pytest.mark.parametrize("off_s", [-5.0, +5.0])
def test_a_picture_from_before_the_series_or_of_another_clock_is_refused(triggered, off_s):
    camera, device = triggered
    camera.arm(2)
    device.pulse(began_s=device.now_s() + off_s)
    with pytest.raises(CameraError, match="does not fit to its clock"):
        camera.next_picture(1.0)


def test_a_camera_without_a_clock_of_its_own_takes_no_series(triggered):
    camera, device = triggered
    device.stamps = False
    with pytest.raises(CameraError, match="belong to its pulse"):
        camera.arm(2)
    assert device.source == "Software"
    camera.snap()


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
    camera.settings = camera.settings.model_copy(update={"exposure_ms": 0.001})
    with pytest.raises(CameraError, match="no usable picture"):
        camera.snap()
    assert camera.dropped_frames == 3


def test_a_camera_in_use_is_not_found(open_camera):
    open_camera(serial="1")
    with pytest.raises((CameraDisconnected, CameraError)):
        open_camera(serial="1")
