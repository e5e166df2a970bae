"""What all serial stages have in common: settings, limits, the memory of whether the position can be trusted."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware.line import LineFormat, SerialLine
from hardware.stage import StageAlarm, StageError, StageLimitError, StageStopped, StageUnreferenced
from models.language import _

SAME_POSITION_UM = 0.5
"""Without a move: a position this close to the last one is the last one."""


class SerialStageSettings(BaseModel):
    """The section [stage] of a profile. ``low_um``, ``high_um``: travel that may be used, in the stage's own frame.

    ``axis``: the controller's name for the focus axis. ``um_per_step`` where the controller counts steps and does
    not know their size. ``timeout_s``: for one reply; None: the protocol's. ``trust_position``: take the
    controller's position as right when connecting, without homing and without asking; for stages that keep it, or
    whose zero is wherever they were switched on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    driver: str
    port: str = Field(min_length=1)
    baud: int | None = Field(default=None, ge=300, le=4_000_000)
    axis: str = Field(default="Z", pattern=r"^[A-Za-z0-9]{1,8}$")
    low_um: float = Field(allow_inf_nan=False)
    high_um: float = Field(allow_inf_nan=False)
    speed_um_s: float = Field(default=1000.0, gt=0, allow_inf_nan=False)
    um_per_step: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    timeout_s: float | None = Field(default=None, gt=0, le=60)
    trust_position: bool = False

    @model_validator(mode="after")
    def _limits_leave_room(self) -> Self:
        if not self.low_um < self.high_um:
            raise ValueError(_("high_um must be more than low_um"))
        return self


class SerialStage(ABC):
    """A :class:`hardware.stage.Stage` on a :class:`hardware.line.SerialLine`; subclasses know the protocol.

    Subclasses keep two sentences for the user, None where all is well: ``_alarm`` (the controller locked itself, and
    what to do) and ``_unreferenced`` (why positions mean nothing; what to do is added). ``_settings`` are the
    profile's.
    """

    title: ClassVar[str]
    """What people call the controller."""
    can_home: bool = False
    stop_loses_position: bool = False
    grain_um: float = 0.0
    power_up_um: ClassVar[float | None] = 0.0
    """The position that the controller reports after a reset; None: it remembers."""

    def __init__(self, settings: SerialStageSettings, line: SerialLine) -> None:
        self._settings = settings
        self._line = line
        self._speed_um_s = settings.speed_um_s
        self._identity = ""
        self._alarm: str | None = None
        self._unreferenced: str | None = None
        self._last_um: float | None = None
        self._target_um: float | None = None  # of the move under way
        self._seen_um: float | None = None
        self._stops = 0
        line.on_push = self._heard
        line.on_connect = self._reconnected
        try:
            self._lose_reference(_("Nobody knows yet whether {stage} stands where it says.").format(stage=self.name))
            self._connect()
            if settings.trust_position:
                self._unreferenced = None
        except BaseException:
            line.close()
            raise

    # -- the protocol, given by subclasses

    @abstractmethod
    def _connect(self) -> None:
        """Identify the controller (``_recognise``), read what is needed, set the modes. Never moves.

        Also called after the cable was plugged in again. Set ``_unreferenced = None`` only where the controller
        vouches for its position. Raises StageError where somebody else answers.
        """

    @abstractmethod
    def _read_position(self) -> float:
        """In um. Raises StageError."""

    @abstractmethod
    def _read_moving(self) -> bool:
        """By the controller's own status. Raises StageError; StageAlarm where a fault ended the move."""

    @abstractmethod
    def _move_to(self, position_um: float) -> None:
        """Start; limits and reference have been checked. Raises StageError."""

    @abstractmethod
    def _halt(self) -> None:
        """Send STOP through ``self._line.urgent`` and return; called from any thread."""

    def _move_by(self, distance_um: float, target_um: float) -> None:
        """Start a relative move; ``target_um`` is where it should end."""
        self._move_to(target_um)

    def _set_speed(self, speed_um_s: float) -> None:
        """Tell the controller, where it is not told with each move."""
        return None

    def _home(self) -> None:
        """Drive to the reference, return when it is found."""
        raise NotImplementedError

    def _unlock(self) -> None:
        """End the alarm, without moving."""
        return None

    def _heard(self, line: str) -> None:
        """A push line arrived: alarms, resets. Called while others talk; must not ask, must not raise."""
        return None

    # -- the contract of Stage

    @property
    def name(self) -> str:
        return f"{self.title} ({self._line.port_name})"

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def limits_um(self) -> tuple[float, float]:
        return self._settings.low_um, self._settings.high_um

    @property
    def speed_um_s(self) -> float:
        return self._speed_um_s

    @property
    def is_referenced(self) -> bool:
        return self._unreferenced is None

    def position_um(self) -> float:
        self._last_um = self._read_position()
        return self._last_um

    def start_move_to(self, position_um: float) -> None:
        self._check(position_um)
        with self._halted_by_a_stop_meanwhile():
            self._target_um = position_um
            self._move_to(position_um)

    def start_move_by(self, distance_um: float) -> None:
        target_um = self.position_um() + distance_um
        self._check(target_um)
        with self._halted_by_a_stop_meanwhile():
            self._target_um = target_um
            self._move_by(distance_um, target_um)

    def is_moving(self) -> bool:
        moving = self._read_moving()
        if moving:
            return True
        under_way, self._target_um = self._target_um is not None, None
        if under_way and self._alarm is not None:
            raise StageAlarm(self._alarm)
        if under_way and (why := self._reference_fault()) is not None:
            raise StageUnreferenced(why)
        return False

    def set_speed(self, speed_um_s: float) -> None:
        if not 0 < speed_um_s < float("inf"):
            raise StageError(_("{stage}: the speed must be a positive number.").format(stage=self.name))
        self._set_speed(speed_um_s)
        self._speed_um_s = speed_um_s

    def home(self, may_begin: Callable[[], None] = lambda: None) -> None:
        if not self.can_home:
            raise StageError(
                _("{stage} has no reference to home to. Confirm the position instead.").format(stage=self.name)
            )
        with self._halted_by_a_stop_meanwhile():
            may_begin()
            self._lose_reference(_("{stage} did not finish homing.").format(stage=self.name))
            self._home()
        self._alarm = self._unreferenced = self._target_um = None

    def confirm_position(self) -> None:
        self._unlock()
        self._alarm = self._unreferenced = self._target_um = None

    def faults(self) -> tuple[str, ...]:
        return tuple(fault for fault in (self._line.fault, self._alarm, self._reference_fault()) if fault is not None)

    def reconnect(self, timeout_s: float) -> None:
        """Wait for a pulled cable to come back. Raises StageError when the time is over."""
        self._line.reconnect(timeout_s)

    def stop(self) -> None:
        under_way = self._target_um is not None
        self._stops += 1
        try:
            self._halt()
        finally:
            if under_way and self.stop_loses_position:
                self._lose_reference(_("{stage} was stopped in motion and lost its position.").format(stage=self.name))

    def close(self) -> None:
        self._line.close()

    @contextmanager
    def _halted_by_a_stop_meanwhile(self) -> Iterator[None]:
        """What a STOP overtakes is not sent any more; where it was on its way, it is halted again."""
        try:
            with self._line.action():  # first: STOP counts in the stage before it does on the line
                stops = self._stops
                yield
        finally:
            if self._stops != stops:
                self._halt()
        if self._stops != stops:
            raise StageStopped(_("{stage} was stopped.").format(stage=self.name))

    # -- for subclasses

    def _recognise(self, identity: str) -> None:
        """What ``_connect`` begins with, before any setting is sent: it would go to somebody else's controller.

        ``identity``: the controller's words about itself. Raises StageError where it is not the one from before.
        """
        if self._identity and identity != self._identity:
            raise StageError(
                _("Another controller answers on {port}: {found} instead of {known}. Plug in the right one.").format(
                    port=self._line.port_name, found=identity, known=self._identity
                )
            )
        self._identity = identity

    def _lose_reference(self, why: str) -> None:
        """``why``: a whole sentence for the user."""
        self._unreferenced = why

    def _note_reading(self, here_um: float, *, may_change: bool) -> None:
        """For controllers that count from zero after a reset and do not tell. ``may_change``: a move is under way."""
        jumped = here_um == 0.0 and self._seen_um is not None and abs(self._seen_um) > SAME_POSITION_UM
        if jumped and not may_change:
            self._lose_reference(
                _("{stage} suddenly reads zero: it was reset, or zeroed by hand.").format(stage=self.name)
            )
        self._seen_um = here_um

    def _reference_fault(self) -> str | None:
        if self._unreferenced is None:
            return None
        if self.can_home:
            return f"{self._unreferenced} {_('Home it, or confirm its position if it is right.')}"
        return f"{self._unreferenced} {_('Check its position and confirm it.')}"

    def _check(self, position_um: float) -> None:
        if self._alarm is not None:
            raise StageAlarm(self._alarm)
        if (why := self._reference_fault()) is not None:
            raise StageUnreferenced(why)
        low, high = self.limits_um
        if not low <= position_um <= high:  # also refuses NaN
            raise StageLimitError(
                _("{stage}: {position:.2f} µm lies outside its travel of {low:g} to {high:g} µm.").format(
                    stage=self.name, position=position_um, low=low, high=high
                )
            )

    def _reconnected(self) -> None:
        """The same controller must answer; its position still counts where it fits to what was known before."""
        referenced = self.is_referenced
        last_um, target_um = self._last_um, self._target_um
        why = _("{stage} was disconnected and may have lost its position meanwhile.").format(stage=self.name)
        self._lose_reference(why)
        self._connect()
        if self._unreferenced != why or not referenced or last_um is None or self._alarm is not None:
            return  # the controller vouches for its position, or was heard to start anew
        here_um = self._read_position()
        low, high = sorted((last_um, last_um if target_um is None else target_um))
        fits = low - SAME_POSITION_UM <= here_um <= high + SAME_POSITION_UM
        was_reset = (
            target_um is not None
            and self.power_up_um is not None
            and abs(here_um - self.power_up_um) < SAME_POSITION_UM
        )
        if fits and not was_reset:
            self._unreferenced = None


@dataclass(frozen=True)
class StageDriver:
    """One protocol: its entry in the registry.

    ``identify(line)``: the controller's words about itself, None where it is not one of these. It only asks, and
    raises nothing but StageDisconnected. ``bauds``: likely ones first. ``settings``: of its section [stage].
    """

    name: str
    title: str
    line_format: LineFormat
    stage: type[SerialStage]
    identify: Callable[[SerialLine], str | None]
    bauds: tuple[int, ...]
    settings: type[SerialStageSettings] = SerialStageSettings

    def open(self, settings: SerialStageSettings) -> SerialStage:
        """Connect and identify; nothing moves. Raises StageError."""
        line_format = self.line_format
        if settings.timeout_s is not None:
            line_format = replace(line_format, timeout_s=settings.timeout_s)
        line = SerialLine(settings.port, settings.baud or self.bauds[0], line_format, name=self.title)
        return self.stage(settings, line)
