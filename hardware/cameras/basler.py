"""Basler cameras by the maker's SDK pylon: 8 to 16 bit, one software trigger per picture.

API: pypylon, https://github.com/basler/pypylon. With PYLON_CAMEMU=1 in the environment the SDK brings an
emulated camera, which can show image files; the tests use it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pypylon import genicam, pylon

from hardware.camera import (
    CameraDisconnected,
    CameraError,
    CameraIdentity,
    CameraRanges,
    CameraSettings,
    Picture,
    check_settings,
)
from hardware.cameras import sfnc
from hardware.cameras.settings import BaslerCameraProfile
from hardware.clock import Clock
from models.language import _

TRIES = 3
BUFFERS = 8
READY_MS = 1000


def list_basler() -> list[CameraIdentity]:
    """The Basler cameras that pylon sees now; none is opened."""
    return [_identity(info) for info in pylon.TlFactory.GetInstance().EnumerateDevices()]


class BaslerCamera:
    """A :class:`hardware.camera.TriggeredCamera`. Raises CameraError where the camera cannot be opened.

    A picture is new because its trigger is sent after the call, with nothing left in the queue; after a time-out
    the acquisition is started afresh, so that a late picture cannot be taken for the next one.
    """

    def __init__(self, profile: BaslerCameraProfile, clock: Clock | None = None) -> None:
        self._profile = profile
        self._clock = clock or Clock()
        self._dropped = 0
        self._wanted = profile.settings
        self._camera = pylon.InstantCamera()
        self._name = _("Basler camera {serial}").format(serial=profile.serial).strip()
        self._next_block: int | None = None
        self.reconnect()

    @property
    def name(self) -> str:
        return self._name

    @property
    def identity(self) -> CameraIdentity:
        return self._identity

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self._image_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self._settings.bit_depth == 8 else np.uint16)

    @property
    def ranges(self) -> CameraRanges:
        return self._ranges

    @property
    def settings(self) -> CameraSettings:
        return self._settings

    @property
    def dropped_frames(self) -> int:
        return self._dropped

    def apply(self, settings: CameraSettings) -> None:
        check_settings(self._name, settings, self._ranges)
        with self._plain_errors():
            self._camera.StopGrabbing()
            sfnc.write_settings(self._features, settings, self._profile.gain_unit, colour=self._profile.colour)
            self._read_back()
            self._start()
        self._wanted = settings

    def snap(self) -> Picture:
        for _try in range(TRIES):
            with self._plain_errors():
                picture = self._try_to_snap()
            if picture is not None:
                return picture
            self._dropped += 1
        raise CameraError(
            _("{camera} sent no usable picture in {n} tries. Check its cable and its power.").format(
                camera=self._name, n=TRIES
            )
        )

    def arm(self, frame_count: int) -> None:
        line = self._profile.trigger_line
        with self._plain_errors():
            self._camera.StopGrabbing()
            known = sfnc.trigger_by(self._features, line)
            if known:
                self._next_block = None
                self._camera.StartGrabbingMax(frame_count, pylon.GrabStrategy_OneByOne)
                self._is_ready()
            else:
                self._start()
        if not known:
            raise CameraError(
                _("{camera} has no trigger input {line}; choose one of {lines}.").format(
                    camera=self._name, line=line, lines=", ".join(self._features.choices("TriggerSource"))
                )
            )

    def next_picture(self, timeout_s: float) -> Picture:
        with self._plain_errors():
            result = self._camera.RetrieveResult(round(timeout_s * 1000), pylon.TimeoutHandling_Return)
            arrived_s = self._clock.now()
            if not result.IsValid():
                raise CameraError(
                    _("{camera}: no trigger pulse within {seconds:g} s. Is the trigger line connected?").format(
                        camera=self._name, seconds=timeout_s
                    )
                )
            block, image = int(result.BlockID), self._image(result)
        expected, self._next_block = self._next_block, block + 1
        if image is None or expected not in (None, block):
            self._dropped += 1
            raise CameraError(_("{camera} lost a picture of the series.").format(camera=self._name))
        return Picture(image, arrived_s - self._settings.exposure_ms / 1000.0)

    def disarm(self) -> None:
        with self._plain_errors():
            self._camera.StopGrabbing()
            self._start()

    def reconnect(self) -> None:
        self.close()
        self._attach()
        with self._plain_errors():
            self._camera.Open()
            info = self._camera.GetDeviceInfo()
            self._identity = _identity(info)
            self._name = f"{info.GetVendorName()} {info.GetModelName()} ({info.GetSerialNumber()})"
            self._features = _PylonFeatures(self._camera.GetNodeMap())
            self._camera.MaxNumBuffer.Value = BUFFERS
            sfnc.switch_automatics_off(self._features)
            sfnc.set_features(self._name, self._features, self._profile.features)
            sfnc.choose_pixel_format(self._name, self._features, colour=self._profile.colour)
            self._ranges = sfnc.ranges_of(self._features, self._profile.gain_unit, colour=self._profile.colour)
            self._read_back()
            self._start()
        if self._wanted is not None:
            self.apply(self._wanted)

    def close(self) -> None:
        with suppress(genicam.GenericException):  # a camera that is gone cannot be closed in good order
            self._camera.Close()
        with suppress(genicam.GenericException):
            self._camera.DestroyDevice()

    def _attach(self) -> None:
        factory = pylon.TlFactory.GetInstance()
        found = factory.EnumerateDevices()
        wanted = next((info for info in found if self._profile.serial in ("", info.GetSerialNumber())), None)
        if wanted is None:
            raise CameraDisconnected(
                _("{camera} is not connected. Cameras found: {serials}. Check its cable and its power.").format(
                    camera=self._name, serials=", ".join(info.GetSerialNumber() for info in found) or _("none")
                )
            )
        try:
            self._camera.Attach(factory.CreateDevice(wanted))
        except genicam.GenericException as error:
            raise CameraError(
                _("{camera} cannot be opened: {reason}. Does another program use it?").format(
                    camera=self._name, reason=sfnc.reason(error)
                )
            ) from error

    def _start(self) -> None:
        sfnc.trigger_by(self._features, "Software")
        self._camera.StartGrabbing(pylon.GrabStrategy_OneByOne)

    def _read_back(self) -> None:
        """What the camera made of the settings."""
        self._settings = sfnc.settings_of(self._features, self._profile.gain_unit)
        self._pixel_format = str(self._features.get("PixelFormat"))
        self._image_shape = sfnc.image_shape_of(self._features)

    def _try_to_snap(self) -> Picture | None:
        """None where the picture is late or corrupt; then nothing of it is left in the queue."""
        camera = self._camera
        if not self._is_ready():
            self._restart()
            return None
        while camera.GetGrabResultWaitObject().Wait(0):  # a picture that nobody asked for
            camera.RetrieveResult(0, pylon.TimeoutHandling_Return).Release()
        began_s = self._clock.now()
        camera.ExecuteSoftwareTrigger()
        patience_s = self._settings.exposure_ms / 1000.0 + self._profile.timeout_s
        result = camera.RetrieveResult(round(patience_s * 1000), pylon.TimeoutHandling_Return)
        if not result.IsValid():
            self._restart()
            return None
        image = self._image(result)
        return None if image is None else Picture(image, began_s)

    def _is_ready(self) -> bool:
        """Wait until the camera takes triggers; some cannot tell, those queue a trigger."""
        camera = self._camera
        return not camera.CanWaitForFrameTriggerReady() or bool(
            camera.WaitForFrameTriggerReady(READY_MS, pylon.TimeoutHandling_Return)
        )

    def _restart(self) -> None:
        self._camera.StopGrabbing()
        self._start()

    def _image(self, result: Any) -> NDArray[Any] | None:
        """None where the transfer was incomplete. Its buffer goes back to the SDK."""
        try:
            if not result.GrabSucceeded():
                return None
            with result.GetArrayZeroCopy() as values:
                return sfnc.decoded(values, self._pixel_format, (result.Height, result.Width))
        finally:
            result.Release()

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """The SDK's errors as sentences that name the camera."""
        if not self._camera.IsPylonDeviceAttached():  # its features are freed memory
            raise CameraDisconnected(_("{camera} is not connected.").format(camera=self._name))
        try:
            yield
        except genicam.GenericException as error:
            if self._camera.IsCameraDeviceRemoved():
                raise CameraDisconnected(
                    _("{camera} is gone. Plug it in again and connect.").format(camera=self._name)
                ) from error
            raise CameraError(
                _("{camera} reports: {reason}.").format(camera=self._name, reason=sfnc.reason(error))
            ) from error


class _PylonFeatures:
    """A node map of pylon as :class:`hardware.cameras.sfnc.Features`."""

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes

    def has(self, name: str) -> bool:
        return bool(genicam.IsReadable(self._nodes.GetNode(name)))

    def writable(self, name: str) -> bool:
        return bool(genicam.IsWritable(self._nodes.GetNode(name)))

    def get(self, name: str) -> Any:
        return self._nodes.GetNode(name).Value

    def set(self, name: str, value: Any) -> None:
        self._nodes.GetNode(name).Value = value

    def limits(self, name: str) -> tuple[float, float, float]:
        node = self._nodes.GetNode(name)
        step = node.Inc if not hasattr(node, "HasInc") or node.HasInc() else 0  # whole numbers always have one
        return node.Min, node.Max, step

    def choices(self, name: str) -> tuple[str, ...]:
        return tuple(self._nodes.GetNode(name).Symbolics)

    def unit(self, name: str) -> str:
        return str(self._nodes.GetNode(name).Unit)


def _identity(info: Any) -> CameraIdentity:
    return CameraIdentity("basler", info.GetVendorName(), info.GetModelName(), info.GetSerialNumber())
