"""Prior ProScan with a motor on Z, or a NanoScanZ piezo, after the makers' command sets.

Kept here as the real ones do it: several separators; an empty line is answered by the position; U and D without a
length make the default step; a lone M goes to zero; ``V`` without a number counts as nought; invalid settings are
answered by 0 and ignored; the motor knows no limits but its switches. After power-up the controller may be in
compatibility mode, where a move is answered when it ends and nothing but I and K is heard meanwhile. Its own backlash
correction goes beyond the target and comes back to it from below.
"""

import re
from typing import ClassVar

from hardware.simulator.controllers.emulator import Emulator, Motor


def _number(word: str) -> float:
    if re.fullmatch(r"-?\d+(\.\d+)?", word) is None:
        raise ValueError(word)
    return float(word)


class PriorEmulator(Emulator):
    """``travel_um``: between the switches, the power-up point lies ``above_um`` over the lower one.

    ``step_um``: what ``RES,Z`` tells (negative: the count falls when the focus rises); None: it does not know the
    command. ``compatible``: the mode at power-up. ``focus``: a drive is connected. ``piezo_um``: range of a
    NanoScanZ, which this then is; ``above_um`` is where it stands in its range. ``switches``: it knows ``LMT``.
    ``backlash_steps``: its own correction, on at power-up; None: it knows no ``BLZH``. ``lowest_um``: ever reached.
    """

    line_end = b"\r"
    reply_end = b"\r"
    top_um_s: ClassVar[float] = 2000.0

    def __init__(
        self,
        *,
        travel_um: float = 4000.0,
        above_um: float = 2000.0,
        step_um: float | None = 0.1,
        compatible: bool = True,
        focus: bool = True,
        switches: bool = True,
        serial_number: str = "123456",
        piezo_um: float | None = None,
        boot_speed: int = 150,
        backlash_steps: int | None = 200,
    ) -> None:
        self.backlash_steps, self.lowest_um = backlash_steps, 0.0
        self.step_um, self.boots_compatible, self.focus, self.switches = step_um, compatible, focus, switches
        self.serial_number, self.piezo_um, self.boot_speed = serial_number, piezo_um, boot_speed
        self.compatible, self.piezo_um_s = False, 2000.0
        low_um, high_um = -above_um, travel_um - above_um
        if piezo_um is not None:
            low_um, high_um = 0.0, piezo_um
        motor = Motor(low_um, high_um, acceleration_um_s2=40_000.0)
        if piezo_um is not None:
            motor.put(above_um)
        super().__init__(motor)

    def power_up(self) -> None:
        self.zero_um = 0.0 if self.piezo_um is not None else self.motor.position_um
        self.compatible = self.boots_compatible and self.piezo_um is None
        self.speed = self.boot_speed
        self.default_step = 100
        self.corrects_backlash = self.backlash_steps is not None and self.piezo_um is None
        self._queue: list[float] = []
        self._answer_at_end = False

    # -- lines

    @property
    def _um_per_count(self) -> float:
        return 1.0 if self.piezo_um is not None else self.step_um or 0.1

    @property
    def _count(self) -> float:
        return (self.motor.position_um - self.zero_um) / self._um_per_count

    def handle_line(self, line: str) -> None:
        words = [word.upper() for word in re.split(r"[,;:=\s]+", line) if word]
        if not words:
            self.send(f"0,0,{round(self._count)}")
            return
        name, arguments = words[0], words[1:]
        if self._answer_at_end and name not in ("I", "K"):
            return
        if self.piezo_um is not None and name in ("?", "FOCUS", "RES", "SMZ", "LMT", "GZ", "COMP", "STAGE"):
            self.send("E,5")
            return
        if name == "PIEZORANGE" and self.piezo_um is None:
            self.send("E,5")
            return
        method = "_on_" + {"?": "information", "$": "motion"}.get(name, name.lower())
        handler = getattr(self, method, None) if re.fullmatch(r"[A-Z]+|\?|\$", name) else None
        if handler is None:
            self.send("E,5")
            return
        try:
            handler(arguments)
        except (ValueError, IndexError):
            self.send("E,4")

    # -- identity

    def _on_information(self, _arguments: list[str]) -> None:
        for text in (
            "PROSCAN INFORMATION",
            "DSP_1 IS 4-AXIS STEPPER VERSION 2.7",
            "DRIVE CHIPS 010111 (F2 F1 A Z Y X) 0 = Not Fitted",
            "JOYSTICK ACTIVE",
            "STAGE = NONE",
            f"FOCUS = {'NORMAL' if self.focus else 'NONE'}",
            "END",
        ):
            self.send(text)

    def _on_date(self, _arguments: list[str]) -> None:
        if self.piezo_um is None:
            self.send("Prior Scientific Instruments ProScan H31XYZEF controller")
            self.send("Version 1.16 compiled Feb 16 2016 13:43:31")
        else:
            self.send("NanoScanZ controller, compiled 2012")

    def _on_version(self, _arguments: list[str]) -> None:
        self.send("116")

    def _on_serial(self, _arguments: list[str]) -> None:
        self.send(self.serial_number)

    def _on_focus(self, _arguments: list[str]) -> None:
        texts = ["FOCUS = NORMAL", "TYPE = 0", "MICRONS/REV = 100", "END"] if self.focus else ["FOCUS = NONE", "END"]
        for text in texts:
            self.send(text)

    def _on_piezorange(self, _arguments: list[str]) -> None:
        self.send(f"{self.piezo_um:g}")

    # -- settings

    def _on_comp(self, arguments: list[str]) -> None:
        if arguments:
            self.compatible = _number(arguments[0]) == 1
            self.send("0")
        else:
            self.send(str(int(self.compatible)))

    def _on_res(self, arguments: list[str]) -> None:
        if self.step_um is None:
            self.send("E,5")
        elif not self.focus:
            self.send("E,7")
        elif arguments[0] != "Z":
            self.send("E,10")
        elif len(arguments) > 1:
            self.step_um = _number(arguments[1])
            self.send("0")
        else:
            self.send(f"{self.step_um:g}")

    def _on_smz(self, arguments: list[str]) -> None:
        if not arguments:
            self.send(str(self.speed))
            return
        if 1 <= _number(arguments[0]) <= 100:
            self.speed = int(arguments[0])
        self.send("0")

    def _on_blzh(self, arguments: list[str]) -> None:
        if self.backlash_steps is None or self.piezo_um is not None:
            self.send("E,5")
        elif arguments:
            self.corrects_backlash = _number(arguments[0]) == 1
            self.backlash_steps = int(arguments[1]) if len(arguments) > 1 else self.backlash_steps
            self.send("0")
        else:
            self.send(f"{int(self.corrects_backlash)},{self.backlash_steps}")

    # -- state

    def _on_pz(self, arguments: list[str]) -> None:
        if arguments:
            if self.motor.is_moving:
                self.send("E,2")
                return
            self.zero_um = self.motor.position_um - _number(arguments[0]) * self._um_per_count
            self.send("0")
        else:
            self.send(f"{self._count:.3f}" if self.piezo_um is not None else str(round(self._count)))

    def _on_motion(self, arguments: list[str]) -> None:
        moving = self.motor.is_moving or bool(self._queue)
        if arguments == ["S"]:
            self.send("0")
        else:
            self.send("4" if moving else "00000" if self.piezo_um is not None else "0")

    def _on_lmt(self, _arguments: list[str]) -> None:
        if not self.switches:
            self.send("E,5")
            return
        here_um = self.motor.position_um
        self.send(f"{0x10 * (here_um >= self.motor.high_um) + 0x20 * (here_um <= self.motor.low_um):02X}")

    # -- motion

    def _on_gz(self, arguments: list[str]) -> None:
        self._go(self.zero_um + int(arguments[0]) * self._um_per_count)

    def _on_v(self, arguments: list[str]) -> None:
        count = _number(arguments[0]) if arguments else 0.0
        # The piezo's V knows nothing of a zero that was set by PZ.
        self._go(count if self.piezo_um is not None else self.zero_um + count * self._um_per_count)

    def _on_m(self, _arguments: list[str]) -> None:
        self._go(self.zero_um)

    def _on_u(self, arguments: list[str]) -> None:
        self._go_by(_number(arguments[0]) if arguments else self.default_step)

    def _on_d(self, arguments: list[str]) -> None:
        self._go_by(-_number(arguments[0]) if arguments else -self.default_step)

    def _go_by(self, counts: float) -> None:
        end_um = self._queue[-1] if self._queue else self.motor.position_um
        self._go(end_um + counts * self._um_per_count)

    def _on_k(self, _arguments: list[str]) -> None:
        self._queue.clear()
        self.motor.halt()
        self._answer_at_end = False
        self.send("R")

    def _on_i(self, arguments: list[str]) -> None:
        self._on_k(arguments)

    def _go(self, target_um: float) -> None:
        if not self.focus:
            self.send("E,7")
            return
        if self.piezo_um is not None and not 0.0 <= target_um <= self.piezo_um:
            self.send("E,8")
            return
        if len(self._queue) >= 100:
            self.send("E,18")
            return
        if self.corrects_backlash:
            self._queue.append(target_um - (self.backlash_steps or 0) * abs(self._um_per_count))
        self._queue.append(target_um)
        if not self.motor.is_moving:
            self._next()
        if self.compatible:
            self._answer_at_end = True
        else:
            self.send("R")

    def _next(self) -> None:
        self.motor.speed_um_s = self.piezo_um_s if self.piezo_um is not None else self.top_um_s * self.speed / 100.0
        self.motor.move_to(self._queue.pop(0))

    def tick(self) -> None:
        self.lowest_um = min(self.lowest_um, self.motor.position_um)
        if self.motor.is_moving and self.piezo_um is None and self.motor.is_at_end and not self.motor.is_stalled:
            self.motor.halt()
            self._queue.clear()
        if self.motor.is_moving:
            return
        if self._queue:
            self._next()
        elif self._answer_at_end:
            self._answer_at_end = False
            self.send("R")
