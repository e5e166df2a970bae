"""What is connected: serial ports, the controllers that answer on them, and cameras.

Controllers are asked who they are, in queries that move nothing. Ports are asked side by side.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from serial.tools import list_ports

from hardware.camera import CameraIdentity
from hardware.cameras import CamerasFound, list_cameras
from hardware.stage import StageError
from hardware.stages.driver import StageDriver
from hardware.stages.registry import DRIVERS, FoundStage, identify_port
from models.errors import Cancelled

_NEVER_ASKED = ("bluetooth", "debug-console", "wlan-debug")
"""Ports of macOS that belong to the system; opening one may wait for a telephone."""
PORTS_AT_ONCE = 8


@dataclass(frozen=True)
class SerialPort:
    """A port of this machine, and what its plug says about itself (empty where it says nothing)."""

    name: str
    description: str = ""
    serial_number: str = ""


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
        found.append(SerialPort(port.device, description, port.serial_number or ""))
    return tuple(found)


def search(
    ports: Iterable[str] | None = None,
    *,
    drivers: Sequence[StageDriver] | None = None,
    cameras: Callable[[], CamerasFound] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    cancel: threading.Event | None = None,
) -> Found:
    """Ask on these ports, None: on all that the system lists, who is there; look for cameras.

    ``progress`` counts questions and is called from several threads, never from two at once. Raises Cancelled.
    """
    cancel = cancel or threading.Event()
    kinds = tuple(DRIVERS.values()) if drivers is None else tuple(drivers)
    known = {port.name: port for port in serial_ports()}
    if ports is None:
        asked = [port for port in known.values() if not any(word in port.name.lower() for word in _NEVER_ASKED)]
    else:
        asked = [known.get(name, SerialPort(name)) for name in dict.fromkeys(ports)]
    count = _Count(len(asked) * len(kinds) + 1, progress)

    def ask(port: SerialPort) -> PortAnswer:
        for number, driver in enumerate(kinds):
            if cancel.is_set():
                break
            try:
                stage = identify_port(port.name, (driver,))
            except StageError as error:
                count.add(len(kinds) - number)
                return PortAnswer(port, problem=str(error).removeprefix(f"{driver.title}: "))
            count.add(1 if stage is None else len(kinds) - number)
            if stage is not None:
                return PortAnswer(port, stage)
        return PortAnswer(port)

    with ThreadPoolExecutor(PORTS_AT_ONCE, thread_name_prefix="search") as threads:
        answers = threads.map(ask, asked)
        seen = (cameras or list_cameras)()
        count.add(1)
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


class _Count:
    def __init__(self, total: int, progress: Callable[[int, int], None]) -> None:
        self._done, self._total, self._progress = 0, total, progress
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            self._done += number
            self._progress(self._done, self._total)
