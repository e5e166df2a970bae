"""From the stage to the height map: every simulated surface is captured and reconstructed."""

import math

import numpy as np
import pytest

from hardware.profile import load_profile, open_microscope, profile_names
from hardware.sweep import SweepPlan, capture
from models.reconstruct import reconstruct
from models.storage import open_stack


@pytest.mark.parametrize("name", [name for name in profile_names() if load_profile(name).is_simulated])
@pytest.mark.parametrize("descending", [True, False])
def test_the_known_height_is_found_within_a_third_of_a_step(name, descending, tmp_path):
    """A step of a third of the depth of field, default camera with its noise, default method."""
    profile = load_profile(name).changed(time_scale=math.inf, camera={"image_shape": (256, 256)}, seed=3)
    with open_microscope(profile) as microscope:
        truth_um = microscope.known_surface.height_um
        plan = SweepPlan.by_step(float(truth_um.max()) + 6.0, float(truth_um.min()) - 6.0, 2.0, descending)
        path = capture(
            microscope.axis,
            microscope.camera,
            plan,
            tmp_path / "stack.h5",
            pixel_um=microscope.pixel_um,
            optics=microscope.optics,
        )
    found = reconstruct(open_stack(path))
    error_steps = np.abs(found.height_um - truth_um) / plan.step_um
    confident = found.confidence > 0.5
    print(
        f"{name}: {plan.frame_count} frames, error {error_steps[confident].mean():.3f} steps on {confident.mean():.0%}"
    )
    assert confident.mean() > 0.5
    assert error_steps[confident].mean() <= 0.3
    assert np.abs(np.median((found.height_um - truth_um)[confident])) < 0.15 * plan.step_um, "no offset"
