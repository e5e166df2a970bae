"""Files that others wrote, or that say something else than they should: read right or refused in words."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import x3pio

from models import storage
from models.errors import InputError, OutputError
from models.focal_stack import FocalStack
from models.formats import read_height_map, read_stack, write_height_map
from models.formats.video import read_video
from models.height_map import HeightMap
from models.reconstruct import focus_curve, reconstruct

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 65536, (3, 12, 15), dtype=np.uint16)


def some_map(rows: int = 12, columns: int = 15) -> HeightMap:
    height = RNG.normal(size=(rows, columns)).astype(np.float32)
    return HeightMap(height, np.ones_like(height), np.zeros(height.shape, np.uint8), pixel_um=0.5)


def save_grey_alpha_png(path: Path, image: np.ndarray) -> None:
    """16-bit grey with alpha, which neither Pillow nor OpenCV writes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows, columns = image.shape
    lines = np.stack([image, np.full_like(image, 60000)], axis=-1).astype(">u2")
    packed = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    head = struct.pack(">IIBBBBB", columns, rows, 16, 4, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))


def test_grey_with_alpha_of_16_bits_is_grey(tmp_path):
    for index, image in enumerate(GREY):
        save_grey_alpha_png(tmp_path / f"{index}.png", image)
    stack = read_stack(tmp_path)
    np.testing.assert_array_equal([image for image, _z in stack], GREY)


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    for index, image in enumerate(GREY):
        cv2.imwrite(str(tmp_path / f"{index}.png"), image)
    (tmp_path / "3.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"3\.png cannot be read"):
        read_stack(tmp_path)


def test_a_video_is_open_once_however_often_it_is_rewound(tmp_path, monkeypatch):
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in range(6):
        writer.write(np.full((48, 64, 3), 40 * level, np.uint8))
    writer.release()
    monkeypatch.setattr("models.formats.frames._CACHE_BYTES", 0)  # every look back rewinds
    frames = read_video(path)
    for index in (5, 0, 4, 1, 3, 0):
        assert abs(float(frames[index].mean()) - 40 * index) < 3
    handles = [link for link in Path("/proc/self/fd").glob("*") if link.exists() and link.resolve() == path]
    assert len(handles) <= 1


EDITS: dict[str, Callable[[h5py.File], object]] = {
    "version in words": lambda file: file.attrs.__setitem__("schema_version", "x"),
    "stack is no group": lambda file: (file.__delitem__("stack"), file.__setitem__("stack", 3)),
    "heights in words": lambda file: replace(file, "stack/z_um", ["a", "b", "c"]),
    "one height": lambda file: replace(file, "stack/z_um", 3.0),
    "more heights than frames": lambda file: replace(file, "stack/z_um", np.arange(6.0)),
    "no pixels": lambda file: replace(file, "stack/frames", GREY[:, :0]),
    "frames of real numbers": lambda file: replace(file, "stack/frames", GREY.astype(float)),
    "half a JSON": lambda file: replace(file, "stack/metadata", "{bad"),
    "pixel size in words": lambda file: file["stack"].attrs.__setitem__("pixel_um", "wide"),
    "unknown unit": lambda file: file["stack"].attrs.__setitem__("z_unit", "parsec"),
    "half an objective": lambda file: file["stack"].attrs.__setitem__("magnification", 10),
}


def replace(file: h5py.File, name: str, value: object) -> None:
    del file[name]
    file[name] = value


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("use", [storage.open_stack, storage.recover])
def test_a_sample_file_that_makes_no_sense_is_refused(tmp_path, edit, use):
    path = tmp_path / "s.h5"
    storage.write_stack(path, FocalStack(GREY, np.arange(3.0)))
    with h5py.File(path, "r+") as file:
        EDITS[edit](file)
    with pytest.raises(InputError):
        use(path)
    assert [p.name for p in tmp_path.iterdir()] == ["s.h5"]


@pytest.mark.parametrize(("name", "value"), [("height_um", "x"), ("height_um", np.zeros((3, 3), np.float32))])
def test_a_stored_map_that_makes_no_sense_is_refused(tmp_path, name, value):
    path = tmp_path / "s.h5"
    storage.save_reconstruction(path, some_map())
    with h5py.File(path, "r+") as file:
        replace(file, f"reconstructions/main/{name}", value)
    with pytest.raises(InputError, match="damaged"):
        storage.load_reconstruction(path)


def test_a_frame_can_be_read_in_part_from_the_file(tmp_path):
    path = tmp_path / "s.h5"
    frames = RNG.integers(0, 255, (4, 80, 90), dtype=np.uint8)
    storage.write_stack(path, FocalStack(frames, np.arange(4.0)))
    stored = storage.open_stack(path)
    np.testing.assert_array_equal(stored.frames.region(2, slice(5, 20), slice(0, 7)), frames[2, 5:20, :7])
    for place in ((0, 0), (79, 89), (40, 3)):
        np.testing.assert_array_equal(focus_curve(stored, *place), focus_curve(FocalStack(frames, stored.z_um), *place))


def test_infinite_heights_are_missing(tmp_path):
    (tmp_path / "m.csv").write_text("1,inf\n-inf,1e300\n")
    height = read_height_map(tmp_path / "m.csv").height_um
    np.testing.assert_array_equal(height, np.array([[1, np.nan], [np.nan, np.nan]], np.float32))


@pytest.mark.parametrize("pixel", ["0 um", "nan um", "-2 um"])
def test_a_map_with_an_impossible_pixel_size_is_refused(tmp_path, pixel):
    (tmp_path / "m.csv").write_text(f"# Reliefscope height map; unit: um; pixel: {pixel}\n1,2\n3,4\n")
    with pytest.raises(InputError, match="pixel size"):
        read_height_map(tmp_path / "m.csv")


def test_x3p_with_pixels_that_are_not_square_gets_square_ones(tmp_path):
    row, column = np.mgrid[:3, :4]
    x3pio.write(str(tmp_path / "m.x3p"), (column + 20.0 * row)[::-1] * 1e-6, x_scale=1e-6, y_scale=2e-6)
    read = read_height_map(tmp_path / "m.x3p")
    assert read.pixel_um == pytest.approx(1.0)
    np.testing.assert_allclose(read.height_um, np.arange(4) + 10.0 * np.arange(5)[:, None], atol=1e-5)
    assert read.provenance["pixel_um_in_file"] == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize("shape", [(3, 0, 5), (3, 5, 0)])
def test_frames_without_pixels_are_refused(shape):
    with pytest.raises(InputError, match="no pixels"):
        FocalStack(np.zeros(shape, np.uint8), np.arange(3.0))


@pytest.mark.parametrize(
    ("z_um", "words"),
    [
        (1e6 + 0.1 * np.arange(5), "too far from zero"),
        (-1e6 - 0.1 * np.arange(5), "too far from zero"),
        (1e300 * np.arange(5), "unit"),
        (1e-30 * np.arange(5), "unit"),
    ],
)
def test_heights_that_a_map_cannot_hold_are_refused(z_um, words):
    frames = RNG.integers(0, 255, (5, 20, 20), dtype=np.uint8)
    with pytest.raises(InputError, match=words):
        reconstruct(FocalStack(frames, z_um))


def test_heights_far_from_zero_keep_a_twentieth_of_a_step():
    frames = RNG.integers(0, 255, (9, 40, 40), dtype=np.uint8)
    near_um = reconstruct(FocalStack(frames, 0.1 * np.arange(9))).height_um
    far_um = reconstruct(FocalStack(frames, 1e5 + 0.1 * np.arange(9))).height_um.astype(np.float64) - 1e5
    assert np.nanmax(np.abs(far_um - near_um)) < 0.1 / 20


def test_what_does_not_fit_on_the_disk_is_named_as_the_user_did(tmp_path, monkeypatch):
    monkeypatch.setattr("models.atomic.shutil.disk_usage", lambda _folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(OutputError, match=rf"space for {tmp_path}/a\.h5"):
        write_height_map(some_map(), tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []
