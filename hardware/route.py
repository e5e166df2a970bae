"""Where the focus axis may go and through which points: arithmetic only, nothing here moves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

ROUNDING_UM = 1e-6
"""Differences of this size come from floating-point arithmetic, not from anybody's wish."""


@dataclass(frozen=True)
class Travel:
    """What a series of moves will take, run-ups and settling included; nothing was moved to find out."""

    way_um: float
    seconds: float
    lowest_um: float
    highest_um: float


@dataclass(frozen=True)
class Route:
    """The sample's frame, ``z_um = sign * (stage position - origin_um)``, its limits and the play in the drive.

    ``path_limits_um``: lowest and highest z that may ever be reached, run-ups included. ``backlash_um``: play to take
    out; every move ends in the direction ``approach`` (-1: downwards) after at least this distance in it.
    """

    sign: Literal[1, -1]
    origin_um: float
    path_limits_um: tuple[float, float]
    backlash_um: float
    approach: Literal[1, -1]

    def z_um(self, position_um: float) -> float:
        """Of a position of the stage."""
        return self.sign * (position_um - self.origin_um)

    def position_um(self, z_um: float, travel_um: tuple[float, float]) -> float:
        """Of the stage, for this z. What lies outside its travel by a rounding error only is its end."""
        position_um = self.origin_um + self.sign * z_um
        within_um = min(max(position_um, travel_um[0]), travel_um[1])
        return within_um if abs(position_um - within_um) <= ROUNDING_UM else position_um

    @property
    def limits_um(self) -> tuple[float, float]:
        """Lowest and highest z that may be asked for: the limits, less the room for the run-up."""
        low, high = self.path_limits_um
        if self.approach < 0:
            return low, high - self.backlash_um
        return low + self.backlash_um, high

    def allows(self, z_um: float) -> bool:
        """Whether a move there, with its run-up, stays within the limits; NaN does not."""
        low, high = self.limits_um
        return low - ROUNDING_UM <= z_um <= high + ROUNDING_UM

    def takes_play_out(self, way_um: float) -> bool:
        """Whether a way of this length and sign ends with the drive pressed in the direction ``approach``."""
        return way_um * self.approach > 0 and abs(way_um) >= self.backlash_um - ROUNDING_UM

    def waypoints_um(self, here_um: float, z_um: float, run_up_done: bool) -> Sequence[float]:
        """The target, after a run-up unless the way there already takes the play out."""
        ahead_um = (z_um - here_um) * self.approach
        needed_um = 0.0 if run_up_done else self.backlash_um
        if ahead_um >= needed_um - ROUNDING_UM:
            return [z_um]
        return [z_um - self.approach * self.backlash_um, z_um]

    def travel(self, here_um: float, heights_um: Iterable[float], speed_um_s: float, settle_s: float) -> Travel:
        """To these heights, one after the other, within the limits or not."""
        lowest_um = highest_um = here_um
        way_um, moves, run_up_done = 0.0, 0, False
        for target_um in heights_um:
            for waypoint_um in self.waypoints_um(here_um, target_um, run_up_done):
                way_um += abs(waypoint_um - here_um)
                here_um = waypoint_um
                lowest_um, highest_um = min(lowest_um, here_um), max(highest_um, here_um)
            moves, run_up_done = moves + 1, True
        return Travel(way_um, way_um / speed_um_s + moves * settle_s, lowest_um, highest_um)
