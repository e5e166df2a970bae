"""Batches: cuts that keep frames, focus positions and truth together, whatever is changed in them."""

import os
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from models.focal_stack import FocalStack
from models.networks.registry import NetworkSpec
from models.training.augment import augmented
from models.training.batches import BatchMaker, one_sample, pick_frames, prefetched
from models.training.examples import Example, as_example, open_examples
from models.training.recipe import Augmentation, Recipe, load_recipe
from models.training.rendered import RenderedExamples
from models.training.scene import Scene
from tests.models.training_data import render, write_shard

NOTHING = Augmentation(flip=False, rotate=False)
GREY = NetworkSpec("grey", "", "", "own", "", "", channels=1, multiple=8)
COLOUR = NetworkSpec("colour", "", "", "own", "", "", channels=3, multiple=8)


def recipe(**changes) -> Recipe:
    return load_recipe("default").changed(**{"batch": 3, "stages": [{"crop": [24, 40], "frames": [3, 8]}], **changes})


def marked(frames: int = 10, size: int = 32) -> Example:
    """A stack whose grey value is the frame's number times 20, with heights equal to the column's number / 4."""
    images = np.broadcast_to((20 * np.arange(frames, dtype=np.uint8))[:, None, None], (frames, size, size))
    height = np.broadcast_to(np.arange(size, dtype=np.float32) / 4 * 2 + 5, (size, size))
    return Example(images, (5 + 2 * np.arange(frames)).astype(np.float32), height)


# ---------------------------------------------------------------- shapes and units


@pytest.mark.parametrize("spec", [GREY, COLOUR])
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_batch_has_the_shapes_and_ranges_that_networks_expect(tmp_path, spec, fraction):
    write_shard(tmp_path)
    maker = BatchMaker(recipe(), spec, open_examples([tmp_path]))
    for step in range(20):
        frames, z, height = maker.make(step, fraction)
        b, n, c, h, w = frames.shape
        assert (b, c, h) == (3, spec.channels, w)
        assert 3 <= n <= 8
        assert h in (24, 32, 40)
        assert z.shape == (b, n)
        assert height.shape == (b, h, w)
        assert {t.dtype for t in (frames, z, height)} == {torch.float32}
        assert 0 <= frames.min() <= frames.max() <= 1
        assert torch.allclose(z[:, 0], torch.zeros(b))
        assert torch.allclose(z[:, -1], torch.full((b,), n - 1.0))  # in mean steps
        assert (z.diff(dim=1) > 0).all()
        known = torch.isfinite(height)
        assert known.float().mean() > 0.3
        assert ((height >= -0.5) & (height <= n - 0.5))[known].all()


def test_frames_heights_and_positions_stay_together():
    """The sharp frame can be read off the grey value, so the truth can be checked in the sample itself."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        frames, z, height = one_sample(
            marked(), 5, 16, 1, recipe(augmentation={**NOTHING.model_dump(), "stride": 2, "irregular": 0.5}), rng
        )
        number = frames[:, 0, 0, 0] * 255 / 20
        step = (number[-1] - number[0]) / 4
        assert np.allclose((number - number[0]) / step, z, atol=1e-4)
        known = np.isfinite(height)
        # Neighbouring columns differ by a quarter of a frame.
        differences = np.diff(height * step, axis=1)[known[:, 1:] & known[:, :-1]]
        assert np.allclose(differences, 0.25, atol=1e-3)


@given(
    frames=st.integers(3, 40),
    count=st.integers(2, 40),
    stride=st.integers(1, 4),
    irregular=st.sampled_from((0.0, 1.0)),
    at_end=st.sampled_from((0.0, 1.0)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=300, deadline=None)
def test_picked_frames_rise_and_lie_in_the_stack(frames, count, stride, irregular, at_end, seed):
    count = min(count, frames)
    rng = np.random.default_rng(seed)
    z = np.cumsum(rng.uniform(0.5, 2, frames)).astype(np.float32)
    height = rng.uniform(z[0] - 2, z[-1] + 2, (6, 6)).astype(np.float32)
    height[rng.random((6, 6)) < 0.3] = np.nan
    options = Augmentation(stride=stride, irregular=irregular, land_at_end=at_end)
    index = pick_frames(z, height, count, options, rng)
    assert index.shape == (count,)
    assert (np.diff(index) > 0).all()
    assert 0 <= index[0] <= index[-1] < frames
    if not irregular:
        assert len(set(np.diff(index))) <= 1


def test_a_surface_that_fits_lies_inside_the_chosen_frames():
    z = np.arange(30, dtype=np.float32)
    height = np.random.default_rng(1).uniform(12, 15, (8, 8)).astype(np.float32)
    for seed in range(100):
        index = pick_frames(z, height, 8, Augmentation(), np.random.default_rng(seed))
        assert index[0] <= 12.5
        assert index[-1] >= 14.5


def test_land_lies_on_the_first_or_last_frame_as_often_as_asked():
    z = np.arange(30, dtype=np.float32)
    height = np.full((8, 8), 15.0, np.float32)
    ends = sum(
        15 in pick_frames(z, height, 8, Augmentation(land_at_end=0.5), np.random.default_rng(seed))[[0, -1]]
        for seed in range(400)
    )
    assert 0.5 <= ends / 400 <= 0.75  # and sometimes by chance


def test_truth_beyond_the_frames_is_unknown():
    example = marked(frames=12, size=64)  # heights 0 .. 15.75 frames, of which 5 can be seen
    _frames, _z, height = one_sample(
        example, 5, 64, 1, recipe(augmentation=NOTHING.model_dump()), np.random.default_rng(0)
    )
    known = np.isfinite(height)
    assert 0.2 < known.mean() < 0.5
    assert height[known].min() >= -0.5
    assert height[known].max() <= 4.5


# ---------------------------------------------------------------- augmentation


def test_the_relief_upside_down_is_the_same_stack_seen_from_below():
    example = render(0)
    z = np.arange(8, dtype=np.float32) ** 1.1
    height = (example.height - 3) / 2.5
    seen = {}
    for seed in range(20):
        frames, new_z, new = augmented(
            example.frames, z, height, 1, NOTHING.model_copy(update={"reverse": True}), np.random.default_rng(seed)
        )
        turned = bool(np.allclose(frames[:, 0], example.frames[::-1] / 255, atol=1e-6))
        seen[turned] = (new_z, new)
    assert np.array_equal(seen[False][1], height, equal_nan=True)
    assert np.allclose(seen[True][0], z[-1] - z[::-1])
    assert np.allclose(seen[True][1], z[-1] - height, equal_nan=True)


def test_flips_and_rotations_move_truth_and_image_alike():
    """The image is the truth itself, so it must stay so."""
    height = np.random.default_rng(0).integers(0, 255, (16, 16)).astype(np.float32)
    frames = np.repeat(height[None].astype(np.uint8), 3, axis=0)
    views = set()
    for seed in range(60):
        image, _z, new = augmented(frames, np.arange(3.0), height, 1, Augmentation(), np.random.default_rng(seed))
        assert np.allclose(image[:, 0] * 255, new, atol=1e-3)
        views.add(new.tobytes())
    assert len(views) == 8


def test_light_changes_keep_the_order_of_grey_values():
    """Gamma, gain, offset, drift and flicker are one rising curve per frame."""
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8).reshape(1, 8, 8), 4, axis=0)
    options = NOTHING.model_copy(update={"gamma": 1.0, "gain": 0.5, "offset": 0.2, "drift": 0.3, "flicker": 0.1})
    seen = []
    for seed in range(30):
        image, _z, _h = augmented(
            ramp, np.arange(4.0), np.zeros((8, 8), np.float32), 1, options, np.random.default_rng(seed)
        )
        assert (np.diff(image.reshape(4, -1), axis=1) >= 0).all()
        seen.append(image.mean(axis=(1, 2, 3)))
    assert np.std(seen, axis=0).min() > 0.05
    assert np.std(seen, axis=1).max() > 0.02  # frames of one stack differ in brightness


@pytest.mark.parametrize("colours", [1, 3])
def test_a_blank_side_has_lost_its_detail_and_keeps_its_truth(colours):
    shape = (6, 48, 48, 3) if colours == 3 else (6, 48, 48)
    texture = np.random.default_rng(1).integers(60, 200, shape, np.uint8)
    truth = np.linspace(0, 5, 48 * 48, dtype=np.float32).reshape(48, 48)
    options = NOTHING.model_copy(update={"blank": 1.0})
    blank = []
    for seed in range(40):
        image, _z, height = augmented(texture, np.arange(6.0), truth, colours, options, np.random.default_rng(seed))
        np.testing.assert_array_equal(height, truth)
        assert image.shape == (6, colours, 48, 48)
        detail = np.abs(np.diff(image, axis=-1)).mean((0, 1))
        blank.append((detail < 0.03).mean())
    assert 0.3 < np.mean(blank) < 0.95
    assert max(blank) > 0.9  # some are blank all over


def test_colour():
    example = render(0)
    colour = np.repeat(example.frames[..., None], 3, axis=-1)
    z, height = np.arange(8.0), example.height
    grey, _z, _h = augmented(colour, z, height, 1, NOTHING, np.random.default_rng(0))
    assert grey.shape == (8, 1, 48, 48)
    assert np.allclose(grey[:, 0], example.frames / 255, atol=1e-5)
    casts = NOTHING.model_copy(update={"colour": 0.2})
    images = [augmented(example.frames, z, height, 3, casts, np.random.default_rng(s))[0] for s in range(20)]
    differ = [bool(np.abs(image[:, 0] - image[:, 2]).max() > 0.01) for image in images]
    assert any(differ)
    assert not all(differ)


# ---------------------------------------------------------------- shards


def test_batches_depend_on_the_step_alone(tmp_path):
    """Threads that run ahead, a restart in the middle and a second process of the same rank give the same."""
    write_shard(tmp_path)
    first = BatchMaker(recipe(), GREY, open_examples([tmp_path]))
    again = BatchMaker(recipe(loaders=3), GREY, open_examples([tmp_path]))
    ahead = prefetched(again, 5, lambda step: 0.0, threads=3)
    for step in range(5, 15):
        for a, b in zip(first.make(step, 0.0), next(ahead), strict=True):
            assert torch.equal(a.nan_to_num(-9), b.nan_to_num(-9))
    ahead.close()
    other = BatchMaker(recipe(), GREY, open_examples([tmp_path]), rank=1, world=2).make(5, 0.0)
    assert other.frames.shape == first.make(5, 0.0).frames.shape  # processes wait for each other: equal work
    assert not torch.equal(other.frames, first.make(5, 0.0).frames)


def test_every_stack_is_drawn_once_per_round(tmp_path):
    write_shard(tmp_path / "a", 0)
    write_shard(tmp_path / "a", 1)
    write_shard(tmp_path / "b", 2, frames=5)
    pool = open_examples([tmp_path / "a", tmp_path / "b"], seed=3)
    assert pool.count == 12
    rounds = [[pool.draw(12 * r + i).frames[0].tobytes() for i in range(12)] for r in range(2)]
    assert len(set(rounds[0])) == len(set(rounds[1])) == 12
    assert rounds[0] != rounds[1]
    assert all(len(pool.draw(i, at_least=8).frames) == 8 for i in range(20))
    assert len(pool.draw(0, at_least=99).frames) == 8  # the longest there are


def test_shards_that_appear_are_taken_in_and_half_written_ones_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("models.training.examples._RESCAN_S", 0.0)
    whole = write_shard(tmp_path, 0)
    content = write_shard(tmp_path / "other", 1).read_bytes()
    half = tmp_path / "shard_00001.npz"
    half.write_bytes(content[: len(content) // 2])
    pool = open_examples([tmp_path])
    assert pool.count == 4
    half.write_bytes(content)
    os.utime(half, (time.time() + 5, time.time() + 5))
    pool.draw(0)
    assert pool.count == 8
    with np.load(whole) as stored:
        shown = {pool.draw(i).frames.tobytes() for i in range(8)}
        assert stored["frames"][2].tobytes() in shown


def test_compressed_shards_are_read_too(tmp_path):
    with np.load(write_shard(tmp_path / "plain")) as stored:
        (tmp_path / "packed").mkdir()
        np.savez_compressed(tmp_path / "packed" / "shard_0.npz", **stored)
    a, b = (open_examples([tmp_path / name]).draw(1) for name in ("plain", "packed"))
    assert np.array_equal(a.frames, b.frames)
    assert np.array_equal(a.height, b.height, equal_nan=True)


def test_folders_without_anything_to_learn_from(tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        open_examples([tmp_path / "none"])
    (tmp_path / "shard_0.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"shard_0\.npz cannot be read"):
        open_examples([tmp_path])
    np.savez(tmp_path / "shard_0.npz", frames=np.zeros((2, 3, 8, 8)))
    with pytest.raises(InputError, match=r"shard_0\.npz cannot be read"):
        open_examples([tmp_path])


# ---------------------------------------------------------------- scenes


def test_a_scene_of_twelve_bits_that_runs_down_becomes_eight_bits_that_run_up():
    frames = np.stack([np.full((4, 4), value, np.uint16) for value in (4080, 2048, 16)])
    stack = FocalStack(frames, np.array([4.0, 2.0, 0.0]))
    example = as_example(Scene("s", "flat", stack, np.ones((4, 4), np.float32)))
    assert example.frames[:, 0, 0].tolist() == [1, 128, 255]
    assert example.z.tolist() == [0, 2, 4]


def test_rendered_scenes_are_reused_and_the_same_in_any_order():
    examples = RenderedExamples(render, seed=1, frames=(4, 9), block=2, reuse=3)
    try:
        seen = [examples.draw(number).frames.tobytes() for number in range(12)]
        assert len(set(seen[:6])) == 2
        assert len(set(seen)) == 4
        from_threads: dict[int, bytes] = {}
        threads = [
            threading.Thread(target=lambda n=n: from_threads.update({n: examples.draw(n).frames.tobytes()}))
            for n in (11, 8, 7)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(seen[n] == value for n, value in from_threads.items())
        assert len(from_threads) == 3
    finally:
        examples.close()


def test_rendered_scenes_have_the_frames_that_a_batch_asks_for():
    examples = RenderedExamples(render, seed=1, frames=(4, 9), block=8, reuse=2)
    try:
        counts = [len(examples.draw(number).frames) for number in range(8)]
        assert min(counts) == 4
        assert counts.count(9) >= 2, "else a batch of the longest would show one scene only"
        for at_least in (5, 7, 9):
            long = [examples.draw(number, at_least) for number in range(8)]
            assert min(len(example.frames) for example in long) >= at_least
            assert len({example.frames.tobytes() for example in long}) >= 2
        assert len(examples.draw(3, at_least=99).frames) == 9  # the longest there are
        assert examples.draw(5, 7).frames.tobytes() == examples.draw(5, 7).frames.tobytes()
    finally:
        examples.close()
