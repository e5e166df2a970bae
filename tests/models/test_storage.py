"""The sample file: what goes in comes out, and what a crash, a full disk or a second reader must not break."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.capture_file import StackWriter
from models.errors import Cancelled, InputError, OutputError
from models.focal_stack import FocalStack, Optics
from models.height_map import Flag, HeightMap
from models.storage import (
    find_interrupted,
    frames_written,
    has_stack,
    is_complete,
    load_reconstruction,
    open_stack,
    reconstruction_names,
    recover,
    save_reconstruction,
    stack_sha256,
    write_stack,
)
from tests.models.capture_child import frame

ROOT = Path(__file__).parents[2]
SHAPE = (96, 128)


def captured(path: Path, count: int = 5, planned: int | None = None, *, complete: bool = True) -> Path:
    planned = planned or count
    with StackWriter(path, image_shape=SHAPE, dtype=np.uint16, frame_count=planned, optics=Optics(20, 0.4)) as writer:
        for index in range(count):
            writer.append(frame(index), z_um=3.0 - index, z_requested_um=3.1 - index, time_s=index / 10)
        if complete:
            writer.complete()
    return path


def some_map(seed: int = 0) -> HeightMap:
    rng = np.random.default_rng(seed)
    height = rng.normal(0, 10, SHAPE).astype(np.float32)
    height[10:20, 30:50] = np.nan
    return HeightMap(
        height_um=height,
        confidence=rng.random(SHAPE, dtype=np.float32),
        flags=rng.choice(np.array([0, Flag.PEAK_AT_END, Flag.SMOOTHED], np.uint8), SHAPE),
        all_in_focus=rng.integers(0, 65536, SHAPE, dtype=np.uint16),
        pixel_um=0.5,
        method="sml",
        parameters={"window": np.int64(9), "gain": np.float32(0.5)},
        provenance={"device": "a stage"},
    )


def same_map(a: HeightMap, b: HeightMap) -> bool:
    return (
        np.array_equal(a.height_um, b.height_um, equal_nan=True)
        and np.array_equal(a.confidence, b.confidence)
        and np.array_equal(a.flags, b.flags)
        and np.array_equal(a.all_in_focus, b.all_in_focus)
        and (a.pixel_um, a.z_unit, a.method) == (b.pixel_um, b.z_unit, b.method)
    )


def is_same(stack: FocalStack, count: int) -> bool:
    return len(stack) == count and all(np.array_equal(stack.frames[i], frame(i)) for i in range(count))


# ---------------------------------------------------------------- captures


def test_a_capture_comes_back_as_it_was(tmp_path):
    stack = open_stack(captured(tmp_path / "a.h5"))
    assert is_same(stack, 5)
    assert stack.z_um.tolist() == [3.0, 2.0, 1.0, 0.0, -1.0]
    assert (stack.optics, stack.pixel_um, stack.z_unit) == (Optics(20, 0.4), None, "um")
    assert np.array_equal(stack.frames[-1], frame(4))
    with pytest.raises(IndexError):
        stack.frames[5]


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(2, 6),
    shape=st.sampled_from([(1, 1), (7, 3), (16, 5, 3), (3, 40)]),
    dtype=st.sampled_from(["uint8", "uint16"]),
    pixel_um=st.none() | st.floats(1e-3, 1e3),
    z_unit=st.sampled_from(["um", "frame"]),
    metadata=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=300), max_size=4),
    seed=st.integers(0, 2**32),
)
def test_any_stack_survives_the_file(tmp_path_factory, count, shape, dtype, pixel_um, z_unit, metadata, seed):
    path = tmp_path_factory.mktemp("any") / "a.h5"
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, np.iinfo(dtype).max, (count, *shape), dtype=dtype, endpoint=True)
    z_um = np.cumsum(rng.random(count) + 1e-3) * rng.choice([-1, 1])
    stack = FocalStack(frames, z_um, pixel_um=pixel_um, z_unit=z_unit, metadata=metadata)
    write_stack(path, stack)
    back = open_stack(path)
    assert np.array_equal(np.stack([image for image, _z in back]), frames)
    assert np.array_equal(back.z_um, z_um)
    assert (back.pixel_um, back.z_unit) == (pixel_um, z_unit)
    kept = {name: value for name, value in metadata.items() if name not in ("source", "provenance", "origin")}
    assert kept.items() <= back.metadata.items()
    assert stack_sha256(back) == stack_sha256(stack)


def test_fewer_frames_than_planned_are_a_shorter_stack(tmp_path):
    path = captured(tmp_path / "a.h5", count=3, planned=9)
    assert is_same(open_stack(path), 3)
    assert frames_written(path) == (3, 9)


def test_a_capture_never_overwrites(tmp_path):
    path = captured(tmp_path / "a.h5")
    with pytest.raises(OutputError, match="exists already"):
        captured(path)
    assert is_same(open_stack(path), 5)


RACING = """
import sys, time
from models.capture_file import StackWriter
from models.errors import OutputError
while time.time() < float(sys.argv[2]):
    pass
try:
    StackWriter(sys.argv[1], image_shape=(64, 64), dtype="uint8", frame_count=50)
    print("mine")
except OutputError as error:
    print(error)
"""


def test_of_captures_that_begin_together_one_gets_the_name(tmp_path):
    """Prepared beside each other, the later one would silently take the place of the earlier."""
    for attempt in range(3):
        words = [sys.executable, "-c", RACING, str(tmp_path / f"{attempt}.h5"), str(time.time() + 1.5)]
        both = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [child.communicate(timeout=60)[0].strip() for child in both]
        assert sorted(text == "mine" for text in said) == [False, True], said
        assert any("exists already" in text for text in said)


def test_a_capture_that_cannot_be_prepared_leaves_its_name_free(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("models.capture_file.reserve_frames", fail)
        with pytest.raises(OutputError, match="disk is full"):
            captured(tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
    captured(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("image", "z_um"),
    [
        (np.zeros((5, 5), np.uint16), 0.0),
        (np.zeros(SHAPE, np.uint8), 0.0),
        (np.zeros(SHAPE, np.uint16), np.nan),
    ],
)
def test_a_wrong_frame_is_refused_and_harms_nothing(tmp_path, image, z_um):
    path = tmp_path / "a.h5"
    with StackWriter(path, image_shape=SHAPE, dtype=np.uint16, frame_count=2) as writer:
        writer.append(frame(0), z_um=1, z_requested_um=1, time_s=0)
        with pytest.raises(ValueError, match="frame"):
            writer.append(image, z_um=z_um, z_requested_um=0, time_s=0)
        writer.append(frame(1), z_um=0, z_requested_um=0, time_s=0)
        with pytest.raises(ValueError, match="planned"):
            writer.append(frame(2), z_um=-1, z_requested_um=-1, time_s=0)
        assert writer.frame_count == 2
        writer.complete()
    assert is_same(open_stack(path), 2)


def test_not_enough_space_is_said_before_the_capture(tmp_path):
    path = tmp_path / "a.h5"
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(OutputError, match="Not enough disk space"):
        StackWriter(path, image_shape=(4096, 4096), dtype=np.uint16, frame_count=free // (4096 * 4096))
    assert not any(tmp_path.iterdir())


# ---------------------------------------------------------------- crashes


def test_an_interrupted_capture_is_found_and_recovered(tmp_path):
    captured(tmp_path / "whole.h5")
    path = captured(tmp_path / "cut.h5", count=4, planned=10, complete=False)
    captured(tmp_path / "nothing.h5", count=1, planned=10, complete=False)
    (tmp_path / "noise.h5").write_bytes(b"not an HDF5 file")
    assert find_interrupted(tmp_path) == [path]
    assert not is_complete(path)
    with pytest.raises(InputError, match="recover"):
        open_stack(path)
    assert is_same(recover(path), 4)
    assert is_complete(path)
    assert is_same(open_stack(path), 4)
    assert find_interrupted(tmp_path) == []


def test_too_few_frames_cannot_be_recovered(tmp_path):
    path = captured(tmp_path / "a.h5", count=1, planned=10, complete=False)
    with pytest.raises(InputError, match="at least 2"):
        recover(path)
    assert not is_complete(path)


def test_a_running_capture_is_not_recovered(tmp_path):
    path = tmp_path / "a.h5"
    with StackWriter(path, image_shape=SHAPE, dtype=np.uint16, frame_count=5) as writer:
        for index in range(3):
            writer.append(frame(index), z_um=index, z_requested_um=index, time_s=0)
        assert find_interrupted(tmp_path) == []
        assert frames_written(path) == (3, 5)
        with pytest.raises(InputError, match="still being captured"):
            recover(path)


def start_child(path: Path, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.models.capture_child", str(path), str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_kill_at_20_random_moments_loses_no_written_frame(tmp_path):
    rng = np.random.default_rng()
    killed_early = 0
    for run in range(20):
        path = tmp_path / f"{run}.h5"
        child = start_child(path, 300)
        reported = [child.stdout.readline()]  # importing is over
        time.sleep(rng.uniform(0, 0.1))
        child.send_signal(signal.SIGKILL)
        reported += child.stdout.read().splitlines()
        child.wait()
        child.stdout.close()
        if reported[-1].strip() == "complete":
            stack = open_stack(path)
        else:
            killed_early += 1
            if len(reported) < 2:
                assert frames_written(path)[0] >= 1
                continue
            stack = recover(path)
        indices = [int(line) for line in reported if line.strip().isdigit()]
        assert indices == list(range(len(indices)))
        assert len(stack) in (len(indices), len(indices) + 1)  # killed between writing and reporting
        assert is_same(stack, len(stack))
    assert killed_early >= 10


SAVE_FOREVER = """
import sys
from models.storage import save_reconstruction
from tests.models.test_storage import some_map
print("ready", flush=True)
for round in range(10_000):
    save_reconstruction(sys.argv[1], some_map(round % 7), f"m{round % 3}")
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_kill_while_a_height_map_is_saved_leaves_the_stack_whole(tmp_path):
    path = captured(tmp_path / "a.h5")
    rng = np.random.default_rng()
    for _run in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.15))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert is_same(open_stack(path), 5)


def test_a_capture_in_another_process_is_left_alone(tmp_path):
    path = tmp_path / "a.h5"
    child = start_child(path, 100_000)
    try:
        child.stdout.readline()
        assert find_interrupted(tmp_path) == []
        with pytest.raises(InputError, match="another program"):
            recover(path)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert find_interrupted(tmp_path) == [path]


# ---------------------------------------------------------------- full disk

LIMITED = """
import resource, sys
import numpy as np
from models.errors import OutputError
from models.capture_file import StackWriter
from tests.models.capture_child import frame
writer = StackWriter(sys.argv[1], image_shape=(96, 128), dtype=np.uint16, frame_count=50)
resource.setrlimit(resource.RLIMIT_FSIZE, (20 * 96 * 128 * 2, resource.RLIM_INFINITY))
try:
    for index in range(50):
        writer.append(frame(index), z_um=index, z_requested_um=index, time_s=0)
except OutputError as error:
    print(index, writer.frame_count, error)
writer.close()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_FSIZE")
def test_a_file_that_may_not_grow_keeps_what_was_written(tmp_path):
    path = tmp_path / "a.h5"
    run = subprocess.run([sys.executable, "-c", LIMITED, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    failed_at, kept, message = run.stdout.strip().split(" ", 2)
    assert failed_at == kept
    assert 10 <= int(kept) < 20
    assert "full" in message
    assert is_same(recover(path), int(kept))


def test_a_disk_that_fills_up_keeps_what_was_written(small_disk):
    path = small_disk / "a.h5"
    filler = small_disk / "filler"
    with StackWriter(path, image_shape=SHAPE, dtype=np.uint16, frame_count=60) as writer:

        def capture() -> None:
            for index in range(60):
                writer.append(frame(index), z_um=index, z_requested_um=index, time_s=0)
                if index == 10:
                    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 10 * frame(0).nbytes))

        with pytest.raises(OutputError, match="full"):
            capture()
        kept = writer.frame_count
    assert 10 < kept < 25
    assert is_same(recover(path), kept)


def test_a_full_disk_while_saving_a_map_leaves_stack_and_old_map(small_disk):
    path = captured(small_disk / "a.h5")
    save_reconstruction(path, some_map(1))
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 2**16))
    with pytest.raises(OutputError, match=r"disk space|full"):
        save_reconstruction(path, some_map(2))
    assert same_map(load_reconstruction(path), some_map(1))
    assert is_same(open_stack(path), 5)


def test_a_disk_that_fills_up_while_a_map_is_saved_is_not_called_damage(small_disk, monkeypatch):
    path = captured(small_disk / "a.h5")
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 2**14))
    monkeypatch.setattr("models.storage.check_space", lambda *_: None)  # there was room when it was asked
    with pytest.raises(OutputError, match="the disk is full"):
        save_reconstruction(path, some_map(2))
    (small_disk / "filler").unlink()
    assert is_same(open_stack(path), 5)


def test_a_full_disk_leaves_no_half_stack(small_disk):
    stack = FocalStack(np.random.default_rng(0).integers(0, 255, (40, 500, 500), dtype=np.uint8), np.arange(40.0))
    with pytest.raises(OutputError, match="disk space"):
        write_stack(small_disk / "a.h5", stack)
    assert not any(small_disk.iterdir())


# ---------------------------------------------------------------- reconstructions


def test_height_maps_are_kept_by_name(tmp_path):
    path = captured(tmp_path / "a.h5")
    save_reconstruction(path, some_map(1))
    save_reconstruction(path, some_map(2), "rdf 15")
    save_reconstruction(path, some_map(3))
    assert reconstruction_names(path) == ["main", "rdf 15"]
    assert same_map(load_reconstruction(path), some_map(3))
    back = load_reconstruction(path, "rdf 15")
    assert same_map(back, some_map(2))
    assert back.parameters == {"window": 9, "gain": 0.5}
    assert back.provenance["device"] == "a stage"
    assert back.provenance["stack_sha256"] == stack_sha256(open_stack(path))
    with pytest.raises(InputError, match="main, rdf 15"):
        load_reconstruction(path, "other")


@pytest.mark.parametrize("name", ["", "a/b", ".hidden"])
def test_names_that_hdf5_would_misread_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="name"):
        save_reconstruction(tmp_path / "a.h5", some_map(), name)


def test_a_map_without_a_stack_makes_its_own_file(tmp_path):
    path = tmp_path / "a.h5"
    save_reconstruction(path, some_map())
    assert same_map(load_reconstruction(path), some_map())
    assert not has_stack(path)
    with pytest.raises(InputError, match="no stack"):
        open_stack(path)


def test_frames_can_be_read_while_maps_are_saved(tmp_path):
    path = captured(tmp_path / "a.h5")
    stack = open_stack(path)
    stop, failures = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if not is_same(stack, 5):
                failures.append("a frame changed")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    for round in range(10):
        save_reconstruction(path, some_map(round))
    stop.set()
    for thread in readers:
        thread.join()
    assert not failures
    assert same_map(load_reconstruction(path), some_map(9))


def test_cancelling_changes_nothing(tmp_path):
    path = captured(tmp_path / "a.h5")
    before = path.read_bytes()
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        write_stack(path, open_stack(path), progress=lambda done, total: cancel.set(), cancel=cancel)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- foreign, newer and damaged files


def test_a_newer_file_is_refused_in_plain_words(tmp_path):
    path = captured(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99
    for task in (open_stack, is_complete, recover, reconstruction_names):
        with pytest.raises(InputError, match="newer Reliefscope"):
            task(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_not_hdf5_is_refused(tmp_path, content):
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.h5"):
        open_stack(path)


def test_foreign_hdf5_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(InputError, match="not one of Reliefscope"):
        open_stack(tmp_path / "a.h5")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*a\.h5"):
        open_stack(tmp_path / "a.h5")
    with pytest.raises(InputError, match="folder"):
        open_stack(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_cut_or_overwritten_file_never_ends_in_a_traceback(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    path = captured(folder / "a.h5", count=2)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), label="length")]
    else:
        start = data.draw(st.integers(0, 6000), label="start")
        content[start : start + 8] = data.draw(st.binary(min_size=8, max_size=8), label="bytes")
    path.write_bytes(content)
    with contextlib.suppress(InputError):  # the only error that a damaged file may cause
        for image, _z_um in open_stack(path):
            assert image.shape == SHAPE


class TestCourse:
    def test_is_kept_while_the_capture_runs_and_after_it_broke_off(self, tmp_path):
        path = tmp_path / "a.h5"
        with StackWriter(path, image_shape=(4, 5), dtype=np.uint8, frame_count=9) as writer:
            for index in range(3):
                writer.append(np.zeros((4, 5), np.uint8), z_um=index, z_requested_um=index, time_s=index)
                writer.write_course({"pictures_repeated": index, "events": ["Kabel gezogen µm"] * index})
        assert not is_complete(path)
        assert recover(path).metadata["course"] == {"pictures_repeated": 2, "events": ["Kabel gezogen µm"] * 2}

    def test_too_long_it_loses_its_last_events(self, tmp_path):
        path = tmp_path / "a.h5"
        with StackWriter(path, image_shape=(4, 5), dtype=np.uint8, frame_count=2) as writer:
            for index in range(2):
                writer.append(np.zeros((4, 5), np.uint8), z_um=index, z_requested_um=index, time_s=index)
            writer.write_course({"n": 1, "events": [f"{number} {'µ' * 200}" for number in range(100)]})
            writer.complete()
        course = open_stack(path).metadata["course"]
        assert course["n"] == 1
        assert 20 < len(course["events"]) < 100
        assert course["events"][0].startswith("0 ")
