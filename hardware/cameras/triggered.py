"""Cameras that describe themselves and take one picture per trigger; how that is said to an SDK, drivers add."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from hardware.camera import CameraError, CameraSettings, Picture, check_settings
from hardware.cameras import sfnc
from hardware.cameras.base import CameraBase
from hardware.cameras.settings import BaslerCameraProfile, GenicamCameraProfile
from hardware.clock import Clock
from models.language import _

TRIES = 3
BUFFERS = 8


@dataclass(frozen=True)
class Received:
    """What came for one trigger. ``image``: None where the transfer was incomplete. ``number``: the camera's count of
    its pictures, None where it does not count. ``stamp_s``: when it says that the exposure began, or at the latest
    began, in seconds of its own clock; None where it says nothing."""

    image: NDArray[Any] | None
    number: int | None
    stamp_s: float | None


class SfncCamera(CameraBase, ABC):
    """A :class:`hardware.camera.TriggeredCamera`. Raises CameraError where the camera cannot be opened.

    A picture is new because its software trigger is sent after the call, with nothing left in the queue; after a
    time-out the acquisition is started afresh, so that a late picture cannot be taken for the next one. A camera
    without software trigger is started for every picture and stopped after it, which costs some frame times.

    A picture of a series belongs to its pulse because the camera's count has no gap and because the camera's own
    clock says when it began. A camera that cannot tell is not armed.
    """

    _features: sfnc.Features

    def __init__(self, profile: BaslerCameraProfile | GenicamCameraProfile, clock: Clock | None, name: str) -> None:
        self.name = name
        self._profile = profile
        self._clock = clock or Clock()
        self._wanted = profile.settings
        self._own_clock: sfnc.CameraClock | None = None
        self._next_number: int | None = None
        self.reconnect()

    def apply(self, settings: CameraSettings) -> None:
        with self._plain_errors():
            check_settings(self.name, settings, self.ranges)
            self._end()
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
            self.dropped_frames += 1
        raise CameraError(
            _("{camera} sent no usable picture in {n} tries. Check its cable and its power.").format(
                camera=self.name, n=TRIES
            )
        )

    def arm(self, frame_count: int) -> None:
        line = self._profile.trigger_line
        with self._plain_errors():
            self._end()
            self._own_clock = sfnc.read_clock(self._features, self._clock)
            known = self._own_clock is not None and sfnc.trigger_by(self._features, line)
            if known:
                self._next_number = None
                self._begin(frame_count)
                self._is_ready()
                return
            lines = self._features.choices("TriggerSource") if self._features.has("TriggerSource") else ()
            self._start()
        if line not in lines:
            raise CameraError(
                _("{camera} has no trigger input {line}; choose one of {lines}.").format(
                    camera=self.name, line=line, lines=", ".join(lines) or _("none")
                )
            )
        raise self._no_clock()

    def next_picture(self, timeout_s: float) -> Picture:
        with self._plain_errors():
            received = self._receive(timeout_s)
        if received is None:
            raise CameraError(
                _("{camera}: no trigger pulse within {seconds:g} s. Is the trigger line connected?").format(
                    camera=self.name, seconds=timeout_s
                )
            )
        expected, number = self._next_number, received.number
        self._next_number = None if number is None else number + 1
        if received.image is None or (None not in (expected, number) and expected != number):
            self.dropped_frames += 1
            raise CameraError(_("{camera} lost a picture of the series.").format(camera=self.name))
        own_clock = self._own_clock
        if received.stamp_s is None or own_clock is None:
            raise self._no_clock()
        began_s = own_clock.host_s(received.stamp_s)
        if not own_clock.host_began_s <= began_s <= self._clock.now():
            raise CameraError(
                _("{camera}: the time of a picture does not fit to its clock; it may be an old one.").format(
                    camera=self.name
                )
            )
        return Picture(received.image, began_s)

    def disarm(self) -> None:
        with self._plain_errors():
            self._end()
            self._start()

    def reconnect(self) -> None:
        self.close()
        try:
            self._open()
            with self._plain_errors():
                sfnc.switch_automatics_off(self._features)
                sfnc.set_features(self.name, self._features, self._profile.features)
                sfnc.choose_pixel_format(self.name, self._features, colour=self._profile.colour)
                self.ranges = sfnc.ranges_of(self._features, self._profile.gain_unit, colour=self._profile.colour)
                self._read_back()
                self._start()
            if self._wanted is not None:
                self.apply(self._wanted)
        except CameraError:
            self.close()
            raise

    # --- what the SDK does; all but close and _plain_errors within the latter

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _plain_errors(self) -> AbstractContextManager[None]:
        """The SDK's errors as sentences that name the camera; CameraDisconnected where it is not there."""

    @abstractmethod
    def _open(self) -> None:
        """Find and open the camera of the profile: ``name``, ``identity``, ``_features``. Raises CameraError."""

    @abstractmethod
    def _begin(self, frame_count: int | None = None) -> None:
        """Start the acquisition; None: of any number of pictures."""

    @abstractmethod
    def _end(self) -> None:
        """Stop the acquisition; harmless where none runs."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Wait until the camera takes the next trigger, not forever. True where it cannot tell."""

    @abstractmethod
    def _empty_queue(self) -> None:
        """Throw away pictures that nobody asked for: one that came late after an earlier trigger, say."""

    @abstractmethod
    def _receive(self, timeout_s: float) -> Received | None:
        """The next picture; None where none came in time."""

    def _start(self) -> None:
        self._triggered = sfnc.trigger_by(self._features, "Software")
        if self._triggered and not self._features.writable("TriggerSoftware"):
            self._triggered = False
            self._features.set("TriggerMode", "Off")
        if self._triggered:
            self._begin()

    def _read_back(self) -> None:
        """What the camera made of the settings."""
        self.settings = sfnc.settings_of(self._features, self._profile.gain_unit)
        self.image_shape = sfnc.image_shape_of(self._features)
        self._pixel_format = str(self._features.get("PixelFormat"))

    def _try_to_snap(self) -> Picture | None:
        """None where the picture is late or corrupt; then nothing of it is left in the queue."""
        patience_s = self.settings.exposure_ms / 1000.0 + self._profile.timeout_s
        if not self._triggered:
            began_s = self._clock.now()
            self._begin(1)
            try:
                received = self._receive(patience_s)
            finally:
                self._end()
        elif self._is_ready():
            self._empty_queue()
            began_s = self._clock.now()
            self._features.run("TriggerSoftware")
            received = self._receive(patience_s)
        else:
            received = None
        if received is None and self._triggered:
            self._end()
            self._begin()
        return None if received is None or received.image is None else Picture(received.image, began_s)

    def _no_clock(self) -> CameraError:
        return CameraError(
            _(
                "{camera} does not tell by a clock of its own when a picture began, so that no picture of a series can "
                "be proved to belong to its pulse."
            ).format(camera=self.name)
        )
