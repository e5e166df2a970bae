"""What every focus stage can do, and how it says that it cannot."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from models.errors import ReliefscopeError


class StageError(ReliefscopeError):
    """The stage refused, failed or does not answer."""


class StageStopped(StageError):
    """The stage was stopped and stays so until it is released."""


class StageLimitError(StageError):
    """The target lies outside the travel; nothing was moved."""


class StageDisconnected(StageError):
    """There is no port: the cable was pulled, the controller lost its power or the line is closed."""


class StagePortBusy(StageError):
    """Another program holds the port."""


class StageNoReply(StageError):
    """The controller answers nothing, or nothing that can be understood."""


class StageUnreferenced(StageError):
    """The controller does not know where the stage is. Home it or confirm the position; nothing was moved."""


class StageAlarm(StageError):
    """The controller locked itself: limit switch, stall, fault of the drive. :meth:`Stage.faults` says what to do."""


class Stage(Protocol):
    """A driver: one controller axis in its own coordinates, in um. It knows no backlash and no sample frame.

    Only :class:`hardware.motion.FocusAxis` talks to it. ``stop`` may be called from any thread at any
    time and must not wait for a call in progress; every other call comes from one thread at a time.
    Opening a stage, identifying it and confirming its position never move it; ``home`` and moves do.
    """

    @property
    def name(self) -> str:
        """What a person calls this stage: model and port."""
        ...

    @property
    def identity(self) -> str:
        """The controller's own words about itself: model, firmware, serial number as far as it tells."""
        ...

    @property
    def limits_um(self) -> tuple[float, float]:
        """Lowest and highest position that may be asked for."""
        ...

    @property
    def speed_um_s(self) -> float:
        """The speed of moves."""
        ...

    @property
    def grain_um(self) -> float:
        """``position_um`` is told no finer than this, 0 where it does not matter. Moves may be finer."""
        ...

    @property
    def is_referenced(self) -> bool:
        """True where positions mean something. False after power-up, an alarm or a stop that lost the position:
        moves then raise StageUnreferenced until the stage was homed or a person confirmed the position."""
        ...

    @property
    def can_home(self) -> bool:
        """True where the controller can find its reference by itself, which moves the stage."""
        ...

    @property
    def stop_loses_position(self) -> bool:
        """True where ``stop`` in motion leaves the controller without a position."""
        ...

    def position_um(self) -> float:
        """The measured position now, also during a move and where it is not referenced. Raises StageError."""
        ...

    def start_move_to(self, position_um: float) -> None:
        """Begin a move and return at once. Raises StageError, StageLimitError, StageUnreferenced, StageAlarm."""
        ...

    def start_move_by(self, distance_um: float) -> None:
        """Like ``start_move_to``, relative to where the stage stands."""
        ...

    def is_moving(self) -> bool:
        """By the controller's own word. Raises StageError; StageAlarm where a fault ended the move."""
        ...

    def set_speed(self, speed_um_s: float) -> None:
        """The speed of the moves that follow. Raises StageError where the controller cannot go so fast or slow."""
        ...

    def home(self, may_begin: Callable[[], None] = ...) -> None:
        """Drive to the reference and return when it is found. Raises StageError, StageStopped after ``stop``.

        ``may_begin`` is called once, before anything is sent: a ``stop`` from then on is heeded, one before it is for
        whoever calls to know, and to refuse by what ``may_begin`` raises.
        """
        ...

    def confirm_position(self) -> None:
        """A person vouches that the position shown is right and the way is clear: unlock, allow moves. No motion."""
        ...

    def faults(self) -> tuple[str, ...]:
        """Sentences about what is wrong now, each with the one thing to do; empty where all is well."""
        ...

    def reconnect(self, timeout_s: float) -> None:
        """Return when the same controller answers (again), nothing moved. ``is_referenced`` then tells whether its
        position still counts. Raises StageError when the time is over or another controller answers."""
        ...

    def stop(self) -> None:
        """Halt as fast as the controller can. Raises StageDisconnected where it cannot be reached."""
        ...

    def close(self) -> None:
        """Release the port. Never raises, never moves."""
        ...


@dataclass(frozen=True)
class ScanRequest:
    """A stack timed by the hardware: ``frame_count`` heights, ``step_um`` apart in the stage's frame (with sign).

    ``settle_ms``: rest between the end of a step and its picture; ``exposure_ms``: from the trigger pulse to the
    moment when the stage may move on, readout included. Only a controller that leads needs these two.
    """

    step_um: float
    frame_count: int
    settle_ms: float
    exposure_ms: float


ScanLeader = Literal["stage", "camera", "moves"]


@runtime_checkable
class HardwareScan(Protocol):
    """What a stage offers besides :class:`Stage` whose controller is wired to the camera.

    ``scan_leader`` says who sets the pace:

    - "stage": from ``begin_scan`` on the controller by itself steps, rests and pulses the camera. It stands at the
      first height when asked. ``is_moving`` holds until the last height is done.
    - "camera": each exposure of the camera steps the stage. It stands in the middle of the stack when asked; the
      first pulse moves it to the first height, each further one by a step, the one after the last to anywhere between.
    - "moves": every ordinary move ends with one pulse that releases the camera, also one to where the stage stands.
    """

    @property
    def scan_leader(self) -> ScanLeader: ...

    def begin_scan(self, request: ScanRequest) -> tuple[float, ...]:
        """Arm (and, where the stage leads, start), return at once the height of every frame as the controller will
        reach it, in the stage's frame. STOP ends it as it ends a move. Raises StageLimitError, StageUnreferenced,
        StageAlarm, and StageError where this controller cannot do it (too many frames, no such firmware).
        """
        ...

    def end_scan(self) -> None:
        """Back to ordinary moves, pulses without effect; harmless where none was begun. Raises StageError."""
        ...
