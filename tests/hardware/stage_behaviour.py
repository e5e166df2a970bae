"""What every serial stage must do, run against its emulator: one class per driver inherits this table.

A driver's test gives ``driver`` and ``emulator()``; the flags say what its protocol has. Everything is real bytes
over a pseudo-terminal.
"""

import contextlib
import threading
import time
from typing import Any, ClassVar

import pytest

from hardware.autofocus import autofocus
from hardware.motion import FocusAxis
from hardware.recognition import identify_port
from hardware.simulator.controllers.emulator import Emulator
from hardware.stage import (
    StageAlarm,
    StageDisconnected,
    StageError,
    StageLimitError,
    StageNoReply,
    StagePortBusy,
    StageStopped,
    StageUnreferenced,
)
from hardware.stages.driver import SerialStage, StageDriver
from hardware.stages.registry import DRIVERS
from tests.hardware.height_camera import FocusCamera

STOP_LIMIT_S = 0.05
PATIENCE_S = 10.0


def wait_until(condition, timeout_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.002)


def rest(stage) -> float:
    wait_until(lambda: not stage.is_moving())
    return stage.position_um()


class StageBehaviour:
    driver: ClassVar[StageDriver]
    settings: ClassVar[dict[str, Any]] = {}
    """More of the profile's section [stage]."""
    stop_bytes: ClassVar[bytes]
    """What STOP looks like on the line while a move is under way."""
    homing_command: ClassVar[str | None] = None
    tolerance_um: ClassVar[float] = 0.5
    unreferenced_at_power_up: ClassVar[bool] = True
    loses_position_by_reset: ClassVar[bool] = True
    echoes: ClassVar[bool] = True
    """The protocol can be told from its own echo."""
    noise: ClassVar[bytes] = b"\x00\xff\xfe~~garbage\x80\r\n}{\r\n"

    def emulator(self) -> Emulator:
        """A controller that was just switched on, 0 um, at least 500 um of way to both sides."""
        raise NotImplementedError

    def trip(self, emulator: Emulator) -> None:
        """Bring about an alarm, if the protocol has any, as a limit switch does."""
        pytest.skip("this protocol has no alarm")

    @contextlib.contextmanager
    def opened(self, **changes):
        with self.emulator() as emulator, contextlib.closing(self.connect(emulator, **changes)) as stage:
            yield stage, emulator

    def connect(self, emulator: Emulator, **changes) -> SerialStage:
        section = {"port": emulator.port, "low_um": -400.0, "high_um": 400.0, "speed_um_s": 1000.0}
        section |= {"driver": self.driver.name, "timeout_s": 0.4, "trust_position": True}
        return self.driver.open(self.driver.settings(**{**section, **self.settings, **changes}))

    # -- identify

    def test_is_registered_and_recognised_on_a_port(self):
        assert DRIVERS[self.driver.name] is self.driver
        with self.emulator() as emulator:
            found = identify_port(emulator.port, [self.driver])
            assert found is not None
            assert found.driver is self.driver
            assert found.identity
            with contextlib.closing(self.connect(emulator)) as stage:
                assert stage.identity == found.identity
                assert emulator.port in stage.name

    def test_connecting_and_identifying_move_nothing(self):
        with self.emulator() as emulator:
            before_um = emulator.motor.position_um
            identify_port(emulator.port, [self.driver])
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

    # -- moves

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
                stage.start_move_by(-150.0)
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

    # -- limits and reference

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
            with pytest.raises((StageAlarm, StageUnreferenced), match=r"[a-z]{4}"):
                rest(stage)
            assert stage.faults()
            with pytest.raises((StageAlarm, StageUnreferenced)):
                stage.start_move_by(1.0)
            assert not emulator.motor.is_moving
            stage.confirm_position()
            assert not stage.faults()

    # -- stop

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
            asked = threading.Event()

            def ask():
                asked.set()
                with contextlib.suppress(StageError):
                    stage.is_moving()

            thread = threading.Thread(target=ask)
            thread.start()
            asked.wait()
            time.sleep(0.05)
            began_s = time.monotonic()
            stage.stop()
            assert time.monotonic() - began_s < STOP_LIMIT_S
            assert emulator.wait_for(self.stop_bytes) - began_s < STOP_LIMIT_S
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

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
            outcome = []

            def move():
                try:
                    axis.move_by(300.0)
                except StageError as error:
                    outcome.append(error)

            thread = threading.Thread(target=move)
            thread.start()
            wait_until(lambda: emulator.motor.is_moving)
            axis.stop()
            thread.join(PATIENCE_S)
            assert [type(error) for error in outcome] == [StageStopped]
            wait_until(lambda: not emulator.motor.is_moving, 1.0)

    def test_stop_as_homing_begins_prevents_it(self):
        """After an earlier STOP the line first gets back in step: a second one then must not be overtaken."""
        if self.homing_command is None:
            pytest.skip("not given for this protocol")
        with self.opened() as (stage, emulator):
            stage.stop()
            raised = []

            def home():
                try:
                    stage.home()
                except StageError as error:
                    raised.append(type(error))

            emulator.commands.clear()
            emulator.delay_next_s = 0.15
            thread = threading.Thread(target=home)
            thread.start()
            sync = stage._line._format.sync[0]
            wait_until(lambda: sync in emulator.commands)
            stage.stop()
            thread.join(PATIENCE_S)
            assert raised == [StageStopped]
            assert self.homing_command not in emulator.commands
            assert not stage.is_referenced

    # -- the cable

    def test_a_pulled_cable_is_told_and_comes_back(self):
        with self.opened() as (stage, emulator):
            stage.start_move_by(40.0)
            here_um = rest(stage)
            emulator.unplug()
            with pytest.raises(StageDisconnected, match="cable"):
                rest(stage)
            assert stage.faults()
            emulator.replug()
            stage.reconnect(PATIENCE_S)
            assert stage.position_um() == pytest.approx(here_um, abs=self.tolerance_um)
            assert not stage.faults()
            stage.start_move_to(here_um + 10.0)
            assert rest(stage) == pytest.approx(here_um + 10.0, abs=self.tolerance_um)

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

    def test_a_reset_while_unplugged_is_noticed(self):
        if not self.loses_position_by_reset:
            pytest.skip("the controller keeps its position")
        with self.opened() as (stage, emulator):
            stage.start_move_by(40.0)
            rest(stage)
            emulator.unplug()
            with pytest.raises(StageDisconnected):
                rest(stage)
            emulator.replug(reset=True)
            stage.reconnect(PATIENCE_S)
            with pytest.raises((StageUnreferenced, StageAlarm)):
                stage.start_move_by(1.0)

    def test_a_reset_in_motion_is_noticed_and_nothing_goes_on(self):
        if not self.loses_position_by_reset:
            pytest.skip("the controller keeps its position")
        with self.opened(speed_um_s=200.0) as (stage, emulator):
            stage.start_move_by(300.0)
            time.sleep(0.1)
            emulator.reset()
            with pytest.raises(StageError, match=r"[a-z]{4}"):
                rest(stage)
            assert not emulator.motor.is_moving
            with pytest.raises((StageUnreferenced, StageAlarm)):
                stage.start_move_by(1.0)

    def test_close_while_another_thread_waits_for_a_reply(self):
        with self.opened() as (stage, emulator):
            emulator.mute = True
            raised = []

            def ask():
                try:
                    stage.position_um()
                except StageError as error:
                    raised.append(error)

            thread = threading.Thread(target=ask)
            thread.start()
            time.sleep(0.05)
            stage.close()
            thread.join(PATIENCE_S)
            assert len(raised) == 1
            with pytest.raises(StageDisconnected):
                stage.position_um()

    # -- a bad line

    def test_garbage_between_commands(self):
        with self.opened() as (stage, emulator):
            here_um = stage.position_um()
            for _repetition in range(3):
                emulator.noise(self.noise)
                time.sleep(0.03)
                assert stage.position_um() == pytest.approx(here_um, abs=self.tolerance_um)
            stage.start_move_to(here_um + 10.0)
            assert rest(stage) == pytest.approx(here_um + 10.0, abs=self.tolerance_um)

    def test_a_stream_of_garbage_ends_in_a_sentence(self):
        with self.opened() as (stage, emulator):
            streaming = threading.Event()

            def stream():
                while not streaming.wait(0.002):
                    emulator.noise(b"\xffU\x00~" * 20 + b"\r\n")

            thread = threading.Thread(target=stream)
            emulator.mute = True
            thread.start()
            try:
                with pytest.raises(StageNoReply, match=r"[a-z]{4}"):
                    stage.position_um()
            finally:
                streaming.set()
                thread.join()

    def test_half_a_line(self):
        with self.opened() as (stage, emulator):
            here_um = stage.position_um()
            time.sleep(0.05)
            emulator.halve_next = 1
            assert stage.position_um() == pytest.approx(here_um, abs=self.tolerance_um)
            stage.start_move_to(here_um + 10.0)
            assert rest(stage) == pytest.approx(here_um + 10.0, abs=self.tolerance_um)

    def test_a_lost_reply_to_a_query(self):
        with self.opened() as (stage, emulator):
            here_um = stage.position_um()
            time.sleep(0.05)
            emulator.drop_next = 1
            assert stage.position_um() == pytest.approx(here_um, abs=self.tolerance_um)

    @pytest.mark.parametrize("late_s", [1.2, 1.6])
    def test_a_late_reply_never_counts_for_the_next_command(self, late_s):
        with self.opened() as (stage, emulator):
            here_um = stage.position_um()
            time.sleep(0.05)
            emulator.delay_next_s = late_s
            with contextlib.suppress(StageError):
                stage.start_move_to(here_um + 20.0)
            wait_until(lambda: not emulator.motor.is_moving)

            def answers() -> bool:
                try:
                    return not stage.is_moving()
                except StageNoReply:
                    return False

            wait_until(answers)
            for step_um in (30.0, 40.0):
                assert abs(stage.position_um() - here_um) == pytest.approx(step_um - 10.0, abs=self.tolerance_um)
                stage.start_move_to(here_um + step_um)
                assert rest(stage) == pytest.approx(here_um + step_um, abs=self.tolerance_um)

    def test_echo(self):
        if not self.echoes:
            pytest.skip("an echo cannot be told from a reply")
        with self.opened() as (stage, emulator):
            emulator.echo = True
            here_um = stage.position_um()
            stage.start_move_to(here_um + 10.0)
            assert rest(stage) == pytest.approx(here_um + 10.0, abs=self.tolerance_um)

    def test_a_silent_controller_ends_in_a_sentence_and_a_pulled_plug_does_not_hang_close(self):
        with self.opened() as (stage, emulator):
            emulator.mute = True
            with pytest.raises(StageNoReply, match="power"):
                stage.position_um()
            emulator.unplug()

    def test_a_stalled_stage_is_reported(self):
        with self.opened() as (stage, emulator):
            axis = FocusAxis(stage, stall_s=0.3)
            emulator.stall()
            with pytest.raises(StageError, match=r"blocked|stall|instead of"):
                axis.move_by(100.0)

    # -- with a camera

    def test_software_autofocus_finds_the_focus(self):
        with self.opened() as (stage, emulator):
            axis = FocusAxis(stage, tolerance_um=2.0)
            start_um, motor_um = axis.position_um(), emulator.motor.position_um
            camera = FocusCamera(lambda: emulator.motor.position_um - motor_um, plane_um=7.0)
            result = autofocus(axis, camera, start_um - 20.0, start_um + 20.0, step_um=2.0)
            assert result.trusted
            assert result.z_um == pytest.approx(start_um + 7.0, abs=1.0)
            assert emulator.motor.position_um == pytest.approx(motor_um + 7.0, abs=1.0)

    # -- STOP, measured

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
