"""The Sangaboard of the OpenFlexure microscope, firmware 0.5 and 1.0, with the focus on z.

Kept from the firmware: commands are told by how they begin; 0.5 reads nothing while it moves and stores the position
at the end of each move; 1.0 moves in the background, ``stop`` ends that, and its position is not stored. At a limit
switch 0.5 ends the move and says the same as ever, 1.0 names the switch; the lower one makes zero with both.
"""

from collections import deque

from hardware.simulator.controllers.emulator import Emulator, Motor


class SangaboardEmulator(Emulator):
    """``firmware``: "0.5" or "1.0.1". ``um_per_step``: the screw; the board does not know it."""

    def __init__(self, *, firmware: str = "1.0.1", um_per_step: float = 0.05) -> None:
        self.firmware = firmware
        self.um_per_step = um_per_step
        self.step_delay_us = 1000
        self.blocking = True
        self._stored = 0
        super().__init__(Motor(-5000.0, 5000.0, acceleration_um_s2=1e6))

    @property
    def is_old(self) -> bool:
        return self.firmware.startswith("0.")

    @property
    def steps(self) -> int:
        return round(self.motor.position_um / self.um_per_step) - self._zero

    def power_up(self) -> None:
        self._zero = round(self.motor.position_um / self.um_per_step) - (self._stored if self.is_old else 0)
        self._waiting: deque[str] = deque()
        self._moving = self._tell_end = False
        self._tell_version()

    def hit_end_stop(self) -> None:
        """The lower switch closes: the move ends and z becomes 0."""
        with self.lock:
            self.motor.halt()
            self._zero = round(self.motor.position_um / self.um_per_step)
            self._stored = 0
            if not self.is_old:
                self.send("Endstop hit:-3")

    # -- commands

    def handle_line(self, line: str) -> None:
        self._waiting.append(line)
        self._work_off()

    def _work_off(self) -> None:
        while self._waiting and not (self.is_old and self._moving):
            self._execute(self._waiting.popleft())

    def _execute(self, line: str) -> None:
        known = [
            ("version", self._version), ("mrx", self._other_axis), ("mry", self._other_axis), ("mrz", self._move),
            ("release", self._release), ("p", self._position), ("min_step_delay", self._step_delay),
            ("dt", self._step_delay), ("zero", self._reset_zero),
        ]  # fmt: skip
        if not self.is_old:
            known += [("stop", self._stop), ("moving", self._is_moving), ("blocking_moves", self._blocking)]
        for word, action in known:
            if line.startswith(word):
                action(line[len(word) :].strip())
                return
        self.send("Type 'help' for a list of commands.")

    def _tell_version(self) -> None:
        self.send(f"Sangaboard Firmware v{self.firmware}")

    def _version(self, _words: str) -> None:
        self._tell_version()

    def _other_axis(self, _words: str) -> None:
        self.send("done.")

    def _move(self, words: str) -> None:
        digits = words.lstrip("-")
        distance = int(words) if digits.isdigit() else 0  # as atoi
        self.motor.speed_um_s = self.um_per_step * 1e6 / self.step_delay_us
        self.motor.move_to((self.steps + distance + self._zero) * self.um_per_step)
        self._moving = True
        if self.is_old or self.blocking:
            self._tell_end = True
        else:
            self.send("done.")

    def _release(self, _words: str) -> None:
        self.send("motors released" if self.is_old else "done")

    def _position(self, _words: str) -> None:
        self.send(f"0 0 {self.steps}")

    def _step_delay(self, words: str) -> None:
        if words == "?":
            self.send(f"minimum step delay {self.step_delay_us}")
        else:
            self.step_delay_us = int(words)
            self.send("done.")

    def _reset_zero(self, _words: str) -> None:
        self._zero += self.steps
        self.send("position reset to 0 0 0")

    def _stop(self, _words: str) -> None:
        self.motor.halt()
        self._moving = False
        self.send("Move aborted")

    def _is_moving(self, _words: str) -> None:
        self.send("true" if self._moving else "false")

    def _blocking(self, words: str) -> None:
        if words == "?":
            self.send("blocking_moves " + ("true" if self.blocking else "false"))
        else:
            self.blocking = words.startswith("t")
            self.send("done.")

    def tick(self) -> None:
        if self._moving and not self.motor.is_moving:
            self._moving = False
            self._stored = self.steps
            if self._tell_end:
                self._tell_end = False
                self.send("done" if self.is_old else "stopped")
            self._work_off()
