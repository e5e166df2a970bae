"""What is connected: serial ports, the controllers that answer on them, and cameras.

Controllers are asked who they are (:mod:`hardware.recognition`); nothing moves. Ports are asked side by side.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from serial.tools import list_ports

from hardware.camera import CameraIdentity
from hardware.cameras import CamerasFound, list_cameras
from hardware.recognition import identify_port, question_count
from hardware.stage import StageError
from hardware.stages.driver import StageDriver
from hardware.stages.registry import DRIVERS, FoundStage
from models.errors import Cancelled
from models.language import _

_NEVER_ASKED = ("bluetooth", "bthenum", "debug-console", "wlan-debug")
"""Ports that belong to the system; opening one may wait for a telephone."""
PORTS_AT_ONCE = 16


@dataclass(frozen=True)
class SerialPort:
    """A port of this machine, and what its plug says about itself (empty where it says nothing).

    ``usb_vendor``: who made the plug, a number. ``is_asked``: False where it is asked only by name.
    """

    name: str
    description: str = ""
    serial_number: str = ""
    usb_vendor: int | None = None
    is_asked: bool = True


@dataclass(frozen=True)
class PortAnswer:
    """Who answered on a port; None: nobody. ``problem``: why it could not be asked, a sentence for the user."""

    port: SerialPort
    stage: FoundStage | None = None
    problem: str = ""


@dataclass(frozen=True)
class Found:
    """Ports in the order of their names, and cameras."""

    ports: tuple[PortAnswer, ...]
    cameras: CamerasFound

    @property
    def stages(self) -> tuple[FoundStage, ...]:
        return tuple(answer.stage for answer in self.ports if answer.stage is not None)


def serial_ports() -> tuple[SerialPort, ...]:
    """The serial ports that the system knows, by name. None is opened."""
    found = []
    for port in sorted(list_ports.comports()):
        description = "" if port.description in ("n/a", port.device, None) else port.description
        words = f"{port.device} {port.hwid}".lower()
        is_asked = not any(word in words for word in _NEVER_ASKED)
        found.append(SerialPort(port.device, description, port.serial_number or "", port.vid, is_asked))
    return tuple(found)


def search(
    ports: Iterable[str] | None = None,
    *,
    drivers: Sequence[StageDriver] | None = None,
    cameras: Callable[[], CamerasFound] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    told: Callable[[str], None] = lambda words: None,
    cancel: threading.Event | None = None,
) -> Found:
    """Ask on these ports, None: on all that the system lists, who is there; look for cameras.

    ``progress`` counts questions, ``told`` is told in words on which ports an answer is waited for. Both are called
    from several threads, never from two at once. Raises Cancelled.
    """
    cancel = cancel or threading.Event()
    kinds = tuple(DRIVERS.values()) if drivers is None else tuple(drivers)
    known = {port.name: port for port in serial_ports()}
    if ports is None:
        asked = [port for port in known.values() if port.is_asked]
    else:
        asked = [known.get(name, SerialPort(name)) for name in dict.fromkeys(ports)]
    questions = {port.name: question_count(kinds, port.usb_vendor) for port in asked}
    state = _State(questions, progress, told)

    def ask(port: SerialPort) -> PortAnswer:
        try:
            stage = identify_port(
                port.name, kinds, usb_vendor=port.usb_vendor, asked=lambda: state.asked(port.name), cancel=cancel
            )
        except StageError as error:
            return PortAnswer(port, problem=str(error).removeprefix(f"{_('The controller')}: "))
        finally:
            state.ended(port.name)
        return PortAnswer(port, stage)

    with ThreadPoolExecutor(PORTS_AT_ONCE, thread_name_prefix="search") as threads:
        answers = threads.map(ask, asked)
        seen = (cameras or list_cameras)()
        state.ended(_CAMERAS)
        found = Found(tuple(answers), seen)
    if cancel.is_set():
        raise Cancelled
    return found


def camera_section(camera: CameraIdentity) -> dict[str, Any]:
    """The part of a profile's section [camera] that chooses this camera."""
    if camera.driver == "uvc":
        return {"driver": "uvc", "index": int(camera.serial)}
    return {"driver": camera.driver, **({"serial": camera.serial} if camera.serial else {})}


def is_camera(section: Mapping[str, Any], camera: CameraIdentity) -> bool:
    """Whether a profile's section [camera] means this camera."""
    return all(section.get(name) == value for name, value in camera_section(camera).items())


_CAMERAS = ""


class _State:
    """What is still to be done, told to whoever waits."""

    def __init__(
        self, questions: Mapping[str, int], progress: Callable[[int, int], None], told: Callable[[str], None]
    ) -> None:
        self._left = {**questions, _CAMERAS: 1}
        self._total = sum(self._left.values())
        self._progress, self._told = progress, told
        self._lock = threading.Lock()
        self._tell_ports()

    def asked(self, port: str) -> None:
        with self._lock:
            self._left[port] = max(self._left[port] - 1, 0)
            self._progress(self._total - sum(self._left.values()), self._total)

    def ended(self, port: str) -> None:
        with self._lock:
            del self._left[port]
            self._progress(self._total - sum(self._left.values()), self._total)
            self._tell_ports()

    def _tell_ports(self) -> None:
        waited_for = ", ".join(port or _("cameras") for port in self._left)
        if waited_for:
            self._told(_("Asking {ports}").format(ports=waited_for))
