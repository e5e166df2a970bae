"""Drift and focus breathing: recovered from scenes with known motion, and removed from a real macro stack."""

import cv2
import numpy as np
import pytest

from models.focal_stack import FocalStack
from models.focus.alignment import Aligner
from models.focus.measures import to_grey
from models.height_map import Flag
from models.methods import ReconstructionOptions
from models.reconstruct import reconstruct
from models.streaming import StreamingReconstruction
from tests.data import SHARED, needs_shared

SHAPE = (600, 800)
FRAMES = 8
WAVES = 150


def scene(drift_px: np.ndarray, magnification: np.ndarray, noise: float = 1.0, seed: int = 0) -> np.ndarray:
    """Frames of a tilted textured plane, each with its own focus, moved and magnified exactly.

    The texture is a sum of waves, evaluated where each pixel looks: no interpolation is involved.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in SHAPE)
    frequency, angle = rng.uniform(0.1, 1.2, WAVES), rng.uniform(0, 2 * np.pi, WAVES)
    by_x, by_y, phase = frequency * np.cos(angle), frequency * np.sin(angle), rng.uniform(0, 2 * np.pi, WAVES)
    frames = []
    for k, (move, scale) in enumerate(zip(drift_px, magnification, strict=True)):
        y, x = (rows - move[0]) / scale, (columns - move[1]) / scale
        in_focus = (x / SHAPE[1] + 0.5) * (len(drift_px) - 1)
        blur_px = np.hypot(0.4, 0.6 * (in_focus - k))
        contrast = np.exp(-0.5 * np.outer(frequency, blur_px) ** 2)
        across = np.exp(1j * (np.outer(by_x, x) + phase[:, None])) * contrast
        image = (np.exp(1j * np.outer(y, by_y)) @ across).real
        frames.append(120 + 55 * image / np.sqrt(WAVES) + rng.normal(0, noise, SHAPE))
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def wander(seed: int, step_px: float) -> np.ndarray:
    steps = np.random.default_rng(seed).uniform(-step_px, step_px, (FRAMES, 2))
    steps[0] = 0
    return np.cumsum(steps, axis=0)


@pytest.mark.parametrize(("step_px", "growth"), [(0.0, 0.0), (0.7, 0.0), (1.5, 2e-3), (6.0, -1e-2), (30.0, 0.0)])
def test_drift_and_magnification_are_recovered(step_px, growth):
    drift, magnification = wander(1, step_px), (1 + growth) ** np.arange(FRAMES)
    aligner = Aligner("similarity")
    for frame in scene(drift, magnification):
        aligner.align(frame, frame)
    np.testing.assert_allclose(aligner.drift_px, drift, atol=0.1)
    np.testing.assert_allclose(aligner.magnification, magnification, atol=1e-4)


def test_shift_alone_leaves_the_magnification():
    drift = wander(2, 1.0)
    taking = StreamingReconstruction(ReconstructionOptions(method="mdml", align="shift"))
    for k, frame in enumerate(scene(drift, np.ones(FRAMES))):
        taking.add(frame, float(k))
    np.testing.assert_allclose(taking.drift_px, drift, atol=0.1)
    assert (taking.magnification == 1).all()


def test_the_aligned_map_is_that_of_the_still_scene():
    z_um = np.arange(float(FRAMES))
    still = reconstruct(
        FocalStack(scene(np.zeros((FRAMES, 2)), np.ones(FRAMES)), z_um), ReconstructionOptions(method="mdml")
    )
    moving = FocalStack(scene(wander(3, 2.0), 1.002 ** np.arange(FRAMES)), z_um)
    inner = np.s_[20:-20, 120:-120]

    def error(align):
        found = reconstruct(moving, ReconstructionOptions(method="mdml", align=align)).height_um
        return np.abs(found - still.height_um)[inner].mean()

    assert error("similarity") < 0.1
    assert error("similarity") < 0.5 * error("none")


def test_pixels_that_leave_the_frames_are_flagged():
    drift = np.outer(np.arange(FRAMES), [0.0, 5.0])
    stack = FocalStack(scene(drift, np.ones(FRAMES)), np.arange(float(FRAMES)))
    height_map = reconstruct(stack, ReconstructionOptions(method="mdml", align="shift"))
    outside = height_map.has_flag(Flag.OUTSIDE)
    assert outside[:, -20:].mean() > 0.9  # in focus on the last frames, which have moved off by 30 pixels
    assert not outside[:, :600].any()
    assert (height_map.confidence[outside] <= 0.25).all()


@pytest.mark.parametrize("spoiled", [np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8), None])
def test_a_frame_that_matches_nothing_keeps_the_place_of_the_one_before(spoiled):
    drift = wander(4, 1.0)
    frames = list(scene(drift, np.ones(FRAMES)))
    frames[3] = np.random.default_rng(9).integers(0, 255, SHAPE, dtype=np.uint8) if spoiled is None else spoiled
    aligner = Aligner("similarity")
    for frame in frames:
        aligner.align(frame, frame)
    np.testing.assert_array_equal(aligner.drift_px[3], aligner.drift_px[2])
    np.testing.assert_allclose(aligner.drift_px[4:], drift[4:], atol=0.2)


def test_colour_and_16_bit_frames_keep_their_kind():
    frames = np.repeat(scene(wander(5, 1.0), np.ones(FRAMES))[..., None], 3, axis=3).astype(np.uint16) * 200
    aligner = Aligner("similarity")
    for frame in frames[:3]:
        aligned = aligner.align(frame, to_grey(frame))
    assert aligned.frame.shape == (*SHAPE, 3)
    assert aligned.frame.dtype == np.uint16
    assert aligned.inside.shape == SHAPE


@needs_shared
def test_a_macro_stack_that_breathes():
    """The printing on the board is sharp in frame 3, in which it must be found again as it is in the picture in
    focus everywhere; and the flat board must come out flatter. Unaligned, the letters repeat frame by frame."""
    paths = sorted((SHARED / "stacks" / "pcb_button_10f").glob("frame_*.jpg"))
    frames = [cv2.resize(cv2.imread(str(path)), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for path in paths]
    stack = FocalStack(np.stack(frames)[..., ::-1].copy(), np.arange(len(paths), dtype=float), z_unit="frame")
    sharp = cv2.cvtColor(stack.frames[3], cv2.COLOR_RGB2GRAY)
    letters, unevenness = {}, {}
    for align in ("none", "similarity"):
        height_map = reconstruct(stack, ReconstructionOptions(method="mdml", align=align))
        picture = cv2.cvtColor(height_map.all_in_focus, cv2.COLOR_RGB2GRAY)
        printing = picture[80:200, 400:580]
        letters[align] = cv2.matchTemplate(sharp, printing, cv2.TM_CCOEFF_NORMED).max()
        trusted = (height_map.confidence > 0.5)[80:200, 400:580]
        heights = height_map.height_um[80:200, 400:580][trusted]
        unevenness[align] = np.abs(heights - np.median(heights)).mean()
    assert letters["similarity"] > 0.9
    assert letters["similarity"] > letters["none"] + 0.1
    assert unevenness["similarity"] < 0.6 * unevenness["none"]


@needs_shared
def test_the_breathing_of_the_macro_stack_grows_steadily():
    paths = sorted((SHARED / "stacks" / "pcb_button_10f").glob("frame_*.jpg"))
    aligner = Aligner("similarity")
    for path in paths:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        aligner.align(grey, grey)
    assert (np.diff(aligner.magnification) > 0).all()
    assert 1.1 < aligner.magnification[-1] < 1.25
