"""The focus axis: the one place that moves a stage.

Every move runs through the same stations in the same order: sample frame -> backlash run-up -> soft limits,
checked on the whole path -> driver -> settling -> measured position. STOP passes all of them by.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from hardware.clock import Clock
from hardware.stage import Stage, StageError, StageLimitError, StageStopped
from models.errors import Cancelled
from models.language import _

POLL_S = 0.005
ROUNDING_UM = 1e-6
"""Differences of this size come from floating-point arithmetic, not from anybody's wish."""


class FocusAxis:
    """A stage in the sample's frame: ``z_um = sign * (stage position - origin_um)``, larger = further up.

    ``soft_limits_um``: (lowest, highest) z that may ever be reached, None: the travel of the stage.
    ``backlash_um``: play to take out; every move ends in the direction ``approach`` (-1: downwards, so that
    the run-up leads away from the sample; +1: upwards) after at least this distance in that direction.
    ``settle_ms``: rest after the controller reports the end of a move. ``tolerance_um``: a stage that stands
    further than this from its target is at fault. ``stall_s``: so long without progress is a fault too.
    ``speed_um_s`` only serves estimates of time; None: the speed that the stage is set to.

    One thread at a time may move; a second one gets StageError at once. :meth:`stop` may be called from any
    thread and waits for nothing.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        sign: Literal[1, -1] = 1,
        origin_um: float = 0.0,
        soft_limits_um: tuple[float, float] | None = None,
        backlash_um: float = 0.0,
        approach: Literal[1, -1] = -1,
        settle_ms: float = 0.0,
        speed_um_s: float | None = None,
        tolerance_um: float = 1.0,
        stall_s: float = 2.0,
        clock: Clock | None = None,
    ) -> None:
        self.backlash_um = backlash_um
        self.settle_ms = settle_ms
        self.speed_um_s = stage.speed_um_s if speed_um_s is None else speed_um_s
        self.approach = approach
        self.clock = clock or Clock()
        self._stage = stage
        self._sign = sign
        self._origin_um = origin_um
        self._tolerance_um = tolerance_um
        self._stall_s = stall_s
        self._stopped = threading.Event()
        self._stops = self._stops_before_move = 0
        self._moving = threading.Lock()
        self._line = threading.Lock()
        travel = sorted(self._z_um(limit) for limit in stage.limits_um)
        low, high = soft_limits_um or (travel[0], travel[1])
        self._path_limits_um = (max(low, travel[0]), min(high, travel[1]))
        if not self.limits_um[0] < self.limits_um[1]:
            raise StageLimitError(
                _("{stage}: the soft limits {low:g} to {high:g} µm leave no room within its travel.").format(
                    stage=self.name, low=low, high=high
                )
            )
        self._run_up_done = False  # the play is known to be taken out in the approach direction
        self._last_z_um = self._read()

    @property
    def name(self) -> str:
        """Model and port of the stage."""
        return self._stage.name

    @property
    def limits_um(self) -> tuple[float, float]:
        """Lowest and highest z that may be asked for: the soft limits, less the room for the run-up."""
        low, high = self._path_limits_um
        if self.approach < 0:
            return low, high - self.backlash_um
        return low + self.backlash_um, high

    @property
    def is_stopped(self) -> bool:
        """True from :meth:`stop` until :meth:`release`."""
        return self._stopped.is_set()

    @property
    def is_moving(self) -> bool:
        """True while a thread is inside a move, settling included."""
        return self._moving.locked()

    @property
    def is_referenced(self) -> bool:
        """Whether z means anything; see :class:`hardware.stage.Stage`."""
        return self._stage.is_referenced

    @property
    def can_home(self) -> bool:
        """True where :meth:`home` finds the reference."""
        return self._stage.can_home

    def faults(self) -> tuple[str, ...]:
        """Sentences about what is wrong with the stage, each with what to do about it."""
        return self._stage.faults()

    def position_um(self) -> float:
        """The measured z. While another thread speaks to the stage, its latest reading. Raises StageError."""
        if self._line.acquire(blocking=False):
            try:
                self._last_z_um = self._z_um(self._stage.position_um())
            finally:
                self._line.release()
        return self._last_z_um

    def check(self, z_um: float) -> None:
        """Raises StageLimitError where a move to ``z_um``, with its run-up, would leave the limits."""
        low, high = self.limits_um
        if not low - ROUNDING_UM <= z_um <= high + ROUNDING_UM:  # also refuses NaN
            raise StageLimitError(
                _("{stage}: {z:.2f} µm is outside the limits of {low:g} to {high:g} µm. Nothing was moved.").format(
                    stage=self.name, z=z_um, low=low, high=high
                )
            )

    def move_to(self, z_um: float, cancel: threading.Event | None = None) -> float:
        """Go to ``z_um``, wait until the stage has settled, return the measured z.

        Raises StageLimitError before anything moves, StageStopped after STOP, Cancelled (the stage is halted),
        StageError where the stage fails, stalls, misses its target or is moved by another thread.
        """
        with self._moving_alone():
            self.check(z_um)
            with self._halted_on_error():
                self._stops_before_move = self._stops
                self._refuse_if_stopped()
                self._refuse_if_cancelled(cancel)
                for waypoint_um in self._waypoints_um(z_um):
                    self._travel(waypoint_um, cancel)
                self._pause(self.settle_ms / 1000.0, cancel)
                measured_um = self._read()
        if abs(measured_um - z_um) > self._tolerance_um:
            raise StageError(
                _("{stage} stands at {measured:.2f} µm instead of {target:.2f} µm. Is something in its way?").format(
                    stage=self.name, measured=measured_um, target=z_um
                )
            )
        return measured_um

    def move_by(self, dz_um: float, cancel: threading.Event | None = None) -> float:
        """Like :meth:`move_to`, relative to the measured position."""
        return self.move_to(self.position_um() + dz_um, cancel)

    def home(self) -> float:
        """Drive the stage to its reference, return the measured z. Only on a person's word: it moves far.

        Raises StageError, StageStopped after STOP.
        """
        with self._moving_alone(), self._halted_on_error():
            self._stops_before_move = self._stops
            self._refuse_if_stopped()
            self._run_up_done = False
            with self._line:
                self._stage.home()
            self._refuse_if_stopped()
            return self._read()

    def confirm_position(self) -> None:
        """A person vouches for the position and for the way being clear; nothing moves. Raises StageError."""
        with self._moving_alone(), self._line:
            self._run_up_done = False
            self._stage.confirm_position()

    def stop(self) -> None:
        """Halt at once, from any thread; refuse every move until :meth:`release`. Raises StageError if unheard."""
        self._stops += 1
        self._stopped.set()
        self._run_up_done = False
        self._stage.stop()

    def release(self) -> None:
        """Allow moves again after :meth:`stop`."""
        self._stopped.clear()

    def close(self) -> None:
        """Halt a move in progress and release the port."""
        try:
            if self._moving.locked():
                self.stop()
        finally:
            self._stage.close()

    def travel_s(self, distance_um: float) -> float:
        """Estimated time for one step of a sweep: the way, the run-up where the step goes against it, settling."""
        way_um = abs(distance_um)
        if distance_um * self.approach < 0:
            way_um += 2 * self.backlash_um
        return way_um / self.speed_um_s + self.settle_ms / 1000.0

    def _z_um(self, position_um: float) -> float:
        return self._sign * (position_um - self._origin_um)

    def _waypoints_um(self, z_um: float) -> list[float]:
        """The target, after a run-up unless the way there already takes the play out."""
        ahead_um = (z_um - self._read()) * self.approach
        needed_um = 0.0 if self._run_up_done else self.backlash_um
        if ahead_um >= needed_um - ROUNDING_UM:
            return [z_um]
        return [z_um - self.approach * self.backlash_um, z_um]

    @contextmanager
    def _moving_alone(self) -> Iterator[None]:
        if not self._moving.acquire(blocking=False):
            raise StageError(_("{stage} is already moving.").format(stage=self.name))
        try:
            yield
        finally:
            self._moving.release()

    @contextmanager
    def _halted_on_error(self) -> Iterator[None]:
        """Whatever ends a move early - STOP, Cancel, Ctrl-C, a fault - the stage does not go on by itself."""
        try:
            yield
        except BaseException as error:
            self._run_up_done = False
            with suppress(StageError):  # a stage that does not answer: the error on its way says so
                self._stage.stop()
                self._read()
            if isinstance(error, StageError) and self._stops != self._stops_before_move:
                raise self._stopped_error() from error  # whatever else STOP brought about
            raise

    def _read(self) -> float:
        with self._line:
            self._last_z_um = self._z_um(self._stage.position_um())
        return self._last_z_um

    def _travel(self, z_um: float, cancel: threading.Event | None) -> None:
        """One leg: start, then poll until the controller says that it is done."""
        direction = z_um - self._last_z_um
        self._run_up_done = self._run_up_done and direction * self.approach >= 0
        with self._line:
            self._stage.start_move_to(self._origin_um + self._sign * z_um)
        progress_s, progress_um = self.clock.now(), self._last_z_um
        while True:
            self._refuse_if_stopped()  # first: STOP may have come between the check and the start
            self._refuse_if_cancelled(cancel)
            with self._line:
                moving = self._stage.is_moving()
            here_um = self._read()
            if not moving:
                break
            if abs(here_um - progress_um) > ROUNDING_UM:
                progress_s, progress_um = self.clock.now(), here_um
            elif self.clock.now() - progress_s > self._stall_s:
                raise StageError(
                    _("{stage} is blocked at {z:.2f} µm and was switched off. Is something in its way?").format(
                        stage=self.name, z=here_um
                    )
                )
            self.clock.wait(POLL_S, self._stopped)
        if direction * self.approach > 0 and abs(direction) >= self.backlash_um - ROUNDING_UM:
            self._run_up_done = True

    def _pause(self, seconds: float, cancel: threading.Event | None) -> None:
        """Rest, in slices short enough that Cancel is felt at once; STOP ends a slice by itself."""
        end_s = self.clock.now() + seconds
        while (left_s := end_s - self.clock.now()) > 0:
            self._refuse_if_stopped()
            self._refuse_if_cancelled(cancel)
            self.clock.wait(min(left_s, 0.02), self._stopped)
        self._refuse_if_stopped()

    def _refuse_if_stopped(self) -> None:
        # The count tells of a STOP that was released again before this thread looked.
        if self._stopped.is_set() or self._stops != self._stops_before_move:
            self._stage.stop()  # a move that was started in the same instant
            with suppress(StageError):
                self._read()
            raise self._stopped_error()

    def _stopped_error(self) -> StageStopped:
        return StageStopped(
            _("{stage} was stopped at {z:.2f} µm. Release the stop to move again.").format(
                stage=self.name, z=self._last_z_um
            )
        )

    def _refuse_if_cancelled(self, cancel: threading.Event | None) -> None:
        if cancel is not None and cancel.is_set():
            raise Cancelled
