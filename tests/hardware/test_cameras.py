"""What all camera drivers share: finding, opening, missing SDKs, standard features, pixel formats."""

import subprocess
import sys

import numpy as np
import pytest

import hardware.cameras
from hardware.camera import CameraError, CameraSettings, Roi
from hardware.cameras import DRIVERS, list_cameras, open_camera, sfnc
from hardware.cameras.settings import BaslerCameraProfile


@pytest.fixture
def without(monkeypatch):
    """Make as if a package were not installed."""

    def hide(package, module):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules, f"hardware.cameras.{module}", raising=False)
        monkeypatch.delattr(hardware.cameras, module, raising=False)

    return hide


def test_without_the_sdks_the_other_cameras_are_found_and_the_missing_package_is_named(without):
    for package, module in (("pypylon", "basler"), ("genicam", "genicam"), ("harvesters", "genicam")):
        without(package, module)
    found = list_cameras()
    assert set(found.unavailable) == {"basler", "genicam"}
    assert "pip install 'reliefscope[basler]'" in found.unavailable["basler"]
    assert "pip install 'reliefscope[genicam]'" in found.unavailable["genicam"]
    assert all(camera.driver == "uvc" for camera in found.cameras)
    with pytest.raises(CameraError, match=r"reliefscope\[basler\]"):
        open_camera(BaslerCameraProfile(driver="basler", sensor_pixel_um=3.0), lambda: 0.0)


def test_a_broken_sdk_hides_no_other_camera(monkeypatch):
    def broken():
        raise RuntimeError("no such interface")

    monkeypatch.setattr(hardware.cameras, "DRIVERS", {**DRIVERS, "basler": DRIVERS["uvc"]})
    monkeypatch.setattr("hardware.cameras.uvc.list_uvc", broken)
    assert "no such interface" in list_cameras().unavailable["uvc"]


def test_profiles_are_read_without_any_sdk():
    code = "import sys, hardware.profile; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pypylon", "genicam", "harvesters", "pymmcore", "pymmcore_plus"} & set(loaded)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize(
    ("mosaic", "places"),
    [
        ("BayerRG", "RGGB"),
        ("BayerGR", "GRBG"),
        ("BayerGB", "GBRG"),
        ("BayerBG", "BGGR"),
    ],
)
def test_a_colour_mosaic_gives_its_colours_back(mosaic, places, bits):
    """PFNC: the name gives the first two pixels of the first row; an even surface of one colour shows the order."""
    colour = dict(zip("RGB", (0.9 * 2**bits, 0.5 * 2**bits, 0.1 * 2**bits), strict=True))
    values = np.zeros((16, 20), np.uint8 if bits == 8 else np.uint16)
    for place, name in enumerate(places):
        values[place // 2 :: 2, place % 2 :: 2] = colour[name]
    image = sfnc.decoded(values.ravel(), f"{mosaic}{bits}", (16, 20))
    assert image.dtype == values.dtype
    np.testing.assert_allclose(image[4:-4, 4:-4], np.broadcast_to([*colour.values()], (8, 12, 3)), atol=1)


@pytest.mark.parametrize("pixel_format", ["RGB8", "RGBa8", "BGR8", "BGRa8", "BGR8Packed"])
def test_colours_come_in_rgb_order_without_alpha(pixel_format):
    order = [2, 1, 0] if pixel_format.startswith("BGR") else [0, 1, 2]
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    sent = rgb[..., order]
    if "a8" in pixel_format:
        sent = np.dstack([sent, np.full((6, 8), 255, np.uint8)])
    np.testing.assert_array_equal(sfnc.decoded(sent.ravel(), pixel_format, (6, 8)), rgb)
    assert sfnc.bits_of(pixel_format) == 8


def test_a_picture_is_a_copy_of_the_buffer():
    buffer = np.zeros(48 * 64, np.uint16)
    image = sfnc.decoded(buffer, "Mono12", (48, 64))
    buffer[:] = 7
    assert image.max() == 0


def test_packed_formats_are_not_taken_for_plain_ones():
    assert [sfnc.bits_of(name) for name in ("Mono12", "Mono12p", "Mono12Packed", "YUV422Packed", "Mono")] == [
        12,
        None,
        None,
        None,
        None,
    ]


class OldCamera:
    """The node map of a camera from before SFNC 2: other names, gain as a factor, a sensor with steps."""

    def __init__(self):
        self.values = {"ExposureTimeAbs": 10_000.0, "Gain": 1.0, "PixelFormat": "Mono12p", "Width": 1296}
        self.values |= {"Height": 966, "WidthMax": 1296, "HeightMax": 966, "OffsetX": 0, "OffsetY": 0}
        self.values |= {"TriggerSelector": "AcquisitionStart", "TriggerSource": "Line1", "ExposureAuto": "Continuous"}
        self.modes = {"AcquisitionStart": "On", "FrameStart": "Off"}

    def has(self, name):
        return name in self.values or name == "TriggerMode"

    writable = has

    def get(self, name):
        return self.values[name]

    def set(self, name, value):
        if name == "TriggerMode":
            self.modes[self.values["TriggerSelector"]] = value
            return
        if name in ("Width", "OffsetX"):
            assert value % 16 == 0
            assert self.values["OffsetX"] + self.values["Width"] <= 1296
        self.values[name] = value

    def limits(self, name):
        longest = {"Width": 1296 - self.values["OffsetX"], "Height": 966 - self.values["OffsetY"]}
        longest |= {"OffsetX": 1296 - self.values["Width"], "OffsetY": 966 - self.values["Height"]}
        if name in longest:
            return (0 if "Offset" in name else 16), longest[name], (16 if name in ("Width", "OffsetX") else 1)
        return {"ExposureTimeAbs": (35.0, 999_985.0, 35.0), "Gain": (1.0, 8.0, 0)}[name]

    def choices(self, name):
        return {
            "PixelFormat": ("Mono8", "Mono12p", "Mono12"),
            "TriggerSelector": ("AcquisitionStart", "FrameStart"),
            "TriggerSource": ("Software", "Line1"),
            "ExposureAuto": ("Off", "Continuous"),
        }.get(name, ())

    def unit(self, name):
        return ""


def test_a_camera_without_a_readable_pixel_format_names_those_that_it_has():
    camera = OldCamera()
    camera.choices = lambda name: ("Mono12p", "YUV422Packed")
    with pytest.raises(CameraError, match=r"Old delivers only .*Mono12p, YUV422Packed"):
        sfnc.choose_pixel_format("Old", camera, colour=False)


def test_an_older_camera_is_set_up_by_its_own_names_and_steps():
    camera = OldCamera()
    sfnc.switch_automatics_off(camera)
    assert camera.values["ExposureAuto"] == "Off"
    sfnc.choose_pixel_format("Old", camera, colour=False)
    assert camera.values["PixelFormat"] == "Mono8"  # packed values are not understood
    ranges = sfnc.ranges_of(camera, None, colour=False)
    assert ranges.exposure_ms == (0.035, 999.985)
    assert ranges.gain == (1.0, 8.0)
    assert ranges.bit_depths == (8, 12)
    assert ranges.sensor_shape == (966, 1296)
    wanted = CameraSettings(exposure_ms=5.0, gain=4.0, bit_depth=12, roi=Roi(left=100, top=7, width=201, height=99))
    sfnc.write_settings(camera, wanted, None, colour=False)
    used = sfnc.settings_of(camera, None)
    assert used.exposure_ms == pytest.approx(4.97, abs=0.02)
    assert (used.gain, used.bit_depth) == (4.0, 12)
    assert used.roi == Roi(left=96, top=7, width=192, height=99)
    sfnc.write_settings(camera, wanted.model_copy(update={"roi": None}), None, colour=False)
    assert sfnc.settings_of(camera, None).roi is None


def test_only_the_frame_start_waits_for_a_trigger():
    camera = OldCamera()
    assert sfnc.trigger_by(camera, "Software")
    assert camera.modes == {"AcquisitionStart": "Off", "FrameStart": "On"}
    assert not sfnc.trigger_by(camera, "Line7")


def test_the_profile_decides_what_gain_means_where_the_camera_leaves_it_open():
    camera = OldCamera()
    camera.values["Gain"] = 6.0
    assert sfnc.settings_of(camera, None).gain == 6.0
    assert sfnc.settings_of(camera, "dB").gain == pytest.approx(10 ** (6 / 20))


class Stopwatch:
    """A clock of the computer in virtual time."""

    def __init__(self):
        self.seconds = 100.0

    def now(self):
        return self.seconds


class Ticking:
    """A camera whose clock counts ``frequency`` ticks per second, ``share`` too fast, and which answers late."""

    def __init__(self, clock, latch, value, frequency, share=0.0, answers_s=(0.03, 0.002, 0.05)):
        self.clock, self.latch, self.value, self.frequency, self.share = clock, latch, value, frequency, share
        self.answers_s = list(answers_s)

    def ticks(self):
        return round((self.clock.seconds + 5000.0) * (1 + self.share) * self.frequency)

    def writable(self, name):
        return name == self.latch

    def has(self, name):
        return name == "GevTimestampTickFrequency" and self.latch.startswith("Gev")

    def get(self, name):
        return self.frequency if name == "GevTimestampTickFrequency" else {self.value: self.latched}[name]

    def run(self, _name):
        wait_s = self.answers_s.pop(0) / 2
        self.clock.seconds += wait_s
        self.latched = self.ticks()
        self.clock.seconds += wait_s


@pytest.mark.parametrize(
    ("latch", "value", "frequency"),
    [
        ("TimestampLatch", "TimestampLatchValue", 10**9),
        ("GevTimestampControlLatch", "GevTimestampValue", 125_000_000),
    ],
)
@pytest.mark.parametrize("share", [0.0, 5e-5, -5e-5])
def test_a_stamp_of_the_camera_is_never_taken_for_later_than_it_was(latch, value, frequency, share):
    clock = Stopwatch()
    camera = Ticking(clock, latch, value, frequency, share)
    own = sfnc.read_clock(camera, clock)
    for after_s in (0.0, 0.5, 20.0):
        clock.seconds += after_s
        said_s = own.host_s(camera.ticks() / sfnc.ticks_per_s(camera))
        assert clock.seconds - 0.1 < said_s <= clock.seconds


def test_a_camera_without_a_clock_is_known_by_it():
    clock = Stopwatch()
    assert sfnc.read_clock(Ticking(clock, "", "", 1), clock) is None
