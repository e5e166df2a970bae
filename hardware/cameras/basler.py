"""Basler cameras by the maker's SDK pylon: 8 to 16 bit, one software trigger per picture.

API: pypylon, https://github.com/basler/pypylon. With PYLON_CAMEMU=1 in the environment the SDK brings an
emulated camera, which can show image files; the tests use it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from numpy.typing import NDArray
from pypylon import genicam, pylon

from hardware.camera import CameraDisconnected, CameraError, CameraIdentity
from hardware.cameras import sfnc
from hardware.cameras.settings import BaslerCameraProfile
from hardware.cameras.triggered import BUFFERS, Received, SfncCamera
from hardware.clock import Clock
from models.language import _

READY_MS = 1000
NO_NUMBER = 2**64 - 1


def list_basler() -> list[CameraIdentity]:
    """The Basler cameras that pylon sees now; none is opened."""
    return [_identity(info) for info in pylon.TlFactory.GetInstance().EnumerateDevices()]


class BaslerCamera(SfncCamera):
    """A :class:`hardware.camera.TriggeredCamera`. Raises CameraError where the camera cannot be opened."""

    def __init__(self, profile: BaslerCameraProfile, clock: Clock | None = None) -> None:
        self._camera = pylon.InstantCamera()
        super().__init__(profile, clock, _("Basler camera {serial}").format(serial=profile.serial).strip())

    def close(self) -> None:
        with suppress(genicam.GenericException):  # a camera that is gone cannot be closed in good order
            self._camera.Close()
        with suppress(genicam.GenericException):
            self._camera.DestroyDevice()

    def _open(self) -> None:
        factory = pylon.TlFactory.GetInstance()
        found = factory.EnumerateDevices()
        wanted = next((info for info in found if self._profile.serial in ("", info.GetSerialNumber())), None)
        if wanted is None:
            raise CameraDisconnected(
                _("{camera} is not connected. Cameras found: {serials}. Check its cable and its power.").format(
                    camera=self.name, serials=", ".join(info.GetSerialNumber() for info in found) or _("none")
                )
            )
        try:
            self._camera.Attach(factory.CreateDevice(wanted))
        except genicam.GenericException as error:
            raise CameraError(
                _("{camera} cannot be opened: {reason}. Does another program use it?").format(
                    camera=self.name, reason=sfnc.reason(error)
                )
            ) from error
        with self._plain_errors():
            self._camera.Open()
            info = self._camera.GetDeviceInfo()
            self.identity = _identity(info)
            self.name = f"{info.GetVendorName()} {info.GetModelName()} ({info.GetSerialNumber()})"
            self._features = _PylonFeatures(self._camera.GetNodeMap())
            self._ticks_per_s = sfnc.ticks_per_s(self._features)
            self._camera.MaxNumBuffer.Value = BUFFERS

    def _begin(self, frame_count: int | None = None) -> None:
        if frame_count is None:
            self._camera.StartGrabbing(pylon.GrabStrategy_OneByOne)
        else:
            self._camera.StartGrabbingMax(frame_count, pylon.GrabStrategy_OneByOne)

    def _end(self) -> None:
        self._camera.StopGrabbing()

    def _is_ready(self) -> bool:
        """Some cameras cannot tell; those queue a trigger."""
        camera = self._camera
        return not camera.CanWaitForFrameTriggerReady() or bool(
            camera.WaitForFrameTriggerReady(READY_MS, pylon.TimeoutHandling_Return)
        )

    def _empty_queue(self) -> None:
        while self._camera.GetGrabResultWaitObject().Wait(0):
            self._camera.RetrieveResult(0, pylon.TimeoutHandling_Return).Release()

    def _receive(self, timeout_s: float) -> Received | None:
        result = self._camera.RetrieveResult(round(timeout_s * 1000), pylon.TimeoutHandling_Return)
        if not result.IsValid():
            return None
        # pylon: the stamp is that of the beginning of the exposure, 0 where the camera gives none.
        number, ticks = int(result.BlockID), int(result.TimeStamp)
        stamp_s = ticks / self._ticks_per_s if ticks else None
        return Received(self._image(result), None if number == NO_NUMBER else number, stamp_s)

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
            raise CameraDisconnected(_("{camera} is not connected.").format(camera=self.name))
        try:
            yield
        except genicam.GenericException as error:
            if self._camera.IsCameraDeviceRemoved():
                raise CameraDisconnected(
                    _("{camera} is gone. Plug it in again and connect.").format(camera=self.name)
                ) from error
            raise CameraError(
                _("{camera} reports: {reason}.").format(camera=self.name, reason=sfnc.reason(error))
            ) from error


class _PylonFeatures:
    """A node map of pylon as :class:`hardware.cameras.sfnc.Features`."""

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes

    def has(self, name: str) -> bool:
        node = self._nodes.GetNode(name)
        return node is not None and bool(genicam.IsReadable(node))

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

    def run(self, name: str) -> None:
        self._nodes.GetNode(name).Execute()


def _identity(info: Any) -> CameraIdentity:
    return CameraIdentity("basler", info.GetVendorName(), info.GetModelName(), info.GetSerialNumber())
