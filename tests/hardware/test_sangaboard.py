"""The Sangaboard driver against the emulated board, and its parser against whatever comes."""

import contextlib
import time
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.motion import FocusAxis
from hardware.simulator.controllers.sangaboard import SangaboardEmulator
from hardware.stage import StageAlarm, StageError, StageNoReply, StageUnreferenced
from hardware.stages.sangaboard import DRIVER, parse_position
from tests.hardware.stage_behaviour import StageBehaviour, rest, wait_until


@pytest.fixture(autouse=True, scope="module")
def quick_boot():
    """The emulated board does not reset when its port is opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hardware.stages.sangaboard.BOOT_S", 0.2)
        yield


class SangaboardBehaviour(StageBehaviour):
    driver = DRIVER
    stop_bytes = b"\nstop\n"
    settings: ClassVar = {"um_per_step": 0.05}
    alarm_words = "limit switch"

    def exchange(self, emulator):
        emulator.firmware += "-dev"

    @pytest.mark.parametrize("late_s", [0.45, 0.6])
    def test_a_late_reply_never_counts_for_the_next_command(self, late_s):
        """The first question of a move is where the stage stands: without an answer nothing moves."""
        with self.opened(timeout_s=0.15) as (stage, emulator):
            here_um = stage.position_um()
            time.sleep(0.05)
            emulator.delay_next_s = late_s
            with pytest.raises(StageNoReply):
                stage.start_move_to(here_um + 20.0)
            assert not any(command.startswith("mrz") for command in emulator.commands)
            time.sleep(late_s)
            for step_um in (30.0, 40.0):
                stage.start_move_to(here_um + step_um)
                assert rest(stage) == pytest.approx(here_um + step_um, abs=self.tolerance_um)
                assert emulator.motor.position_um == pytest.approx(step_um, abs=self.tolerance_um)


class TestSangaboard(SangaboardBehaviour):
    words = (
        *(b"done.\r\n", b"1 2 3\r\n", b"true\r\n", b"Sangaboard Firmware v1.0.1\r\n", b"0 0 ", b"\x00" * 30),
        *(b"Endstop hit:-3\r\n", b"minimum step delay 1\r\n"),
    )

    def emulator(self):
        return SangaboardEmulator()

    def trip(self, emulator):
        emulator.hit_end_stop()


class TestOldSangaboard(SangaboardBehaviour):
    """It hears nothing while it moves."""

    def emulator(self):
        return SangaboardEmulator(firmware="0.5")

    def trip(self, emulator):
        emulator.hit_end_stop()

    def test_a_stalled_stage_is_reported(self):
        """It counts steps and sees no stall; a piece that never ends is a board that does not answer."""
        with self.opened() as (stage, emulator):
            axis = FocusAxis(stage, stall_s=0.3)
            emulator.stall()
            with pytest.raises(StageNoReply):
                axis.move_to(axis.position_um() + 100.0)


def connect(emulator, **changes):
    section = {"driver": "sangaboard", "port": emulator.port, "low_um": -400.0, "high_um": 400.0, "timeout_s": 0.4}
    section |= {"trust_position": True, "um_per_step": 0.05, "speed_um_s": 500.0}
    return DRIVER.open(DRIVER.settings(**{**section, **changes}))


class TestPeculiarities:
    def test_steps_become_um_and_back(self):
        with SangaboardEmulator(um_per_step=0.1) as emulator:
            with contextlib.closing(connect(emulator, um_per_step=0.1)) as stage:
                stage.start_move_to(12.34)
                assert rest(stage) == pytest.approx(12.3)
            assert emulator.steps == 123

    def test_without_the_size_of_a_step_nothing_is_opened(self):
        with SangaboardEmulator() as emulator, pytest.raises(StageError, match="um_per_step"):
            connect(emulator, um_per_step=None)

    @pytest.mark.parametrize("firmware", ["0.5", "1.0.1"])
    def test_only_what_differs_is_written_to_its_memory(self, firmware):
        with SangaboardEmulator(firmware=firmware) as emulator:
            connect(emulator).close()
            emulator.commands.clear()
            connect(emulator).close()
            assert not any(command.startswith(("dt ", "blocking_moves ")) for command in emulator.commands)

    def test_an_old_board_moves_in_pieces_and_stops_between_them(self):
        with SangaboardEmulator(firmware="0.5") as emulator, contextlib.closing(connect(emulator)) as stage:
            stage.start_move_to(300.0)
            for _repetition in range(5):
                assert stage.is_moving()
            stage.stop()
            wait_until(lambda: not emulator.motor.is_moving, 1.0)
            halted_um = emulator.motor.position_um
            assert 0.0 < halted_um < 150.0
            assert not stage.is_moving()
            assert stage.position_um() == pytest.approx(halted_um, abs=0.1)
            pieces = [command for command in emulator.commands if command.startswith("mrz ")]
            assert len(pieces) >= 5

    def test_a_move_in_pieces_does_not_go_on_after_the_cable_was_pulled(self):
        with SangaboardEmulator(firmware="0.5") as emulator, contextlib.closing(connect(emulator)) as stage:
            stage.start_move_to(300.0)
            assert stage.is_moving()
            emulator.unplug()
            with pytest.raises(StageError):
                rest(stage)
            emulator.replug()
            stage.reconnect(10.0)
            sent = emulator.commands.count("mrz 300")
            with pytest.raises(StageUnreferenced, match="in motion"):
                rest(stage)
            assert emulator.commands.count("mrz 300") == sent
            assert not emulator.motor.is_moving

    @pytest.mark.parametrize("firmware", ["0.5", "1.0.1"])
    def test_a_limit_switch(self, firmware):
        """The old board says nothing of it."""
        with SangaboardEmulator(firmware=firmware) as emulator, contextlib.closing(connect(emulator)) as stage:
            stage.start_move_by(-300.0)
            emulator.hit_end_stop()
            with pytest.raises((StageAlarm, StageUnreferenced), match="limit switch"):
                rest(stage)

    def test_speeds_out_of_reach_are_refused(self):
        with SangaboardEmulator() as emulator, contextlib.closing(connect(emulator)) as stage:
            for speed_um_s in (1e9, 1e-9):
                with pytest.raises(StageError, match="between"):
                    stage.set_speed(speed_um_s)


class TestParser:
    @given(st.text())
    def test_takes_any_text(self, line):
        position = parse_position(line)
        assert position is None or line.count(" ") == 2

    @given(st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 3))
    def test_reads_every_position(self, steps):
        assert parse_position("{} {} {}".format(*steps)) == steps

    @pytest.mark.parametrize("line", ["1 2", "1 2 3 4", "1 2 ", "1 2 3.5", "1 2 nan", "1  2 3", "12345678901 2 3"])
    def test_believes_no_torn_position(self, line):
        assert parse_position(line) is None
