"""The Zaber driver against the emulated device, and its parser against whatever comes."""

import contextlib
import re
import threading
import time
from typing import ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from hardware.simulator.controllers.zaber import ZaberEmulator
from hardware.stage import StageAlarm, StageError, StageLimitError, StageNoReply, StageStopped, StageUnreferenced
from hardware.stages.zaber import DRIVER, Reply, checksum, identify
from hardware.stages.zaber_words import DOUBTS, FAULTS, REJECTIONS
from tests.hardware.stage_behaviour import Aside, StageBehaviour, rest, wait_until

STEP: dict = {"um_per_full_step": 10.0}


def connected(emulator, **changes):
    section = {"driver": "zaber", "port": emulator.port, "low_um": -400.0, "high_um": 400.0, "timeout_s": 0.4}
    if "um_per_step" not in changes:
        section |= STEP
    return contextlib.closing(DRIVER.open(DRIVER.settings(**{**section, **changes})))


class TestZaber(StageBehaviour):
    driver = DRIVER
    settings: ClassVar = STEP
    stop_bytes = b"/1 1 stop\n"
    homing_command = "/1 1 home"
    alarm_words = "stalled"
    words = (
        *(b"@01 1 OK IDLE -- 5\r\n", b"@01 1 03 OK IDLE -- 5\r\n", b"@01 0 OK IDLE -- 7.34\r\n", b"!01 1 IDLE WR\r\n"),
        *(b"#01 0 hello\r\n", b"@01 1 OK BUSY", b"@01 1 RJ IDLE WR BADDATA\n", b"@01 1 OK IDLE -- nan\r\n"),
        *(b"\x00" * 30, b"/1 1 move abs 100\n"),
    )

    def emulator(self):
        return ZaberEmulator()

    def trip(self, emulator):
        emulator.raise_flag("FS")

    def exchange(self, emulator):
        emulator.device["system.serial"] = "2"


class TestZaberWithoutNumbers(TestZaber):
    """Firmware that knows neither message numbers nor checksums, nor alerts: the line alone keeps replies apart."""

    words = ()

    def emulator(self):
        return ZaberEmulator(modern=False, alerts=False)


class TestZaberHomed(StageBehaviour):
    """0 is where homing ends; the profile reaches from there upwards."""

    driver = DRIVER
    settings: ClassVar = STEP | {"low_um": 0.0, "high_um": 4000.0, "trust_position": False}
    stop_bytes = b"/1 1 stop\n"

    def emulator(self):
        return ZaberEmulator(limits_um=(0.0, 4000.0), checked_replies=True)

    def trip(self, emulator):
        emulator.raise_flag("FS")

    def connect(self, emulator, **changes):
        changes = {**changes, "trust_position": False}
        stage = super().connect(emulator, **changes)
        if not any(command.split(":")[0].endswith("home") for command in emulator.commands):
            speed_um_s = stage.speed_um_s
            stage.home()
            stage.set_speed(20_000.0)
            stage.start_move_to(1500.0)
            rest(stage)
            stage.set_speed(speed_um_s)
        return stage

    def test_connecting_and_identifying_move_nothing(self):
        with self.emulator() as emulator:
            super().connect(emulator).close()
            assert not any("home" in command or "move" in command for command in emulator.commands[:10])

    def test_without_a_reference_moves_are_refused_until_a_person_confirms(self):
        with (
            ZaberEmulator() as emulator,
            connected(emulator) as stage,
            pytest.raises(StageUnreferenced, match="has not been homed"),
        ):
            stage.start_move_by(10.0)


class TestReference:
    def test_homing_gives_it(self):
        with ZaberEmulator(limits_um=(0.0, 4000.0)) as emulator, connected(emulator, low_um=0.0) as stage:
            assert stage.can_home
            assert not stage.is_referenced
            stage.home()
            assert stage.is_referenced
            assert not stage.faults()
            assert stage.position_um() == pytest.approx(0.0)
            assert emulator.motor.position_um == emulator.motor.low_um

    def test_homing_ends_by_a_stop_and_gives_none(self, monkeypatch):
        monkeypatch.setattr("hardware.simulator.controllers.zaber.HOMING_UM_S", 100.0)
        with ZaberEmulator() as emulator, connected(emulator) as stage:
            with Aside(stage.home) as homing:
                wait_until(lambda: emulator.motor.is_moving)
                stage.stop()
            assert homing.raised == [StageStopped]
            assert not emulator.motor.is_moving
            assert not stage.is_referenced

    def test_homing_that_ends_at_an_obstacle_is_told(self):
        with ZaberEmulator() as emulator, connected(emulator) as stage:
            thread = threading.Timer(0.02, emulator.raise_flag, ("FS",))
            thread.start()
            with pytest.raises(StageAlarm, match="stalled"):
                stage.home()
            thread.join()
            assert not stage.is_referenced

    def test_a_confirmed_position_is_told_to_the_controller_without_a_change(self):
        with ZaberEmulator() as emulator, connected(emulator) as stage:
            stage.confirm_position()
            assert emulator.flags == {"WH"}
            assert emulator.microsteps == 0
            assert stage.is_referenced

    def test_a_controller_that_kept_it_vouches_for_it(self):
        with ZaberEmulator() as emulator:
            emulator.flags.clear()
            with connected(emulator) as stage:
                assert stage.is_referenced
                assert not stage.faults()

    def test_nothing_is_written_but_the_speed_on_connect(self):
        with ZaberEmulator() as emulator, connected(emulator):
            written = [c for c in emulator.commands if not any(w in c for w in ("get ", "warnings")) and c != "/"]
            assert len(written) == 1
            assert "set maxspeed" in written[0]
            assert emulator.flags == {"WR"}

    @pytest.mark.parametrize("flag", ["WL", "WM", "WS"])
    def test_is_doubted_after_a_warning_that_says_so(self, flag):
        with ZaberEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            emulator.raise_flag(flag)
            stage.position_um()
            with pytest.raises(StageUnreferenced, match="may stand elsewhere"):
                stage.start_move_by(1.0)
            stage.confirm_position()
            assert not stage.faults()

    def test_a_warning_that_harms_no_position_is_shown_and_goes_away(self):
        with ZaberEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            emulator.raise_flag("WT")
            stage.position_um()
            assert any("hot" in fault for fault in stage.faults())
            assert stage.is_referenced
            emulator.flags.discard("WT")
            stage.position_um()
            assert not stage.faults()

    @pytest.mark.parametrize("flag", sorted(FAULTS))
    def test_every_fault_is_a_sentence_that_says_what_to_do(self, flag):
        with ZaberEmulator() as emulator:
            emulator.flags.add(flag)
            with (
                connected(emulator, trust_position=True) as stage,
                pytest.raises(StageAlarm, match=r"^Zaber .*: .*confirm its position"),
            ):
                stage.start_move_to(1.0)

    def test_a_fault_that_stays_is_not_confirmed_away(self, monkeypatch):
        with ZaberEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            monkeypatch.setattr("hardware.simulator.controllers.zaber.STICKY", {"WR", "WH", "FH"})
            emulator.raise_flag("FH")
            stage.position_um()
            with pytest.raises(StageAlarm, match="emergency stop"):
                stage.confirm_position()
            with pytest.raises(StageAlarm):
                stage.start_move_by(1.0)


class TestChain:
    def test_another_axis_or_address_is_not_there(self):
        with ZaberEmulator(address=7) as emulator:
            with pytest.raises(StageError, match="No Zaber device 1"), connected(emulator):
                pass
            with connected(emulator, address=7) as stage:
                assert "50105" in stage.identity
            with pytest.raises(StageError, match="no such axis"), connected(emulator, address=7, axis="2"):
                pass

    def test_replies_of_others_count_for_nothing(self):
        with ZaberEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            done = threading.Event()

            def chatter():
                while not done.wait(0.001):
                    emulator.noise(b"@02 1 OK BUSY -- 777\r\n@01 2 03 OK BUSY FS 888\r\n!02 1 IDLE FS\r\n#01 1 999\r\n")

            thread = threading.Thread(target=chatter)
            thread.start()
            try:
                for _repetition in range(50):
                    assert stage.position_um() == 0.0
                    assert not stage.is_moving()
            finally:
                done.set()
                thread.join()
            assert not stage.faults()

    def test_identification_names_every_device(self):
        class Line:
            replies: ClassVar = {"device.id": "50105", "version": "7.34", "system.serial": "99"}

            def ask(self, command, accept, **_options):
                if command == "/":
                    return "@02 0 OK IDLE WR 0"
                address, _axis, _get, setting = command[1:].split()
                answer = f"@{int(address):02d} 0 OK IDLE WR {self.replies[setting]}"
                assert accept(answer)
                return answer

            def listen(self, _seconds):
                return ["@01 0 OK IDLE -- 0", "garbage"]

        words = identify(Line())
        assert words == "; ".join(["Zaber 50105, firmware 7.34, serial number 99"] * 2)


class TestSettings:
    def test_the_size_of_a_step_is_needed_once(self):
        section = {"driver": "zaber", "port": "COM3", "low_um": 0.0, "high_um": 1.0}
        for steps in ({}, {"um_per_step": 1.0, "um_per_full_step": 1.0}):
            with pytest.raises(ValidationError, match="um_per_full_step"):
                DRIVER.settings(**section, **steps)

    @pytest.mark.parametrize("resolution", [16, 128])
    def test_the_resolution_of_the_controller_is_asked_for(self, resolution):
        with (
            ZaberEmulator(resolution=resolution) as emulator,
            connected(emulator, trust_position=True) as stage,
        ):
            stage.start_move_to(100.0)
            assert rest(stage) == pytest.approx(100.0, abs=0.5)
            assert emulator.motor.position_um == pytest.approx(100.0, abs=0.5)

    def test_limits_shrink_to_those_of_the_controller(self):
        with ZaberEmulator(limits_um=(0.0, 300.0)) as emulator:
            with connected(emulator) as stage:
                assert stage.limits_um == (0.0, 300.0)
            with pytest.raises(StageLimitError, match="no room"), connected(emulator, low_um=301.0):
                pass

    def test_a_speed_beyond_the_controller_is_told_and_the_old_one_stays(self):
        with ZaberEmulator() as emulator, connected(emulator) as stage:
            before = emulator.settings["maxspeed"]
            with pytest.raises(StageError, match="cannot go at"):
                stage.set_speed(1e9)
            assert emulator.settings["maxspeed"] == before
            assert stage.speed_um_s == 1000.0

    def test_the_speed_is_written_only_where_it_changes(self):
        with ZaberEmulator() as emulator, connected(emulator) as stage:
            emulator.commands.clear()
            stage.set_speed(stage.speed_um_s)
            assert not any("set maxspeed" in command for command in emulator.commands)


class TestFaults:
    def test_firmware_without_message_numbers_and_checksums(self):
        with (
            ZaberEmulator(modern=False, alerts=False) as emulator,
            connected(emulator, um_per_step=0.15625, trust_position=True) as stage,
        ):
            stage.start_move_to(200.0)
            assert rest(stage) == pytest.approx(200.0, abs=0.2)
            assert emulator.motor.position_um == pytest.approx(200.0, abs=0.2)
            stage.set_speed(50.0)
            stage.start_move_by(-100.0)
            stage.stop()
            wait_until(lambda: not emulator.motor.is_moving, 1.0)
            assert stage.position_um() > 150.0

    @pytest.mark.parametrize("modern", [False, True])
    def test_numbers_are_used_where_they_are_known_and_only_there(self, modern):
        with ZaberEmulator(modern=modern) as emulator, connected(emulator, trust_position=True) as stage:
            emulator.commands.clear()
            stage.start_move_by(1.0)
            assert [bool(re.search(r":[0-9A-F]{2}$", command)) for command in emulator.commands] == [modern] * len(
                emulator.commands
            )

    def test_lost_replies_do_not_pass_for_old_firmware(self):
        """Without numbers and checksums a torn command would move."""

        class Forgetful(ZaberEmulator):
            def handle_line(self, line):
                if " 00 get pos" not in line:
                    super().handle_line(line)

        with Forgetful() as emulator, pytest.raises(StageNoReply), connected(emulator):
            pass

    def test_a_torn_command_moves_nothing(self):
        with ZaberEmulator() as emulator, connected(emulator, trust_position=True):
            with emulator.lock:
                emulator.handle_line("/1 1 42 move abs 10" + ":" + checksum("1 1 42 move abs 1000"))
            assert not emulator.motor.is_moving

    def test_refusals_are_sentences(self):
        with ZaberEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            emulator.settings["limit.max"] = 10
            with pytest.raises(StageLimitError, match="Nothing was moved"):
                stage.start_move_to(300.0)
            emulator.flags.add("FD")
            with pytest.raises(StageError, match="motor driver is off"):
                stage.start_move_to(1.0)
            assert emulator.motor.position_um == 0.0

    def test_an_alert_of_a_fault_is_heard_between_commands(self):
        with ZaberEmulator() as emulator, connected(emulator, trust_position=True) as stage:
            emulator.noise(b"!01 1 IDLE FH\r\n")
            time.sleep(0.05)
            stage.position_um()
            assert any("emergency stop" in fault for fault in stage.faults())

    def test_words_are_there_for_every_code(self):
        assert {"BADCOMMAND", "BADDATA", "BADAXIS", "DRIVERDISABLED"} <= set(REJECTIONS)
        assert {"FS", "WL", "WS", "WM"} == set(DOUBTS)


class TestParser:
    @given(st.text())
    @example("@01 1 OK IDLE -- ")
    def test_takes_any_text(self, line):
        reply = Reply.parse(line)
        assert reply is None or line.startswith("@")

    @given(
        st.integers(1, 99), st.integers(0, 9), st.none() | st.integers(0, 99), st.booleans(), st.booleans(),
        st.sampled_from(["--", "WR", "FS", "NI"]), st.integers(-(2**31), 2**31 - 1), st.booleans(),
    )  # fmt: skip
    def test_reads_every_reply(self, address, axis, message, accepted, busy, flag, data, checked):
        tag = "" if message is None else f" {message:02d}"
        body = f"{address:02d} {axis}{tag} {'OK' if accepted else 'RJ'} {'BUSY' if busy else 'IDLE'} {flag} {data}"
        line = f"@{body}:{checksum(body)}" if checked else f"@{body}"
        assert Reply.parse(line) == Reply(address, axis, message, accepted, busy, flag, str(data))

    def test_the_checksum_makes_the_sum_zero(self):
        body = "01 0 OK IDLE -- 0"
        assert (sum(body.encode()) + int(checksum(body), 16)) % 256 == 0

    @pytest.mark.parametrize(
        "line",
        [
            "@01 1 OK IDLE -- 12:00",
            "@01 1 OK IDLE --",
            "01 1 OK IDLE -- 12",
            "@01 1 OK IDLE@01 1 OK IDLE -- 12",
            "@01 1 OK IDEL -- 12",
            "!01 1 IDLE --",
            "#01 1 12",
            "@1 1 OK IDLE -- 12",
        ],
    )
    def test_believes_no_torn_reply(self, line):
        assert Reply.parse(line) is None
