"""``label register``: what it says, what it writes, what it asks for."""

import json

import numpy as np
import pytest

from app.cli import main
from models.formats import read_height_map, write_height_map
from models.labels.registration_fit import inverse, mapped
from tests.heights import pair, rough


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A focus map, a scan of it and what is true of them."""
    folder = tmp_path_factory.mktemp("maps")
    both = pair(rough(200, 1), seed=1, turn_deg=20.0, focus_shape=(110, 120), scan_shape=(180, 190))
    write_height_map(both.focus, folder / "focus.tif")
    write_height_map(both.scan, folder / "scan.x3p")
    np.save(folder / "bare.npy", both.scan.height_um)
    return folder, both


def pairs_of(both):
    where = np.array([[10.0, 20.0], [100.0, 30.0]])
    there = mapped(inverse(both.truth), where)
    return [f"--points={x},{y},{u},{v}" for (x, y), (u, v) in zip(where, there, strict=True)]


def test_json_says_where_the_scan_lies_and_the_warped_scan_is_written(maps, tmp_path, capsys):
    folder, both = maps
    out = tmp_path / "warped.tif"
    arguments = ["label", "register", str(folder / "focus.tif"), str(folder / "scan.x3p"), "--out", str(out), "--json"]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["accepted"] is True
    assert said["doubts"] == []
    assert said["turn_deg"] == pytest.approx(20.0, abs=0.2)
    assert both.error_px(np.array(said["matrix"])) < 0.1
    warped = read_height_map(out)
    assert warped.shape == both.focus.shape
    assert abs(np.nanmedian(warped.height_um - both.focus.height_um)) < 0.05


def test_points_and_units_are_taken_from_options(maps, capsys):
    folder, both = maps
    arguments = ["label", "register", str(folder / "focus.tif"), str(folder / "bare.npy"), *pairs_of(both)]
    assert main(arguments) == 2
    assert "--scan-pixel-um" in capsys.readouterr().err
    assert main([*arguments, "--scan-pixel-um", "0.5"]) == 2
    assert "--scan-unit-um" in capsys.readouterr().err
    assert main([*arguments, "--scan-pixel-um", "0.5", "--scan-unit-um", "1", "--json"]) == 0
    assert both.error_px(np.array(json.loads(capsys.readouterr().out)["matrix"])) < 0.1


@pytest.mark.parametrize("points", ["1,2,3", "a,b,c,d"])
def test_points_that_are_no_numbers_are_explained(maps, capsys, points):
    folder, _both = maps
    assert main(["label", "register", str(folder / "focus.tif"), str(folder / "scan.x3p"), "--points", points]) == 2
    assert points in capsys.readouterr().err


def test_an_input_is_not_overwritten(maps, capsys):
    folder, _both = maps
    before = (folder / "scan.x3p").read_bytes()
    arguments = ["label", "register", str(folder / "focus.tif"), str(folder / "scan.x3p")]
    assert main([*arguments, "--out", str(folder / "scan.x3p")]) == 2
    assert "scan.x3p" in capsys.readouterr().err
    assert (folder / "scan.x3p").read_bytes() == before
