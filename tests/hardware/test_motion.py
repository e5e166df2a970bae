import itertools
import math
import threading
import time

import pytest

from hardware.clock import FastClock
from hardware.motion import FocusAxis
from hardware.simulator.stage import SimulatedStage, SimulatedStageSettings
from hardware.stage import StageError, StageLimitError, StageStopped
from models.errors import Cancelled


def build(time_scale=math.inf, stage=None, **axis):
    clock = FastClock(time_scale)
    simulated = SimulatedStage(SimulatedStageSettings(**{"start_um": 0.0, "ringing_um": 0.0, **(stage or {})}), clock)
    return FocusAxis(simulated, clock=clock, **axis), simulated


class TestSampleFrame:
    def test_sign_and_origin(self):
        axis, stage = build(sign=-1, origin_um=100.0)
        assert axis.position_um() == pytest.approx(100.0)
        axis.move_to(30.0)
        assert stage.position_um() == pytest.approx(70.0)
        assert axis.limits_um == pytest.approx((-900.0, 1100.0))


class TestBacklash:
    ZIGZAG = (-20.0, 5.0, -3.0, 40.0, 39.0, -60.0, -10.0)

    def true_errors(self, **axis):
        focus, stage = build(stage={"play_um": 3.0}, **axis)
        errors = []
        for target in self.ZIGZAG:
            focus.move_to(target)
            errors.append(stage.carriage_um() - target)
        return errors

    def test_without_compensation_the_error_is_the_play(self):
        errors = self.true_errors(backlash_um=0.0)
        assert max(errors) - min(errors) == pytest.approx(3.0, abs=0.02)

    @pytest.mark.parametrize("approach", [-1, 1])
    def test_with_compensation_every_position_has_the_same_error(self, approach):
        errors = self.true_errors(backlash_um=5.0, approach=approach)
        assert max(errors) - min(errors) == pytest.approx(0.0, abs=0.02)

    def test_steps_along_the_approach_need_no_run_up(self):
        axis, stage = build(backlash_um=5.0, approach=-1)
        axis.move_to(-20.0)
        started = []
        start = stage.start_move_to
        stage.start_move_to = lambda z: (started.append(z), start(z))[1]
        for z in (-21.0, -22.0, -23.0):
            axis.move_to(z)
        assert started == [-21.0, -22.0, -23.0]

    def test_the_run_up_is_repeated_after_a_stop(self):
        axis, stage = build(backlash_um=5.0, approach=-1)
        axis.move_to(-20.0)
        axis.stop()
        axis.release()
        started = []
        start = stage.start_move_to
        stage.start_move_to = lambda z: (started.append(z), start(z))[1]
        axis.move_to(-21.0)
        assert started == [-16.0, -21.0]


class TestLimits:
    def test_the_run_up_counts(self):
        axis, stage = build(soft_limits_um=(-100.0, 50.0), backlash_um=5.0, approach=-1)
        assert axis.limits_um == (-100.0, 45.0)
        axis.check(45.0)
        axis.check(-100.0)
        for z in (45.1, -100.1, math.nan, math.inf):
            with pytest.raises(StageLimitError, match="Nothing was moved"):
                axis.move_to(z)
        assert stage.position_um() == 0.0

    def test_no_waypoint_ever_leaves_the_soft_limits(self):
        axis, stage = build(soft_limits_um=(-50.0, 50.0), backlash_um=5.0)
        seen = []
        start = stage.start_move_to
        stage.start_move_to = lambda z: (seen.append(z), start(z))[1]
        for z in (45.0, -50.0, 45.0, 44.0, -50.0):
            axis.move_to(z)
        assert min(seen) >= -50.0
        assert max(seen) <= 50.0

    def test_the_limits_themselves_can_be_reached_whatever_the_rounding(self):
        axis, stage = build(origin_um=0.1, stage={"low_um": -0.5, "high_um": 0.3})
        low_um, high_um = axis.limits_um
        for z_um, position_um in ((high_um + 5e-7, 0.3), (low_um - 5e-7, -0.5), (0.2, 0.3)):
            axis.move_to(z_um)
            assert stage.position_um() == position_um
        with pytest.raises(StageLimitError):
            axis.move_to(high_um + 1e-3)

    def test_soft_limits_beyond_the_travel_shrink_to_it(self):
        axis, _stage = build(soft_limits_um=(-5000.0, 5000.0))
        assert axis.limits_um == (-1000.0, 1000.0)

    def test_limits_without_room_are_refused(self):
        with pytest.raises(StageLimitError, match="no room"):
            build(soft_limits_um=(0.0, 3.0), backlash_um=5.0)


class TestSettling:
    def test_a_move_returns_only_when_the_carriage_rests(self):
        axis, stage = build(stage={"play_um": 0.0, "ringing_um": 0.6}, settle_ms=80.0)
        for z in (-100.0, 20.0, 19.0):
            axis.move_to(z)
            assert stage.carriage_um() == pytest.approx(z, abs=0.01)

    def test_by_position_waits_until_the_reading_stays_in_the_window(self):
        axis, stage = build(settle="position", settle_ms=30.0, settle_window_um=0.2)
        begin_s = axis.clock.now()
        read = stage.position_um

        def ringing():  # the encoder of a stage that swings for 0.3 s
            left = max(0.0, 0.3 - (axis.clock.now() - begin_s))
            return read() + 0.9 * math.copysign(left / 0.3, math.sin(300.0 * left))

        stage.position_um = ringing
        axis.move_to(-5.0)
        waited_s = axis.clock.now() - begin_s
        assert waited_s > 0.25, "0.2 of 0.9 µm are left after 0.23 s, and then it must stay there for 0.03 s"
        assert waited_s < 0.4

    def test_by_position_a_stage_that_never_rests_is_reported(self):
        axis, stage = build(settle="position", settle_ms=30.0, settle_window_um=0.2, settle_limit_s=0.5)
        read = stage.position_um
        stage.position_um = lambda: read() + 0.5
        with pytest.raises(StageError, match=r"does not come to rest within 0\.2 µm of -5\.00 µm"):
            axis.move_to(-5.0)

    def test_a_reading_coarser_than_the_step_does_not_spoil_the_height(self):
        axis, _stage = build(stage={"resolution_um": 1.0})
        assert [axis.move_to(z) for z in (-0.5, -1.0, -1.4)] == [-0.5, -1.0, -1.4]


class TestDryRun:
    @pytest.mark.parametrize("approach", [-1, 1])
    def test_foretells_way_time_and_extent_of_the_moves(self, approach):
        axis, stage = build(backlash_um=5.0, approach=approach, settle_ms=20.0, speed_um_s=1000.0)
        heights = [30.0, 20.0, 10.0, 12.0, -40.0]
        travel = axis.dry_run(heights)
        assert stage.position_um() == 0.0
        legs = [0.0]
        start = stage.start_move_to
        stage.start_move_to = lambda z: (legs.append(z), start(z))[1]
        begin_s = axis.clock.now()
        for z in heights:
            axis.move_to(z)
        assert travel.way_um == pytest.approx(sum(abs(b - a) for a, b in itertools.pairwise(legs)), abs=0.1)
        assert (travel.lowest_um, travel.highest_um) == pytest.approx((min(legs), max(legs)))
        # Acceleration is not foretold: 1 m/s per 50 ms and leg, and polling.
        assert travel.seconds == pytest.approx(axis.clock.now() - begin_s, abs=0.07 * len(legs))


class TestReconnect:
    def test_waits_for_the_stage_and_takes_the_play_out_anew(self):
        axis, stage = build(backlash_um=5.0, approach=-1)
        axis.move_to(-20.0)
        stage.fail()
        tries = []

        def reconnect(_timeout_s):
            tries.append(axis.clock.now())
            if len(tries) > 3:
                stage.fail(False)
            stage.position_um()

        stage.reconnect = reconnect
        assert axis.reconnect(10.0) == pytest.approx(-20.0)
        assert len(tries) == 4
        started = []
        start = stage.start_move_to
        stage.start_move_to = lambda z: (started.append(z), start(z))[1]
        axis.move_to(-21.0)
        assert started == [-16.0, -21.0]

    def test_gives_up_when_the_time_is_over(self):
        axis, stage = build()
        stage.fail()
        begin_s = axis.clock.now()
        with pytest.raises(StageError, match="Check its cable"):
            axis.reconnect(3.0)
        assert 3.0 <= axis.clock.now() - begin_s < 4.0


class TestStop:
    def move_in_thread(self, axis, z_um):
        outcome = []

        def run():
            try:
                outcome.append(axis.move_to(z_um))
            except (StageError, Cancelled) as error:
                outcome.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while not axis.is_moving:
            time.sleep(0.001)
        time.sleep(0.1)
        return thread, outcome

    def test_from_another_thread_halts_the_move_and_latches(self):
        axis, stage = build(time_scale=1.0, stage={"speed_um_s": 100.0}, settle_ms=50.0)
        thread, outcome = self.move_in_thread(axis, -500.0)
        axis.stop()
        thread.join(1.0)
        assert not thread.is_alive()
        assert isinstance(outcome[0], StageStopped)
        assert axis.is_stopped
        time.sleep(0.05)
        rest = axis.position_um()
        assert -100.0 < rest < -1.0, "halted on the way"
        assert not stage.is_moving()
        with pytest.raises(StageStopped, match="Release"):
            axis.move_to(0.0)
        assert axis.position_um() == rest
        axis.release()
        assert axis.move_to(rest + 1.0) == pytest.approx(rest + 1.0, abs=0.02)

    def test_does_not_wait_for_a_driver_that_hangs(self):
        axis, stage = build(time_scale=1.0, stage={"speed_um_s": 100.0})
        hanging = threading.Event()
        position = stage.position_um
        stage.position_um = lambda: (hanging.wait(5.0), position())[1]
        thread, _outcome = self.move_in_thread(axis, -200.0)
        stopper = threading.Thread(target=axis.stop)
        stopper.start()
        stopper.join(0.5)
        assert not stopper.is_alive()
        time.sleep(0.05)
        assert not stage.is_moving()
        assert axis.position_um() == 0.0, "the last reading, without waiting"
        hanging.set()
        thread.join(2.0)

    def test_before_a_leg_begins_keeps_it_from_beginning(self):
        axis, stage = build()
        position, started = stage.position_um, []
        stage.position_um = lambda: (axis.stop(), position())[1]  # the button is pressed while the position is read
        stage.start_move_to = started.append
        with pytest.raises(StageStopped):
            axis.move_to(-500.0)
        assert started == []

    def test_in_the_instant_between_check_and_start(self):
        axis, stage = build(time_scale=1.0)
        start = stage.start_move_to

        def start_after_stop(z_um):
            axis.stop()  # the button is pressed just before the command goes out
            start(z_um)

        stage.start_move_to = start_after_stop
        with pytest.raises(StageStopped):
            axis.move_to(-500.0)
        time.sleep(0.05)
        assert not stage.is_moving()
        assert axis.position_um() > -10.0

    def test_a_second_mover_is_refused_at_once(self):
        axis, _stage = build(time_scale=1.0, stage={"speed_um_s": 100.0})
        thread, outcome = self.move_in_thread(axis, -40.0)
        with pytest.raises(StageError, match="already moving"):
            axis.move_to(0.0)
        thread.join(2.0)
        assert outcome == [pytest.approx(-40.0)]

    def test_cancel_halts_without_latching(self):
        axis, stage = build(time_scale=1.0, stage={"speed_um_s": 100.0})
        cancel = threading.Event()
        threading.Timer(0.1, cancel.set).start()
        with pytest.raises(Cancelled):
            axis.move_to(-500.0, cancel)
        time.sleep(0.05)
        assert not stage.is_moving()
        assert not axis.is_stopped

    def test_waiting_for_a_move_costs_almost_no_processor_time(self):
        axis, _stage = build(time_scale=1.0, stage={"speed_um_s": 100.0}, settle_ms=300.0)
        before = time.thread_time()
        axis.move_to(-40.0)
        assert time.thread_time() - before < 0.35 * 0.7, "a busy loop would use all of its 0.7 s"


class TestFaults:
    def test_a_stalled_stage_is_switched_off_and_reported(self):
        axis, stage = build(stall_s=0.5)
        stage.stall()
        with pytest.raises(StageError, match=r"blocked at 0\.00 µm"):
            axis.move_to(-100.0)

    def test_a_missed_target_is_reported(self):
        axis, stage = build()
        start = stage.start_move_to
        stage.start_move_to = lambda z: start(z + 7.0)
        with pytest.raises(StageError, match="instead of"):
            axis.move_to(-100.0)

    def test_a_pulled_plug_is_reported(self):
        axis, stage = build()
        stage.fail()
        with pytest.raises(StageError, match="does not answer"):
            axis.move_to(-100.0)
        assert not axis.is_moving


class TestEarlyEnds:
    def test_a_stop_that_is_released_at_once_still_ends_the_move(self):
        axis, stage = build(time_scale=1.0, stage={"start_um": 60.0}, backlash_um=5.0)
        ended = []

        def move():
            with pytest.raises(StageStopped):
                axis.move_to(-900.0)
            ended.append(stage.position_um())

        thread = threading.Thread(target=move)
        thread.start()
        time.sleep(0.15)
        axis.stop()
        axis.release()
        thread.join(5)
        assert ended
        assert ended[0] > -300.0
        assert axis.move_to(ended[0] - 10.0) == pytest.approx(ended[0] - 10.0, abs=0.02)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, StageError("no answer")])
    def test_whatever_interrupts_a_move_halts_the_stage(self, monkeypatch, error):
        axis, stage = build(time_scale=1.0)
        asked = []

        def is_moving():
            asked.append(True)
            if len(asked) > 3:
                raise error
            return True

        monkeypatch.setattr(stage, "is_moving", is_moving)
        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            axis.move_to(900.0)
        halted_um = stage.position_um()
        time.sleep(0.1)
        assert stage.position_um() == pytest.approx(halted_um, abs=5.0)
        assert halted_um < 500.0
