"""Whole-stack and streaming reconstruction: one result, whatever the order, the tiles and the threads."""

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import streaming
from models.errors import Cancelled, InputError
from models.focal_stack import FocalStack, Optics
from models.height_map import Flag, HeightMap
from models.methods import MEASURES, ReconstructionOptions
from models.optics import FocusRenderer
from models.reconstruct import focus_curve, reconstruct
from models.streaming import StreamingReconstruction
from models.surfaces import SURFACES, surface


def tilted_plane(frames: int = 12, shape: tuple[int, int] = (70, 90), dtype: type = np.uint8, colour: bool = False):
    """A textured plane that rises from left to right through the focus of every frame, under Gaussian blur."""
    rng = np.random.default_rng(0)
    texture = rng.uniform(0.2, 0.8, (*shape, 3) if colour else shape).astype(np.float32)
    truth = np.broadcast_to(np.linspace(2, frames - 3, shape[1]), shape)
    levels = np.stack([cv2.GaussianBlur(texture, (0, 0), 0.3 + 0.25 * d) for d in range(2 * frames)])
    near = [np.abs(truth - k) * 2 for k in range(frames)]
    column = np.arange(shape[1])
    images = [levels[np.rint(d[0]).astype(int), :, column].swapaxes(0, 1) for d in near]
    full = np.iinfo(dtype).max
    noisy = [image * full + rng.normal(0, 0.004 * full, image.shape) for image in images]
    return FocalStack(np.clip(noisy, 0, full).astype(dtype), np.arange(frames) * 2.0 - 5.0, 0.5), truth * 2.0 - 5.0


STACK, TRUTH = tilted_plane()
MDML = ReconstructionOptions(method="mdml")


def stream(stack: FocalStack, options: ReconstructionOptions) -> HeightMap:
    taking = StreamingReconstruction(options, pixel_um=stack.pixel_um, z_unit=stack.z_unit)
    for frame, z_um in stack:
        taking.add(frame, z_um)
    return taking.finish()


def assert_identical(one: HeightMap, other: HeightMap) -> None:
    np.testing.assert_array_equal(one.height_um, other.height_um)
    np.testing.assert_array_equal(one.confidence, other.confidence)
    np.testing.assert_array_equal(one.flags, other.flags)
    np.testing.assert_array_equal(one.all_in_focus, other.all_in_focus)


@pytest.mark.parametrize("method", MEASURES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour", [False, True])
def test_a_tilted_plane_is_found(method, dtype, colour):
    stack, truth = tilted_plane(dtype=dtype, colour=colour)
    height_map = reconstruct(stack, ReconstructionOptions(method=method))
    assert np.abs(height_map.height_um - truth)[:, 5:-5].mean() < 0.25 * stack.step_um
    assert height_map.confidence.mean() > 0.6
    assert height_map.height_um.dtype == np.float32
    assert height_map.all_in_focus.dtype == dtype
    assert height_map.all_in_focus.shape == stack.frames.shape[1:]
    assert height_map.pixel_um == 0.5
    assert height_map.method == method
    assert height_map.parameters["window"] == 9


@pytest.mark.parametrize(
    "options",
    [
        MDML,
        ReconstructionOptions(method="sml", window=5, stabilise=False),
        ReconstructionOptions(method="mdml", regularisation=1.0),
        ReconstructionOptions(method="mdml", align="similarity"),
    ],
    ids=str,
)
def test_streaming_equals_batch(options):
    assert_identical(stream(STACK, options), reconstruct(STACK, options))


@pytest.mark.parametrize("method", MEASURES)
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_the_strips_leave_no_trace(monkeypatch, method, rows):
    options = ReconstructionOptions(method=method)
    whole = reconstruct(STACK, options)
    monkeypatch.setattr(streaming, "ROWS_PER_STRIP", rows)
    assert_identical(whole, reconstruct(STACK, options))


@pytest.mark.parametrize("method", MEASURES)
def test_the_direction_of_the_sweep_does_not_matter(method):
    down = FocalStack(STACK.frames[::-1], STACK.z_um[::-1], STACK.pixel_um)
    options = ReconstructionOptions(method=method)
    one, other = reconstruct(STACK, options), reconstruct(down, options)
    np.testing.assert_allclose(one.height_um, other.height_um, atol=1e-4)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-4)
    np.testing.assert_array_equal(one.all_in_focus, other.all_in_focus)


@given(offset_um=st.floats(-1e4, 1e4))
@settings(max_examples=10, deadline=None)
def test_moving_the_stage_moves_the_heights(offset_um):
    here = reconstruct(STACK, MDML).height_um
    there = reconstruct(FocalStack(STACK.frames, STACK.z_um + offset_um), MDML).height_um
    np.testing.assert_allclose(there, here + offset_um, atol=2e-3)


@given(factor=st.integers(2, 200))
@settings(max_examples=10, deadline=None)
def test_more_light_leaves_the_heights_of_plain_sml(factor):
    options = ReconstructionOptions(method="sml", stabilise=False)
    dim = FocalStack(STACK.frames.astype(np.uint16), STACK.z_um)
    bright = FocalStack(STACK.frames.astype(np.uint16) * np.uint16(factor), STACK.z_um)
    np.testing.assert_allclose(reconstruct(dim, options).height_um, reconstruct(bright, options).height_um, atol=1e-4)


def test_a_frame_that_does_not_fit_leaves_the_ones_before_it_in_place():
    options = MDML
    taking = StreamingReconstruction(options)
    taking.add_all(list(STACK)[:4])
    with pytest.raises(InputError, match="strictly"):
        taking.add_all([*list(STACK)[4:6], (STACK.frames[6], float(STACK.z_um[0]))])
    taking.add_all(list(STACK)[4:])
    assert_identical(taking.finish(), reconstruct(STACK, options))


def test_the_movement_found_is_kept_with_the_map():
    parameters = reconstruct(STACK, ReconstructionOptions(method="mdml", align="shift")).parameters
    assert len(parameters["drift_px"]) == len(parameters["magnification"]) == len(STACK)


def test_the_map_grows_frame_by_frame():
    taking = StreamingReconstruction(MDML)
    for frame, z_um in STACK:
        taking.add(frame, z_um)
        if taking.frame_count < 2:
            with pytest.raises(InputError, match="at least 2"):
                taking.height_map()
            continue
        growing = taking.height_map()
        passed = z_um - 2 * STACK.step_um > TRUTH
        if passed.any():
            assert np.abs(growing.height_um - TRUTH)[passed].mean() < 0.5 * STACK.step_um
        ahead = z_um + STACK.step_um < TRUTH
        if ahead.any():
            assert growing.has_flag(Flag.PEAK_AT_END)[ahead].mean() > 0.9
    assert taking.frame_count == len(STACK)
    assert_identical(taking.height_map(), reconstruct(STACK, MDML))
    assert not taking.drift_px.any()
    assert taking.drift_px.shape == (len(STACK), 2)
    assert (taking.magnification == 1).all()


def test_a_live_map_is_not_changed_by_later_frames():
    taking = StreamingReconstruction(MDML)
    for frame, z_um in list(STACK)[:4]:
        taking.add(frame, z_um)
    early = taking.height_map()
    kept = replace(early, **{name: getattr(early, name).copy() for name in ("height_um", "flags", "all_in_focus")})
    for frame, z_um in list(STACK)[4:]:
        taking.add(frame, z_um)
    assert_identical(early, kept)


def test_progress_and_cancel():
    seen: list[tuple[int, int]] = []
    cancel = threading.Event()

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= 3:
            cancel.set()

    with pytest.raises(Cancelled):
        reconstruct(STACK, MDML, progress=progress, cancel=cancel)
    assert seen == [(4, 12)], "progress comes for several frames at once; none is read after Cancel"


@pytest.mark.parametrize(
    ("frame", "z_um", "words"),
    [
        (np.zeros((70, 91), np.uint8), 2.0, "Frame 3"),
        (np.zeros((70, 90), np.uint16), 2.0, "Frame 3"),
        (np.zeros((70, 90, 3), np.uint8), 2.0, "Frame 3"),
        (np.zeros((70, 90), np.float32), 2.0, "float32"),
        (np.zeros((70, 90, 4), np.uint8), 2.0, "RGB"),
        (np.zeros((70, 90), np.uint8), 1.0, "strictly"),
        (np.zeros((70, 90), np.uint8), 0.5, "strictly"),
        (np.zeros((70, 90), np.uint8), float("nan"), "finite"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_and_leaves_the_rest(frame, z_um, words):
    taking = StreamingReconstruction(MDML)
    taking.add(STACK.frames[0], 0.0)
    taking.add(STACK.frames[1], 1.0)
    with pytest.raises(InputError, match=words):
        taking.add(frame, z_um)
    assert taking.frame_count == 2
    taking.add(STACK.frames[2], 2.0)
    assert taking.frame_count == 3


def test_an_unknown_method_is_refused_at_once():
    with pytest.raises(InputError, match="wavelet"):
        StreamingReconstruction(ReconstructionOptions(method="wavelet"))


@pytest.mark.parametrize("method", ["rr", "gplws-net"])
def test_what_is_no_focus_measure_is_refused_at_once(method):
    with pytest.raises(InputError, match=r"no focus measure.*mdml"):
        StreamingReconstruction(ReconstructionOptions(method=method))


def test_clipped_pixels_are_flagged_at_any_bit_depth():
    stack, _ = tilted_plane()
    for frames, full in ((stack.frames, 255), (stack.frames.astype(np.uint16) * 16, 4095)):
        frames = frames.copy()
        frames[:, 20:30, 20:30] = full
        flagged = reconstruct(FocalStack(frames, stack.z_um), MDML).has_flag(Flag.SATURATED)
        assert flagged[20:30, 20:30].all()
        assert flagged.sum() == 100


@pytest.mark.parametrize(("row", "column"), [(0, 0), (35, 40), (69, 89), (3, 88)])
def test_the_focus_curve_is_what_the_height_was_made_of(row, column):
    options = ReconstructionOptions(method="rdf")
    curve = focus_curve(STACK, row, column, options)
    assert curve.shape == (len(STACK),)
    assert curve.dtype == np.float32
    height_map = reconstruct(STACK, options)
    assert abs(STACK.z_um[curve.argmax()] - height_map.height_um[row, column]) <= STACK.step_um
    taking = StreamingReconstruction(options)
    for frame, z_um in STACK:
        taking.add(frame, z_um)
    assert taking._search.best[row, column] == curve.max()


def test_the_focus_curve_outside_the_image():
    with pytest.raises(InputError, match="outside"):
        focus_curve(STACK, 70, 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2)])
def test_tiny_images(shape):
    frames = np.random.default_rng(0).integers(0, 255, (4, *shape), dtype=np.uint8)
    options = ReconstructionOptions(method="mdml", regularisation=1.0, align="similarity")
    assert reconstruct(FocalStack(frames, np.arange(4.0)), options).shape == shape


@pytest.mark.parametrize("name", SURFACES)
def test_rendered_surfaces_are_found_where_the_confidence_says_so(name):
    """Photon noise of 8,000 electrons full well, lit to 70 %; 10x / 0.30 objective, 2 um steps."""
    relief = surface(name, (192, 192), 0.5)
    renderer = FocusRenderer(relief, Optics(10, 0.30))
    z_um = np.arange(relief.height_um.max() + 8, relief.height_um.min() - 10, -2.0)
    rng = np.random.default_rng(0)
    light = np.stack([renderer.render(z) for z in z_um])
    electrons = rng.poisson(light * (8000 * 0.7 / np.percentile(light[0], 99))) + rng.normal(0, 15, light.shape)
    frames = np.clip(electrons / 8000 * 255, 0, 255).astype(np.uint8)
    height_map = reconstruct(FocalStack(frames, z_um.astype(float), 0.5), MDML)
    trusted = height_map.confidence > 0.5
    error_steps = np.abs(height_map.height_um - relief.height_um)[trusted] / 2.0
    assert trusted.mean() > 0.7
    assert error_steps.mean() <= 0.3
