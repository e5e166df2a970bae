"""Data sets of other people: files and folders of the true layouts, tiny, whole and damaged."""

import base64
import contextlib
import pickle
import struct
import zlib
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.evaluate import compare
from models.methods import ReconstructionOptions
from models.reconstruct import reconstruct
from models.training.datasets import LAYOUTS, DataSet, open_data_set
from models.training.datasets.exr import read_exr
from models.training.datasets.middlebury import refocused
from tests.data import SHARED, needs_shared

RNG = np.random.default_rng(11)
SHAPE = (14, 18)
DDFF_FAR_PX, DDFF_NEAR_PX = 0.020177, 0.282475  # 7 m and 0.5 m

OFFICIAL_EXR = base64.b64decode(  # 3 x 2 half floats 0, 0.25, ... in R, G and B, ZIP, written by OpenEXR 3.5.3
    "di8xAQIAAABjaGFubmVscwBjaGxpc3QANwAAAEIAAQAAAAAAAAABAAAAAQAAAEcAAQAAAAAAAAABAAAAAQAAAFIAAQAAAAAAAAABAAAAAQAAAABj"
    "b21wcmVzc2lvbgBjb21wcmVzc2lvbgABAAAAA2RhdGFXaW5kb3cAYm94MmkAEAAAAAAAAAAAAAAAAgAAAAEAAABkaXNwbGF5V2luZG93AGJveDJp"
    "ABAAAAAAAAAAAAAAAAIAAAABAAAAbGluZU9yZGVyAGxpbmVPcmRlcgABAAAAAHBpeGVsQXNwZWN0UmF0aW8AZmxvYXQABAAAAAAAgD9zY3JlZW5X"
    "aW5kb3dDZW50ZXIAdjJmAAgAAAAAAAAAAAAAAHNjcmVlbldpbmRvd1dpZHRoAGZsb2F0AAQAAAAAAIA/dHlwZQBzdHJpbmcADQAAAHNjYW5saW5l"
    "aW1hZ2UAXgEAAAAAAAAAAAAAJAAAAAAAADQAOAAAADQAOAAAADQAOAA6ADwAPQA6ADwAPQA6ADwAPQ=="
)


def some_frames(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def write_exr(path: Path, image: np.ndarray, compression: int = 3) -> None:
    """``image`` (H, W) as half floats in R, with twice it in B; none (0), ZIPS (2) or ZIP (3) compression."""
    rows, columns = image.shape
    channels = b"".join(name + b"\0" + struct.pack("<iIii", 1, 0, 1, 1) for name in (b"B", b"R")) + b"\0"
    window = struct.pack("<4i", 0, 0, columns - 1, rows - 1)
    attributes = (
        (b"channels", b"chlist", channels),
        (b"compression", b"compression", bytes([compression])),
        (b"dataWindow", b"box2i", window),
        (b"displayWindow", b"box2i", window),
        (b"lineOrder", b"lineOrder", b"\0"),
    )
    head = b"\x76\x2f\x31\x01" + struct.pack("<I", 2)
    head += (
        b"".join(name + b"\0" + kind + b"\0" + struct.pack("<i", len(v)) + v for name, kind, v in attributes) + b"\0"
    )
    height = 16 if compression == 3 else 1
    blocks = []
    for y in range(0, rows, height):
        raw = b"".join((2 * row).astype("<f2").tobytes() + row.astype("<f2").tobytes() for row in image[y : y + height])
        if compression:
            halves = np.frombuffer(raw[0::2] + raw[1::2], np.uint8).astype(np.int64)
            halves[1:] = np.diff(halves) + 128
            packed = zlib.compress(halves.astype(np.uint8).tobytes())
            raw = packed if len(packed) < len(raw) else raw
        blocks.append(struct.pack("<ii", y, len(raw)) + raw)
    starts = np.cumsum([len(head) + 8 * len(blocks), *map(len, blocks[:-1])])
    path.write_bytes(head + struct.pack(f"<{len(blocks)}Q", *map(int, starts)) + b"".join(blocks))


def write_pfm(path: Path, image: np.ndarray) -> None:
    """Little-endian, the last row first, as the format wants it."""
    rows, columns = image.shape
    path.write_bytes(f"Pf\n{columns} {rows}\n-1.0\n".encode() + image[::-1].astype("<f4").tobytes())


def all_frames(scene) -> np.ndarray:
    return np.stack([image for image, _z in scene.stack])


# HDF5: DDFF 12-Scene and 4D Light Field


def write_ddff(path: Path, scenes: int = 2, **replaced) -> dict[str, np.ndarray]:
    truth = RNG.uniform(0.03, 0.28, (scenes, *SHAPE)).astype(np.float32)
    truth[:, :3] = 0
    content = {"stack_train": some_frames(scenes, 10, *SHAPE, 3), "disp_train": truth}
    content |= {"stack_val": some_frames(1, 10, *SHAPE, 3), "disp_val": truth[:1]}
    content |= replaced
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            if value is not None:
                file[key] = value
    return content


def test_ddff_is_read_with_the_nearest_frame_last(tmp_path):
    content = write_ddff(tmp_path / "ddff.h5")
    data_set = open_data_set(tmp_path / "ddff.h5")
    assert data_set.layout == "ddff"
    assert (len(data_set), data_set.splits) == (3, ("train", "val"))
    scene = data_set.split("train")[1]
    assert scene.name == "train/0001"
    np.testing.assert_allclose(scene.stack.z_um, np.linspace(DDFF_FAR_PX, DDFF_NEAR_PX, 10), rtol=1e-4)
    np.testing.assert_array_equal(all_frames(scene), content["stack_train"][1][::-1])
    truth = content["disp_train"][1]
    np.testing.assert_array_equal(scene.height_um, np.where(truth == 0, np.nan, truth))
    assert scene.stack.z_unit == "frame"


def test_scenes_are_read_only_when_asked_for_and_travel_to_other_processes(tmp_path):
    path = tmp_path / "ddff.h5"
    write_ddff(path)
    data_set = pickle.loads(pickle.dumps(open_data_set(path)))
    assert isinstance(data_set[:2], DataSet)
    assert [scene.name for scene in data_set[:2]] == ["train/0000", "train/0001"]
    path.unlink()
    assert len(data_set) == 3
    with pytest.raises(InputError, match=r"ddff\.h5"):
        data_set[0]
    with pytest.raises(InputError, match="Parts: train, val"):
        data_set.split("test")


def test_the_ddff_test_file_has_no_truth(tmp_path):
    with h5py.File(tmp_path / "test.h5", "w") as file:
        file["stack_test"] = some_frames(2, 10, *SHAPE, 3)
    data_set = open_data_set(tmp_path / "test.h5")
    assert data_set.splits == ("test",)
    assert np.isnan(data_set[0].height_um).all()


def write_light_field(path: Path, **replaced) -> dict[str, np.ndarray]:
    """Everything float32, as the generator leaves it, and a last row that it never filled."""
    truth = RNG.uniform(-2, 2, (3, *SHAPE)).astype(np.float32)
    truth[0, 0, 0] = 0
    stacks = some_frames(3, 10, *SHAPE, 3).astype(np.float32)
    content = {"stack_train": stacks, "disp_train": truth, "AiF_train": stacks[:, 0]}
    content["focus_position_disp"] = np.linspace(-2.5, 2.5, 10, dtype=np.float32)[None]
    content |= replaced
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            file[key] = value
        names = file.create_dataset("name_train", (3, 1), dtype=h5py.string_dtype())
        names[:2, 0] = ["antinous", "pens"]
    return content


def test_a_light_field_stack_is_read(tmp_path):
    content = write_light_field(tmp_path / "HCI_FS_trainval.h5")
    data_set = open_data_set(tmp_path / "HCI_FS_trainval.h5")
    assert data_set.layout == "light-field"
    assert data_set.names == ("train/antinous", "train/pens")
    scene = data_set[0]
    assert scene.stack.frames.dtype == np.uint8
    np.testing.assert_array_equal(all_frames(scene), content["stack_train"][0])
    np.testing.assert_array_equal(scene.height_um, content["disp_train"][0])  # 0 is a disparity like any other


def test_falling_focus_positions_are_turned(tmp_path):
    content = write_light_field(tmp_path / "a.h5", focus_position_disp=np.linspace(10, 1, 10)[None])
    scene = open_data_set(tmp_path / "a.h5")[0]
    np.testing.assert_array_equal(scene.stack.z_um, np.linspace(1, 10, 10))
    np.testing.assert_array_equal(all_frames(scene), content["stack_train"][0][::-1])
    assert np.isnan(scene.height_um[0, 0])  # with nothing focused at 0, 0 says that nothing is known


def with_nan() -> np.ndarray:
    frames = np.zeros((2, 10, *SHAPE, 3), np.float32)
    frames[0, 3, 2, 2, 1] = np.nan
    return frames


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"disp_train": None}, "has no 'disp_train'"),
        ({"disp_train": np.zeros((2, 7, 7), np.float32)}, r"disp_train has shape \(2, 7, 7\)"),
        ({"disp_train": np.zeros((1, *SHAPE), np.float32)}, r"\(2, 14, 18\) is expected"),
        ({"stack_train": np.zeros((2, *SHAPE), np.uint8)}, r"\(M, N, H, W, 3\)"),
        ({"stack_train": np.zeros((2, 1, *SHAPE, 3), np.uint8)}, "at least 2 frames"),
        ({"stack_train": with_nan()}, "no numbers"),
        ({"stack_train": np.full((2, 10, *SHAPE, 3), 700.0)}, "0 to 255 is expected"),
        ({"disp_train": np.full((2, *SHAPE), 40.0)}, "focus_position_disp"),
    ],
)
def test_a_damaged_stack_file_is_refused(tmp_path, replaced, message):
    write_ddff(tmp_path / "a.h5", **replaced)
    with pytest.raises(InputError, match=message):
        list(open_data_set(tmp_path / "a.h5"))


@pytest.mark.parametrize("positions", [np.zeros((1, 10)), np.arange(9.0)[None], np.full((1, 10), np.nan)])
def test_impossible_focus_positions_are_refused(tmp_path, positions):
    write_light_field(tmp_path / "a.h5", focus_position_disp=positions)
    with pytest.raises(InputError, match="10 different focus positions"):
        open_data_set(tmp_path / "a.h5")[0]


def test_files_that_are_something_else_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(InputError, match="Expected is one of") as caught:
        open_data_set(tmp_path / "other.h5")
    assert all(layout in str(caught.value) for layout in LAYOUTS)
    with pytest.raises(InputError, match=r"has no 'stack_train'\. It holds: images"):
        open_data_set(tmp_path / "other.h5", "ddff")
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(InputError, match="damaged"):
        open_data_set(tmp_path / "broken.h5")
    with pytest.raises(InputError, match="no file or folder"):
        open_data_set(tmp_path / "gone")
    with pytest.raises(InputError, match="no layout"):
        open_data_set(tmp_path, "coco")
    with pytest.raises(InputError, match="has not the layout 'defocusnet'"):
        open_data_set(tmp_path / "other.h5", "defocusnet")


# DefocusNet and FoD500


def write_defocusnet(folder: Path, numbers: range) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for number in numbers:
        frames = some_frames(5, *SHAPE, 3)
        depth_m = RNG.uniform(0.1, 1.5, SHAPE).astype(np.float16)
        depth_m[:2] = 0
        for index, frame in enumerate(frames):
            tifffile.imwrite(folder / f"{number:06d}_{index:02d}All.tif", frame, photometric="rgb")
        write_exr(folder / f"{number:06d}Dpt.exr", depth_m)
        written[number] = frames, depth_m
    return written


def test_defocusnet_is_read_in_metres_towards_the_camera(tmp_path):
    written = write_defocusnet(tmp_path / "fs_6", range(5))
    data_set = open_data_set(tmp_path / "fs_6")
    assert data_set.layout == "defocusnet"
    assert [len(data_set.split(name)) for name in ("train", "val")] == [4, 1]
    scene = data_set.split("val")[0]
    frames, depth_m = written[4]
    np.testing.assert_allclose(scene.stack.z_um, [-1.5e6, -0.7e6, -0.3e6, -0.15e6, -0.1e6])
    np.testing.assert_array_equal(all_frames(scene), frames[::-1])
    np.testing.assert_allclose(scene.height_um[2:], -1e6 * depth_m[2:].astype(np.float32))
    assert np.isnan(scene.height_um[:2]).all()
    assert scene.stack.z_unit == "um"


def test_defocusnet_in_folders_keeps_their_parts(tmp_path):
    write_defocusnet(tmp_path / "train", range(2))
    write_defocusnet(tmp_path / "test", range(2, 3))
    data_set = open_data_set(tmp_path)
    assert sorted(data_set.names) == ["test/000002", "train/000000", "train/000001"]
    assert len(data_set.split("train")) == 2


def test_a_converted_depth_is_taken_before_the_exr(tmp_path):
    _frames, depth_m = write_defocusnet(tmp_path, range(1))[0]
    (tmp_path / "000000Dpt.exr").write_bytes(b"unreadable")
    np.save(tmp_path / "000000Dpt.npy", depth_m.astype(np.float32))
    assert np.nanmin(open_data_set(tmp_path)[0].height_um) == -1e6 * np.float32(depth_m.max())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "000001_02All.tif").unlink(), "000001 has 4 frames; 5"),
        (lambda folder: (folder / "000001Dpt.exr").unlink(), "000001 has no depth"),
        (lambda folder: (folder / "000001Dpt.exr").write_bytes(b"\x76\x2f\x31\x01"), "000001Dpt.exr is damaged"),
        (lambda folder: write_exr(folder / "000001Dpt.exr", np.ones((3, 3))), "3 x 3 pixels"),
        (lambda folder: (folder / "000001_00All.tif").write_bytes(b"II*"), "000001_00All.tif"),
    ],
)
def test_a_damaged_defocusnet_scene_is_refused(tmp_path, damage, message):
    write_defocusnet(tmp_path, range(2))
    damage(tmp_path)
    with pytest.raises(InputError, match=message):
        [all_frames(scene) for scene in open_data_set(tmp_path)]


def test_an_exr_of_the_official_library_is_read(tmp_path):
    (tmp_path / "a.exr").write_bytes(OFFICIAL_EXR)
    np.testing.assert_array_equal(read_exr(tmp_path / "a.exr"), np.arange(6, dtype=np.float32).reshape(2, 3) / 4)


@pytest.mark.parametrize("compression", [0, 2, 3])
def test_exr_compressions(tmp_path, compression):
    image = np.repeat(RNG.uniform(0, 3, (37, 1)), 23, axis=1).astype(np.float16)
    write_exr(tmp_path / "a.exr", image, compression)
    np.testing.assert_array_equal(read_exr(tmp_path / "a.exr"), image)


def test_an_exr_of_an_unknown_compression_says_what_to_do(tmp_path):
    write_exr(tmp_path / "a.exr", np.ones(SHAPE), 2)
    data = (tmp_path / "a.exr").read_bytes()
    at = data.index(b"compression\0compression\0") + 28
    (tmp_path / "a.exr").write_bytes(data[:at] + b"\4" + data[at + 1 :])
    with pytest.raises(InputError, match=r"OpenEXR|damaged"):
        read_exr(tmp_path / "a.exr")


@given(st.integers(0, len(OFFICIAL_EXR) - 1), st.integers(0, 255), st.booleans())
def test_a_damaged_exr_never_ends_in_another_error(tmp_path_factory, position, value, is_cut):
    data = bytearray(OFFICIAL_EXR)
    data[position] = value
    path = tmp_path_factory.mktemp("exr") / "a.exr"
    path.write_bytes(data[:position] if is_cut else data)
    with contextlib.suppress(InputError):
        assert read_exr(path).ndim == 2


# FlyingThings3D and Middlebury as AiFDepthNet gives them out


def write_named_by_disparity(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(parents=True)
    frames = some_frames(15, *SHAPE, 3)
    for focus, frame in zip(np.linspace(10, 100, 15), frames, strict=True):
        cv2.imwrite(str(folder / f"{focus}.png"), frame[..., ::-1])
    cv2.imwrite(str(folder / "AiF.png"), frames[0])
    disparity = np.round(RNG.uniform(10, 100, SHAPE) * 4) / 4
    disparity[0, :4] = (-3, 0, np.inf, np.nan)
    write_exr(folder / "disp.exr", disparity)
    return frames, disparity


def test_frames_named_by_their_disparity(tmp_path):
    root = tmp_path / "FlyingThings3D_FS"
    frames, disparity = write_named_by_disparity(root / "train" / "A" / "0001")
    write_named_by_disparity(root / "val" / "B" / "0002")
    (root / "train" / "focal_stack_path.txt").write_text("10.0.png ...")
    data_set = open_data_set(root)
    assert (data_set.layout, data_set.splits) == ("flyingthings", ("train", "val"))
    scene = data_set.split("train")[0]
    assert (scene.name, scene.kind) == ("train/A/0001", "FlyingThings3D")
    np.testing.assert_allclose(scene.stack.z_um, np.linspace(10, 100, 15))
    np.testing.assert_array_equal(all_frames(scene), frames)
    assert np.isnan(scene.height_um[0, :4]).all()
    np.testing.assert_array_equal(scene.height_um[1:], disparity[1:])


def test_a_stack_without_its_disparity_is_refused(tmp_path):
    write_named_by_disparity(tmp_path / "a")
    (tmp_path / "a" / "disp.exr").rename(tmp_path / "a" / "disp.txt")
    with pytest.raises(InputError, match=r"has no readable disp\.exr"):
        open_data_set(tmp_path)


# Middlebury, refocused


def write_middlebury(folder: Path, size: tuple[int, int] = (60, 80)) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(parents=True)
    image = cv2.resize(some_frames(size[0] // 2, size[1] // 2, 3), size[::-1], interpolation=cv2.INTER_CUBIC)
    disparity = np.full(size, 10.0, np.float32)
    disparity[:, size[1] // 2 :] = 40.0
    disparity[: size[0] // 2, :] += 5.0
    disparity[5, 5:9] = np.inf
    cv2.imwrite(str(folder / "im0.png"), image)
    write_pfm(folder / "disp0.pfm", disparity)
    return image[..., ::-1], disparity


def test_middlebury_is_refocused(tmp_path):
    image, disparity = write_middlebury(tmp_path / "Adirondack-perfect")
    data_set = open_data_set(tmp_path)
    assert (data_set.layout, data_set.names) == ("middlebury", ("Adirondack-perfect",))
    scene = data_set[0]
    assert len(scene.stack) == 15
    assert (scene.stack.z_um[0], scene.stack.z_um[-1]) == (10.0, 45.0)
    np.testing.assert_array_equal(scene.height_um, np.where(np.isinf(disparity), np.nan, disparity))
    farthest = scene.stack.frames[0].astype(int)
    np.testing.assert_array_equal(farthest[45:, :10], image[45:, :10])  # what is in focus is the image itself
    assert np.abs(farthest[45:, 60:] - image[45:, 60:]).mean() > 20


def test_a_refocused_scene_has_its_depth_back(tmp_path):
    write_middlebury(tmp_path / "a", (96, 96))
    scene = open_data_set(tmp_path)[0]
    found = reconstruct(scene.stack, ReconstructionOptions())
    error = np.abs(found.height_um - scene.height_um)
    assert np.nanmedian(error) < 0.5 * scene.stack.step_um


def test_refocusing_keeps_the_light():
    grey = np.full((40, 50), 90, np.uint8)
    disparity = np.where(np.arange(50) < 25, 5.0, 60.0).astype(np.float32) * np.ones((40, 1), np.float32)
    assert np.ptp(refocused(grey, disparity, 5.0).astype(int)) <= 1


def test_wide_scenes_are_halved_with_their_disparities(tmp_path):
    write_middlebury(tmp_path / "a", (40, 1100))
    scene = open_data_set(tmp_path)[0]
    assert scene.stack.image_shape == (20, 550)
    assert np.nanmax(scene.height_um) == 22.5


def test_damaged_middlebury_scenes_are_refused(tmp_path):
    write_middlebury(tmp_path / "a")
    write_pfm(tmp_path / "a" / "disp0.pfm", np.ones((3, 4)))
    with pytest.raises(InputError, match="do not belong together"):
        open_data_set(tmp_path)[0]
    write_pfm(tmp_path / "a" / "disp0.pfm", np.full((60, 80), np.inf))
    with pytest.raises(InputError, match="no two different disparities"):
        open_data_set(tmp_path)[0]
    (tmp_path / "a" / "disp0.pfm").write_bytes(b"Pf\n80 60\n-1\nshort")
    with pytest.raises(InputError, match="not a readable PFM"):
        open_data_set(tmp_path)[0]


# Micro 3D, intaglio: a folder per sample


def write_sample(folder: Path, count: int = 12, suffix: str = ".bmp") -> np.ndarray:
    folder.mkdir(parents=True)
    frames = some_frames(count, *SHAPE)
    for number, frame in enumerate(frames, start=1):
        cv2.imwrite(str(folder / f"{number}{suffix}"), frame)
    return frames


def test_samples_of_the_micro_3d_group(tmp_path):
    root = tmp_path / "Intaglio"
    frames = [write_sample(root / str(number)) for number in (1, 2, 10)]
    label = RNG.uniform(1, 12, SHAPE)
    label[0] = 0
    scipy.io.savemat(root / "2" / "label.mat", {"SD_Result": label, "note": np.ones((2, 2))})
    data_set = open_data_set(root)
    assert (data_set.layout, data_set.names) == ("samples", ("1", "2", "10"))
    scene = data_set[1]
    assert scene.kind == "Intaglio"
    np.testing.assert_array_equal(all_frames(scene), frames[1])
    np.testing.assert_array_equal(scene.stack.z_um, np.arange(12))
    assert np.isnan(scene.height_um[0]).all()
    np.testing.assert_allclose(scene.height_um[1:], label[1:] - 1, rtol=1e-6)
    assert np.isnan(data_set[2].height_um).all()


def test_samples_in_parts_with_a_folder_of_frames(tmp_path):
    write_sample(tmp_path / "train" / "s1" / "stack", suffix=".png")
    write_sample(tmp_path / "test" / "s2" / "stack", suffix=".png")
    np.save(tmp_path / "train" / "s1" / "gt_index.npy", np.full(SHAPE, 3.5, np.float32))
    data_set = open_data_set(tmp_path)
    assert data_set.names == ("test/s2", "train/s1")
    assert data_set.split("train")[0].height_um[0, 0] == 3.5


@pytest.mark.parametrize(
    ("notes", "label", "value", "expected", "z_last"),
    [
        ("step: 2.5 um\n", "height_um.tif", 7.0, 7.0, 27.5),
        ("z step: 2500 nm (from the stage)\npixel size: 0.5\n", "gt_index.tif", 2.0, 5.0, 27.5),
        ("z step: not stated\n", "depth.png", 3, 2.0, 11.0),
        ("step_um = 2\norder: descending\n", "gt_index.npy", 2.0, 18.0, 22.0),
    ],
)
def test_notes_of_a_sample(tmp_path, notes, label, value, expected, z_last):
    frames = write_sample(tmp_path / "a")
    (tmp_path / "a" / "meta.txt").write_text(notes)
    values = np.full(SHAPE, value, np.uint8 if label.endswith("png") else np.float32)
    if label.endswith(".npy"):
        np.save(tmp_path / "a" / label, values)
    elif label.endswith(".tif"):
        tifffile.imwrite(tmp_path / "a" / label, values)
    else:
        cv2.imwrite(str(tmp_path / "a" / label), values)
    scene = open_data_set(tmp_path / "a")[0]
    assert scene.stack.z_um[-1] == pytest.approx(z_last)
    assert scene.stack.z_unit == ("um" if z_last > 11 else "frame")
    np.testing.assert_allclose(scene.height_um, expected)
    np.testing.assert_array_equal(scene.stack.frames[0], frames[-1] if "descending" in notes else frames[0])


def test_damaged_samples_are_refused(tmp_path):
    write_sample(tmp_path / "a")
    tifffile.imwrite(tmp_path / "a" / "height_um.tif", np.ones(SHAPE, np.float32))
    with pytest.raises(InputError, match="need the step"):
        open_data_set(tmp_path / "a")[0]
    (tmp_path / "a" / "height_um.tif").rename(tmp_path / "a" / "gt_index.tif")
    tifffile.imwrite(tmp_path / "a" / "gt_index.tif", np.full(SHAPE, 40, np.float32))
    with pytest.raises(InputError, match="there are 12 frames"):
        open_data_set(tmp_path / "a")[0]
    tifffile.imwrite(tmp_path / "a" / "gt_index.tif", np.ones((3, 4), np.float32))
    with pytest.raises(InputError, match="3 x 4 pixels, the frames have 14 x 18"):
        open_data_set(tmp_path / "a")[0]
    (tmp_path / "a" / "5.bmp").unlink()
    with pytest.raises(InputError, match="missing between"):
        open_data_set(tmp_path / "a")[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="Expected is one of"):
        open_data_set(tmp_path / "empty")


@needs_shared
def test_a_real_sample_agrees_with_its_frames():
    data_set = open_data_set(SHARED / "stacks" / "cou_rock_1_41f")
    assert (data_set.layout, data_set.names) == ("samples", ("cou_rock_1_41f",))
    scene = data_set[0]
    assert len(scene.stack) == 41
    found = compare(reconstruct(scene.stack, ReconstructionOptions()), scene.height_um, step_um=1.0)
    assert found.coverage > 0.999
    assert found.mean_absolute_um < 0.11


@needs_shared
def test_all_real_stacks_open():
    data_set = open_data_set(SHARED / "stacks")
    assert len(data_set) == len(list((SHARED / "stacks").iterdir()))
    scenes = dict(zip(data_set.names, data_set, strict=True))
    assert scenes["fly_eye_16f"].stack.step_um == 12.0
    assert scenes["fly_eye_16f"].stack.pixel_um == 1.0228
    assert scenes["roll_cell_100f"].stack.z_unit == "frame"
