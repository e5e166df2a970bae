"""Any GenICam camera (GigE Vision, USB3 Vision, CoaXPress ...) by harvesters and the GenTL producer of its maker.

API: harvesters, https://github.com/genicam/harvesters; producers are .cti files that come with the maker's
software and are named by GENICAM_GENTL64_PATH, as the GenTL standard has it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genicam import genapi, gentl
from harvesters.core import Harvester
from numpy.typing import NDArray

from hardware.camera import CameraDisconnected, CameraError, CameraIdentity
from hardware.cameras import sfnc
from hardware.cameras.settings import GenicamCameraProfile
from hardware.cameras.triggered import BUFFERS, Received, SfncCamera
from hardware.clock import Clock
from models.language import _

PRODUCER_PATHS = "GENICAM_GENTL64_PATH"
READABLE, WRITABLE = (genapi.EAccessMode.RO, genapi.EAccessMode.RW), (genapi.EAccessMode.WO, genapi.EAccessMode.RW)


def producers() -> list[Path]:
    """The GenTL producers that the makers' installers have registered."""
    folders = [Path(folder) for folder in os.environ.get(PRODUCER_PATHS, "").split(os.pathsep) if folder]
    return sorted(path for folder in folders for path in folder.glob("*.cti"))


def list_genicam() -> list[CameraIdentity]:
    """The cameras that the registered producers see now; none is opened."""
    harvester = _harvester(producers())
    try:
        return [_identity(info) for info in harvester.device_info_list]
    finally:
        harvester.reset()


class GenicamCamera(SfncCamera):
    """A :class:`hardware.camera.TriggeredCamera`. Raises CameraError where the camera cannot be opened."""

    def __init__(self, profile: GenicamCameraProfile, clock: Clock | None = None) -> None:
        self._producer = profile.producer
        self._harvester: Any = None
        self._acquirer: Any = None
        super().__init__(profile, clock, _("GenICam camera {serial}").format(serial=profile.serial).strip())

    def close(self) -> None:
        harvester, acquirer = self._harvester, self._acquirer
        self._harvester = self._acquirer = None
        for release in (acquirer and acquirer.destroy, harvester and harvester.reset):
            try:
                if release is not None:
                    release()
            except (gentl.GenericException, genapi.GenericException):
                continue  # a camera that is gone cannot be closed in good order

    def _open(self) -> None:
        files = [self._producer] if self._producer else producers()
        if not files:
            raise CameraError(
                _(
                    "No GenTL producer is installed. Install the software of the camera's maker, or name its .cti "
                    "file in the profile."
                )
            )
        self._harvester = _harvester(files)
        found = [_identity(info) for info in self._harvester.device_info_list]
        wanted = next((identity for identity in found if self._profile.serial in ("", identity.serial)), None)
        if wanted is None:
            raise CameraDisconnected(
                _("{camera} is not connected. Cameras found: {serials}. Check its cable and its power.").format(
                    camera=self.name, serials=", ".join(identity.serial for identity in found) or _("none")
                )
            )
        self.identity = wanted
        self.name = f"{wanted.vendor} {wanted.model} ({wanted.serial})"
        try:
            self._acquirer = self._harvester.create(found.index(wanted))
        except (gentl.GenericException, genapi.GenericException) as error:
            raise CameraError(
                _("{camera} cannot be opened: {reason}. Does another program use it?").format(
                    camera=self.name, reason=sfnc.reason(error)
                )
            ) from error
        with self._plain_errors():
            self._acquirer.num_buffers = max(BUFFERS, self._acquirer.min_num_buffers)
            self._features = _GenapiFeatures(self._acquirer.remote_device.node_map)

    def _begin(self, frame_count: int | None = None) -> None:
        self._acquirer.start()

    def _end(self) -> None:
        self._acquirer.stop()

    def _is_ready(self) -> bool:
        return True

    def _empty_queue(self) -> None:
        for _buffer in range(self._acquirer.num_buffers):
            buffer = self._acquirer.try_fetch(timeout=0.001)
            if buffer is None:
                return
            buffer.queue()

    def _receive(self, timeout_s: float) -> Received | None:
        buffer = self._acquirer.try_fetch(timeout=max(timeout_s, 0.001))  # 0 would mean forever
        if buffer is None:
            return None
        try:
            # Producers stamp the beginning or the end of the exposure and do not say which: the earlier one counts.
            ticks = buffer.timestamp
            exposure_s = self.settings.exposure_ms / 1000.0
            stamp_s = ticks / buffer.timestamp_frequency - exposure_s if ticks else None
            return Received(self._image(buffer), _number(buffer), stamp_s)
        finally:
            buffer.queue()

    def _image(self, buffer: Any) -> NDArray[Any]:
        """harvesters throws incomplete ones away."""
        part = buffer.payload.components[0]
        return sfnc.decoded(part.data, part.data_format, (part.height, part.width))

    def _is_there(self) -> bool:
        try:
            self._harvester.update()
            return any(_identity(info) == self.identity for info in self._harvester.device_info_list)
        except gentl.GenericException:
            return False

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """The errors of producer and camera as sentences that name the camera."""
        if self._acquirer is None:
            raise CameraDisconnected(_("{camera} is not connected.").format(camera=self.name))
        try:
            yield
        except (gentl.GenericException, genapi.GenericException) as error:
            if not self._is_there():
                raise CameraDisconnected(
                    _("{camera} is gone. Plug it in again and connect.").format(camera=self.name)
                ) from error
            raise CameraError(
                _("{camera} reports: {reason}.").format(camera=self.name, reason=sfnc.reason(error))
            ) from error


class _GenapiFeatures:
    """A node map of GenApi as :class:`hardware.cameras.sfnc.Features`."""

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes

    def has(self, name: str) -> bool:
        return self._nodes.has_node(name) and self._nodes.get_node(name).get_access_mode() in (*READABLE, *WRITABLE)

    def writable(self, name: str) -> bool:
        return self._nodes.has_node(name) and self._nodes.get_node(name).get_access_mode() in WRITABLE

    def get(self, name: str) -> Any:
        return self._nodes.get_node(name).value

    def set(self, name: str, value: Any) -> None:
        self._nodes.get_node(name).value = value

    def limits(self, name: str) -> tuple[float, float, float]:
        node = self._nodes.get_node(name)
        step = node.inc if not hasattr(node, "has_inc") or node.has_inc() else 0  # whole numbers always have one
        return node.min, node.max, step

    def choices(self, name: str) -> tuple[str, ...]:
        return tuple(self._nodes.get_node(name).symbolics)

    def unit(self, name: str) -> str:
        return str(self._nodes.get_node(name).unit)

    def run(self, name: str) -> None:
        self._nodes.get_node(name).execute()


def _number(buffer: Any) -> int | None:
    try:
        return int(buffer.module.frame_id)
    except gentl.GenericException:  # a producer need not count
        return None


def _harvester(paths: list[Path]) -> Harvester:
    harvester = Harvester()
    try:
        for path in paths:
            producer = gentl.GenTLProducer.create_producer()
            producer.open(str(path))  # harvesters only logs that a file is no producer
            producer.close()
            harvester.add_file(str(path))
        harvester.update()
    except (OSError, gentl.GenericException) as error:
        raise CameraError(
            _("The GenTL producer {path} cannot be used: {reason}.").format(path=path, reason=sfnc.reason(error))
        ) from error
    return harvester


def _identity(info: Any) -> CameraIdentity:
    def known(name: str) -> str:
        try:
            return str(getattr(info, name) or "")
        except gentl.GenericException:  # a producer need not know it
            return ""

    return CameraIdentity("genicam", known("vendor"), known("model"), known("serial_number") or known("id_"))
