"""Zaber stages that speak the ASCII protocol (A- and X-Series, firmware 6.06 and later).

Source: Zaber's ASCII Protocol Manual; units of speed as in Micro-Manager's adapter (BSD). Every command carries a
message number, which its reply repeats, and a checksum: a late reply counts for no other command and a torn command
moves nothing. Alerts (``!``) and info (``#``) are no replies. A position is lost with the power and comes back by
homing, or by a person's word: the position shown is then written to the controller, which moves nothing.
"""

import re
import time
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from hardware.line import LineFormat, SerialLine
from hardware.stage import StageAlarm, StageError, StageLimitError, StageNoReply
from hardware.stages.driver import SerialStage, SerialStageSettings, StageDriver
from hardware.stages.zaber_words import DOUBTS, FAULTS, HINTS, REJECTIONS, UNREFERENCED
from models.language import _

SPEED_UNIT = 1.6384
"""``maxspeed`` counts microsteps per second times this."""
HOMING_LIMIT_S = 300.0
POLL_S = 0.02
CHAIN_S = 0.1
"""All devices of a chain have answered within this time after the first."""
STATUS_AGE_S = 0.01
"""A position that is asked for right after the state comes from the same reply, once."""

_MESSAGE = re.compile(r"@(\d\d) (\d)(?: (\d\d))? (OK|RJ) (IDLE|BUSY) (--|[A-Z]{2}) ([^:]*)(?::([0-9A-F]{2}))?")
_ALERT = re.compile(r"!(\d\d) (\d) (?:IDLE|BUSY) (--|[A-Z]{2})(?::[0-9A-F]{2})?")
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,9})?")
_VERSION = re.compile(r"\d{1,2}\.\d{1,4}")


class ZaberSettings(SerialStageSettings):
    """``address``, ``axis``: numbers of the controller in its chain and of the axis on it. The size of a microstep:
    ``um_per_step``, or ``um_per_full_step`` (lead of the screw over steps per turn), divided by its resolution."""

    address: int = Field(default=1, ge=1, le=99)
    axis: str = Field(default="1", pattern=r"^[1-9]$")
    um_per_full_step: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _step_has_a_size(self) -> Self:
        if (self.um_per_step is None) == (self.um_per_full_step is None):
            raise ValueError(_("give either um_per_full_step or um_per_step"))
        return self


@dataclass(frozen=True)
class Reply:
    """One reply; ``message``: the number of the command that it answers, where that had one."""

    address: int
    axis: int
    message: int | None
    accepted: bool
    busy: bool
    flag: str
    data: str

    @classmethod
    def parse(cls, line: str) -> "Reply | None":
        """None for anything that is not one whole reply with the right checksum, where it has one."""
        match = _MESSAGE.fullmatch(line)
        if match is None or not line.isascii():
            return None
        if match[8] is not None and checksum(line[1:-3]) != match[8]:
            return None
        message = None if match[3] is None else int(match[3])
        return cls(int(match[1]), int(match[2]), message, match[4] == "OK", match[5] == "BUSY", match[6], match[7])


def checksum(text: str) -> str:
    """Of a message without its first character: what makes the sum of its bytes zero, as two hexadecimal digits."""
    return f"{-sum(text.encode('ascii')) & 0xFF:02X}"


def _is_version(line: str) -> bool:
    reply = Reply.parse(line)
    return reply is not None and reply.message is None and _VERSION.fullmatch(reply.data) is not None


FORMAT = LineFormat(
    command_end=b"\n", is_push=lambda line: line.startswith(("!", "#")), sync=("/get version", _is_version)
)


def identify(line: SerialLine) -> str | None:
    """Model, firmware and serial number of every device in the chain."""
    try:
        first = line.ask("/", lambda text: Reply.parse(text) is not None, timeout_s=0.5)
    except StageNoReply:
        return None
    replies = [Reply.parse(text) for text in (first, *line.listen(CHAIN_S))]
    addresses = sorted({reply.address for reply in replies if reply is not None})
    words = [_device_words(line, address) for address in addresses]
    return "; ".join(word for word in words if word is not None) or None


def _device_words(line: SerialLine, address: int) -> str | None:
    told = [_told(line, address, setting) for setting in ("device.id", "version", "system.serial")]
    if told[0] is None:
        return None
    names = ("Zaber {}", "firmware {}", "serial number {}")
    return ", ".join(name.format(word) for name, word in zip(names, told, strict=True) if word is not None)


def _told(line: SerialLine, address: int, setting: str) -> str | None:
    """A setting of the device as a whole; None where it does not know it or is not there."""
    answers: list[Reply] = []

    def is_answer(text: str) -> bool:
        reply = Reply.parse(text)
        if reply is None or (reply.address, reply.axis, reply.message) != (address, 0, None):
            return False
        answers.append(reply)
        return True

    try:
        line.ask(f"/{address} 0 get {setting}", is_answer, repeat=True)
    except StageNoReply:
        return None
    return answers[-1].data if answers[-1].accepted and _NUMBER.fullmatch(answers[-1].data) else None


class ZaberStage(SerialStage):
    """One axis of a Zaber controller, or of a stage with its controller inside."""

    title = "Zaber"
    can_home = True
    power_up_um = None  # its flags tell of a reset

    def __init__(self, settings: ZaberSettings, line: SerialLine) -> None:
        self._address, self._axis = settings.address, int(settings.axis)
        self._um_per_full_step = settings.um_per_full_step
        self._um_per_step = settings.um_per_step or 0.0
        self._travel_um = (settings.low_um, settings.high_um)
        self._tolerated: frozenset[str] = frozenset()  # flags that are no news
        self._hint: str | None = None
        self._numbered = True
        self._message = 0
        self._latest: tuple[float, Reply] | None = None
        super().__init__(settings, line)

    @property
    def limits_um(self) -> tuple[float, float]:
        """The profile's, within ``limit.min`` and ``limit.max`` of the controller."""
        low_um, high_um = super().limits_um
        return max(low_um, self._travel_um[0]), min(high_um, self._travel_um[1])

    def faults(self) -> tuple[str, ...]:
        return (*super().faults(), *([self._hint] if self._hint is not None else []))

    def _connect(self) -> None:
        first = not self._identity
        words = _device_words(self._line, self._address)
        if words is None:
            raise StageNoReply(
                _("No Zaber device {address} answers on {port}. Check its address, power and cable.").format(
                    address=self._address, port=self._line.port_name
                )
            )
        self._recognise(words)
        self._latest = None
        self._numbered = self._knows_numbers()
        if self._um_per_full_step is not None:
            self._um_per_step = self._um_per_full_step / self._number("get resolution")
        self._travel_um = (
            self._number("get limit.min") * self._um_per_step,
            self._number("get limit.max") * self._um_per_step,
        )
        if not self.limits_um[0] < self.limits_um[1]:
            raise StageLimitError(
                _("{stage}: the profile leaves no room within its travel of {low:g} to {high:g} µm.").format(
                    stage=self.name, low=self._travel_um[0], high=self._travel_um[1]
                )
            )
        if first and self._settings.trust_position:
            self._adopt_position()
        flags = self._flags()
        if first and not flags.intersection((*UNREFERENCED, *DOUBTS)):
            self._unreferenced = None  # after a pulled cable the last known position decides
        self._note_all(flags)
        if first:
            self._tolerated = flags.intersection(UNREFERENCED)
        self._set_speed(self._speed_um_s)

    def _read_position(self) -> float:
        latest, self._latest = self._latest, None
        if latest is None or time.monotonic() - latest[0] > STATUS_AGE_S:
            return self._number("get pos") * self._um_per_step
        return self._as_number(latest[1]) * self._um_per_step

    def _read_moving(self) -> bool:
        reply = self._ask("get pos", repeat=True)
        self._latest = (time.monotonic(), reply)
        return reply.busy

    def _move_to(self, position_um: float) -> None:
        self._move(f"move abs {self._steps(position_um)}")

    def _move_by(self, distance_um: float, target_um: float) -> None:
        self._move(f"move rel {self._steps(distance_um)}")

    def _move(self, command: str) -> None:
        self._latest = None
        self._ask(command)

    def _steps(self, length_um: float) -> int:
        return round(length_um / self._um_per_step)

    def _set_speed(self, speed_um_s: float) -> None:
        # Kept by the controller without power: written only where it changes.
        wanted = max(1, round(speed_um_s / self._um_per_step * SPEED_UNIT))
        if wanted == self._number("get maxspeed"):
            return
        try:
            self._ask(f"set maxspeed {wanted}")
        except StageLimitError:
            raise StageError(
                _("{stage} cannot go at {speed:g} µm/s. Choose another speed.").format(
                    stage=self.name, speed=speed_um_s
                )
            ) from None

    def _halt(self) -> None:
        # Not estop: an abrupt halt may lose steps, and with them the position.
        self._latest = None
        self._line.urgent(f"/{self._address} {self._axis} stop\n".encode("ascii"))

    def _home(self) -> None:
        stops = self._stops
        self._latest = None
        self._ask("warnings clear")
        self._tolerated = frozenset(UNREFERENCED)
        self._ask("home")
        end_s = time.monotonic() + HOMING_LIMIT_S
        while self._ask("get pos", repeat=True).busy and self._stops == stops:
            if time.monotonic() > end_s:
                self._halt()
                break
            time.sleep(POLL_S)
        if self._stops != stops:
            return  # told by whoever called
        flags = self._flags()
        if self._alarm is not None and flags.intersection(FAULTS):
            raise StageAlarm(self._alarm)
        if flags.intersection((*UNREFERENCED, *DOUBTS)):
            raise StageError(_("{stage} did not find its reference. Is something in its way?").format(stage=self.name))
        self._tolerated = frozenset()

    def _unlock(self) -> None:
        self._latest = None
        self._ask("warnings clear")
        if not self._flags().intersection(FAULTS):
            self._adopt_position()
        flags = self._flags()
        self._tolerated = flags.intersection(UNREFERENCED)
        self._note_all(flags)
        if self._alarm is not None and flags.intersection(FAULTS):
            raise StageAlarm(self._alarm)

    def _adopt_position(self) -> None:
        """Tell a controller without a reference that the position that it shows is right."""
        if "WR" in self._flags():
            self._ask(f"set pos {self._number('get pos'):.0f}")

    # -- replies

    def _knows_numbers(self) -> bool:
        """Older firmware takes the number for the command, refuses it, and repeats none."""
        text = f"{self._address} {self._axis} 00 get pos"
        return self._exchange(f"{text}:{checksum(text)}", {0, None}, repeat=True).message is not None

    def _exchange(self, text: str, messages: set[int | None], *, repeat: bool) -> Reply:
        """The first reply of this axis with one of these numbers (None: without one)."""
        answers: list[Reply] = []

        def is_answer(line: str) -> bool:
            reply = Reply.parse(line)
            if reply is None or (reply.address, reply.axis) != (self._address, self._axis):
                return False
            if reply.message not in messages:
                return False
            answers.append(reply)
            return True

        self._line.ask(f"/{text}", is_answer, repeat=repeat)
        return answers[-1]

    def _ask(self, command: str, *, repeat: bool = False) -> Reply:
        """Raises StageError where the command is rejected."""
        text = f"{self._address} {self._axis} {command}"
        message: int | None = None
        if self._numbered:
            self._message = message = (self._message + 1) % 100
            text = f"{self._address} {self._axis} {message:02d} {command}"
            text = f"{text}:{checksum(text)}"
        reply = self._exchange(text, {message}, repeat=repeat)
        self._note(reply.flag)
        if reply.accepted:
            return reply
        if reply.data == "BADDATA":
            raise StageLimitError(
                _("{stage} refused '{command}': the value is out of its range. Nothing was moved.").format(
                    stage=self.name, command=command
                )
            )
        reason = _(REJECTIONS[reply.data]) if reply.data in REJECTIONS else reply.data
        raise StageError(
            _("{stage} refused '{command}': {reason}.").format(stage=self.name, command=command, reason=reason)
        )

    def _number(self, query: str) -> float:
        return self._as_number(self._ask(query, repeat=True))

    def _as_number(self, reply: Reply) -> float:
        if _NUMBER.fullmatch(reply.data) is None:
            raise StageNoReply(
                _("{stage} sends '{data}' where a number should be. Check the axis and the cable.").format(
                    stage=self.name, data=reply.data
                )
            )
        return float(reply.data)

    def _flags(self) -> frozenset[str]:
        """All that are set; a reply shows only the most important one. The count comes first."""
        return frozenset(self._ask("warnings", repeat=True).data.split()[1:])

    def _note_all(self, flags: frozenset[str]) -> None:
        for flag in sorted(flags, reverse=True):
            self._note(flag)

    def _note(self, flag: str) -> None:
        self._hint = _(HINTS[flag]).format(stage=self.name) if flag in HINTS else None
        if flag in DOUBTS:
            self._lose_reference(
                _("{stage} may stand elsewhere than it says: {reason}.").format(stage=self.name, reason=_(DOUBTS[flag]))
            )
        elif flag in UNREFERENCED and flag not in self._tolerated:
            self._lose_reference(_("{stage} has not been homed since it was switched on.").format(stage=self.name))
        if flag.startswith("F"):
            reason = _(FAULTS[flag]) if flag in FAULTS else _("fault {flag}").format(flag=flag)
            self._alarm = _(
                "{stage}: {reason}. Remove the cause, then confirm its position; if that does not help, "
                "switch it off and on again."
            ).format(stage=self.name, reason=reason)

    def _heard(self, line: str) -> None:
        match = _ALERT.fullmatch(line)
        if match is not None and int(match[1]) == self._address and int(match[2]) in (0, self._axis):
            self._note(match[3])


DRIVER = StageDriver("zaber", "Zaber (ASCII)", FORMAT, ZaberStage, identify, (115200, 9600), ZaberSettings)
