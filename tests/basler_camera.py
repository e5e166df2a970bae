"""Basler's emulated camera before a rendered sample: its images are frames of the simulated microscope."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from hardware.profile import load_profile, open_microscope

COUNT, TOP_UM, BOTTOM_UM = 100, 12.0, -37.5
SHAPE = (160, 224)
PROFILE = """
based_on = "simulated"
title = "Basler on a simulated stage"

[stage]
speed_um_s = 100000

[axis]
settle_ms = 0
soft_limits_um = [-300, 500]

[camera]
driver = "basler"
sensor_pixel_um = 5.0

[camera.settings]
exposure_ms = 1.0
bit_depth = 16
roi = {{ width = {width}, height = {height} }}

[camera.features]
AcquisitionFrameRateEnable = false
TestImageSelector = "Off"
ImageFilename = "{folder}"
ImageFileMode = "On"
"""


def emulated_microscope(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, NDArray[np.float32]]:
    """The profile, and the heights that its frames show. They come one per trigger, from the first after each start
    of the acquisition: as many as the sweep from ``TOP_UM`` to ``BOTTOM_UM`` has, in its order."""
    pytest.importorskip("pypylon", reason="pypylon is not installed")
    monkeypatch.setenv("PYLON_CAMEMU", "1")
    frames = folder / "frames"
    frames.mkdir()
    profile = load_profile("simulated").changed(time_scale=float("inf"), camera={"image_shape": SHAPE})
    with open_microscope(profile) as microscope:
        microscope.camera.apply(microscope.camera.settings.model_copy(update={"bit_depth": 16}))
        for index, z_um in enumerate(np.linspace(TOP_UM, BOTTOM_UM, COUNT)):
            microscope.axis.move_to(float(z_um))
            cv2.imwrite(str(frames / f"{index:03d}.png"), microscope.camera.snap().image)
        known_um = microscope.known_surface.height_um
    path = folder / "basler.toml"
    path.write_text(PROFILE.format(folder=frames.as_posix(), height=SHAPE[0], width=SHAPE[1]))
    return path, known_um


def sent_frame(folder: Path, index: int) -> NDArray[np.uint16]:
    """What the camera shows as its ``index``-th picture."""
    return cv2.imread(str(folder / "frames" / f"{index:03d}.png"), cv2.IMREAD_UNCHANGED)
