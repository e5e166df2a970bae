"""Cameras that describe themselves: the standard feature names of GenICam, whichever SDK reaches them.

Names, units and meanings: GenICam Standard Features Naming Convention (SFNC) 2.7 of the EMVA, with the
names of SFNC 1.x where older cameras still use them; pixel formats: Pixel Format Naming Convention (PFNC).
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from hardware.camera import CameraError, CameraRanges, CameraSettings, Roi
from hardware.cameras.settings import Feature, GainUnit
from hardware.clock import Clock
from models.language import _

CLOCKS_DIFFER = 1e-4
"""The quartz of a camera and that of a computer may go apart by this share."""
CLOCK_READINGS = 3
DEPTHS = (8, 10, 12, 14, 16)
_COLOURS = ("RGB8", "RGB8Packed", "BGR8", "BGR8Packed", "RGBa8", "BGRa8", "BGRA8Packed")
_MOSAICS = {
    "BayerRG": cv2.COLOR_BayerRGGB2RGB,
    "BayerGR": cv2.COLOR_BayerGRBG2RGB,
    "BayerGB": cv2.COLOR_BayerGBRG2RGB,
    "BayerBG": cv2.COLOR_BayerBGGR2RGB,
}


class Features(Protocol):
    """The node map of a camera. Any call may raise the error of its SDK."""

    def has(self, name: str) -> bool:
        """Whether the camera has this feature and it can be read now."""
        ...

    def writable(self, name: str) -> bool: ...
    def get(self, name: str) -> Any: ...
    def set(self, name: str, value: Any) -> None: ...
    def limits(self, name: str) -> tuple[float, float, float]:
        """Lowest, highest, step (0: none)."""
        ...

    def choices(self, name: str) -> tuple[str, ...]:
        """What an enumeration can be set to now."""
        ...

    def unit(self, name: str) -> str: ...
    def run(self, name: str) -> None:
        """Execute a command."""
        ...


@dataclass(frozen=True)
class CameraClock:
    """The camera's own clock, read at ``camera_s`` of its own seconds and not before ``host_began_s``."""

    camera_s: float
    host_began_s: float

    def host_s(self, stamp_s: float) -> float:
        """A stamp of the camera on the clock of ``time.monotonic()``, never later than the moment it stands for."""
        ahead_s = stamp_s - self.camera_s
        return self.host_began_s + ahead_s - CLOCKS_DIFFER * abs(ahead_s)


def read_clock(features: Features, clock: Clock) -> CameraClock | None:
    """The camera's clock beside that of the computer, None where it cannot be read.

    Between command and snapshot passes an unknown time, so the shortest of some readings is taken.
    """
    for latch, value in (("GevTimestampControlLatch", "GevTimestampValue"), ("TimestampLatch", "TimestampLatchValue")):
        if not features.writable(latch):
            continue
        readings = []
        for _reading in range(CLOCK_READINGS):
            began_s = clock.now()
            features.run(latch)
            taken_s = clock.now() - began_s
            readings.append((taken_s, began_s, int(features.get(value)) / ticks_per_s(features)))
        _taken_s, began_s, camera_s = min(readings)
        return CameraClock(camera_s, began_s)
    return None


def ticks_per_s(features: Features) -> float:
    """Of the camera's clock: the old GigE cameras say it, all others count nanoseconds."""
    if features.has("GevTimestampTickFrequency"):
        return float(features.get("GevTimestampTickFrequency")) or 1e9
    return 1e9


def switch_automatics_off(features: Features) -> None:
    """A stack is one exposure, one gain, one white balance: whatever adapts by itself is switched off."""
    for name, value in (
        ("ExposureAuto", "Off"),
        ("GainAuto", "Off"),
        ("BalanceWhiteAuto", "Off"),
        ("ExposureMode", "Timed"),
        ("AcquisitionMode", "Continuous"),
    ):
        if features.writable(name) and value in features.choices(name):
            features.set(name, value)


def set_features(camera_name: str, features: Features, values: dict[str, Feature]) -> None:
    """Features of this one camera, by the names of its manual, in the order of the profile."""
    for name, value in values.items():
        if not features.writable(name):
            raise CameraError(
                _("{camera} has no feature '{feature}' that can be set now.").format(camera=camera_name, feature=name)
            )
        features.set(name, value)


def trigger_by(features: Features, source: str) -> bool:
    """One picture per trigger from ``source`` ("Software", "Line1" ...); False where the camera has no such trigger."""
    if not features.has("TriggerSource") or source not in features.choices("TriggerSource"):
        return False
    if features.writable("TriggerSelector"):
        starts = features.choices("TriggerSelector")
        for start in starts:  # older cameras wait for an AcquisitionStart as well
            features.set("TriggerSelector", start)
            if features.writable("TriggerMode"):
                features.set("TriggerMode", "Off")
        if "FrameStart" in starts:
            features.set("TriggerSelector", "FrameStart")
    features.set("TriggerMode", "On")
    features.set("TriggerSource", source)
    return True


def ranges_of(features: Features, gain_unit: GainUnit | None, *, colour: bool) -> CameraRanges:
    """What the camera accepts. An exposure or gain that cannot be set has equal ends."""
    exposure = _exposure_name(features)
    if exposure is not None and features.writable(exposure):
        low_us, high_us, _step = features.limits(exposure)
        exposure_ms = (max(low_us, 1e-3) / 1000.0, high_us / 1000.0)
    else:
        exposure_ms = (_exposure_ms(features),) * 2
    gain = (1.0, 1.0)
    if features.writable("Gain"):
        low, high, _step = features.limits("Gain")
        factor_low, factor_high = (_factor(features, gain_unit, value) for value in (low, high))
        gain = (max(1.0, factor_low), max(1.0, factor_high))
    formats = pixel_formats(features, colour=colour)
    return CameraRanges(exposure_ms, gain, tuple(formats), _sensor_shape(features))


def settings_of(features: Features, gain_unit: GainUnit | None) -> CameraSettings:
    """What the camera uses now."""
    height, width = int(features.get("Height")), int(features.get("Width"))
    roi = None
    if _sensor_shape(features) not in (None, (height, width)):
        left, top = (int(features.get(name)) if features.has(name) else 0 for name in ("OffsetX", "OffsetY"))
        roi = Roi(left=left, top=top, width=width, height=height)
    gain = _factor(features, gain_unit, float(features.get("Gain"))) if features.has("Gain") else 1.0
    return CameraSettings(
        exposure_ms=_exposure_ms(features),
        gain=round(max(1.0, gain), 6),
        bit_depth=bits_of(str(features.get("PixelFormat"))) or 8,
        roi=roi,
    )


def write_settings(features: Features, settings: CameraSettings, gain_unit: GainUnit | None, *, colour: bool) -> None:
    """Set what can be set; the caller has checked the ranges, and no acquisition is running."""
    pixel_format = pixel_formats(features, colour=colour)[settings.bit_depth]
    if features.get("PixelFormat") != pixel_format:
        features.set("PixelFormat", pixel_format)
    _write_roi(features, settings.roi)
    exposure = _exposure_name(features)
    if exposure is not None and features.writable(exposure):
        features.set(exposure, _within(features.limits(exposure), settings.exposure_ms * 1000.0))
    if features.writable("Gain"):
        raw = settings.gain if _is_factor(features, gain_unit) else 20.0 * math.log10(settings.gain)
        features.set("Gain", _within(features.limits("Gain"), raw))


def choose_pixel_format(camera_name: str, features: Features, *, colour: bool) -> None:
    """Of the formats of the present depth the one wanted: a camera may stand at colour, or at packed values.

    Raises CameraError where the camera has none that :func:`decoded` understands.
    """
    formats = pixel_formats(features, colour=colour)
    present = str(features.get("PixelFormat"))
    if not formats:
        raise CameraError(
            _("{camera} delivers only pixel formats that cannot be read here: {formats}.").format(
                camera=camera_name, formats=", ".join(features.choices("PixelFormat")) or present
            )
        )
    wanted = formats.get(bits_of(present) or 8) or next(iter(formats.values()))
    if wanted != present:
        features.set("PixelFormat", wanted)


def pixel_formats(features: Features, *, colour: bool) -> dict[int, str]:
    """The format to use for every bit depth that the camera can deliver unpacked."""
    offered = features.choices("PixelFormat")
    found = {}
    for bits in DEPTHS:
        grey = [f"Mono{bits}"]
        coloured = [*(_COLOURS if bits == 8 else ()), *(f"{mosaic}{bits}" for mosaic in _MOSAICS)]
        wanted = [*coloured, *grey] if colour else [*grey, *coloured]
        best = next((name for name in wanted if name in offered), None)
        if best is not None:
            found[bits] = best
    return found


def bits_of(pixel_format: str) -> int | None:
    """Bits per value of a format that :func:`decoded` understands, otherwise None."""
    if pixel_format in _COLOURS:
        return 8
    for prefix in ("Mono", *_MOSAICS):
        digits = pixel_format.removeprefix(prefix)
        if digits != pixel_format and digits.isdigit() and int(digits) in DEPTHS:
            return int(digits)
    return None


def image_shape_of(features: Features) -> tuple[int, ...]:
    """(H, W) or (H, W, 3) of a picture with the settings in force."""
    shape = int(features.get("Height")), int(features.get("Width"))
    return (*shape, 3) if is_coloured(str(features.get("PixelFormat"))) else shape


def is_coloured(pixel_format: str) -> bool:
    """Whether :func:`decoded` makes an (H, W, 3) image of it."""
    return not pixel_format.startswith("Mono")


def decoded(values: NDArray[Any], pixel_format: str, shape: tuple[int, int]) -> NDArray[Any]:
    """The image (H, W) or RGB (H, W, 3) of a buffer: its own copy, since the SDK will fill the buffer again.

    The GenICam name of a mosaic gives the first two pixels of the first row; the four-letter names of OpenCV
    mean the same. (OpenCV's two-letter names look alike and are shifted by a pixel.)
    """
    height, width = shape
    mosaic = _MOSAICS.get(pixel_format.rstrip("0123456789"))
    if mosaic is not None:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(values.reshape(height, width)), mosaic))
    if not is_coloured(pixel_format):
        return np.array(values.reshape(height, width))
    pixels = values.reshape(height, width, -1)
    order = slice(2, None, -1) if pixel_format.startswith("BGR") else slice(0, 3)
    return np.array(pixels[:, :, order], order="C")


def _exposure_name(features: Features) -> str | None:
    return next((name for name in ("ExposureTime", "ExposureTimeAbs") if features.has(name)), None)


def _exposure_ms(features: Features) -> float:
    """Where the camera does not tell its exposure, the time between two pictures is an upper limit."""
    name = _exposure_name(features)
    if name is not None:
        return float(features.get(name)) / 1000.0
    if features.has("AcquisitionFrameRate"):
        return 1000.0 / float(features.get("AcquisitionFrameRate"))
    return 100.0


def _is_factor(features: Features, gain_unit: GainUnit | None) -> bool:
    """SFNC leaves the unit of Gain to the maker: most use dB; those that use a factor begin at 1 and name no unit."""
    if gain_unit is not None:
        return gain_unit == "factor"
    return features.unit("Gain").strip() in ("", "x") and features.limits("Gain")[0] == 1.0


def _factor(features: Features, gain_unit: GainUnit | None, raw: float) -> float:
    return raw if _is_factor(features, gain_unit) else 10.0 ** (raw / 20.0)


def _sensor_shape(features: Features) -> tuple[int, int] | None:
    names = ("HeightMax", "WidthMax")
    if not all(features.has(name) for name in names) or not all(map(features.writable, ("Width", "OffsetX"))):
        return None
    height, width = (int(features.get(name)) for name in names)
    return height, width


def _write_roi(features: Features, roi: Roi | None) -> None:
    """Offsets go to 0 first: they limit the size. Sizes and offsets are rounded down to what the sensor can do."""
    sensor = _sensor_shape(features)
    if sensor is None:
        return
    wanted = roi or Roi(width=sensor[1], height=sensor[0])
    for offset, size, start, length in (
        ("OffsetX", "Width", wanted.left, wanted.width),
        ("OffsetY", "Height", wanted.top, wanted.height),
    ):
        features.set(offset, int(features.limits(offset)[0]))
        features.set(size, int(_within(features.limits(size), length)))
        features.set(offset, int(_within(features.limits(offset), start)))


def _within(limits: tuple[float, float, float], value: float) -> float:
    low, high, step = limits
    value = min(max(value, low), high)
    return low + step * math.floor((value - low) / step + 1e-9) if step > 0 else value


def reason(error: Exception) -> str:
    """What an error of GenApi says, without the place in the SDK where it was raised."""
    return str(error).split(" : ")[0].strip().rstrip(".")
