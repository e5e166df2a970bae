"""A 16-bit stack from Basler's emulated camera through the whole program: profile, capture, reconstruction."""

import json

import numpy as np
import pytest

from app.cli import main
from models.storage import open_stack
from tests.basler_camera import BOTTOM_UM, COUNT, SHAPE, TOP_UM, emulated_microscope, sent_frame


def test_100_frames_of_16_bit_are_captured_and_reconstructed(tmp_path, monkeypatch, capsys):
    profile, truth_um = emulated_microscope(tmp_path, monkeypatch)
    out, height_map = tmp_path / "roll.h5", tmp_path / "height.npy"
    words = ["--top-um", str(TOP_UM), "--bottom-um", str(BOTTOM_UM), "--frames", str(COUNT)]
    assert main(["capture", "--profile", str(profile), *words, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == COUNT

    stack = open_stack(out)
    assert stack.frames.shape == (COUNT, *SHAPE)
    assert stack.frames.dtype == np.uint16
    assert stack.pixel_um == pytest.approx(0.5)
    assert stack.metadata["camera_identity"]["serial"] == "0815-0000"
    for index in range(COUNT):  # every value as the camera sent it, every frame in its place
        np.testing.assert_array_equal(stack.frames[index], sent_frame(tmp_path, index))

    assert main(["reconstruct", str(out), "--out", str(height_map)]) == 0
    step_um = (TOP_UM - BOTTOM_UM) / (COUNT - 1)
    assert np.nanmedian(np.abs(np.load(height_map) - truth_um)) < step_um
