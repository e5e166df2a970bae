"""Pulled cables, resets and bad lines."""

import contextlib
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.stage import (
    StageAlarm,
    StageDisconnected,
    StageError,
    StageNoReply,
    StageUnreferenced,
)
from tests.hardware.stage_table import PATIENCE_S, Aside, StageTable, identified, rest, wait_until

FUZZ_EXAMPLES = 15
"""Each costs a real wait or two; they are drawn anew every time."""


class Lines(StageTable):
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

    @pytest.mark.parametrize("way_um", [200.0, 3.0])
    def test_a_reset_at_rest_is_noticed_before_the_next_move(self, way_um):
        if not self.loses_position_by_reset:
            pytest.skip("the controller keeps its position")
        with self.opened() as (stage, emulator):
            stage.start_move_by(way_um)
            rest(stage)
            emulator.reset()
            time.sleep(0.05)
            with contextlib.suppress(StageError):
                stage.position_um()
            with pytest.raises((StageUnreferenced, StageAlarm)):
                stage.start_move_by(-1.0)
            assert not emulator.motor.is_moving

    def test_another_controller_on_the_cable_is_refused_before_it_is_told_anything(self):
        with self.opened() as (stage, emulator):
            known = stage.identity
            emulator.unplug()
            with pytest.raises(StageDisconnected):
                stage.position_um()
            self.exchange(emulator)
            emulator.replug()
            emulator.commands.clear()
            with pytest.raises(StageError, match="Another controller"):
                stage.reconnect(0.3)
            assert "Another controller" in stage.faults()[0]
            assert stage.identity == known
            told = set(emulator.commands)
            emulator.commands.clear()
            stage.close()
            identified(self.driver, emulator)
            sync = self.driver.line_format.sync
            assert told <= {*emulator.commands, sync[0] if sync is not None else ""}

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
            with Aside(stage.position_um) as asking:
                time.sleep(0.05)
                stage.close()
            assert len(asking.raised) == 1
            with pytest.raises(StageDisconnected):
                stage.position_um()

    def test_garbage_between_commands(self):
        with self.opened() as (stage, emulator):
            here_um = stage.position_um()
            for _repetition in range(3):
                emulator.noise(self.noise)
                time.sleep(0.03)
                assert stage.position_um() == pytest.approx(here_um, abs=self.tolerance_um)
            stage.start_move_to(here_um + 10.0)
            assert rest(stage) == pytest.approx(here_um + 10.0, abs=self.tolerance_um)

    def test_no_bytes_make_the_driver_hang_crash_or_move(self):
        if not self.words:
            pytest.skip("tried with another variant of this protocol")
        noise = st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(self.words)), max_size=6).map(b"".join)
        with self.opened(trust_position=False, timeout_s=0.1) as (stage, emulator):
            before_um = emulator.motor.position_um

            @settings(deadline=None, max_examples=FUZZ_EXAMPLES)
            @given(data=noise)
            def feed(data):
                emulator.noise(data)
                began_s = time.monotonic()
                for call in (stage.position_um, stage.is_moving, stage.faults, lambda: stage.start_move_by(100.0)):
                    with contextlib.suppress(StageError):
                        call()
                assert time.monotonic() - began_s < PATIENCE_S
                assert emulator.motor.position_um == before_um
                assert not emulator.motor.is_moving

            feed()

    def test_a_stream_of_garbage_ends_in_a_sentence(self, monkeypatch):
        monkeypatch.setattr("hardware.line.RESYNC_S", 0.3)
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

    @pytest.mark.parametrize("late_s", [0.45, 0.6])
    def test_a_late_reply_never_counts_for_the_next_command(self, late_s):
        with self.opened(timeout_s=0.15) as (stage, emulator):
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
