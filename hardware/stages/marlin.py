"""Marlin, the firmware of 3D printers (1.1 and 2.x).

Source: marlinfw.org/docs/gcode and github.com/MarlinFirmware/Marlin (M114.cpp, motion.cpp, MarlinCore.cpp). What
shapes this driver:

- ``Z:`` has two decimals (10 um): positions are the counted steps. These are the planned ones in most builds; only
  a build with M114_REALTIME tells (``M114 R``) where the steppers are, others only by ``M400`` when they are there.
- ``M410`` halts without a ramp: the position counts as lost. Homing goes on after it, only ``M112`` ends that.
- Soft end stops (``M211``) clip a target without a word, so they narrow the travel here.
- After two minutes of rest it lets go of its motors and the focus may sink: ``M84 S0`` forbids that until a reset.
"""

import re
import time

from hardware.line import LineFormat, SerialLine, is_printable
from hardware.stage import StageAlarm, StageError, StageLimitError, StageNoReply, StageUnreferenced
from hardware.stages.driver import SerialStage, SerialStageSettings, StageDriver
from models.language import _

QUICK_STOP, KILL = b"\nM410\n", b"\nM112\n"
BOOT_S, SETTINGS_S = 3.0, 5.0
"""Until it greets; and from there, as it lists its settings, looks for its card and listens at last."""
HOMING_LIMIT_S = 180.0
SHIFT_UM = 6.0
"""``Z:`` is rounded to 10 um; where it is farther from the counted steps than this, the zero was shifted."""

_DONE = re.compile(r"ok(?: .*)?")
_FIRMWARE = re.compile(r"FIRMWARE_NAME:(Marlin.*?) *(?:\(.*?\) *)?(?:SOURCE_CODE_URL|FIRMWARE_URL|PROTOCOL_VERSION):.*")
_MACHINE = re.compile(r".* MACHINE_TYPE:(.*?) (?:KINEMATICS|EXTRUDER_COUNT):.*")
_PAIRS = r"(?:[A-Z]: ?-?\d{1,9}(?:\.\d{1,4})? ?){1,10}"
_POSITION = re.compile(rf"({_PAIRS}) ?Count ({_PAIRS})")
_PAIR = re.compile(r"([A-Z]): ?(-?\d{1,9}(?:\.\d{1,4})?)")
_SETTING = re.compile(r"(?:echo:)? *(M92|M203)((?: [A-Z]\d{1,7}(?:\.\d{1,4})?){1,10}) *")
_MINIMUM = re.compile(r".*\bMin: ((?: ?[A-Z]:? ?-?\d{1,7}\.\d{1,4})+)(.*)")
_MAXIMUM = re.compile(r".*\bMax: ((?: ?[A-Z]:? ?-?\d{1,7}\.\d{1,4})+) *")
_NUMBER = re.compile(r"([A-Z]):? ?(-?\d{1,7}(?:\.\d{1,4})?)")
_BUSY = re.compile(r"(?:echo:)?busy:.*")
_GREETING = re.compile(r"start|(?:echo:)?Marlin [\w.-]+.*")
_KILLED = re.compile(r"Error:.*(?:halted|kill).*", re.IGNORECASE)
_NOT_HOMED = re.compile(r"(?:echo:)?.*\bhome\b.*\bfirst\b.*", re.IGNORECASE)
_UNKNOWN = re.compile(r"echo:Unknown command:.*")


def _is_push(line: str) -> bool:
    return (
        line.startswith(("Error:", "T:", " T:", "wait", "//"))
        or _BUSY.fullmatch(line) is not None
        or _GREETING.fullmatch(line) is not None
    )


def _is_done(line: str) -> bool:
    return _DONE.fullmatch(line) is not None


def _is_last(line: str) -> bool:
    return _is_done(line) or _KILLED.fullmatch(line) is not None


def _is_reply(line: str) -> bool:
    return is_printable(line) and (not _is_push(line) or line.startswith("Error:"))


FORMAT = LineFormat(
    command_end=b"\n",
    is_push=_is_push,
    sync=("M115", lambda line: _FIRMWARE.fullmatch(line) is not None),
    keep_dtr=True,
    timeout_s=1.0,
)


def parse_position(line: str, axis: str) -> tuple[float, int] | None:
    """(mm as printed, counted steps) of an axis from the answer to M114; None for anything else."""
    match = _POSITION.fullmatch(line)
    if match is None:
        return None
    printed, counted = (dict(_PAIR.findall(part)) for part in match.groups())
    steps = counted.get(axis, "")
    if axis not in printed or not steps.lstrip("-").isdigit():
        return None
    return float(printed[axis]), int(steps)


def parse_soft_limits(lines: list[str], axis: str) -> tuple[float, float] | None:
    """Soft end stops in mm from the answer to M211; None where they are off or not told."""
    if not any(re.search(r"\bON\b|M211 S1", line, re.IGNORECASE) for line in lines):
        return None
    low = high = None
    for line in lines:
        if match := _MINIMUM.fullmatch(line):
            low = dict(_NUMBER.findall(match[1])).get(axis)
        if match := _MAXIMUM.fullmatch(line):
            high = dict(_NUMBER.findall(match[1])).get(axis)
    return (float(low), float(high)) if low is not None and high is not None else None


def identify(line: SerialLine) -> str | None:
    """Version and machine from ``M115``, after the boot of a board that resets when its port is opened."""
    words = _firmware(line)
    if words is None and line.listen(BOOT_S, until=lambda heard: _GREETING.fullmatch(heard) is not None):
        end_s = time.monotonic() + SETTINGS_S
        while words is None and time.monotonic() < end_s:
            words = _firmware(line)
    return words


def _firmware(line: SerialLine) -> str | None:
    for _repetition in range(2):  # the first may have been glued to what another program left without an end
        try:
            told = line.ask_lines("M115", is_last=_is_done, timeout_s=0.6)
        except StageNoReply:
            return None
        for text in told:
            if match := _FIRMWARE.fullmatch(text):
                machine = _MACHINE.fullmatch(text)
                return f"{match[1]}, {machine[1]}" if machine else match[1]
    return None


class MarlinSettings(SerialStageSettings):
    """``home``: the axis has a limit switch where Marlin expects it, so that it may be homed (G28)."""

    home: bool = False


class MarlinStage(SerialStage):
    """One axis of a Marlin controller, in its native coordinates."""

    title = "Marlin"
    stop_loses_position = True

    def __init__(self, settings: SerialStageSettings, line: SerialLine) -> None:
        if settings.axis.upper() not in ("X", "Y", "Z"):
            line.close()
            raise StageError(_("Marlin has the axes X, Y and Z, not '{axis}'.").format(axis=settings.axis))
        self._axis = settings.axis.upper()
        self.can_home = isinstance(settings, MarlinSettings) and settings.home
        self._steps_per_mm = 0.0
        self._top_speed_um_s: float | None = None
        self._soft_limits_um: tuple[float, float] | None = None
        self._arrival_s = self._busy_s = 0.0
        self._homing = self._killed = False
        super().__init__(settings, line)

    @property
    def limits_um(self) -> tuple[float, float]:
        """The profile's, within the soft end stops where they are on."""
        low_um, high_um = super().limits_um
        if self._soft_limits_um is not None:
            low_um, high_um = max(low_um, self._soft_limits_um[0]), min(high_um, self._soft_limits_um[1])
        return low_um, high_um

    def _connect(self) -> None:
        identity = identify(self._line)
        if identity is None:
            raise StageNoReply(
                _(
                    "No Marlin controller answers on {port}. If it has shut itself down, switch it off and on; "
                    "else check port and baud rate."
                ).format(port=self._line.port_name)
            )
        self._recognise(identity)
        self._killed = False
        low_um, high_um = super().limits_um
        self._command("M400", 2 * (high_um - low_um) / self._speed_um_s + 2.0)  # a move may be under way
        self._command("G21", known=False)
        self._command("G90")
        self._command("M84 S0", known=False)
        self._command("M425 F0", known=False)  # its own backlash correction: FocusAxis takes it out
        self._read_settings()
        limits_mm = parse_soft_limits(self._command("M211", known=False), self._axis)
        self._soft_limits_um = None if limits_mm is None else (limits_mm[0] * 1000.0, limits_mm[1] * 1000.0)
        if not self.limits_um[0] < self.limits_um[1]:
            raise StageLimitError(
                _("{stage}: the limits of the profile leave no room within its soft end stops (M211).").format(
                    stage=self.name
                )
            )
        printed_mm, steps = self._position("M114")
        if abs(printed_mm * 1000.0 - self._um(steps)) > SHIFT_UM:
            raise StageError(
                _(
                    "{stage} counts from a shifted zero or follows a measured bed. Switch that off in the controller "
                    "(G92, M206, M420) and connect again."
                ).format(stage=self.name)
            )

    def _read_settings(self) -> None:
        told = self._command("M503", known=False)
        found = {match[1]: dict(_NUMBER.findall(match[2])) for match in map(_SETTING.fullmatch, told) if match}
        steps = found.get("M92", {}).get(self._axis)
        if steps is not None and float(steps) > 0:
            self._steps_per_mm = float(steps)
        elif self._settings.um_per_step is not None:
            self._steps_per_mm = 1000.0 / self._settings.um_per_step
        else:
            raise StageError(
                _("{stage} does not tell its steps per mm (M92). Set um_per_step in the profile.").format(
                    stage=self.name
                )
            )
        top_mm_s = found.get("M203", {}).get(self._axis)
        self._top_speed_um_s = None if top_mm_s is None else float(top_mm_s) * 1000.0
        if self._top_speed_um_s:
            self._speed_um_s = min(self._speed_um_s, self._top_speed_um_s)

    def _um(self, steps: int) -> float:
        return steps / self._steps_per_mm * 1000.0

    def _patience_s(self) -> float:
        """Some builds answer nothing until a move has ended."""
        timeout_s = self._settings.timeout_s or FORMAT.timeout_s
        return timeout_s + (max(self._arrival_s - time.monotonic(), 0.0) if self._target_um is not None else 0.0)

    def _position(self, query: str) -> tuple[float, int]:
        self._line.hear()
        self._refuse_if_killed()
        for _repetition in range(2):
            try:
                told = self._line.ask_lines(query, _is_last, _is_reply, timeout_s=self._patience_s(), repeat=True)
            except StageNoReply:
                self._refuse_if_killed()
                raise
            for line in told:
                if line.startswith("Error:"):
                    self._heard(line)
                elif (position := parse_position(line, self._axis)) is not None:
                    return position
            self._refuse_if_killed()
        raise StageNoReply(_("{stage} does not tell its position.").format(stage=self.name))

    def _read_position(self) -> float:
        return self._um(self._position("M114 R")[1])

    def _read_moving(self) -> bool:
        here, planned = self._position("M114 R")[1], self._position("M114")[1]
        if abs(here - planned) > 1:
            return True
        asked_s = time.monotonic()
        try:
            self._command("M400", self._patience_s())
        except StageNoReply:
            if self._busy_s < asked_s:
                raise
            raise StageError(
                _("{stage} is at its move for longer than that can take. Is it blocked?").format(stage=self.name)
            ) from None
        return False

    def _move_to(self, position_um: float) -> None:
        low_um, high_um = self.limits_um
        way_um = high_um - low_um if self._last_um is None else abs(position_um - self._last_um)
        self._arrival_s = time.monotonic() + 2 * way_um / self._speed_um_s + 1.0
        self._command(f"G0 {self._axis}{position_um / 1000.0:.4f} F{self._speed_um_s * 0.06:.3f}")

    def _set_speed(self, speed_um_s: float) -> None:
        if self._top_speed_um_s and speed_um_s > self._top_speed_um_s:
            raise StageError(
                _("{stage} can go no faster than {speed:g} µm/s.").format(stage=self.name, speed=self._top_speed_um_s)
            )

    def _halt(self) -> None:
        self._line.urgent(KILL if self._homing else QUICK_STOP)

    def _home(self) -> None:
        self._homing = True
        try:
            self._command(f"G28 {self._axis}", HOMING_LIMIT_S)
        finally:
            self._homing = False

    def _unlock(self) -> None:
        self._connect()  # after a reset the modes are to be set again

    def _refuse_if_killed(self) -> None:
        if self._killed and self._alarm is not None:
            raise StageAlarm(self._alarm)

    def _command(self, command: str, timeout_s: float | None = None, *, known: bool = True) -> list[str]:
        """The lines before ``ok``. ``known``: refuse to go on where the controller does not know the command."""
        told = self._line.ask_lines(command, _is_last, _is_reply, timeout_s=timeout_s)
        for line in told:
            if line.startswith("Error:"):
                self._heard(line)
                self._refuse_if_killed()
                words = line.removeprefix("Error:").strip(" .!")
                raise StageError(_("{stage} reports: {words}.").format(stage=self.name, words=words))
            if _NOT_HOMED.fullmatch(line):
                self._lose_reference(_("{stage} moves only after homing.").format(stage=self.name))
                raise StageUnreferenced(self._reference_fault())
            if known and _UNKNOWN.fullmatch(line):
                raise StageError(
                    _("{stage} does not know the command {command}.").format(stage=self.name, command=command)
                )
        return told

    def _heard(self, line: str) -> None:
        if _BUSY.fullmatch(line):
            self._busy_s = time.monotonic()
        elif _KILLED.fullmatch(line):
            self._killed = True
            self._alarm = _("{stage} has shut itself down. Switch it off and on, then confirm its position.").format(
                stage=self.name
            )
            self._lose_reference(_("{stage} lost its position.").format(stage=self.name))
        elif _GREETING.fullmatch(line):
            self._killed = False
            self._lose_reference(_("{stage} was reset.").format(stage=self.name))


DRIVER = StageDriver("marlin", "Marlin", FORMAT, MarlinStage, identify, (115200, 250000), MarlinSettings)
