"""The Prior driver against the emulated controllers, and its parser against whatever comes."""

import contextlib
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hardware.motion import FocusAxis
from hardware.profile import load_profile
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.simulator.controllers.prior import PriorEmulator
from hardware.stage import StageError, StageLimitError, StageNoReply, StageUnreferenced
from hardware.stages.prior import DRIVER, ERRORS, number, refusal
from models.errors import InputError
from tests.hardware.stage_behaviour import StageBehaviour, rest

TOP = PriorEmulator.top_um_s


@contextlib.contextmanager
def connected(emulator, **changes):
    section = {"driver": "prior", "port": emulator.port, "low_um": -1500.0, "high_um": 1500.0}
    section |= {"top_speed_um_s": TOP, "timeout_s": 0.4, "trust_position": True}
    with emulator, contextlib.closing(DRIVER.open(DRIVER.settings(**{**section, **changes}))) as stage:
        yield stage


def trip(emulator):
    with emulator.lock:
        emulator.motor.low_um = emulator.motor.position_um


class TestProScan(StageBehaviour):
    driver = DRIVER
    stop_bytes = b"K\r"
    settings: ClassVar = {"top_speed_um_s": TOP}
    alarm_words = "limit switch"
    words = (
        *(
            b"R\r",
            b"0\r",
            b"4\r",
            b"12345\r",
            b"E,8\r",
            b"END\r",
            b"FOCUS = NONE\r",
            b"PROSCAN INFORMATION\r",
            b"1,2,3\r",
        ),
        *(b"-12", b"\x00" * 30, b"1,200\r"),
    )

    def emulator(self):
        return PriorEmulator()

    def trip(self, emulator):
        trip(emulator)

    def exchange(self, emulator):
        emulator.serial_number = "99"


class TestNanoScanZ(StageBehaviour):
    """A piezo; the shared table needs more range than any has."""

    driver = DRIVER
    stop_bytes = b"K\r"
    settings: ClassVar = {"low_um": 0.0, "high_um": 1000.0}
    unreferenced_at_power_up = False
    loses_position_by_reset = False

    def emulator(self):
        emulator = PriorEmulator(piezo_um=1000.0, above_um=500.0)
        emulator.piezo_um_s = 300.0
        return emulator

    def test_speed(self):
        with self.opened() as (stage, _emulator), pytest.raises(StageError, match="piezo"):
            stage.set_speed(100.0)


class TestIdentity:
    @pytest.mark.parametrize(
        ("emulator", "words"),
        [
            (PriorEmulator, "Prior PROSCAN, version 116, serial number 123456"),
            (
                lambda: PriorEmulator(piezo_um=100.0, above_um=50.0),
                "Prior NanoScanZ controller, compiled 2012, version 116, serial number 123456",
            ),
        ],
    )
    def test_name_version_and_serial_number(self, emulator, words):
        with connected(emulator()) as stage:
            assert stage.identity == words

    def test_somebody_else_is_refused(self):
        with pytest.raises(StageNoReply, match="No Prior controller"), connected(GrblEmulator()):
            pass

    def test_the_focus_is_z(self):
        with pytest.raises(StageError, match="axis Z"), connected(PriorEmulator(), axis="X"):
            pass


class TestMotor:
    @pytest.mark.parametrize("step_um", [0.1, -0.1, 0.02, -0.5])
    def test_steps_become_um_with_their_sign(self, step_um):
        emulator = PriorEmulator(step_um=step_um)
        with connected(emulator) as stage:
            for target_um in (120.0, -35.5):
                stage.start_move_to(target_um)
                assert rest(stage) == pytest.approx(target_um)
                assert emulator.motor.position_um == pytest.approx(target_um)
            stage.start_move_by(-10.0)
            rest(stage)
            assert emulator.motor.position_um == pytest.approx(-45.5)
            axis = FocusAxis(stage, backlash_um=10.0, tolerance_um=0.5)
            for z_um in (20.0, -10.0, -5.0):
                assert axis.move_to(z_um) == pytest.approx(z_um, abs=0.3)
                assert emulator.motor.position_um == pytest.approx(z_um, abs=0.3)

    def test_a_relative_move_of_less_than_half_a_step_is_none(self):
        """U without a length would make a step of its own size."""
        emulator = PriorEmulator(step_um=1.0)
        with connected(emulator) as stage:
            stage.start_move_by(0.2)
            assert rest(stage) == 0.0
            assert not any(command.startswith(("U", "D")) for command in emulator.commands)

    def test_standard_mode_is_set_and_set_again_after_a_reset(self):
        emulator = PriorEmulator(compatible=True)
        with connected(emulator) as stage:
            assert not emulator.compatible
            emulator.reset()
            assert emulator.compatible
            stage.confirm_position()
            assert not emulator.compatible

    def test_the_controllers_own_backlash_correction_never_overshoots(self):
        emulator = PriorEmulator()
        assert emulator.corrects_backlash
        with connected(emulator) as stage:
            for _repetition in range(2):
                stage.start_move_to(-100.0)
                rest(stage)
                assert emulator.lowest_um == pytest.approx(-100.0, abs=0.2)
                assert not emulator.corrects_backlash
                assert emulator.backlash_steps == 200, "its length stays as it was"
                emulator.reset()
                emulator.lowest_um = -100.0
                emulator.zero_um = 0.0
                stage.confirm_position()

    def test_a_controller_without_one_or_with_it_off_is_left_alone(self):
        for backlash_steps in (None, 200):
            emulator = PriorEmulator(backlash_steps=backlash_steps)
            emulator.corrects_backlash = False
            with connected(emulator):
                assert "BLZH,0" not in emulator.commands

    def test_a_correction_that_stays_on_is_told(self, monkeypatch):
        emulator = PriorEmulator()
        monkeypatch.setattr(emulator, "_on_blzh", lambda arguments: emulator.send("0" if arguments else "1,200"))
        with pytest.raises(StageError, match="BLZH"), connected(emulator):
            pass

    def test_limits_come_from_the_profile_and_must(self):
        with pytest.raises(ValidationError, match="does not know how far"):
            DRIVER.settings(driver="prior", port="COM3", low_um=-5.0)
        assert load_profile("prior").stage.low_um < 0

    def test_a_profile_without_limits_says_so(self, tmp_path):
        path = tmp_path / "mine.toml"
        path.write_text('based_on = "simulated"\n[stage]\ndriver = "prior"\nport = "COM3"\nhigh_um = 5\n')
        with pytest.raises(InputError, match=r"stage.*low_um and high_um must be given.*does not know"):
            load_profile(path)

    def test_speed_in_per_cent_of_the_drives(self):
        emulator = PriorEmulator()
        with connected(emulator, speed_um_s=50_000.0) as stage:
            assert stage.speed_um_s == TOP
            assert emulator.speed == 100
            stage.set_speed(TOP / 4)
            assert emulator.speed == 25
            for speed_um_s in (1.1 * TOP, 0.001 * TOP):
                with pytest.raises(StageError, match="can go at"):
                    stage.set_speed(speed_um_s)
            assert emulator.speed == 25

    def test_no_motor_is_told(self):
        with (
            pytest.raises(StageError, match=r"no focus drive\. Check the cable"),
            connected(PriorEmulator(focus=False)),
        ):
            pass

    def test_an_unknown_step_must_be_in_the_profile(self):
        with pytest.raises(StageError, match="um_per_step"), connected(PriorEmulator(step_um=None)):
            pass
        emulator = PriorEmulator(step_um=None)
        with connected(emulator, um_per_step=0.1) as stage:
            stage.start_move_to(50.0)
            rest(stage)
            assert emulator.motor.position_um == pytest.approx(50.0)

    def test_two_opinions_on_the_step_are_one_too_many(self):
        with pytest.raises(StageError, match=r"0\.1 µm"), connected(PriorEmulator(), um_per_step=0.2):
            pass

    def test_stop_loses_the_position_of_a_motor_only_in_motion(self):
        with connected(PriorEmulator(), speed_um_s=100.0) as stage:
            stage.stop()
            assert stage.is_referenced
            stage.start_move_by(300.0)
            stage.stop()
            assert not stage.is_referenced
            assert "lost its position" in stage.faults()[0]

    def test_without_switches_to_ask_an_early_end_is_told_all_the_same(self):
        emulator = PriorEmulator(switches=False)
        with connected(emulator, speed_um_s=500.0) as stage:
            stage.start_move_by(-300.0)
            trip(emulator)
            with pytest.raises(StageUnreferenced, match="instead of"):
                rest(stage)

    def test_refusals_are_sentences(self):
        emulator = PriorEmulator()
        with connected(emulator) as stage:
            emulator.focus = False
            with pytest.raises(StageError, match="no focus drive"):
                stage.start_move_to(10.0)
        assert {1, 2, 3, 4, 5, 7, 8, 18} <= set(ERRORS)


class TestPiezo:
    def test_its_range_is_a_limit(self):
        with connected(PriorEmulator(piezo_um=100.0, above_um=50.0)) as stage:
            assert stage.limits_um == (0.0, 100.0)
            with pytest.raises(StageLimitError):
                stage.start_move_to(-1.0)
            with pytest.raises(StageLimitError):
                stage.start_move_by(50.1)

    def test_limits_outside_its_range_are_refused(self):
        emulator = PriorEmulator(piezo_um=100.0, above_um=50.0)
        with pytest.raises(StageLimitError, match="no room"), connected(emulator, low_um=150.0, high_um=200.0):
            pass

    def test_moves_by_nanometres_and_knows_where_it_is(self):
        emulator = PriorEmulator(piezo_um=100.0, above_um=50.0)
        with connected(emulator, trust_position=False) as stage:
            assert stage.is_referenced
            assert not stage.stop_loses_position
            stage.start_move_to(20.125)
            assert rest(stage) == pytest.approx(20.125, abs=0.001)
            stage.start_move_by(-0.25)
            assert rest(stage) == pytest.approx(19.875, abs=0.001)

    def test_a_display_that_was_zeroed_by_hand_is_noticed(self):
        emulator = PriorEmulator(piezo_um=100.0, above_um=50.0)
        with connected(emulator) as stage:
            emulator.zero_um = 30.0
            axis = FocusAxis(stage, tolerance_um=0.5)
            with pytest.raises(StageError, match="instead of"):
                axis.move_to(10.0)


class TestParser:
    @given(st.text())
    def test_takes_any_text(self, line):
        assert number(line) is None or refusal(line) is None

    @given(st.floats(-1e8, 1e8).map(lambda count: round(count, 3)))
    def test_reads_every_number(self, count):
        assert number(f"{count:.3f}") == pytest.approx(count)
        assert number(str(round(count))) == pytest.approx(round(count))

    @pytest.mark.parametrize("line", ["", "R", "END", "1,2,3", "nan", "1e5", "--1", "1.", "12345678901", "E,8", "1 2"])
    def test_believes_no_torn_number(self, line):
        assert number(line) is None

    @pytest.mark.parametrize(("line", "code"), [("E,8", 8), ("E18", 18), ("E, 5", 5), ("E", None), ("E,", None)])
    def test_refusals(self, line, code):
        assert refusal(line) == code
