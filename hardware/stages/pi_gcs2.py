"""Controllers of Physik Instrumente (PI) that speak the General Command Set 2.0: C-863, C-884, E-709, E-873 and kin.

Source: PI's user manual MS249E (C-863.12) and its E-727 counterpart; what to expect of other models from
Micro-Manager's adapter (BSD) and Squid's notes on the C-414. Commands are answered by nothing: ``ERR?`` tells what
became of each, and forgets it. A controller may clamp a target without a word, so the position is compared with the
target after each move. STOP is the single byte 0x18, which halts all axes and leaves error 10 behind.
"""

import re
import time
from typing import Literal

from pydantic import Field

from hardware.line import LineFormat, SerialLine
from hardware.stage import (
    ScanLeader,
    ScanRequest,
    StageAlarm,
    StageError,
    StageLimitError,
    StageNoReply,
    StageStopped,
    StageUnreferenced,
)
from hardware.stages.driver import SerialStage, SerialStageSettings, StageDriver
from models.language import N_, _

STOP, MOTION, READY = b"\x18", b"\x05", b"\x07"
IS_READY, IS_BUSY = "\xb1", "\xb0"
REFERENCE_LIMIT_S = 180.0
POLL_S = 0.02
STATUS_AGE_S = 0.01
"""A position that is asked for right after the end of a move comes from the check of that end, once."""
ARRIVAL_UM = 1.0
"""A closed loop that reports on target stands at least this close to it."""
UNITS_UM = {"M": 1e6, "MM": 1e3, "UM": 1.0, "µM": 1.0, "MICRON": 1.0, "NM": 1e-3}
UNKNOWN_COMMAND, UNREFERENCED, OUT_OF_LIMITS, VELOCITY, STOPPED = 2, 5, 7, 8, 10
ON_TARGET = 2
"""Mode of a digital output that follows whether the axis is on target."""

ERRORS = {
    1: N_("a parameter has the wrong form"),
    2: N_("it does not know the command"),
    3: N_("the command was too long"),
    5: N_("it has no reference, or its servo is off"),
    7: N_("the target lies outside its travel"),
    8: N_("the speed is out of its range"),
    10: N_("it was stopped"),
    15: N_("it has no such axis"),
    17: N_("a parameter is out of range"),
    23: N_("it has no such axis"),
    51: N_("a joystick moves the axis"),
    83: N_("a joystick moves the axis"),
    84: N_("the motor is switched off"),
    216: N_("a limit switch was hit"),
    1024: N_("the stage did not follow; the servo was switched off"),
}
ALARMS = {84, 216, 1024}
"""After these it moves no more until a person has looked."""

_FLOAT = re.compile(r"[-+]?\d{1,12}(?:\.\d{1,12})?(?:[eE][-+]?\d{1,2})?", re.ASCII)
_VALUE = re.compile(r"(\w{1,16}) ?= ?([^\s=]{1,40}) ?", re.ASCII)
_ERROR = re.compile(r"-?\d{1,5} ?", re.ASCII)
_MASK = re.compile(r"(?:0x)?[0-9A-Fa-f]{1,8} ?")
_AXIS = re.compile(r"\w{1,16} ?", re.ASCII)
_MAKER = re.compile(r".*Physik ?Instrumente.*", re.IGNORECASE)


class PiSettings(SerialStageSettings):
    """``um_per_unit``: of the controller, needed where it does not tell (``PUN?``); 1000 for mm.

    ``reference_move``: how it homes: to its reference switch, or to the negative or positive limit switch.
    ``trigger_output``: the digital output that a camera is wired to, where one is.
    """

    axis: str = Field(default="1", pattern=r"^[A-Za-z0-9_]{1,16}$")
    um_per_unit: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    reference_move: Literal["FRF", "FNL", "FPL"] = "FRF"
    trigger_output: int = Field(default=1, ge=1, le=16)


def value_of(line: str, axis: str) -> str | None:
    """The value in a reply ``axis=value``; None for anything else and for other axes."""
    match = _VALUE.fullmatch(line)
    return match[2] if match is not None and match[1] == axis else None


def _is_error(line: str) -> bool:
    return _ERROR.fullmatch(line) is not None


def _is_mask(line: str) -> bool:
    """A reply to the byte 0x05: one bit per moving axis."""
    return _MASK.fullmatch(line) is not None


def _is_identity(line: str) -> bool:
    return line.isascii() and line.isprintable() and _MAKER.fullmatch(line) is not None


FORMAT = LineFormat(command_end=b"\n", reply_ends=b"\r\n", sync=("*IDN?", _is_identity))


def identify(line: SerialLine) -> str | None:
    """The reply to ``*IDN?``: maker, model, serial number, firmware."""
    try:
        return line.ask("*IDN?", _is_identity, timeout_s=0.4, repeat=True).strip()
    except StageNoReply:
        return None


class PiStage(SerialStage):
    """One axis of a PI controller."""

    title = "PI"
    scan_leader: ScanLeader = "moves"
    power_up_um = None  # it tells whether it has a reference

    def __init__(self, settings: PiSettings, line: SerialLine) -> None:
        self._axis = settings.axis
        self._reference_move = settings.reference_move
        self._profile_um_per_unit = settings.um_per_unit
        self._um_per_unit = settings.um_per_unit or 0.0
        self._mask = 1
        self._travel_um = (settings.low_um, settings.high_um)
        self._has_speed = True
        self._output = settings.trigger_output
        self._pulses = False
        self._stops_forgotten = self._stops_before_move = 0
        self._latest: tuple[float, float] | None = None
        super().__init__(settings, line)

    @property
    def limits_um(self) -> tuple[float, float]:
        """The profile's, within what the controller can be commanded to."""
        low_um, high_um = super().limits_um
        return max(low_um, self._travel_um[0]), min(high_um, self._travel_um[1])

    def _connect(self) -> None:
        first = not self._identity
        words = identify(self._line)
        if words is None:
            raise StageNoReply(
                _("No PI controller answers on {port}. Check port, baud rate, power and cable.").format(
                    port=self._line.port_name
                )
            )
        self._recognise(words)
        self._latest = None
        self._pulses = False
        self._error()  # whatever happened before is none of our business
        self._stops_forgotten = self._stops
        self._find_axis()
        self._find_unit()
        self._travel_um = (self._number("TMN?") * self._um_per_unit, self._number("TMX?") * self._um_per_unit)
        if not self.limits_um[0] < self.limits_um[1]:
            raise StageLimitError(
                _("{stage}: the profile leaves no room within its travel of {low:g} to {high:g} µm.").format(
                    stage=self.name, low=self._travel_um[0], high=self._travel_um[1]
                )
            )
        referenced = self._value("FRF?", optional=True)
        self.can_home = referenced is not None
        if referenced == "0":
            self._lose_reference(self._no_reference())
            if first and self._settings.trust_position:
                self._adopt_position()
        elif first:  # referenced, or a sensor that is absolute; after a pulled cable the last known position decides
            self._unreferenced = None
        self._has_speed = self._value("VEL?", optional=True) is not None
        if self._has_speed:
            self._set_speed(self._speed_um_s)

    def _find_axis(self) -> None:
        """The place of the axis among all, for the mask of moving ones. Every line but the last ends with a space."""
        lines = self._line.ask_lines(
            "SAI?", lambda line: not line.endswith(" "), lambda line: _AXIS.fullmatch(line) is not None, repeat=True
        )
        axes = [line.strip() for line in lines]
        if self._axis not in axes:
            raise StageError(
                _("{stage} has the axes {axes}, not '{axis}'.").format(
                    stage=self.name, axes=", ".join(axes), axis=self._axis
                )
            )
        self._mask = 1 << axes.index(self._axis)

    def _find_unit(self) -> None:
        told = self._value("PUN?", optional=True)
        um_per_unit = UNITS_UM.get(told.upper()) if told is not None else None
        wanted = self._profile_um_per_unit
        if um_per_unit is None and wanted is None:
            raise StageError(
                _("{stage} does not tell its unit of length. Give um_per_unit in the profile, 1000 for mm.").format(
                    stage=self.name
                )
            )
        if um_per_unit is not None and wanted is not None and abs(wanted / um_per_unit - 1) > 1e-6:
            raise StageError(
                _("{stage} counts in {unit}, the profile in units of {wanted:g} µm. Correct um_per_unit.").format(
                    stage=self.name, unit=told, wanted=wanted
                )
            )
        self._um_per_unit = um_per_unit or wanted or 0.0

    def _read_position(self) -> float:
        latest, self._latest = self._latest, None
        if latest is not None and time.monotonic() - latest[0] < STATUS_AGE_S:
            return latest[1]
        return self._number("POS?") * self._um_per_unit

    def _read_moving(self) -> bool:
        self._latest = None
        if int(self._line.ask(MOTION, _is_mask, repeat=True), 16) & self._mask:
            return True
        if self._target_um is None or self._stops != self._stops_before_move:
            return False
        on_target = self._value("ONT?") == "1"
        if not on_target and self._value("SVO?") == "1":
            return True  # it settles
        here_um = self._read_position()
        self._latest = (time.monotonic(), here_um)
        if not on_target or abs(here_um - self._target_um) > ARRIVAL_UM:
            self._find_out_why(here_um, self._target_um)
        return False

    def _find_out_why(self, here_um: float, target_um: float) -> None:
        """A move ended elsewhere. Sets ``_alarm`` or ``_unreferenced``, or raises StageError."""
        code = self._error()
        if code in ALARMS:
            self._alarm = _("{stage}: {reason}. Remove the cause, then confirm its position.").format(
                stage=self.name, reason=_(ERRORS[code])
            )
        elif self.can_home and self._value("FRF?") != "1":
            self._lose_reference(self._no_reference())
        elif code != STOPPED and self._stops == self._stops_before_move:
            self._target_um = None
            if code:
                raise self._refusal(code)
            raise StageError(
                _("{stage} stands at {here:.2f} µm instead of {target:.2f} µm. Does its travel end there?").format(
                    stage=self.name, here=here_um, target=target_um
                )
            )

    def _move_to(self, position_um: float) -> None:
        self._latest = None
        self._stops_before_move = self._stops
        if self._pulses:  # low until the move has begun, so that it rises also where the axis stands there already
            self._command(f"TRO {self._output} 0")
        self._move(f"MOV {self._axis} {position_um / self._um_per_unit:.7f}")
        if self._pulses:
            self._command(f"TRO {self._output} 1")

    def _set_speed(self, speed_um_s: float) -> None:
        if not self._has_speed:
            raise StageError(_("{stage} has no speed to set.").format(stage=self.name))
        self._command(f"VEL {self._axis} {speed_um_s / self._um_per_unit:.7f}")

    def _halt(self) -> None:
        self._latest = None
        self._line.urgent(STOP)

    def _home(self) -> None:
        stops = self._stops
        self._latest = None
        self._command(f"RON {self._axis} 1", may_be_unknown=True)
        self._move(f"{self._reference_move} {self._axis}")
        end_s = time.monotonic() + REFERENCE_LIMIT_S
        while self._line.ask(READY, lambda line: line.strip() in (IS_READY, IS_BUSY), repeat=True).strip() != IS_READY:
            if self._stops != stops:
                return  # told by whoever called
            if time.monotonic() > end_s:
                self._halt()
                break
            time.sleep(POLL_S)
        if self._stops == stops:
            code = self._error()
            if self._value("FRF?") != "1":
                reason = _(ERRORS[code]) if code in ERRORS else _("error {number}").format(number=code)
                raise StageError(
                    _("{stage} did not find its reference: {reason}.").format(stage=self.name, reason=reason)
                )

    def _unlock(self) -> None:
        self._latest = None
        self._error()
        if self.can_home and self._value("FRF?") != "1":
            self._adopt_position()

    def _adopt_position(self) -> None:
        """Tell a controller without a reference that the position that it shows is right."""
        self._command(f"RON {self._axis} 0")
        self._command(f"POS {self._axis} {self._number('POS?'):.7f}")

    def _move(self, command: str) -> None:
        """Switches the servo on where need be, and only here: the axis may jerk."""
        code = self._outcome(command)
        if code == UNREFERENCED and self._value("SVO?") == "0":
            self._command(f"EAX {self._axis} 1", may_be_unknown=True)
            self._command(f"SVO {self._axis} 1")
            code = self._outcome(command)
        if code:
            raise self._refusal(code)

    # -- a camera at a digital output, see hardware.stage.HardwareScan

    def begin_scan(self, request: ScanRequest) -> tuple[float, ...]:
        """From now on the output rises once per move, when the axis is on target: the settling window of the
        controller must be smaller than a step. Raises StageError where there is no such output."""
        here_um = self.position_um()
        heights_um = tuple(here_um + number * request.step_um for number in range(request.frame_count))
        for height_um in heights_um:
            self._check(height_um)
        self._command(f"TRO {self._output} 0")
        self._command(f"CTO {self._output} 2 {self._axis}")
        self._command(f"CTO {self._output} 3 {ON_TARGET}")
        self._pulses = True
        return heights_um

    def end_scan(self) -> None:
        """Moves pulse nothing any more."""
        if self._pulses:
            self._command(f"TRO {self._output} 0")
            self._pulses = False

    # -- commands and replies

    def _command(self, command: str, *, may_be_unknown: bool = False) -> None:
        code = self._outcome(command)
        if code and not (may_be_unknown and code == UNKNOWN_COMMAND):
            raise self._refusal(code)

    def _outcome(self, command: str) -> int:
        if self._stops != self._stops_forgotten:  # error 10 of an earlier STOP
            self._stops_forgotten = self._stops
            self._error()
        self._line.tell(command)
        return self._error()

    def _refusal(self, code: int) -> StageError:
        if code == OUT_OF_LIMITS:
            return StageLimitError(
                _("{stage}: the target lies outside its travel. Nothing was moved.").format(stage=self.name)
            )
        if code == STOPPED:
            return StageStopped(_("{stage} was stopped.").format(stage=self.name))
        if code == UNREFERENCED and self.can_home and self._value("FRF?") != "1":
            self._lose_reference(self._no_reference())
            return StageUnreferenced(self._reference_fault())
        if code == VELOCITY:
            return StageError(_("{stage} cannot go at this speed. Choose another.").format(stage=self.name))
        reason = _(ERRORS[code]) if code in ERRORS else _("error {number}").format(number=code)
        sentence = _("{stage} refused: {reason}.").format(stage=self.name, reason=reason)
        return StageAlarm(sentence) if code in ALARMS else StageError(sentence)

    def _error(self) -> int:
        """Asked once: a second question would be answered with 'none'."""
        return int(self._line.ask("ERR?", _is_error))

    def _value(self, query: str, *, optional: bool = False) -> str | None:
        """None where ``optional`` and the controller does not know the query, which it leaves unanswered."""
        values: list[str] = []

        def is_answer(line: str) -> bool:
            value = value_of(line, self._axis)
            values.extend([] if value is None else [value])
            return value is not None

        try:
            self._line.ask(f"{query} {self._axis}", is_answer, repeat=not optional)
        except StageNoReply:
            if optional and self._error() == UNKNOWN_COMMAND:
                return None
            raise
        return values[-1]

    def _number(self, query: str) -> float:
        value = self._value(query) or ""
        if _FLOAT.fullmatch(value) is None:
            raise StageNoReply(
                _("{stage} sends '{data}' where a number should be. Check the axis and the cable.").format(
                    stage=self.name, data=value
                )
            )
        return float(value)

    def _no_reference(self) -> str:
        return _("{stage} has no reference since it was switched on.").format(stage=self.name)


DRIVER = StageDriver("pi-gcs2", "PI (GCS 2)", FORMAT, PiStage, identify, (115200, 38400, 9600), PiSettings)
