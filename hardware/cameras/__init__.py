"""Cameras, one file per SDK: what there is, what is connected, how to open it.

How a driver is built: a class that satisfies :class:`hardware.camera.Camera` in ``hardware/cameras/<name>.py``,
which imports its SDK at the top and builds on :class:`hardware.cameras.base.CameraBase` - or, where the camera
describes itself by the standard names of GenICam, on :class:`hardware.cameras.triggered.SfncCamera`; a section of the
profile in :mod:`hardware.cameras.settings`, which imports none; a line in ``DRIVERS`` below, which imports the driver
when it is asked for; a profile in ``resources/profiles``. Every error of the SDK leaves the driver as a CameraError
that names the camera and says what to do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from hardware.camera import Camera, CameraError, CameraIdentity
from hardware.cameras.settings import RealCameraProfile, ReplayCameraProfile
from hardware.clock import Clock
from models.errors import ReliefscopeError
from models.language import N_, _


@dataclass(frozen=True)
class CameraDriver:
    """``module``, ``opener`` and ``lister`` are names, so that no SDK is loaded before it is used.

    ``sdk``: the packages without which the module cannot be imported; ``extra``: what to install for them.
    """

    title: str
    module: str
    opener: str
    lister: str | None = None
    sdk: tuple[str, ...] = ()
    extra: str = ""


DRIVERS = {
    "uvc": CameraDriver(N_("USB video (UVC)"), "uvc", "UvcCamera", "list_uvc"),
    "basler": CameraDriver(N_("Basler"), "basler", "BaslerCamera", "list_basler", ("pypylon",), "basler"),
    "genicam": CameraDriver(
        N_("GenICam"), "genicam", "GenicamCamera", "list_genicam", ("genicam", "harvesters"), "genicam"
    ),
    "replay": CameraDriver(N_("Replay of a stack"), "replay", "ReplayCamera"),
    "micromanager": CameraDriver(N_("Micro-Manager"), "micromanager", "MicroManagerCamera"),
}


@dataclass(frozen=True)
class CamerasFound:
    """The cameras that are connected, and for every driver that could not look the reason as a sentence."""

    cameras: tuple[CameraIdentity, ...]
    unavailable: dict[str, str]


def list_cameras() -> CamerasFound:
    """Look for cameras with every driver that can, without opening one. Never raises for a missing or broken SDK."""
    cameras: list[CameraIdentity] = []
    unavailable = {}
    for name, driver in DRIVERS.items():
        if driver.lister is None:
            continue
        try:
            cameras += _of(driver, driver.lister)()
        except ReliefscopeError as error:
            unavailable[name] = str(error)
        except Exception as error:  # an SDK in a state that nobody foresaw must not hide the other cameras
            unavailable[name] = _("{driver} cannot look for cameras: {reason}").format(
                driver=_(driver.title), reason=error
            )
    return CamerasFound(tuple(cameras), unavailable)


def open_camera(section: RealCameraProfile, focus_um: Callable[[], float], clock: Clock | None = None) -> Camera:
    """Connect to the camera of a profile's section. ``focus_um`` tells the height to those that show known pictures.

    Raises CameraError.
    """
    driver = DRIVERS[section.driver]
    camera = _of(driver, driver.opener)
    if isinstance(section, ReplayCameraProfile):
        opened: Camera = camera(section, clock, focus_um)
    else:
        opened = camera(section, clock)
    return opened


def _of(driver: CameraDriver, name: str) -> Callable[..., Any]:
    try:
        module = import_module(f"{__name__}.{driver.module}")
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] in driver.sdk:
            raise CameraError(
                _("Cameras of the kind {driver} need one more package: pip install 'reliefscope[{extra}]'.").format(
                    driver=_(driver.title), extra=driver.extra
                )
            ) from error
        raise CameraError(
            _("The software for cameras of the kind {driver} does not start: {reason}").format(
                driver=_(driver.title), reason=error
            )
        ) from error
    found: Callable[..., Any] = getattr(module, name)
    return found
