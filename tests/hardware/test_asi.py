"""The ASI driver against the emulated controllers, and its parser against whatever comes."""

import contextlib
import time
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.motion import FocusAxis
from hardware.simulator.controllers.asi import AsiEmulator
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stage import (
    StageAlarm,
    StageError,
    StageLimitError,
    StageNoReply,
    StageStopped,
    StageUnreferenced,
)
from hardware.stages.asi import DRIVER, ERRORS, position_units, refusal, value
from tests.hardware.stage_behaviour import Aside, StageBehaviour, rest, wait_until


@contextlib.contextmanager
def connected(emulator, **changes):
    section = {"driver": "asi", "port": emulator.port, "low_um": -1500.0, "high_um": 1500.0}
    section |= {"timeout_s": 0.4, "trust_position": True}
    with emulator, contextlib.closing(DRIVER.open(DRIVER.settings(**{**section, **changes}))) as stage:
        yield stage


class TestMs2000(StageBehaviour):
    driver = DRIVER
    stop_bytes = b"HALT\r"
    homing_command = "! Z"
    alarm_words = "limit switch"
    words = (
        *(b":A\r\n", b":A 12345 \r\n", b":N-21\r\n", b"N\r\n", b"B\r\n", b":A Z=1.5\r\n", b"STD_XYZ\r\n", b":A 12"),
        *(b"At 30: Comm\r\n", b"\x00" * 30, b":A 138\r\n"),
    )

    def emulator(self):
        return AsiEmulator()

    def trip(self, emulator):
        with emulator.lock:
            emulator.motor.low_um = emulator.motor.position_um

    def exchange(self, emulator):
        emulator.version = "USB-9.3a"


class TestTiger(TestMs2000):
    """Cards with addresses, a banner at power-up, positions in nanometres."""

    homing_command = None
    words = ()
    noise: ClassVar[bytes] = b"\x00\xff:N-\r\n:A Z=\r\n}{\r\n"

    def emulator(self):
        return AsiEmulator(tiger=True, units_per_mm=1_000_000.0)


def test_old_firmware_that_knows_neither_build_nor_units():
    emulator = AsiEmulator(old_firmware=True, version="USB-8.0a")
    with connected(emulator, low_um=-200.0, high_um=200.0) as stage:
        stage.start_move_to(50.0)
        emulator.delay_next_s = 0.6
        with contextlib.suppress(StageNoReply):
            stage.position_um()
        assert rest(stage) == pytest.approx(50.0)
        stage.set_speed(300.0)
        stage.stop()
        stage.start_move_by(-20.0)
        assert rest(stage) == pytest.approx(30.0)


class TestIdentity:
    @pytest.mark.parametrize(
        ("emulator", "words"),
        [
            (AsiEmulator, "ASI, STD_XYZ, USB-9.2p"),
            (lambda: AsiEmulator(tiger=True), "ASI, TIGER_COMM, v3.41"),
            (lambda: AsiEmulator(old_firmware=True, version="USB-8.0a"), "ASI, USB-8.0a"),
        ],
    )
    def test_build_and_version(self, emulator, words):
        with connected(emulator()) as stage:
            assert stage.identity == words

    def test_only_who_answers_as_asi_does_is_asked_for_the_version(self):
        """V is a move elsewhere."""
        emulator = GrblEmulator()
        with pytest.raises(StageNoReply, match="No ASI controller"), connected(emulator):
            pass
        assert "V" not in emulator.commands

    def test_another_axis_is_refused_by_the_controller_in_words(self):
        with pytest.raises(StageError, match="no such axis"), connected(AsiEmulator(), axis="F"):
            pass

    def test_an_axis_is_one_letter(self):
        with pytest.raises(StageError, match="one letter"), connected(AsiEmulator(), axis="Z2"):
            pass


class TestUnits:
    @pytest.mark.parametrize("tiger", [False, True])
    @pytest.mark.parametrize("units_per_mm", [10_000.0, 100_000.0, 1_000_000.0])
    def test_positions_are_um_whatever_the_controller_counts(self, tiger, units_per_mm):
        emulator = AsiEmulator(tiger=tiger, units_per_mm=units_per_mm)
        with connected(emulator) as stage:
            for target_um in (123.4, -56.7, 0.1):
                stage.start_move_to(target_um)
                assert rest(stage) == pytest.approx(target_um, abs=0.051)
                assert emulator.motor.position_um == pytest.approx(target_um, abs=0.051)
            stage.start_move_by(-12.3)
            assert rest(stage) == pytest.approx(-12.2, abs=0.051)

    def test_the_limits_of_the_controller_count_as_well(self):
        with connected(AsiEmulator(lower_limit_mm=-0.3, upper_limit_mm=0.2)) as stage:
            assert stage.limits_um == pytest.approx((-300.0, 200.0))
            with pytest.raises(StageLimitError):
                stage.start_move_to(250.0)

    def test_limits_without_room_are_refused(self):
        with pytest.raises(StageLimitError, match="no room"), connected(AsiEmulator(upper_limit_mm=-5.0)):
            pass

    def test_speeds_that_the_controller_would_clamp_are_refused(self):
        emulator = AsiEmulator()
        with connected(emulator, speed_um_s=50_000.0) as stage:
            assert stage.speed_um_s == pytest.approx(5700.0)
            stage.set_speed(500.0)
            for speed_um_s in (6000.0, 0.001):
                with pytest.raises(StageError, match="nearest"):
                    stage.set_speed(speed_um_s)
            assert stage.speed_um_s == 500.0
            assert emulator.speed_mm_s == pytest.approx(0.5)

    def test_the_controllers_own_backlash_routine_never_overshoots(self):
        emulator = AsiEmulator()
        assert emulator.backlash_mm > 0
        with connected(emulator) as stage:
            stage.start_move_to(-100.0)
            rest(stage)
            assert emulator.lowest_um == pytest.approx(-100.0, abs=0.2)

    def test_a_piezo_axis_without_speed_and_backlash(self):
        emulator = AsiEmulator(tiger=True, piezo=True)
        with connected(emulator) as stage:
            stage.start_move_to(30.0)
            assert rest(stage) == pytest.approx(30.0, abs=0.1)
            with pytest.raises(StageError, match="does not know"):
                stage.set_speed(100.0)


class TestHoming:
    def test_makes_the_limit_switch_zero(self):
        emulator = AsiEmulator(above_um=3500.0)
        with connected(emulator, low_um=-2000.0, high_um=0.0, trust_position=False) as stage:
            assert stage.can_home
            with pytest.raises(StageUnreferenced, match="Home it"):
                stage.start_move_to(-1.0)
            stage.set_speed(5000.0)
            stage.home()
            assert stage.is_referenced
            assert not stage.faults()
            assert stage.position_um() == 0.0
            assert emulator.motor.position_um == emulator.motor.high_um
            stage.start_move_to(-200.0)
            assert rest(stage) == pytest.approx(-200.0)

    def test_goes_to_the_place_that_was_taught(self):
        emulator = AsiEmulator()
        emulator.home_um = 300.0
        with connected(emulator, trust_position=False) as stage:
            stage.home()
            assert emulator.motor.position_um == pytest.approx(300.0)
            assert stage.position_um() == 0.0

    def test_the_limits_of_the_controller_move_with_the_zero(self):
        emulator = AsiEmulator(lower_limit_mm=-1.0, upper_limit_mm=1.0)
        emulator.home_um = 500.0
        with connected(emulator) as stage:
            stage.home()
            assert stage.limits_um == pytest.approx((-1500.0, 500.0))

    def test_ends_by_a_stop_and_makes_no_zero(self):
        emulator = AsiEmulator()
        with connected(emulator, speed_um_s=200.0) as stage:
            with Aside(stage.home) as homing:
                wait_until(lambda: emulator.motor.is_moving)
                stage.stop()
            assert homing.raised == [StageStopped]
            assert not emulator.motor.is_moving
            assert not stage.is_referenced
            assert not any(command.startswith("H ") for command in emulator.commands)

    def test_a_jammed_stage_does_not_become_zero(self, monkeypatch):
        monkeypatch.setattr("hardware.stages.asi.HOMING_LIMIT_S", 0.2)
        emulator = AsiEmulator()
        with connected(emulator) as stage:
            emulator.stall()
            with pytest.raises(StageError, match="did not reach"):
                stage.home()
            assert not stage.is_referenced
            emulator.wait_for(b"HALT\r")


class TestFaults:
    def test_a_motor_that_is_switched_off_is_named(self):
        emulator = AsiEmulator()
        with connected(emulator) as stage:
            emulator.motor_on = False
            stage.start_move_by(100.0)
            with pytest.raises(StageAlarm, match="clutch"):
                rest(stage)

    def test_modes_are_set_again_after_a_reset(self):
        emulator = AsiEmulator()
        with connected(emulator) as stage:
            emulator.reset()
            stage.confirm_position()
            assert emulator.backlash_mm == 0.0
            assert emulator.speed_mm_s == pytest.approx(1.0)

    def test_a_reset_after_a_stop_is_noticed(self):
        emulator = AsiEmulator()
        with connected(emulator, speed_um_s=300.0) as stage:
            stage.start_move_to(350.0)
            wait_until(lambda: emulator.motor.position_um > 20.0)
            stage.stop()
            wait_until(lambda: not emulator.motor.is_moving)
            assert stage.position_um() > 10.0
            assert stage.is_referenced
            emulator.reset()
            stage.position_um()
            with pytest.raises(StageUnreferenced, match="zero"):
                stage.start_move_to(300.0)

    def test_the_banner_of_the_tiger_tells_of_a_reset(self):
        emulator = AsiEmulator(tiger=True)
        with connected(emulator) as stage:
            stage.position_um()
            emulator.reset()
            time.sleep(0.05)
            stage.position_um()
            with pytest.raises(StageUnreferenced, match="reset"):
                stage.start_move_to(300.0)

    def test_a_halt_by_somebody_else_is_no_silent_end(self):
        emulator = AsiEmulator()
        with connected(emulator, speed_um_s=200.0) as stage:
            stage.start_move_by(200.0)
            time.sleep(0.1)
            with emulator.lock:
                emulator.motor.halt()
            with pytest.raises(StageUnreferenced, match="instead of"):
                rest(stage)

    def test_every_code_of_the_manual_has_its_words(self):
        assert {1, 2, 3, 4, 5, 6, 21} <= set(ERRORS)


class TestParser:
    @given(st.text())
    def test_takes_any_text(self, line):
        for parsed in (position_units(line), value(line, "Z"), refusal(line)):
            assert parsed is None or line.startswith(":")

    @given(st.floats(-1e9, 1e9).map(lambda units: round(units, 1)), st.sampled_from(["", " "]))
    def test_reads_every_position(self, units, space):
        assert position_units(f":A {units:.1f}{space}") == pytest.approx(units)

    @given(st.floats(-1e4, 1e4).map(lambda number: round(number, 6)))
    def test_reads_values_in_both_shapes(self, number):
        for line in (f":A Z={number:.6f} ", f":Z={number:.6f} A", f":A Z={number:.6f}"):
            assert value(line, "Z") == pytest.approx(number)
            assert value(line, "X") is None
            assert position_units(line) is None

    @pytest.mark.parametrize(
        "line",
        [":A", ":A ", ":A -", ":A nan", ":A 1e5", ":A 12 34", "A 12", ":A 12345678901", ":A 1.", ":N-1", ":A 1 A"],
    )
    def test_believes_no_torn_position(self, line):
        assert position_units(line) is None

    @pytest.mark.parametrize(("line", "code"), [(":N-1", 1), (":N-21 ", 21), (":N -4", 4), (":N", None), (":N-", None)])
    def test_refusals(self, line, code):
        assert refusal(line) == code


def test_works_under_the_focus_axis_with_a_reversed_sign():
    emulator = AsiEmulator()
    with connected(emulator) as stage:
        axis = FocusAxis(stage, sign=-1, backlash_um=20.0, approach=-1, tolerance_um=0.5)
        for z_um in (50.0, -30.0, -29.0):
            assert axis.move_to(z_um) == pytest.approx(z_um, abs=0.2)
            assert emulator.motor.position_um == pytest.approx(-z_um, abs=0.2)
