"""GRBL 1.1h and its descendants grblHAL and FluidNC, after their sources, with the focus on Z.

Known to real firmware and kept here: ``?`` is not answered by GRBL while homing nor after a limit alarm, which only a
soft reset ends; ``$I`` wants rest, ``$$`` no G-code and no pause; in a pause (hold, door, sleep) lines wait in the
buffer and are not answered at all; a reset in motion is alarm 3. The descendants go on reporting in an alarm; there,
until the reset, grblHAL refuses commands and FluidNC says ok to ``$X`` and does nothing. FluidNC cuts jogs to the
travel without a word.
"""

import math
import re
import time
from collections import deque
from typing import Literal

from hardware.simulator.controllers.emulator import Emulator, Motor

LINE_BUFFER_BYTES = 80
HOMING_S = 0.15
SLOWEST_MM_MIN = 1.0
GREETINGS = {
    "GRBL": "Grbl 1.1h ['$' for help]",
    "grblHAL": "GrblHAL 1.1f ['$' or '$HELP' for help]",
    "FluidNC": "Grbl 3.7 [FluidNC v3.7.16 (esp32-wifi) '$' for help]",
}
FLUID_NC_SETTINGS = (10, 130, 131, 132, 120, 121, 122, 110, 111, 112, 100, 101, 102, 3, 20, 21, 22, 23, 32)
PAUSES = ("Hold", "Door", "Sleep")


class GrblEmulator(Emulator):
    """``travel_um``: length of the rail. The power-up point lies ``above_um`` over the lower end.

    ``homing``, ``soft_limits``, ``hard_limits``: ``$22``, ``$20``, ``$21``. ``single_axis_homing``: built with ``$HZ``.
    ``homes_down``: the switch is at the lower end. ``zero_at_switch``: zero is where homing ends (always so with
    FluidNC, where that is its ``mpos_mm`` 0). ``must_home``: ``$22`` bit 2 of grblHAL, no ``$X`` before homing.
    """

    def __init__(
        self,
        *,
        firmware: Literal["GRBL", "grblHAL", "FluidNC"] = "GRBL",
        travel_um: float = 4000.0,
        above_um: float = 2000.0,
        homing: bool = False,
        soft_limits: bool = False,
        hard_limits: bool = False,
        report_mask: int = 1,
        inches: bool = False,
        name: str = "",
        single_axis_homing: bool = True,
        homes_down: bool = False,
        zero_at_switch: bool = False,
        must_home: bool = False,
    ) -> None:
        self.firmware, self.must_home = firmware, must_home
        self.settings: dict[int, float] = {
            0: 10, 1: 255, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 10: report_mask, 11: 0.010, 12: 0.002, 13: int(inches),
            20: int(soft_limits), 21: int(hard_limits), 22: int(homing) + 4 * must_home, 23: 4 * homes_down, 24: 25.0,
            25: 500.0, 26: 250, 27: 0.2, 30: 1000, 31: 0, 32: 0, 100: 250.0, 101: 250.0, 102: 10000.0, 110: 500.0,
            111: 500.0, 112: 300.0, 120: 10.0, 121: 10.0, 122: 50.0, 130: 200.0, 131: 200.0, 132: travel_um / 1000.0,
        }  # fmt: skip
        self.name = name
        self.single_axis_homing = single_axis_homing
        self.homes_down, self.zero_at_switch = homes_down, zero_at_switch or firmware == "FluidNC"
        self.work_offset_mm = 0.0
        self._zero_um = 0.0
        super().__init__(Motor(-above_um, travel_um - above_um, acceleration_um_s2=self.settings[122] * 1000.0))

    def power_up(self) -> None:
        self.state = "Alarm" if self.settings[22] else "Idle"
        self.is_homed = False
        self._zero_um = self.motor.position_um  # the counter starts at nought
        self._begin()
        if self.state == "Alarm" and self.firmware != "GRBL":
            self.send("ALARM:14" if self.firmware == "FluidNC" else "ALARM:11")

    def _begin(self) -> None:
        self._queue: list[tuple[float, float]] = []  # (machine mm, mm/min)
        self._unread: deque[str] = deque()
        self._critical = False
        self._reports = 0
        self._homed_s = 0.0
        self._modal_mm, self._modal_absolute = True, True
        self.send("")
        self.send(GREETINGS[self.firmware])
        if self.state == "Alarm":
            self._message("'$H'|'$X' to unlock")

    def _message(self, text: str) -> None:
        self.send(f"[MSG:{'INFO: ' * (self.firmware == 'FluidNC')}{text}]")

    @property
    def machine_mm(self) -> float:
        steps_per_mm = self.settings[102]
        return round((self.motor.position_um - self._zero_um) / 1000.0 * steps_per_mm) / steps_per_mm

    # -- real-time characters

    def handle_byte(self, byte: int) -> bool:
        if byte == 0x18:
            self._soft_reset()
        elif byte == ord("?"):
            if self.firmware != "GRBL" or (not self._critical and self.state != "Home"):
                self._report()
        elif byte == ord("!"):
            self._hold()
        elif byte == ord("~"):
            if self.state.startswith("Hold"):
                self.state = "Idle"
                self._next()
                self._work_off()
        elif byte == 0x85:
            if self.state == "Jog":
                self._cancel_jog()
        else:
            return byte > 0x7F or byte == 0x0D
        return True

    def _soft_reset(self) -> None:
        moving = self.motor.is_moving and self.state in ("Jog", "Run", "Home")
        self.motor.halt()
        self._input.clear()
        if moving or self.state == "Home":
            self.send("ALARM:6" if self.state == "Home" else "ALARM:3")
            self.state = "Alarm"
        elif self.state not in ("Alarm", "Sleep"):
            self.state = "Idle"
        if self._critical or self.state == "Sleep":
            self.state = "Alarm"
        self._begin()

    def _hold(self) -> None:
        if self.state == "Jog":
            self._cancel_jog()
        elif self.state in ("Run", "Idle"):
            self.motor.halt()
            self.state = "Hold:0"

    def _cancel_jog(self) -> None:
        self._queue.clear()
        self.motor.halt()
        self.state = "Idle"

    def pause(self, state: str) -> None:
        """Somebody opened the door (Door:1), pressed the hold button (Hold:0) or sent it to sleep (Sleep)."""
        with self.lock:
            self.motor.halt()
            self.state = state

    def _report(self) -> None:
        scale = 1 / 25.4 if self.settings[13] else 1.0
        machine, offset = self.machine_mm * scale, self.work_offset_mm * scale
        digits = 4 if self.settings[13] else 3
        kind, z = ("MPos", machine) if int(self.settings[10]) & 1 else ("WPos", machine - offset)
        substate = ":11" if self.state == "Alarm" and self.firmware == "grblHAL" else ""
        text = f"<{self.state}{substate}|{kind}:{0:.{digits}f},{0:.{digits}f},{z:.{digits}f}|FS:0,0"
        if self.settings[21] and self.motor.is_at_end:
            text += "|Pn:Z"
        if self._reports % (10 if self.motor.is_moving else 30) == 0:
            text += f"|WCO:{0:.{digits}f},{0:.{digits}f},{offset:.{digits}f}"
        self._reports += 1
        self.send(text + ">")

    # -- lines

    def handle_line(self, line: str) -> None:
        self._unread.append(line)
        self._work_off()

    def _work_off(self) -> None:
        while self._unread and not self.state.startswith(PAUSES) and self.state != "Home":
            if self._critical and self.firmware == "GRBL":
                return  # read by nobody, and thrown away by the reset that must follow
            self._execute(self._unread.popleft())

    def _execute(self, line: str) -> None:
        if len(line) >= LINE_BUFFER_BYTES:
            self.send("error:11")
            return
        if self.firmware == "FluidNC" and line.startswith("$/"):
            self._tell_configuration(line[2:].lower())
            return
        words = line.upper().replace(" ", "")
        if not words:
            self.send("ok")
        elif words.startswith("$"):
            self._system(words)
        elif self.state in ("Alarm", "Jog"):
            self.send("error:9")
        else:
            self._g_code(words)

    def _system(self, words: str) -> None:
        if self._critical and self.firmware == "grblHAL" and words[1] in "XHJ":
            self.send("error:79")
        elif words.startswith("$J="):
            self._jog(words[3:])
        elif words == "$G":
            units, frame = ("G21" if self._modal_mm else "G20"), ("G90" if self._modal_absolute else "G91")
            self.send(f"[GC:G0 G54 G17 {units} {frame} G94 M5 M9 T0 F0 S0]")
            self.send("ok")
        elif words == "$X":
            self._unlock()
        elif words == "$$":
            if self.state == "Run":
                self.send("error:8")
            else:
                self._tell_settings()
        elif self.state not in ("Idle", "Alarm"):
            self.send("error:8")
        elif words == "$I":
            self._tell_build()
        elif words == "$HZ" and not self.single_axis_homing:
            if self.firmware == "GRBL":
                self.state, self._homed_s = "Home", math.inf  # as real firmware does, until a reset
            self.send("error:19" if self.firmware == "FluidNC" else "error:3")
        elif words in ("$H", "$HZ"):
            if not self.settings[22]:
                self.send("error:5")
            else:
                self.state = "Home"
                self._homed_s = time.monotonic() + HOMING_S
        elif match := re.fullmatch(r"\$(\d+)=(\d+(?:\.\d+)?)", words):
            number = int(match[1])
            if number not in self.settings:
                self.send("error:3")
            else:
                self.settings[number] = float(match[2])
                self.send("ok")
        else:
            self.send("error:3")

    def _unlock(self) -> None:
        if self.state == "Alarm" and self.must_home and not self.is_homed:
            self.send("error:46")
            return
        if self.state == "Alarm" and not self._critical:
            self._message("Caution: Unlocked")
            self.state = "Idle"
        self.send("ok")

    # -- words

    def _tell_settings(self) -> None:
        numbers = self.settings
        if self.firmware == "FluidNC":
            self.send(f"$13={self.settings[13]}")
            numbers = {number: self.settings[number] for number in FLUID_NC_SETTINGS} | {20: 0.0}  # $20 is that of X
        for number, value in numbers.items():
            self.send(f"${number}={value:.3f}" if isinstance(value, float) else f"${number}={value}")
        self.send("ok")

    def _tell_configuration(self, path: str) -> None:
        """An item of the configuration file of FluidNC."""
        items = {
            "axes/z/soft_limits": str(bool(self.settings[20])).lower(),
            "axes/z/max_travel_mm": f"{self.settings[132]:.3f}",
        }
        if self.settings[22]:
            items["axes/z/homing/mpos_mm"] = "0.000"
            items["axes/z/homing/positive_direction"] = str(not self.homes_down).lower()
        if path in items:
            self.send(f"$/{path}={items[path]}")
        self.send("ok" if path in items else "error:3")

    def _tell_build(self) -> None:
        single, origin = "H" * self.single_axis_homing, "Z" * self.zero_at_switch
        if self.firmware == "FluidNC":
            told = [f"[VER:3.7 FluidNC v3.7.16 (esp32-wifi):{self.name}]", "[OPT:PHSW]", "[MSG: Machine: Focus]"]
        elif self.firmware == "grblHAL":
            told = [
                f"[VER:1.1f.20240928:{self.name}]", f"[OPT:VN{origin}{single}L,35,1024,3,0]", "[AXS:3:XYZ]",
                "[NEWOPT:ENUMS,RT+,HOME,ES,SED]", "[FIRMWARE:grblHAL]", "[NVS STORAGE:*FLASH]", "[DRIVER:RP2040]",
                "[BOARD:BTT SKR Pico 1.0]", "[MAX STEP RATE:150000 Hz]",
            ]  # fmt: skip
        else:
            told = [f"[VER:1.1h.20190830:{self.name}]", f"[OPT:V{origin}{single},15,128]"]
        for line in (*told, "ok"):
            self.send(line)

    # -- G-code

    def _target_mm(self, words: str, absolute: bool, in_mm: bool) -> tuple[float | None, float | None, str]:
        """(machine mm, feed in mm/min, error) of a block; the modes may be overridden by words in it."""
        pairs = re.findall(r"([A-Z])([-+]?\d*\.?\d+)", words)
        if "".join(letter + number for letter, number in pairs) != words:
            return None, None, "error:2"
        codes = [float(number) for letter, number in pairs if letter == "G"]
        absolute = 90 in codes or (absolute and 91 not in codes)
        unit = 25.4 if 20 in codes or (not in_mm and 21 not in codes) else 1.0
        axis = [float(number) for letter, number in pairs if letter == "Z"]
        feed = [float(number) * unit for letter, number in pairs if letter == "F"]
        if not axis:
            return None, None, "error:26"
        planned = self._queue[-1][0] if self._queue else self.machine_mm
        target = axis[0] * unit
        if not absolute:
            target += planned
        elif 53 not in codes:
            target += self.work_offset_mm
        return target, feed[0] if feed else None, ""

    @property
    def travel_mm(self) -> tuple[float, float]:
        travel = self.settings[132]
        return (0.0, travel) if self.homes_down and self.zero_at_switch else (-travel, 0.0)

    def _is_beyond(self, target_mm: float) -> bool:
        return bool(self.settings[20]) and not self.travel_mm[0] <= target_mm <= self.travel_mm[1]

    def _jog(self, words: str) -> None:
        if self.state not in ("Idle", "Jog"):
            self.send("error:8")
            return
        target, feed, error = self._target_mm(words, self._modal_absolute, self._modal_mm)
        if target is None:
            self.send(error)
        elif feed is None:
            self.send("error:22")
        elif self._is_beyond(target) and self.firmware != "FluidNC":
            self.send("error:15")
        else:
            if self._is_beyond(target):
                target = min(max(target, self.travel_mm[0]), self.travel_mm[1])
            self._queue.append((target, feed))
            if self.state == "Idle":
                self.state = "Jog"
                self._run_queue()
            self.send("ok")

    def _g_code(self, words: str) -> None:
        for code in re.findall(r"G(\d+)", words):
            self._modal_mm = {"20": False, "21": True}.get(code, self._modal_mm)
            self._modal_absolute = {"90": True, "91": False}.get(code, self._modal_absolute)
        if "Z" not in words:
            self.send("ok" if re.fullmatch(r"(G(4P[\d.]+|\d+))+", words) else "error:20")
            return
        target, feed, error = self._target_mm(words, self._modal_absolute, self._modal_mm)
        if target is None:
            self.send(error)
        elif self._is_beyond(target):
            self._critical_alarm(2)
        else:
            self._queue.append((target, feed or self.settings[112]))
            if self.state == "Idle":
                self.state = "Run"
                self._run_queue()
            self.send("ok")

    # -- motion

    def _run_queue(self) -> None:
        target_mm, feed = self._queue[0]
        self.motor.speed_um_s = min(max(feed, SLOWEST_MM_MIN), self.settings[112]) * 1000.0 / 60.0
        self.motor.move_to(target_mm * 1000.0 + self._zero_um)

    def _next(self) -> None:
        if self._queue:
            self.state = "Run"
            self._run_queue()

    def _critical_alarm(self, number: int) -> None:
        self.motor.halt()
        self._queue.clear()
        self.state, self._critical = "Alarm", True
        self.send(f"ALARM:{number}")
        self._message("Reset to continue")

    def tick(self) -> None:
        if self.state == "Home" and time.monotonic() >= self._homed_s:
            pull_off_mm, travel_mm = self.settings[27], self.settings[132]
            rest_um = (self.motor.low_um if self.homes_down else self.motor.high_um) + (
                1000.0 * pull_off_mm if self.homes_down else -1000.0 * pull_off_mm
            )
            rest_mm = -travel_mm + pull_off_mm if self.homes_down else -pull_off_mm
            self.motor.put(rest_um)
            self._zero_um = rest_um - (0.0 if self.zero_at_switch else 1000.0 * rest_mm)
            self.state, self.is_homed = "Idle", True
            self.send("ok")
            self._work_off()
        elif self.state in ("Jog", "Run"):
            if self.settings[21] and self.motor.is_at_end:
                self._critical_alarm(1)
            elif not self.motor.is_moving:
                self._queue.pop(0)
                if self._queue:
                    self._run_queue()
                else:
                    self.state = "Idle"
