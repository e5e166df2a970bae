"""Writing behind the capture: in order, with bounded memory, and nothing lost or left out without a word."""

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from hardware.camera import Picture
from hardware.recovery import Recovery
from hardware.stage import StageStopped
from hardware.sweep import SweepPlan, capture
from hardware.write_behind import MOST_WAITING, WriteBehind
from models.capture_file import StackWriter
from models.errors import Cancelled, OutputError
from models.storage import frames_written, is_complete, open_stack, recover

ROOT = Path(__file__).parents[2]
PLAN = SweepPlan.by_count(5.0, -15.0, 12)


def hand_over(write, numbers, then=None) -> None:
    """A capture of ``numbers`` that comes to its end, or ends by what ``then`` raises."""
    with WriteBehind(write) as behind:
        for number in numbers:
            behind.put(number)
        if then is not None:
            then()


def test_everything_is_written_in_order_when_the_block_is_left():
    written: list[int] = []
    with WriteBehind(written.append) as behind:
        for number in range(50):
            behind.put(number)
        behind.drain()
        assert written == list(range(50))
        behind.put(50)
    assert written == list(range(51))


def test_what_was_handed_over_is_written_although_the_capture_failed():
    written: list[int] = []

    def fail() -> None:
        raise ValueError("the capture")

    with pytest.raises(ValueError, match="the capture"):
        hand_over(written.append, range(3), fail)
    assert written == [0, 1, 2]


def test_a_slow_disk_makes_the_capture_wait():
    go_on, written = threading.Semaphore(0), []

    def write(number: int) -> None:
        assert go_on.acquire(timeout=60.0)
        written.append(number)

    taken = []
    with WriteBehind(write) as behind:

        def take() -> None:
            for number in range(20):
                taken.append(number)
                behind.put(number)

        capturing = threading.Thread(target=take)
        capturing.start()
        capturing.join(0.3)
        assert capturing.is_alive()
        assert len(taken) <= MOST_WAITING + 2, "one is written, one stands at the door"
        for _number in range(20):
            go_on.release()
        capturing.join(60.0)
    assert written == taken == list(range(20))


def test_after_an_error_nothing_more_is_written_and_the_capture_learns_of_it():
    written = []

    def write(number: int) -> None:
        if number == 4:
            raise OutputError("the disk is full")
        written.append(number)

    numbers = iter(range(1000))
    with pytest.raises(OutputError, match="full"):
        hand_over(write, numbers)
    assert written == [0, 1, 2, 3]
    assert next(numbers) < 1000


@pytest.mark.parametrize("ending", [None, StageStopped("STOP")])
def test_an_error_in_the_last_items_is_not_missed_whatever_ended_the_block(ending):
    last_is_put = threading.Event()

    def write(_number: int) -> None:
        assert last_is_put.wait(60.0)
        raise OutputError("the disk is full")

    def finish() -> None:
        last_is_put.set()
        if ending is not None:
            raise ending

    with pytest.raises(OutputError, match="full") as end:
        hand_over(write, [1], finish)
    assert end.value.__context__ is ending


class SlowDisk:
    """Holds every frame back until ``taken`` pictures of the camera are there."""

    def __init__(self, microscope, monkeypatch) -> None:
        self.pictures = 0
        self._more = threading.Condition()
        self._needed: dict[int, int] = {}
        snap, append = microscope.camera.snap, StackWriter.append

        def snapped() -> Picture:
            picture = snap()
            with self._more:
                self.pictures += 1
                self._more.notify_all()
            return picture

        def appended(writer, image, **about) -> None:
            with self._more:
                wanted = self._needed.get(writer.frame_count, 0)
                assert self._more.wait_for(lambda: self.pictures >= wanted, timeout=60.0)
            append(writer, image, **about)

        microscope.camera.snap = snapped
        monkeypatch.setattr(StackWriter, "append", appended)

    def hold(self, frame: int, until_pictures: int) -> None:
        self._needed[frame] = until_pictures


def test_the_next_pictures_are_taken_while_a_frame_is_written(microscope, tmp_path, monkeypatch):
    disk = SlowDisk(microscope, monkeypatch)
    disk.hold(frame=2, until_pictures=2 + MOST_WAITING + 2)
    announced = []
    path = capture(
        microscope.axis, microscope.camera, PLAN, tmp_path / "a.h5",
        on_frame=lambda frame: announced.append((frame.index, frames_written(tmp_path / "a.h5")[0])),
    )  # fmt: skip
    assert announced == [(index, index + 1) for index in range(12)], "announced once it is on disk, not before"
    stack = open_stack(path)
    np.testing.assert_allclose(stack.z_um, PLAN.z_um, atol=0.01)


def test_stop_with_frames_on_their_way_keeps_them_all(microscope, tmp_path, monkeypatch):
    disk = SlowDisk(microscope, monkeypatch)
    disk.hold(frame=0, until_pictures=4)
    snap, taken = microscope.camera.snap, []

    def snapped() -> Picture:
        taken.append(snap())
        if len(taken) == 4:
            microscope.axis.stop()
        return taken[-1]

    microscope.camera.snap = snapped
    path = tmp_path / "a.h5"
    with pytest.raises(StageStopped):
        capture(microscope.axis, microscope.camera, PLAN, path)
    assert frames_written(path) == (4, 12)
    stack = recover(path)
    for index, picture in enumerate(taken):
        np.testing.assert_array_equal(stack.frames[index], picture.image)


def test_before_a_person_is_asked_all_frames_are_safe(microscope, tmp_path, monkeypatch):
    disk = SlowDisk(microscope, monkeypatch)
    disk.hold(frame=0, until_pictures=4)
    path, asked, cancel = tmp_path / "a.h5", [], threading.Event()

    def person(interruption):
        asked.append((interruption.frame_index, frames_written(path)[0]))
        cancel.set()

    snap = microscope.camera.snap

    def snapped() -> Picture:
        picture = snap()
        if disk.pictures == 4:
            microscope.camera.fail_at(0)
        return picture

    microscope.camera.snap = snapped
    recovery = Recovery(microscope.axis, microscope.camera, decide=person, cancel=cancel, patience_s=0.0)
    with pytest.raises(Cancelled):
        capture(microscope.axis, microscope.camera, PLAN, path, cancel=cancel, recovery=recovery)
    assert asked == [(4, 4)]


def test_a_disk_that_fills_up_behind_the_sweep_ends_it_with_what_is_kept(microscope, small_disk):
    path, pictures = small_disk / "a.h5", []
    snap = microscope.camera.snap

    def snapped() -> Picture:
        pictures.append(snap())
        return pictures[-1]

    microscope.camera.snap = snapped
    size = int(np.prod(microscope.camera.image_shape)) * microscope.camera.dtype.itemsize
    plan = SweepPlan.by_count(5.0, -15.0, 100)

    def fill(frame) -> None:
        if frame.index == 9:
            (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 10 * size))

    with pytest.raises(OutputError, match=r"full.* (\d+) frames before are kept") as end:
        capture(microscope.axis, microscope.camera, plan, path, on_frame=fill)
    kept, _planned = frames_written(path)
    assert f" {kept} frames" in str(end.value)
    assert 9 < kept < 60
    assert len(pictures) <= kept + MOST_WAITING + 3, "the sweep goes on for as many frames as wait, no more"
    stack = recover(path)
    for index in range(kept):
        np.testing.assert_array_equal(stack.frames[index], pictures[index].image)


CHILD = """
import math, sys
from hardware.profile import load_profile, open_microscope
from hardware.sweep import SweepPlan, capture
profile = load_profile("simulated").changed(time_scale=math.inf, camera={"image_shape": (96, 128)})
with open_microscope(profile) as microscope:
    plan = SweepPlan.by_count(5.0, -15.0, 1000)
    announce = lambda frame: print(frame.index, flush=True)
    capture(microscope.axis, microscope.camera, plan, sys.argv[1], on_frame=announce)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 on Windows")
@pytest.mark.parametrize("announced", [2, 17, 90])
def test_a_killed_program_leaves_every_frame_that_was_announced(tmp_path, announced):
    path = tmp_path / "a.h5"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with child, contextlib.ExitStack() as ending:
        ending.callback(child.kill)
        assert child.stdout is not None
        seen = [int(child.stdout.readline()) for _frame in range(announced)]
        child.send_signal(signal.SIGKILL)
        seen += [int(line) for line in child.stdout]
    assert not is_complete(path)
    assert len(recover(path)) >= len(seen) >= announced
    np.testing.assert_allclose(open_stack(path).z_um[seen], SweepPlan.by_count(5.0, -15.0, 1000).z_um[seen], atol=0.01)
