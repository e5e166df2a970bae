"""The shipped profile of Micro-Manager's demonstration, from the command line to the height map."""

import numpy as np
import pytest

from app.cli import main
from models.storage import open_stack


def test_a_stack_of_the_demonstration_is_captured_and_reconstructed(tmp_path):
    pytest.importorskip("pymmcore_plus", reason="pymmcore-plus is not installed")
    pytest.importorskip("mm_test_adapters", reason="mm-test-adapters is not installed")
    out, height_map = tmp_path / "beads.h5", tmp_path / "height.npy"
    words = ["--top-um", "8", "--bottom-um", "-8", "--step-um", "1", "--exposure-ms", "1"]
    assert main(["capture", "--profile", "micromanager", *words, "--out", str(out)]) == 0
    stack = open_stack(out)
    assert stack.frames.shape == (17, 512, 512)
    assert stack.frames.dtype == np.uint16
    assert stack.pixel_um == pytest.approx(1.0)
    assert main(["reconstruct", str(out), "--out", str(height_map)]) == 0
    focused = stack.frames[8]
    beads = focused > np.quantile(focused, 0.98)
    assert np.nanmedian(np.load(height_map)[beads]) == pytest.approx(0.0, abs=0.5)
