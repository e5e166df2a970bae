"""Threads: only the newest job counts, errors come out, nothing hangs; and what the live view computes."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytestqt.qtbot import QtBot

from app.capture.picture import SteadyLevels, look_at, sharpness, white_of
from app.capture.z_scale import nice_step
from app.document import rescaled_map, rescaled_stack
from app.status_line import data_size, duration, number
from app.workers import Courier, DeviceThread, Latest, Worker
from models.errors import Cancelled, InputError
from models.focal_stack import FocalStack
from models.height_map import HeightMap

LONG = 10_000


@pytest.fixture
def worker(qtbot: QtBot):
    worker = Worker("test")
    yield worker
    worker.close()
    assert not worker._thread.is_alive()


def test_only_the_newest_job_is_delivered(qtbot: QtBot, worker: Worker) -> None:
    begun, delivered, ran = threading.Event(), [], []

    def slow(progress, cancel: threading.Event) -> str:
        begun.set()
        assert cancel.wait(10)
        return "old"

    def job(name: str):
        return lambda progress, cancel: ran.append(name) or name

    worker.submit("slow", slow, delivered.append)
    assert begun.wait(5)
    for name in ("a", "b", "c"):
        worker.submit(name, job(name), delivered.append)
    qtbot.waitUntil(lambda: bool(delivered), timeout=LONG)
    qtbot.wait(50)
    assert delivered == ["c"]
    assert ran == ["c"]


def test_a_result_is_delivered_in_the_window_thread(qtbot: QtBot, worker: Worker) -> None:
    threads: list[threading.Thread] = []
    worker.submit("x", lambda progress, cancel: 1, lambda _result: threads.append(threading.current_thread()))
    qtbot.waitUntil(lambda: bool(threads), timeout=LONG)
    assert threads == [threading.main_thread()]


def test_errors_come_out_and_cancelling_is_none(qtbot: QtBot, worker: Worker) -> None:
    def fails(progress, cancel) -> None:
        raise InputError("no such stack")

    def cancels(progress, cancel) -> None:
        raise Cancelled

    with qtbot.waitSignal(worker.failed, timeout=LONG) as failed:
        worker.submit("x", fails, lambda _result: None)
    assert str(failed.args[0]) == "no such stack"
    with qtbot.assertNotEmitted(worker.failed), qtbot.waitSignal(worker.ended, timeout=LONG):
        worker.submit("y", cancels, lambda _result: None)


def test_progress_and_title(qtbot: QtBot, worker: Worker) -> None:
    gate = threading.Event()

    def job(progress, cancel) -> None:
        progress(3, 7)
        gate.wait(10)

    with qtbot.waitSignal(worker.progressed, timeout=LONG) as progressed:
        worker.submit("counting", job, lambda _result: None)
    assert progressed.args == [3, 7]
    assert worker.title == "counting"
    with qtbot.waitSignal(worker.ended, timeout=LONG):
        gate.set()
    assert worker.title == ""


def test_device_jobs_run_in_order_in_one_thread(qtbot: QtBot) -> None:
    device = DeviceThread("device")
    seen: list[tuple[int, int]] = []
    for index in range(20):
        device.post(lambda index=index: seen.append((index, threading.get_ident())))
    device.close()
    assert [index for index, _thread in seen] == list(range(20))
    assert len({thread for _index, thread in seen}) == 1
    assert not device._thread.is_alive()


def test_a_failing_idle_function_is_not_called_again(qtbot: QtBot) -> None:
    device, calls = DeviceThread("device"), []

    def idle() -> None:
        calls.append(1)
        raise RuntimeError("cable")

    with qtbot.waitSignal(device.failed, timeout=LONG):
        device.set_idle(idle)
    qtbot.wait(50)
    assert len(calls) == 1
    with qtbot.waitSignal(device.failed, timeout=LONG):
        device.set_idle(idle)
    device.close()


def test_latest_replaces_what_nobody_read() -> None:
    latest = Latest()
    assert latest.take() is None
    assert latest.put(1)
    assert not latest.put(2)
    assert latest.take() == 2
    assert latest.take() is None


def test_the_courier_survives_a_long_day(qtbot: QtBot) -> None:
    """Some PySide versions lose a reference per signal and abort after some thousands of them."""
    courier, arrived = Courier(), []

    def send() -> None:
        for index in range(20_000):
            courier.send(arrived.append, index % 2 == 0)
            if index % 500 == 0:
                time.sleep(0.001)

    thread = threading.Thread(target=send)
    thread.start()
    qtbot.waitUntil(lambda: len(arrived) == 20_000, timeout=60_000)
    thread.join()
    assert sum(arrived) == 10_000


# --- pictures


def test_small_changes_do_not_move_the_levels() -> None:
    steady, rng = SteadyLevels(), np.random.default_rng(0)
    first = steady.follow(20, 200)
    assert all(steady.follow(20 + a, 200 + b) == first for a, b in rng.uniform(-5, 5, (200, 2)))


def test_levels_follow_a_lasting_change_smoothly() -> None:
    steady = SteadyLevels()
    steady.follow(20, 200)
    highs = [steady.follow(20, 150)[1] for _ in range(40)]
    steps = -np.diff([200, *highs])
    assert (steps >= 0).all()
    assert steps.max() < 15
    assert highs[-1] == pytest.approx(150, abs=5)


def test_a_jump_is_followed_at_once() -> None:
    steady = SteadyLevels()
    steady.follow(0, 250)
    assert steady.follow(0, 60) == (0, 60)


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16)])
def test_histogram_and_clipping(dtype, bits: int) -> None:
    white = white_of(np.dtype(dtype), bits)
    image = np.zeros((64, 64), dtype)
    image[:16] = white
    picture = look_at(image, white, None, time_s=0.0, z_um=None)
    assert picture.histogram[0] == pytest.approx(0.75)
    assert picture.histogram[-1] == pytest.approx(0.25)
    assert picture.clipped == pytest.approx(0.25)
    assert picture.levels == (0.0, white)


@given(st.floats(0.2, 1.0))
def test_sharpness_does_not_depend_on_exposure(factor: float) -> None:
    image = np.random.default_rng(0).uniform(20, 200, (64, 64)).astype(np.float32)
    assert sharpness(image * factor) == pytest.approx(sharpness(image), rel=1e-3)


# --- numbers


@given(st.floats(1e-3, 1e6))
def test_nice_steps_are_nice(rough: float) -> None:
    step = nice_step(rough)
    assert rough * (1 - 1e-6) <= step <= 2.5 * rough * (1 + 1e-6)
    assert f"{step:.0e}"[0] in "125"


def test_numbers_for_people() -> None:
    assert number(-1234.5, 2) == "−1\u202f234.50"
    assert (duration(8.2), duration(125), duration(4200)) == ("8 s", "2 min 05 s", "1 h 10 min")
    assert (data_size(2_500), data_size(340e6), data_size(1.2e12)) == ("2.5 kB", "340 MB", "1.2 TB")


@given(st.floats(0.01, 100), st.booleans(), st.floats(-50, 50))
def test_rescaling_a_map_equals_rescaling_its_stack(step_um: float, downwards: bool, start: float) -> None:
    z = start + np.arange(5.0)
    stack = FocalStack(np.zeros((5, 2, 5), np.uint8), z, z_unit="frame")
    height = np.broadcast_to(z, (2, 5)).astype(np.float32)
    before = HeightMap(height, np.ones((2, 5), np.float32), np.zeros((2, 5), np.uint8), z_unit="frame")
    after = rescaled_stack(stack, step_um=step_um, pixel_um=0.5, downwards=downwards)
    moved = rescaled_map(before, stack, after)
    np.testing.assert_allclose(moved.height_um[0], after.z_um, rtol=1e-4, atol=1e-4)
    assert (moved.z_unit, moved.pixel_um) == ("um", 0.5)
    assert bool(after.z_um[-1] < after.z_um[0]) is downwards


def test_where_files_are_written_every_job_gets_its_turn(qtbot: QtBot) -> None:
    worker, ran, delivered = Worker("files", keep_all=True), [], []
    for index in range(5):
        worker.submit(
            f"job {index}", lambda progress, cancel, index=index: ran.append(index) or index, delivered.append
        )
    worker.close()
    qtbot.waitUntil(lambda: len(delivered) == 5, timeout=LONG)
    assert ran == delivered == [0, 1, 2, 3, 4]


def test_sharpness_tells_focus_from_noise() -> None:
    """Detail of a few pixels counts ten times as much as the noise of an empty picture."""
    noise = np.random.default_rng(0).normal(0, 4, (256, 256))
    rows, columns = np.mgrid[:256, :256]
    detail = 40 * np.sin(rows / 1.5) * np.sin(columns / 1.5)
    empty, focused = (np.clip(128 + picture + noise, 0, 255).astype(np.uint8) for picture in (0, detail))
    assert sharpness(focused) > 10 * sharpness(empty)
