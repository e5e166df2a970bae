"""A gamepad moves the stage: only while a button is held, in small steps of which never one waits.

No stick is believed by itself: it must have been let go since the button was pressed, and something about the pad
must change from time to time, or it may have lost its radio link.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, Qt, QTimer, Signal

from app.capture.link import MicroscopeLink
from app.settings import GamepadSettings
from models.errors import ReliefscopeError
from models.language import _

TICK_MS = 20
STEP_S = 0.1
"""A step is as long as the way that the wished speed makes in this time, and the next one begins no sooner."""
FROZEN_S = 5.0

_SDL = {
    "SDL_VIDEODRIVER": "dummy",  # events need the subsystem, nobody needs a window
    "SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS": "1",
    "SDL_JOYSTICK_THREAD": "1",
    "SDL_NO_SIGNAL_HANDLERS": "1",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
}


class GamepadUnavailable(ReliefscopeError):
    """The package that reads gamepads is not installed, or finds no way to them."""


@dataclass(frozen=True)
class PadState:
    """``axes``: -1 to 1, 0 at rest; ``buttons``: which are pressed."""

    name: str
    axes: tuple[float, ...]
    buttons: tuple[bool, ...]

    def axis(self, index: int) -> float:
        return self.axes[index] if index < len(self.axes) else 0.0

    def is_pressed(self, index: int) -> bool:
        return index < len(self.buttons) and self.buttons[index]


class PadReader:
    """The first gamepad of this computer, read through SDL. Raises GamepadUnavailable."""

    def __init__(self) -> None:
        os.environ.update(_SDL)
        try:
            import pygame
        except ImportError as error:
            raise GamepadUnavailable(
                _("Gamepads need another package. Install it: pip install 'reliefscope[gamepad]'.")
            ) from error
        self._pygame = pygame
        self._pad: Any = None
        try:
            pygame.display.init()
            pygame.joystick.init()
        except pygame.error as error:
            raise GamepadUnavailable(_("Gamepads cannot be read: {error}.").format(error=error)) from error

    def read(self) -> PadState | None:
        """Where its sticks and buttons are now; None where there is none."""
        pygame = self._pygame
        for event in pygame.event.get():
            if (
                event.type == pygame.JOYDEVICEREMOVED
                and self._pad is not None
                and event.instance_id == self._pad.get_instance_id()
            ):
                self._pad = None
                return None  # seen to be gone, even where another is there at once
        if self._pad is None:
            if pygame.joystick.get_count() == 0:
                return None
            self._pad = pygame.joystick.Joystick(0)
        pad = self._pad
        return PadState(
            pad.get_name(),
            tuple(pad.get_axis(index) for index in range(pad.get_numaxes())),
            tuple(bool(pad.get_button(index)) for index in range(pad.get_numbuttons())),
        )

    def close(self) -> None:
        self._pad = None
        self._pygame.joystick.quit()
        self._pygame.display.quit()


def deflection(state: PadState, settings: GamepadSettings) -> float:
    """-1 to 1, up positive, of the chosen stick beyond its dead zone."""
    value = state.axis(settings.axis) * (-1 if settings.up_is_negative else 1)
    beyond = (abs(value) - settings.dead_zone) / (1 - settings.dead_zone)
    return 0.0 if beyond <= 0 else min(beyond, 1.0) * (1 if value > 0 else -1)


@dataclass(frozen=True)
class Wish:
    """``step_um``: a step to begin now, upwards positive. ``halt``: end the step under way. ``stop``: STOP."""

    step_um: float = 0.0
    halt: bool = False
    stop: bool = False


class PadJog:
    """What the pad asks of the stage, from one look to the next."""

    def __init__(self) -> None:
        self._armed = self._was_stop = self._locked = False
        self._direction = 0  # of the step that was begun last, 0 when the stick was let go since
        self._next_s = 0.0
        self._last: PadState | None = None
        self._changed_s = 0.0

    @property
    def is_jogging(self) -> bool:
        """A step has begun, and another follows it as long as the stick is not let go."""
        return self._direction != 0

    def disarm(self) -> None:
        """Nothing more before the button was let go and pressed again: a fault, a STOP."""
        self._locked = True

    def look(
        self, state: PadState | None, settings: GamepadSettings, now_s: float, *, at_rest: bool, top_um_s: float
    ) -> Wish:
        """``at_rest``: no move is under way. ``top_um_s``: at full deflection."""
        if state != self._last:
            self._last, self._changed_s = state, now_s
        pressed = state is not None and state.is_pressed(settings.stop_button)
        stop, self._was_stop = pressed and not self._was_stop, pressed
        if stop:
            self.disarm()
        held = state is not None and state.is_pressed(settings.hold_button)
        if not held:
            self._armed = self._locked = False
        elif now_s - self._changed_s > FROZEN_S:
            self._locked = True
        wished = deflection(state, settings) if state is not None and held and not self._locked else 0.0
        if held and wished == 0.0:
            self._armed = True
        if not self._armed or self._locked:
            wished = 0.0
        halt = self._direction != 0 and wished * self._direction <= 0
        if halt:
            self._direction = 0
        if wished == 0.0 or halt or not at_rest or now_s < self._next_s:
            return Wish(halt=halt, stop=stop)
        self._direction = 1 if wished > 0 else -1
        self._next_s = now_s + STEP_S
        return Wish(step_um=wished * top_um_s * STEP_S)


class Gamepad(QObject):
    """Looks at the pad while somebody watches it or it may move the stage. ``stop``: the window's STOP.

    ``state``: the latest look; None: no pad. ``problem``: why pads cannot be read, for the user.
    """

    changed = Signal()
    told = Signal(str)

    def __init__(
        self, link: MicroscopeLink, settings: GamepadSettings, stop: Callable[[], None], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.settings = settings
        self.state: PadState | None = None
        self.problem = ""
        self._link, self._stop = link, stop
        self._reader: PadReader | None = None
        self._jog = PadJog()
        self._watched = self._enabled = False
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._look)
        link.failed.connect(self._disarm)
        link.stoppedChanged.connect(self._disarm)
        link.deviceChanged.connect(self._disarm)

    @property
    def enabled(self) -> bool:
        """Whether it may move the stage. Off when the program starts and after the pad was unplugged."""
        return self._enabled

    @property
    def is_jogging(self) -> bool:
        """Whether it moves the stage now, also in the moments between two steps."""
        return self._enabled and self._jog.is_jogging

    def enable(self, on: bool) -> None:
        if self._enabled and not on:
            self._obey(Wish(halt=True))
        self._enabled = on and self.state is not None
        self._jog = PadJog()
        self._jog.disarm()  # a button that is held already counts for nothing
        self._run()

    def watch(self, on: bool) -> None:
        """Somebody looks at the live display, or no longer does."""
        self._watched = on
        self._run()

    def close(self) -> None:
        self.watch(False)
        self.enable(False)

    @property
    def top_um_s(self) -> float:
        """At full deflection: as set, and no faster than the profile's speed."""
        microscope = self._link.microscope
        wished_um_s = self.settings.top_speed_um_s
        return wished_um_s if microscope is None else min(wished_um_s, microscope.axis.speed_um_s)

    def _disarm(self) -> None:
        self._jog.disarm()

    def _run(self) -> None:
        wanted = self._watched or self._enabled
        if wanted and self._reader is None:
            try:
                self._reader, self.problem = PadReader(), ""
            except GamepadUnavailable as error:
                self.problem = str(error)
                self.changed.emit()
                return
            self._timer.start()
            self._look()
        elif not wanted and self._reader is not None:
            self._timer.stop()
            self._reader.close()
            self._reader = self.state = None

    def _look(self) -> None:
        assert self._reader is not None
        before, self.state = self.state, self._reader.read()
        if self._enabled:
            link = self._link
            at_rest = link.device is not None and not link.busy and link.target_um is None and not link.is_stopped
            self._obey(
                self._jog.look(self.state, self.settings, time.monotonic(), at_rest=at_rest, top_um_s=self.top_um_s)
            )
            if self.state is None:
                self._enabled = False
                self.told.emit(_("The gamepad is gone. Plug it in and enable it again: Stage > Gamepad…"))
        if self.state != before:
            self.changed.emit()
        self._run()

    def _obey(self, wish: Wish) -> None:
        link = self._link
        if wish.stop:
            self._stop()
            return
        microscope = link.microscope
        if microscope is None or link.busy:
            return
        # Where a halt costs the position the step, which is short, is let end by itself.
        if wish.halt and link.target_um is not None and not microscope.stage.stop_loses_position:
            link.cancel()
        elif wish.step_um:
            link.jog(wish.step_um)
