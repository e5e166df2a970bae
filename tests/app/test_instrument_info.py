"""What ``info`` says of an instrument's height map: enough to compare with the instrument's own display."""

import json

import numpy as np
import pytest

from app import cli
from tests.data import SHARED, needs_shared

RINGS = SHARED / "heightmaps" / "rings_wyko_1" / "test_1.opd"


@needs_shared
def test_info_says_pixels_unit_heights_and_missing_points(capsys):
    assert cli.main(["info", str(RINGS), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["z_unit"], facts["unit_in_file"]) == ("height map", "um", "mm")
    assert facts["pixel_um_in_file"] == pytest.approx([1.6342, 1.9066], abs=1e-4)
    assert facts["range_in_file"] == pytest.approx([-8.0417, 10.8027], abs=1e-3)
    assert 0.002 < facts["missing_share"] < 0.006
    assert cli.main(["--language", "en", "info", str(RINGS)]) == 0
    words = capsys.readouterr().out
    assert "1.634 µm, from 1.634 x 1.907 µm in the file" in words
    assert "-8.04 … 10.80 µm" in words


def test_info_says_that_the_unit_is_unknown(capsys, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5), np.float32))
    assert cli.main(["--language", "en", "info", str(tmp_path / "a.npy")]) == 0
    assert "unknown: the file names none" in capsys.readouterr().out
