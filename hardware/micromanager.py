"""One Micro-Manager core per configuration, shared by its stage and its camera.

pymmcore-plus (https://pymmcore-plus.github.io/pymmcore-plus) finds the installation of Micro-Manager and brings
the core; of the core the plain class is used, since the events of the other one choose Qt by themselves and were
seen to abort Python at its end. Loading a configuration applies its preset "Startup" of the group "System", which
may move what it names: that preset belongs to whoever wrote the configuration.

Any call may hang in a device adapter, so every one that may reach an adapter is made in a thread of its own and waited
for a limited time; a call that never returns keeps its thread, not the program.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hardware.calls import CallThread
from models.errors import ReliefscopeError
from models.language import _

if TYPE_CHECKING:
    from pymmcore import CMMCore

DEMONSTRATION = "MMConfig_demo.cfg"
"""Comes with every installation, beside the device adapters."""

LOAD_S = 60.0
UNLOAD_S = 10.0

_open: dict[tuple[Path | None, Path | None], "tuple[CMMCore, int]"] = {}
_lock = threading.Lock()


class MicroManagerError(ReliefscopeError):
    """The configuration cannot be loaded, or a device of it fails."""


def acquire_core(configuration: Path | None, folder: Path | None) -> "CMMCore":
    """The core with this configuration loaded; whoever asks second gets the same. Raises MicroManagerError."""
    key = (configuration, folder)
    with _lock:
        core, users = _open.get(key) or (_loaded(*key), 0)
        _open[key] = (core, users + 1)
        return core


def release_core(core: "CMMCore") -> None:
    """The last one to release a core unloads its devices."""
    with _lock:
        for key, (known, users) in list(_open.items()):
            if known is not core:
                continue
            if users > 1:
                _open[key] = (core, users - 1)
                continue
            del _open[key]
            calls = CallThread("Micro-Manager unloads")
            with suppress(TimeoutError):  # a device that hangs keeps its thread; nobody uses the core any more
                calls.run(lambda: _unload(core), UNLOAD_S)
            calls.close()


@contextmanager
def plain_errors(device: str, kind: type[ReliefscopeError]) -> Iterator[None]:
    """Errors of Micro-Manager as sentences of the given ``kind`` that name the device; TimeoutError stays."""
    try:
        yield
    except TimeoutError:  # an OSError, too, but of whoever waits for the call
        raise
    except (RuntimeError, OSError) as error:
        raise kind(
            _("{device} reports: {reason}.").format(device=device, reason=str(error).strip().rstrip("."))
        ) from error


def _loaded(configuration: Path | None, folder: Path | None) -> "CMMCore":
    try:  # here, so that profiles of other microscopes can be read without it
        from pymmcore import CMMCore
        from pymmcore_plus import configure_logging, find_micromanager
    except ImportError as error:
        raise MicroManagerError(
            _("Devices of Micro-Manager need one more package: pip install 'reliefscope[micromanager]'.")
        ) from error
    configure_logging(file=None, log_to_stderr=False)
    found = str(folder) if folder is not None else find_micromanager()
    if found is None:
        raise MicroManagerError(
            _("Micro-Manager is not installed. Install it with 'mmcore install', or name its folder in the profile.")
        )
    file = (configuration or Path(found) / DEMONSTRATION).absolute()
    if not file.is_file():
        raise MicroManagerError(_("There is no Micro-Manager configuration {file}.").format(file=file))
    core = CMMCore()
    core.enableFeature("StrictInitializationChecks", True)
    core.setDeviceAdapterSearchPaths([found])
    calls = CallThread("Micro-Manager loads")
    try:
        calls.run(lambda: _load(core, file), LOAD_S)
    except TimeoutError:
        raise MicroManagerError(
            _(
                "Micro-Manager has not loaded {file} within {seconds:g} s: one of its devices does not answer. Check "
                "their cables and power, and start this program again."
            ).format(file=file, seconds=LOAD_S)
        ) from None
    finally:
        calls.close()
    return core


def _load(core: "CMMCore", file: Path) -> None:
    try:
        core.loadSystemConfiguration(str(file))
    except (RuntimeError, OSError) as error:
        core.reset()
        raise MicroManagerError(
            _("The Micro-Manager configuration {file} cannot be loaded: {reason}").format(file=file, reason=error)
        ) from error


def _unload(core: "CMMCore") -> None:
    try:
        core.unloadAllDevices()
    except RuntimeError:  # a device that is gone cannot say good-bye
        core.reset()
