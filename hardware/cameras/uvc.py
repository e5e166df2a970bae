"""USB video (UVC) cameras by OpenCV: 8 bit, and 16 bit grey where the camera has the format Y16.

How the systems differ, from the sources of OpenCV's videoio: V4L2 (Linux) counts exposure in 100 us, needs
AUTO_EXPOSURE = 1 for "manual" and stamps every picture on the clock of ``time.monotonic()``; DirectShow (Windows)
sets exposure to a power of two seconds, which also makes it manual; AVFoundation (macOS) sets nothing.
"""

import math
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
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
    check_settings,
)
from hardware.cameras.base import CameraBase
from hardware.cameras.settings import UvcCameraProfile
from hardware.clock import Clock
from models.language import _

SYSTEM_CAMERAS = Path("/sys/class/video4linux")
OPEN_S = 20.0
"""DirectShow and slow cameras take their time to open."""
PICTURES_UNTIL_SETTINGS_ACT = 3
FAILED_GRABS = 3
COARSEST_STEP = 1.5
"""A camera may round exposure and gain by this factor; DirectShow knows only powers of two."""
Y16 = cv2.VideoWriter.fourcc(*"Y16 ")

Result = TypeVar("Result")


@dataclass(frozen=True)
class _System:
    """One back end of OpenCV: its number, the value that makes exposure manual, the unit of exposure, whether it
    stamps pictures with the time, and how many it may keep in its queue."""

    api: int
    manual: float | None
    raw_of_ms: Callable[[float], float] | None
    ms_of_raw: Callable[[float], float]
    stamps_pictures: bool
    queue: int


def _power_of_two_seconds(exposure_ms: float) -> float:
    return float(round(math.log2(exposure_ms / 1000.0)))


V4L2 = _System(cv2.CAP_V4L2, 1.0, lambda ms: float(round(ms * 10.0)), lambda raw: raw / 10.0, True, 4)
DIRECT_SHOW = _System(cv2.CAP_DSHOW, None, _power_of_two_seconds, lambda raw: 1000.0 * 2.0**raw, False, 1)
AV_FOUNDATION = _System(cv2.CAP_AVFOUNDATION, None, None, lambda raw: raw, False, 1)
THIS_SYSTEM = {"linux": V4L2, "win32": DIRECT_SHOW}.get(sys.platform, AV_FOUNDATION)


def list_uvc() -> list[CameraIdentity]:
    """The cameras of the system; ``serial`` is their index. On Linux none is opened."""
    if SYSTEM_CAMERAS.is_dir():
        found = []
        for entry in sorted(SYSTEM_CAMERAS.glob("video*"), key=lambda entry: int(entry.name.removeprefix("video"))):
            if (entry / "index").read_text().strip() == "0":  # further nodes of a camera carry no pictures
                name = (entry / "name").read_text().strip()
                found.append(CameraIdentity("uvc", model=name, serial=entry.name.removeprefix("video")))
        return found
    if sys.platform.startswith("linux"):
        return []
    found = []
    for index in range(4):
        capture = cv2.VideoCapture(index, THIS_SYSTEM.api)
        if capture.isOpened():
            found.append(CameraIdentity("uvc", model=_("USB camera {n}").format(n=index), serial=str(index)))
        capture.release()
    return found


class UvcCamera(CameraBase):
    """A :class:`hardware.camera.Camera`. Raises CameraError where the camera cannot be opened.

    The system keeps a few pictures in a queue, and a camera cannot be told to take one now, so pictures are thrown
    away until one is proved to be new. Where the system stamps pictures, the stamp less exposure and read-out must
    not be earlier than the request: some drivers stamp the beginning of a picture, some its end. Elsewhere a picture
    counts only after as many as the queue may hold, if it had to be waited for - so the queue was empty - and if it
    came later than the request by at least the exposure and ``latency_ms``. ``open_capture`` is for tests.
    """

    def __init__(
        self,
        profile: UvcCameraProfile,
        clock: Clock | None = None,
        *,
        open_capture: Callable[[int, int], Any] = cv2.VideoCapture,
        system: _System = THIS_SYSTEM,
    ) -> None:
        self._profile = profile
        self._clock = clock or Clock()
        self._open_capture = open_capture
        self._system = system
        self._wanted = profile.settings
        self._calls: CallThread | None = None
        self.identity = next(
            (found for found in list_uvc() if found.serial == str(profile.index)) if system is V4L2 else iter(()),
            CameraIdentity("uvc", model=_("USB camera {n}").format(n=profile.index), serial=str(profile.index)),
        )
        self.name = self.identity.model
        self.reconnect()

    def apply(self, settings: CameraSettings) -> None:
        check_settings(self.name, settings, self.ranges)
        self._call(lambda: self._write(settings), OPEN_S)
        self._wanted = settings

    def snap(self) -> Picture:
        asked_s = self._clock.now()
        slack_s = (self.settings.exposure_ms + self._profile.latency_ms) / 1000.0
        pictures = 2 + self._stale + self._system.queue
        patience_s = self._profile.timeout_s + pictures * (slack_s + self._frame_s)
        return self._call(lambda: self._newer_than(asked_s, asked_s + patience_s), patience_s)

    def reconnect(self) -> None:
        self.close()
        self._calls = CallThread(f"camera {self._profile.index}")
        try:
            self._call(self._open, OPEN_S)
            if self._wanted is not None:
                self.apply(self._wanted)
        except CameraError:
            self.close()
            raise

    def close(self) -> None:
        calls, self._calls = self._calls, None
        if calls is None:
            return
        with suppress(TimeoutError):  # a call hangs in the driver; the system closes the camera with the program
            calls.run(self._release, self._profile.timeout_s)
        calls.close()

    def _call(self, call: Callable[[], Result], timeout_s: float) -> Result:
        if self._calls is None:
            raise CameraDisconnected(_("{camera} is closed.").format(camera=self.name))
        try:
            return self._calls.run(call, timeout_s + 1.0)
        except TimeoutError:
            raise CameraDisconnected(
                _("{camera} does not answer. Pull its cable, plug it in again and connect.").format(camera=self.name)
            ) from None

    # --- in the thread of the calls

    def _open(self) -> None:
        profile, system = self._profile, self._system
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(
            cv2.utils.logging.LOG_LEVEL_SILENT
        )  # what OpenCV would print is said below, to people
        try:
            self._capture = capture = self._open_capture(profile.index, system.api)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not capture.isOpened():
            raise CameraDisconnected(
                _("There is no camera {n}, or another program uses it. Check its cable.").format(n=profile.index)
            )
        if profile.fourcc is not None:
            self._set_or_refuse(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*profile.fourcc.ljust(4)), profile.fourcc)
        for what, wanted in ((cv2.CAP_PROP_FRAME_WIDTH, profile.width), (cv2.CAP_PROP_FRAME_HEIGHT, profile.height)):
            if wanted is not None:
                capture.set(what, wanted)
        height, width = (int(capture.get(what)) for what in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        if (height, width) != (profile.height or height, profile.width or width):
            raise CameraError(
                _("{camera} has no pictures of {width} × {height} pixels; it offers {w} × {h}.").format(
                    camera=self.name, width=profile.width, height=profile.height, w=width, h=height
                )
            )
        self._switch_automatics_off()
        self._shape = height, width
        self._frame_s = 1.0 / (capture.get(cv2.CAP_PROP_FPS) or 30.0)
        self._usual_format = capture.get(cv2.CAP_PROP_FOURCC)
        depths = (8, 16) if self._has_y16() else (8,)
        self.ranges = CameraRanges(self._exposure_range_ms(), self._gain_range(), depths)
        self._read_back(bit_depth=8)

    def _switch_automatics_off(self) -> None:
        """Raises CameraError where one that makes the frames of a stack differ stays on. A camera without it says -1;
        of other systems than V4L2 it is not known what they answer."""
        for what, off, title, matters in (
            (cv2.CAP_PROP_AUTO_WB, 0.0, _("white balance"), self._profile.colour),
            (cv2.CAP_PROP_AUTOFOCUS, 0.0, _("focus"), True),
            (cv2.CAP_PROP_AUTO_EXPOSURE, self._system.manual, _("exposure"), True),
        ):
            if off is None:
                continue
            self._capture.set(what, off)
            if matters and self._system is V4L2 and self._capture.get(what) not in (off, -1.0):
                raise CameraError(
                    _(
                        "{camera} does not switch its automatic {what} off, so that the frames of a stack would "
                        "differ. Switch it off with the camera's own software, or take another camera."
                    ).format(camera=self.name, what=title)
                )

    def _release(self) -> None:
        self._capture.release()

    def _write(self, settings: CameraSettings) -> None:
        """What the camera does not take is an error, and what it had before is set again."""
        before = self.settings
        self._set(settings)
        left_out = self._left_out(settings)
        if left_out:
            self._set(before)
            raise CameraError(left_out)

    def _left_out(self, wanted: CameraSettings) -> str:
        """What the camera did not take, a sentence; empty where all is as wanted, but for the steps of its numbers."""
        if int(self._capture.get(cv2.CAP_PROP_FOURCC)) != Y16 and wanted.bit_depth == 16:
            return _("{camera} did not change to 16 bit.").format(camera=self.name)
        for what, want, got in (
            (_("an exposure of {value:g} ms"), wanted.exposure_ms, self.settings.exposure_ms),
            (_("a gain of {value:g}"), wanted.gain, self.settings.gain),
        ):
            if not 1 / COARSEST_STEP < got / want < COARSEST_STEP:
                return _("{camera} did not take {what}; it stays at {got:g}.").format(
                    camera=self.name, what=what.format(value=want), got=got
                )
        return ""

    def _set(self, settings: CameraSettings) -> None:
        capture, system, now = self._capture, self._system, self.settings
        if settings.bit_depth != now.bit_depth:
            deep = settings.bit_depth == 16
            capture.set(cv2.CAP_PROP_FOURCC, Y16 if deep else self._usual_format)
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0 if deep else 1)
        if system.raw_of_ms is not None and settings.exposure_ms != now.exposure_ms:
            capture.set(cv2.CAP_PROP_EXPOSURE, system.raw_of_ms(settings.exposure_ms))
        if self._profile.unit_gain is not None and settings.gain != now.gain:
            capture.set(cv2.CAP_PROP_GAIN, round(settings.gain * self._profile.unit_gain))
        self._read_back(settings.bit_depth)

    def _read_back(self, bit_depth: int) -> None:
        gain = 1.0
        if self._profile.unit_gain is not None:
            gain = max(1.0, self._capture.get(cv2.CAP_PROP_GAIN) / self._profile.unit_gain)
        self.settings = CameraSettings(exposure_ms=self._exposure_ms(), gain=gain, bit_depth=bit_depth)
        grey = bit_depth == 16 or not self._profile.colour
        self.image_shape = self._shape if grey else (*self._shape, 3)
        self._stale = PICTURES_UNTIL_SETTINGS_ACT

    def _exposure_ms(self) -> float:
        """Where the camera does not tell, its exposure cannot be longer than the time between two pictures."""
        raw = self._capture.get(cv2.CAP_PROP_EXPOSURE)
        known = self._system.raw_of_ms is not None and (raw > 0 or self._system is DIRECT_SHOW)
        return self._system.ms_of_raw(raw) if known else 1000.0 * self._frame_s

    def _exposure_range_ms(self) -> tuple[float, float]:
        """Drivers clamp what is out of range, so the ends are found by asking for too little and too much."""
        to_raw, present = self._system.raw_of_ms, self._capture.get(cv2.CAP_PROP_EXPOSURE)
        if to_raw is None or not self._capture.set(cv2.CAP_PROP_EXPOSURE, to_raw(0.1)):
            return (self._exposure_ms(),) * 2
        low_ms = self._exposure_ms()
        self._capture.set(cv2.CAP_PROP_EXPOSURE, to_raw(60_000.0))
        high_ms = self._exposure_ms()
        self._capture.set(cv2.CAP_PROP_EXPOSURE, present)
        return min(low_ms, high_ms), max(low_ms, high_ms)

    def _gain_range(self) -> tuple[float, float]:
        unit, present = self._profile.unit_gain, self._capture.get(cv2.CAP_PROP_GAIN)
        if unit is None or not self._capture.set(cv2.CAP_PROP_GAIN, 10_000 * unit):
            return 1.0, 1.0
        high = self._capture.get(cv2.CAP_PROP_GAIN) / unit
        self._capture.set(cv2.CAP_PROP_GAIN, present)
        return 1.0, max(1.0, high)

    def _has_y16(self) -> bool:
        """OpenCV falls back to another format without a word: only the format read back tells."""
        self._capture.set(cv2.CAP_PROP_FOURCC, Y16)
        has_it = int(self._capture.get(cv2.CAP_PROP_FOURCC)) == Y16
        self._capture.set(cv2.CAP_PROP_FOURCC, self._usual_format)
        return has_it

    def _set_or_refuse(self, what: int, value: float, asked_for: str) -> None:
        self._capture.set(what, value)
        if self._capture.get(what) != value:
            raise CameraError(_("{camera} has no format {format}.").format(camera=self.name, format=asked_for))

    def _newer_than(self, asked_s: float, deadline_s: float) -> Picture:
        failures = grabbed = 0
        while self._clock.now() < deadline_s:
            before_s = self._clock.now()
            if not self._capture.grab():
                failures += 1
                if failures == FAILED_GRABS:
                    raise CameraDisconnected(
                        _("{camera} sends nothing. Check its cable and connect again.").format(camera=self.name)
                    )
                continue
            grabbed += 1
            began_s = self._exposure_began(before_s, self._clock.now(), grabbed)
            if began_s is None or began_s < asked_s:
                continue
            if self._stale:
                self._stale -= 1
                continue
            image = self._retrieved()
            if image is not None:
                return Picture(image, began_s)
            self.dropped_frames += 1
        raise CameraError(
            _("{camera} sent no new picture within {seconds:.1f} s.").format(
                camera=self.name, seconds=deadline_s - asked_s
            )
        )

    def _exposure_began(self, before_s: float, after_s: float, grabbed: int) -> float | None:
        """Not later than the beginning of the exposure; None where nothing can be said."""
        exposure_s = self.settings.exposure_ms / 1000.0
        if self._system.stamps_pictures:
            stamp_s = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000.0
            if before_s - 60.0 < stamp_s <= after_s:  # otherwise it is no stamp, or of another clock
                return stamp_s - exposure_s - self._frame_s
        if grabbed <= self._system.queue or after_s - before_s < self._frame_s / 4:
            return None
        return after_s - exposure_s - self._profile.latency_ms / 1000.0

    def _retrieved(self) -> NDArray[Any] | None:
        """The picture grabbed last; None where it is corrupt, as pictures compressed on the wire may be."""
        good, image = self._capture.retrieve()
        if not good or image is None:
            return None
        if self.settings.bit_depth == 16:  # some versions of OpenCV deliver Y16 as one long row, or as bytes
            values = np.ascontiguousarray(image).view(np.uint16)
            return values.reshape(self._shape).copy() if values.size == math.prod(self._shape) else None
        if image.shape[:2] != self._shape:
            return None
        if image.ndim == 2:
            return np.array(image) if not self._profile.colour else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB))
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB if self._profile.colour else cv2.COLOR_BGR2GRAY))
