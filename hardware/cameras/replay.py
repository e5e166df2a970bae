"""A stack that exists already, played as a camera: to try settings, methods and the window on known pictures."""

from collections.abc import Callable

import numpy as np

from hardware.camera import (
    CameraDisconnected,
    CameraError,
    CameraIdentity,
    CameraRanges,
    CameraSettings,
    Picture,
    check_settings,
)
from hardware.cameras.base import CameraBase
from hardware.cameras.settings import ReplayCameraProfile
from hardware.clock import Clock
from models.errors import InputError
from models.focal_stack import FocalStack
from models.formats.stacks import read_stack
from models.language import _


class ReplayCamera(CameraBase):
    """A :class:`hardware.camera.Camera` that shows the frame nearest to ``focus_um()``, or one after the other.

    The frames keep their values: exposure and gain are accepted only as 10 ms and 1. Raises CameraError where
    there is no stack.
    """

    def __init__(self, profile: ReplayCameraProfile, clock: Clock | None, focus_um: Callable[[], float]) -> None:
        self._profile = profile
        self._focus_um = focus_um
        self._clock = clock or Clock()
        self.name = _("Replay of {name}").format(name=profile.path.name)
        self.identity = CameraIdentity("replay", model=profile.path.name, serial=str(profile.path))
        self._next = 0
        self._stack: FocalStack | None = None
        self.reconnect()
        if profile.settings is not None:
            self.apply(profile.settings)

    def apply(self, settings: CameraSettings) -> None:
        check_settings(self.name, settings, self.ranges)
        self.settings = settings

    def snap(self) -> Picture:
        if self._stack is None:
            raise CameraDisconnected(_("{camera} is closed.").format(camera=self.name))
        began_s = self._clock.now()
        if self._profile.order == "height":
            index = int(np.argmin(np.abs(self._stack.z_um - self._focus_um())))
        else:
            index, self._next = self._next, (self._next + 1) % len(self._stack)
        try:
            image = np.array(self._stack.frames[index])
        except (InputError, OSError) as error:
            raise CameraError(_("{camera}: {reason}").format(camera=self.name, reason=error)) from error
        self._clock.wait(self.settings.exposure_ms / 1000.0)
        return Picture(image, began_s)

    def reconnect(self) -> None:
        profile = self._profile
        try:
            stack = read_stack(
                profile.path, step_um=profile.step_um, z0_um=profile.first_um, descending=profile.descending
            )
        except (InputError, OSError) as error:
            raise CameraDisconnected(_("{camera}: {reason}").format(camera=self.name, reason=error)) from error
        if profile.order == "height" and stack.z_unit != "um":
            raise CameraError(
                _('{camera}: the heights of its frames are unknown; give step_um, or order = "sequence".').format(
                    camera=self.name
                )
            )
        self.image_shape = tuple(stack.frames.shape[1:])
        self.settings = CameraSettings(bit_depth=8 * np.dtype(stack.frames.dtype).itemsize)
        self.ranges = CameraRanges((10.0, 10.0), (1.0, 1.0), (self.settings.bit_depth,))
        self._stack, self._next = stack, 0

    def close(self) -> None:
        self._stack = None
