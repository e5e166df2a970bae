"""ASI MS-2000 and Tiger (TG-1000).

Source: asiimaging.com/docs, pages on each command and on their communication; forms of replies also from the
device adapters of Micro-Manager. Replies are ``:A ...`` or ``:N-code``. Positions count tenths of a micrometre, or
what ``UM`` tells; limits are in mm, speeds in mm/s. Moves are answered at once. The controller would take out
backlash by itself, beyond the target; that is switched off, :class:`hardware.motion.FocusAxis` does it.
"""

import math
import re
import time

from hardware.line import LineFormat, SerialLine
from hardware.stage import ScanLeader, ScanRequest, StageError, StageLimitError, StageNoReply, StageStopped
from hardware.stages.driver import SerialStage, SerialStageSettings, StageDriver
from models.language import N_, _

FLUSH_S = 0.1
IDENTIFY_S = 0.6
HOMING_LIMIT_S = 180.0
OFF_TARGET_UM = 5.0
"""A move that ends further than this from its target, and was not stopped, has a reason to be found out."""
TTL_UNITS_PER_UM = 10.0
PAUSE_LIMIT_S = 10.0
"""Between two pulses of a triggered stack."""
RETURN_BEGINS_S = 0.05
UPPER_SWITCH, LOWER_SWITCH, AXIS_ENABLED = 0x40, 0x80, 0x02

UNKNOWN = 1
ERRORS = {
    UNKNOWN: N_("it does not know the command"),
    2: N_("it has no such axis"),
    3: N_("a number is missing in the command"),
    4: N_("the number is out of range"),
    5: N_("the operation failed"),
    6: N_("an undefined error"),
    7: N_("there is no card with this address"),
    21: N_("it was halted"),
}

_NUMBER = r"(-?\d{1,10}(?:\.\d{1,9})?)"
_POSITION = re.compile(rf":A\s*{_NUMBER}\s*")
_VALUE = re.compile(rf":(?:A )?\s*([A-Z])={_NUMBER}(?: A)?\s*", re.IGNORECASE)
_VALUES = re.compile(rf":(?:A )?(?:\s*[A-Z]={_NUMBER})+(?: A)?\s*", re.IGNORECASE)
_REFUSAL = re.compile(r":N\s*-?(\d{1,2})\s*")
_BUSY = re.compile(r"(?::A )?([BN])\s*")
_BUILD = re.compile(r"(?::A )?([A-Z][\w+.-]{2,40})\s*", re.IGNORECASE)
_VERSION = re.compile(r":A (?:Version: ?)?(?=.*[A-Z])([^=:]*\d[^=:]*)", re.IGNORECASE)
_BANNER = re.compile(r"At [0-9A-F]{2}: .*")


def position_units(line: str) -> float | None:
    """The number of a reply to ``W``; None for anything else."""
    match = _POSITION.fullmatch(line)
    return None if match is None else float(match[1])


def value(line: str, letter: str) -> float | None:
    """The number of a reply ``:A Z=1.5`` or ``:Z=1.5 A`` for this letter; None for anything else."""
    match = _VALUE.fullmatch(line)
    return None if match is None or match[1].upper() != letter else float(match[2])


def refusal(line: str) -> int | None:
    """The code of ``:N-code``; None for anything else."""
    match = _REFUSAL.fullmatch(line)
    return None if match is None else int(match[1])


def _is_done(line: str) -> bool:
    return line.strip() == ":A" or refusal(line) is not None


def _is_build(line: str) -> bool:
    """Firmware from before 2010 does not know ``BU`` and says so, as nobody else would."""
    return _BUILD.fullmatch(line) is not None or refusal(line) == UNKNOWN


FORMAT = LineFormat(
    command_end=b"\r",
    is_push=lambda line: _BANNER.fullmatch(line) is not None,
    sync=("BU", _is_build),
    timeout_s=1.0,
)


def identify(line: SerialLine) -> str | None:
    """Build and version. ``V`` moves other controllers: only who answers ``BU`` as ASI's do is asked for it."""
    try:
        line.tell("")  # ends what somebody else may have begun
        line.listen(FLUSH_S)
        told = line.ask("BU", timeout_s=IDENTIFY_S)
        if not _is_build(told):
            return None
        build = _BUILD.fullmatch(told)
        version = _VERSION.fullmatch(line.ask("V", timeout_s=IDENTIFY_S))
    except StageNoReply:
        return None
    if version is None:
        return None
    return ", ".join(["ASI", *([build[1]] if build is not None else []), version[1].strip()])


class AsiStage(SerialStage):
    """One axis of an ASI controller. ``home`` drives to the upper limit switch and makes it zero."""

    title = "ASI"
    can_home = True
    scan_leader: ScanLeader = "camera"

    def __init__(self, settings: SerialStageSettings, line: SerialLine) -> None:
        self._axis = settings.axis.upper()
        if re.fullmatch("[A-Z]", self._axis) is None:
            line.close()
            raise StageError(_("ASI names its axes by one letter, not '{axis}'.").format(axis=settings.axis))
        self._units_per_um = 10.0
        self._travel_um: tuple[float, float] | None = None
        self._stops_before = 0
        self._armed: str | None = None  # address of the card whose trigger input moves the stage
        super().__init__(settings, line)

    @property
    def limits_um(self) -> tuple[float, float]:
        """The profile's, within those of the controller."""
        low_um, high_um = super().limits_um
        if self._travel_um is not None:
            low_um, high_um = max(low_um, self._travel_um[0]), min(high_um, self._travel_um[1])
        return low_um, high_um

    def _connect(self) -> None:
        identity = identify(self._line)
        if identity is None:
            raise StageNoReply(
                _("No ASI controller answers on {port}. Check port, baud rate and power.").format(
                    port=self._line.port_name
                )
            )
        self._recognise(identity)
        units_per_mm = self._value("UM")
        if units_per_mm is not None:
            if not units_per_mm > 0:
                raise StageError(
                    _("{stage} counts {units:g} units per mm, which cannot be. Set UM {axis}=10000.").format(
                        stage=self.name, units=units_per_mm, axis=self._axis
                    )
                )
            self._units_per_um = units_per_mm / 1000.0
        self._read_limits()
        if not self.limits_um[0] < self.limits_um[1]:
            raise StageLimitError(
                _("{stage}: the limits of the profile leave no room within those of the controller.").format(
                    stage=self.name
                )
            )
        self.end_scan()
        self._set_modes()

    def _read_limits(self) -> None:
        limits = [self._value(command) for command in ("SL", "SU")]
        told = sorted(1000.0 * limit for limit in limits if limit is not None)  # SL > SU where the axis is reversed
        self._travel_um = (told[0], told[1]) if len(told) == 2 else None

    def _set_modes(self) -> None:
        """What the controller forgets when it is switched off."""
        for command in (f"B {self._axis}=0", f"S {self._axis}={self._speed_um_s / 1000.0:.6f}"):
            self._command(command, may_be_unknown=True)  # a piezo has neither
        speed_mm_s = self._value("S")
        if speed_mm_s is not None and speed_mm_s > 0:
            self._speed_um_s = 1000.0 * speed_mm_s

    def _read_position(self) -> float:
        told = self._line.ask(
            f"W {self._axis}", lambda line: position_units(line) is not None or refusal(line) is not None, repeat=True
        )
        units = position_units(told)
        if units is None:
            raise self._refused(told)
        here_um = units / self._units_per_um
        self._note_reading(here_um, may_change=self._is_under_way or self._armed is not None)
        return here_um

    def _is_busy(self) -> bool:
        told = self._line.ask("/", lambda line: _BUSY.fullmatch(line) is not None, repeat=True)
        return "B" in told

    @property
    def _is_under_way(self) -> bool:
        """A move that nobody has stopped."""
        return self._target_um is not None and self._stops == self._stops_before

    def _read_moving(self) -> bool:
        if self._is_busy():
            return True
        if self._target_um is not None and self._is_under_way:
            self._check_end(self._target_um)
        return False

    def _check_end(self, target_um: float) -> None:
        here_um = self._read_position()
        if abs(here_um - target_um) <= OFF_TARGET_UM:
            return
        status = self._read_status()
        if status & (UPPER_SWITCH | LOWER_SWITCH):
            self._alarm = _(
                "{stage} ran onto a limit switch. Make sure that the way is free, then confirm its position."
            ).format(stage=self.name)
        elif not status & AXIS_ENABLED:
            self._alarm = _("The motor of {stage} is off. Engage its clutch, then confirm its position.").format(
                stage=self.name
            )
        else:
            self._lose_reference(
                _("{stage} ended at {here:.1f} µm instead of {target:.1f} µm: it was reset or is blocked.").format(
                    stage=self.name, here=here_um, target=target_um
                )
            )

    def _read_status(self) -> int:
        told = self._line.ask(
            f"RS {self._axis}", lambda line: position_units(line) is not None or refusal(line) is not None, repeat=True
        )
        status = position_units(told)
        return AXIS_ENABLED if status is None else int(status)

    def _move_to(self, position_um: float) -> None:
        self._start("M", position_um)

    def _move_by(self, distance_um: float, target_um: float) -> None:
        self._start("R", distance_um)

    def _start(self, command: str, length_um: float) -> None:
        if self._armed is not None:
            if self._stops == self._stops_before:
                raise StageError(
                    _("{stage} waits for triggers. End the triggered stack first.").format(stage=self.name)
                )
            self.end_scan()
        self._stops_before = self._stops
        self._command(f"{command} {self._axis}={_digits(length_um * self._units_per_um)}")

    def _set_speed(self, speed_um_s: float) -> None:
        self._command(f"S {self._axis}={speed_um_s / 1000.0:.6f}")
        taken = self._value("S")
        if taken is not None and not math.isclose(1000.0 * taken, speed_um_s, rel_tol=0.02):
            self._command(f"S {self._axis}={self._speed_um_s / 1000.0:.6f}")
            raise StageError(
                _("{stage} cannot go at {asked:g} µm/s; {taken:g} µm/s is nearest.").format(
                    stage=self.name, asked=speed_um_s, taken=1000.0 * taken
                )
            )

    def _halt(self) -> None:
        card = self._armed
        disarm = b"" if card is None else f"{card}TTL X=0\r".encode("ascii")  # the next pulse would move it again
        self._line.urgent(b"HALT\r" + disarm)

    def _home(self) -> None:
        stops = self._stops
        self._command(f"! {self._axis}")
        end_s = time.monotonic() + HOMING_LIMIT_S
        while self._is_busy():
            if self._stops != stops:
                return
            if time.monotonic() > end_s:
                self._halt()
                raise StageError(_("{stage} did not reach its home position.").format(stage=self.name))
            time.sleep(0.02)
        if self._stops != stops:
            return  # halted on the way: this is no place for zero
        if not self._read_status() & (UPPER_SWITCH | LOWER_SWITCH):
            home_mm = self._value("HM")
            if home_mm is None or abs(self._read_position() - 1000.0 * home_mm) > OFF_TARGET_UM:
                raise StageError(_("{stage} did not reach its home position.").format(stage=self.name))
        self._command(f"H {self._axis}=0")
        self._seen_um = None
        self._read_limits()

    def _unlock(self) -> None:
        self._seen_um = None
        self._set_modes()

    def _heard(self, line: str) -> None:
        self._lose_reference(_("{stage} was reset.").format(stage=self.name))

    # -- a stack stepped by the camera, see hardware.stage.HardwareScan

    def begin_scan(self, request: ScanRequest) -> tuple[float, ...]:
        """Let pulses at the trigger input step the stage; the step is as fine as the controller can resolve it.

        Where no pulse comes for ``PAUSE_LIMIT_S`` the stage returns to the middle. Moves are refused meanwhile.
        """
        frames, step = request.frame_count, request.step_um * TTL_UNITS_PER_UM
        if frames < 2 or not math.isfinite(step) or round(step) == 0:
            raise StageError(_("A triggered stack needs two frames and steps of 0.1 µm or more."))
        if self.is_moving():
            raise StageError(_("{stage} is still moving.").format(stage=self.name))
        middle_um = self.position_um()
        for position_um in _stack_um(middle_um, request.step_um, frames):
            self._check(position_um)
        card = self._trigger_card()
        self._command(f"{card}ZS X={round(step)} Y={frames} Z=0 F={round(1000 * PAUSE_LIMIT_S)}")
        taken = self._values(f"{card}ZS X? Y?")
        if taken.get("Y") != frames or not taken.get("X"):
            raise StageError(
                _("{stage} cannot make a triggered stack of {frames} frames, only of {most:g}.").format(
                    stage=self.name, frames=frames, most=taken.get("Y", 0)
                )
            )
        positions_um = _stack_um(middle_um, taken["X"] / TTL_UNITS_PER_UM, frames)
        for position_um in positions_um:
            self._check(position_um)
        self._stops_before = self._stops
        with self._halted_by_a_stop_meanwhile():
            self._armed = card
            self._command(f"{card}TTL X=4")
        return positions_um

    def end_scan(self) -> None:
        """Pulses move nothing any more, and no pause is still running that would end with a move by itself."""
        card = self._armed
        if card is None:
            return
        self._command(f"{card}TTL X=0")
        if self._stops == self._stops_before:  # after HALT nothing must move, not even back
            self._command(f"{card}ZS F=1")
            time.sleep(RETURN_BEGINS_S)
            end_s = time.monotonic() + PAUSE_LIMIT_S
            while self._is_busy() and time.monotonic() < end_s:
                time.sleep(RETURN_BEGINS_S)
        self._armed = None

    def _trigger_card(self) -> str:
        """Address of the card that drives the axis; empty on the MS-2000, which has no cards."""
        if "TIGER" not in self._identity.upper():
            return ""
        told = self._line.ask_lines("BU X", is_last=lambda line: line.startswith("Axis Addr:"), repeat=True)
        rows = {name: cells.split() for name, _colon, cells in (line.partition(":") for line in told)}
        cards = dict(zip(rows.get("Motor Axes", []), rows.get("Axis Addr", []), strict=False))
        card = cards.get(self._axis, "")
        if re.fullmatch(r"\d", card) is None:
            raise StageError(
                _("{stage} does not tell which card drives its axis {axis}.").format(stage=self.name, axis=self._axis)
            )
        return card

    # -- words

    def _value(self, command: str) -> float | None:
        """Of this axis; None where the controller does not know the command."""
        told = self._line.ask(
            f"{command} {self._axis}?",
            lambda line: value(line, self._axis) is not None or refusal(line) is not None,
            repeat=True,
        )
        if refusal(told) not in (None, UNKNOWN):
            raise self._refused(told)
        return value(told, self._axis)

    def _values(self, query: str) -> dict[str, float]:
        told = self._line.ask(
            query, lambda line: _VALUES.fullmatch(line) is not None or refusal(line) is not None, repeat=True
        )
        if refusal(told) is not None:
            raise self._refused(told)
        return {letter.upper(): float(number) for letter, number in re.findall(rf"([A-Za-z])={_NUMBER}", told)}

    def _command(self, command: str, *, may_be_unknown: bool = False) -> None:
        """Raises what the controller's refusal means."""
        told = self._line.ask(command, _is_done)
        if refusal(told) is not None and not (may_be_unknown and refusal(told) == UNKNOWN):
            raise self._refused(told)

    def _refused(self, told: str) -> StageError:
        code = refusal(told) or 0
        reason = _(ERRORS[code]) if code in ERRORS else _("error {number}").format(number=code)
        kind = {4: StageLimitError, 21: StageStopped}.get(code, StageError)
        return kind(_("{stage} refused: {reason}.").format(stage=self.name, reason=reason))


def _digits(units: float) -> str:
    """Whole units without a point, as the oldest firmware wants them."""
    return f"{units:.2f}".rstrip("0").rstrip(".") if f"{units:.2f}" != "-0.00" else "0"


def _stack_um(middle_um: float, step_um: float, frames: int) -> tuple[float, ...]:
    return tuple(middle_um + (frame - (frames - 1) / 2) * step_um for frame in range(frames))


DRIVER = StageDriver("asi", "ASI MS-2000, Tiger", FORMAT, AsiStage, identify, (115200, 9600, 19200))
