"""The focus axis: the one place that moves a stage.

Every move runs through the same stations in the same order: sample frame -> backlash run-up -> soft limits,
checked on the whole path -> driver -> settling -> measured position. STOP passes all of them by.
"""

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Literal

from hardware.clock import Clock
from hardware.route import ROUNDING_UM, Route, Travel
from hardware.settling import POLL_S, Progress, SettleBy, Settling
from hardware.stage import HardwareScan, ScanRequest, Stage, StageError, StageLimitError, StageStopped
from models.errors import Cancelled, ReliefscopeError
from models.language import _

RECONNECT_SLICE_S = 0.2
"""While the cable is out, STOP and Cancel are looked for this often."""


class FocusAxis:
    """A stage in the sample's frame, larger z = further up.

    ``sign``, ``origin_um``, ``backlash_um``, ``approach`` (-1: the run-up leads away from the sample): see
    :class:`hardware.route.Route`. ``soft_limits_um``: (lowest, highest) z that may ever be reached, None: the travel.
    ``settle``, ``settle_ms``, ``settle_window_um``, ``settle_limit_s``: see :class:`hardware.settling.Settling`.
    ``tolerance_um``: a stage that stands further than this from its target is at fault. ``stall_s``: so long
    without progress is a fault too. ``hardware_timed``: controller and camera are wired to each other, sweeps may use
    it. ``speed_um_s`` only serves estimates of time; None: the speed that the stage is set to. ``trusted``: the stage
    counts as referenced because the profile says so.

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
        settle: SettleBy = "time",
        settle_ms: float = 0.0,
        settle_window_um: float = 0.1,
        settle_limit_s: float = 2.0,
        speed_um_s: float | None = None,
        tolerance_um: float = 1.0,
        stall_s: float = 2.0,
        hardware_timed: bool = False,
        trusted: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.settling = Settling(settle, settle_ms, settle_window_um, settle_limit_s)
        self.hardware_timed = hardware_timed
        self.speed_um_s = stage.speed_um_s if speed_um_s is None else speed_um_s
        self.clock = clock or Clock()
        self._stage = stage
        self.tolerance_um = tolerance_um
        self.stall_s = stall_s
        self._stopped = threading.Event()
        self._stops = self._stops_before_move = 0
        self._moving = threading.Lock()
        self._line = threading.Lock()
        travel = sorted(sign * (limit - origin_um) for limit in stage.limits_um)
        low, high = soft_limits_um or (travel[0], travel[1])
        self._route = Route(sign, origin_um, (max(low, travel[0]), min(high, travel[1])), backlash_um, approach)
        if not self.limits_um[0] < self.limits_um[1]:
            raise StageLimitError(
                _("{stage}: the soft limits {low:g} to {high:g} µm leave no room within its travel.").format(
                    stage=self.name, low=low, high=high
                )
            )
        self._run_up_done = False  # the play is known to be taken out in the approach direction
        self._zero_is_reference = stage.is_referenced and not trusted
        self._last_z_um = self._read()

    @property
    def name(self) -> str:
        """Model and port of the stage."""
        return self._stage.name

    @property
    def limits_um(self) -> tuple[float, float]:
        """Lowest and highest z that may be asked for: the soft limits, less the room for the run-up."""
        return self._route.limits_um

    @property
    def backlash_um(self) -> float:
        return self._route.backlash_um

    @property
    def approach(self) -> Literal[1, -1]:
        return self._route.approach

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

    @property
    def homing_keeps_z(self) -> bool:
        """True where z means the same after :meth:`home` as now, and is not counted from where a person said it was."""
        return self.can_home and self._zero_is_reference

    def faults(self) -> tuple[str, ...]:
        """Sentences about what is wrong with the stage, each with what to do about it."""
        return self._stage.faults()

    @property
    def latest_um(self) -> float:
        """The z measured last, by whatever thread. Asks nobody, so that a window may look at any time."""
        return self._last_z_um

    def position_um(self) -> float:
        """The measured z. While another thread speaks to the stage, its latest reading. Raises StageError."""
        if self._line.acquire(blocking=False):
            try:
                self._last_z_um = self._route.z_um(self._stage.position_um())
            finally:
                self._line.release()
        return self._last_z_um

    def check(self, z_um: float) -> None:
        """Raises StageLimitError where a move to ``z_um``, with its run-up, would leave the limits."""
        if not self._route.allows(z_um):
            low, high = self.limits_um
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
                for waypoint_um in self._route.waypoints_um(self._read(), z_um, self._run_up_done):
                    self._travel(waypoint_um, cancel)
                measured_um = self._settled_um(z_um, cancel)
        if abs(measured_um - z_um) > self.tolerance_um:
            raise self._missed(measured_um, z_um)
        return measured_um

    def home(self) -> float:
        """Drive the stage to its reference, return the measured z. Only on a person's word: it moves far.

        Raises StageError, StageStopped after STOP.
        """
        with self._moving_alone(), self._halted_on_error():
            self._stops_before_move = self._stops
            self._refuse_if_stopped()
            self._run_up_done = False
            with self._line:
                self._stage.home(self._refuse_if_overtaken)
            self._zero_is_reference = True
            self._refuse_if_stopped()
            return self._read()

    def confirm_position(self) -> None:
        """A person vouches for the position and for the way being clear; nothing moves. Raises StageError."""
        with self._moving_alone(), self._line:
            self._run_up_done = self._zero_is_reference = False
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

    def reconnect(self, timeout_s: float, cancel: threading.Event | None = None) -> float:
        """Wait until a stage that was cut off answers again, return the measured z. Nothing moves.

        Whether z still means anything, :attr:`is_referenced` tells. Raises StageError when the time is over,
        StageStopped, Cancelled.
        """
        with self._moving_alone():
            self._run_up_done = False
            self._stops_before_move, end_s = self._stops, self.clock.now() + timeout_s
            while True:
                self._refuse_if_overtaken()
                self._refuse_if_cancelled(cancel)
                try:
                    with self._line:
                        self._stage.reconnect(RECONNECT_SLICE_S)
                    return self._read()
                except StageError:
                    if self.clock.now() >= end_s:
                        raise
                self.clock.wait(POLL_S, self._stopped)

    def dry_run(self, z_um: Iterable[float]) -> Travel:
        """The way to these heights, one after the other from the latest known z, within the limits or not."""
        return self._route.travel(self._last_z_um, z_um, self.speed_um_s, self.settling.rest_ms / 1000.0)

    @property
    def scan(self) -> HardwareScan | None:
        """The stage's own timing of stacks, where it has one and the profile says that it is wired to the camera."""
        return self._stage if self.hardware_timed and isinstance(self._stage, HardwareScan) else None

    @contextmanager
    def scanning(self, request: ScanRequest) -> Iterator[tuple[float, ...]]:
        """Hand the stage to its controller for a stack around or from where it stands; gives the z of every frame.

        ``request``: with the step in z, upwards positive. Whatever ends the block early halts the stage. Raises
        StageError, also where the stage has no such thing, StageLimitError.
        """
        scan = self.scan
        if scan is None:
            raise StageError(_("{stage} cannot time a stack by itself.").format(stage=self.name))
        begin_um, length_um = self.position_um(), (request.frame_count - 1) * request.step_um
        if scan.scan_leader == "camera":
            begin_um -= length_um / 2
        for z_um in (begin_um, begin_um + length_um):
            self.check(z_um)
        others_move = scan.scan_leader != "moves"
        with self._moving_alone() if others_move else nullcontext(), self._halted_on_error():
            self._stops_before_move = self._stops
            self._refuse_if_stopped()
            try:
                with self._line:
                    heights = scan.begin_scan(replace(request, step_um=self._route.sign * request.step_um))
                self._refuse_if_stopped()  # before any pulse: STOP may have come between the check and the start
                yield tuple(self._route.z_um(height) for height in heights)
                self._refuse_if_stopped()
            except BaseException:
                with suppress(StageError), self._line:  # the error on its way says more
                    scan.end_scan()
                raise
            with self._line:
                scan.end_scan()
            self._run_up_done = self._run_up_done and not others_move

    def wait_at(self, heights_um: Collection[float], within_um: float, cancel: threading.Event | None = None) -> float:
        """Wait until a stage that something else moves has come so near to one of these and settled; the measured z.

        Raises StageError where it does not come there, StageStopped, Cancelled.
        """
        progress = Progress(self.clock, self._last_z_um, self.stall_s)
        while True:
            self._refuse_if_stopped()
            self._refuse_if_cancelled(cancel)
            with self._line:
                moving = self._stage.is_moving()
            here_um = self._read()
            z_um = min(heights_um, key=lambda height_um: abs(height_um - here_um))
            if not moving and abs(here_um - z_um) <= within_um:
                return self._settled_um(z_um, cancel)
            if progress.has_stalled(here_um):
                raise self._missed(here_um, z_um)
            self.clock.wait(POLL_S, self._stopped)

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
            failed = isinstance(error, ReliefscopeError) and not isinstance(error, Cancelled)
            if failed and self._stops != self._stops_before_move:
                raise self._stopped_error() from error  # whatever else STOP brought about
            raise

    def _read(self) -> float:
        with self._line:
            self._last_z_um = self._route.z_um(self._stage.position_um())
        return self._last_z_um

    def _travel(self, z_um: float, cancel: threading.Event | None) -> None:
        """One leg: start, then poll until the controller says that it is done."""
        self._refuse_if_stopped()
        direction = z_um - self._last_z_um
        self._run_up_done = self._run_up_done and direction * self.approach >= 0
        with self._line:
            self._stage.start_move_to(self._route.position_um(z_um, self._stage.limits_um))
        progress = Progress(self.clock, self._last_z_um, self.stall_s)
        while True:
            self._refuse_if_stopped()  # first: STOP may have come between the check and the start
            self._refuse_if_cancelled(cancel)
            with self._line:
                moving = self._stage.is_moving()
            here_um = self._read()
            if not moving:
                break
            if progress.has_stalled(here_um):
                raise StageError(
                    _("{stage} is blocked at {z:.2f} µm and was switched off. Is something in its way?").format(
                        stage=self.name, z=here_um
                    )
                )
            self.clock.wait(POLL_S, self._stopped)
        if self._route.takes_play_out(direction):
            self._run_up_done = True

    def _settled_um(self, z_um: float, cancel: threading.Event | None) -> float:
        """Wait for rest; the measured z, which is ``z_um`` itself where the reading is too coarse to tell."""
        here_um = self.settling.wait(
            self.name, z_um, clock=self.clock, read_um=self._read, pause=lambda seconds: self._pause(seconds, cancel)
        )
        return z_um if abs(here_um - z_um) <= 0.5 * self._stage.grain_um + ROUNDING_UM else here_um

    def _missed(self, measured_um: float, z_um: float) -> StageError:
        return StageError(
            _("{stage} stands at {measured:.2f} µm instead of {target:.2f} µm. Is something in its way?").format(
                stage=self.name, measured=measured_um, target=z_um
            )
        )

    def _pause(self, seconds: float, cancel: threading.Event | None) -> None:
        """Rest, in slices short enough that Cancel is felt at once; STOP ends a slice by itself."""
        end_s = self.clock.now() + seconds
        while (left_s := end_s - self.clock.now()) > 0:
            self._refuse_if_stopped()
            self._refuse_if_cancelled(cancel)
            self.clock.wait(min(left_s, 0.02), self._stopped)
        self._refuse_if_stopped()

    @property
    def _is_overtaken(self) -> bool:
        # The count tells of a STOP that was released again before this thread looked.
        return self._stopped.is_set() or self._stops != self._stops_before_move

    def _refuse_if_overtaken(self) -> None:
        if self._is_overtaken:
            raise self._stopped_error()

    def _refuse_if_stopped(self) -> None:
        if self._is_overtaken:
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
