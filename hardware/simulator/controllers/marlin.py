"""Marlin as marlinfw.org describes it, with the focus on Z.

Kept from the firmware: commands are worked off one by one, so that M400 and homing hold up whatever comes after
them; M410 and M112 are noticed while they wait; ``ok`` to a move means that it is planned; M114 tells the planned
position unless the build can do better; nothing answers after a shutdown; at rest for long, the motors are let go and
what hangs on them sinks. M410 and M112 act as they are read, and are worked off, with an ``ok``, once more in turn.
"""

import re
import time
from collections import deque
from typing import Literal

from hardware.simulator.controllers.emulator import Emulator, Motor

HOMING_S = 0.15
KEEP_ALIVE_S = 0.3
CHATTER_S = 0.25
SAG_UM = 30.0


class MarlinEmulator(Emulator):
    """``report``: what M114 tells in motion: "planned" (as shipped), "realtime" (with R), "legacy" (waits).

    ``soft_limits_mm``: MIN_POS and MAX_POS; ``old_words``: settings are printed as Marlin 1.1 did. ``chatty``: reports
    temperatures and host actions by itself, and says ``ok`` with the space in its buffers (ADVANCED_OK). ``idle_s``:
    DEFAULT_STEPPER_TIMEOUT_SEC. ``boot_s``: from the greeting to the first command that is read. ``corrects_backlash``:
    by itself (M425); None: a build without.
    """

    def __init__(
        self,
        *,
        report: Literal["planned", "realtime", "legacy"] = "realtime",
        soft_limits_mm: tuple[float, float] | None = None,
        must_home: bool = False,
        old_words: bool = False,
        shift_mm: float = 0.0,
        machine: str = "3D Printer",
        chatty: bool = False,
        idle_s: float = 120.0,
        boot_s: float = 0.0,
        corrects_backlash: bool | None = None,
    ) -> None:
        self.corrects_backlash = corrects_backlash
        self.chatty, self.idle_s, self.boot_s = chatty, idle_s, boot_s
        self.report = report
        self.soft_limits_mm = soft_limits_mm
        self.must_home = must_home
        self.old_words = old_words
        self.shift_mm = shift_mm
        self.machine = machine
        self.steps_per_mm = 4000.0
        self.top_mm_s = 5.0
        super().__init__(Motor(-5000.0, 5000.0))

    def power_up(self) -> None:
        self._zero_um = self.motor.position_um
        self.planned_mm = 0.0
        self.is_dead = self.is_homed = False
        self._relative = self._inches = False
        self._waiting: deque[str] = deque()
        self._moves: deque[tuple[float, float]] = deque()
        self._blocked_by = ""
        self._homed_s = self._said_s = 0.0
        self._feed_mm_min = 60.0
        self._timeout_s = self.idle_s
        self._busy_s = self._chatted_s = time.monotonic()
        self._awake_s = time.monotonic() + self.boot_s
        self.send("start")
        self.send("echo:Marlin 2.1.2.1")
        self.send("echo: Last Updated: 2023-05-15 | Author: (none, default config)")

    @property
    def real_mm(self) -> float:
        return (self.motor.position_um - self._zero_um) / 1000.0

    def kill(self, why: str = "Thermal Runaway, system stopped! Heater_ID: 0") -> None:
        """It shuts itself down and says so once."""
        with self.lock:
            self.motor.halt()
            self._moves.clear()
            self._waiting.clear()
            self._blocked_by = ""
            self.send(f"echo:{why}")
            self.send("Error:Printer halted. kill() called!")
            self.is_dead = True

    # -- input

    def handle_line(self, line: str) -> None:
        if self.is_dead:
            return
        line = line.split(";")[0].strip()
        if not line:
            return
        if line.startswith("M112"):
            self.kill("M112 Shutdown")
            return
        if line.startswith("M410"):
            self._quick_stop()
        self._waiting.append(line)
        self._work_off()

    def _quick_stop(self) -> None:
        self.motor.halt()
        self._moves.clear()
        self.planned_mm = self.real_mm
        if self._blocked_by == "M400":
            self._blocked_by = ""
            self._ok()

    def _work_off(self) -> None:
        while self._waiting and not self._blocked_by and not self.is_dead and time.monotonic() >= self._awake_s:
            self._execute(self._waiting.popleft())

    def _execute(self, line: str) -> None:
        word = line.split()[0].upper()
        arguments = {m[0].upper(): m[1] for m in re.findall(r"([A-Za-z])(-?[\d.]*)", line[len(word) :])}
        if word in ("G0", "G1", "G00", "G01"):
            self._move(arguments)
        elif word == "G28":
            self._blocked_by = "G28"
            self._homed_s = self._said_s = time.monotonic()
            return
        elif word in ("G90", "G91"):
            self._relative = word == "G91"
        elif word in ("G20", "G21"):
            self._inches = word == "G20"
        elif word == "M400" or (word == "M114" and self.report == "legacy"):
            if self._is_busy:
                self._blocked_by = line
                self._said_s = time.monotonic()
                return
            if word == "M114":
                self._tell_position(real=False)
        elif word == "M114":
            self._tell_position(real=self.report == "realtime" and "R" in arguments)
        elif word == "M425" and self.corrects_backlash is not None:
            self.corrects_backlash = float(arguments.get("F", self.corrects_backlash)) > 0
        elif word in ("M84", "M18") and "S" in arguments:
            self._timeout_s = float(arguments["S"])
        elif word == "M115":
            self.send(
                "FIRMWARE_NAME:Marlin 2.1.2.1 (May 15 2023 12:00:00) SOURCE_CODE_URL:github.com/MarlinFirmware/Marlin "
                f"PROTOCOL_VERSION:1.0 MACHINE_TYPE:{self.machine} "
                f"{'' if self.old_words else 'KINEMATICS:Cartesian '}EXTRUDER_COUNT:1 UUID:cede2a2f-41a2-4748"
            )
            self.send("Cap:EEPROM:0")
            self.send("Cap:EMERGENCY_PARSER:0")
        elif word == "M211":
            self._tell_soft_limits()
        elif word == "M503":
            self._tell_settings()
        elif word != "M410":
            self.send(f'echo:Unknown command: "{line}"')
        self._ok()

    def _ok(self) -> None:
        self.send("ok P15 B3" if self.chatty else "ok")

    @property
    def _is_busy(self) -> bool:
        return bool(self._moves) or self.motor.is_moving

    def _move(self, arguments: dict[str, str]) -> None:
        unit = 25.4 if self._inches else 1.0
        if "F" in arguments:
            self._feed_mm_min = float(arguments["F"]) * unit
        if "Z" not in arguments:
            return
        if self.must_home and not self.is_homed:
            self.send("echo:Home Z First")
            return
        target = float(arguments["Z"]) * unit + (self.planned_mm if self._relative else -self.shift_mm)
        if self.soft_limits_mm is not None:
            target = min(max(target, self.soft_limits_mm[0]), self.soft_limits_mm[1])
        self.planned_mm = target
        self._moves.append((target, min(self._feed_mm_min / 60.0, self.top_mm_s)))
        if not self.motor.is_moving:
            self._next_move()

    def _next_move(self) -> None:
        target_mm, speed_mm_s = self._moves.popleft()
        self.motor.speed_um_s = speed_mm_s * 1000.0
        self.motor.move_to(round(target_mm * self.steps_per_mm) / self.steps_per_mm * 1000.0 + self._zero_um)

    # -- words

    def _tell_position(self, *, real: bool) -> None:
        z = self.real_mm if real else self.planned_mm
        steps = round(z * self.steps_per_mm)
        self.send(f"X:0.00 Y:0.00 Z:{z + self.shift_mm:.2f} E:0.00 Count X: 0 Y:0 Z:{steps}")

    def _tell_soft_limits(self) -> None:
        low, high = self.soft_limits_mm or (0.0, 0.0)
        travel = f"Min:  X0.00 Y0.00 Z{low:.2f}   Max:  X200.00 Y200.00 Z{high:.2f}"
        if self.old_words:
            self.send(f"echo:Soft endstops: {'On ' if self.soft_limits_mm else 'Off'}  {travel.replace(':  X', ': X')}")
        else:
            self.send(f"  M211 S{'1 ; ON' if self.soft_limits_mm else '0 ; OFF'}")
            self.send(f"  {travel}")

    def _tell_settings(self) -> None:
        lead = "echo:  " if self.old_words else "echo: "
        self.send("echo:; Linear Units:")
        self.send(f"{lead}G21 ; (mm)")
        self.send("echo:; Steps per unit:")
        self.send(f"{lead}M92 X80.00 Y80.00 Z{self.steps_per_mm:.2f} E500.00")
        self.send("echo:; Max feedrates (units/s):")
        self.send(f"{lead}M203 X500.00 Y500.00 Z{self.top_mm_s:.2f} E25.00")

    # -- motion

    def tick(self) -> None:
        if self.is_dead:
            return
        if self._moves and not self.motor.is_moving:
            self._next_move()
        now_s = time.monotonic()
        self._work_off()
        self._rest(now_s)
        if self._blocked_by and now_s - self._said_s > KEEP_ALIVE_S:
            self._said_s = now_s
            self.send("echo:busy: processing")
        if self._blocked_by == "G28":
            if now_s - self._homed_s > HOMING_S:
                self._zero_um = self.motor.low_um
                self.motor.put(self._zero_um)
                self.planned_mm, self.is_homed = 0.0, True
                self._release()
        elif self._blocked_by and not self._is_busy:
            if self._blocked_by.startswith("M114"):
                self._tell_position(real=False)
            self._release()

    def _rest(self, now_s: float) -> None:
        if self.chatty and now_s - self._chatted_s > CHATTER_S:
            self._chatted_s = now_s
            self.send(" T:21.25 /0.00 B:20.94 /0.00 @:0 B@:0")
            self.send("//action:notification Focus Ready.")
        if self._is_busy:
            self._busy_s = now_s
        elif self._timeout_s and now_s - self._busy_s > self._timeout_s:
            self._busy_s = float("inf")
            self._zero_um -= SAG_UM  # the count stays
            self.motor.put(self.motor.position_um - SAG_UM)

    def _release(self) -> None:
        self._blocked_by = ""
        self._ok()
        self._work_off()
