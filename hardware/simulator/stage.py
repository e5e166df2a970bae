"""A simulated focus stage: finite speed, play in the screw, ringing after a stop, drift, limits, faults."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from hardware.clock import Clock
from hardware.stage import StageError, StageLimitError
from models.language import _


class SimulatedStageSettings(BaseModel):
    """How good the mechanics are. Lengths in um, times in s unless the name says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low_um: float = -1000.0
    high_um: float = 1000.0
    start_um: float = 60.0
    speed_um_s: float = Field(default=1000.0, gt=0)
    acceleration_um_s2: float = Field(default=20000.0, gt=0)
    stop_acceleration_um_s2: float = Field(default=100000.0, gt=0)
    resolution_um: float = Field(default=0.01, gt=0)
    play_um: float = Field(default=3.0, ge=0)
    """Backlash: how far the motor turns after a reversal before the carriage follows."""
    ringing_um: float = Field(default=0.6, ge=0)
    ringing_hz: float = Field(default=70.0, gt=0)
    ringing_decay_ms: float = Field(default=15.0, gt=0)
    drift_um_per_min: float = 0.0


@dataclass(frozen=True)
class Ramp:
    """A move at constant acceleration, constant speed, constant deceleration, from ``start_s`` on."""

    start_s: float
    start_um: float
    distance_um: float
    top_speed_um_s: float
    acceleration_um_s2: float

    @classmethod
    def between(cls, start_s: float, start_um: float, end_um: float, speed: float, acceleration: float) -> "Ramp":
        """The fastest move within these bounds; a short one never reaches full speed."""
        distance = end_um - start_um
        return cls(start_s, start_um, distance, min(speed, math.sqrt(abs(distance) * acceleration)), acceleration)

    @property
    def end_s(self) -> float:
        if self.distance_um == 0.0:
            return self.start_s
        return (
            self.start_s + abs(self.distance_um) / self.top_speed_um_s + self.top_speed_um_s / self.acceleration_um_s2
        )

    def at(self, time_s: float) -> tuple[float, float]:
        """Position in um and speed in um/s (with sign)."""
        if time_s >= self.end_s:
            return self.start_um + self.distance_um, 0.0
        elapsed, left = max(time_s - self.start_s, 0.0), self.end_s - time_s
        sign, a, v = math.copysign(1.0, self.distance_um), self.acceleration_um_s2, self.top_speed_um_s
        ramp_s = v / a
        if elapsed < ramp_s:
            gone, speed = a * elapsed**2 / 2, a * elapsed
        elif left < ramp_s:
            gone, speed = abs(self.distance_um) - a * left**2 / 2, a * left
        else:
            gone, speed = v * (elapsed - ramp_s / 2), v
        return self.start_um + sign * gone, sign * speed


class SimulatedStage:
    """A :class:`hardware.stage.Stage`. What it measures is the motor; where the carriage is, the camera sees.

    ``stall()`` blocks the motor as a jammed screw does; ``fail()`` makes every call raise, as a pulled plug does.
    """

    name = identity = "Simulated stage"
    is_referenced = True
    can_home = stop_loses_position = False

    def __init__(self, settings: SimulatedStageSettings | None = None, clock: Clock | None = None) -> None:
        self.settings = settings or SimulatedStageSettings()
        self._clock = clock or Clock()
        self._state = threading.Lock()  # held for a few operations on floats, never while waiting
        now = self._clock.now()
        self._speed_um_s = self.settings.speed_um_s
        self._ramp = Ramp(now, self.settings.start_um, 0.0, 1.0, 1.0)
        self._carriage_um = self.settings.start_um
        self._born_s = now
        self._stalled = False
        self._failed = False

    @property
    def limits_um(self) -> tuple[float, float]:
        return self.settings.low_um, self.settings.high_um

    @property
    def grain_um(self) -> float:
        return self.settings.resolution_um

    def position_um(self) -> float:
        self._check()
        with self._state:
            return self._rounded(self._ramp.at(self._clock.now())[0])

    def start_move_to(self, position_um: float) -> None:
        self._check()
        low, high = self.limits_um
        if not low <= position_um <= high:
            raise StageLimitError(
                _("{stage}: {position:.2f} µm lies outside its travel of {low:g} to {high:g} µm.").format(
                    stage=self.name, position=position_um, low=low, high=high
                )
            )
        with self._state:
            now = self._clock.now()
            here = self._follow(now)
            target = here if self._stalled else self._rounded(position_um)
            self._ramp = Ramp.between(now, here, target, self._speed_um_s, self.settings.acceleration_um_s2)

    def start_move_by(self, distance_um: float) -> None:
        self.start_move_to(self.position_um() + distance_um)

    @property
    def speed_um_s(self) -> float:
        return self._speed_um_s

    def set_speed(self, speed_um_s: float) -> None:
        if not 0 < speed_um_s < math.inf:
            raise StageError(_("{stage}: the speed must be a positive number.").format(stage=self.name))
        self._speed_um_s = speed_um_s

    def home(self, may_begin: Callable[[], None] = lambda: None) -> None:
        raise StageError(_("{stage} has no reference to home to.").format(stage=self.name))

    def confirm_position(self) -> None:
        self._check()

    def reconnect(self, timeout_s: float) -> None:
        self._check()

    def faults(self) -> tuple[str, ...]:
        try:
            self._check()
        except StageError as error:
            return (str(error),)
        return ()

    def is_moving(self) -> bool:
        self._check()
        with self._state:
            return self._stalled or self._clock.now() < self._ramp.end_s

    def stop(self) -> None:
        with self._state:
            now = self._clock.now()
            here = self._follow(now)
            speed = self._ramp.at(now)[1]
            a = self.settings.stop_acceleration_um_s2
            # Braking is the second half of a ramp that began earlier.
            brake_um = math.copysign(speed**2 / (2 * a), speed)
            began_s = now - abs(speed) / a
            self._ramp = Ramp(began_s, here - brake_um, 2 * brake_um, abs(speed) or 1.0, a)

    def close(self) -> None:
        with self._state:
            self._failed = True

    def carriage_um(self) -> float:
        """Where the focus really is now: behind the play of the screw, ringing after a stop, drifting."""
        with self._state:
            now = self._clock.now()
            self._follow(now)
            s, since = self.settings, now - self._ramp.end_s
            ringing = 0.0
            if since >= 0.0 and self._ramp.distance_um:
                share = min(1.0, self._ramp.top_speed_um_s / self._speed_um_s)
                decay = math.exp(-1000.0 * since / s.ringing_decay_ms)
                amplitude_um = math.copysign(share * s.ringing_um, self._ramp.distance_um)
                ringing = amplitude_um * decay * math.cos(2 * math.pi * s.ringing_hz * since)
            return self._carriage_um + ringing + s.drift_um_per_min * (now - self._born_s) / 60.0

    def stall(self, stalled: bool = True) -> None:
        """Jam the screw: the motor reports that it moves and gets nowhere."""
        with self._state:
            here = self._follow(self._clock.now())
            self._ramp = Ramp(self._clock.now(), here, 0.0, 1.0, 1.0)
            self._stalled = stalled

    def fail(self, failed: bool = True) -> None:
        """Pull the plug."""
        self._failed = failed

    def _check(self) -> None:
        if self._failed:
            raise StageError(_("{stage} does not answer. Check its cable and power.").format(stage=self.name))

    def _follow(self, now: float) -> float:
        """Move the carriage with the motor (each ramp runs one way) and return the motor's position.

        Downwards the motor pushes it and both agree; upwards it follows at the distance of the play.
        """
        motor = self._ramp.at(now)[0]
        self._carriage_um = min(max(self._carriage_um, motor - self.settings.play_um), motor)
        return motor

    def _rounded(self, position_um: float) -> float:
        return round(position_um / self.settings.resolution_um) * self.settings.resolution_um
