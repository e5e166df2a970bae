"""Maps of real instruments: pixel size, unit, heights and missing points are those stated beside the files."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from models.errors import InputError
from models.formats import read_height_map, write_height_map
from models.formats.instruments import INSTRUMENT_SUFFIXES, read_instrument_map, square_pixels
from models.formats.maps import READ_SUFFIXES
from models.height_map import HeightMap, corrected
from tests.data import SHARED, needs_shared

MAPS = SHARED / "heightmaps"
SCANS = sorted(p for p in MAPS.glob("*/*") if p.suffix in READ_SUFFIXES and p.suffix not in (".tif", ".npy", ".csv"))

SDF = """aISO-1.0
ManufacID = Test
NumPoints = 4
NumProfiles = 3
Xscale = 1.0e-6
Yscale = {y_scale}
Zscale = {z_scale}
Zresolution = -1
Compression = 0
DataType = 7
CheckType = 0
*
{values}
*
"""


def write_sdf(path: Path, values: str, *, z_scale: str = "1.0e-9", y_scale: str = "1.0e-6") -> Path:
    path.write_text(SDF.format(values=values, z_scale=z_scale, y_scale=y_scale))
    return path


def stated(folder: Path) -> dict[str, float]:
    """What meta.txt says of the map beside it."""
    text = (folder / "meta.txt").read_text(encoding="utf-8")
    columns, rows, x_um, y_um = re.search(r"size: (\d+)x(\d+) px, pitch ([\d.]+) x ([\d.]+) um", text).groups()
    span, missing = re.search(r"height range: ([\d.]+) um .*missing ([\d.]+)%", text).groups()
    numbers = {"columns": columns, "rows": rows, "x_um": x_um, "y_um": y_um, "span_um": span, "missing": missing}
    return {name: float(value) for name, value in numbers.items()}


@needs_shared
@pytest.mark.parametrize("path", SCANS, ids=lambda path: path.parent.name)
def test_a_real_scan_comes_out_as_stated(path):
    known = stated(path.parent)
    truth = tifffile.imread(path.parent / "height_um.tif")
    read = read_height_map(path)
    assert read.z_unit == "um"
    assert read.pixel_um == pytest.approx(min(known["x_um"], known["y_um"]), rel=5e-4)
    if known["y_um"] <= 1.001 * known["x_um"]:
        assert read.shape == (known["rows"], known["columns"])
        lowest, highest = np.nanmin(read.height_um), np.nanmax(read.height_um)
        assert np.isnan(read.height_um).mean() == pytest.approx(known["missing"] / 100, abs=6e-4)
        seen = read.height_um[::-1] if path.suffix == ".x3p" else read.height_um  # whose rows run upwards
        # Some truths are float32 of heights counted from the stand of the instrument: good to 8 nm.
        rounding_um = float(np.spacing(np.nanmax(np.abs(truth))))
        np.testing.assert_allclose(seen + read.provenance.get("z_offset", 0.0), truth, atol=2e-6 + rounding_um)
    else:
        assert read.provenance["pixel_um_in_file"] == pytest.approx([known["x_um"], known["y_um"]], rel=5e-4)
        assert read.shape == pytest.approx(
            (known["rows"] * known["y_um"] / known["x_um"], known["columns"]), abs=1.5, rel=0
        )
        lowest, highest = read.provenance["range_in_file"]
        # The same place of the sample, read between the rows of the truth.
        row, column = 300, 200
        at = row * known["x_um"] / known["y_um"]
        expected = np.interp(at, np.arange(truth.shape[0]), truth[:, column])
        assert read.height_um[row, column] == pytest.approx(expected, abs=0.02)
    assert highest - lowest == pytest.approx(known["span_um"], rel=5e-4)


@needs_shared
def test_all_real_scans_are_tested():
    assert {path.suffix for path in SCANS} == {".al3d", ".x3p", ".tmd", ".plu", ".opd", ".sur"}


@needs_shared
def test_heights_from_the_stand_of_an_instrument_keep_their_nanometres():
    path = MAPS / "alicona_al3d" / "al3d-1.al3d"
    read, exact = read_height_map(path), read_instrument_map(path).height
    assert np.abs(read.height_um.astype(np.float64) + read.provenance["z_offset"] - exact).max() < 2e-6


# ---------------------------------------------------------------- made here


def test_missing_points_and_fill_values_become_nan(tmp_path):
    row = "1 2 3 4\n5 {bad} 7 8\n9 10 11 12"
    expected = np.arange(1, 13, dtype=np.float32).reshape(3, 4) / 1000
    expected[1, 1] = np.nan
    for number, bad in enumerate(("BAD", "-1.8e308", "-1.797e308")):
        read = read_height_map(write_sdf(tmp_path / f"{number}.sdf", row.format(bad=bad)))
        np.testing.assert_allclose(read.height_um, expected, rtol=1e-6)
        assert (read.pixel_um, read.z_unit) == (pytest.approx(1.0), "um")
        assert read.confidence[1, 1] == 0


@pytest.mark.parametrize("suffix", INSTRUMENT_SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"garbage, more garbage\n1;2", bytes(range(256)) * 40])
def test_damaged_and_foreign_files_are_refused(tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=r"a\."):
        read_height_map(tmp_path / f"a{suffix}")


@needs_shared
@pytest.mark.parametrize("path", SCANS, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_scan_cut_short_is_refused_unless_only_its_photograph_is_cut(tmp_path, path, share):
    whole = path.read_bytes()
    (tmp_path / path.name).write_bytes(whole[: int(len(whole) * share)])
    if share == 0.9 and path.suffix in (".al3d", ".plu"):
        np.testing.assert_array_equal(read_height_map(tmp_path / path.name).height_um, read_height_map(path).height_um)
        return
    with pytest.raises(InputError, match=re.escape(path.name)):
        read_height_map(tmp_path / path.name)


def test_a_missing_scan_is_named(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_height_map(tmp_path / "a.sur")


def test_without_the_reader_the_way_to_get_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SurfaceTopography.Exceptions", None)
    with pytest.raises(InputError, match=r"reliefscope\[instruments\]"):
        read_height_map(write_sdf(tmp_path / "a.sdf", "1 2 3 4\n" * 3))


def test_an_ome_tiff_of_heights_knows_its_pixels_but_no_unit(tmp_path):
    height = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    metadata = {"axes": "YX", "PhysicalSizeX": 0.4, "PhysicalSizeY": 0.4}
    tifffile.imwrite(tmp_path / "a.ome.tif", height, metadata=metadata)
    read = read_height_map(tmp_path / "a.ome.tif")
    assert (read.pixel_um, read.z_unit) == (pytest.approx(0.4), "frame")
    np.testing.assert_array_equal(read.height_um, height)


# ---------------------------------------------------------------- square pixels


@pytest.mark.parametrize(("x_um", "y_um"), [(1.0, 2.5), (2.5, 1.0), (1.6342, 1.9066)])
def test_square_pixels_keep_a_plane_and_its_slopes(x_um, y_um):
    row, column = np.mgrid[:40, :50]
    height, pixel_um = square_pixels(3.0 * row * y_um - 2.0 * column * x_um, (x_um, y_um))
    assert pixel_um == min(x_um, y_um)
    row, column = np.mgrid[: height.shape[0], : height.shape[1]]
    np.testing.assert_allclose(height, (3.0 * row - 2.0 * column) * pixel_um, atol=1e-9)
    assert (height.shape[0] - 1) * pixel_um == pytest.approx(39 * y_um, abs=pixel_um)


def test_square_pixels_invent_nothing_beside_a_hole():
    height = np.zeros((6, 4))
    height[2] = np.nan
    squared, _ = square_pixels(height, (1.0, 2.0))
    assert np.isnan(squared[3:6]).all()
    assert np.isfinite(squared[[0, 1, 2, 6, 7, 8, 9, 10]]).all()


# ---------------------------------------------------------------- corrections


def test_a_correction_is_recorded():
    height = np.array([[1000.0, np.nan]], np.float32)
    wrong = HeightMap(height, np.ones_like(height), np.zeros((1, 2), np.uint8), None, 2.0, interval68_um=height)
    right = corrected(wrong, z_factor=-0.001, pixel_um=0.5)
    np.testing.assert_allclose(right.height_um, [[-1.0, np.nan]])
    np.testing.assert_allclose(right.interval68_um, [[1.0, np.nan]])
    assert right.pixel_um == 0.5
    assert right.provenance["correction"]["z_factor"] == -0.001
    assert right.provenance["correction"]["before"] == {"pixel_um": 2.0, "z_unit": "um"}
    assert corrected(wrong) is wrong


def test_a_factor_gives_numbers_without_a_unit_their_scale(tmp_path):
    np.save(tmp_path / "a.npy", np.full((3, 4), 5.0))
    read = corrected(read_height_map(tmp_path / "a.npy"), z_factor=0.001, pixel_um=1.0)
    assert read.z_unit == "um"
    write_height_map(read, tmp_path / "a.x3p")  # which refuses maps without scale
    np.testing.assert_allclose(read_height_map(tmp_path / "a.x3p").height_um, 0.005)


@pytest.mark.parametrize("given", [{"z_factor": 0.0}, {"z_factor": float("nan")}, {"pixel_um": -1.0}])
def test_an_impossible_correction_is_refused(given):
    height = np.zeros((2, 2), np.float32)
    with pytest.raises(InputError):
        corrected(HeightMap(height, height, np.zeros((2, 2), np.uint8)), **given)
