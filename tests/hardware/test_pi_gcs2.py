"""The PI driver against the emulated controller, and its parser against whatever comes."""

import contextlib
import threading
import time
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.motion import FocusAxis
from hardware.simulator.controllers.pi_gcs2 import PiEmulator
from hardware.stage import (
    HardwareScan,
    ScanRequest,
    StageAlarm,
    StageError,
    StageLimitError,
    StageNoReply,
    StageStopped,
    StageUnreferenced,
)
from hardware.stages.pi_gcs2 import ALARMS, DRIVER, ERRORS, value_of
from tests.hardware.stage_behaviour import Aside, StageBehaviour, rest, wait_until


def connected(emulator, **changes):
    section = {"driver": "pi-gcs2", "port": emulator.port, "low_um": -400.0, "high_um": 400.0, "timeout_s": 0.4}
    return contextlib.closing(DRIVER.open(DRIVER.settings(**{**section, **changes})))


class TestPi(StageBehaviour):
    driver = DRIVER
    stop_bytes = b"\x18"
    alarm_words = "did not follow"
    words = (
        *(b"1=5.0\n", b"1=5 \n", b"0\n", b"5\n", b"10\n", b"Physik Instrumente\n", b"1=", b"\xb1\n", b"\x00" * 30),
        *(b"1=nan\n", b"MOV 1 5\n", b" \n"),
    )

    def emulator(self):
        return PiEmulator(servo=True)

    def exchange(self, emulator):
        emulator.serial += 1

    def trip(self, emulator):
        emulator.motion_error()


class TestPiPiezo(StageBehaviour):
    """The second of three axes, in um, with a sensor that needs no reference."""

    driver = DRIVER
    settings: ClassVar = {"axis": "Z_2"}
    stop_bytes = b"\x18"
    unreferenced_at_power_up = False
    loses_position_by_reset = False

    def emulator(self):
        return PiEmulator(axes=("X", "Z_2", "3"), focus="Z_2", unit="UM", absolute=True, servo=True)

    def trip(self, emulator):
        emulator.motion_error(216)


class TestReference:
    def test_is_not_looked_for_on_connect(self):
        with PiEmulator() as emulator, connected(emulator) as stage:
            assert stage.can_home
            assert not stage.is_referenced
            written = [command for command in emulator.commands if "?" not in command]
            assert written == ["VEL 1 1.0000000"]
            assert not emulator.servo

    def test_homing_gives_it(self):
        with PiEmulator(travel_um=(-1000.0, 2000.0)) as emulator, connected(emulator) as stage:
            stage.home()
            assert stage.is_referenced
            assert not stage.faults()
            assert emulator.motor.position_um == 500.0
            assert stage.position_um() == 0.0
            stage.start_move_to(100.0)
            assert rest(stage) == pytest.approx(100.0, abs=0.1)

    def test_homing_ends_by_a_stop_and_gives_none(self, monkeypatch):
        monkeypatch.setattr("hardware.simulator.controllers.pi_gcs2.REFERENCE_UM_S", 50.0)
        with PiEmulator(travel_um=(-1000.0, 2000.0)) as emulator, connected(emulator) as stage:
            with Aside(stage.home) as homing:
                wait_until(lambda: emulator.motor.is_moving)
                stage.stop()
            assert homing.raised == [StageStopped]
            assert not emulator.motor.is_moving
            assert not stage.is_referenced

    def test_homing_that_fails_is_told_with_its_reason(self):
        with PiEmulator(travel_um=(-1000.0, 2000.0)) as emulator, connected(emulator) as stage:
            timer = threading.Timer(0.03, emulator.motion_error)
            timer.start()
            with pytest.raises(StageError, match="did not find its reference: the stage did not follow"):
                stage.home()
            timer.join()
            assert not stage.is_referenced

    def test_a_stage_without_the_switch_says_so(self):
        with PiEmulator() as emulator, connected(emulator, reference_move="FNL") as stage:
            with pytest.raises(StageError, match="does not know the command"):
                stage.home()
            assert not stage.is_referenced

    def test_a_controller_that_has_it_vouches_for_it(self):
        with PiEmulator() as emulator:
            emulator.referenced = True
            with connected(emulator) as stage:
                assert stage.is_referenced
                assert not stage.faults()

    def test_an_absolute_sensor_needs_none(self):
        with PiEmulator(absolute=True) as emulator, connected(emulator) as stage:
            assert stage.is_referenced
            assert not stage.can_home
            with pytest.raises(StageError, match="no reference"):
                stage.home()

    def test_a_confirmed_position_is_told_to_the_controller_without_a_change(self):
        with PiEmulator() as emulator, connected(emulator) as stage:
            stage.confirm_position()
            assert emulator.referenced
            assert emulator.position_um == pytest.approx(0.0, abs=1e-3)
            assert not emulator.servo
            stage.start_move_to(50.0)
            assert rest(stage) == pytest.approx(50.0, abs=0.1)

    def test_that_is_lost_at_rest_is_noticed_by_the_next_move(self):
        with PiEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            emulator.reset()
            emulator.servo = True
            with pytest.raises(StageUnreferenced, match="no reference"):
                stage.start_move_to(20.0)
            assert not stage.is_referenced
            assert emulator.motor.position_um == 0.0


class TestMoves:
    def test_the_servo_is_switched_on_by_the_first_move_only(self):
        with PiEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            assert not emulator.servo
            for target_um in (10.0, 20.0):
                stage.start_move_to(target_um)
                rest(stage)
            assert [c for c in emulator.commands if c.startswith("SVO ")] == ["SVO 1 1"]

    def test_a_target_that_is_silently_clamped_is_told(self):
        with PiEmulator(clamps_um=(-100.0, 100.0)) as emulator, connected(emulator, trust_position=True) as stage:
            stage.start_move_to(90.0)
            assert rest(stage) == pytest.approx(90.0, abs=0.1)
            stage.start_move_to(300.0)
            with pytest.raises(StageError, match=r"100\.00 µm instead of 300\.00 µm"):
                rest(stage)
            assert not stage.is_moving()

    def test_a_move_ends_when_the_stage_has_settled(self, monkeypatch):
        monkeypatch.setattr("hardware.simulator.controllers.pi_gcs2.SETTLE_S", 0.15)
        with PiEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            stage.start_move_to(10.0)
            wait_until(lambda: not emulator.motor.is_moving)
            assert stage.is_moving()
            rest(stage)
            assert emulator.on_target

    def test_the_error_of_a_stop_counts_for_no_later_move(self):
        with PiEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            stage.stop()
            emulator.wait_for(b"\x18")
            assert emulator.error == 10
            stage.start_move_to(20.0)
            assert rest(stage) == pytest.approx(20.0, abs=0.1)

    def test_a_stop_by_another_program_leaves_no_alarm(self):
        with PiEmulator() as emulator, connected(emulator, trust_position=True, speed_um_s=100.0) as stage:
            stage.start_move_to(300.0)
            with emulator.lock:
                emulator.handle_line("HLT 1")
            assert rest(stage) < 250.0
            assert not stage.faults()

    def test_refusals_are_sentences(self):
        with PiEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            emulator.travel_um = (-10.0, 10.0)
            with pytest.raises(StageLimitError, match="Nothing was moved"):
                stage.start_move_to(200.0)
            with pytest.raises(StageError, match="cannot go at this speed"):
                stage.set_speed(50_000.0)
            assert stage.speed_um_s == 1000.0
            assert emulator.motor.position_um == 0.0

    def test_every_alarm_has_its_words_and_is_ended_by_a_person(self):
        for code in ALARMS:
            with PiEmulator() as emulator, connected(emulator, trust_position=True, speed_um_s=100.0) as stage:
                stage.start_move_to(300.0)
                emulator.motion_error(code)
                with pytest.raises(StageAlarm) as raised:
                    rest(stage)
                assert ERRORS[code] in str(raised.value)
                stage.confirm_position()
                stage.start_move_by(5.0)
                rest(stage)

    def test_limits_shrink_to_those_of_the_controller(self):
        with PiEmulator(travel_um=(-50.0, 300.0)) as emulator:
            with connected(emulator) as stage:
                assert stage.limits_um == pytest.approx((-50.0, 300.0))
            with pytest.raises(StageLimitError, match="no room"), connected(emulator, low_um=301.0):
                pass


class TestUnits:
    def test_are_needed_from_somebody(self):
        with PiEmulator(unit=None) as emulator:
            with pytest.raises(StageError, match="um_per_unit"), connected(emulator):
                pass
            with connected(emulator, um_per_unit=1000.0, trust_position=True) as stage:
                stage.start_move_to(150.0)
                assert rest(stage) == pytest.approx(150.0, abs=0.1)
                assert emulator.motor.position_um == pytest.approx(150.0, abs=0.1)

    def test_a_thousandfold_mistake_is_refused(self):
        with PiEmulator(unit="UM") as emulator:
            with pytest.raises(StageError, match="counts in UM"), connected(emulator, um_per_unit=1000.0):
                pass
            assert not any(command.startswith("MOV") for command in emulator.commands)


class TestController:
    def test_an_unknown_axis_is_named_with_the_known_ones(self):
        with (
            PiEmulator(axes=("X", "1", "Z")) as emulator,
            pytest.raises(StageError, match=r"the axes X, 1, Z, not '2'"),
            connected(emulator, axis="2"),
        ):
            pass

    def test_motion_of_another_axis_is_not_its_own(self):
        with PiEmulator(axes=("1", "2"), focus="2") as emulator, connected(emulator, axis="2") as stage:
            assert stage._mask == 2
            stage.confirm_position()
            stage.start_move_by(30.0)
            assert stage.is_moving()
            rest(stage)

    def test_a_lost_answer_about_a_move_is_not_taken_for_success(self):
        with PiEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            stage.start_move_to(10.0)
            rest(stage)
            emulator.drop_next = 1
            with pytest.raises(StageNoReply):
                stage.start_move_to(20.0)


class TestCamera:
    """The digital output releases it, once per move."""

    REQUEST: ClassVar = ScanRequest(10.0, 6, 0.0, 0.0)

    def test_is_released_by_every_move_once_where_the_stage_has_settled(self):
        with PiEmulator(servo=True) as emulator, connected(emulator, trust_position=True) as stage:
            assert isinstance(stage, HardwareScan)
            assert stage.scan_leader == "moves"
            axis = FocusAxis(stage, approach=1, tolerance_um=0.5)
            axis.move_to(20.0)
            heights_um = stage.begin_scan(self.REQUEST)
            assert heights_um == pytest.approx([20.0, 30.0, 40.0, 50.0, 60.0, 70.0], abs=0.1)
            for height_um in heights_um:  # the stage stands at the first one already
                axis.move_to(height_um)
            wait_until(lambda: len(emulator.pulses_um) == len(heights_um), 1.0)
            assert emulator.pulses_um == pytest.approx(heights_um, abs=0.1)
            stage.end_scan()
            axis.move_to(0.0)
            assert len(emulator.pulses_um) == len(heights_um)
            stage.end_scan()

    def test_is_not_released_by_arming(self):
        with PiEmulator(servo=True) as emulator, connected(emulator, trust_position=True) as stage:
            stage.start_move_to(5.0)
            rest(stage)
            stage.begin_scan(self.REQUEST)
            time.sleep(0.05)
            assert not emulator.pulses_um

    def test_a_stack_beyond_the_limits_is_refused(self):
        with PiEmulator() as emulator, connected(emulator, trust_position=True, high_um=40.0) as stage:
            with pytest.raises(StageLimitError):
                stage.begin_scan(self.REQUEST)
            assert not any(command.startswith(("CTO", "TRO")) for command in emulator.commands)

    def test_without_such_an_output_it_says_so(self):
        with (
            PiEmulator() as emulator,
            connected(emulator, trust_position=True, trigger_output=9) as stage,
            pytest.raises(StageError, match="out of range"),
        ):
            stage.begin_scan(self.REQUEST)


class TestParser:
    @given(st.text(), st.sampled_from(["1", "Z"]))
    def test_takes_any_text(self, line, axis):
        value = value_of(line, axis)
        assert value is None or line.startswith(axis)

    @given(st.floats(-1e6, 1e6), st.sampled_from(["{:.4f}", "{:+012.4f}", "{:.6E}", "{}"]), st.sampled_from(["", " "]))
    def test_reads_every_number(self, number, form, end):
        assert float(value_of(f"1={form.format(number)}{end}", "1") or "nan") == pytest.approx(
            number, rel=1e-6, abs=1e-3
        )

    @pytest.mark.parametrize("line", ["1=", "=1", "2=1.0", "1=1.0 2=3", "1=1=2", "11=1.0", "1 1.0", "\xb11=1"])
    def test_believes_no_torn_reply(self, line):
        assert value_of(line, "1") is None

    @pytest.mark.parametrize("data", ["nan", "1e999", "--1", "0x12", "1,5"])
    def test_takes_nothing_for_a_position_that_is_no_number(self, data):
        with PiEmulator() as emulator, connected(emulator) as stage:
            emulator._answer_for_axes = lambda query, arguments: emulator.send(f"1={data}")
            with pytest.raises(StageNoReply, match="number"):
                stage.position_um()
