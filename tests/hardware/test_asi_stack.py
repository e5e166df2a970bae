"""Stacks that pulses at the trigger input of an ASI controller step through."""

import time

import pytest

from hardware.motion import FocusAxis
from hardware.simulator.controllers.asi import AsiEmulator
from hardware.stage import HardwareScan, ScanRequest, StageError, StageLimitError
from tests.hardware.stage_behaviour import rest, wait_until
from tests.hardware.test_asi import connected


def scan(step_um, frame_count):
    return ScanRequest(step_um, frame_count, settle_ms=0.0, exposure_ms=10.0)


@pytest.mark.parametrize("tiger", [False, True])
class TestTriggeredStack:
    def test_pulses_step_through_the_stack_and_it_returns(self, tiger):
        emulator = AsiEmulator(tiger=tiger)
        with connected(emulator, speed_um_s=5000.0) as stage:
            stage.start_move_to(100.0)
            rest(stage)
            positions_um = stage.begin_scan(scan(5.0, 5))
            assert positions_um == pytest.approx((90.0, 95.0, 100.0, 105.0, 110.0))
            time.sleep(0.05)
            assert emulator.motor.position_um == pytest.approx(100.0)
            for expected_um in positions_um:
                emulator.pulse()
                assert rest(stage) == pytest.approx(expected_um, abs=0.1)
            with pytest.raises(StageError, match="triggers"):
                stage.start_move_to(0.0)
            stage.end_scan()
            assert emulator.motor.position_um == pytest.approx(100.0)
            emulator.pulse()
            assert emulator.motor.position_um == pytest.approx(100.0)
            stage.start_move_to(0.0)
            assert rest(stage) == pytest.approx(0.0)
            assert not stage.faults()
            stage.end_scan()

    def test_a_stack_without_pulses_returns_after_a_pause(self, tiger, monkeypatch):
        monkeypatch.setattr("hardware.stages.asi.PAUSE_LIMIT_S", 0.2)
        emulator = AsiEmulator(tiger=tiger)
        with connected(emulator, speed_um_s=5000.0) as stage:
            stage.begin_scan(scan(5.0, 5))
            emulator.pulse()
            assert rest(stage) == pytest.approx(-10.0, abs=0.1)
            wait_until(lambda: emulator.motor.position_um == pytest.approx(0.0))

    def test_is_what_a_sweep_looks_for(self, tiger):
        with connected(AsiEmulator(tiger=tiger)) as stage:
            assert isinstance(stage, HardwareScan)
            assert stage.scan_leader == "camera"

    def test_downwards_and_through_zero(self, tiger):
        emulator = AsiEmulator(tiger=tiger)
        with connected(emulator, speed_um_s=5000.0) as stage:
            positions_um = stage.begin_scan(scan(-10.0, 3))
            assert positions_um == pytest.approx((10.0, 0.0, -10.0))
            for expected_um in positions_um:
                emulator.pulse()
                assert rest(stage) == pytest.approx(expected_um, abs=0.1)
            stage.end_scan()
            assert stage.is_referenced

    def test_positions_are_those_of_the_rounded_step(self, tiger):
        emulator = AsiEmulator(tiger=tiger, encoder_um=0.3)
        with connected(emulator) as stage:
            positions_um = stage.begin_scan(scan(1.0, 11))
            assert positions_um[-1] - positions_um[0] == pytest.approx(9.0)

    def test_nothing_is_armed_beyond_the_limits_or_abilities(self, tiger):
        emulator = AsiEmulator(tiger=tiger, most_frames=127)
        with connected(emulator, low_um=-50.0, high_um=50.0) as stage:
            with pytest.raises(StageLimitError):
                stage.begin_scan(scan(5.0, 22))
            with pytest.raises(StageError, match="only of 127"):
                stage.begin_scan(scan(0.1, 200))
            for step_um, frames in ((0.01, 10), (5.0, 1), (float("nan"), 3)):
                with pytest.raises(StageError, match="two frames"):
                    stage.begin_scan(scan(step_um, frames))
            assert emulator.trigger_mode == 0
            emulator.pulse()
            assert emulator.motor.position_um == 0.0

    def test_stop_disarms(self, tiger):
        emulator = AsiEmulator(tiger=tiger)
        with connected(emulator, speed_um_s=100.0) as stage:
            stage.begin_scan(scan(50.0, 9))
            emulator.pulse()
            stage.stop()
            wait_until(lambda: emulator.trigger_mode == 0)
            wait_until(lambda: not emulator.motor.is_moving)
            here_um = emulator.motor.position_um
            emulator.pulse()
            time.sleep(0.02)
            assert emulator.motor.position_um == here_um
            stage.end_scan()
            assert emulator.motor.position_um == here_um
            stage.start_move_by(3.0)
            rest(stage)
            assert emulator.motor.position_um == pytest.approx(here_um + 3.0, abs=0.1)

    def test_a_move_after_a_stop_ends_the_stack(self, tiger):
        emulator = AsiEmulator(tiger=tiger)
        with connected(emulator) as stage:
            stage.begin_scan(scan(5.0, 9))
            stage.stop()
            stage.start_move_by(3.0)
            assert rest(stage) == pytest.approx(3.0, abs=0.1)
            emulator.pulse()
            assert emulator.motor.position_um == pytest.approx(3.0, abs=0.1)

    def test_a_cable_that_comes_back_ends_the_stack(self, tiger):
        emulator = AsiEmulator(tiger=tiger)
        with connected(emulator) as stage:
            stage.begin_scan(scan(5.0, 9))
            emulator.unplug()
            with pytest.raises(StageError):
                stage.position_um()
            emulator.replug()
            stage.reconnect(5.0)
            assert emulator.trigger_mode == 0


def test_a_triggered_stack_through_the_focus_axis():
    emulator = AsiEmulator()
    with connected(emulator, speed_um_s=5000.0) as stage:
        axis = FocusAxis(stage, sign=-1, tolerance_um=0.3, hardware_timed=True)
        axis.move_to(40.0)
        with axis.scanning(scan(5.0, 4)) as heights_um:
            assert heights_um == pytest.approx((32.5, 37.5, 42.5, 47.5))
            for z_um in heights_um:
                emulator.pulse()
                rest(stage)
                assert axis.position_um() == pytest.approx(z_um, abs=0.2)
            emulator.pulse()  # the last picture's
        assert axis.move_to(0.0) == pytest.approx(0.0, abs=0.2)
        assert emulator.motor.position_um == pytest.approx(0.0, abs=0.2)
