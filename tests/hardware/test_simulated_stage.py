import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.clock import FastClock
from hardware.simulator.stage import Ramp, SimulatedStage, SimulatedStageSettings
from hardware.stage import StageError, StageLimitError

SPEED, ACCELERATION = 1000.0, 20000.0


def stage_and_clock(**settings):
    clock = FastClock(float("inf"))
    return SimulatedStage(SimulatedStageSettings(start_um=0.0, **settings), clock), clock


def wait_until_there(stage, clock):
    while stage.is_moving():
        clock.wait(0.001)


@given(st.floats(-500, 500), st.floats(-500, 500))
def test_a_ramp_starts_and_ends_where_it_should_within_speed_and_acceleration(start_um, end_um):
    ramp = Ramp.between(0.0, start_um, end_um, SPEED, ACCELERATION)
    assert ramp.at(0.0)[0] == pytest.approx(start_um)
    assert ramp.at(ramp.end_s)[0] == pytest.approx(end_um)
    times = [ramp.end_s * i / 200 for i in range(201)]
    speeds = [ramp.at(t)[1] for t in times]
    assert max(abs(v) for v in speeds) <= SPEED * (1 + 1e-9)
    dt = ramp.end_s / 200 or 1.0
    for before, after in itertools.pairwise(speeds):
        assert abs(after - before) <= ACCELERATION * dt * (1 + 1e-6) + 1e-9


def test_long_moves_run_at_the_set_speed():
    ramp = Ramp.between(0.0, 0.0, 1000.0, SPEED, ACCELERATION)
    assert ramp.end_s == pytest.approx(1000.0 / SPEED + SPEED / ACCELERATION)


def test_upward_moves_leave_the_carriage_behind_by_the_play():
    stage, clock = stage_and_clock(play_um=3.0, ringing_um=0.0)
    stage.start_move_to(-50.0)
    wait_until_there(stage, clock)
    assert stage.carriage_um() == pytest.approx(-50.0)
    stage.start_move_to(-48.0)
    wait_until_there(stage, clock)
    assert stage.carriage_um() == pytest.approx(-50.0), "within the play nothing follows"
    stage.start_move_to(0.0)
    wait_until_there(stage, clock)
    assert stage.carriage_um() == pytest.approx(-3.0)
    assert stage.position_um() == pytest.approx(0.0), "the motor does not know"


def test_rings_after_a_stop_and_comes_to_rest():
    stage, clock = stage_and_clock(play_um=0.0, ringing_um=0.6, ringing_decay_ms=15.0)
    stage.start_move_to(-200.0)
    wait_until_there(stage, clock)
    swing = []
    for _ in range(30):
        swing.append(abs(stage.carriage_um() + 200.0))
        clock.wait(0.001)
    assert max(swing) > 0.2
    clock.wait(0.2)
    assert stage.carriage_um() == pytest.approx(-200.0, abs=1e-3)


def test_stop_brakes_within_the_braking_distance():
    stage, clock = stage_and_clock(stop_acceleration_um_s2=100000.0)
    stage.start_move_to(500.0)
    clock.wait(0.2)
    at_stop = stage.position_um()
    stage.stop()
    wait_until_there(stage, clock)
    braking_um = SPEED**2 / (2 * 100000.0)
    assert at_stop < stage.position_um() <= at_stop + braking_um + 0.1


def test_refuses_targets_outside_its_travel_and_stays():
    stage, _clock = stage_and_clock(low_um=-100, high_um=100)
    with pytest.raises(StageLimitError, match="100"):
        stage.start_move_to(100.5)
    assert not stage.is_moving()


def test_drifts_with_time():
    stage, clock = stage_and_clock(drift_um_per_min=2.0)
    clock.wait(30.0)
    assert stage.carriage_um() == pytest.approx(1.0, abs=1e-6)
    assert stage.position_um() == 0.0


def test_a_dead_stage_raises_a_sentence():
    stage, _clock = stage_and_clock()
    stage.fail()
    with pytest.raises(StageError, match="cable"):
        stage.position_um()


def test_a_fast_clock_wakes_waiters():
    clock, wake = FastClock(10.0), threading.Event()
    threading.Timer(0.02, wake.set).start()
    assert clock.wait(100.0, wake)
    assert not FastClock(1000.0).wait(0.5)
