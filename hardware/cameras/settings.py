"""The ``[camera]`` section of a profile, one model per driver. No SDK is imported here."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hardware.camera import CameraSettings

Feature = bool | int | float | str
GainUnit = Literal["dB", "factor"]


class CameraSection(BaseModel):
    """What every real camera needs: its pixel, and the settings to begin with (None: as the camera stands)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensor_pixel_um: float = Field(gt=0, le=1000)
    settings: CameraSettings | None = None
    timeout_s: float = Field(default=2.0, gt=0, le=60)
    """How long a picture may be late, beyond its exposure."""


class UvcCameraProfile(CameraSection):
    """A USB video (UVC) camera, by OpenCV."""

    driver: Literal["uvc"]
    index: int = Field(default=0, ge=0)
    """The number of the camera: /dev/video<index> on Linux, the order of the system elsewhere."""
    width: int | None = Field(default=None, ge=8)
    height: int | None = Field(default=None, ge=8)
    fourcc: str | None = Field(default=None, min_length=3, max_length=4)
    """The format on the wire, such as "YUYV" (unspoilt) or "MJPG" (compressed); None: OpenCV's choice."""
    colour: bool = False
    unit_gain: float | None = Field(default=None, gt=0)
    """The camera's own number for a gain of 1, where its numbers are proportional to the gain; None: left alone."""
    latency_ms: float = Field(default=100.0, ge=0)
    """How long a picture may be on its way from the sensor, for systems that do not stamp pictures with a time."""


class BaslerCameraProfile(CameraSection):
    """A Basler camera, by pypylon."""

    driver: Literal["basler"]
    serial: str = ""
    """Serial number; empty: the first camera found."""
    colour: bool = False
    gain_unit: GainUnit | None = None
    trigger_line: str = "Line1"
    """Where the stage's controller is wired to, for stacks timed by the hardware."""
    features: dict[str, Feature] = {}
    """Any other feature of the camera, by the name in its manual; set in this order on opening."""


class GenicamCameraProfile(CameraSection):
    """Any GenICam camera, by harvesters and the GenTL producer (.cti) of its maker."""

    driver: Literal["genicam"]
    producer: Path | None = None
    """The .cti file; None: those that GENICAM_GENTL64_PATH names."""
    serial: str = ""
    colour: bool = False
    gain_unit: GainUnit | None = None
    trigger_line: str = "Line1"
    features: dict[str, Feature] = {}


class ReplayCameraProfile(CameraSection):
    """A stack that exists already - folder, TIFF, video, .h5 - as a camera."""

    driver: Literal["replay"]
    path: Path
    order: Literal["height", "sequence"] = "height"
    """"height": the frame nearest to the height of the stage; "sequence": one after the other, then again."""
    step_um: float | None = Field(default=None, gt=0)
    """Distance of the frames, the first at ``first_um``; None: as the file says."""
    first_um: float | None = None
    descending: bool = False


class MicroManagerCameraProfile(CameraSection):
    """The camera of a Micro-Manager configuration."""

    driver: Literal["micromanager"]
    configuration: Path | None = None
    """The .cfg file; None: the demonstration configuration of Micro-Manager."""
    folder: Path | None = None
    """Where the device adapters are; None: the installation found by pymmcore-plus."""
    device: str = ""
    """Label of the camera; empty: the configuration's default camera."""
    properties: dict[str, str] = {}
    """Properties of the camera, set in this order on opening."""
    unit_gain: float | None = Field(default=None, gt=0)
    """The number of the property Gain for a gain of 1, where it is proportional to the gain; None: left alone."""


RealCameraProfile = (
    UvcCameraProfile | BaslerCameraProfile | GenicamCameraProfile | ReplayCameraProfile | MicroManagerCameraProfile
)

SECTIONS: dict[str, type[RealCameraProfile]] = {
    "uvc": UvcCameraProfile,
    "basler": BaslerCameraProfile,
    "genicam": GenicamCameraProfile,
    "replay": ReplayCameraProfile,
    "micromanager": MicroManagerCameraProfile,
}
