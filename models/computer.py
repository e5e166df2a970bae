"""This computer and what is installed on it, as records of measurements name them."""

import os
import platform
from importlib import metadata as packages
from pathlib import Path

from models.schema import software_version

_PACKAGES = ("torch", "openvino", "numpy")
"""What times depend on most."""


def processor_name() -> str:
    """The name the processor gives itself; where the system tells none, its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_gib() -> float | None:
    """Of the whole computer, None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def versions() -> dict[str, str]:
    """Of this program, Python and the packages that compute."""
    found = {"reliefscope": software_version(), "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:
            continue
    return found
