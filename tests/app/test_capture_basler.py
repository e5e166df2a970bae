"""A 16-bit stack from Basler's emulated camera through the whole program: profile, capture, reconstruction."""

import json

import cv2
import numpy as np
import pytest

from app.cli import main
from hardware.profile import load_profile, open_microscope
from models.storage import open_stack

COUNT, TOP_UM, BOTTOM_UM = 100, 12.0, -37.5
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
roi = {{ width = 224, height = 160 }}

[camera.features]
AcquisitionFrameRateEnable = false
TestImageSelector = "Off"
ImageFilename = "{folder}"
ImageFileMode = "On"
"""


@pytest.fixture
def truth_um(tmp_path, monkeypatch):
    """Rendered frames lie in the folder that the emulated camera shows; the known heights."""
    pytest.importorskip("pypylon", reason="pypylon is not installed")
    monkeypatch.setenv("PYLON_CAMEMU", "1")
    frames = tmp_path / "frames"
    frames.mkdir()
    profile = load_profile("simulated").changed(time_scale=float("inf"), camera={"image_shape": (160, 224)})
    with open_microscope(profile) as microscope:
        microscope.camera.apply(microscope.camera.settings.model_copy(update={"bit_depth": 16}))
        for index, z_um in enumerate(np.linspace(TOP_UM, BOTTOM_UM, COUNT)):
            microscope.axis.move_to(float(z_um))
            cv2.imwrite(str(frames / f"{index:03d}.png"), microscope.camera.snap().image)
        known_um = microscope.known_surface.height_um
    (tmp_path / "basler.toml").write_text(PROFILE.format(folder=frames.as_posix()))
    return known_um


def test_100_frames_of_16_bit_are_captured_and_reconstructed(truth_um, tmp_path, capsys):
    out, height_map = tmp_path / "roll.h5", tmp_path / "height.npy"
    words = ["--top-um", str(TOP_UM), "--bottom-um", str(BOTTOM_UM), "--frames", str(COUNT)]
    assert main(["capture", "--profile", str(tmp_path / "basler.toml"), *words, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == COUNT

    stack = open_stack(out)
    assert stack.frames.shape == (COUNT, 160, 224)
    assert stack.frames.dtype == np.uint16
    assert stack.pixel_um == pytest.approx(0.5)
    assert stack.metadata["camera_identity"]["serial"] == "0815-0000"
    for index in (0, 37, COUNT - 1):  # every value as the camera sent it
        sent = cv2.imread(str(tmp_path / "frames" / f"{index:03d}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(stack.frames[index], sent)

    assert main(["reconstruct", str(out), "--out", str(height_map)]) == 0
    error_um = np.abs(np.load(height_map) - truth_um)
    step_um = (TOP_UM - BOTTOM_UM) / (COUNT - 1)
    assert np.nanmedian(error_um) < step_um
