"""UVC cameras. On Linux OpenCV's own back end talks to an emulated device, with its queue and its clock."""

import math
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import pytest

from hardware.cameras import uvc
from hardware.cameras.settings import UvcCameraProfile

HERE = Path(__file__).parent


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Video4Linux is Linux's")
def test_on_an_emulated_video4linux_device(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler for the emulated device")
    library = tmp_path / "v4l2_emulator.so"
    subprocess.run(
        [compiler, "-Wall", "-O1", "-shared", "-fPIC", "-o", library, HERE / "v4l2_emulator.c", "-ldl", "-lpthread"],
        check=True,
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "emulated_uvc.py")],
        env={**os.environ, "LD_PRELOAD": str(library)},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout


class DirectShowCapture:
    """What OpenCV makes of a camera under DirectShow: exposure as a power of two, no time stamps, a queue of one."""

    FRAME_S = 0.02

    def __init__(self, index, api):
        assert (index, api) == (0, cv2.CAP_DSHOW)
        self.values = {cv2.CAP_PROP_FRAME_WIDTH: 32, cv2.CAP_PROP_FRAME_HEIGHT: 24, cv2.CAP_PROP_FPS: 50}
        self.values |= {cv2.CAP_PROP_EXPOSURE: -5, cv2.CAP_PROP_FOURCC: 20}
        self.started_s = time.monotonic()
        self.began_s: deque[float] = deque()

    def isOpened(self):
        return True

    def get(self, what):
        return float(self.values.get(what, -1))

    def set(self, what, value):
        if what == cv2.CAP_PROP_EXPOSURE:
            value = min(max(value, -13), -1)
        elif what == cv2.CAP_PROP_FOURCC:
            return False
        self.values[what] = value
        return True

    def grab(self):
        """The newest complete picture since the last one; waits where there is none."""
        number = max(math.floor((time.monotonic() - self.started_s) / self.FRAME_S), self.last + 1)
        self.last = number
        time.sleep(max(0.0, self.started_s + number * self.FRAME_S - time.monotonic()))
        self.picture_began_s = self.started_s + (number - 1) * self.FRAME_S
        return True

    last = 0

    def retrieve(self):
        image = np.zeros((24, 32, 3), np.uint8)
        self.began_s.append(self.picture_began_s)
        return True, image

    def release(self):
        pass


def test_without_time_stamps_old_pictures_are_told_by_the_wait():
    capture = None

    def opening(index, api):
        nonlocal capture
        capture = DirectShowCapture(index, api)
        return capture

    profile = UvcCameraProfile(driver="uvc", sensor_pixel_um=3.0, latency_ms=15.0)
    camera = uvc.UvcCamera(profile, open_capture=opening, system=uvc.DIRECT_SHOW)
    try:
        low_ms, high_ms = camera.ranges.exposure_ms
        assert (low_ms, high_ms) == (pytest.approx(1000 / 2**13), 500.0)
        camera.apply(camera.settings.model_copy(update={"exposure_ms": 20.0}))
        assert camera.settings.exposure_ms == pytest.approx(1000 / 2**6)  # the nearest power of two
        assert camera.ranges.bit_depths == (8,)
        for pause_s in (0.0, 0.3, 0.05, 0.0):
            time.sleep(pause_s)
            asked_s = time.monotonic()
            picture = camera.snap()
            assert capture.began_s[-1] >= asked_s - 1e-3
            assert picture.time_s >= asked_s
    finally:
        camera.close()


def test_lists_the_cameras_of_the_system_and_not_their_further_nodes(tmp_path, monkeypatch):
    for node, name, index in (("video0", "Microscope", "0"), ("video1", "Microscope", "1"), ("video10", "Webcam", "0")):
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(name + "\n")
        (tmp_path / node / "index").write_text(index + "\n")
    monkeypatch.setattr(uvc, "SYSTEM_CAMERAS", tmp_path)
    assert [(camera.model, camera.serial) for camera in uvc.list_uvc()] == [("Microscope", "0"), ("Webcam", "10")]
