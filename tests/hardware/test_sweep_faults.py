"""Sweeps over an emulated GRBL controller, real bytes and real threads, through everything that goes wrong."""

import contextlib
import random
import threading
import time

import numpy as np
import pytest

from hardware.camera import CameraDisconnected, CameraError
from hardware.motion import FocusAxis
from hardware.recovery import Recovery, WayOn
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stage import StageAlarm, StageDisconnected, StageError, StageStopped, StageUnreferenced
from hardware.stages import grbl
from hardware.sweep import SweepPlan, capture
from models.errors import Cancelled
from models.storage import frames_written, is_complete, open_stack, recover
from tests.hardware.height_camera import HeightCamera, exposure_number, true_height_um

PLAN = SweepPlan.by_count(-500.0, -519.0, 20)
UPWARDS = SweepPlan.by_count(-500.0, -519.0, 20, descending=False)


class Rig:
    """A homed axis on an emulated controller, and a camera that sees the true height."""

    def __init__(self, emulator: GrblEmulator, **axis) -> None:
        self.emulator = emulator
        section = {"driver": "grbl", "port": emulator.port, "low_um": -3000.0, "high_um": 0.0, "speed_um_s": 5000.0}
        self.stage = grbl.DRIVER.open(grbl.DRIVER.settings(**section, timeout_s=0.3))
        self.axis = FocusAxis(self.stage, **{"backlash_um": 10.0, "stall_s": 0.4, **axis})
        self.axis.home()
        self.top_um = emulator.motor.high_um
        self.camera = HeightCamera(lambda: emulator.motor.position_um - self.top_um)
        self.told: list[str] = []
        self.asked = []

    def recovery(self, **options) -> Recovery:
        return Recovery(self.axis, self.camera, told=self.told.append, **{"patience_s": 3.0, **options})

    def person(self, *ways):
        """Somebody who answers so, time after time; ``asked`` keeps the questions."""
        answers = iter(ways)

        def decide(interruption) -> WayOn:
            self.asked.append(interruption)
            return next(answers)

        return decide

    def after_picture(self, index: int, action) -> None:
        """Act as soon as the picture of this frame of the next sweep is taken, before the stage goes on."""
        number = self.camera.exposures + index + 1
        self.camera.on_exposed = lambda: action() if self.camera.exposures == number else None

    def hit_a_switch(self) -> None:
        with self.emulator.lock:
            self.emulator._critical_alarm(1)

    def homings(self) -> int:
        return len([command for command in self.emulator.commands if command.startswith("$H")])

    def pull_the_cable(self, seconds: float) -> None:
        self.emulator.unplug()
        threading.Timer(seconds, self.emulator.replug).start()

    def close(self) -> None:
        self.stage.close()


@pytest.fixture
def rig():
    with GrblEmulator(homing=True, hard_limits=True, above_um=3000.0) as emulator:
        emulator.settings[27] = 400.0 / 1000.0
        with contextlib.closing(Rig(emulator)) as opened:
            yield opened


def at(index, action):
    """An ``on_frame`` that acts once a certain frame is safe."""
    return lambda frame: action() if frame.index == index else None


def check_file(path, plan):
    """Every frame there, each once, in order, each seen where the file says that it was."""
    assert is_complete(path)
    stack = open_stack(path)
    assert len(stack) == plan.frame_count
    np.testing.assert_allclose(stack.z_um, plan.z_um, atol=0.2)
    assert np.all(np.diff(stack.z_um) * np.sign(plan.last_um - plan.first_um) > 0)
    numbers = []
    for z_um, image in zip(stack.z_um, (stack.frames[index] for index in range(len(stack))), strict=True):
        assert true_height_um(image) == pytest.approx(z_um, abs=0.3)
        numbers.append(exposure_number(image))
    assert numbers == sorted(set(numbers))
    return stack


def check_kept(path, plan, least):
    """An incomplete file that can be made a shorter stack, its frames where the plan says."""
    assert not is_complete(path)
    kept, planned = frames_written(path)
    assert (kept >= least, planned) == (True, plan.frame_count)
    stack = recover(path)
    np.testing.assert_allclose(stack.z_um, plan.z_um[:kept], atol=0.2)
    for index in range(kept):
        assert true_height_um(stack.frames[index]) == pytest.approx(stack.z_um[index], abs=0.3)
    return stack


def test_500_frames_through_unplugs_alarms_and_lost_pictures(rig, tmp_path):
    chance = random.Random(4)
    plan = SweepPlan.by_count(-500.0, -749.5, 500)
    moments = chance.sample(range(10, 490), 5)
    trouble = {
        **dict.fromkeys(moments[:3], "cable"),
        moments[3]: "switch",
        moments[4]: "reset",
    }
    lost = []

    def fault() -> str | None:
        if chance.random() >= 0.05:
            return None
        lost.append(chance.choice(["late", "corrupt", "old"]))
        return lost[-1]

    def make_trouble(frame) -> None:
        kind = trouble.pop(frame.index, None)
        if kind == "cable":
            threading.Timer(chance.uniform(0.0, 0.01), rig.pull_the_cable, (chance.uniform(0.05, 0.3),)).start()
        elif kind == "switch":
            rig.hit_a_switch()
        elif kind == "reset":
            rig.emulator.reset()

    def person(interruption) -> WayOn:
        rig.asked.append(interruption)
        assert interruption.frame_index == frames_written(path)[0]
        return WayOn.HOME

    rig.camera.faults = fault
    path = tmp_path / "stack.h5"
    capture(rig.axis, rig.camera, plan, path, on_frame=make_trouble, recovery=rig.recovery(decide=person))
    assert not trouble
    stack = check_file(path, plan)
    course = stack.metadata["course"]
    assert 10 < len(lost) < 60
    assert course["pictures_repeated"] == len([kind for kind in lost if kind])
    assert course["decisions"] == len(rig.asked) == 2
    assert course["reconnections"] >= 3
    assert course["timing"] == "program"
    assert all(event for event in course["events"])


class TestCable:
    def test_plugged_in_again_the_sweep_goes_on_where_it_was(self, rig, tmp_path):
        path = tmp_path / "a.h5"
        capture(
            rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(),
            on_frame=at(7, lambda: rig.pull_the_cable(0.3)),
        )  # fmt: skip
        check_file(path, PLAN)
        assert any("port" in event and "Plug" in event for event in rig.told)
        assert "The connection is back." in rig.told

    def test_left_out_the_file_is_kept_and_the_words_say_what_to_do(self, rig, tmp_path):
        path = tmp_path / "a.h5"
        with pytest.raises(StageDisconnected, match=r"Plug in its cable|Check cable"):
            capture(
                rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(patience_s=0.3),
                on_frame=at(7, rig.emulator.unplug),
            )  # fmt: skip
        stack = check_kept(path, PLAN, 8)
        assert "not connected" in " ".join(stack.metadata["course"]["events"])

    def test_left_out_for_long_it_is_tried_again_on_a_person_s_word(self, rig, tmp_path):
        """Then the board turns out to have lost its power with the cable: that is another question."""
        ways = iter([WayOn.AGAIN, WayOn.HOME])

        def plug_in(interruption):
            if not rig.asked:
                rig.emulator.replug(reset=True)
            rig.asked.append(interruption)
            return next(ways)

        path = tmp_path / "a.h5"
        capture(
            rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(patience_s=0.1, decide=plug_in),
            on_frame=at(7, rig.emulator.unplug),
        )  # fmt: skip
        check_file(path, PLAN)
        assert [interruption.ways for interruption in rig.asked] == [
            (WayOn.AGAIN, WayOn.END),
            (WayOn.HOME, WayOn.END),
        ]

    def test_a_board_that_lost_its_power_with_the_cable_is_not_moved(self, rig, tmp_path):
        path = tmp_path / "a.h5"

        def unplug():
            rig.emulator.unplug()
            threading.Timer(0.1, lambda: rig.emulator.replug(reset=True)).start()

        with pytest.raises(StageUnreferenced, match=r"[Hh]ome it"):
            capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(), on_frame=at(7, unplug))
        jogs = [command for command in rig.emulator.commands if command.startswith("$J")]
        time.sleep(0.1)
        assert jogs == [command for command in rig.emulator.commands if command.startswith("$J")]
        check_kept(path, PLAN, 8)

    def test_stop_and_cancel_end_the_wait_at_once(self, rig, tmp_path):
        for name, act, error in (("a", rig.axis.stop, StageStopped), ("b", None, Cancelled)):
            cancel = threading.Event()

            def pull(act=act, cancel=cancel):
                rig.emulator.unplug()

                def end():
                    with contextlib.suppress(StageDisconnected):  # not heard, but remembered
                        act() if act else cancel.set()

                threading.Timer(0.2, end).start()

            began_s = time.monotonic()
            with pytest.raises(error):
                capture(
                    rig.axis, rig.camera, PLAN, tmp_path / f"{name}.h5", cancel=cancel, on_frame=at(3, pull),
                    recovery=rig.recovery(cancel=cancel, patience_s=60.0),
                )  # fmt: skip
            assert time.monotonic() - began_s < 30.0
            rig.emulator.replug()
            rig.axis.release()
            rig.axis.reconnect(5.0)
            check_kept(tmp_path / f"{name}.h5", PLAN, 4)


class TestAlarm:
    @pytest.mark.parametrize("trouble", ["hit_a_switch", "reset"])
    def test_without_a_person_the_sweep_ends_and_nothing_moves(self, rig, tmp_path, trouble):
        path = tmp_path / "a.h5"
        rig.after_picture(7, rig.hit_a_switch if trouble == "hit_a_switch" else rig.emulator.reset)
        with pytest.raises(StageError, match=r"[Hh]ome it") as end:
            capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery())
        assert isinstance(end.value, StageAlarm | StageUnreferenced)
        check_kept(path, PLAN, 8)
        assert not rig.axis.is_referenced

    @pytest.mark.parametrize("plan", [PLAN, UPWARDS], ids=["down", "up"])
    def test_after_homing_it_goes_on_at_the_frame_that_it_lost(self, rig, tmp_path, plan):
        path = tmp_path / "a.h5"
        rig.after_picture(7, rig.hit_a_switch)
        capture(rig.axis, rig.camera, plan, path, recovery=rig.recovery(decide=rig.person(WayOn.HOME)))
        course = check_file(path, plan).metadata["course"]
        (interruption,) = rig.asked
        assert interruption.ways == (WayOn.HOME, WayOn.CONFIRM, WayOn.END)
        assert interruption.frame_index == 8
        assert interruption.last_um == pytest.approx(plan.z_um[7], abs=0.1)
        assert "limit switch" in interruption.text
        assert "8 frames are safe" in interruption.text
        assert "whole travel" in interruption.text
        assert course["decisions"] == 1
        assert [event for event in course["events"] if "Home and go on" in event]
        assert rig.homings() == 2

    def test_a_position_that_a_person_confirms_is_gone_on_from(self, rig, tmp_path):
        path = tmp_path / "a.h5"
        rig.after_picture(7, rig.hit_a_switch)
        capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(decide=rig.person(WayOn.CONFIRM)))
        check_file(path, PLAN)
        assert rig.homings() == 1

    def test_whoever_ends_it_keeps_the_frames_and_moves_nothing(self, rig, tmp_path):
        path = tmp_path / "a.h5"
        rig.after_picture(7, rig.hit_a_switch)
        with pytest.raises(StageAlarm, match="limit switch"):
            capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(decide=rig.person(WayOn.END)))
        stack = check_kept(path, PLAN, 8)
        assert len(stack) == 8
        assert stack.metadata["course"]["decisions"] == 0
        assert not rig.axis.is_referenced

    def test_a_counter_that_was_reset_cannot_be_confirmed(self, rig, tmp_path):
        """It reads zero, 508 um above where it stands: whoever went on from there would hit the sample."""
        path = tmp_path / "a.h5"
        rig.after_picture(7, rig.emulator.reset)
        capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(decide=rig.person(WayOn.HOME)))
        check_file(path, PLAN)
        (interruption,) = rig.asked
        assert interruption.ways == (WayOn.HOME, WayOn.END)
        assert interruption.z_um == pytest.approx(0.0, abs=1.0)
        assert "The two do not fit" in interruption.text

    def test_a_position_that_was_only_confirmed_is_not_found_again_by_homing(self, rig, tmp_path):
        """Homing would count from another zero than the frames before."""
        rig.axis.confirm_position()
        path = tmp_path / "a.h5"
        for trouble, ways in (
            (rig.hit_a_switch, (WayOn.CONFIRM, WayOn.END)),
            (rig.emulator.reset, (WayOn.END,)),
        ):
            rig.asked.clear()
            rig.after_picture(7, trouble)
            with pytest.raises(StageError):
                capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(decide=rig.person(WayOn.END)))
            assert rig.asked[0].ways == ways
            path.unlink()
            rig.axis.confirm_position()

    def test_a_choice_that_was_not_offered_does_nothing(self, rig, tmp_path):
        rig.after_picture(7, rig.emulator.reset)
        recovery = rig.recovery(decide=rig.person(WayOn.CONFIRM))
        with pytest.raises(ValueError, match="not open"):
            capture(rig.axis, rig.camera, PLAN, tmp_path / "a.h5", recovery=recovery)
        assert not rig.axis.is_referenced

    def test_homing_that_fails_is_asked_about_again(self, rig, tmp_path):
        path = tmp_path / "a.h5"
        tries = []

        def home():
            tries.append(None)
            if len(tries) == 1:
                raise StageAlarm("homing did not find the limit switch.")
            rig.axis.home()

        rig.after_picture(7, rig.hit_a_switch)
        recovery = rig.recovery(decide=rig.person(WayOn.HOME, WayOn.HOME), home=home)
        capture(rig.axis, rig.camera, PLAN, path, recovery=recovery)
        assert check_file(path, PLAN).metadata["course"]["decisions"] == 2
        assert "did not find" in rig.asked[1].text

    def test_alarm_after_alarm(self, rig, tmp_path):
        path = tmp_path / "a.h5"
        rig.camera.on_exposed = lambda: rig.hit_a_switch() if rig.camera.exposures in (4, 5, 12) else None
        ways = rig.person(WayOn.HOME, WayOn.CONFIRM, WayOn.CONFIRM)
        capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(decide=ways))
        check_file(path, PLAN)
        assert [interruption.frame_index for interruption in rig.asked] == [4, 5, 12]

    def test_in_the_first_move(self, rig, tmp_path):
        path, motor = tmp_path / "a.h5", rig.emulator.motor
        low_um, motor.low_um = motor.low_um, motor.position_um - 20.0  # something is in its way

        def clear_the_way(interruption):
            assert (interruption.frame_index, interruption.last_um) == (0, None)
            with rig.emulator.lock:
                motor.low_um = low_um
            return WayOn.HOME

        capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(decide=clear_the_way))
        check_file(path, PLAN)

    @pytest.mark.parametrize("ending", ["stop", "cancel"])
    def test_stop_and_cancel_end_the_question(self, rig, tmp_path, ending):
        path, cancel = tmp_path / "a.h5", threading.Event()

        def decide(interruption):
            threading.Timer(0.1, rig.axis.stop if ending == "stop" else cancel.set).start()
            while not (rig.axis.is_stopped or cancel.is_set()):
                time.sleep(0.005)
            return WayOn.HOME  # too late

        rig.after_picture(7, rig.hit_a_switch)
        recovery = rig.recovery(cancel=cancel, decide=decide)
        with pytest.raises(StageStopped if ending == "stop" else Cancelled):
            capture(rig.axis, rig.camera, PLAN, path, cancel=cancel, recovery=recovery)
        assert len(check_kept(path, PLAN, 8)) == 8
        assert rig.homings() == 1
        assert rig.axis.is_stopped == (ending == "stop")
        if ending == "stop":
            rig.axis.confirm_position()
            with pytest.raises(StageStopped):
                rig.axis.move_to(-500.0)
            rig.axis.release()
            rig.axis.move_to(-500.0)

    def test_stop_while_it_homes_ends_the_sweep(self, rig, tmp_path, monkeypatch):
        monkeypatch.setattr("hardware.simulator.controllers.grbl.HOMING_S", 1000.0)
        path = tmp_path / "a.h5"

        def stop_it() -> None:
            while rig.emulator.state != "Home":
                time.sleep(0.002)
            rig.axis.stop()

        def decide(interruption):
            threading.Thread(target=stop_it, daemon=True).start()
            return WayOn.HOME

        rig.after_picture(7, rig.hit_a_switch)
        with pytest.raises(StageStopped):
            capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(decide=decide))
        assert len(check_kept(path, PLAN, 8)) == 8
        assert rig.axis.is_stopped

    def test_a_stalled_stage_is_a_matter_for_a_person(self, rig, tmp_path):
        path = tmp_path / "a.h5"
        with pytest.raises(StageError, match="in its way"):
            capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(), on_frame=at(7, rig.emulator.stall))
        check_kept(path, PLAN, 8)
        rig.emulator.stall(False)

        def free(interruption):
            assert WayOn.CONFIRM in interruption.ways
            rig.emulator.stall(False)
            return WayOn.CONFIRM

        capture(
            rig.axis, rig.camera, PLAN, tmp_path / "b.h5", recovery=rig.recovery(decide=free),
            on_frame=at(7, rig.emulator.stall),
        )  # fmt: skip
        check_file(tmp_path / "b.h5", PLAN)


class TestCamera:
    @pytest.mark.parametrize("kind", ["late", "corrupt", "old"])
    def test_a_picture_is_asked_for_again_and_counted(self, rig, tmp_path, kind):
        kinds = iter([None, None, kind, kind, None, kind])
        rig.camera.faults = lambda: next(kinds, None)
        path = tmp_path / "a.h5"
        capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery())
        assert check_file(path, PLAN).metadata["course"]["pictures_repeated"] == 3

    @pytest.mark.parametrize(
        ("kind", "words"),
        [("late", "in time"), ("corrupt", "Check its cable"), ("old", "before the stage had settled")],
    )
    def test_not_forever(self, rig, tmp_path, kind, words):
        path = tmp_path / "a.h5"
        with pytest.raises(CameraError, match=words):
            capture(
                rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(),
                on_frame=at(7, lambda: setattr(rig.camera, "faults", lambda: kind)),
            )  # fmt: skip
        check_kept(path, PLAN, 8)

    def test_plugged_in_again_it_goes_on(self, rig, tmp_path):
        def pull():
            rig.camera.plugged = False
            threading.Timer(0.3, lambda: setattr(rig.camera, "plugged", True)).start()

        path = tmp_path / "a.h5"
        capture(rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(), on_frame=at(7, pull))
        assert check_file(path, PLAN).metadata["course"]["reconnections"] == 1

    def test_left_out_the_file_is_kept(self, rig, tmp_path):
        path = tmp_path / "a.h5"
        with pytest.raises(CameraDisconnected, match="Plug it in"):
            capture(
                rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(patience_s=0.3),
                on_frame=at(7, lambda: setattr(rig.camera, "plugged", False)),
            )  # fmt: skip
        check_kept(path, PLAN, 8)

    def test_left_out_for_long_it_is_tried_again_on_a_person_s_word(self, rig, tmp_path):
        def plug_in(interruption):
            rig.asked.append(interruption)
            rig.camera.plugged = True
            return WayOn.AGAIN

        path = tmp_path / "a.h5"
        capture(
            rig.axis, rig.camera, PLAN, path, recovery=rig.recovery(patience_s=0.1, decide=plug_in),
            on_frame=at(7, lambda: setattr(rig.camera, "plugged", False)),
        )  # fmt: skip
        check_file(path, PLAN)
        assert rig.asked[0].ways == (WayOn.AGAIN, WayOn.END)
        assert "Plug it in" in rig.asked[0].text
