"""When a moving stage counts as stuck, and one that has reached its target as at rest there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hardware.clock import Clock
from hardware.route import ROUNDING_UM
from hardware.stage import StageError
from models.language import _

POLL_S = 0.005

SettleBy = Literal["time", "position", "image"]


class Progress:
    """Of one way, from ``z_um`` on."""

    def __init__(self, clock: Clock, z_um: float, stall_s: float) -> None:
        self._clock, self._stall_s = clock, stall_s
        self._since_s, self._z_um = clock.now(), z_um

    def has_stalled(self, z_um: float) -> bool:
        """Whether the stage has stood still for longer than ``stall_s``, now that it is at ``z_um``."""
        if abs(z_um - self._z_um) > ROUNDING_UM:
            self._since_s, self._z_um = self._clock.now(), z_um
        return self._clock.now() - self._since_s > self._stall_s


@dataclass
class Settling:
    """``by``: when a move is over. "time": ``rest_ms`` after the controller reports its end; "position": when the
    measured position has stayed within ``window_um`` of the target for ``rest_ms``; "image": like time, and then the
    sweep waits for a steady picture. Beyond ``limit_s`` a position that does not come to rest is a fault.
    """

    by: SettleBy
    rest_ms: float
    window_um: float
    limit_s: float

    def wait(
        self, stage: str, z_um: float, *, clock: Clock, read_um: Callable[[], float], pause: Callable[[float], None]
    ) -> float:
        """The measured z at rest at the target ``z_um``. ``stage``: its name; ``pause`` rests so many seconds, and
        raises what ends the move. Raises StageError where it does not come to rest."""
        if self.by != "position":
            pause(self.rest_ms / 1000.0)
            return read_um()
        begin_s = inside_s = clock.now()
        while True:
            here_um, now_s = read_um(), clock.now()
            if abs(here_um - z_um) > self.window_um:
                inside_s = now_s
            elif now_s - inside_s >= self.rest_ms / 1000.0:
                return here_um
            if now_s - begin_s > self.limit_s:
                raise StageError(
                    _(
                        "{stage} does not come to rest within {window:g} µm of {target:.2f} µm; it is at {z:.2f} µm. "
                        "Keep the table still, or widen settle_window_um in the profile."
                    ).format(stage=stage, window=self.window_um, target=z_um, z=here_um)
                )
            pause(POLL_S)
