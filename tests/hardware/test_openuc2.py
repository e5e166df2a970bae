"""The openUC2 driver against the emulated controller, its focus scan, and its parser against whatever comes."""

import contextlib
import json
import time
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.simulator.controllers.openuc2 import OpenUc2Emulator
from hardware.stage import (
    ScanRequest,
    StageAlarm,
    StageError,
    StageLimitError,
    StageStopped,
    StageUnreferenced,
)
from hardware.stages.openuc2 import DRIVER, Frames, OpenUc2Settings, stepper
from tests.hardware.stage_behaviour import Aside, StageBehaviour, rest, wait_until

STOP = b'\n{"task":"/motor_act","motor":{"steppers":[{"stepperid":3,"isstop":1}]}}\n'


@pytest.fixture(autouse=True, scope="module")
def quick_boot():
    """The emulated board does not reset when its port is opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hardware.stages.openuc2.ATTEMPTS_S", (0.3, 0.5))
        yield


class OpenUc2Behaviour(StageBehaviour):
    driver = DRIVER
    stop_bytes = STOP
    settings: ClassVar = {"um_per_step": 0.1}

    def exchange(self, emulator):
        emulator.name = "UC2_Another"

    def test_a_reset_while_unplugged_is_noticed(self):
        """Its memory holds the position of the latest rest: after a reset at rest it is right, or not trusted."""
        with self.opened() as (stage, emulator):
            stage.start_move_by(40.0)
            rest(stage)
            emulator.unplug()
            with pytest.raises(StageError):
                rest(stage)
            emulator.replug(reset=True)
            stage.reconnect(10.0)
            assert stage.position_um() == pytest.approx(40.0, abs=self.tolerance_um)
            assert emulator.motor.position_um == pytest.approx(40.0, abs=self.tolerance_um)


class TestOpenUc2(OpenUc2Behaviour):
    """A build of 2025: a zero byte after each frame, and the system's log in between."""

    words = (
        *(b"++\r\n", b"--\r\n", b'{"qid":3,"success":1}\r\n', b'{"focusscan":{}}\r\n', b"rst:0xc (SW_CPU_RESET)\r\n"),
        *(b'{"home":{"steppers":{"axis":3,"isDone":1}},"qid":2}\r\n', b'{"motor":{"steppers":[7]}}\r\n'),
        *(b'"identifier_name"\r\n', b"\x00" * 30, b"[ 12345][I][a.cpp:1] b(): c\r\n"),
    )

    def emulator(self):
        return OpenUc2Emulator(zero_bytes=True, chatty=True)


class TestOpenUc2Pretty(OpenUc2Behaviour):
    """Older firmware prints a frame over many lines."""

    def emulator(self):
        return OpenUc2Emulator(pretty=True)


def connect(emulator, **changes):
    section = {"driver": "openuc2", "port": emulator.port, "low_um": -400.0, "high_um": 400.0, "timeout_s": 0.4}
    section |= {"trust_position": True, "um_per_step": 0.1}
    return DRIVER.open(DRIVER.settings(**{**section, **changes}))


class TestPeculiarities:
    def test_a_reply_with_another_number_is_not_taken(self):
        with OpenUc2Emulator() as emulator, contextlib.closing(connect(emulator)) as stage:
            stage.start_move_to(20.0)
            rest(stage)
            for qid in range(50):
                frame = {"motor": {"steppers": [{"stepperid": 3, "position": 7777, "isRunning": 0}]}, "qid": qid + 1000}
                emulator.noise(b"++\r\n" + json.dumps(frame).encode() + b"\r\n--\r\n")
            assert stage.position_um() == pytest.approx(20.0)

    @pytest.mark.parametrize("zero_bytes", [False, True])
    def test_zero_bytes_between_frames_lose_none(self, zero_bytes):
        with OpenUc2Emulator(zero_bytes=zero_bytes) as emulator, contextlib.closing(connect(emulator)) as stage:
            asked = len(emulator.commands)
            for _repetition in range(20):
                stage.position_um()
            assert len(emulator.commands) == asked + 20, "no question was asked twice"

    def test_the_limits_of_the_controller_count_as_well(self):
        with OpenUc2Emulator(soft_limits=(0, 1500)) as emulator, contextlib.closing(connect(emulator)) as stage:
            assert stage.limits_um == pytest.approx((0.0, 150.0))
            with pytest.raises(StageLimitError):
                stage.start_move_to(-1.0)
        with OpenUc2Emulator(soft_limits=(9000, 9500)) as emulator, pytest.raises(StageLimitError, match="no room"):
            connect(emulator)

    def test_a_limit_switch_costs_the_position_until_it_is_homed(self):
        """The counter then shows a number that is none, and a move from there would never end."""
        with OpenUc2Emulator() as emulator:
            stage = connect(emulator, home_direction=-1, home_speed_um_s=5000.0, speed_um_s=200.0)
            stage.start_move_by(-300.0)
            emulator.hit_switch()
            with pytest.raises(StageAlarm, match="limit switch"):
                rest(stage)
            for call in (stage.position_um, lambda: stage.start_move_to(0.0), stage.confirm_position):
                with pytest.raises(StageAlarm, match="home it"):
                    call()
            stage.home()
            assert not stage.faults()
            stage.start_move_to(10.0)
            assert rest(stage) == pytest.approx(10.0, abs=0.2)
            stage.close()

    @pytest.mark.parametrize("changes", [{"um_per_step": None}, {"axis": "Q"}])
    def test_what_the_profile_must_say(self, changes):
        with OpenUc2Emulator() as emulator, pytest.raises(StageError, match="um_per_step"):
            connect(emulator, **changes)

    def test_a_pulled_cable_in_motion_costs_the_position(self):
        """The controller may have been reset, and tells where the move began then."""
        with OpenUc2Emulator() as emulator, contextlib.closing(connect(emulator, speed_um_s=100.0)) as stage:
            stage.start_move_to(300.0)
            emulator.unplug()
            with pytest.raises(StageError):
                stage.is_moving()
            emulator.replug()
            stage.reconnect(10.0)
            assert not stage.is_referenced
            assert any("in motion" in fault for fault in stage.faults())


class TestHoming:
    HOMING: ClassVar = {"home_direction": -1, "home_speed_um_s": 5000.0, "trust_position": False}

    def test_gives_the_reference(self):
        with OpenUc2Emulator() as emulator, contextlib.closing(connect(emulator, **self.HOMING)) as stage:
            assert stage.can_home
            stage.home()
            assert stage.is_referenced
            assert stage.position_um() == pytest.approx(0.0, abs=0.2)
            assert emulator.motor.position_um == pytest.approx(emulator.motor.low_um + 10.0, abs=0.5)

    def test_without_a_switch_in_the_profile_there_is_none(self):
        with OpenUc2Emulator() as emulator, contextlib.closing(connect(emulator)) as stage:
            with pytest.raises(StageError, match="no reference"):
                stage.home()
            assert not any("/home_act" in command for command in emulator.commands)

    def test_a_run_that_found_no_switch_is_not_believed(self):
        with OpenUc2Emulator(has_switch=False) as emulator:
            stage = connect(emulator, **self.HOMING, home_limit_s=0.5)
            with pytest.raises(StageError, match="limit switch"):
                stage.home()
            assert not stage.is_referenced
            stage.close()

    def test_a_stop_ends_it_for_good(self):
        with OpenUc2Emulator() as emulator:
            stage = connect(emulator, **self.HOMING | {"home_speed_um_s": 100.0}, home_limit_s=1.0)
            with Aside(stage.home) as homing:
                wait_until(lambda: emulator.motor.is_moving)
                time.sleep(0.1)
                stage.stop()
            assert homing.raised == [StageStopped]
            halted_um = emulator.motor.position_um
            time.sleep(1.3)  # when its time is over, the firmware would start the motor again
            assert emulator.motor.position_um == halted_um
            assert not stage.is_referenced
            stage.close()


class TestHardwareScan:
    @staticmethod
    def begin(stage, step_um, frame_count):
        return stage.begin_scan(ScanRequest(step_um, frame_count, settle_ms=5.0, exposure_ms=10.0))

    @pytest.mark.parametrize("z0_um", [0.0, 40.0])
    @pytest.mark.parametrize("step_um", [2.0, -3.0])
    def test_triggers_the_camera_at_each_position(self, z0_um, step_um):
        with OpenUc2Emulator() as emulator, contextlib.closing(connect(emulator)) as stage:
            stage.start_move_to(z0_um)
            rest(stage)
            positions_um = self.begin(stage, step_um, 4)
            assert positions_um == pytest.approx([z0_um + index * step_um for index in range(4)])
            assert stage.is_moving()
            assert rest(stage) == pytest.approx(z0_um, abs=0.2)
            assert emulator.triggers_um == pytest.approx(positions_um, abs=0.2)
            assert stage.is_referenced
            stage.start_move_to(z0_um + 5.0)
            assert rest(stage) == pytest.approx(z0_um + 5.0, abs=0.2)

    def test_steps_are_told_as_the_motor_makes_them(self):
        with OpenUc2Emulator() as emulator, contextlib.closing(connect(emulator)) as stage:
            positions_um = self.begin(stage, 0.26, 3)
            assert positions_um == pytest.approx((0.0, 0.3, 0.6))
            rest(stage)
            assert emulator.triggers_um == pytest.approx(positions_um, abs=0.01)

    def test_is_refused_where_it_could_not_be_right(self):
        with OpenUc2Emulator() as emulator, contextlib.closing(connect(emulator)) as stage:
            for scan, error in [
                ((1.0, 1), StageError), ((0.01, 5), StageError), ((1.0, 70_000), StageError),
                ((200.0, 5), StageLimitError),
            ]:  # fmt: skip
                with pytest.raises(error):
                    self.begin(stage, *scan)
            assert not any("focusscan" in command for command in emulator.commands)
            assert not stage.is_moving()

    def test_needs_a_reference(self):
        with OpenUc2Emulator() as emulator:
            stage = connect(emulator, trust_position=False)
            with pytest.raises(StageUnreferenced):
                self.begin(stage, 1.0, 5)
            stage.close()

    def test_exactly_one_light_triggers(self):
        section = {"driver": "openuc2", "port": "COM3", "low_um": 0, "high_um": 1}
        for lights in ({"scan_led": 0}, {"scan_led": 255, "scan_laser": (0, 9, 0, 0)}):
            with pytest.raises(ValueError, match="exactly one"):
                OpenUc2Settings(**section, **lights)

    def test_a_stop_ends_it_for_good(self):
        with OpenUc2Emulator() as emulator, contextlib.closing(connect(emulator)) as stage:
            self.begin(stage, 20.0, 20)
            wait_until(lambda: len(emulator.triggers_um) >= 2)
            stage.stop()
            wait_until(lambda: emulator.restarts == 1, 1.0)
            halted_um, triggers = emulator.motor.position_um, len(emulator.triggers_um)
            time.sleep(0.5)  # the firmware would drive back to the beginning
            assert emulator.motor.position_um == halted_um
            assert len(emulator.triggers_um) == triggers
            with pytest.raises(StageUnreferenced):
                rest(stage)
            assert not stage.is_referenced

    def test_given_up_it_goes_back_and_keeps_its_position(self):
        with OpenUc2Emulator() as emulator, contextlib.closing(connect(emulator)) as stage:
            self.begin(stage, 5.0, 20)
            wait_until(lambda: len(emulator.triggers_um) >= 2)
            stage.end_scan()
            assert not stage.is_moving()
            assert stage.position_um() == pytest.approx(0.0, abs=0.2)
            assert stage.is_referenced
            assert (emulator.restarts, len(emulator.triggers_um) < 6) == (0, True)

    def test_a_build_without_it_is_told(self, monkeypatch):
        monkeypatch.setattr("hardware.stages.openuc2.SCAN_GRACE_S", 0.2)
        with OpenUc2Emulator(can_scan=False) as emulator, contextlib.closing(connect(emulator)) as stage:
            self.begin(stage, 1.0, 2)
            with pytest.raises(StageError, match="firmware may have none"):
                rest(stage)


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
items = st.dictionaries(st.sampled_from(["stepperid", "position", "isRunning"]), plain)
motors = st.dictionaries(st.sampled_from(["steppers", "x"]), plain | st.lists(plain | items, max_size=3))
json_values = plain | st.lists(plain, max_size=3) | motors


class TestParser:
    @given(st.lists(st.one_of(st.text(), st.sampled_from(["++", "--", "{", "}", '{"qid":1}', "[" * 3000]))))
    def test_takes_any_lines(self, lines):
        frames = Frames()
        for line in lines:
            frame = frames.feed(line)
            assert frame is None or isinstance(frame, dict)

    @given(st.dictionaries(st.sampled_from(["motor", "qid", "x"]), json_values))
    def test_takes_any_frame(self, content):
        frames = Frames()
        frames.feed("++")
        for line in json.dumps(content, indent=1).splitlines():
            frames.feed(line)
        frame = frames.feed("--")
        assert isinstance(frame, dict)
        assert stepper(frame, 3) is None or isinstance(frame["motor"]["steppers"], list)

    def test_an_endless_frame_is_dropped(self):
        frames = Frames()
        frames.feed("++")
        for _repetition in range(1000):
            frames.feed(" " * 100)
        assert frames.feed("--") is None

    @pytest.mark.parametrize("text", ['{"qid":1', '"qid":1}', '{"qid":1}{"qid":2}', "[1]", "7", ""])
    def test_believes_no_torn_frame(self, text):
        frames = Frames()
        frames.feed("++")
        frames.feed(text)
        assert frames.feed("--") is None
