"""openUC2 electronics (ESP32): JSON over the serial line, and focus scans timed by the controller.

Source: github.com/youseetoo/uc2-esp32 (SerialProcess.cpp, MotorJsonParser.cpp, HomeMotor.cpp, FocusScan.cpp) and
github.com/openUC2/UC2-REST. A command is one line with a number (``qid``); its reply is a frame between ``++`` and
``--`` with the same number. Frames also come unasked when a move, homing or a scan ends. What shapes this driver:

- Homing that finds no switch ends with its time limit and calls itself done.
- Neither homing nor a scan ends by stopping the motor: they would move it again later. STOP restarts the controller
  then, which costs the position.
- A scan from step 0 begins where the stage stands: here every scan does. Without light it triggers nothing.
- A limit switch that is hit outside homing puts the counter at a number that is no position.
- Some builds send a zero byte after each frame; lines of the system's log may come in the middle of one.
"""

import json
import math
import re
import time
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hardware.line import LineFormat, SerialLine
from hardware.stage import (
    ScanLeader,
    ScanRequest,
    StageAlarm,
    StageError,
    StageLimitError,
    StageNoReply,
    StageStopped,
)
from hardware.stages.driver import SerialStage, SerialStageSettings, StageDriver
from models.language import _

ATTEMPTS_S = (0.3, 1.5, 1.5, 2.5)
"""It may be booting because its port was opened, and older firmware answers after a second."""
START_S = 0.15
"""A motor on another board of the bus may be reported at rest this long after it was told to move."""
MAX_FRAME_CHARS = 20_000
SCAN_MOVE_S = 0.1
"""The firmware's own wait at each position of a scan."""
SCAN_GRACE_S = 5.0
TRIGGER_US = 100
STEPPER_IDS = {"A": 0, "X": 1, "Y": 2, "Z": 3}
RESTART = {"task": "/state_act", "restart": 1}
NO_POSITION = 999_999
"""What the counter shows after a limit switch was hit."""

_BOOT = re.compile(r"ets [A-Z][a-z]{2} .*|rst:0x.*|ESP-ROM:.*")
_LOG = re.compile(r"\[ *\d+\]\[[VDIWE]\].*|[VDIWE] \(\d+\) .*")
_IDENTIFY = '{"task":"/state_get","qid":1}'

Frame = dict[str, Any]


class Frames:
    """Puts frames together, line by line."""

    def __init__(self) -> None:
        self._text: str | None = None

    def feed(self, line: str) -> Frame | None:
        """The frame that this line ends; None for anything that is not a whole JSON object."""
        if line == "++":
            self._text = ""
        elif line == "--":
            text, self._text = self._text, None
            return None if text is None else _parse(text)
        elif self._text is not None and _LOG.fullmatch(line) is None:
            self._text += line
            if len(self._text) > MAX_FRAME_CHARS:
                self._text = None
        return None


def _parse(text: str) -> Frame | None:
    try:
        frame = json.loads(text, parse_constant=lambda word: None)
    except (ValueError, RecursionError):
        return None
    return frame if isinstance(frame, dict) else None


def _whole(value: object) -> int | None:
    """A number of steps, a flag; None for anything else. The firmware prints whole numbers only."""
    return value if isinstance(value, int) and abs(value) < 2**31 else None


def stepper(frame: Frame, number: int) -> Frame | None:
    """What a frame tells of one motor; None where it does not."""
    motor = frame.get("motor")
    steppers = motor.get("steppers") if isinstance(motor, dict) else None
    for item in steppers if isinstance(steppers, list) else []:
        if isinstance(item, dict) and item.get("stepperid") == number:
            return item
    return None


def _is_text(line: str) -> bool:
    return line.isascii() and line.replace("\t", "").isprintable()


FORMAT = LineFormat(
    command_end=b"\n",
    reply_ends=b"\r\n\x00",
    is_push=_is_text,  # which of the frames answer is decided by their numbers
    sync=(_IDENTIFY, lambda line: '"identifier_name"' in line),
    keep_dtr=True,
    timeout_s=2.5,  # older firmware waits a second for the end of a command
)


def identify(line: SerialLine) -> str | None:
    """Name, version and date of the firmware, after its boot where opening the port resets it."""
    for timeout_s in ATTEMPTS_S:
        frames = Frames()
        found: list[Frame] = []

        def answers(text: str, frames: Frames = frames, found: list[Frame] = found) -> bool:
            frame = frames.feed(text)
            state = frame.get("state", frame) if frame is not None else None
            if isinstance(state, dict) and isinstance(state.get("identifier_name"), str):
                found.append(state)
            return bool(found)

        try:
            line.ask(_IDENTIFY, answers, timeout_s=timeout_s)
        except StageNoReply:
            continue
        words = [str(found[0].get(f"identifier_{key}", "")) for key in ("name", "id", "date")]
        return " ".join(word for word in words if word)
    return None


class OpenUc2Settings(SerialStageSettings):
    """``home_direction``: where the limit switch is; 0: there is none and the axis is not homed.

    ``scan_led`` or one of ``scan_laser`` (0 to 255, 0 to 1023): the one light of a hardware-timed focus scan.
    """

    home_direction: Literal[-1, 0, 1] = 0
    home_speed_um_s: float = Field(default=500.0, gt=0, allow_inf_nan=False)
    home_limit_s: float = Field(default=60.0, gt=0, le=600)
    scan_led: int = Field(default=255, ge=0, le=255)
    scan_laser: tuple[int, int, int, int] = (0, 0, 0, 0)

    @model_validator(mode="after")
    def _one_light(self) -> Self:
        if sum(value != 0 for value in (self.scan_led, *self.scan_laser)) != 1:
            raise ValueError("exactly one of scan_led and scan_laser must be on: each light triggers the camera")
        return self


class OpenUc2Stage(SerialStage):
    """One motor of an openUC2 controller, in its own steps."""

    title = "openUC2"
    power_up_um = None
    scan_leader: ScanLeader = "stage"

    def __init__(self, settings: SerialStageSettings, line: SerialLine) -> None:
        number = STEPPER_IDS.get(settings.axis.upper())
        if settings.um_per_step is None or number is None or not isinstance(settings, OpenUc2Settings):
            line.close()
            raise StageError(_("openUC2 needs um_per_step in the profile and has the axes A, X, Y and Z."))
        self._stepper, self._um_per_step, self._uc2 = number, settings.um_per_step, settings
        self.can_home = settings.home_direction != 0
        self._frames = Frames()
        self._qid = 1
        self._moved_s = 0.0
        self._goal: int | None = None
        self._homing = self._homed = False
        self._travel_um: tuple[float, float] | None = None
        self._scan_limit_s: float | None = None
        super().__init__(settings, line)

    @property
    def limits_um(self) -> tuple[float, float]:
        """The profile's, within the controller's own where they are switched on."""
        low_um, high_um = super().limits_um
        if self._travel_um is not None:
            low_um, high_um = max(low_um, self._travel_um[0]), min(high_um, self._travel_um[1])
        return low_um, high_um

    def _connect(self) -> None:
        self._frames = Frames()
        identity = identify(self._line)
        if identity is None:
            raise StageNoReply(
                _("No openUC2 controller answers on {port}. Check its cable, its power and the port.").format(
                    port=self._line.port_name
                )
            )
        self._recognise(identity)
        if self._target_um is not None:  # its memory holds where the latest move began
            self._lose_reference(_("{stage} was disconnected in motion.").format(stage=self.name))
        self._end_scan()
        self._alarm = None
        self._state()
        if not self.limits_um[0] < self.limits_um[1]:
            raise StageLimitError(
                _("{stage}: the limits of the profile leave no room within those of the controller.").format(
                    stage=self.name
                )
            )

    # -- frames

    def _ask(self, task: Frame, key: str, *, repeat: bool = False) -> Frame:
        """The frame with the same number that has ``key``; all others are news."""
        self._qid += 1
        qid = self._qid
        replies: list[Frame] = []

        def answers(line: str) -> bool:
            frame = self._frames.feed(line) if line == "--" else None
            if frame is None:
                return False
            if frame.get("qid") == qid and key in frame:
                replies.append(frame)
                return True
            self._heard_frame(frame)
            return False

        self._line.ask(json.dumps({**task, "qid": qid}, separators=(",", ":")), answers, repeat=repeat)
        return replies[-1]

    def _command(self, task: Frame) -> None:
        if self._ask(task, "success").get("success") != 1:
            raise StageError(_("{stage} refused the command.").format(stage=self.name))

    def _heard(self, line: str) -> None:
        if _BOOT.fullmatch(line):
            self._end_scan()
            self._lose_reference(_("{stage} was reset.").format(stage=self.name))
        elif (frame := self._frames.feed(line)) is not None:
            self._heard_frame(frame)

    def _heard_frame(self, frame: Frame) -> None:
        if "focusscan" in frame:
            self._end_scan()
        home = frame.get("home")
        told = home.get("steppers") if isinstance(home, dict) else None
        for item in told if isinstance(told, list) else [told]:
            if isinstance(item, dict) and item.get("axis") == self._stepper and item.get("isDone"):
                self._homed = True

    def _state(self) -> tuple[int, bool]:
        """(position in steps, running). Takes note of limits and of a limit switch that was hit."""
        item = stepper(self._ask({"task": "/motor_get"}, "motor", repeat=True), self._stepper) or {}
        position, running = _whole(item.get("position")), _whole(item.get("isRunning"))
        if position is None or running is None:
            raise StageNoReply(
                _("{stage} does not tell where motor {axis} is and whether it runs. Update its firmware.").format(
                    stage=self.name, axis=self._settings.axis
                )
            )
        low, high = _whole(item.get("min")), _whole(item.get("max"))
        self._travel_um = None
        if item.get("isen") and low is not None and high is not None and low < high:
            self._travel_um = low * self._um_per_step, high * self._um_per_step
        if item.get("hardLimitTriggered") or position == NO_POSITION:
            self._hit_switch()
        return position, bool(running)

    def _hit_switch(self) -> None:
        self._alarm = _(
            "{stage} hit a limit switch and lost its position. Make sure that the way is free, then home it."
        ).format(stage=self.name)
        self._lose_reference(_("{stage} lost its position.").format(stage=self.name))

    # -- motion

    def _read_position(self) -> float:
        position = self._state()[0]
        if position == NO_POSITION:
            raise StageAlarm(self._alarm or "")
        return position * self._um_per_step

    def _read_moving(self) -> bool:
        position, running = self._state()
        if self._scan_limit_s is not None:
            if time.monotonic() < self._scan_limit_s:
                return True
            self._halt()
            raise StageError(
                _("{stage} did not finish the focus scan. Its firmware may have none.").format(stage=self.name)
            )
        just_told = time.monotonic() - self._moved_s < START_S
        return running or (just_told and self._goal is not None and position != self._goal)

    def _move_to(self, position_um: float) -> None:
        self._goal = round(position_um / self._um_per_step)
        speed = max(round(self._speed_um_s / self._um_per_step), 1)
        move = {"stepperid": self._stepper, "position": self._goal, "speed": speed, "isabs": 1}
        move |= {"isaccel": 1, "accel": 10 * speed, "isen": 1}  # full speed after 0.1 s
        self._command({"task": "/motor_act", "motor": {"steppers": [move]}})
        self._moved_s = time.monotonic()

    def _halt(self) -> None:
        self._goal = None
        tasks: list[Frame] = [
            {"task": "/motor_act", "motor": {"steppers": [{"stepperid": self._stepper, "isstop": 1}]}}
        ]
        if self._homing or self._scan_limit_s is not None:
            tasks.append(RESTART)
        self._line.urgent("".join("\n" + json.dumps(task, separators=(",", ":")) for task in tasks).encode() + b"\n")

    def _home(self) -> None:
        self._end_scan()
        speed = max(round(self._uc2.home_speed_um_s / self._um_per_step), 1)
        drive = {"stepperid": self._stepper, "speed": speed, "direction": self._uc2.home_direction}
        drive |= {"timeout": round(self._uc2.home_limit_s * 1000), "endstoppolarity": 0}
        self._homing, self._homed = True, False
        began_s, stops = time.monotonic(), self._stops
        try:
            self._command({"task": "/home_act", "home": {"steppers": [drive]}})
            self._line.listen(self._uc2.home_limit_s + 10.0, until=lambda line: self._homed)
        finally:
            self._homing = False
        if self._stops != stops:
            raise StageStopped(_("{stage} was stopped.").format(stage=self.name))
        if not self._homed or time.monotonic() - began_s >= self._uc2.home_limit_s:
            self._halt()
            raise StageError(
                _("{stage} did not find its limit switch in time. Check the switch and home_direction.").format(
                    stage=self.name
                )
            )

    def _unlock(self) -> None:
        if self._alarm is not None:  # what it shows is no position, and nobody's word makes it one
            self._alarm = None
            self._state()
            if self._alarm is not None:
                raise StageAlarm(self._alarm)

    # -- focus scans timed by the controller, see hardware.stage.HardwareScan

    def begin_scan(self, request: ScanRequest) -> tuple[float, ...]:
        """Step and trigger the camera from where the stage stands. It drives back there when it has ended.

        The firmware goes at least 20,000 steps/s. STOP in a scan loses the position.
        """
        count, step = request.frame_count, round(request.step_um / self._um_per_step)
        settle_ms, exposure_ms = request.settle_ms, request.exposure_ms
        if not 2 <= count <= 65535 or step == 0 or min(settle_ms, exposure_ms) < 0:
            raise StageError(_("A focus scan needs 2 to 65535 frames and steps of at least one motor step."))
        first, running = self._state()
        positions_um = tuple((first + index * step) * self._um_per_step for index in range(count))
        for end_um in (positions_um[0], positions_um[-1]):
            self._check(end_um)
        if running:
            raise StageError(_("{stage} is still moving.").format(stage=self.name))
        scan: Frame = {"zStart": first, "zStep": step, "nZ": count, "tPre": math.ceil(settle_ms), "tTrig": TRIGGER_US}
        scan |= {"tPost": math.ceil(exposure_ms), "led": self._uc2.scan_led, "illumination": list(self._uc2.scan_laser)}
        scan |= {"speed": 20_000, "acceleration": 1_000_000, "stopped": 0, "qid": self._qid + 1}
        frame_s = SCAN_MOVE_S + (settle_ms + 2 * exposure_ms) / 1000.0 + abs(step) / 20_000
        with self._halted_by_a_stop_meanwhile():
            self.stop_loses_position = True
            self._target_um = positions_um[-1]
            self._scan_limit_s = time.monotonic() + 2 * count * frame_s + SCAN_GRACE_S
            try:
                self._command({"task": "/motor_act", "focusscan": scan})
            except StageError:
                self._halt()  # it may have begun
                raise
        return positions_um

    def end_scan(self) -> None:
        """Returns when a scan under way has been given up and the stage is back where it began."""
        if self._scan_limit_s is None:
            return
        self._command({"task": "/motor_act", "focusscan": {"stopped": 1}})
        while self._scan_limit_s is not None and self._read_moving():
            time.sleep(0.01)

    def _end_scan(self) -> None:
        self._scan_limit_s = None
        self.stop_loses_position = False


DRIVER = StageDriver("openuc2", "openUC2", FORMAT, OpenUc2Stage, identify, (115200,), OpenUc2Settings)
