"""Identification, moves, limits and reference: what every serial stage must do where nothing goes wrong on the line."""

import contextlib
import time

import pytest

from hardware.autofocus import autofocus
from hardware.motion import FocusAxis
from hardware.stage import (
    StageAlarm,
    StageError,
    StageLimitError,
    StagePortBusy,
    StageUnreferenced,
)
from hardware.stages.registry import DRIVERS
from tests.hardware.height_camera import FocusCamera
from tests.hardware.stage_table import StageTable, identified, rest


class Moves(StageTable):
    def test_is_registered_and_recognised_on_a_port(self):
        assert DRIVERS[self.driver.name] is self.driver
        with self.emulator() as emulator:
            found = identified(self.driver, emulator)
            assert found
            with contextlib.closing(self.connect(emulator)) as stage:
                assert stage.identity == found
                assert emulator.port in stage.name

    def test_connecting_and_identifying_move_nothing(self):
        with self.emulator() as emulator:
            before_um = emulator.motor.position_um
            identified(self.driver, emulator)
            self.connect(emulator).close()
            time.sleep(0.05)
            assert emulator.motor.position_um == before_um
            assert not emulator.motor.is_moving

    def test_a_silent_port_is_not_recognised_and_not_opened(self):
        with self.emulator() as emulator:
            emulator.mute = True
            baud = self.driver.bauds[0]
            with pytest.raises(StageError, match=r"[a-z]{3}"):
                self.connect(emulator, baud=baud)

    def test_two_programs_on_one_port(self):
        with self.opened() as (_stage, emulator), pytest.raises(StagePortBusy, match="another program"):
            self.connect(emulator)

    def test_moves_to_a_position_and_reports_it(self):
        with self.opened() as (stage, emulator):
            start_um = emulator.motor.position_um
            here_um = stage.position_um()
            for step_um in (100.0, -60.0, 10.0):
                stage.start_move_to(here_um + step_um)
                assert rest(stage) == pytest.approx(here_um + step_um, abs=self.tolerance_um)
                moved_um = emulator.motor.position_um - start_um
                assert abs(moved_um) == pytest.approx(abs(step_um), abs=self.tolerance_um)
            assert not stage.faults()

    def test_moves_by_a_distance(self):
        with self.opened() as (stage, _emulator):
            here_um = stage.position_um()
            stage.start_move_by(50.0)
            assert rest(stage) == pytest.approx(here_um + 50.0, abs=self.tolerance_um)
            stage.start_move_by(-20.0)
            assert rest(stage) == pytest.approx(here_um + 30.0, abs=self.tolerance_um)

    def test_positions_are_reported_on_the_way(self):
        with self.opened() as (stage, _emulator):
            here_um = stage.position_um()
            stage.start_move_to(here_um + 300.0)
            seen_um = []
            while stage.is_moving():
                seen_um.append(stage.position_um())
            assert len({round(z) for z in seen_um}) > 3
            assert min(seen_um) >= here_um - self.tolerance_um

    def test_speed(self):
        with self.opened(speed_um_s=1000.0) as (stage, _emulator):
            durations = []
            for speed_um_s in (stage.speed_um_s, stage.speed_um_s / 5):
                stage.set_speed(speed_um_s)
                assert stage.speed_um_s == pytest.approx(speed_um_s, rel=0.05)
                began_s = time.monotonic()
                stage.start_move_by(-80.0)
                rest(stage)
                durations.append(time.monotonic() - began_s)
            assert durations[1] > 2 * durations[0]
            for speed_um_s in (0.0, -1.0, float("nan"), float("inf")):
                with pytest.raises(StageError):
                    stage.set_speed(speed_um_s)

    def test_works_under_the_focus_axis(self):
        with self.opened() as (stage, _emulator):
            axis = FocusAxis(stage, backlash_um=10.0, approach=-1, settle_ms=5.0, tolerance_um=1.0)
            here_um = axis.position_um()
            for step_um in (-20.0, 30.0, 25.0):
                assert axis.move_to(here_um + step_um) == pytest.approx(here_um + step_um, abs=self.tolerance_um)

    def test_targets_outside_the_limits_are_refused_and_nothing_is_sent(self):
        with self.opened() as (stage, emulator):
            low_um, high_um = stage.limits_um
            sent = len(emulator.commands)
            for target_um in (low_um - 1.0, high_um + 1.0, float("nan"), float("inf")):
                with pytest.raises(StageLimitError):
                    stage.start_move_to(target_um)
            assert len(emulator.commands) == sent
            with pytest.raises(StageLimitError):
                stage.start_move_by(high_um - low_um + 1.0)
            assert not stage.is_moving()

    def test_without_a_reference_moves_are_refused_until_a_person_confirms(self):
        if not self.unreferenced_at_power_up:
            pytest.skip("the controller knows its position at power-up")
        with self.opened(trust_position=False) as (stage, emulator):
            assert not stage.is_referenced
            assert stage.faults()
            before_um = emulator.motor.position_um
            with pytest.raises((StageUnreferenced, StageAlarm), match=r"[Cc]onfirm|[Hh]ome"):
                stage.start_move_by(-10.0)
            assert emulator.motor.position_um == before_um
            stage.confirm_position()
            assert emulator.motor.position_um == before_um
            assert stage.is_referenced
            assert not stage.faults()
            stage.start_move_by(-10.0)
            rest(stage)

    def test_an_alarm_ends_the_move_and_is_explained_and_can_be_ended(self):
        with self.opened() as (stage, emulator):
            stage.start_move_by(-300.0)
            self.trip(emulator)
            with pytest.raises((StageAlarm, StageUnreferenced), match=self.alarm_words):
                rest(stage)
            assert stage.faults()
            with pytest.raises((StageAlarm, StageUnreferenced)):
                stage.start_move_by(1.0)
            assert not emulator.motor.is_moving
            stage.confirm_position()
            assert not stage.faults()

    def test_a_stalled_stage_is_reported(self):
        with self.opened() as (stage, emulator):
            axis = FocusAxis(stage, stall_s=0.3)
            emulator.stall()
            with pytest.raises(StageError, match=r"blocked|stall|instead of"):
                axis.move_to(axis.position_um() + 100.0)

    def test_software_autofocus_finds_the_focus(self):
        with self.opened() as (stage, emulator):
            axis = FocusAxis(stage, tolerance_um=2.0)
            start_um, motor_um = axis.position_um(), emulator.motor.position_um
            camera = FocusCamera(lambda: emulator.motor.position_um - motor_um, plane_um=7.0)
            result = autofocus(axis, camera, start_um - 20.0, start_um + 20.0, step_um=2.0)
            assert result.trusted
            assert result.z_um == pytest.approx(start_um + 7.0, abs=1.0)
            assert emulator.motor.position_um == pytest.approx(motor_um + 7.0, abs=1.0)
