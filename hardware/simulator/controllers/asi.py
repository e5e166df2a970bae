"""ASI MS-2000 and Tiger as asiimaging.com/docs describes them, with the focus on Z.

Kept here as the real ones do it: a missing number counts as nought; HALT in motion is answered by ``:N-21``; moves
beyond the firmware limits end at the limit; speeds out of range are clamped without a word; the built-in backlash
routine overshoots downwards; the coordinates begin wherever the controller is switched on; the limits keep their
place when the zero is moved; a triggered stack returns to its middle after a pause, also when the trigger was switched
off meanwhile. The MS-2000 starts silently, the Tiger with a banner.
"""

import re
import time

from hardware.simulator.controllers.emulator import Emulator, Motor

TOP_SPEED_MM_S, LOW_SPEED_MM_S = 5.7, 0.0002
DEFAULT_SPEED_MM_S, DEFAULT_BACKLASH_MM = 1.0, 0.04
FAR_HOME_MM = 1000.0
TIGER_Z_CARD = "2"


class AsiEmulator(Emulator):
    """``travel_um``: between the limit switches; the power-up point lies ``above_um`` over the lower one.

    ``tiger``: cards, addresses, banner. ``units_per_mm``: of positions (Tiger only). ``piezo``: the axis knows neither
    speed nor backlash. ``most_frames``: of a triggered stack, 127 with old firmware. ``encoder_um``: grain of the
    steps of a triggered stack. ``old_firmware``: knows neither ``BU`` nor ``UM``, values come as ``:Z=1.5 A``.
    """

    line_end = b"\r"

    def __init__(
        self,
        *,
        tiger: bool = False,
        travel_um: float = 4000.0,
        above_um: float = 2000.0,
        lower_limit_mm: float = -110.0,
        upper_limit_mm: float = 110.0,
        units_per_mm: float = 10_000.0,
        most_frames: int = 32767,
        encoder_um: float = 0.0,
        old_firmware: bool = False,
        piezo: bool = False,
        version: str = "",
    ) -> None:
        self.tiger, self.old_firmware, self.piezo = tiger, old_firmware, piezo
        self.version = version or ("v3.41" if tiger else "USB-9.2p")
        self.units_per_mm = units_per_mm
        self.most_frames, self.encoder_um = most_frames, encoder_um
        self.lower_um, self.upper_um = 1000.0 * lower_limit_mm, 1000.0 * upper_limit_mm  # in the motor's frame
        self.home_um: float | None = None
        self.motor_on = True
        self.lowest_um = 0.0
        super().__init__(Motor(-above_um, travel_um - above_um, acceleration_um_s2=40_000.0))

    def power_up(self) -> None:
        self.zero_um = self.motor.position_um
        self.speed_mm_s, self.backlash_mm = DEFAULT_SPEED_MM_S, DEFAULT_BACKLASH_MM
        self.trigger_mode = 0
        self.stack = {"X": 0.0, "Y": 1.0, "Z": 0.0, "F": 500.0}
        self._slice: int | None = None
        self._middle_um = 0.0
        self._pulse_s = 0.0
        self._legs: list[float] = []
        if self.tiger:
            self.send("At 30: Comm v3.41 TIGER_COMM May 07 2021:15:42:05", b"\r")
            self.send("At 31: X:XYMotor,Y:XYMotor v3.41 STD_XY Jun 11 2021:17:00:12", b"\r")
            self.send("At 32: Z:ZMotor v3.41 STD_Z Jun 11 2021:17:05:00")

    # -- lines

    def handle_line(self, line: str) -> None:
        text = line.strip().upper()
        card, text = (text[0], text[1:]) if self.tiger and text[:1].isdigit() else ("", text)
        word, _space, rest = text.partition(" ")
        name = {
            "W": "WHERE", "M": "MOVE", "R": "MOVREL", "H": "HERE", "!": "HOME", "/": "STATUS", "\\": "HALT",
            "S": "SPEED", "B": "BACKLASH", "SL": "SETLOW", "SU": "SETUP", "RS": "RDSTAT", "V": "VERSION",
            "BU": "BUILD", "CD": "CDATE", "HM": "SETHOME", "UM": "UNITS",
        }.get(word, word)  # fmt: skip
        if name in ("TTL", "ZS"):
            if self.tiger and card != TIGER_Z_CARD:
                self.send(":N-7" if card else ":N-1")
                return
            self._trigger_command(name, rest)
            return
        handler = getattr(self, f"_on_{name.lower()}", None) if name.isalpha() else None
        unknown = ("BUILD", "UNITS") * self.old_firmware + ("SPEED", "BACKLASH") * self.piezo
        if handler is None or name in unknown:
            self.send(":N-1")
        else:
            handler(rest)

    def _axis(self, rest: str) -> str | None:
        """What follows the letter Z: ``?``, ``=number``, a sign or nothing. Answers for any other axis."""
        match = re.fullmatch(r"([A-Z])\s*(.*)", rest.strip())
        if match is None:
            self.send(":N-3")
        elif match[1] != "Z":
            self.send(":N-2")
        else:
            return match[2]
        return None

    def _number(self, tail: str) -> float:
        digits = re.match(r"=\s*([-+]?\d*\.?\d*)", tail)
        try:
            return float(digits[1]) if digits else 0.0
        except ValueError:
            return 0.0

    def _tell(self, number: float, digits: int) -> None:
        text = f"Z={number:.{digits}f}"
        self.send(f":A {text} " if self.tiger or not self.old_firmware else f":{text} A")

    # -- identity

    def _on_version(self, _rest: str) -> None:
        self.send(f":A {self.version}" if self.tiger else f":A Version: {self.version} ")

    def _on_build(self, rest: str) -> None:
        build = "TIGER_COMM" if self.tiger else "STD_XYZ"
        if rest.strip() != "X":
            self.send(build)
            return
        rows = ["Motor Axes: X Y Z", "Axis Types: x x z", "Axis Addr: 1 1 2", "Hex Addr: 31 31 32", "Axis Props: 0 0 2"]
        for row in [build, *rows[:-1]]:
            self.send(row + " ", b"\r")
        self.send(rows[-1] + " ")

    def _on_cdate(self, _rest: str) -> None:
        self.send("Jun 11 2021:17:00:12")

    # -- settings

    def _on_units(self, rest: str) -> None:
        tail = self._axis(rest)
        if tail == "?":
            self._tell(self.units_per_mm, 6)
        elif tail is not None:
            self.units_per_mm = self._number(tail)
            self.send(":A")

    def _on_speed(self, rest: str) -> None:
        tail = self._axis(rest)
        if tail == "?":
            self._tell(self.speed_mm_s, 6)
        elif tail is not None:
            self.speed_mm_s = min(max(self._number(tail), LOW_SPEED_MM_S), TOP_SPEED_MM_S)
            self.send(":A")

    def _on_backlash(self, rest: str) -> None:
        tail = self._axis(rest)
        if tail == "?":
            self._tell(self.backlash_mm, 6)
        elif tail is not None:
            self.backlash_mm = self._number(tail)
            self.send(":A")

    def _on_setlow(self, rest: str) -> None:
        tail = self._axis(rest)
        if tail == "?":
            self._tell((self.lower_um - self.zero_um) / 1000.0, 3)
        elif tail is not None:
            self.lower_um = 1000.0 * self._number(tail) + self.zero_um
            self.send(":A")

    def _on_setup(self, rest: str) -> None:
        tail = self._axis(rest)
        if tail == "?":
            self._tell((self.upper_um - self.zero_um) / 1000.0, 3)
        elif tail is not None:
            self.upper_um = 1000.0 * self._number(tail) + self.zero_um
            self.send(":A")

    def _on_sethome(self, rest: str) -> None:
        tail = self._axis(rest)
        if tail == "?":
            self._tell(FAR_HOME_MM if self.home_um is None else (self.home_um - self.zero_um) / 1000.0, 3)
        elif tail is not None:
            self.home_um = 1000.0 * self._number(tail) + self.zero_um
            self.send(":A")

    def _on_here(self, rest: str) -> None:
        tail = self._axis(rest)
        if tail is not None:
            self.zero_um = self.motor.position_um - 1000.0 * self._number(tail) / self.units_per_mm
            self.send(":A")

    # -- state

    def _on_where(self, rest: str) -> None:
        if self._axis(rest) is not None:
            units = (self.motor.position_um - self.zero_um) / 1000.0 * self.units_per_mm
            self.send(f":A {units:.1f} " if self.tiger else f":A {round(units)} ")

    @property
    def _is_busy(self) -> bool:
        return self.motor.is_moving or bool(self._legs)

    def _on_status(self, _rest: str) -> None:
        self.send("B" if self._is_busy else "N")

    def _on_rdstat(self, rest: str) -> None:
        tail = self._axis(rest)
        if tail == "?":
            self.send(":A B" if self._is_busy else ":A N")
        elif tail is not None:
            here_um = self.motor.position_um
            status = int(self._is_busy) + 2 * self.motor_on + 4 * self._is_busy + 8
            status += 64 * (here_um >= self.motor.high_um) + 128 * (here_um <= self.motor.low_um)
            self.send(f":A {status}")

    # -- motion

    def _on_move(self, rest: str) -> None:
        tail = self._axis(rest)
        if tail is not None:
            self._go(self.zero_um + 1000.0 * self._number(tail) / self.units_per_mm)
            self.send(":A")

    def _on_movrel(self, rest: str) -> None:
        tail = self._axis(rest)
        if tail is not None:
            self._go(self.motor.position_um + 1000.0 * self._number(tail) / self.units_per_mm)
            self.send(":A")

    def _on_home(self, rest: str) -> None:
        if self._axis(rest) is not None:
            self._drive([1000.0 * FAR_HOME_MM if self.home_um is None else self.home_um])
            self.send(":A")

    def _on_halt(self, _rest: str) -> None:
        was_moving = self._is_busy
        self._legs.clear()
        self._slice = None
        self.motor.halt()
        self.send(":N-21" if was_moving else ":A")

    def _go(self, target_um: float) -> None:
        target_um = min(max(target_um, self.lower_um), self.upper_um)
        run_up = [target_um - 1000.0 * self.backlash_mm] if self.backlash_mm > 0 else []
        self._drive([*run_up, target_um])

    def _drive(self, legs: list[float]) -> None:
        if self.motor_on:
            self.motor.speed_um_s = 1000.0 * self.speed_mm_s
            self.motor.move_to(legs[0])
            self._legs = legs[1:]

    # -- the trigger input

    def _trigger_command(self, name: str, rest: str) -> None:
        state = self.stack if name == "ZS" else {"X": float(self.trigger_mode)}
        told = []
        for letter, tail in re.findall(r"([A-Z])(\?|=\S*)", rest):
            if letter not in state:
                self.send(":N-2")
                return
            if tail == "?":
                told.append(f"{letter}={state[letter]:.6g}")
            else:
                state[letter] = self._number(tail)
        grain = 10.0 * self.encoder_um
        if name == "TTL":
            self.trigger_mode = int(state["X"])
        elif grain:
            self.stack["X"] = round(self.stack["X"] / grain) * grain
        self.stack["Y"] = min(self.stack["Y"], self.most_frames)
        self.send(":A " + " ".join(told) if told else ":A")

    def pulse(self) -> None:
        """A rising edge at the trigger input."""
        with self.lock:
            if self.trigger_mode != 4:
                return
            step_um, count = self.stack["X"] / 10.0, int(self.stack["Y"])
            if self._slice is None:
                self._middle_um = self.motor.position_um
            self._slice = 0 if self._slice is None or self._slice + 1 >= count else self._slice + 1
            self._pulse_s = time.monotonic()
            self._drive([self._middle_um + step_um * (self._slice - (count - 1) / 2)])

    def tick(self) -> None:
        self.lowest_um = min(self.lowest_um, self.motor.position_um)
        if self.motor.is_moving and self.motor.is_at_end and not self.motor.is_stalled:
            self.motor.halt()
            self._legs.clear()
        elif self._legs and not self.motor.is_moving:
            self._drive(self._legs)
        if self._slice is not None and time.monotonic() - self._pulse_s > self.stack["F"] / 1000.0:
            self._slice = None
            self._drive([self._middle_um])
