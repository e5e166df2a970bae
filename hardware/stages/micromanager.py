"""The focus stage of any Micro-Manager configuration.

Micro-Manager tells neither limits nor speed nor whether a stage knows where it is: the profile gives the first two,
a person confirms the last. STOP is ``stop`` of the core, which waits where an adapter is inside another call.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware.calls import CallThread
from hardware.micromanager import MicroManagerError, acquire_core, plain_errors, release_core
from hardware.stage import StageDisconnected, StageError, StageLimitError, StageStopped, StageUnreferenced
from models.language import _

STOP_S = 0.05
CALL_S = 5.0
HOMING_S = 120.0
POLL_S = 0.02

Result = TypeVar("Result")


class MicroManagerStageProfile(BaseModel):
    """The section [stage] of a profile. ``device``: label of the stage; empty: the configuration's focus stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    driver: Literal["micromanager"]
    configuration: Path | None = None
    folder: Path | None = None
    device: str = ""
    low_um: float = Field(allow_inf_nan=False)
    high_um: float = Field(allow_inf_nan=False)
    speed_um_s: float = Field(default=1000.0, gt=0, allow_inf_nan=False)
    trust_position: bool = False

    @model_validator(mode="after")
    def _limits_leave_room(self) -> Self:
        if not self.low_um < self.high_um:
            raise ValueError(_("high_um must be more than low_um"))
        return self


class MicroManagerStage:
    """A :class:`hardware.stage.Stage`. Raises StageError where the configuration or the stage is missing."""

    can_home = True
    grain_um = 0.0
    stop_loses_position = False

    def __init__(self, profile: MicroManagerStageProfile) -> None:
        self._profile = profile
        self._referenced = profile.trust_position
        self._move: Future[Any] | None = None
        self._stop_count = 0
        self._move_ends_s = 0.0
        try:
            self._core: Any = acquire_core(profile.configuration, profile.folder)
        except MicroManagerError as error:
            raise StageError(str(error)) from error
        self.name = profile.device or "Micro-Manager"
        self._calls, self._stop_calls, self._aside = (CallThread(f"stage {what}") for what in ("moves", "STOP", "asks"))
        try:
            self._label, self.identity = self._ask(self._looked_up)
        except StageError:
            self.close()
            raise
        self.name = f"{self._label} ({self.identity})"

    def _looked_up(self, core: Any) -> tuple[str, str]:
        """Label and kind of the stage."""
        label = self._profile.device or core.getFocusDevice()
        if label not in core.getLoadedDevices():
            raise StageError(_("The Micro-Manager configuration has no stage '{device}'.").format(device=label))
        return label, f"{core.getDeviceLibrary(label)} {core.getDeviceName(label)}"

    @property
    def limits_um(self) -> tuple[float, float]:
        return self._profile.low_um, self._profile.high_um

    @property
    def speed_um_s(self) -> float:
        return self._profile.speed_um_s

    @property
    def is_referenced(self) -> bool:
        return self._referenced

    def position_um(self) -> float:
        return float(self._ask(lambda core: core.getPosition(self._label)))

    def start_move_to(self, position_um: float) -> None:
        low_um, high_um = self.limits_um
        if not low_um <= position_um <= high_um:
            raise StageLimitError(
                _("{stage}: {z:.2f} µm is outside the limits of {low:g} to {high:g} µm. Nothing was moved.").format(
                    stage=self.name, z=position_um, low=low_um, high=high_um
                )
            )
        if not self._referenced:
            raise StageUnreferenced(
                _("Nobody knows yet whether {stage} stands where it says. Confirm the position or home it.").format(
                    stage=self.name
                )
            )
        self._move_ends_s = time.monotonic() + self._longest_move_s
        self._move = self._calls.start(
            self._unless_stopped(lambda core: core.setPosition(self._label, position_um), self._stop_count)
        )

    def start_move_by(self, distance_um: float) -> None:
        self.start_move_to(self.position_um() + distance_um)

    def is_moving(self) -> bool:
        """Some adapters begin a move and return, others return when it is done: both count as moving."""
        move = self._move
        if move is not None:
            if not move.done():
                if time.monotonic() > self._move_ends_s:
                    raise self._silent(self._longest_move_s)
                return True
            self._move = None
            if move.cancelled():
                raise self._stopped()
            with plain_errors(self.name, StageError):
                move.result()
        return bool(self._ask(lambda core: core.deviceBusy(self._label)))

    def set_speed(self, speed_um_s: float) -> None:
        raise StageError(_("{stage}: set the speed in the configuration of Micro-Manager.").format(stage=self.name))

    def home(self, may_begin: Callable[[], None] = lambda: None) -> None:
        """The core's own wait ends after some seconds, homing does not."""
        stops, end_s = self._stop_count, time.monotonic() + HOMING_S
        may_begin()
        self._referenced = False
        begin = self._unless_stopped(lambda core: core.home(self._label), stops)
        self._ask(lambda _core: begin(), HOMING_S)
        while self._ask(lambda core: core.deviceBusy(self._label)) and self._stop_count == stops:
            if time.monotonic() > end_s:
                self.stop()
                raise StageError(
                    _("{stage} did not finish homing within {seconds:g} s. Is something in its way?").format(
                        stage=self.name, seconds=HOMING_S
                    )
                )
            time.sleep(POLL_S)
        if self._stop_count != stops:
            raise self._stopped()
        self._referenced = True

    def confirm_position(self) -> None:
        self._referenced = True

    def faults(self) -> tuple[str, ...]:
        if self._core is None:
            return (_("{stage} is closed. Connect again.").format(stage=self.name),)
        return ()

    def reconnect(self, timeout_s: float) -> None:
        """Micro-Manager opens no port again by itself: this only sees whether the stage answers."""
        self._ask(lambda core: core.getPosition(self._label), timeout_s)

    def stop(self) -> None:
        self._stop_count += 1
        core, move = self._connected(), self._move
        if move is not None:
            move.cancel()  # of use where it has not begun
        try:
            with plain_errors(self.name, StageError):
                self._stop_calls.run(lambda: core.stop(self._label), STOP_S)
        except TimeoutError:
            raise StageError(
                _("{stage} has not confirmed the stop yet: its adapter is busy. Switch it off if it moves.").format(
                    stage=self.name
                )
            ) from None

    def close(self) -> None:
        core, self._core = self._core, None
        if core is not None:
            for calls in (self._calls, self._stop_calls, self._aside):
                calls.close()
            release_core(core)

    def _unless_stopped(self, call: Callable[[Any], None], stops: int) -> Callable[[], None]:
        """``call`` for the thread that makes the calls: not begun after STOP, halted again where STOP came first."""
        core = self._connected()

        def begin() -> None:
            if self._stop_count != stops:
                raise self._stopped()
            call(core)
            if self._stop_count != stops:
                core.stop(self._label)
                raise self._stopped()

        return begin

    def _stopped(self) -> StageStopped:
        return StageStopped(_("{stage} was stopped.").format(stage=self.name))

    def _connected(self) -> Any:
        if self._core is None:
            raise StageDisconnected(_("{stage} is closed. Connect again.").format(stage=self.name))
        return self._core

    @property
    def _longest_move_s(self) -> float:
        """So long an adapter that returns when a move is done may take, and keep others from being answered."""
        low_um, high_um = self.limits_um
        return CALL_S + 2.0 * (high_um - low_um) / self.speed_um_s

    def _ask(self, question: Callable[[Any], Result], timeout_s: float | None = None) -> Result:
        """What the core says, past the calls that wait for a move. Raises StageDisconnected where it says nothing."""
        core, calls, limit_s = self._connected(), self._calls, CALL_S
        if self._move is not None and not self._move.done():
            calls, limit_s = self._aside, max(CALL_S, self._move_ends_s - time.monotonic())
        timeout_s = limit_s if timeout_s is None else timeout_s
        try:
            with plain_errors(self.name, StageError):
                return calls.run(lambda: question(core), timeout_s)
        except TimeoutError:
            raise self._silent(timeout_s) from None

    def _silent(self, seconds: float) -> StageDisconnected:
        return StageDisconnected(
            _("{stage} did not answer within {seconds:.0f} s. Check its cable.").format(
                stage=self.name, seconds=seconds
            )
        )
