"""How fast the simulated microscope is. Target: 20 pictures per second at 512 x 512 on two cores."""

import itertools
import math

import cv2
import numpy as np
import pytest

from hardware.profile import load_profile, open_microscope


@pytest.mark.benchmark(group="simulated picture 512x512")
def test_picture_with_noise(benchmark):
    """Optics, noise and digitising while the focus travels; no waiting for the exposure."""
    with open_microscope(load_profile("simulated").changed(time_scale=math.inf)) as microscope:
        heights = itertools.cycle(np.linspace(5.0, -35.0, 41))

        def picture():
            microscope.stage.start_move_to(float(next(heights)))
            microscope.axis.clock.wait(1.0)
            return microscope.camera.snap()

        benchmark(picture)
    benchmark.extra_info["pictures_per_second"] = 1.0 / benchmark.stats["mean"]
    assert benchmark.stats["mean"] < 1 / 20


@pytest.mark.benchmark(group="simulated picture 512x512")
def test_alternative_blurring_every_slab_anew(benchmark):
    """The straightforward way: one Gaussian blur per height slab and picture, without diffraction and noise."""
    with open_microscope(load_profile("simulated").changed(time_scale=math.inf)) as microscope:
        relief = microscope.known_surface
    slab = 2.0
    levels = np.arange(math.floor(relief.height_um.min() / slab), 2)
    shares = [np.maximum(1 - np.abs(relief.height_um / slab - k), 0) * relief.reflectance for k in levels]
    heights = itertools.cycle(np.linspace(5.0, -35.0, 41))

    def picture():
        z_um = float(next(heights))
        sigmas = [max(0.4, abs(z_um - k * slab) * 0.157 / relief.pixel_um) for k in levels]
        return sum(cv2.GaussianBlur(s, (0, 0), sigma) for s, sigma in zip(shares, sigmas, strict=True))

    benchmark(picture)


@pytest.mark.benchmark(group="open the simulated microscope 512x512")
def test_opening(benchmark):
    benchmark.pedantic(lambda: open_microscope(load_profile("simulated")).close(), rounds=3)
