import itertools
import math
import threading

import numpy as np
import pytest

from hardware.autofocus import autofocus
from hardware.camera import CameraError, Picture
from hardware.profile import load_profile, open_microscope
from hardware.stage import StageLimitError, StageStopped
from models.errors import Cancelled, InputError


def opened(name="simulated-sphere", **changes):
    camera = {"image_shape": (96, 128), **changes.pop("camera", {})}
    return open_microscope(load_profile(name).changed(time_scale=math.inf, camera=camera, **changes))


@pytest.mark.parametrize("start_um", [-50.0, 0.0, 60.0])
@pytest.mark.parametrize("low_high_um", [(-60.0, 60.0), (-12.0, 15.0), (-7.0, 100.0)])
def test_finds_a_nearly_flat_surface_within_a_tenth_of_the_depth_of_field(start_um, low_high_um):
    microscope = opened(stage={"start_um": start_um})
    result = autofocus(microscope.axis, microscope.camera, *low_high_um, step_um=2.0)
    truth_um = float(np.median(microscope.known_surface.height_um))
    assert result.trusted
    assert result.z_um == pytest.approx(truth_um, abs=0.6)
    assert microscope.axis.position_um() == pytest.approx(result.z_um, abs=0.02)
    assert result.reason == ""
    assert len(result.curve) == len(result.curve_z_um)
    assert np.all(np.diff(result.curve_z_um) > 0)


def test_on_a_relief_it_finds_one_of_its_levels():
    microscope = opened("simulated-step", camera={"image_shape": (256, 256)})
    result = autofocus(microscope.axis, microscope.camera, -60.0, 60.0, step_um=2.0)
    assert result.trusted
    assert min(abs(result.z_um), abs(result.z_um + 20.0)) < 1.0


@pytest.mark.parametrize("low_high_um", [(8.0, 60.0), (-60.0, -6.0)])
def test_a_peak_outside_the_range_is_not_trusted_and_the_stage_returns(low_high_um):
    microscope = opened(stage={"start_um": 42.0})
    result = autofocus(microscope.axis, microscope.camera, *low_high_um, step_um=2.0)
    assert not result.trusted
    assert "end of the range" in result.reason
    assert microscope.axis.position_um() == pytest.approx(42.0, abs=0.02)


def test_old_and_lost_pictures_are_taken_again():
    microscope = opened()
    camera, snap, kinds = microscope.camera, microscope.camera.snap, itertools.cycle(["good", "late", "good", "old"])

    def unreliable():
        kind = next(kinds)
        if kind == "late":
            raise CameraError("No picture in time.")
        picture = snap()
        return Picture(np.zeros_like(picture.image), picture.time_s - 1.0) if kind == "old" else picture

    camera.snap = unreliable
    result = autofocus(microscope.axis, camera, -30.0, 30.0, step_um=2.0)
    assert result.trusted
    assert result.z_um == pytest.approx(float(np.median(microscope.known_surface.height_um)), abs=0.6)


def test_darkness_is_not_trusted():
    microscope = opened(camera={"light_e_per_ms": 1e-4, "read_noise_e": 30.0})
    result = autofocus(microscope.axis, microscope.camera, -40.0, 40.0, step_um=2.0)
    assert not result.trusted
    assert "No height is clearly sharper" in result.reason


def test_checks_limits_before_moving():
    microscope = opened()
    before = microscope.axis.position_um()
    with pytest.raises(StageLimitError):
        autofocus(microscope.axis, microscope.camera, -5000.0, 0.0, step_um=2.0)
    with pytest.raises(InputError):
        autofocus(microscope.axis, microscope.camera, 10.0, -10.0, step_um=2.0)
    assert microscope.axis.position_um() == before


def test_reports_progress_and_can_be_cancelled_or_stopped():
    microscope = opened()
    seen = []
    autofocus(microscope.axis, microscope.camera, -40.0, 40.0, step_um=2.0, progress=lambda a, b: seen.append((a, b)))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _total in seen] == sorted(done for done, _total in seen)

    cancel = threading.Event()
    with pytest.raises(Cancelled):
        autofocus(
            microscope.axis, microscope.camera, -40.0, 40.0, step_um=2.0, cancel=cancel,
            progress=lambda done, _total: cancel.set() if done == 3 else None,
        )  # fmt: skip
    with pytest.raises(StageStopped):
        autofocus(
            microscope.axis, microscope.camera, -40.0, 40.0, step_um=2.0,
            progress=lambda done, _total: microscope.axis.stop() if done == 3 else None,
        )  # fmt: skip
