"""A gamepad made by SDL itself: what it does reaches the program as that of a real one would."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

GAME_CONTROLLER = 1


class VirtualPad:
    """Plugged in as long as SDL's joysticks are initialised or until :meth:`unplug`."""

    def __init__(self, sdl: ctypes.CDLL, axes: int = 6, buttons: int = 12) -> None:
        self._sdl = sdl
        self._index = sdl.SDL_JoystickAttachVirtual(GAME_CONTROLLER, axes, buttons, 1)
        assert self._index >= 0
        self._handle = ctypes.c_void_p(sdl.SDL_JoystickOpen(self._index))

    def push(self, axis: int, value: float) -> None:
        """-1 to 1."""
        assert self._sdl.SDL_JoystickSetVirtualAxis(self._handle, axis, ctypes.c_int16(round(32767 * value))) == 0

    def press(self, button: int, down: bool = True) -> None:
        assert self._sdl.SDL_JoystickSetVirtualButton(self._handle, button, ctypes.c_uint8(down)) == 0

    def unplug(self) -> None:
        assert self._sdl.SDL_JoystickDetachVirtual(self._index) == 0


def _sdl() -> ctypes.CDLL:
    """The library that pygame has loaded."""
    pytest.importorskip("pygame")
    maps = Path("/proc/self/maps")
    names = {line.split()[-1] for line in maps.read_text().splitlines()} if maps.exists() else set()
    found = [name for name in names if "libSDL2-2" in name]
    if not found:
        pytest.skip("the SDL library of pygame is found on Linux only")
    sdl = ctypes.CDLL(found[0])
    sdl.SDL_JoystickOpen.restype = ctypes.c_void_p
    return sdl


@contextmanager
def pads() -> Iterator[Callable[..., VirtualPad]]:
    """Makes pads: ``with pads() as plug_in: pad = plug_in()``; SDL's joysticks stay initialised meanwhile."""
    import pygame

    sdl = _sdl()
    joysticks = 0x200
    assert sdl.SDL_InitSubSystem(joysticks) == 0
    try:
        yield lambda **sizes: VirtualPad(sdl, **sizes)
    finally:
        sdl.SDL_QuitSubSystem(joysticks)
        pygame.display.quit()
