"""openUC2's ESP32 firmware: JSON lines in, frames between ``++`` and ``--`` out, with the focus on motor 3.

Kept from the firmware: a homing run that meets no switch is called done when its time is over, and it starts the
motor again after it was stopped; so does a focus scan, which drives back to its beginning however it ended; the
position survives a restart as of the end of the latest move; a scan triggers once for each light that is on. A limit
switch that is hit outside homing stops the motor and puts the counter at 999999 until it is homed. Builds of 2025 end
each frame with a zero byte (they count the end of the string among its characters) and lines with a bare line feed.
"""

import json
import time
from typing import Any

from hardware.simulator.controllers.emulator import Emulator, Motor

BOOT_S = 0.03


class OpenUc2Emulator(Emulator):
    """``pretty``: frames over several lines, as older firmware prints them. ``has_switch``: a limit switch at the
    lower end. ``can_scan``: a build with the focus scan. ``triggers_um``: where the camera was triggered.
    ``zero_bytes``: after frames. ``chatty``: the system's log gets in between. ``soft_limits``: in steps.
    """

    def __init__(
        self,
        *,
        um_per_step: float = 0.1,
        pretty: bool = False,
        has_switch: bool = True,
        can_scan: bool = True,
        zero_bytes: bool = False,
        chatty: bool = False,
        soft_limits: tuple[int, int] | None = None,
        name: str = "UC2_Feather",
    ) -> None:
        self.um_per_step = um_per_step
        self.pretty, self.zero_bytes, self.chatty, self.soft_limits = pretty, zero_bytes, chatty, soft_limits
        self.name = name
        self.switch_was_hit = False
        self.has_switch, self.can_scan = has_switch, can_scan
        self.triggers_um: list[float] = []
        self.restarts = 0
        self._saved = 0
        super().__init__(Motor(-1000.0, 5000.0))

    def hit_switch(self) -> None:
        """Outside homing."""
        with self.lock:
            self.motor.halt()
            self._driven, self.switch_was_hit = False, True

    @property
    def steps(self) -> int:
        if self.switch_was_hit:
            return 999_999
        return round(self.motor.position_um / self.um_per_step) - self._zero

    def power_up(self) -> None:
        self._zero = round(self.motor.position_um / self.um_per_step) - self._saved
        self._driven, self._move_qid = False, 0
        self._home: dict[str, Any] | None = None
        self._scan: dict[str, Any] | None = None
        self._awake_s = time.monotonic() + BOOT_S
        self.send("ets Jul 29 2019 12:21:46")
        self.send("rst:0xc (SW_CPU_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)")

    def _frame(self, content: dict[str, Any]) -> None:
        end = b"\n" if self.zero_bytes else None
        self.send("++", end)
        if self.chatty:
            self.send("[ 12345][I][FocusMotor.cpp:88] startStepper(): start rotator: motor:3")
        if self.pretty:
            for line in json.dumps(content, indent="\t").splitlines():
                self.send(line)
        else:
            self.send(json.dumps(content, separators=(",", ":")), end)
        self.send("--", b"\n\x00" if self.zero_bytes else None)

    # -- commands

    def handle_line(self, line: str) -> None:
        if not line.strip() or time.monotonic() < self._awake_s:
            return
        try:
            document = json.loads(line)
        except ValueError:
            self.send('{"error":"Serial input is null"}')
            return
        if not isinstance(document, dict):
            return
        qid = document.get("qid", 0)
        task = document.get("task")
        if task == "/state_get":
            names = {"identifier_name": self.name, "identifier_id": "V2.0", "identifier_date": "Apr  2 2025"}
            self._frame({"state": {**names, "identifier_author": "BD"}, "qid": qid})
        elif task == "/motor_get":
            self._frame({"motor": {"steppers": [self._stepper(number) for number in range(4)]}, "qid": qid})
        elif task == "/motor_act":
            self._motor_act(document, qid)
            self._frame({"qid": qid, "success": 1})
        elif task == "/home_act":
            self._home_act(document, qid)
            self._frame({"qid": qid, "success": 1})
        elif task == "/state_act" and document.get("restart"):
            self.restarts += 1
            self.motor.halt()
            self.power_up()

    def _stepper(self, number: int) -> dict[str, int]:
        mine = number == 3
        low, high = self.soft_limits or (0, 0)
        return {
            "stepperid": number, "position": self.steps if mine else 0, "trigOff": 0, "isStop": 0,
            "isRunning": int(mine and self.motor.is_moving), "isDualAxisZ": 0, "stopped": int(not self._driven),
            "isen": int(mine and self.soft_limits is not None), "min": low, "max": high,
            "hardLimitEnabled": 1, "hardLimitTriggered": int(mine and self.switch_was_hit),
        }  # fmt: skip

    def _motor_act(self, document: dict[str, Any], qid: int) -> None:
        for item in document.get("motor", {}).get("steppers", []):
            if item.get("stepperid") != 3:
                continue
            if item.get("isstop"):
                self.motor.halt()
                continue
            target = item["position"] + (0 if item.get("isabs") else self.steps)
            self._drive_to(target, abs(item.get("speed", 0)), qid)
        scan = document.get("focusscan")
        if scan is None or not self.can_scan:
            return
        if scan.get("stopped"):
            if self._scan is not None:
                self._scan["stopped"] = 1
        elif self._scan is None:
            start = scan["zStart"] or self.steps
            self._scan = {**scan, "start": start, "index": -1, "phase": "move", "due_s": time.monotonic() + 0.1}
            self._drive_to(start, max(scan["speed"], 20_000), 0)

    def _drive_to(self, target: int, steps_per_s: int, qid: int) -> None:
        if self.switch_was_hit:
            return
        self.motor.speed_um_s = max(steps_per_s, 1) * self.um_per_step
        self.motor.move_to((target + self._zero) * self.um_per_step)
        self._driven, self._move_qid = True, qid

    def _home_act(self, document: dict[str, Any], qid: int) -> None:
        drive = document["home"]["steppers"][0]
        self.switch_was_hit = False
        self._home = {**drive, "qid": qid, "phase": "seek", "due_s": time.monotonic() + drive["timeout"] / 1000.0}
        self._drive_to(self.steps + drive["direction"] * 10_000_000, drive["speed"], 0)

    # -- what happens by itself

    def tick(self) -> None:
        if self._home is not None:
            self._tick_home(self._home)
        elif self._scan is not None:
            self._tick_scan(self._scan)
        elif self._driven and not self.motor.is_moving:
            self._driven = False
            self._saved = self.steps
            self._frame({"qid": self._move_qid, "steppers": [{"stepperid": 3, "position": self.steps, "isDone": 1}]})

    def _tick_home(self, home: dict[str, Any]) -> None:
        now_s = time.monotonic()
        if home["phase"] == "seek":
            if (self.has_switch and self.motor.is_at_end) or now_s > home["due_s"]:
                home["phase"], home["due_s"] = "release", now_s + 0.05
                self.motor.halt()
                self._drive_to(self.steps - home["direction"] * 100, home["speed"], 0)
        elif now_s > home["due_s"] and not self.motor.is_moving:
            self._home, self._driven = None, False
            self._zero += self.steps
            self._saved = 0
            self._frame({"home": {"steppers": {"axis": 3, "pos": self.steps, "isDone": True}}, "qid": home["qid"]})

    def _tick_scan(self, scan: dict[str, Any]) -> None:
        now_s = time.monotonic()
        if now_s < scan["due_s"] or (scan["phase"] == "move" and self.motor.is_moving):
            return
        if scan["phase"] == "expose":
            self.triggers_um.append(self.motor.position_um)
            scan["phase"], scan["due_s"] = "next", now_s + 2 * scan["tPost"] / 1000.0
        elif scan["phase"] == "end":
            self._scan = None
            self._frame({"focusscan": {}, "qid": scan["qid"], "success": 1})
        elif scan["phase"] == "move" and scan["index"] >= 0:
            lit = scan["led"] > 0 or any(scan["illumination"])
            scan["phase"], scan["due_s"] = ("expose" if lit else "next"), now_s + scan["tPre"] / 1000.0
        else:
            scan["index"] += 1
            done = scan["index"] >= scan["nZ"] or scan.get("stopped")
            target = scan["start"] + (0 if done else scan["index"] * scan["zStep"])
            scan["phase"], scan["due_s"] = ("end" if done else "move"), now_s + 0.1
            self._drive_to(target, max(scan["speed"], 20_000), 0)
