"""Prior ProScan II and III, OptiScan (motor focus) and NanoScanZ (piezo).

Source: the makers' command sets as used by the device adapters of Micro-Manager (Prior), lantz (NanoScanZ), nplab
and Squid; error codes from the ProScan III manual. Commands end with a carriage return, words are parted by a comma
or a space. In standard mode (``COMP 0``) a move is answered ``R`` at once; ``$`` tells what moves, Z is the bit of
value 4. The motor counts steps of ``RES,Z`` micrometres, which may be negative; nobody but the profile knows how far
it may go. The piezo counts micrometres, measures where it is and tells its range. The controller would take out the
backlash of the focus by itself, beyond the target; that is switched off, :class:`hardware.motion.FocusAxis` does it.
Its command, ``BLZH``, stands beside the stage's ``BLSH`` in the manual; none of the adapters uses it.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from hardware.line import LineFormat, SerialLine
from hardware.stage import StageError, StageLimitError, StageNoReply
from hardware.stages.driver import SerialStage, SerialStageSettings, StageDriver
from models.language import N_, _

FLUSH_S = 0.1
INFORMATION_S = 1.2
"""``?`` brings some 400 characters: half a second at 9600 baud."""
IDENTIFY_S = 0.6
Z_BIT = 0x04
UPPER_SWITCH, LOWER_SWITCH = 0x10, 0x20
OFF_TARGET_UM = 5.0
"""A move that ends further than this from its target, and was not stopped, has a reason to be found out."""

ERRORS = {
    1: N_("there is no stage"),
    2: N_("it is still moving"),
    3: N_("there is no drive"),
    4: N_("it could not read the command"),
    5: N_("it does not know the command"),
    7: N_("there is no focus drive"),
    8: N_("the value is out of range"),
    10: N_("the first value is out of range"),
    11: N_("the second value is out of range"),
    16: N_("it cannot do this now"),
    18: N_("too many commands are waiting"),
    19: N_("it is in compatibility mode"),
    21: N_("the checksum was wrong"),
    60: N_("its encoder failed"),
    61: N_("its encoder ran off"),
}
"""Codes not named here belong to shutters and filter wheels."""
NO_FOCUS, _OUT_OF_RANGE = 7, {8, 10}

_REFUSAL = re.compile(r"E\s*,?\s*(\d{1,3})")
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,6})?")
_SWITCHES = re.compile(r"[0-9A-Fa-f]{1,2}")
_BACKLASH = re.compile(r"([01])(?:[ ,]+\d{1,9})?")
_WORD = re.compile(r"[A-Za-z]{3}")
_NO_FOCUS = re.compile(r"(?:FOCUS)?\s*=\s*NONE")
"""The line begins like the question, so its first word may be taken for an echo."""


def number(line: str) -> float | None:
    """The number that the whole line is; None for anything else."""
    text = line.strip()
    return float(text) if _NUMBER.fullmatch(text) is not None else None


def refusal(line: str) -> int | None:
    """The code of ``E,code``; None for anything else."""
    match = _REFUSAL.fullmatch(line.strip())
    return None if match is None else int(match[1])


def _is_number(line: str) -> bool:
    return number(line) is not None or refusal(line) is not None


def _is_backlash(line: str) -> bool:
    """Whether it is on, and its length where the controller tells that as well."""
    return _BACKLASH.fullmatch(line.strip()) is not None


def _is_accepted(line: str) -> bool:
    return line.strip() in ("R", "0") or refusal(line) is not None


def _is_last(line: str) -> bool:
    return line.strip() == "END" or refusal(line) is not None


FORMAT = LineFormat(command_end=b"\r", sync=("?", _is_last), timeout_s=1.5)


class PriorSettings(SerialStageSettings):
    """``top_speed_um_s``: of a motor at 100 %; the controller knows its speed only in per cent."""

    top_speed_um_s: float = Field(default=1000.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _limits_are_given(cls, section: Any) -> Any:
        if isinstance(section, Mapping) and not {"low_um", "high_um"} <= section.keys():
            raise ValueError(
                _("low_um and high_um must be given: a Prior controller does not know how far its focus drive may go")
            )
        return section


def identify(line: SerialLine) -> str | None:
    """Name, version and serial number. Queries of a kind that moves nothing elsewhere; a lone ``M`` would, here."""
    try:
        line.tell("")  # ends what somebody else may have begun
        line.listen(FLUSH_S)
        told = line.ask_lines("?", _is_last, timeout_s=INFORMATION_S)
        named = [text.strip() for text in told[:-1] if _WORD.search(text) is not None]
        name = named[0].removesuffix(" INFORMATION") if named and told[-1].strip() == "END" else None
        if name is None:
            if refusal(told[-1]) is None:
                return None
            model = line.ask("DATE", timeout_s=IDENTIFY_S).strip()  # the piezo has no ?
            if refusal(model) is None and number(model) is None:
                name = model
            elif number(line.ask("PIEZORANGE", _is_number, timeout_s=IDENTIFY_S)) is not None:
                name = "NanoScanZ"
            else:
                return None
        details = [name]
        for query, words in (("VERSION", "version {}"), ("SERIAL", "serial number {}")):
            answer = line.ask(query, _is_number, timeout_s=IDENTIFY_S).strip()
            if refusal(answer) is None:
                details.append(words.format(answer))
    except StageNoReply:
        return None
    return "Prior " + ", ".join(details)


class PriorStage(SerialStage):
    """The focus of a Prior controller: U is up. STOP on a motor is so sudden that steps may be lost."""

    title = "Prior"
    stop_loses_position = True

    def __init__(self, settings: PriorSettings, line: SerialLine) -> None:
        if settings.axis.upper() != "Z":
            line.close()
            raise StageError(
                _("The focus of a Prior controller is its axis Z, not '{axis}'.").format(axis=settings.axis)
            )
        self._top_speed_um_s = settings.top_speed_um_s
        self._range_um: float | None = None  # of a piezo
        self._um_per_step = 1.0
        self._stops_before = 0
        super().__init__(settings, line)

    @property
    def limits_um(self) -> tuple[float, float]:
        """The profile's; a piezo's own range counts as well."""
        low_um, high_um = super().limits_um
        if self._range_um is not None:
            low_um, high_um = max(low_um, 0.0), min(high_um, self._range_um)
        return low_um, high_um

    def _connect(self) -> None:
        identity = identify(self._line)
        if identity is None:
            raise StageNoReply(
                _("No Prior controller answers on {port}. Check port, baud rate and power.").format(
                    port=self._line.port_name
                )
            )
        self._recognise(identity)
        self._range_um = self._number("PIEZORANGE")
        self.stop_loses_position = self._range_um is None
        if self._range_um is None:
            self._um_per_step = self._step_um()
        else:
            self._unreferenced = None  # it measures
            if not self.limits_um[0] < self.limits_um[1]:
                raise StageLimitError(
                    _("{stage}: the limits of the profile leave no room within the piezo's 0 to {high:g} µm.").format(
                        stage=self.name, high=self._range_um
                    )
                )
        self._set_modes()

    def _step_um(self) -> float:
        """Signed; from the controller, or from the profile where the controller does not tell."""
        if any(_NO_FOCUS.fullmatch(line.strip()) for line in self._line.ask_lines("FOCUS", _is_last, repeat=True)):
            raise StageError(_("{stage} has no focus drive. Check the cable of the motor.").format(stage=self.name))
        told, given = self._number("RES,Z"), self._settings.um_per_step
        if told is None:
            if given is None:
                raise StageError(
                    _("{stage} does not tell the size of its steps. Put um_per_step into the profile.").format(
                        stage=self.name
                    )
                )
            return given
        if told == 0.0 or (given is not None and abs(abs(told) - given) > 1e-3 * given):
            raise StageError(
                _("{stage} makes steps of {told:g} µm, by its own word. Correct um_per_step or its RES,Z.").format(
                    stage=self.name, told=told
                )
            )
        return told

    def _set_modes(self) -> None:
        """What the controller forgets when it is switched off."""
        self._command("COMP 0", may_be_unknown=self._range_um is not None)
        if self._range_um is None:
            self._switch_off_backlash()
            self._speed_um_s = min(self._speed_um_s, self._top_speed_um_s)
            self._set_speed(self._speed_um_s)

    def _switch_off_backlash(self) -> None:
        """Of moves from the computer (H for host); those by joystick (``BLZJ``) are nobody's business here."""
        told = self._line.ask("BLZH", lambda line: _is_backlash(line) or refusal(line) is not None, repeat=True)
        if (match := _BACKLASH.fullmatch(told.strip())) is not None and match[1] == "1":
            self._command("BLZH,0")
            told = self._line.ask("BLZH", _is_backlash, repeat=True)
            if told.strip().startswith("1"):  # 0 answers ignored settings as well
                raise StageError(
                    _("{stage} does not switch off its own backlash correction (BLZH). Switch it off by hand.").format(
                        stage=self.name
                    )
                )

    def _read_position(self) -> float:
        told = self._line.ask("PZ", _is_number, repeat=True)
        count = number(told)
        if count is None:
            raise self._refused(told)
        here_um = count * self._um_per_step
        self._note_reading(here_um, may_change=self._is_under_way or self._range_um is not None)
        return here_um

    @property
    def _is_under_way(self) -> bool:
        """A move that nobody has stopped."""
        return self._target_um is not None and self._stops == self._stops_before

    def _read_moving(self) -> bool:
        told = self._line.ask("$", _is_number, repeat=True)
        moving = number(told)
        if moving is None:
            raise self._refused(told)
        if int(moving) & Z_BIT:
            return True
        if self._target_um is not None and self._is_under_way:
            self._check_end(self._target_um)
        return False

    def _check_end(self, target_um: float) -> None:
        here_um = self._read_position()
        if abs(here_um - target_um) <= OFF_TARGET_UM + abs(self._um_per_step):
            return
        told = self._line.ask(
            "LMT", lambda line: _SWITCHES.fullmatch(line.strip()) is not None or refusal(line) is not None, repeat=True
        )
        if refusal(told) is None and int(told, 16) & (UPPER_SWITCH | LOWER_SWITCH):
            self._alarm = _(
                "{stage} ran onto a limit switch. Make sure that the way is free, then confirm its position."
            ).format(stage=self.name)
            return
        self._lose_reference(
            _("{stage} ended at {here:.1f} µm instead of {target:.1f} µm: it was reset or is blocked.").format(
                stage=self.name, here=here_um, target=target_um
            )
        )

    def _move_to(self, position_um: float) -> None:
        if self._range_um is None:
            self._start(f"GZ,{round(position_um / self._um_per_step)}")
        else:
            self._start(f"V {position_um:.3f}")

    def _move_by(self, distance_um: float, target_um: float) -> None:
        if self._range_um is None:
            steps = round(distance_um / self._um_per_step)
            length = str(abs(steps))
        else:
            steps = round(1000.0 * distance_um)
            length = f"{abs(distance_um):.3f}"
        if steps != 0:  # U and D without a length make a step of some other size
            self._start(f"{'U' if steps > 0 else 'D'} {length}")

    def _start(self, command: str) -> None:
        self._stops_before = self._stops
        self._command(command)

    def _set_speed(self, speed_um_s: float) -> None:
        if self._range_um is not None:
            raise StageError(_("The speed of {stage} cannot be set: it is a piezo.").format(stage=self.name))
        per_cent = round(100.0 * speed_um_s / self._top_speed_um_s)
        if not 1 <= per_cent <= 100:
            raise StageError(
                _("{stage} can go at {low:g} to {high:g} µm/s.").format(
                    stage=self.name, low=0.01 * self._top_speed_um_s, high=self._top_speed_um_s
                )
            )
        self._command(f"SMZ,{per_cent}")
        if (taken := self._number("SMZ")) is not None and taken != per_cent:  # 0 answers invalid settings as well
            raise StageError(
                _("{stage} did not take the speed of {asked} % and stays at {taken:g} %.").format(
                    stage=self.name, asked=per_cent, taken=taken
                )
            )

    def _halt(self) -> None:
        self._line.urgent(b"K\r")

    def _unlock(self) -> None:
        self._seen_um = None
        self._set_modes()

    # -- words

    def _number(self, query: str) -> float | None:
        """None where the controller does not know the question."""
        told = self._line.ask(query, _is_number, repeat=True)
        if refusal(told) == NO_FOCUS:
            raise self._refused(told)
        return number(told)

    def _command(self, command: str, *, may_be_unknown: bool = False) -> None:
        """Raises what the controller's refusal means."""
        told = self._line.ask(command, _is_accepted)
        if refusal(told) is not None and not may_be_unknown:
            raise self._refused(told)

    def _refused(self, told: str) -> StageError:
        code = refusal(told) or 0
        reason = _(ERRORS[code]) if code in ERRORS else _("error {number}").format(number=code)
        kind = StageLimitError if code in _OUT_OF_RANGE else StageError
        return kind(_("{stage} refused: {reason}.").format(stage=self.name, reason=reason))


DRIVER = StageDriver(
    "prior",
    "Prior ProScan, OptiScan, NanoScanZ",
    FORMAT,
    PriorStage,
    identify,
    (9600, 38400, 115200, 19200),
    PriorSettings,
)
