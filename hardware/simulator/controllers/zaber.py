"""A Zaber device, as the ASCII Protocol Manual describes it, with the focus on axis 1.

Kept here: a command with a wrong checksum or for somebody else is ignored, message numbers are repeated in the reply,
``--`` gives way to the most important warning, without a reference there are no absolute moves, a command that
replaces another one sets the flag NI, an alert tells that a move has ended.
"""

from hardware.simulator.controllers.emulator import Emulator, Motor

PRIORITY = (
    *("FF", "FN", "FZ", "FH", "FV", "FO", "FD", "FC", "FM", "FQ", "FI", "FS", "FT", "FB", "FP", "FE"),
    *("WL", "WV", "WT", "WS", "WM", "WR", "WH", "NC", "NI", "ND", "NR", "NT", "NU", "NJ"),
)
HOMING_UM_S = 20_000.0
STICKY = {"WR", "WH"}


class ZaberEmulator(Emulator):
    """``full_step_um``: of the screw. The travel is ``travel_um``; homing finds its lower end, which becomes 0.

    ``limits_um``: what ``limit.min`` and ``limit.max`` say. ``modern``: message numbers and checksums are known.
    ``checked_replies``: ``comm.checksum`` is 1.
    """

    def __init__(
        self,
        *,
        travel_um: tuple[float, float] = (-2000.0, 2000.0),
        limits_um: tuple[float, float] = (-2000.0, 2000.0),
        full_step_um: float = 10.0,
        resolution: int = 64,
        address: int = 1,
        alerts: bool = True,
        modern: bool = True,
        serial: int = 12345,
        checked_replies: bool = False,
    ) -> None:
        self.checked_replies = checked_replies
        self.address, self.alerts, self.modern = address, alerts, modern
        self.microstep_um = full_step_um / resolution
        self.settings: dict[str, int] = {
            "resolution": resolution,
            "limit.min": round(limits_um[0] / self.microstep_um),
            "limit.max": round(limits_um[1] / self.microstep_um),
            "maxspeed": round(1500.0 / self.microstep_um * 1.6384),
            "accel": 205,
            "limit.home.triggered": 0,
        }
        self.device: dict[str, str] = {
            "device.id": "50105",
            "version": "7.34",
            "system.serial": str(serial),
            "system.axiscount": "1",
        }
        super().__init__(Motor(*travel_um))

    def power_up(self) -> None:
        self._zero_um = self.motor.position_um
        self.flags: set[str] = {"WR"}
        self._task = ""
        self.settings["limit.home.triggered"] = 0

    @property
    def microsteps(self) -> int:
        return round((self.motor.position_um - self._zero_um) / self.microstep_um)

    def raise_flag(self, flag: str) -> None:
        """A fault occurs; those that begin with F end a move."""
        with self.lock:
            self.flags.add(flag)
            if flag.startswith("F"):
                self.motor.halt()
                self._task = ""
                self._alert()

    def _alert(self) -> None:
        if self.alerts:
            self._say("!", f"{self.address:02d} 1 {self._status()} {self._shown()}")

    def _say(self, kind: str, body: str) -> None:
        check = f":{-sum(body.encode('ascii')) % 256:02X}" if self.checked_replies else ""
        self.send(f"{kind}{body}{check}")

    def _status(self) -> str:
        return "BUSY" if self._task and self.motor.is_moving else "IDLE"

    def _shown(self) -> str:
        return next((flag for flag in PRIORITY if flag in self.flags), "--")

    def handle_byte(self, byte: int) -> bool:
        if byte != 0x0D:  # ends a line as well
            return False
        line = self._input.decode("latin-1")
        self._input.clear()
        if line:
            self.commands.append(line)
            self.handle_line(line)
        return True

    def handle_line(self, line: str) -> None:
        start = line.rfind("/")
        if start < 0:
            return
        body = line[start + 1 :]
        if self.modern and len(body) > 2 and body[-3] == ":":
            if body[-2:] != f"{-sum(body[:-3].encode('latin-1')) % 256:02X}":
                return
            body = body[:-3]
        words = body.split()
        scope: list[int] = []
        while words and words[0].isdecimal() and len(scope) < (3 if self.modern else 2):
            scope.append(int(words.pop(0)))
        address, axis, number = (*scope, *(0, 0, -1)[len(scope) :])
        if address not in (0, self.address):
            return
        if axis > 1:
            accepted, data = False, "BADAXIS"
        else:
            try:
                accepted, data = self._obey(words, axis)
            except ValueError:  # a word where a number should be
                accepted, data = False, "BADDATA"
        tag = f" {number:02d}" if number >= 0 else ""
        verdict = "OK" if accepted else "RJ"
        self._say("@", f"{self.address:02d} {axis}{tag} {verdict} {self._status()} {self._shown()} {data}")

    def _obey(self, words: list[str], axis: int) -> tuple[bool, str]:
        match words:
            case []:
                return True, "0"
            case ["get", "pos"]:
                return True, str(self.microsteps)
            case ["get", name] if name in self.settings:
                return True, str(self.settings[name])
            case ["get", name] if name in self.device and not axis:
                return True, self.device[name]
            case ["set", "pos", value]:
                if self._status() == "BUSY":
                    return False, "STATUSBUSY"
                self._zero_um = self.motor.position_um - int(value) * self.microstep_um
                if "WR" in self.flags:
                    self.flags = (self.flags - {"WR"}) | {"WH"}
                return True, "0"
            case ["set", "maxspeed", value]:
                if not 1 <= int(value) <= self.settings["resolution"] * 16384:
                    return False, "BADDATA"
                self.settings["maxspeed"] = int(value)
                return True, "0"
            case ["warnings", *rest]:
                if rest == ["clear"]:
                    self.flags &= STICKY
                shown = [flag for flag in PRIORITY if flag in self.flags]
                return True, " ".join([f"{len(shown):02d}", *shown])
            case ["stop" | "estop"]:
                if self._task:
                    self.flags.add("NI")
                self._task = ""
                self.motor.halt()
                return True, "0"
            case ["home"]:
                self._task = "home"
                self.settings["limit.home.triggered"] = 0
                self.motor.speed_um_s = HOMING_UM_S
                self.motor.move_to(self.motor.low_um)
                return True, "0"
            case ["move", kind, value] if kind in ("abs", "rel"):
                return self._move(kind, int(value))
        return False, "BADCOMMAND"

    def _move(self, kind: str, microsteps: int) -> tuple[bool, str]:
        if self.flags & {"FO", "FD", "FH", "FV"}:
            return False, "DRIVERDISABLED"
        if kind == "abs" and "WR" in self.flags:
            return False, "BADDATA"
        target = microsteps + (self.microsteps if kind == "rel" else 0)
        if not self.settings["limit.min"] <= target <= self.settings["limit.max"]:
            return False, "BADDATA"
        if self._task:
            self.flags.add("NI")
        else:
            self.flags.discard("NI")
        self.flags -= {"FS", "WS", "WL"}
        self._task = "move"
        self.motor.speed_um_s = self.settings["maxspeed"] / 1.6384 * self.microstep_um
        self.motor.move_to(self._zero_um + target * self.microstep_um)
        return True, "0"

    def tick(self) -> None:
        if not self._task or self.motor.is_moving:
            return
        if self._task == "home":
            self._zero_um = self.motor.low_um
            self.flags -= STICKY
            self.settings["limit.home.triggered"] = 1
        self._task = ""
        self._alert()
