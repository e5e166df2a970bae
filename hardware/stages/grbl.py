"""GRBL 1.1 and its descendants (grblHAL, FluidNC).

Source: github.com/gnea/grbl, doc/markdown (interface.md, jogging.md, settings.md) and doc/csv. Moves are jogs
(``$J=``): the controller checks them against its own limits, and jog cancel (0x85) halts them without loss of the
position. GRBL knows no backlash; :class:`hardware.motion.FocusAxis` takes it out.
"""

import re
import time
from dataclasses import dataclass

from hardware.line import LineFormat, SerialLine
from hardware.stage import StageAlarm, StageError, StageLimitError, StageNoReply
from hardware.stages.driver import SerialStage, SerialStageSettings, StageDriver
from models.language import N_, _

SOFT_RESET, JOG_CANCEL, STATUS = b"\x18", b"\x85", b"?"
BOOT_S = 2.5
"""A board that resets when its port is opened is back within this time."""
HOMING_LIMIT_S = 180.0
STATUS_AGE_S = 0.01
"""A position that is asked for right after the state comes from the same report, once."""
OFFSET_REPORTS = 40
"""The work offset comes with every 30th report at the latest."""

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
_ALARMS_WITH_POSITION = {2, 4, 5}
_ALARMS_UNTIL_RESET = {1, 2}

_STATE = re.compile(r"<(Idle|Run|Hold|Jog|Alarm|Door|Check|Home|Sleep|Tool)(?::\d)?\|([^<>]*)>")
_NUMBERS = re.compile(r"[-+]?\d{1,7}(?:\.\d{1,6})?(?:,[-+]?\d{1,7}(?:\.\d{1,6})?){0,8}")
_DONE = re.compile(r"ok|error:\d{1,3}")
_ALARM = re.compile(r"ALARM:(\d{1,3})")
_SETTING = re.compile(r"\$(\d{1,4})=(-?\d{1,9}(?:\.\d{1,6})?)(?: .*)?")
_OPTIONS = re.compile(r"\[OPT:([^,\[\]]*)(?:,[^\[\]]*)?\]")
"""Build options as letters; H: single axes can be homed."""
_GREETING = re.compile(r"Grbl(?:HAL)? [1-9].*", re.IGNORECASE)


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


def _is_push(line: str) -> bool:
    return line.startswith(("<", ">", "ALARM:", "[MSG:", "[echo:")) or _GREETING.fullmatch(line) is not None


def _is_status_or_alarm(line: str) -> bool:
    return Status.parse(line) is not None or _ALARM.fullmatch(line) is not None


def _is_done(line: str) -> bool:
    return _DONE.fullmatch(line) is not None


FORMAT = LineFormat(
    command_end=b"\n",
    is_push=_is_push,
    sync=("$G", lambda line: line.startswith("[GC:") and line.endswith("]")),
    keep_dtr=True,
    timeout_s=1.0,
)


def identify(line: SerialLine) -> str | None:
    """Version and name from ``$I``, after the boot of a board that resets when its port is opened."""
    words = _build_info(line)
    if words is None:
        line.listen(BOOT_S, until=lambda heard: _GREETING.fullmatch(heard) is not None)
        words = _build_info(line)
    return words


def _build_info(line: SerialLine) -> str | None:
    try:
        told = line.ask_lines("$I", is_last=_is_done, timeout_s=0.6)
    except StageNoReply:
        return None
    words = [text[1:-1] for text in told if re.fullmatch(r"\[(VER|FIRMWARE):[^\[\]]*\]", text)]
    return "GRBL " + ", ".join(word.partition(":")[2].strip(": ") for word in words) if words else None


class GrblSettings(SerialStageSettings):
    """``home_all_axes``: all axes may move when the focus is homed, where the controller cannot home it alone."""

    home_all_axes: bool = False


class GrblStage(SerialStage):
    """One axis of a GRBL controller, in its machine coordinates."""

    title = "GRBL"

    def __init__(self, settings: SerialStageSettings, line: SerialLine) -> None:
        if settings.axis.upper() not in ("X", "Y", "Z"):
            line.close()
            raise StageError(_("GRBL has the axes X, Y and Z, not '{axis}'.").format(axis=settings.axis))
        self._axis = settings.axis.upper()
        self._index = "XYZ".index(self._axis)
        self._controller: dict[int, float] = {}
        self._offset: tuple[float, ...] | None = None
        self._latest: tuple[float, Status] | None = None
        self._homing_command: str | None = None
        self._homing = self._needs_reset = False
        super().__init__(settings, line)

    @property
    def limits_um(self) -> tuple[float, float]:
        """The profile's, within the controller's travel where its soft limits are on (machine zero at the top)."""
        low_um, high_um = super().limits_um
        if self._controller.get(20):
            low_um, high_um = max(low_um, -1000.0 * self._controller[130 + self._index]), min(high_um, 0.0)
        return low_um, high_um

    def _connect(self) -> None:
        identity = identify(self._line)
        if identity is None:
            raise StageNoReply(
                _(
                    "No GRBL controller answers on {port}. If a limit switch was hit or it is moving, "
                    "switch it off and on; else check port and baud rate."
                ).format(port=self._line.port_name)
            )
        self._identity = identity
        told = self._line.ask_lines("$$", is_last=_is_done, repeat=True)
        settings = {int(m[1]): float(m[2]) for m in map(_SETTING.fullmatch, told) if m is not None}
        needed = (13, 22, 110 + self._index, 130 + self._index)
        if missing := [number for number in needed if number not in settings]:
            raise StageNoReply(
                _("{stage} does not tell its setting ${number}.").format(stage=self.name, number=missing[0])
            )
        self._controller = settings
        self.grain_um = 2.54 if settings[13] else 1.0  # 4 digits of an inch, 3 of a millimetre
        self.can_home = bool(int(settings[22]) & 1)
        self._homing_command = self._find_homing_command() if self.can_home else None
        if not self.limits_um[0] < self.limits_um[1]:
            raise StageLimitError(
                _("{stage}: the limits of the profile leave no room within its travel of {low:g} to 0 µm.").format(
                    stage=self.name, low=-1000.0 * settings[130 + self._index]
                )
            )
        self._speed_um_s = min(self._speed_um_s, self._top_speed_um_s)
        status = self._status(0.0)
        if status.machine is None:
            for _report in range(OFFSET_REPORTS):
                if self._offset is not None:
                    break
                status = self._status(0.0)
        if status.state == "Alarm":
            self._locked()

    @property
    def _top_speed_um_s(self) -> float:
        return self._controller[110 + self._index] * 1000.0 / 60.0

    def _status(self, max_age_s: float) -> Status:
        latest, self._latest = self._latest, None
        if latest is not None and time.monotonic() - latest[0] < max_age_s:
            return latest[1]
        self._line.hear()
        for repetition in (True, False):
            if self._needs_reset and self._alarm is not None:  # it answers nothing any more
                raise StageAlarm(self._alarm)
            try:
                line = self._line.ask(STATUS, _is_status_or_alarm)
            except StageNoReply:
                if not repetition and not self._needs_reset:
                    raise
                continue
            status = Status.parse(line)
            if status is not None:
                break
            self._heard(line)
        else:
            raise StageAlarm(self._alarm or self._locked())
        self._offset = status.offset or self._offset
        return status

    def _read_position(self) -> float:
        status = self._status(STATUS_AGE_S)
        axes = status.machine
        if axes is None and status.work is not None and self._offset is not None:
            axes = tuple(work + offset for work, offset in zip(status.work, self._offset, strict=False))
        if axes is None or len(axes) <= self._index:
            raise StageNoReply(_("{stage} does not tell its machine position.").format(stage=self.name))
        return axes[self._index] * (25_400.0 if self._controller[13] else 1000.0)

    def _read_moving(self) -> bool:
        status = self._status(0.0)
        self._latest = (time.monotonic(), status)
        state = status.state
        if state in ("Jog", "Run", "Home"):
            return True
        if state == "Idle":
            return False
        self._target_um = None
        if state == "Alarm":
            raise StageAlarm(self._alarm or self._locked())
        raise StageAlarm(
            _("{stage} is paused (state {state}). Confirm its position to end the pause.").format(
                stage=self.name, state=state
            )
        )

    def _move_to(self, position_um: float) -> None:
        self._jog(f"G53G90{self._axis}{position_um / 1000.0:.4f}")

    def _move_by(self, distance_um: float, target_um: float) -> None:
        self._jog(f"G91{self._axis}{distance_um / 1000.0:.4f}")

    def _jog(self, words: str) -> None:
        self._latest = None
        self._command(f"$J=G21{words}F{max(self._speed_um_s * 60.0 / 1000.0, 0.001):.3f}")
        self._latest = None

    def _set_speed(self, speed_um_s: float) -> None:
        if speed_um_s > self._top_speed_um_s:
            raise StageError(
                _("{stage} can go no faster than {speed:g} µm/s.").format(stage=self.name, speed=self._top_speed_um_s)
            )

    def _halt(self) -> None:
        self._latest = None
        self._line.urgent(SOFT_RESET if self._homing else JOG_CANCEL)

    def home(self) -> None:
        """Also raises StageError where other axes would move and the profile does not allow it."""
        if self.can_home and self._homing_command is None:
            raise StageError(
                _(
                    "{stage} can only home all its axes at once. Where all of them may move, put home_all_axes = true "
                    "into the profile; else confirm the position."
                ).format(stage=self.name)
            )
        super().home()

    def _find_homing_command(self) -> str | None:
        """Never ``$HZ`` on trial: a controller built without it refuses and then waits for a reset."""
        options = [_OPTIONS.fullmatch(line) for line in self._line.ask_lines("$I", is_last=_is_done, repeat=True)]
        if any(match is not None and "H" in match[1] for match in options):
            return f"$H{self._axis}"
        return "$H" if isinstance(self._settings, GrblSettings) and self._settings.home_all_axes else None

    def _home(self) -> None:
        self._homing = True  # first: from now on STOP is a reset
        try:
            if self._needs_reset:
                self._soft_reset()
            self._latest = None
            assert self._homing_command is not None
            self._command(self._homing_command, HOMING_LIMIT_S)
        finally:
            self._homing = False

    def _unlock(self) -> None:
        if self._needs_reset or self._status(0.0).state not in ("Alarm", "Idle"):
            self._soft_reset()
        if self._status(0.0).state == "Alarm":
            self._command("$X")
        self._latest = None

    def _soft_reset(self) -> None:
        self._line.tell(SOFT_RESET, in_step=False)  # a locked controller answers nothing else
        self._line.listen(BOOT_S, until=lambda heard: _GREETING.fullmatch(heard) is not None)
        self._needs_reset = False
        self._latest = None

    def _command(self, command: str, timeout_s: float | None = None) -> None:
        """Raises what the controller's refusal means."""
        answer = self._line.ask(
            command,
            lambda line: _is_done(line) or _ALARM.fullmatch(line) is not None,
            timeout_s=timeout_s,
        )
        if answer == "ok":
            return
        if answer.startswith("ALARM:"):
            self._heard(answer)
            raise StageAlarm(self._alarm or answer)
        number = int(answer.removeprefix("error:"))
        if number == 15:
            raise StageLimitError(
                _("{stage}: the target lies outside its travel. Nothing was moved.").format(stage=self.name)
            )
        if number == 9 and self._alarm is not None:
            raise StageAlarm(self._alarm)
        reason = _(ERRORS[number]) if number in ERRORS else _("error {number}").format(number=number)
        raise StageError(_("{stage} refused: {reason}.").format(stage=self.name, reason=reason))

    def _locked(self) -> str:
        self._alarm = _("{stage} is locked. {advice}").format(stage=self.name, advice=self._advice())
        return self._alarm

    def _advice(self) -> str:
        if self.can_home:
            return _("Make sure that the way is free, then home it or confirm its position.")
        return _("Make sure that the way is free, then confirm its position.")

    def _heard(self, line: str) -> None:
        if match := _ALARM.fullmatch(line):
            number = int(match[1])
            reason = _(ALARMS[number]) if number in ALARMS else _("alarm {number}").format(number=number)
            self._alarm = f"{self.name}: {reason}. {self._advice()}"
            self._needs_reset = number in _ALARMS_UNTIL_RESET
            if number not in _ALARMS_WITH_POSITION:
                self._lose_reference(_("{stage} lost its position.").format(stage=self.name))
        elif _GREETING.fullmatch(line):
            self._needs_reset = False
            self._latest = None
            self._lose_reference(_("{stage} was reset.").format(stage=self.name))
        elif line.startswith("[MSG:'$H'|'$X'"):
            self._locked()


DRIVER = StageDriver("grbl", "GRBL 1.1, grblHAL, FluidNC", FORMAT, GrblStage, identify, (115200,), GrblSettings)
