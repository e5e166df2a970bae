"""A simulated microscope that is small and does not wait."""

import math
from collections.abc import Iterator

import pytest

from hardware.profile import Microscope, load_profile, open_microscope

SMALL = {"image_shape": (96, 128)}


@pytest.fixture
def microscope() -> Iterator[Microscope]:
    """In virtual time: one thread only."""
    with open_microscope(load_profile("simulated").changed(time_scale=math.inf, camera=SMALL)) as opened:
        yield opened


@pytest.fixture
def running_microscope() -> Iterator[Microscope]:
    """In real time, and slow enough that a second thread can interfere."""
    profile = load_profile("simulated").changed(camera=SMALL, stage={"speed_um_s": 200.0})
    with open_microscope(profile) as opened:
        yield opened
