"""What every focus stage can do, and how it says that it cannot."""

from typing import Protocol

from models.errors import ReliefscopeError


class StageError(ReliefscopeError):
    """The stage refused, failed or does not answer."""


class StageStopped(StageError):
    """The stage was stopped and stays so until it is released."""


class StageLimitError(StageError):
    """The target lies outside the travel; nothing was moved."""


class Stage(Protocol):
    """A driver: one controller axis in its own coordinates, in um. It knows no backlash and no sample frame.

    Only :class:`hardware.motion.FocusAxis` talks to it. ``stop`` may be called from any thread at any
    time and must not wait for a call in progress; every other call comes from one thread at a time.
    """

    @property
    def name(self) -> str:
        """What a person calls this stage: model and port."""
        ...

    @property
    def limits_um(self) -> tuple[float, float]:
        """Lowest and highest position that may be asked for."""
        ...

    def position_um(self) -> float:
        """The measured position now, also during a move. Raises StageError."""
        ...

    def start_move_to(self, position_um: float) -> None:
        """Begin a move and return at once. Raises StageError, StageLimitError."""
        ...

    def is_moving(self) -> bool:
        """By the controller's own word. Raises StageError."""
        ...

    def stop(self) -> None:
        """Halt as fast as the controller can."""
        ...

    def close(self) -> None:
        """Release the port. Never raises, never moves."""
        ...
