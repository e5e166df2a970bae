"""STOP, whatever is going on."""

import contextlib
import threading
import time

import pytest

from hardware.motion import FocusAxis
from hardware.stage import (
    StageDisconnected,
    StageError,
    StageStopped,
    StageUnreferenced,
)
from tests.hardware.stage_table import PATIENCE_S, STOP_LIMIT_S, Aside, StageTable, rest, wait_until


class Stops(StageTable):
    def test_stop_in_motion(self):
        with self.opened(speed_um_s=300.0) as (stage, emulator):
            here_um = stage.position_um()
            stage.start_move_to(here_um + 300.0)
            time.sleep(0.1)
            stage.stop()
            assert emulator.wait_for(self.stop_bytes) > 0
            wait_until(lambda: not emulator.motor.is_moving, 1.0)
            halted_um = emulator.motor.position_um
            time.sleep(0.05)
            assert emulator.motor.position_um == halted_um
            if stage.stop_loses_position:
                assert not stage.is_referenced
                with pytest.raises(StageUnreferenced):
                    stage.start_move_by(1.0)
                stage.confirm_position()
            else:
                assert stage.position_um() < here_um + 250.0
                assert stage.is_referenced
            stage.start_move_by(5.0)
            rest(stage)

    def test_stop_at_rest_does_no_harm(self):
        with self.opened() as (stage, _emulator):
            stage.stop()
            here_um = stage.position_um()
            stage.start_move_to(here_um + 10.0)
            assert rest(stage) == pytest.approx(here_um + 10.0, abs=self.tolerance_um)

    def test_stop_waits_for_nobody(self):
        """While another thread is blocked in a read, because the controller has gone silent in motion."""
        with self.opened(speed_um_s=100.0) as (stage, emulator):
            stage.start_move_by(200.0)
            emulator.mute = True
            with Aside(stage.is_moving):
                time.sleep(0.05)
                began_s = time.monotonic()
                stage.stop()
                assert time.monotonic() - began_s < STOP_LIMIT_S
                assert emulator.wait_for(self.stop_bytes) - began_s < STOP_LIMIT_S

    def test_stop_while_the_controller_fetches_nothing(self):
        with self.opened() as (stage, emulator):
            emulator.deaf = True
            began_s = time.monotonic()
            with contextlib.suppress(StageError):
                stage.stop()
            assert time.monotonic() - began_s < 2 * STOP_LIMIT_S
            emulator.deaf = False
            emulator.wait_for(self.stop_bytes)

    def test_stop_under_the_focus_axis(self):
        with self.opened(speed_um_s=200.0) as (stage, emulator):
            axis = FocusAxis(stage, tolerance_um=1.0)
            with Aside(lambda: axis.move_to(axis.position_um() + 300.0)) as moving:
                wait_until(lambda: emulator.motor.is_moving)
                axis.stop()
            assert moving.raised == [StageStopped]
            wait_until(lambda: not emulator.motor.is_moving, 1.0)

    def test_stop_as_homing_begins_prevents_it(self):
        """After an earlier STOP the line first gets back in step: a second one then must not be overtaken."""
        if self.homing_command is None:
            pytest.skip("not given for this protocol")
        with self.opened() as (stage, emulator):
            stage.stop()
            emulator.commands.clear()
            emulator.delay_next_s = 0.15
            sync = stage._line._format.sync[0]
            with Aside(stage.home) as homing:
                wait_until(lambda: sync in emulator.commands)
                stage.stop()
            assert homing.raised == [StageStopped]
            assert self.homing_command not in emulator.commands
            assert not stage.is_referenced

    def test_stop_while_homing_waits_for_its_turn_prevents_it(self):
        """Somebody else is asking the stage: homing was allowed already, and nothing of it has been sent."""
        if self.homing_command is None:
            pytest.skip("not given for this protocol")
        with self.opened() as (stage, emulator):
            axis = FocusAxis(stage, tolerance_um=1.0)
            emulator.commands.clear()
            emulator.delay_next_s = 0.3
            with Aside(axis.position_um):
                wait_until(axis._line.locked)
                with Aside(axis.home) as homing:
                    wait_until(lambda: axis.is_moving)
                    time.sleep(0.05)
                    axis.stop()
            assert homing.raised == [StageStopped]
            assert self.homing_command not in emulator.commands

    def test_stop_without_a_cable_is_the_first_word_after_it_is_back(self):
        with self.opened(speed_um_s=100.0) as (stage, emulator):
            stage.start_move_by(300.0)
            emulator.unplug()
            with pytest.raises(StageDisconnected):
                stage.is_moving()
            began_s = time.monotonic()
            with pytest.raises(StageDisconnected):
                stage.stop()
            assert time.monotonic() - began_s < STOP_LIMIT_S
            emulator.received.clear()
            emulator.replug()
            stage.reconnect(PATIENCE_S)
            wait_until(lambda: not emulator.motor.is_moving, 1.0)
            assert emulator.received[0][1].startswith(self.stop_bytes)

    def test_stop_reaches_the_controller_while_queries_run(self):
        with self.opened(speed_um_s=100.0) as (stage, emulator):
            stage.start_move_by(300.0)
            asking = threading.Event()

            def ask():
                while not asking.is_set():
                    with contextlib.suppress(StageError):
                        stage.is_moving()

            thread = threading.Thread(target=ask)
            thread.start()
            try:
                for _repetition in range(20):
                    emulator.received.clear()
                    began_s = time.monotonic()
                    stage.stop()
                    assert emulator.wait_for(self.stop_bytes) - began_s < STOP_LIMIT_S
            finally:
                asking.set()
                thread.join(PATIENCE_S)
