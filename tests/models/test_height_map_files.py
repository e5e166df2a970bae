"""Height maps as numbers, meshes and pictures: what is written is what was measured, in its unit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import trimesh
import x3pio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from models.colour_maps import lut
from models.errors import InputError, OutputError
from models.focal_stack import FocalStack
from models.formats import MAP_SUFFIXES, PictureStyle, check_output, read_height_map, write_height_map
from models.formats.mesh import triangulate
from models.height_map import Flag, HeightMap
from models.storage import open_stack, write_stack

heights = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.floats(-1e4, 1e4, width=32) | st.just(float("nan")),
)


def as_map(height: np.ndarray, **known: object) -> HeightMap:
    height = np.asarray(height, np.float32)
    return HeightMap(height, np.ones_like(height), np.zeros(height.shape, np.uint8), **known)


def ramp(rows: int = 6, columns: int = 9) -> np.ndarray:
    """Rises to the right by 1 um and downwards in the image by 10 um per pixel."""
    row, column = np.mgrid[:rows, :columns]
    return (column + 10.0 * row).astype(np.float32)


CALIBRATED = {"pixel_um": 0.5, "z_unit": "um", "method": "rdf"}


# ---------------------------------------------------------------- numbers


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(height=heights, suffix=st.sampled_from([".tif", ".npy", ".csv", ".x3p", ".h5"]))
def test_numbers_come_back_bit_by_bit(tmp_path_factory, height, suffix):
    path = tmp_path_factory.mktemp("map") / f"a{suffix}"
    write_height_map(as_map(height, **CALIBRATED), path)
    back = read_height_map(path)
    assert back.height_um.dtype == np.float32
    assert np.array_equal(back.height_um, height, equal_nan=True)
    if suffix != ".npy":
        assert back.pixel_um == pytest.approx(0.5, rel=1e-12)
        assert back.z_unit == "um"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".tif", ".csv", ".h5"])
def test_maps_without_scale_stay_without_scale(tmp_path, suffix):
    write_height_map(as_map(ramp(), z_unit="frame"), tmp_path / f"a{suffix}")
    back = read_height_map(tmp_path / f"a{suffix}")
    assert (back.z_unit, back.pixel_um) == ("frame", None)


@pytest.mark.parametrize("suffix", [".x3p", ".stl", ".ply", ".obj"])
@pytest.mark.parametrize("known", [{"z_unit": "frame", "pixel_um": 1.0}, {"z_unit": "um"}], ids=["step", "pixel"])
def test_formats_in_length_units_refuse_maps_without_scale(tmp_path, suffix, known):
    with pytest.raises(InputError, match="scale of this height map is unknown"):
        write_height_map(as_map(ramp(), **known), tmp_path / f"a{suffix}")
    assert not any(tmp_path.iterdir())


def test_tiff_carries_scale_and_origin_for_other_programs(tmp_path):
    write_height_map(as_map(ramp(), provenance={"stack_sha256": "abc"}, **CALIBRATED), tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        page = tiff.pages[0]
        assert page.dtype == np.float32
        per_cm = page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1]
        assert 1e4 / per_cm == pytest.approx(0.5)
        assert page.tags["ResolutionUnit"].value == 3
        assert '"unit": "um"' in page.description
        assert "abc" in page.description


def test_tiff_of_another_program_has_no_unit(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", ramp())
    assert read_height_map(tmp_path / "a.tif").z_unit == "frame"


def test_x3p_is_in_metres_with_y_upwards(tmp_path):
    height = ramp()
    height[2, 3] = np.nan
    write_height_map(as_map(height, **CALIBRATED), tmp_path / "a.x3p")
    points = x3pio.read(str(tmp_path / "a.x3p")).layers[0].points().reshape(-1, 3)
    lowest_row = points[np.isclose(points[:, 1], 0)]
    assert lowest_row[:, 2] == pytest.approx(height[-1] * 1e-6)  # the last image row is at the bottom
    assert np.diff(lowest_row[:, 0]) == pytest.approx(0.5e-6)
    assert np.isnan(points[:, 2]).sum() == 1


def test_csv_says_its_unit_and_opens_anywhere(tmp_path):
    write_height_map(as_map(ramp(), z_unit="frame"), tmp_path / "a.csv")
    assert "unit: frame" in (tmp_path / "a.csv").read_text().splitlines()[0]
    assert np.array_equal(np.genfromtxt(tmp_path / "a.csv", delimiter=","), ramp())


def test_h5_can_hold_the_stack(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (3, 6, 9), dtype=np.uint8)
    stack = FocalStack(frames, np.array([0.0, 1.0, 2.0]))
    write_height_map(as_map(ramp(), **CALIBRATED), tmp_path / "a.h5", stack=stack)
    assert np.array_equal(open_stack(tmp_path / "a.h5").frames[2], frames[2])
    assert np.array_equal(read_height_map(tmp_path / "a.h5").height_um, ramp())


def test_a_capture_is_never_overwritten_by_a_map(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (3, 6, 9), dtype=np.uint8)
    write_stack(tmp_path / "a.h5", FocalStack(frames, np.arange(3.0)))
    (tmp_path / "b.h5").write_bytes(b"who knows")
    for name in ("a.h5", "b.h5"):
        with pytest.raises(OutputError, match="may hold a captured stack"):
            write_height_map(as_map(ramp()), tmp_path / name)
    assert np.array_equal(open_stack(tmp_path / "a.h5").frames[1], frames[1])


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".csv", ".x3p", ".h5"])
@pytest.mark.parametrize("content", [b"", b"garbage, more garbage\n1;2"])
def test_damaged_maps_are_refused(tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=r"a\."):
        read_height_map(tmp_path / f"a{suffix}")


def test_missing_and_unknown_maps_are_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_height_map(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"can be read from"):
        read_height_map(tmp_path / "a.xyz")


# ---------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("suffix", MAP_SUFFIXES)
def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(small_disk, suffix):
    noise = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    path = small_disk / f"a{suffix}"
    write_height_map(as_map(ramp(), **CALIBRATED), path)
    old = path.read_bytes()
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 2**16))
    with pytest.raises(OutputError, match=r"full|disk space"):
        write_height_map(as_map(noise, **CALIBRATED), path)
    assert path.read_bytes() == old
    assert sorted(file.name for file in small_disk.iterdir()) == sorted([path.name, "filler"])


@pytest.mark.parametrize("suffix", MAP_SUFFIXES)
def test_a_defect_while_writing_leaves_nothing(tmp_path, suffix, monkeypatch):
    def fail(_source: object, _target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("models.atomic.os.replace", fail)
    path = tmp_path / f"a{suffix}"
    with pytest.raises(KeyboardInterrupt):
        write_height_map(as_map(ramp(), **CALIBRATED), path)
    assert not any(tmp_path.iterdir())


def test_places_that_cannot_be_written_are_refused_beforehand(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    (tmp_path / "file").write_text("")
    for path, words in (
        (tmp_path / "folder.tif", "is a folder"),
        (tmp_path / "nowhere" / "a.tif", "does not exist"),
        (tmp_path / "file" / "a.tif", "does not exist"),
        (tmp_path / "a.xyz", "no format"),
        (tmp_path / "a", "has no suffix"),
    ):
        with pytest.raises(OutputError, match=words):
            check_output(path)
    check_output(tmp_path / "a.tif")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.tif"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_a_file_system_that_refuses_is_said_beforehand():
    with pytest.raises(OutputError, match=r"Cannot write /proc/a\.tif"):
        check_output("/proc/a.tif")


# ---------------------------------------------------------------- meshes


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_a_mesh_has_the_size_and_orientation_of_the_sample(tmp_path, suffix):
    write_height_map(as_map(ramp(6, 9), **CALIBRATED), tmp_path / f"a{suffix}")
    mesh = trimesh.load(tmp_path / f"a{suffix}")
    assert mesh.bounds == pytest.approx(np.array([[0, 0, 0], [4.0, 2.5, 58.0]]))
    assert len(mesh.faces) == 2 * 5 * 8
    # Image rows run downwards, y upwards: the height falls with y as it rises with the row.
    plane = np.linalg.lstsq(np.c_[mesh.vertices[:, :2], np.ones(len(mesh.vertices))], mesh.vertices[:, 2], rcond=None)
    assert plane[0] == pytest.approx([2, -20, 50])
    assert (mesh.face_normals[:, 2] > 0).all()


def test_missing_pixels_leave_holes(tmp_path):
    height = ramp(6, 9)
    height[2, 3] = np.nan
    write_height_map(as_map(height, **CALIBRATED), tmp_path / "a.ply")
    mesh = trimesh.load(tmp_path / "a.ply")
    assert len(mesh.faces) == 2 * (5 * 8 - 4)
    assert len(mesh.vertices) == 6 * 9 - 1


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_a_watertight_mesh_encloses_its_volume(tmp_path, suffix):
    write_height_map(as_map(np.full((5, 9), 7.0), **CALIBRATED), tmp_path / f"a{suffix}", watertight=True)
    mesh = trimesh.load(tmp_path / f"a{suffix}")
    assert mesh.is_watertight
    assert mesh.bounds[1] - mesh.bounds[0] == pytest.approx([4, 2, 0.05 * 9 * 0.5])
    assert mesh.volume == pytest.approx(4 * 2 * 0.05 * 9 * 0.5)


@settings(max_examples=80, deadline=None)
@given(heights)
def test_any_map_with_any_holes_becomes_watertight(height):
    vertices, faces = triangulate(height, 0.5, watertight=True)
    if len(faces):
        mesh = trimesh.Trimesh(vertices, faces)
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert mesh.volume > 0


def test_a_map_without_surface_is_refused(tmp_path):
    with pytest.raises(InputError, match="no surface"):
        write_height_map(as_map(np.full((4, 4), np.nan), **CALIBRATED), tmp_path / "a.stl")
    assert not any(tmp_path.iterdir())


# ---------------------------------------------------------------- pictures


def picture(tmp_path: Path, height_map: HeightMap, **style: object) -> np.ndarray:
    write_height_map(height_map, tmp_path / "a.png", style=PictureStyle(**style))
    return np.asarray(Image.open(tmp_path / "a.png"))


def find(image: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.argwhere((image == colour).all(axis=2))


def test_a_picture_shows_every_pixel_in_its_colour(tmp_path):
    height = ramp(500, 600)
    image = picture(tmp_path, as_map(height, **CALIBRATED), low=0.0, high=float(height.max()))
    top, left = find(image, lut("viridis")[0])[0]
    shown = image[top : top + 500, left : left + 600]
    index = np.floor(height / height.max() * 255 + 0.5).astype(int)
    assert np.abs(shown.astype(int) - lut("viridis")[index]).max() <= 3


def test_the_scale_bar_has_its_length(tmp_path):
    # 600 pixels of 0.5 um are 300 um: a bar of 100 um has 200 pixels, in the ink of the text.
    image = picture(tmp_path, as_map(ramp(500, 600), **CALIBRATED))
    below = image[540:]
    longest = max((row == (32, 33, 36)).all(axis=1).sum() for row in below)
    assert longest == pytest.approx(200, abs=12)  # the row of the bar crosses some letters


def test_no_scale_bar_without_a_pixel_size(tmp_path):
    with_bar = picture(tmp_path, as_map(ramp(500, 600), **CALIBRATED))
    without = picture(tmp_path, as_map(ramp(500, 600), z_unit="frame"))
    assert without.shape[0] < with_bar.shape[0]
    rows = (without == (32, 33, 36)).all(axis=2).sum(axis=1)
    assert rows.max() < 100


def test_missing_pixels_are_grey_and_explained(tmp_path):
    height = ramp(500, 600)
    whole = picture(tmp_path, as_map(height))
    height[100:200, 100:300] = np.nan
    holed = picture(tmp_path, as_map(height))
    assert len(find(whole, np.array([60, 60, 60]))) < 50
    assert len(find(holed, np.array([60, 60, 60]))) > 100 * 200  # the hole and the sample in the legend
    assert holed.shape[0] > whole.shape[0]


def test_uncertain_heights_are_hatched_and_explained(tmp_path):
    height = ramp(500, 600)
    flags = np.zeros(height.shape, np.uint8)
    flags[:, 300:] = Flag.PEAK_AT_END
    known = HeightMap(height, np.ones_like(height), flags, z_unit="frame")
    plain, marked = (picture(tmp_path, known, mark_uncertain=mark) for mark in (False, True))
    top, left = np.argwhere((plain != 255).any(axis=2))[0]
    shown = marked[top : top + 500, left : left + 600].astype(int)
    changed = (shown != plain[top : top + 500, left : left + 600]).any(axis=2)
    assert not changed[:, :300].any()
    assert 0.08 < changed[:, 300:].mean() < 0.4
    assert marked.shape[0] > plain.shape[0]


def test_hill_shading_lights_the_upper_left(tmp_path):
    row, column = np.mgrid[:500, :600]
    dome = as_map(-np.hypot(row - 250, column - 300), **CALIBRATED)
    flat, lit = (picture(tmp_path, dome, colour_map="gray", hill_shade=shade).astype(int) for shade in (False, True))
    change = (lit - flat).sum(axis=2)
    assert change[100:200, 150:250].mean() > change[350:450, 400:500].mean() + 30


@pytest.mark.parametrize(
    "height",
    [
        np.full((40, 50), np.nan),
        np.zeros((40, 50)),
        np.full((1, 1), 3.0),
        np.zeros((3, 3000)),
        ramp() * 1e-7,
        ramp() * 1e9,
    ],
    ids=["missing", "flat", "one pixel", "strip", "tiny", "huge"],
)
@pytest.mark.parametrize("hill_shade", [False, True])
def test_odd_maps_can_be_drawn(tmp_path, height, hill_shade):
    image = picture(tmp_path, as_map(height, **CALIBRATED), hill_shade=hill_shade)
    assert image.shape[0] > 60
    assert image.shape[2] == 3


def test_confidence_and_all_in_focus(tmp_path):
    height = ramp(500, 600)
    photo = np.random.default_rng(0).integers(0, 256, (500, 600, 3), dtype=np.uint8)
    known = HeightMap(height, height / height.max(), np.zeros(height.shape, np.uint8), all_in_focus=photo, pixel_um=0.5)
    image = picture(tmp_path, known, content="all-in-focus")
    top, left = np.argwhere((image != 255).any(axis=2))[0]
    assert any(np.array_equal(image[top : top + 500, x : x + 600], photo) for x in range(max(0, left - 5), left + 1))
    confidence = picture(tmp_path, known, content="confidence")
    assert len(find(confidence, lut("viridis")[255])) > 0
    with pytest.raises(InputError, match="no all-in-focus"):
        picture(tmp_path, as_map(height), content="all-in-focus")


def test_a_dim_16_bit_photograph_is_shown_bright(tmp_path):
    height = ramp(500, 600)
    photo = np.random.default_rng(0).integers(100, 4096, (500, 600), dtype=np.uint16)
    known = HeightMap(height, height, np.zeros(height.shape, np.uint8), all_in_focus=photo)
    assert 100 < picture(tmp_path, known, content="all-in-focus")[50:450, 50:550].mean() < 160
