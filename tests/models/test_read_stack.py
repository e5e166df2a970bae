"""Stacks from folders, TIFF and video: every pixel and scale as written, clear words for everything else."""

import io
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.errors import InputError
from models.formats import read_stack
from models.storage import write_stack
from tests.data import SHARED, needs_shared

RNG = np.random.default_rng(5)
GREY8 = RNG.integers(0, 256, (4, 21, 30), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (4, 21, 30), dtype=np.uint16)
RGB8 = RNG.integers(0, 256, (4, 21, 30, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (4, 21, 30, 3), dtype=np.uint16)


def save(path: Path, image: np.ndarray) -> None:
    """By OpenCV and tifffile: writers independent of the readers under test where possible."""
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, image, photometric="rgb" if image.ndim == 3 else "minisblack")
        return
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    assert cv2.imwrite(str(path), image)


def folder_of(tmp_path: Path, frames: np.ndarray, suffix: str = ".png", name: str = "frame_{}") -> Path:
    for index, image in enumerate(frames):
        save(tmp_path / (name.format(index) + suffix), image)
    return tmp_path


def pixels(path: Path, **options: float) -> np.ndarray:
    return np.stack([image for image, _z in read_stack(path, **options)])


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize("frames", [GREY8, GREY16, RGB8, RGB16], ids=["grey8", "grey16", "rgb8", "rgb16"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_lossless_images_come_back_bit_by_bit(tmp_path, frames, suffix):
    back = pixels(folder_of(tmp_path, frames, suffix))
    assert back.dtype == frames.dtype
    assert np.array_equal(back, frames)


@pytest.mark.parametrize("frames", [GREY8, RGB8], ids=["grey", "rgb"])
def test_bmp_comes_back_bit_by_bit(tmp_path, frames):
    assert np.array_equal(pixels(folder_of(tmp_path, frames, ".bmp")), frames)


@pytest.mark.parametrize("frames", [RGB8, RGB16], ids=["8", "16"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_dropped(tmp_path, frames, suffix):
    alpha = np.full((*frames.shape[:3], 1), 7, frames.dtype)
    assert np.array_equal(pixels(folder_of(tmp_path, np.concatenate([frames, alpha], axis=3), suffix)), frames)


@pytest.mark.parametrize("mode", ["LA", "P", "1"])
def test_rarer_png_kinds_are_grey_or_rgb(tmp_path, mode):
    for index, image in enumerate(GREY8):
        Image.fromarray(image).convert(mode).save(tmp_path / f"{index}.png")
    assert read_stack(tmp_path).frames.shape == ((4, 21, 30, 3) if mode == "P" else (4, 21, 30))
    if mode == "LA":
        assert np.array_equal(pixels(tmp_path), GREY8)


def test_jpeg_is_close(tmp_path):
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 4) for image in RGB8])
    assert np.abs(pixels(folder_of(tmp_path, smooth, ".jpg")).astype(int) - smooth).mean() < 3


def test_orientation_tags_turn_no_frame(tmp_path):
    for index, image in enumerate(GREY8):
        exif = Image.Exif()
        exif[274] = 6 if index % 2 else 1  # some cameras guess their orientation anew for every picture
        Image.fromarray(image).save(tmp_path / f"{index}.jpg", exif=exif, quality=95)
    assert read_stack(tmp_path).frames.shape == GREY8.shape
    assert pixels(tmp_path).shape == GREY8.shape


def test_natural_order(tmp_path):
    for number in (1, 2, 10, 9, 8, 3, 4, 5, 7, 6):
        save(tmp_path / f"z{number}.png", np.full((3, 4), number, np.uint8))
    assert [image[0, 0] for image, _z in read_stack(tmp_path)] == list(range(1, 11))


def test_the_running_number_may_stand_anywhere(tmp_path):
    for number in range(4):
        save(tmp_path / f"roll7_{number:03d}_x50.tif", GREY8[number])
    assert np.array_equal(pixels(tmp_path), GREY8)


def test_other_files_are_left_out(tmp_path):
    folder_of(tmp_path, GREY8)
    save(tmp_path / "mask.jpg", np.zeros((5, 5), np.uint8))
    save(tmp_path / "gt_index.tif", np.zeros((21, 30), np.uint8))
    save(tmp_path / "result_1.png", np.zeros((9, 9), np.uint8))
    (tmp_path / "meta.txt").write_text("z: unknown")
    (tmp_path / ".frame_9.png").write_bytes(b"")
    assert np.array_equal(pixels(tmp_path), GREY8)


def test_of_the_same_frames_saved_twice_the_lossless_ones_are_taken(tmp_path):
    folder_of(tmp_path, GREY8, ".jpg")
    folder_of(tmp_path, GREY8, ".png")
    assert np.array_equal(pixels(tmp_path), GREY8)


def test_two_series_of_equal_length_are_not_guessed_at(tmp_path):
    folder_of(tmp_path, GREY8, name="left_{}")
    folder_of(tmp_path, GREY8, name="right_{}")
    with pytest.raises(InputError, match="several series"):
        read_stack(tmp_path)


def test_a_lost_frame_is_noticed(tmp_path):
    folder_of(tmp_path, GREY8.repeat(3, axis=0))
    (tmp_path / "frame_5.png").unlink()
    with pytest.raises(InputError, match=r"missing between .*frame_4\.png and frame_6\.png"):
        read_stack(tmp_path)


def test_irregular_numbers_such_as_times_are_only_an_order(tmp_path):
    for number, image in zip((120301, 120307, 120318, 120320), GREY8, strict=True):
        save(tmp_path / f"{number}.png", image)
    assert np.array_equal(pixels(tmp_path), GREY8)


def test_frames_stay_on_disk(tmp_path):
    frames = RNG.integers(0, 256, (40, 1000, 1000), dtype=np.uint8)
    for index, image in enumerate(frames):
        tifffile.imwrite(tmp_path / f"{index}.tif", image)
    tracemalloc.start()
    stack = read_stack(tmp_path)
    opened = tracemalloc.get_traced_memory()[1]
    assert np.array_equal(stack.frames[39], frames[39])
    tracemalloc.stop()
    assert opened < 4e6  # one frame is 1e6 bytes, the stack 40e6


def test_the_cache_stays_small_and_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr("models.formats.frames._CACHE_BYTES", 2 * GREY8[0].nbytes)
    stack = read_stack(folder_of(tmp_path, GREY8))
    for _pass in range(2):
        assert np.array_equal(np.stack([image for image, _z in stack]), GREY8)
    assert len(stack.frames._cache) == 2
    with pytest.raises(ValueError, match="read-only"):
        stack.frames[0][0, 0] = 1


@needs_shared
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("cou_rock_1_41f", (41, 400, 400)),
        ("fly_eye_16f", (16, 1024, 1360, 3)),
        ("intaglio_cell_10f", (10, 512, 512)),
        ("pcb_button_10f", (10, 1536, 2048, 3)),
        ("roll_cell_100f", (100, 256, 256)),
    ],
)
def test_real_folders(name, shape):
    stack = read_stack(SHARED / "stacks" / name)
    assert stack.frames.shape == shape
    assert stack.frames[len(stack) - 1].std() > 5


# ---------------------------------------------------------------- TIFF


def write_pages(path: Path, frames: np.ndarray, compression: str | None) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for image in frames:
            kind = "rgb" if image.ndim == 3 else "minisblack"
            tiff.write(image, photometric=kind, contiguous=False, compression=compression, metadata=None)


@pytest.mark.parametrize("frames", [GREY8, GREY16, RGB8, RGB16], ids=["grey8", "grey16", "rgb8", "rgb16"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_multi_page_tiff(tmp_path, frames, compression):
    write_pages(tmp_path / "a.tif", frames, compression)
    assert np.array_equal(pixels(tmp_path / "a.tif"), frames)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"planarconfig": "separate"}])
def test_tiff_variants(tmp_path, options):
    frames = RGB16 if "planarconfig" in options else GREY16
    if "planarconfig" in options:
        tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(frames, -1, 1), photometric="rgb", **options)
    else:
        tifffile.imwrite(tmp_path / "a.tif", frames, photometric="minisblack", **options)
    back = pixels(tmp_path / "a.tif")
    assert back.dtype.isnative
    assert np.array_equal(back, frames)


@pytest.mark.parametrize(
    ("unit", "factor"), [("um", 1), ("µm", 1), ("micron", 1), ("nm", 1e-3), ("mm", 1e3), ("inch", 25400)]
)
def test_imagej_scale(tmp_path, unit, factor):
    tifffile.imwrite(
        tmp_path / "a.tif",
        GREY16,
        imagej=True,
        resolution=(4, 4),
        metadata={"axes": "ZYX", "spacing": 2.5, "unit": unit.replace("µ", "\\u00B5")},
    )
    stack = read_stack(tmp_path / "a.tif")
    assert np.array_equal(np.stack([image for image, _z in stack]), GREY16)
    assert stack.z_unit == "um"
    assert stack.step_um == pytest.approx(2.5 * factor)
    assert stack.pixel_um == pytest.approx(0.25 * factor)


def test_imagej_without_a_length_unit_has_no_scale(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY16, imagej=True, metadata={"axes": "ZYX", "spacing": 2.5, "unit": "pixel"})
    stack = read_stack(tmp_path / "a.tif")
    assert (stack.z_unit, stack.pixel_um) == ("frame", None)


@pytest.mark.parametrize(("unit", "factor"), [("µm", 1), ("nm", 1e-3), ("mm", 1e3)])
def test_ome_scale(tmp_path, unit, factor):
    scale = {f"PhysicalSize{axis}": size for axis, size in (("X", 0.5), ("Y", 0.5), ("Z", 3.0))}
    units = {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", GREY8, photometric="minisblack", metadata={"axes": "ZYX", **scale, **units}
    )
    stack = read_stack(tmp_path / "a.ome.tif")
    assert np.array_equal(np.stack([image for image, _z in stack]), GREY8)
    assert stack.step_um == pytest.approx(3 * factor)
    assert stack.pixel_um == pytest.approx(0.5 * factor)


def test_ome_default_unit_is_micrometres(tmp_path):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 3.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY8, photometric="minisblack", metadata=metadata)
    assert read_stack(tmp_path / "a.ome.tif").step_um == pytest.approx(3)


def test_oblong_pixels_are_refused(tmp_path):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.6, "PhysicalSizeZ": 3.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY8, photometric="minisblack", metadata=metadata)
    with pytest.raises(InputError, match="square pixels"):
        read_stack(tmp_path / "a.ome.tif")


def test_printer_resolution_is_no_scale(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY8, photometric="minisblack", resolution=(300, 300), resolutionunit="INCH")
    assert read_stack(tmp_path / "a.tif").pixel_um is None


def test_channels_are_no_frames(tmp_path):
    five = RNG.integers(0, 255, (4, 2, 9, 9), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", five, photometric="minisblack", metadata={"axes": "ZCYX"})
    with pytest.raises(InputError, match="channels"):
        read_stack(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("dtype", ["float32", "uint32", "int16", "float64"])
@pytest.mark.parametrize("form", ["file", "folder"])
def test_other_number_types_are_refused(tmp_path, dtype, form):
    if form == "file":
        tifffile.imwrite(tmp_path / "a.tif", GREY8.astype(dtype), photometric="minisblack")
    else:
        folder_of(tmp_path, GREY8.astype(dtype), ".tif")
    with pytest.raises(InputError, match="8- or 16-bit"):
        read_stack(tmp_path / "a.tif" if form == "file" else tmp_path)


def test_pages_of_mixed_size_are_named(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for image in (GREY8[0], GREY8[1], GREY8[2][:9]):
            tiff.write(image)
    with pytest.raises(InputError, match=r"Image 3 of .*30 x 9 pixels"):
        read_stack(tmp_path / "a.tif")


@pytest.fixture(scope="module")
def whole_tiffs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tifffile.imwrite(folder / "contiguous.tif", GREY16, photometric="minisblack")
    tifffile.imwrite(folder / "big.tif", GREY16, photometric="minisblack", bigtiff=True)
    tifffile.imwrite(folder / "imagej.tif", GREY16, imagej=True)
    tifffile.imwrite(folder / "ome.ome.tif", GREY16, photometric="minisblack", metadata={"axes": "ZYX"})
    write_pages(folder / "pages.tif", GREY16, "zlib")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_tiff_cut_anywhere_is_refused_or_whole(tmp_path_factory, whole_tiffs, data):
    content = whole_tiffs[data.draw(st.sampled_from(sorted(whole_tiffs)))]
    path = tmp_path_factory.mktemp("cut") / "a.tif"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1), label="length")])
    try:
        back = pixels(path)
    except InputError:
        return
    assert np.array_equal(back, GREY16)  # only trailing metadata was lost


# ---------------------------------------------------------------- video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "sweep.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write video")
    for index in range(12):
        writer.write(np.full((48, 64, 3), (20 * index, 128, 250 - 20 * index), np.uint8))
    writer.release()
    return path


def test_video_frames_by_number_in_any_order(video):
    stack = read_stack(video, step_um=2)
    assert stack.frames.shape == (12, 48, 64, 3)
    assert stack.z_um[-1] == 22
    for index in (0, 11, 5, 6, 7, 1):
        assert stack.frames[index].mean(axis=(0, 1)) == pytest.approx((250 - 20 * index, 128, 20 * index), abs=6)


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"not a video at all" * 100)
    with pytest.raises(InputError, match=r"a\.mp4"):
        read_stack(tmp_path / "a.mp4")


# ---------------------------------------------------------------- scale


def test_without_a_step_heights_count_frames(tmp_path):
    stack = read_stack(folder_of(tmp_path, GREY8))
    assert (stack.z_unit, stack.z_um.tolist(), stack.pixel_um) == ("frame", [0, 1, 2, 3], None)


@pytest.mark.parametrize(
    ("options", "z_um"),
    [
        ({"step_um": 2.5}, [0, 2.5, 5, 7.5]),
        ({"step_um": 2.5, "z0_um": 100}, [100, 102.5, 105, 107.5]),
        ({"step_um": 2.5, "z0_um": 100, "descending": True}, [100, 97.5, 95, 92.5]),
        ({"step_um": 1, "descending": True}, [0, -1, -2, -3]),
    ],
)
def test_heights_from_the_step(tmp_path, options, z_um):
    stack = read_stack(folder_of(tmp_path, GREY8), pixel_um=0.7, **options)
    assert stack.z_um.tolist() == z_um
    assert (stack.z_unit, stack.pixel_um) == ("um", 0.7)


def test_what_the_user_says_replaces_what_the_file_says(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    original = read_stack(folder_of(folder, GREY8), step_um=2, pixel_um=0.5)
    write_stack(tmp_path / "a.h5", original)
    assert read_stack(tmp_path / "a.h5").z_um.tolist() == [0, 2, 4, 6]
    changed = read_stack(tmp_path / "a.h5", step_um=3, z0_um=9, descending=True, pixel_um=1)
    assert changed.z_um.tolist() == [9, 6, 3, 0]
    assert changed.pixel_um == 1
    assert read_stack(tmp_path / "a.h5", descending=True).z_um.tolist() == [0, -2, -4, -6]


@pytest.mark.parametrize(
    "options",
    [
        {"step_um": 0},
        {"step_um": -1},
        {"step_um": float("nan")},
        {"step_um": float("inf")},
        {"pixel_um": 0},
        {"pixel_um": float("nan")},
        {"step_um": 1, "z0_um": float("inf")},
        {"z0_um": 5},
    ],
)
def test_a_scale_that_makes_no_sense_is_refused(tmp_path, options):
    with pytest.raises(InputError):
        read_stack(folder_of(tmp_path, GREY8), **options)


# ---------------------------------------------------------------- bad input


def test_missing_and_unknown_inputs(tmp_path):
    with pytest.raises(InputError, match="no file or folder"):
        read_stack(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no images"):
        read_stack(tmp_path)
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"'\.docx' is no stack format"):
        read_stack(tmp_path / "a.docx")
    save(tmp_path / "one.png", GREY8[0])
    with pytest.raises(InputError, match="single image"):
        read_stack(tmp_path / "one.png")
    with pytest.raises(InputError, match="one image"):
        read_stack(tmp_path)
    save(tmp_path / "two.png", GREY8[0])
    with pytest.raises(InputError, match="no running number"):
        read_stack(tmp_path)


@pytest.mark.parametrize(
    ("odd", "words"), [(GREY8[0][:9], "30 x 9"), (RGB8[0], "RGB"), (GREY16[0], "16 bit")], ids=["size", "rgb", "depth"]
)
def test_a_frame_unlike_the_others_is_named(tmp_path, odd, words):
    folder_of(tmp_path, GREY8)
    save(tmp_path / "frame_2.png", odd)
    with pytest.raises(InputError, match=rf"frame_2\.png is .*{words}"):
        read_stack(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("content", [b"", b"just text", "cut"])
def test_a_frame_that_is_no_image_is_named(tmp_path, suffix, content):
    folder_of(tmp_path, GREY8, suffix)
    path = tmp_path / f"frame_2{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "cut" else content)
    with pytest.raises(InputError, match=rf"frame_2\{suffix}"):
        pixels(tmp_path)


def test_a_deep_png_cut_short_is_named(tmp_path):
    folder_of(tmp_path, RGB16)
    path = tmp_path / "frame_3.png"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"frame_3\.png"):
        pixels(tmp_path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_images_never_end_in_a_traceback(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF"]))
    buffer = io.BytesIO()
    Image.fromarray(data.draw(st.sampled_from([GREY8[0], GREY16[0] if kind in ("PNG", "TIFF") else RGB8[0]]))).save(
        buffer, kind
    )
    content = bytearray(buffer.getvalue())
    for _change in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    suffix = {"PNG": "png", "JPEG": "jpg", "BMP": "bmp", "TIFF": "tif"}[kind]
    for number in (1, 2):
        (folder / f"{number}.{suffix}").write_bytes(content)
    try:
        frames = pixels(folder)
    except InputError as error:
        assert str(folder) in str(error) or "stack" in str(error)  # noqa: PT017
    else:
        assert frames.dtype in (np.uint8, np.uint16)
