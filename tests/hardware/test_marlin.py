"""The Marlin driver against the emulated controller, and its parsers against whatever comes."""

import contextlib
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.motion import FocusAxis
from hardware.simulator.controllers.marlin import MarlinEmulator
from hardware.stage import (
    StageAlarm,
    StageError,
    StageLimitError,
    StageStopped,
    StageUnreferenced,
)
from hardware.stages.marlin import DRIVER, parse_position, parse_soft_limits
from tests.hardware.stage_behaviour import Aside, StageBehaviour, rest, wait_until


@pytest.fixture(autouse=True, scope="module")
def quick_boot():
    """The emulated board does not reset when its port is opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hardware.stages.marlin.BOOT_S", 0.2)
        yield


class TestMarlin(StageBehaviour):
    """A build that tells where the steppers are, and talks by itself."""

    driver = DRIVER
    stop_bytes = b"\nM410\n"
    words = (
        *(b"ok\n", b"ok P15 B3\n", b"Error:Printer halted. kill() called!\n", b"start\n", b"FIRMWARE_NAME:Marlin"),
        *(b"X:0.00 Y:0.00 Z:1.00 E:0.00 Count X: 0 Y:0 Z:4000\n", b"echo:busy: processing\n", b"echo:Home Z First\n"),
        b"\x00" * 30,
    )

    def emulator(self):
        return MarlinEmulator(chatty=True)

    def exchange(self, emulator):
        emulator.machine = "Another"

    def trip(self, emulator):
        emulator.kill()

    def test_an_alarm_ends_the_move_and_is_explained_and_can_be_ended(self):
        """Only by switching it off and on."""
        with self.opened() as (stage, emulator):
            stage.start_move_by(-300.0)
            self.trip(emulator)
            with pytest.raises(StageAlarm, match="off and on"):
                rest(stage)
            assert not emulator.motor.is_moving
            with pytest.raises(StageAlarm):
                stage.start_move_by(1.0)
            with pytest.raises(StageError, match="off and on"):
                stage.confirm_position()
            assert stage.faults()
            emulator.reset()
            stage.confirm_position()
            assert not stage.faults()
            stage.start_move_by(-10.0)
            rest(stage)


class TestMarlinAsShipped(StageBehaviour):
    """M114 tells where the move will end, M400 when."""

    driver = DRIVER
    stop_bytes = b"\nM410\n"

    def emulator(self):
        return MarlinEmulator(report="planned", old_words=True)

    def test_positions_are_reported_on_the_way(self):
        """They cannot be; what counts is that nobody is told too early that the stage has arrived."""
        with self.opened() as (stage, emulator):
            for target_um in (300.0, 0.0):
                stage.start_move_to(target_um)
                assert rest(stage) == pytest.approx(target_um, abs=0.3)
                assert emulator.motor.position_um == pytest.approx(target_um, abs=0.3)
                assert not emulator.motor.is_moving

    def test_a_stalled_stage_is_reported(self):
        with self.opened() as (stage, emulator):
            axis = FocusAxis(stage, stall_s=0.3)
            emulator.stall()
            with pytest.raises(StageError, match="blocked"):
                axis.move_to(axis.position_um() + 100.0)


def connect(emulator, **changes):
    section = {"driver": "marlin", "port": emulator.port, "low_um": -400.0, "high_um": 400.0, "timeout_s": 0.4}
    return DRIVER.open(DRIVER.settings(**{**section, "trust_position": True, **changes}))


class TestFirmware:
    def test_a_build_that_answers_only_after_the_move(self):
        with MarlinEmulator(report="legacy") as emulator, contextlib.closing(connect(emulator)) as stage:
            stage.set_speed(200.0)
            stage.start_move_to(200.0)
            assert stage.is_moving() is False
            assert emulator.motor.position_um == pytest.approx(200.0, abs=0.3)

    @pytest.mark.parametrize("old_words", [False, True])
    def test_its_own_words_about_itself(self, old_words):
        with MarlinEmulator(old_words=old_words, machine="Focus 3000") as emulator:
            stage = connect(emulator)
            assert stage.identity == "Marlin 2.1.2.1, Focus 3000"
            stage.close()

    def test_a_board_that_boots_slowly_is_waited_for(self, monkeypatch):
        monkeypatch.setattr("hardware.stages.marlin.BOOT_S", 1.5)
        with MarlinEmulator(boot_s=1.2) as emulator:
            threading.Timer(0.7, emulator.reset).start()  # as a board does whose port is opened
            emulator.mute = True
            threading.Timer(0.69, setattr, (emulator, "mute", False)).start()
            stage = connect(emulator)
            assert stage.identity.startswith("Marlin")
            stage.close()

    @pytest.mark.parametrize("corrects_backlash", [None, True])
    def test_its_own_backlash_correction_is_off(self, corrects_backlash):
        with MarlinEmulator(corrects_backlash=corrects_backlash) as emulator:
            connect(emulator).close()
            assert not emulator.corrects_backlash

    def test_the_focus_does_not_sink_when_it_has_rested_for_long(self):
        with MarlinEmulator(idle_s=0.15) as emulator:
            stage = connect(emulator)
            stage.start_move_to(50.0)
            rest(stage)
            time.sleep(0.4)
            assert emulator.motor.position_um == pytest.approx(50.0, abs=0.3)
            stage.close()

    def test_the_position_is_finer_than_it_is_printed(self):
        with MarlinEmulator() as emulator, contextlib.closing(connect(emulator)) as stage:
            stage.start_move_to(3.25)
            assert rest(stage) == pytest.approx(3.25, abs=0.01)

    def test_a_shifted_zero_is_refused(self):
        with MarlinEmulator(shift_mm=0.05) as emulator, pytest.raises(StageError, match="M206"):
            connect(emulator)

    @pytest.mark.parametrize("old_words", [False, True])
    def test_soft_end_stops_narrow_the_travel(self, old_words):
        with MarlinEmulator(soft_limits_mm=(0.0, 0.3), old_words=old_words) as emulator:
            stage = connect(emulator)
            assert stage.limits_um == (0.0, 300.0)
            with pytest.raises(StageLimitError):
                stage.start_move_to(-10.0)
            stage.close()
            with pytest.raises(StageLimitError, match="M211"):
                connect(emulator, low_um=500.0, high_um=900.0)

    def test_a_mode_left_by_another_program_does_no_harm(self):
        with MarlinEmulator() as emulator:
            emulator._relative = emulator._inches = True
            stage = connect(emulator)
            stage.start_move_to(50.0)
            rest(stage)
            stage.start_move_to(60.0)
            assert rest(stage) == pytest.approx(60.0, abs=0.3)
            assert emulator.motor.position_um == pytest.approx(60.0, abs=0.3)
            stage.close()

    def test_no_move_before_homing_where_the_firmware_wants_it(self):
        with MarlinEmulator(must_home=True) as emulator, contextlib.closing(connect(emulator, home=True)) as stage:
            with pytest.raises(StageUnreferenced, match="Home it"):
                stage.start_move_to(10.0)
            assert not stage.is_referenced
            stage.home()
            stage.start_move_to(10.0)
            assert rest(stage) == pytest.approx(10.0, abs=0.3)

    def test_the_speed_is_the_controllers_at_most(self):
        with MarlinEmulator() as emulator, contextlib.closing(connect(emulator, speed_um_s=50_000.0)) as stage:
            assert stage.speed_um_s == 5000.0
            with pytest.raises(StageError, match="no faster than 5000"):
                stage.set_speed(6000.0)

    def test_axes_that_marlin_has_not(self):
        with MarlinEmulator() as emulator, pytest.raises(StageError, match="axes X, Y and Z"):
            connect(emulator, axis="E")


class TestHoming:
    def test_only_where_the_profile_says_that_there_is_a_switch(self):
        with MarlinEmulator() as emulator, contextlib.closing(connect(emulator)) as stage:
            assert not stage.can_home
            with pytest.raises(StageError, match="no reference"):
                stage.home()
            assert not any(command.startswith("G28") for command in emulator.commands)

    def test_gives_the_reference(self):
        with MarlinEmulator() as emulator:
            stage = connect(emulator, home=True, trust_position=False)
            assert not stage.is_referenced
            stage.home()
            assert stage.is_referenced
            assert stage.position_um() == pytest.approx(0.0, abs=0.3)
            stage.close()

    def test_a_stop_shuts_it_down_because_a_quick_stop_would_not_end_it(self, monkeypatch):
        monkeypatch.setattr("hardware.simulator.controllers.marlin.HOMING_S", 60.0)
        with MarlinEmulator() as emulator:
            stage = connect(emulator, home=True)
            with Aside(stage.home) as homing:
                wait_until(lambda: "G28 Z" in emulator.commands)
                stage.stop()
            assert len(homing.raised) == 1
            assert homing.raised[0] in (StageAlarm, StageStopped)
            assert emulator.is_dead
            assert not stage.is_referenced
            with pytest.raises(StageError):
                stage.start_move_to(1.0)
            stage.close()

    def test_keep_alives_do_not_count_as_its_end(self, monkeypatch):
        monkeypatch.setattr("hardware.simulator.controllers.marlin.HOMING_S", 1.0)
        with MarlinEmulator() as emulator, contextlib.closing(connect(emulator, home=True)) as stage:
            began_s = time.monotonic()
            stage.home()
            assert time.monotonic() - began_s > 0.9
            assert emulator.is_homed


class TestParsers:
    @given(st.text(), st.sampled_from("XYZ"))
    def test_take_any_text(self, line, axis):
        position = parse_position(line, axis)
        assert position is None or "Count" in line
        parse_soft_limits([line, "M211 S1", line], axis)

    @given(st.floats(-999, 999).map(lambda mm: round(mm, 2)), st.integers(-9_999_999, 9_999_999))
    def test_read_every_report(self, mm, steps):
        for line in (
            f"X:0.00 Y:127.00 Z:{mm:.2f} E:0.00 Count X: 0 Y:10160 Z:{steps}",
            f"X:0.00 Y:127.00 Z:{mm:.2f} E:0.00 Count X:0 Y:10160 Z: {steps}",
            f"X:1.00 Y:2.00 Z:{mm:.2f} Count A:5 B:-6 Z:{steps}",
        ):
            assert parse_position(line, "Z") == (mm, steps)

    @pytest.mark.parametrize(
        "line",
        [
            "X:0.00 Y:0.00 Z:1.00 E:0.00 Count X: 0 Y:0 Z:",
            "X:0.00 Y:0.00 Z:1.00 E:0.00",
            "0.00 Z:1.00 E:0.00 Count X: 0 Y:0 Z:4000",
            "X:0.00 Y:0.00 Z:1.00 E:0.00 Count X: 0 Y:0 Z:400X:0.00 Y:0.00 Z:1.00 E:0.00 Count X: 0 Y:0 Z:4000",
            "X:0.00 Y:0.00 Z:nan E:0.00 Count X: 0 Y:0 Z:4000",
            "X:0.00 Y:0.00 Z:1.00 Count A:1 B:2 C:3",
        ],
    )
    def test_believe_no_torn_report(self, line):
        assert parse_position(line, "Z") is None

    def test_soft_limits_that_are_off_are_none(self):
        assert (
            parse_soft_limits(["echo:Soft endstops: OFF  Min: X0.00 Y0.00 Z0.00   Max: X9.00 Y9.00 Z9.00"], "Z") is None
        )

    @pytest.mark.parametrize(
        "lines",
        [
            ["echo:Soft endstops: On   Min: X0.00 Y0.00 Z-1.00   Max: X9.00 Y9.00 Z2.50"],
            ["echo:Soft endstops: ON  Min:  X0.00 Y0.00 Z-1.00   Max:  X9.00 Y9.00 Z2.50"],
            ["  M211 S1 ; ON", "  Min:  X0.00 Y0.00 Z-1.00   Max:  X9.00 Y9.00 Z2.50"],
            ["echo:; Soft endstops:", "echo:  M211 S1 ; ON", "echo:  Min: X0.00 Y0.00 Z-1.00   Max: X9.00 Y9.00 Z2.50"],
        ],
    )
    def test_soft_limits_in_the_words_of_all_versions(self, lines):
        assert parse_soft_limits(lines, "Z") == (-1.0, 2.5)
