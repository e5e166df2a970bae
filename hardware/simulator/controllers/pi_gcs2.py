"""A PI controller as its GCS 2.0 manuals describe it (MS249E for the C-863.12), with the focus on one of its axes.

Kept here: commands and mistakes are answered by nothing, ``ERR?`` tells the latest error and forgets it; every line of
a reply but the last ends with a space; 0x05, 0x07 and 0x18 are no part of a line; a stop leaves error 10 behind, also
at rest; what moves needs servo and reference; a motion error switches the servo off. ``POS`` makes a reference only
where ``RON`` is 0.
"""

import time

from hardware.simulator.controllers.emulator import Emulator, Motor

REFERENCE_UM_S = 20_000.0
SETTLE_S = 0.01
UNIT_UM = {"MM": 1000.0, "UM": 1.0}


class PiEmulator(Emulator):
    """``axes``: identifiers, the focus is ``focus``. ``travel_um``: what ``TMN?`` and ``TMX?`` say, from the reference.

    ``clamps_um``: targets are silently cut to this, as by the C-414. ``absolute``: a sensor that needs no reference;
    ``FRF``, ``RON`` are unknown then, as by a piezo controller. ``unit``: None where ``PUN?`` is unknown.
    ``servo``: on from the start.
    """

    reply_end = b"\n"

    def __init__(
        self,
        *,
        axes: tuple[str, ...] = ("1",),
        focus: str = "1",
        travel_um: tuple[float, float] = (-2000.0, 2000.0),
        clamps_um: tuple[float, float] | None = None,
        unit: str | None = "MM",
        absolute: bool = False,
        servo: bool = False,
        outputs: int = 4,
        serial: int = 17550026,
    ) -> None:
        self.axes, self.focus, self.clamps_um, self.absolute = axes, focus, clamps_um, absolute
        self.unit, self.um = unit, UNIT_UM[unit or "MM"]
        self.travel_um, self.serial = travel_um, serial
        self.outputs: dict[int, dict[int, str]] = {line: {} for line in range(1, outputs + 1)}
        self.servo_at_start = servo
        self.pulses_um: list[float] = []  # where the stage was when an output rose
        super().__init__(Motor(*travel_um))

    def power_up(self) -> None:
        self._zero_um = 0.0 if self.absolute else self.motor.position_um
        self.referenced, self.servo, self.reference_mode = self.absolute, self.servo_at_start, 1
        self.error = 0
        self.velocity_um_s = 1500.0
        self._target_um = self.motor.position_um
        self._referencing = False
        self._settled_s = 0.0
        self._enabled: set[int] = set()
        self._high: set[int] = set()

    @property
    def position_um(self) -> float:
        return self.motor.position_um - self._zero_um

    @property
    def on_target(self) -> bool:
        near = abs(self.motor.position_um - self._target_um) < 0.05
        return self.servo and near and not self.motor.is_moving and time.monotonic() > self._settled_s

    def motion_error(self, code: int = 1024) -> None:
        """The stage does not follow its target."""
        with self.lock:
            self.motor.halt()
            self.servo, self._referencing, self.error = False, False, code

    # -- single characters

    def handle_byte(self, byte: int) -> bool:
        if byte == 0x05:
            moving = self.motor.is_moving
            self.send(f"{1 << self.axes.index(self.focus) if moving else 0:X}")
        elif byte == 0x07:
            self.send("\xb0" if self._referencing else "\xb1")
        elif byte == 0x18:
            self._stop()
        else:
            return byte < 0x20 and byte != 0x0A
        return True

    def _stop(self) -> None:
        self.motor.halt()
        self._target_um = self.motor.position_um
        self._referencing = False
        self.error = 10

    # -- lines

    def handle_line(self, line: str) -> None:
        words = line.split()
        if not words:
            return
        name, arguments = words[0].upper(), words[1:]
        if name.endswith("?"):
            self._answer(name, arguments)
            return
        handler = getattr(self, f"_do_{name.lower()}", None)
        if handler is None or (self.absolute and name in ("FRF", "FNL", "FPL", "RON")):
            self.error = 2
            return
        try:
            code = handler(*arguments)
        except (TypeError, ValueError):
            code = 1
        if code:
            self.error = code
        self._drive_outputs()

    def _reply(self, *lines: str) -> None:
        for line in lines[:-1]:
            self.send(line + " ")
        self.send(lines[-1])

    def _answer(self, query: str, arguments: list[str]) -> None:
        if query == "ERR?":
            self._reply(str(self.error))
            self.error = 0
        elif query == "*IDN?":
            self._reply(f"(c)2015 Physik Instrumente (PI) GmbH & Co. KG, C-863.12, 00{self.serial}, 1.2.1.0")
        elif query == "CSV?":
            self._reply("2.0")
        elif query == "SAI?":
            self._reply(*self.axes)
        elif query == "TRO?":
            self._reply(*(f"{line}={int(line in self._enabled)}" for line in self.outputs))
        else:
            self._answer_for_axes(query, arguments)

    def _answer_for_axes(self, query: str, arguments: list[str]) -> None:
        values = {
            "POS?": f"{self.position_um / self.um:.7f}",
            "MOV?": f"{(self._target_um - self._zero_um) / self.um:.7f}",
            "ONT?": str(int(self.on_target)),
            "SVO?": str(int(self.servo)),
            "TMN?": f"{self.travel_um[0] / self.um:+.4f}",
            "TMX?": f"{self.travel_um[1] / self.um:.4E}",
            "VEL?": f"{self.velocity_um_s / self.um:.5f}",
        }
        if not self.absolute:
            values |= {"FRF?": str(int(self.referenced)), "RON?": str(self.reference_mode)}
        if self.unit is not None:
            values["PUN?"] = self.unit
        if query not in values:
            self.error = 2
        elif any(axis not in self.axes for axis in arguments):
            self.error = 15
        else:
            self._reply(*(f"{axis}={values[query] if axis == self.focus else 0}" for axis in arguments or self.axes))

    def _do_svo(self, axis: str, state: str) -> int:
        if axis != self.focus:
            return 0 if axis in self.axes else 15
        self.servo = state == "1"
        self._target_um = self.motor.position_um
        return 0

    def _do_mov(self, axis: str, value: str) -> int:
        if axis != self.focus:
            return 15
        return self._go(float(value) * self.um)

    def _do_mvr(self, axis: str, value: str) -> int:
        return self._do_mov(axis, str((self._target_um - self._zero_um) / self.um + float(value)))

    def _go(self, target_um: float) -> int:
        if not self.referenced or not self.servo:
            return 5
        if not self.travel_um[0] <= target_um <= self.travel_um[1]:
            return 7
        if self.clamps_um is not None:
            target_um = min(max(target_um, self.clamps_um[0]), self.clamps_um[1])
        self._target_um = target_um + self._zero_um
        self.motor.speed_um_s = self.velocity_um_s
        self.motor.move_to(self._target_um)
        return 0

    def _do_vel(self, axis: str, value: str) -> int:
        if axis != self.focus:
            return 15
        if not 0 < float(value) * self.um <= 20_000.0:
            return 8
        self.velocity_um_s = float(value) * self.um
        return 0

    def _do_frf(self, axis: str) -> int:
        if axis != self.focus:
            return 15
        if not self.servo or self.reference_mode != 1:
            return 5
        self.referenced, self._referencing = False, True
        self.motor.speed_um_s = REFERENCE_UM_S
        self._target_um = (self.motor.low_um + self.motor.high_um) / 2
        self.motor.move_to(self._target_um)
        return 0

    def _do_ron(self, axis: str, mode: str) -> int:
        self.reference_mode = int(mode)
        return 0 if axis == self.focus else 15

    def _do_pos(self, axis: str, value: str) -> int:
        if axis != self.focus:
            return 15
        if self.reference_mode != 0:
            return 5
        self._zero_um = self.motor.position_um - float(value) * self.um
        self._target_um = self.motor.position_um
        self.referenced = True
        return 0

    def _do_hlt(self, _axis: str = "") -> int:
        self._stop()
        return 10

    def _do_stp(self) -> int:
        self._stop()
        return 10

    def _do_cto(self, output: str, parameter: str, value: str) -> int:
        if int(output) not in self.outputs:
            return 17
        self.outputs[int(output)][int(parameter)] = value
        return 0

    def _do_tro(self, output: str, state: str) -> int:
        if int(output) not in self.outputs:
            return 17
        (self._enabled.add if state == "1" else self._enabled.discard)(int(output))
        return 0

    # -- motion

    def tick(self) -> None:
        if self.motor.is_moving:
            self._settled_s = time.monotonic() + SETTLE_S
        elif self._referencing:
            self._referencing, self.referenced = False, True
            self._zero_um = self.motor.position_um
        self._drive_outputs()

    def _drive_outputs(self) -> None:
        """Mode 2 of a digital output is on target."""
        high = {line for line in self._enabled if self.outputs[line].get(3) == "2" and self.on_target}
        self.pulses_um += [self.position_um] * len(high - self._high)
        self._high = high
