"""Stacks that emulated controllers time, wired to a camera in software."""

import contextlib
import threading
import time

import numpy as np
import pytest

from hardware.camera import CameraError
from hardware.motion import FocusAxis
from hardware.recovery import Recovery, WayOn
from hardware.simulator.controllers.asi import AsiEmulator
from hardware.simulator.controllers.openuc2 import OpenUc2Emulator
from hardware.simulator.controllers.pi_gcs2 import PiEmulator
from hardware.stage import HardwareScan, StageStopped
from hardware.stages import asi, openuc2, pi_gcs2
from hardware.sweep import SweepPlan, capture
from tests.hardware.height_camera import HeightCamera
from tests.hardware.test_sweep_faults import check_file

PLAN = SweepPlan.by_count(20.0, 0.0, 11)


class Wire(threading.Thread):
    """From the controller's trigger output to the camera: each new entry of ``pulses`` is a pulse."""

    def __init__(self, pulses, camera) -> None:
        super().__init__(daemon=True)
        self._pulses, self._camera = pulses, camera
        self.running = True
        self.start()

    def run(self) -> None:
        seen = len(self._pulses)
        while self.running:
            for _pulse in range(seen, len(self._pulses)):
                self._camera.pulse()
            seen = len(self._pulses)
            time.sleep(0.0005)


@contextlib.contextmanager
def asi_rig(**axis):
    with AsiEmulator() as emulator, contextlib.closing(opened(asi.DRIVER, emulator)) as stage:
        camera = HeightCamera(lambda: emulator.motor.position_um)
        camera.on_exposed = emulator.pulse
        yield FocusAxis(stage, hardware_timed=True, **axis), camera, emulator


@contextlib.contextmanager
def openuc2_rig(**axis):
    with OpenUc2Emulator() as emulator, contextlib.closing(opened(openuc2.DRIVER, emulator, um_per_step=0.1)) as stage:
        camera = HeightCamera(lambda: emulator.motor.position_um)
        wire = Wire(emulator.triggers_um, camera)
        yield FocusAxis(stage, hardware_timed=True, **axis), camera, emulator
        wire.running = False


@contextlib.contextmanager
def pi_rig(**axis):
    with PiEmulator() as emulator, contextlib.closing(opened(pi_gcs2.DRIVER, emulator)) as stage:
        camera = HeightCamera(lambda: emulator.position_um)
        wire = Wire(emulator.pulses_um, camera)
        yield FocusAxis(stage, hardware_timed=True, **axis), camera, emulator
        wire.running = False


def opened(driver, emulator, **section):
    section = {"driver": driver.name, "port": emulator.port, "low_um": -300.0, "high_um": 300.0, **section}
    return driver.open(driver.settings(**{"trust_position": True, "speed_um_s": 1000.0, **section}))


RIGS = [(asi_rig, "camera"), (openuc2_rig, "stage"), (pi_rig, "moves")]


@pytest.mark.parametrize(("rig", "leader"), RIGS)
def test_the_hardware_times_the_stack_and_the_file_says_so(rig, leader, tmp_path):
    with rig() as (axis, camera, _emulator):
        assert isinstance(axis._stage, HardwareScan)
        told = []
        path = capture(
            axis, camera, PLAN, tmp_path / "a.h5", recovery=Recovery(axis, camera, told=told.append, patience_s=1.0)
        )
        assert told == []
        stack = check_file(path, PLAN)
        assert stack.metadata["course"]["timing"] == leader
        assert axis.move_to(5.0) == pytest.approx(5.0, abs=0.2), "ordinary moves again"


@pytest.mark.parametrize(("rig", "leader"), RIGS)
def test_a_lost_picture_makes_the_program_take_over_and_no_frame_is_wrong(rig, leader, tmp_path):
    with rig() as (axis, camera, _emulator):
        faults = iter([None, None, None, None, "late"])
        camera.faults = lambda: next(faults, None)
        told = []
        path = capture(
            axis, camera, PLAN, tmp_path / "a.h5", recovery=Recovery(axis, camera, told=told.append, patience_s=1.0)
        )
        course = check_file(path, PLAN).metadata["course"]
        assert course["timing"] == f"{leader}, from frame 0 on program"
        assert told


@pytest.mark.parametrize("rig", [asi_rig, openuc2_rig, pi_rig])
def test_a_stop_as_the_controller_is_told_about_the_stack_is_not_overtaken(rig, tmp_path):
    with rig() as (axis, camera, emulator):
        begin_scan = axis._stage.begin_scan

        def begin_late(request):
            axis.stop()
            return begin_scan(request)

        axis._stage.begin_scan = begin_late
        exposures = camera.snap, camera.next_picture
        camera.snap = camera.next_picture = lambda *_patience: pytest.fail("a picture is asked for after STOP")
        with pytest.raises(StageStopped):
            capture(axis, camera, PLAN, tmp_path / "a.h5", recovery=Recovery(axis, camera))
        camera.snap, camera.next_picture = exposures
        time.sleep(0.05)
        halted_um = emulator.motor.position_um
        time.sleep(0.1)
        assert emulator.motor.position_um == halted_um


@pytest.mark.parametrize("rig", [asi_rig, pi_rig])
def test_with_backlash_the_program_times_the_stack_and_says_why(rig, tmp_path):
    with rig(backlash_um=5.0) as (axis, camera, _emulator):
        told = []
        path = capture(axis, camera, PLAN, tmp_path / "a.h5", recovery=Recovery(axis, camera, told=told.append))
        assert "backlash" in told[0]
        assert check_file(path, PLAN).metadata["course"]["timing"] == "program"


@pytest.mark.parametrize("settling", [{"settle_ms": 5.0}, {"settle": "position"}])
def test_a_stage_that_must_settle_is_not_timed_by_the_ends_of_its_moves(settling, tmp_path):
    with pi_rig(**settling) as (axis, camera, _emulator):
        told = []
        path = capture(axis, camera, PLAN, tmp_path / "a.h5", recovery=Recovery(axis, camera, told=told.append))
        assert "settled" in told[0]
        assert check_file(path, PLAN).metadata["course"]["timing"] == "program"


def test_a_pulse_too_many_at_the_last_height_is_noticed(tmp_path):
    with pi_rig() as (axis, camera, _emulator):
        pulse, pulses = camera.pulse, []
        camera.pulse = lambda: (pulse(), pulses.append(1), len(pulses) == 11 and pulse())
        path = capture(axis, camera, PLAN, tmp_path / "a.h5")
        assert check_file(path, PLAN).metadata["course"]["timing"] == "moves, from frame 0 on program"


def test_a_pulse_too_many_is_noticed_although_its_picture_got_lost(tmp_path):
    with pi_rig() as (axis, camera, _emulator):
        next_picture, asked = camera.next_picture, []

        def next_but_the_last(timeout_s):
            asked.append(timeout_s)
            if len(asked) == 12:
                camera.dropped_frames += 1
                raise CameraError("a picture of the series was lost")
            return next_picture(timeout_s)

        camera.next_picture = next_but_the_last
        path = capture(axis, camera, PLAN, tmp_path / "a.h5")
        assert check_file(path, PLAN).metadata["course"]["timing"] == "moves, from frame 0 on program"


def test_a_cable_without_contact_is_noticed(tmp_path):
    with asi_rig(stall_s=0.3) as (axis, camera, _emulator):
        camera.on_exposed = lambda: None
        path = capture(axis, camera, PLAN, tmp_path / "a.h5")
        assert check_file(path, PLAN).metadata["course"]["timing"] == "camera, from frame 0 on program"


def test_two_pulses_per_height_are_noticed(tmp_path):
    with openuc2_rig() as (axis, camera, _emulator):
        pulse = camera.pulse
        camera.pulse = lambda: (pulse(), pulse())
        path = capture(axis, camera, PLAN, tmp_path / "a.h5")
        assert check_file(path, PLAN).metadata["course"]["timing"] == "stage, from frame 0 on program"


def test_after_an_alarm_a_person_is_asked_and_the_program_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("hardware.timed_stack.MOST_IN_A_BLOCK", 4)
    asked, course = [], {}

    def decide(interruption):
        asked.append(interruption)
        return WayOn.CONFIRM

    for number in range(3):  # on a busy computer a late picture may end the series before the alarm comes
        with pi_rig() as (axis, camera, emulator):
            pulse, pulses = camera.pulse, []
            camera.pulse = lambda: (pulse(), pulses.append(1), len(pulses) == 6 and emulator.motion_error())  # noqa: B023
            recovery = Recovery(axis, camera, decide=decide)
            path = capture(axis, camera, PLAN, tmp_path / f"{number}.h5", recovery=recovery)
        course = check_file(path, PLAN).metadata["course"]
        assert course["timing"] == "moves, from frame 3 on program"
        if asked:
            break
    assert course["decisions"] == 1
    assert [interruption.frame_index for interruption in asked] == [3]


def pulses_at(camera, counts):
    """Let ``camera`` get as many pulses as ``counts`` say for the heights in it, counted from 1; else one each."""
    pulse, heights = camera.pulse, []

    def at_each_height():
        heights.append(1)
        for _again in range(counts.get(len(heights), 1)):
            pulse()

    camera.pulse = at_each_height


def test_a_lost_pulse_and_a_double_one_do_not_make_up_for_each_other(tmp_path):
    """As many pictures as heights, each of the later ones taken a height too low."""
    with openuc2_rig() as (axis, camera, _emulator):
        pulses_at(camera, {3: 0, 6: 2})
        told = []
        path = capture(axis, camera, PLAN, tmp_path / "a.h5", recovery=Recovery(axis, camera, told=told.append))
        assert check_file(path, PLAN).metadata["course"]["timing"] == "stage, from frame 0 on program"
        assert "more pictures than" in told[0]


def test_a_second_pulse_is_not_taken_for_that_of_the_next_move(tmp_path):
    with pi_rig() as (axis, camera, _emulator):
        pulses_at(camera, {4: 2, 6: 0})
        told = []
        path = capture(axis, camera, PLAN, tmp_path / "a.h5", recovery=Recovery(axis, camera, told=told.append))
        assert check_file(path, PLAN).metadata["course"]["timing"] == "moves, from frame 0 on program"
        assert "before the stage had settled" in told[0]


def test_long_stacks_come_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("hardware.timed_stack.MOST_IN_A_BLOCK", 4)
    with asi_rig() as (axis, camera, emulator):
        seen = []
        path = capture(axis, camera, PLAN, tmp_path / "a.h5", on_frame=lambda frame: seen.append(frame.index))
        assert seen == list(range(11))
        stack = check_file(path, PLAN)
        assert stack.metadata["course"]["timing"] == "camera"
        assert sum("TTL X=4" in command for command in emulator.commands) == 3
        np.testing.assert_allclose(np.diff(stack.z_um), -2.0, atol=0.2)
