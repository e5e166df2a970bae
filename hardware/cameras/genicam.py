"""Any GenICam camera (GigE Vision, USB3 Vision, CoaXPress ...) by harvesters and the GenTL producer of its maker.

API: harvesters, https://github.com/genicam/harvesters; producers are .cti files that come with the maker's
software and are named by GENICAM_GENTL64_PATH, as the GenTL standard has it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from genicam import genapi, gentl
from harvesters.core import Harvester
from numpy.typing import NDArray

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
from hardware.cameras.settings import GenicamCameraProfile
from hardware.clock import Clock
from models.language import _

TRIES = 3
BUFFERS = 8
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


class GenicamCamera:
    """A :class:`hardware.camera.TriggeredCamera`. Raises CameraError where the camera cannot be opened.

    A picture is new because its software trigger is sent after the call, with nothing left in the queue. A camera
    without software trigger is started for every picture and stopped after it, which costs some frame times.
    """

    def __init__(self, profile: GenicamCameraProfile, clock: Clock | None = None) -> None:
        self._profile = profile
        self._clock = clock or Clock()
        self._dropped = 0
        self._wanted = profile.settings
        self._harvester: Any = None
        self._acquirer: Any = None
        self._name = _("GenICam camera {serial}").format(serial=profile.serial).strip()
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
        with self._plain_errors():
            check_settings(self._name, settings, self._ranges)
            self._acquirer.stop()
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
            self._acquirer.stop()
            if not sfnc.trigger_by(self._features, line):
                self._start()
                raise CameraError(_("{camera} has no trigger input {line}.").format(camera=self._name, line=line))
            self._acquirer.start()

    def next_picture(self, timeout_s: float) -> Picture:
        with self._plain_errors():
            image = self._fetch(timeout_s)
            arrived_s = self._clock.now()
        if image is None:
            self._dropped += 1
            raise CameraError(
                _("{camera}: no complete picture within {seconds:g} s. Is the trigger line connected?").format(
                    camera=self._name, seconds=timeout_s
                )
            )
        return Picture(image, arrived_s - self._settings.exposure_ms / 1000.0)

    def disarm(self) -> None:
        with self._plain_errors():
            self._acquirer.stop()
            self._start()

    def reconnect(self) -> None:
        self.close()
        files = [self._profile.producer] if self._profile.producer else producers()
        if not files:
            raise CameraError(
                _(
                    "No GenTL producer is installed. Install the software of the camera's maker, or name its .cti "
                    "file in the profile."
                )
            )
        self._harvester = _harvester(files)
        try:
            self._acquirer = self._opened()
            with self._plain_errors():
                self._acquirer.num_buffers = max(BUFFERS, self._acquirer.min_num_buffers)
                self._features = _GenapiFeatures(self._acquirer.remote_device.node_map)
                sfnc.switch_automatics_off(self._features)
                sfnc.set_features(self._name, self._features, self._profile.features)
                sfnc.choose_pixel_format(self._name, self._features, colour=self._profile.colour)
                self._ranges = sfnc.ranges_of(self._features, self._profile.gain_unit, colour=self._profile.colour)
                self._read_back()
                self._start()
            if self._wanted is not None:
                self.apply(self._wanted)
        except CameraError:
            self.close()
            raise

    def close(self) -> None:
        harvester, acquirer = self._harvester, self._acquirer
        self._harvester = self._acquirer = None
        for release in (acquirer and acquirer.destroy, harvester and harvester.reset):
            try:
                if release is not None:
                    release()
            except (gentl.GenericException, genapi.GenericException):
                continue  # a camera that is gone cannot be closed in good order

    def _opened(self) -> Any:
        found = [(info, _identity(info)) for info in self._harvester.device_info_list]
        for index, (_info, identity) in enumerate(found):
            if self._profile.serial in ("", identity.serial):
                self._identity = identity
                self._name = f"{identity.vendor} {identity.model} ({identity.serial})"
                try:
                    return self._harvester.create(index)
                except (gentl.GenericException, genapi.GenericException) as error:
                    raise CameraError(
                        _("{camera} cannot be opened: {reason}. Does another program use it?").format(
                            camera=self._name, reason=sfnc.reason(error)
                        )
                    ) from error
        raise CameraDisconnected(
            _("{camera} is not connected. Cameras found: {serials}. Check its cable and its power.").format(
                camera=self._name, serials=", ".join(identity.serial for _info, identity in found) or _("none")
            )
        )

    def _start(self) -> None:
        self._triggered = self._features.has("TriggerSoftware") and sfnc.trigger_by(self._features, "Software")
        if self._triggered:
            self._acquirer.start()

    def _read_back(self) -> None:
        self._settings = sfnc.settings_of(self._features, self._profile.gain_unit)
        self._image_shape = sfnc.image_shape_of(self._features)

    def _try_to_snap(self) -> Picture | None:
        """None where the picture is late or corrupt; then nothing of it is left in the queue."""
        patience_s = self._settings.exposure_ms / 1000.0 + self._profile.timeout_s
        if self._triggered:
            self._empty_queue()
        began_s = self._clock.now()
        if self._triggered:
            self._features.run("TriggerSoftware")
            image = self._fetch(patience_s)
            if image is None:
                self._acquirer.stop()
                self._acquirer.start()
        else:
            self._acquirer.start()
            try:
                image = self._fetch(patience_s)
            finally:
                self._acquirer.stop()
        return None if image is None else Picture(image, began_s)

    def _empty_queue(self) -> None:
        """Throw away pictures that nobody asked for: one that came late after an earlier trigger, say."""
        for _buffer in range(self._acquirer.num_buffers):
            buffer = self._acquirer.try_fetch(timeout=0.001)
            if buffer is None:
                return
            buffer.queue()

    def _fetch(self, timeout_s: float) -> NDArray[Any] | None:
        """The next picture; None where none came in time, or an incomplete one."""
        buffer = self._acquirer.try_fetch(timeout=max(timeout_s, 0.001))  # 0 would mean forever
        if buffer is None:
            return None
        try:
            part = buffer.payload.components[0]
            return sfnc.decoded(part.data, part.data_format, (part.height, part.width))
        finally:
            buffer.queue()

    def _is_there(self) -> bool:
        try:
            self._harvester.update()
            return any(_identity(info) == self._identity for info in self._harvester.device_info_list)
        except gentl.GenericException:
            return False

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """The errors of producer and camera as sentences that name the camera."""
        if self._acquirer is None:
            raise CameraDisconnected(_("{camera} is not connected.").format(camera=self._name))
        try:
            yield
        except (gentl.GenericException, genapi.GenericException) as error:
            if not self._is_there():
                raise CameraDisconnected(
                    _("{camera} is gone. Plug it in again and connect.").format(camera=self._name)
                ) from error
            raise CameraError(
                _("{camera} reports: {reason}.").format(camera=self._name, reason=sfnc.reason(error))
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
