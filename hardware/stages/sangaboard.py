"""Sangaboard, the motor controller of the OpenFlexure microscope.

Source: the firmware's own list of commands (``help``) and its C++ source, versions 0.5 and 1.0. It counts steps,
moves only by distances and knows neither limits nor a reference. Firmware 1 moves in the background and can be
stopped; older firmware listens to nothing until a move has ended, so that a move goes in short pieces there and STOP
is that no further piece follows. A limit switch ends a piece there without a word, the lower one also makes zero.
"""

import re

from hardware.line import LineFormat, SerialLine
from hardware.stage import StageError, StageNoReply
from hardware.stages.driver import SerialStage, SerialStageSettings, StageDriver
from models.language import _

STOP = b"\nstop\n"
BOOT_S = 2.5
PIECE_S = 0.03
"""Length of a piece of a move where the firmware cannot be stopped in a move."""

_VERSION = re.compile(r"((?:Sangaboard Firmware|OpenFlexure Motor Board) v(\d{1,3})\.\d{1,3}\S*).*")
_POSITION = re.compile(r"(-?\d{1,10}) (-?\d{1,10}) (-?\d{1,10})")
_STEP_DELAY = re.compile(r"minimum step delay (\d{1,9})")
_DONE = re.compile(r"done\.?")
_END_STOP = re.compile(r"Endstop hit: ?-?[123]")


def parse_position(line: str) -> tuple[int, int, int] | None:
    """Steps of x, y and z; None for anything else."""
    match = _POSITION.fullmatch(line)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def _is_done(line: str) -> bool:
    return _DONE.fullmatch(line) is not None


def _is_version(line: str) -> bool:
    return _VERSION.fullmatch(line) is not None


FORMAT = LineFormat(
    command_end=b"\n",
    is_push=lambda line: _is_version(line) or _END_STOP.fullmatch(line) is not None,
    sync=("dt?", lambda line: _STEP_DELAY.fullmatch(line) is not None),
    keep_dtr=True,
    timeout_s=1.0,
)


def identify(line: SerialLine) -> str | None:
    """Name and version of the firmware, after the boot of a board that resets when its port is opened."""
    for attempt in range(2):
        try:
            match = _VERSION.fullmatch(line.ask("version", _is_version, timeout_s=0.6))
            return None if match is None else match[1]
        except StageNoReply:
            if attempt == 0:
                line.listen(BOOT_S, until=_is_version)
    return None


class SangaboardStage(SerialStage):
    """One axis of a Sangaboard; its zero is where the board was told to zero, or was switched on."""

    title = "Sangaboard"

    def __init__(self, settings: SerialStageSettings, line: SerialLine) -> None:
        if settings.um_per_step is None or settings.axis.lower() not in ("x", "y", "z"):
            line.close()
            raise StageError(_("A Sangaboard needs um_per_step in the profile and has the axes x, y and z."))
        self._um_per_step = settings.um_per_step
        self._axis = settings.axis.lower()
        self._step_delay_us = 0
        self._listens_in_motion = False
        self._goal: int | None = None  # of a move in pieces
        self._expected: int | None = None  # where the latest piece must have ended
        super().__init__(settings, line)

    def _connect(self) -> None:
        identity = identify(self._line)
        match = None if identity is None else _VERSION.fullmatch(identity)
        if identity is None or match is None:
            raise StageNoReply(
                _("No Sangaboard answers on {port}. Check its cable, its power and the port.").format(
                    port=self._line.port_name
                )
            )
        self._recognise(identity)
        self._listens_in_motion = int(match[2]) >= 1
        if self._goal is not None:
            self._goal = None
            self._lose_reference(_("{stage} was disconnected in motion.").format(stage=self.name))
        if self._listens_in_motion and self._ask("blocking_moves?", r"blocking_moves (true|false)") == "true":
            self._line.ask("blocking_moves false", _is_done)
        self._step_delay_us = int(self._ask("dt?", _STEP_DELAY.pattern))
        self._set_speed(self._speed_um_s)

    def _ask(self, query: str, pattern: str) -> str:
        reply = self._line.ask(query, lambda line: re.fullmatch(pattern, line) is not None, repeat=True)
        match = re.fullmatch(pattern, reply)
        if match is None:
            raise StageNoReply(_("{stage} does not answer. Check its cable and power.").format(stage=self.name))
        return match[1]

    def _steps(self) -> int:
        position = parse_position(self._line.ask("p?", lambda line: parse_position(line) is not None, repeat=True))
        if position is None:
            raise StageNoReply(_("{stage} does not tell its position.").format(stage=self.name))
        return position["xyz".index(self._axis)]

    def _read_position(self) -> float:
        return self._steps() * self._um_per_step

    def _read_moving(self) -> bool:
        if self._listens_in_motion:
            return self._ask("moving?", r"(true|false)") == "true"
        if self._goal is None:
            return False
        with self._halted_by_a_stop_meanwhile():
            return self._next_piece()

    def _move_to(self, position_um: float) -> None:
        goal = round(position_um / self._um_per_step)
        if not self._listens_in_motion:
            self._goal, self._expected = goal, None
            try:
                self._next_piece()
            except StageError:  # who is told so does not expect it to go on
                self._goal = None
                raise
        elif (way := goal - self._steps()) != 0:
            self._line.ask(f"mr{self._axis} {way}", _is_done)

    def _next_piece(self) -> bool:
        """False where the goal is reached."""
        goal, here = self._goal, self._steps()
        if self._expected is not None and here != self._expected:
            self._hit_switch()
            return False
        if goal is None or goal == here:
            self._goal = None
            return False
        longest = max(1, int(PIECE_S * 1e6 / self._step_delay_us))
        piece = max(-longest, min(goal - here, longest))
        self._expected = here + piece
        self._line.ask(f"mr{self._axis} {piece}", _is_done)
        return True

    def _hit_switch(self) -> None:
        self._goal = None
        self._alarm = _(
            "{stage} hit a limit switch. Make sure that the way is free, then confirm its position."
        ).format(stage=self.name)
        self._lose_reference(_("{stage} lost its position.").format(stage=self.name))

    def _set_speed(self, speed_um_s: float) -> None:
        step_delay_us = round(self._um_per_step * 1e6 / speed_um_s)
        if not 1 <= step_delay_us <= 1_000_000:
            raise StageError(
                _("{stage} can go between {slow:g} and {fast:g} µm/s.").format(
                    stage=self.name, slow=self._um_per_step, fast=self._um_per_step * 1e6
                )
            )
        if step_delay_us != self._step_delay_us:  # the board writes it to its memory each time
            self._line.ask(f"dt {step_delay_us}", _is_done)
            self._step_delay_us = step_delay_us

    def _halt(self) -> None:
        self._goal = None
        self._line.urgent(STOP)

    def _heard(self, line: str) -> None:
        if _is_version(line):
            self._goal = None
            self._lose_reference(_("{stage} was reset.").format(stage=self.name))
        elif _END_STOP.fullmatch(line):
            self._hit_switch()


DRIVER = StageDriver("sangaboard", "Sangaboard (OpenFlexure)", FORMAT, SangaboardStage, identify, (115200,))
