"""GRBL in a pause, and what grblHAL and FluidNC do otherwise than GRBL."""

import contextlib

import pytest

from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stage import StageAlarm, StageError
from hardware.stages.grbl import DRIVER
from hardware.stages.grbl_words import alarm_words, error_words
from tests.hardware.stage_behaviour import rest


@pytest.fixture(autouse=True, scope="module")
def quick_boot():
    """The emulated board does not reset when its port is opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hardware.stages.grbl.BOOT_S", 0.2)
        yield


class TestPauses:
    def connect(self, emulator, **changes):
        section = {"driver": "grbl", "port": emulator.port, "low_um": -400.0, "high_um": 400.0, "timeout_s": 0.3}
        return contextlib.closing(DRIVER.open(DRIVER.settings(**{**section, "trust_position": True, **changes})))

    @pytest.mark.parametrize("state", ["Hold:0", "Sleep"])
    def test_one_in_motion_ends_the_move_and_is_ended_by_a_person(self, state):
        with GrblEmulator() as emulator, self.connect(emulator, speed_um_s=200.0) as stage:
            stage.start_move_by(300.0)
            emulator.pause(state)
            with pytest.raises(StageAlarm, match=state[:4]):
                rest(stage)
            stage.confirm_position()
            assert emulator.state == "Idle"
            stage.start_move_by(-5.0)
            rest(stage)

    def test_a_door_that_stays_open_is_not_confirmed_away(self, monkeypatch):
        with GrblEmulator() as emulator, self.connect(emulator) as stage:
            monkeypatch.setattr(emulator, "_soft_reset", lambda: emulator.send("Grbl 1.1h ['$' for help]"))
            emulator.pause("Door:1")
            with pytest.raises(StageAlarm, match="Door"):
                stage.confirm_position()

    @pytest.mark.parametrize("state", ["Hold:0", "Door:1", "Check"])
    def test_one_when_connecting_is_named(self, state):
        """It takes no commands then, and is no silent port."""
        with GrblEmulator() as emulator:
            emulator.pause(state)
            with pytest.raises(StageError, match=rf"state {state[:4]}"), self.connect(emulator):
                pass


class TestDescendants:
    def connect(self, emulator, **changes):
        section = {"driver": "grbl", "port": emulator.port, "low_um": -5000.0, "high_um": 5000.0, "timeout_s": 0.4}
        return contextlib.closing(DRIVER.open(DRIVER.settings(**{**section, **changes})))

    @pytest.mark.parametrize(
        ("firmware", "identity"),
        [("grblHAL", "GRBL 1.1f.20240928, grblHAL"), ("FluidNC", "GRBL 3.7 FluidNC v3.7.16 (esp32-wifi)")],
    )
    def test_are_named_and_homed_alone(self, firmware, identity):
        with GrblEmulator(firmware=firmware, homing=True) as emulator, self.connect(emulator) as stage:
            assert stage.identity == identity
            assert not stage.is_referenced
            stage.home()
            assert stage.is_referenced
            assert "$HZ" in emulator.commands
            assert not stage.faults()

    @pytest.mark.parametrize(
        ("changes", "travel_um"),
        [
            ({}, (-2000.0, 0.0)),
            ({"homes_down": True}, (-2000.0, 0.0)),
            ({"homes_down": True, "zero_at_switch": True}, (0.0, 2000.0)),
            ({"zero_at_switch": True}, (-2000.0, 0.0)),
            ({"firmware": "grblHAL", "homes_down": True, "zero_at_switch": True}, (0.0, 2000.0)),
            ({"firmware": "FluidNC"}, (-2000.0, 0.0)),
            ({"firmware": "FluidNC", "homes_down": True}, (0.0, 2000.0)),
        ],
    )
    def test_the_travel_lies_where_homing_puts_it(self, changes, travel_um):
        emulator = GrblEmulator(homing=True, soft_limits=True, travel_um=2000.0, above_um=1000.0, **changes)
        with emulator, self.connect(emulator, speed_um_s=5000.0) as stage:
            assert stage.limits_um == travel_um
            stage.home()
            middle_um = sum(travel_um) / 2
            stage.start_move_to(middle_um)
            assert rest(stage) == pytest.approx(middle_um, abs=0.6)
            assert not stage.faults()

    def test_soft_limits_of_another_axis_are_none_of_this_one(self):
        with GrblEmulator(firmware="FluidNC") as emulator, self.connect(emulator) as stage:
            assert stage.limits_um == (-5000.0, 5000.0)

    def test_an_axis_that_may_not_be_homed_alone_is_told(self):
        with (
            GrblEmulator(firmware="FluidNC", homing=True, single_axis_homing=False) as emulator,
            self.connect(emulator) as stage,
            pytest.raises(StageError, match="home this axis alone"),
        ):
            stage.home()

    def test_what_must_be_homed_is_not_confirmed(self):
        emulator = GrblEmulator(firmware="grblHAL", homing=True, must_home=True)
        with emulator, self.connect(emulator) as stage:
            with pytest.raises(StageError, match="homed first"):
                stage.confirm_position()
            assert not stage.is_referenced
            stage.home()
            assert stage.is_referenced

    @pytest.mark.parametrize("firmware", ["grblHAL", "FluidNC"])
    def test_a_limit_alarm_from_before_the_connection_is_ended_all_the_same(self, firmware):
        """They answer, and take no unlocking until they are reset."""
        with GrblEmulator(firmware=firmware, hard_limits=True) as emulator:
            with emulator.lock:
                emulator._critical_alarm(1)
            with self.connect(emulator, trust_position=True) as stage:
                with pytest.raises(StageAlarm):
                    stage.start_move_by(1.0)
                stage.confirm_position()
                assert emulator.state == "Idle"
                assert not stage.faults()

    def test_numbers_beyond_those_of_grbl_mean_what_the_firmware_means(self):
        assert alarm_words(14, "GRBL 1.1h.20190830") == "alarm 14"
        assert "homed first" in alarm_words(14, "GRBL 3.7 FluidNC v3.7.16")
        assert "emergency" in alarm_words(10, "GRBL 1.1f.20240928, grblHAL")
        assert "homed first" in error_words(46, "GRBL 1.1f.20240928, grblHAL")
        assert error_words(46, "GRBL 3.7 FluidNC v3.7.16") == "error 46"
        assert "at rest" in error_words(8, "GRBL 3.7 FluidNC v3.7.16")
