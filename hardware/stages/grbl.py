"""GRBL 1.1 and its descendants (grblHAL, FluidNC).

Source: github.com/gnea/grbl, doc/markdown (interface.md, jogging.md, settings.md) and doc/csv. Moves are jogs
(``$J=``): the controller checks them against its own limits, and jog cancel (0x85) halts them without loss of the
position. GRBL knows no backlash; :class:`hardware.motion.FocusAxis` takes it out.
"""

import re
import time
from collections.abc import Callable

from hardware.line import LineFormat, SerialLine
from hardware.stage import StageAlarm, StageError, StageLimitError, StageNoReply, StageStopped
from hardware.stages.driver import SerialStage, SerialStageSettings, StageDriver
from hardware.stages.grbl_words import (
    ALARM,
    FLUID_NC,
    GREETING,
    JOG_CANCELLED,
    LOCKED,
    RESET_FIRST,
    Status,
    alarm_words,
    build_options,
    build_words,
    error_words,
    is_done,
    is_push,
    is_status_or_alarm,
    settings_told,
)
from models.language import _

SOFT_RESET, JOG_CANCEL, STATUS = b"\x18", b"\x85", b"?"
BOOT_S = 4.0
"""A board that resets when its port is opened is back within this time: 2 s, with FluidNC's network somewhat more."""
HOMING_LIMIT_S = 180.0
STATUS_AGE_S = 0.01
"""A position that is asked for right after the state comes from the same report, once."""
OFFSET_REPORTS = 40
"""The work offset comes with every 30th report at the latest."""
SLOWEST_UM_S = 1000.0 / 60.0
"""MINIMUM_FEED_RATE, 1 mm/min: whatever is slower goes at this speed without a word."""

_ALARMS_WITH_POSITION = {2, 4, 5}
_ALARMS_UNTIL_RESET = {1, 2}


def _is_greeting(line: str) -> bool:
    return GREETING.fullmatch(line) is not None


FORMAT = LineFormat(
    command_end=b"\n",
    is_push=is_push,
    sync=("$G", lambda line: line.startswith("[GC:") and line.endswith("]")),
    keep_dtr=True,
    timeout_s=1.0,
)


def identify(line: SerialLine) -> str | None:
    """Version and name from ``$I``, after the boot of a board that resets when its port is opened."""
    words = _build_info(line)
    if words is None:
        line.listen(BOOT_S, until=_is_greeting)
        words = _build_info(line)
    return words


def _build_info(line: SerialLine) -> str | None:
    try:
        return build_words(line.ask_lines("$I", is_last=is_done, timeout_s=0.6))
    except StageNoReply:
        return None


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
        self._travel_um: tuple[float, float] | None = None
        self._offset: tuple[float, ...] | None = None
        self._latest: tuple[float, Status] | None = None
        self._homing_command: str | None = None
        self._homing = self._needs_reset = False
        super().__init__(settings, line)

    @property
    def limits_um(self) -> tuple[float, float]:
        """The profile's, within the controller's travel where its soft limits are on."""
        low_um, high_um = super().limits_um
        if self._travel_um is not None:
            low_um, high_um = max(low_um, self._travel_um[0]), min(high_um, self._travel_um[1])
        return low_um, high_um

    def _connect(self) -> None:
        identity = identify(self._line)
        if identity is None:
            raise self._unidentified()
        self._recognise(identity)
        settings = settings_told(self._line.ask_lines("$$", is_last=is_done, repeat=True))
        needed = (13, 22, 110 + self._index, 130 + self._index)
        if missing := [number for number in needed if number not in settings]:
            raise self._untold(str(missing[0]))
        self._controller = settings
        self.grain_um = 2.54 if settings[13] else 1.0  # 4 digits of an inch, 3 of a millimetre
        self.can_home = bool(int(settings[22]) & 1)
        options = build_options(self._line.ask_lines("$I", is_last=is_done, repeat=True))
        self._homing_command = self._find_homing_command(options) if self.can_home else None
        self._travel_um = self._find_travel(options)
        if self._travel_um is not None and not self.limits_um[0] < self.limits_um[1]:
            raise StageLimitError(
                _("{stage}: the profile leaves no room within its travel of {low:g} to {high:g} µm.").format(
                    stage=self.name, low=self._travel_um[0], high=self._travel_um[1]
                )
            )
        self._speed_um_s = max(min(self._speed_um_s, self._top_speed_um_s), SLOWEST_UM_S)
        needs_reset, self._needs_reset = self._needs_reset, False  # it has just answered
        status = self._status(0.0)
        if status.machine is None:
            for _report in range(OFFSET_REPORTS):
                if self._offset is not None:
                    break
                status = self._status(0.0)
        if status.state == "Alarm":
            self._locked()
            self._needs_reset = needs_reset

    def _unidentified(self) -> StageError:
        """Moving or paused, it answers nothing but the question for its state."""
        if (status := self._bare_status()) is not None:
            return StageAlarm(
                _(
                    "{stage} takes no commands now (state {state}). Wait until it stands, or press its start or "
                    "reset button."
                ).format(stage=self.name, state=status.state)
            )
        return StageNoReply(
            _(
                "No GRBL controller answers on {port}. If a limit switch was hit or it is moving, "
                "switch it off and on; else check port and baud rate."
            ).format(port=self._line.port_name)
        )

    def _untold(self, setting: str) -> StageNoReply:
        return StageNoReply(_("{stage} does not tell its setting ${number}.").format(stage=self.name, number=setting))

    def _paused(self, state: str) -> StageAlarm:
        return StageAlarm(
            _("{stage} is paused (state {state}). Confirm its position to end the pause.").format(
                stage=self.name, state=state
            )
        )

    def _find_travel(self, options: str) -> tuple[float, float] | None:
        """Where its soft limits let the axis go, in um; None where they are off."""
        travel_um = 1000.0 * self._controller[130 + self._index]
        end_um, end_is_up = 0.0, True
        if FLUID_NC in self._identity:  # $20 is that of X
            if self._configured("soft_limits") != "true":
                return None
            end_um = 1000.0 * float(self._configured("homing/mpos_mm") or 0)
            end_is_up = self._configured("homing/positive_direction") != "false"
        elif not self._controller.get(20):
            return None
        elif "Z" in options:
            end_is_up = not int(self._controller.get(23, 0)) >> self._index & 1
        return (end_um - travel_um, end_um) if end_is_up else (end_um, end_um + travel_um)

    def _configured(self, item: str) -> str | None:
        """An item of this axis in the configuration of FluidNC; None where it has none."""
        path = f"/axes/{self._axis.lower()}/{item}"
        # The answer begins like the question, so that part of it may be taken for an echo.
        form = re.compile(rf"(?:\${re.escape(path)})?=(true|false|-?\d{{1,7}}(?:\.\d{{1,6}})?)", re.IGNORECASE)
        told = self._line.ask_lines(f"${path}", is_last=is_done, repeat=True)
        found = [match[1].lower() for match in map(form.fullmatch, told) if match is not None]
        if not found and told[-1] == "ok":
            raise self._untold(path)
        return found[0] if found else None

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
                line = self._line.ask(STATUS, is_status_or_alarm)
            except StageNoReply:
                if repetition or self._needs_reset:
                    continue
                status = self._bare_status()
                if status is None:
                    raise
                break
            status = Status.parse(line)
            if status is not None:
                break
            self._heard(line)
        else:
            raise StageAlarm(self._alarm or self._locked())
        self._offset = status.offset or self._offset
        return status

    def _bare_status(self) -> Status | None:
        """In a pause no command is answered, so that the line cannot get in step."""
        self._line.tell(STATUS, in_step=False)
        heard = self._line.listen(0.3, until=lambda line: Status.parse(line) is not None)
        return Status.parse(heard[-1]) if heard else None

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
        raise self._paused(state)

    def _move_to(self, position_um: float) -> None:
        self._jog(f"G53G90{self._axis}{position_um / 1000.0:.5f}")

    def _move_by(self, distance_um: float, target_um: float) -> None:
        self._jog(f"G91{self._axis}{distance_um / 1000.0:.5f}")

    def _jog(self, words: str) -> None:
        self._latest = None
        self._command(f"$J=G21{words}F{self._speed_um_s * 60.0 / 1000.0:.3f}")
        self._latest = None

    def _set_speed(self, speed_um_s: float) -> None:
        if not SLOWEST_UM_S <= speed_um_s <= self._top_speed_um_s:
            raise StageError(
                _("{stage} can go between {slow:g} and {fast:g} µm/s.").format(
                    stage=self.name, slow=SLOWEST_UM_S, fast=self._top_speed_um_s
                )
            )

    def _halt(self) -> None:
        self._latest = None
        self._line.urgent(SOFT_RESET if self._homing else JOG_CANCEL)

    def home(self, may_begin: Callable[[], None] = lambda: None) -> None:
        """Also raises StageError where other axes would move and the profile does not allow it."""
        if self.can_home and self._homing_command is None:
            raise StageError(
                _(
                    "{stage} can only home all its axes at once. Where all of them may move, put home_all_axes = true "
                    "into the profile; else confirm the position."
                ).format(stage=self.name)
            )
        super().home(may_begin)

    def _find_homing_command(self, options: str) -> str | None:
        """Never ``$HZ`` on trial: a controller built without it refuses and then waits for a reset."""
        if "H" in options:
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
        if self._needs_reset or self._status(0.0).state != "Idle":
            self._soft_reset()  # grblHAL refuses $X until then, FluidNC says ok to it and stays as it is
        if self._status(0.0).state == "Alarm":
            self._command("$X")
        state = self._status(0.0).state
        self._latest = None
        if state == "Alarm":
            raise StageAlarm(self._locked())
        if state != "Idle":
            raise self._paused(state)

    def _soft_reset(self) -> None:
        self._line.tell(SOFT_RESET, in_step=False)  # a locked controller answers nothing else
        self._line.listen(BOOT_S, until=_is_greeting)
        self._needs_reset = False
        self._latest = None

    def _command(self, command: str, timeout_s: float | None = None) -> None:
        """Raises what the controller's refusal means."""
        answer = self._line.ask(
            command, lambda line: is_done(line) or ALARM.fullmatch(line) is not None, timeout_s=timeout_s
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
        if number == JOG_CANCELLED:
            raise StageStopped(_("{stage} was stopped.").format(stage=self.name))
        if number in (8, 9) and self._alarm is not None:
            raise StageAlarm(self._alarm)
        reason = error_words(number, self._identity)
        raise StageError(_("{stage} refused: {reason}.").format(stage=self.name, reason=reason))

    def _locked(self) -> str:
        self._alarm = _("{stage} is locked. {advice}").format(stage=self.name, advice=self._advice())
        return self._alarm

    def _advice(self) -> str:
        if self.can_home:
            return _("Make sure that the way is free, then home it or confirm its position.")
        return _("Make sure that the way is free, then confirm its position.")

    def _heard(self, line: str) -> None:
        if match := ALARM.fullmatch(line):
            number = int(match[1])
            self._alarm = f"{self.name}: {alarm_words(number, self._identity)}. {self._advice()}"
            self._needs_reset = number in _ALARMS_UNTIL_RESET
            if number not in _ALARMS_WITH_POSITION:
                self._lose_reference(_("{stage} lost its position.").format(stage=self.name))
        elif _is_greeting(line):
            self._needs_reset = False
            self._latest = None
            self._lose_reference(_("{stage} was reset.").format(stage=self.name))
        elif LOCKED.fullmatch(line):
            self._locked()
        elif RESET_FIRST.fullmatch(line):
            self._needs_reset = True
            self._alarm = self._alarm or self._locked()


DRIVER = StageDriver("grbl", "GRBL 1.1, grblHAL, FluidNC", FORMAT, GrblStage, identify, (115200,), GrblSettings)
