"""The GRBL driver against the emulated controller, and its parser against whatever comes."""

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.motion import FocusAxis
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stage import StageAlarm, StageError, StageLimitError, StageStopped, StageUnreferenced
from hardware.stages.grbl import DRIVER
from hardware.stages.grbl_words import ALARMS, ERRORS, Status
from tests.hardware.stage_behaviour import Aside, StageBehaviour, rest, wait_until


@pytest.fixture(autouse=True, scope="module")
def quick_boot():
    """The emulated board does not reset when its port is opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hardware.stages.grbl.BOOT_S", 0.2)
        yield


class TestGrbl(StageBehaviour):
    driver = DRIVER
    stop_bytes = b"\x85"
    alarm_words = "limit switch"
    words = (
        *(b"ok\r\n", b"error:9\r\n", b"ALARM:1\r\n", b"<Idle|MPos:1,2,3>\r\n", b"[GC:]\r\n", b"<Jog|MPos:", b"$110="),
        *(b"Grbl 1.1h ['$' for help]\r\n", b"[MSG:Reset to continue]\r\n", b"\x00" * 30),
    )

    def emulator(self):
        return GrblEmulator(hard_limits=True)

    def exchange(self, emulator):
        emulator.name = "another"

    def trip(self, emulator):
        with emulator.lock:
            emulator.motor.low_um = emulator.motor.position_um


class TestGrblHalWithHoming(StageBehaviour):
    """Machine zero at the top, soft limits; it starts locked."""

    driver = DRIVER
    stop_bytes = b"\x85"
    homing_command = "$HZ"
    settings: ClassVar = {"low_um": -3000.0, "high_um": 0.0}

    def emulator(self):
        return GrblEmulator(
            firmware="grblHAL", homing=True, soft_limits=True, hard_limits=True, travel_um=4000.0, above_um=3000.0
        )

    def connect(self, emulator, **changes):
        stage = super().connect(emulator, **changes)
        if changes.get("trust_position", True) and not emulator.commands.count("$HZ"):
            speed_um_s = stage.speed_um_s
            stage.home()
            stage.set_speed(5000.0)
            stage.start_move_to(-1500.0)
            rest(stage)
            stage.set_speed(speed_um_s)
        return stage

    def trip(self, emulator):
        with emulator.lock:
            emulator.motor.low_um = emulator.motor.position_um

    def test_connecting_and_identifying_move_nothing(self):
        with self.emulator() as emulator:
            super().connect(emulator).close()
            assert not any(command.startswith("$H") for command in emulator.commands)
            assert not any(command.startswith("$J") for command in emulator.commands)

    def test_two_programs_on_one_port(self):
        with self.opened() as (_stage, emulator), pytest.raises(StageError, match="another program"):
            super().connect(emulator)


class TestHoming:
    def connect(self, emulator, **changes):
        section = {"driver": "grbl", "port": emulator.port, "low_um": -3000.0, "high_um": 0.0, "timeout_s": 0.4}
        return DRIVER.open(DRIVER.settings(**{**section, **changes}))

    def test_gives_the_reference(self):
        with GrblEmulator(homing=True) as emulator:
            stage = self.connect(emulator)
            assert stage.can_home
            with pytest.raises(StageAlarm, match="home"):
                stage.start_move_to(-100.0)
            stage.home()
            assert stage.is_referenced
            assert not stage.faults()
            assert stage.position_um() == pytest.approx(-200.0)
            stage.close()

    def test_moves_no_other_axis(self):
        with GrblEmulator(homing=True) as emulator:
            stage = self.connect(emulator)
            stage.home()
            assert "$HZ" in emulator.commands
            assert "$H" not in emulator.commands
            stage.close()

    def test_of_all_axes_at_once_needs_the_word_of_the_profile(self):
        with GrblEmulator(homing=True, single_axis_homing=False) as emulator:
            stage = self.connect(emulator)
            with pytest.raises(StageError, match="all its axes at once"):
                stage.home()
            assert not any(command.startswith("$H") for command in emulator.commands)
            stage.confirm_position()
            with pytest.raises(StageError, match="all its axes at once"):
                stage.home()
            assert stage.is_referenced, "nothing has moved"
            stage.close()
            stage = self.connect(emulator, home_all_axes=True)
            stage.home()
            assert stage.is_referenced
            assert "$HZ" not in emulator.commands
            stage.close()

    def test_is_refused_where_it_is_switched_off(self):
        with GrblEmulator() as emulator:
            stage = self.connect(emulator)
            with pytest.raises(StageError, match="no reference"):
                stage.home()
            assert not any(command.startswith("$H") for command in emulator.commands)
            stage.close()

    def test_runs_under_the_focus_axis(self):
        with GrblEmulator(homing=True) as emulator:
            axis = FocusAxis(self.connect(emulator), backlash_um=20.0, tolerance_um=1.0)
            assert axis.can_home
            assert not axis.is_referenced
            assert "home" in axis.faults()[0]
            assert axis.home() == pytest.approx(-200.0)
            assert axis.is_referenced
            assert not axis.faults()
            assert axis.move_to(-300.0) == pytest.approx(-300.0, abs=0.5)
            axis.close()

    def test_a_person_may_confirm_the_position_instead(self):
        with GrblEmulator(homing=True) as emulator:
            axis = FocusAxis(self.connect(emulator), tolerance_um=1.0)
            with pytest.raises(StageError, match="confirm"):
                axis.move_to(-10.0)
            axis.confirm_position()
            assert axis.move_to(-10.0) == pytest.approx(-10.0, abs=0.5)
            assert not any(command.startswith("$H") for command in emulator.commands)
            axis.close()

    def test_ends_at_once_by_a_stop(self, monkeypatch):
        monkeypatch.setattr("hardware.simulator.controllers.grbl.HOMING_S", 60.0)
        with GrblEmulator(homing=True) as emulator:
            stage = self.connect(emulator)
            with Aside(stage.home) as homing:
                wait_until(lambda: emulator.state == "Home")
                stage.stop()
            assert len(homing.raised) == 1
            assert homing.raised[0] in (StageAlarm, StageStopped)
            assert emulator.state == "Alarm"
            assert not stage.is_referenced
            stage.close()

    def test_limits_shrink_to_the_travel_of_the_controller(self):
        with GrblEmulator(homing=True, soft_limits=True, travel_um=2000.0) as emulator:
            stage = self.connect(emulator, low_um=-5000.0, high_um=5000.0)
            assert stage.limits_um == (-2000.0, 0.0)
            stage.close()
            with pytest.raises(StageLimitError, match="no room"):
                self.connect(emulator, low_um=10.0, high_um=500.0)


class TestReports:
    def connect(self, emulator, **changes):
        section = {"driver": "grbl", "port": emulator.port, "low_um": -400.0, "high_um": 400.0, "trust_position": True}
        return DRIVER.open(DRIVER.settings(**{**section, **changes}))

    @pytest.mark.parametrize("inches", [False, True])
    @pytest.mark.parametrize("mask", [0, 1])
    def test_machine_position_from_every_kind_of_report(self, mask, inches):
        with GrblEmulator(report_mask=mask, inches=inches) as emulator:
            emulator.work_offset_mm = 1.25
            stage = self.connect(emulator)
            assert stage.position_um() == pytest.approx(0.0, abs=2.6)
            stage.start_move_to(250.0)
            assert rest(stage) == pytest.approx(250.0, abs=2.6)
            assert emulator.motor.position_um == pytest.approx(250.0)
            stage.close()

    def test_the_speed_is_the_controllers_at_most(self):
        with GrblEmulator() as emulator:
            stage = self.connect(emulator, speed_um_s=50_000.0)
            assert stage.speed_um_s == pytest.approx(5000.0)
            with pytest.raises(StageError, match=r"16\.6667 and 5000"):
                stage.set_speed(6000.0)
            stage.close()

    def test_no_speed_is_told_that_it_does_not_go(self):
        """It makes 1 mm/min of everything slower."""
        with GrblEmulator() as emulator:
            stage = self.connect(emulator, speed_um_s=5.0)
            assert stage.speed_um_s == pytest.approx(1000.0 / 60.0)
            with pytest.raises(StageError, match=r"16\.6667 and 5000"):
                stage.set_speed(10.0)
            stage.start_move_to(1.0)
            assert emulator.motor.speed_um_s == pytest.approx(stage.speed_um_s)
            stage.close()

    @pytest.mark.parametrize(("inches", "grain_um"), [(False, 1.0), (True, 2.54)])
    def test_within_half_a_grain_the_target_is_recorded(self, inches, grain_um):
        """Moves are finer than the position is told."""
        with GrblEmulator(inches=inches) as emulator:
            axis = FocusAxis(self.connect(emulator), tolerance_um=3.0)
            for target_um in (100.4, 100.8, 101.23, -7.77):
                assert axis.move_to(target_um) == pytest.approx(target_um, abs=1e-9)
                assert abs(axis.position_um() - target_um) <= grain_um / 2 + 0.01
                assert emulator.motor.position_um == pytest.approx(target_um, abs=0.051)
            axis.close()

    def test_a_limit_alarm_is_ended_by_a_reset_and_only_on_request(self):
        with GrblEmulator(hard_limits=True) as emulator:
            stage = self.connect(emulator)
            stage.start_move_by(-300.0)
            with emulator.lock:
                emulator.motor.low_um = emulator.motor.position_um
            with pytest.raises((StageAlarm, StageUnreferenced), match="limit switch"):
                rest(stage)
            assert not any(b"\x18" in data for _at, data in emulator.received)
            stage.confirm_position()
            assert any(b"\x18" in data for _at, data in emulator.received)
            assert emulator.state == "Idle"
            stage.close()

    def test_refusals_are_sentences(self):
        with GrblEmulator() as emulator:
            stage = self.connect(emulator)
            emulator.settings[20], emulator.settings[132] = 1, 0.1
            with pytest.raises(StageLimitError, match="Nothing was moved"):
                stage.start_move_to(-200.0)
            assert emulator.motor.position_um == 0.0
            stage.close()

    def test_every_code_has_its_words(self):
        assert set(ALARMS) == set(range(1, 10))
        assert set(range(1, 18)) <= set(ERRORS)


class TestParser:
    @given(st.text())
    def test_takes_any_text(self, line):
        status = Status.parse(line)
        assert status is None or line.startswith("<")

    @given(
        st.sampled_from(["Idle", "Run:2", "Jog", "Alarm", "Alarm:11", "Home", "Hold:0", "Door:1", "Sleep", "Tool"]),
        st.tuples(*[st.floats(-9999, 9999).map(lambda mm: round(mm, 3))] * 3),
    )
    def test_reads_every_report(self, state, axes):
        x, y, z = axes
        status = Status.parse(f"<{state}|MPos:{x:.3f},{y:.3f},{z:.3f}|Bf:15,128|FS:0,0|Pn:Z>")
        assert status is not None
        assert status.state == state.partition(":")[0]
        assert status.machine == pytest.approx(axes)

    @pytest.mark.parametrize(
        "line",
        [
            "<Idle|MPos:0.000,0.000,1.0",
            "Idle|MPos:0.000,0.000,1.000>",
            "<Idle|MPos:0.000,0.000,1.0<Idle|MPos:0.000,0.000,1.000>",
            "<Idle|FS:0,0>",
            "<Idle|MPos:nan,0,0>",
            "<Idle|MPos:1e5,0,0>",
            "<Idle|MPos:0,0,1|MPos:0,0,2>",
            "<Idle|MPos:0,0,1|WPos:0,0,2>",
            "<Idel|MPos:0,0,1>",
            "<Alarm:1111|MPos:0,0,1>",
        ],
    )
    def test_believes_no_torn_report(self, line):
        assert Status.parse(line) is None
