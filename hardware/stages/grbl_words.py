"""What GRBL and its descendants say: status reports, alarms, refusals, build information.

Source: gnea/grbl (report.c, system.c, protocol.c, doc/csv), grblHAL/core (report.c, alarms.c, errors.h) and
bdring/FluidNC (Report.cpp, Error.cpp, ProcessSettings.cpp). Numbers above those of GRBL 1.1 mean different things in
the two descendants.
"""

import re
from dataclasses import dataclass

from models.language import N_, _

GRBL_HAL, FLUID_NC = "grblHAL", "FluidNC"
JOG_CANCELLED = 130

ERRORS = {
    1: N_("it expected a letter in the command"),
    2: N_("it could not read a number in the command"),
    3: N_("it does not know the command"),
    4: N_("it expected a positive number"),
    5: N_("homing is switched off in its settings ($22)"),
    6: N_("the step pulse would be too short"),
    7: N_("its settings memory was damaged and has been reset"),
    8: N_("it must be at rest for this command"),
    9: N_("it is locked by an alarm or still moving"),
    10: N_("its soft limits need homing to be switched on"),
    11: N_("the command was too long"),
    12: N_("the step rate would be too high"),
    13: N_("its safety door is open"),
    14: N_("the line was too long to be stored"),
    15: N_("the target lies outside its travel"),
    16: N_("it could not read the jog command"),
    17: N_("its laser mode needs a PWM output"),
    22: N_("the speed is missing"),
    33: N_("the target cannot be used"),
}
"""Codes 20 to 38 not named here are mistakes in G-code that this driver does not make."""

ERRORS_OF = {
    GRBL_HAL: {
        18: N_("its reset input is active"),
        45: N_("a limit switch is pressed"),
        46: N_("it must be homed first"),
        50: N_("its emergency stop is pressed"),
        51: N_("a motor driver reports a fault"),
        79: N_("it must be reset first"),
    },
    FLUID_NC: {
        18: N_("no homing is set up in its configuration"),
        19: N_("its configuration does not allow to home this axis alone"),
        40: N_("one of its control inputs is active"),
        152: N_("its configuration is invalid"),
    },
}

ALARMS = {
    1: N_("a limit switch was hit and the position is lost"),
    2: N_("a target lay outside the travel"),
    3: N_("it was reset in motion and the position is lost"),
    4: N_("the probe was not ready"),
    5: N_("the probe touched nothing"),
    6: N_("homing was interrupted"),
    7: N_("the safety door was opened while homing"),
    8: N_("homing could not get off the limit switch"),
    9: N_("homing did not find the limit switch"),
}

ALARMS_OF = {
    GRBL_HAL: {
        10: N_("its emergency stop is pressed"),
        11: N_("it must be homed first"),
        12: N_("a limit switch is pressed"),
        15: N_("homing did not find the limit switch"),
        16: N_("its self-test failed"),
        17: N_("a motor driver reports a fault"),
        18: N_("homing is set up wrongly"),
    },
    FLUID_NC: {
        11: N_("one of its control inputs is active"),
        12: N_("both limit switches of an axis are pressed"),
        13: N_("it was told to halt at once"),
        14: N_("it must be homed first"),
    },
}

_STATE = re.compile(r"<(Idle|Run|Hold|Jog|Alarm|Door|Check|Home|Sleep|Tool)(?::\d{1,3})?\|([^<>]*)>")
_NUMBERS = re.compile(r"[-+]?\d{1,7}(?:\.\d{1,6})?(?:,[-+]?\d{1,7}(?:\.\d{1,6})?){0,8}")
_DONE = re.compile(r"ok|error:\d{1,3}")
_SETTING = re.compile(r"\$(\d{1,4})=(-?\d{1,9}(?:\.\d{1,6})?)(?: .*)?")
_OPTIONS = re.compile(r"\[OPT:([^,\[\]]*)(?:,[^\[\]]*)?\]")
_VERSION = re.compile(r"\[(?:VER|FIRMWARE):([^\[\]]*)\]")
ALARM = re.compile(r"ALARM:(\d{1,3})")
GREETING = re.compile(r"Grbl(?:HAL)? [1-9].*", re.IGNORECASE)
LOCKED = re.compile(r"\[MSG:(?:\w+: ?)?'\$H'\|'\$X' to unlock\]")
RESET_FIRST = re.compile(r"\[MSG:(?:\w+: ?)?Reset to continue\]")


@dataclass(frozen=True)
class Status:
    """One status report: state, position and offset of all axes in the units of ``$13``; None: not in this one."""

    state: str
    machine: tuple[float, ...] | None
    work: tuple[float, ...] | None
    offset: tuple[float, ...] | None

    @classmethod
    def parse(cls, line: str) -> "Status | None":
        """None for anything that is not a whole, well-formed report with a position."""
        match = _STATE.fullmatch(line)
        if match is None:
            return None
        found: dict[str, tuple[float, ...]] = {}
        for field in match[2].split("|"):
            name, _colon, value = field.partition(":")
            if name in ("MPos", "WPos", "WCO"):
                if _NUMBERS.fullmatch(value) is None or name in found:
                    return None
                found[name] = tuple(float(number) for number in value.split(","))
        if ("MPos" in found) == ("WPos" in found):
            return None
        return cls(match[1], found.get("MPos"), found.get("WPos"), found.get("WCO"))


def is_push(line: str) -> bool:
    return line.startswith(("<", ">", "ALARM:", "[MSG:", "[echo:")) or GREETING.fullmatch(line) is not None


def is_status_or_alarm(line: str) -> bool:
    return Status.parse(line) is not None or ALARM.fullmatch(line) is not None


def is_done(line: str) -> bool:
    return _DONE.fullmatch(line) is not None


def build_words(told: list[str]) -> str | None:
    """Version and name out of the reply to ``$I``; None where it is none."""
    words = [match[1].strip(": ") for match in map(_VERSION.fullmatch, told) if match is not None]
    return "GRBL " + ", ".join(words) if words else None


def build_options(told: list[str]) -> str:
    """Letters out of the reply to ``$I``. H: single axes can be homed; Z: homing makes zero where it ends."""
    return "".join(match[1] for match in map(_OPTIONS.fullmatch, told) if match is not None)


def settings_told(told: list[str]) -> dict[int, float]:
    """The numbered settings out of the reply to ``$$``."""
    return {int(match[1]): float(match[2]) for match in map(_SETTING.fullmatch, told) if match is not None}


def _in_words(common: dict[int, str], special: dict[str, dict[int, str]], number: int, identity: str) -> str | None:
    for name, table in special.items():
        if name in identity and number in table:
            return _(table[number])
    return _(common[number]) if number in common else None


def error_words(number: int, identity: str) -> str:
    """Why the controller that calls itself ``identity`` refused a command."""
    return _in_words(ERRORS, ERRORS_OF, number, identity) or _("error {number}").format(number=number)


def alarm_words(number: int, identity: str) -> str:
    """What happened to the controller that calls itself ``identity``."""
    return _in_words(ALARMS, ALARMS_OF, number, identity) or _("alarm {number}").format(number=number)
