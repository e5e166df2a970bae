"""The camera of any Micro-Manager configuration."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hardware.calls import CallThread
from hardware.camera import (
    CameraDisconnected,
    CameraError,
    CameraIdentity,
    CameraRanges,
    CameraSettings,
    Picture,
    Roi,
    check_settings,
)
from hardware.cameras.base import CameraBase
from hardware.cameras.settings import MicroManagerCameraProfile
from hardware.clock import Clock
from hardware.micromanager import MicroManagerError, acquire_core, plain_errors, release_core
from models.language import _

CALL_S = 30.0
DEPTHS = (8, 10, 12, 14, 16)
_ANY_EXPOSURE_MS = (0.01, 60_000.0)

Result = TypeVar("Result")


class MicroManagerCamera(CameraBase):
    """A :class:`hardware.camera.Camera`. Raises CameraError where it cannot be opened.

    A picture is new because Micro-Manager's ``snapImage`` takes one after the call. 16 bit come where the adapter
    has the usual property PixelType; ROI where ``setROI`` works.
    """

    def __init__(self, profile: MicroManagerCameraProfile, clock: Clock | None = None) -> None:
        self._profile = profile
        self._clock = clock or Clock()
        self._wanted = profile.settings
        self._core: Any = None
        self.name = profile.device or "Micro-Manager"
        self.reconnect()

    def apply(self, settings: CameraSettings) -> None:
        check_settings(self.name, settings, self.ranges)
        self._call(lambda: self._write(settings), CALL_S)
        self._wanted = settings

    def snap(self) -> Picture:
        began_s = self._clock.now()
        image = self._call(self._take, self.settings.exposure_ms / 1000.0 + self._profile.timeout_s)
        if image.shape != self.image_shape or image.dtype != self.dtype:
            raise CameraError(
                _("{camera} sent a picture of {shape} {dtype} instead of {wanted_shape} {wanted}.").format(
                    camera=self.name,
                    shape=image.shape,
                    dtype=image.dtype,
                    wanted_shape=self.image_shape,
                    wanted=self.dtype,
                )
            )
        return Picture(image, began_s)

    def reconnect(self) -> None:
        self.close()
        try:
            self._core = acquire_core(self._profile.configuration, self._profile.folder)
        except MicroManagerError as error:
            raise CameraError(str(error)) from error
        self._calls = CallThread(self.name)
        try:
            self._call(self._open, CALL_S)
            if self._wanted is not None:
                self.apply(self._wanted)
        except CameraError:
            self.close()
            raise

    def close(self) -> None:
        core, self._core = self._core, None
        if core is not None:
            self._calls.close()
            release_core(core)

    def _call(self, call: Callable[[], Result], timeout_s: float) -> Result:
        if self._core is None:
            raise CameraDisconnected(_("{camera} is closed.").format(camera=self.name))
        try:
            with plain_errors(self.name, CameraError):
                return self._calls.run(call, timeout_s)
        except TimeoutError:
            raise CameraDisconnected(
                _("{camera} did not finish within {seconds:g} s. Check its cable and connect again.").format(
                    camera=self.name, seconds=timeout_s
                )
            ) from None

    # --- in the thread of the calls

    def _open(self) -> None:
        core, profile = self._core, self._profile
        label = profile.device or core.getCameraDevice()
        if label not in core.getLoadedDevices():
            raise CameraError(_("The Micro-Manager configuration has no camera '{device}'.").format(device=label))
        core.setCameraDevice(label)
        self._label = label
        adapter, model = core.getDeviceLibrary(label), core.getDeviceName(label)
        self.name = f"{label} ({adapter} {model})"
        self.identity = CameraIdentity("micromanager", adapter, model, label)
        for name, value in profile.properties.items():
            core.setProperty(label, name, value)
        core.clearROI()
        _left, _top, width, height = core.getROI(label)
        self._sensor_shape = (height, width)
        self.ranges = CameraRanges(self._exposure_range_ms(), self._gain_range(), self._depths(), (height, width))
        self._read_back()

    def _write(self, settings: CameraSettings) -> None:
        core, label = self._core, self._label
        if settings.bit_depth != self.settings.bit_depth:
            core.setProperty(label, "PixelType", "8bit" if settings.bit_depth == 8 else "16bit")
            if core.hasProperty(label, "BitDepth"):
                core.setProperty(label, "BitDepth", str(settings.bit_depth))
        if settings.roi is None:
            core.clearROI()
        else:
            roi = settings.roi
            core.setROI(label, roi.left, roi.top, roi.width, roi.height)
        core.setExposure(label, settings.exposure_ms)
        if self._profile.unit_gain is not None:
            core.setProperty(label, "Gain", settings.gain * self._profile.unit_gain)
        core.waitForDevice(label)
        self._read_back()

    def _take(self) -> NDArray[Any]:
        self._core.setCameraDevice(self._label)
        self._core.snapImage()
        image = self._core.getImage()
        if self._core.getNumberOfComponents() == 4:  # one number per pixel: blue, green, red, nothing
            parts = image.view(np.uint8 if image.dtype.itemsize == 4 else np.uint16)
            return np.array(parts.reshape(*image.shape, 4)[..., 2::-1], order="C")
        return np.array(image)

    def _read_back(self) -> None:
        core, label = self._core, self._label
        left, top, width, height = core.getROI(label)
        whole = (height, width) == self._sensor_shape
        gain = 1.0
        if self._profile.unit_gain is not None:
            gain = max(1.0, float(core.getProperty(label, "Gain")) / self._profile.unit_gain)
        self.settings = CameraSettings(
            exposure_ms=core.getExposure(label),
            gain=gain,
            bit_depth=core.getImageBitDepth(),
            roi=None if whole else Roi(left=left, top=top, width=width, height=height),
        )
        self.image_shape = (height, width)
        if core.getNumberOfComponents() > 1:
            self.image_shape = (height, width, 3)

    def _exposure_range_ms(self) -> tuple[float, float]:
        if not self._core.hasPropertyLimits(self._label, "Exposure"):
            return _ANY_EXPOSURE_MS
        low_ms, high_ms = self._limits("Exposure")
        return max(low_ms, _ANY_EXPOSURE_MS[0]), high_ms

    def _gain_range(self) -> tuple[float, float]:
        unit = self._profile.unit_gain
        if unit is None:
            return 1.0, 1.0
        low, high = self._limits("Gain")
        return max(1.0, low / unit), max(1.0, high / unit)

    def _limits(self, name: str) -> tuple[float, float]:
        core = self._core
        return core.getPropertyLowerLimit(self._label, name), core.getPropertyUpperLimit(self._label, name)

    def _depths(self) -> tuple[int, ...]:
        """What can be chosen; without the usual property only what the camera delivers now."""
        core, label = self._core, self._label
        present = core.getImageBitDepth()
        types = core.getAllowedPropertyValues(label, "PixelType") if core.hasProperty(label, "PixelType") else ()
        deep: tuple[int, ...] = (present,) if present > 8 else ()
        if "16bit" in types and core.hasProperty(label, "BitDepth"):
            allowed = core.getAllowedPropertyValues(label, "BitDepth")
            deep = tuple(bits for bits in DEPTHS[1:] if str(bits) in allowed)
        elif "16bit" in types:
            deep = (16,)
        return ((8,) if "8bit" in types or present == 8 else ()) + deep
