"""Our variants of GPLWS-Net: they begin as focus measures, see a fixed distance, and take frames in any pieces."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.networks.gplws_compact import (
    BLOCK,
    FAINTEST_ENERGY,
    LAPLACIANS,
    CompactGplwsNet,
    FocusStem,
    peak_beside,
    split_answers,
)
from models.networks.past import Past
from models.networks.registry import NETWORKS, build
from models.networks.reparam import fuse
from models.training.losses import total_loss
from models.training.recipe import load_recipe
from tests.models.test_gplws_net import settled

OWN = [name for name, spec in NETWORKS.items() if spec.role == "own"]
FRAMES = 11
SIDE = (61, 83)


def textured_stack(
    frames: int = FRAMES, side: tuple[int, int] = SIDE, seed: int = 0
) -> tuple[torch.Tensor, np.ndarray]:
    """Frames (1, N, 1, H, W) in 0..1 of a textured hill, one step apart, blurred by defocus, and its heights (H, W)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: side[0], : side[1]]
    hill = np.sin(columns / side[1] * np.pi * 1.5) * np.cos(rows / side[0] * np.pi)
    truth = (frames - 1) * (0.5 + 0.3 * hill)
    sharp = cv2.GaussianBlur(rng.uniform(0, 1, side).astype(np.float32), (0, 0), 0.7)
    sharp = 0.1 + 0.8 * (sharp - sharp.min()) / np.ptp(sharp)
    blurred = np.stack([sharp, *(cv2.GaussianBlur(sharp, (0, 0), 0.25 * k) for k in range(1, 4 * frames))])
    at = np.abs(np.arange(frames)[:, None, None] - truth) * 0.8 / 0.25
    below, part = at.astype(int), at % 1
    images = np.take_along_axis(blurred, below, 0) * (1 - part) + np.take_along_axis(blurred, below + 1, 0) * part
    return torch.from_numpy(images.astype(np.float32))[None, :, None], truth


def positions(frames: int = FRAMES) -> torch.Tensor:
    return torch.arange(float(frames))[None]


def small(*, span: int = 2, pixels: bool = True, seed: int = 0) -> CompactGplwsNet:
    """A network of a few channels whose every layer counts, in its inference form."""
    torch.manual_seed(seed)
    network = CompactGplwsNet(
        filters=LAPLACIANS + 2,
        mixtures=2,
        span=span,
        pixels=pixels,
        widths=(8, 12),
        groups=(4, 3),
        frames=(5, 3),
        modules_down=(1, 1),
        modules_up=(1,),
    )
    return alive(network)


def alive(network: nn.Module) -> CompactGplwsNet:
    """Fused, with a head that no longer says nothing."""
    assert isinstance(network, CompactGplwsNet)
    nn.init.normal_(network.head.weight, std=0.1)
    fused = fuse(settled(network))
    assert isinstance(fused, CompactGplwsNet)
    return fused.requires_grad_(False)


SHAPES = pytest.mark.parametrize(("span", "pixels"), [(1, True), (1, False), (2, True), (2, False)])


# ---------------------------------------------------------------- before any training


@pytest.mark.parametrize("name", OWN)
@torch.no_grad()
def test_an_untrained_network_is_a_focus_measure(name):
    frames, truth = textured_stack()
    found = build(name).eval()(frames, positions())
    error = np.abs(found.height[0].numpy() - truth)
    assert np.median(error) < 0.15
    assert error.mean() < 0.25
    assert found.spread.min() > 0


@pytest.mark.parametrize("name", OWN)
@torch.no_grad()
def test_brightness_barely_matters_to_an_untrained_network(name):
    network = build(name).eval()
    frames, _truth = textured_stack()
    height = network(frames, positions()).height
    flicker = 1 + 0.05 * torch.randn(FRAMES, generator=torch.Generator().manual_seed(0))
    for gain, most in ((torch.full((FRAMES,), 0.4), 0.005), (flicker, 0.05)):
        other = network(gain[None, :, None, None, None] * frames, positions()).height
        assert (other - height).abs().mean() < most


@pytest.mark.parametrize("name", OWN)
@torch.no_grad()
def test_heights_run_on_smoothly_from_block_to_block(name):
    """A smooth hill has no larger steps where blocks of pixels meet than within them."""
    frames, _truth = textured_stack()
    height = build(name).eval()(frames, positions()).height[0]
    for steps in (height.diff(dim=1).abs().mean(0), height.diff(dim=0).abs().mean(1)):
        by_place = torch.stack([steps[start::BLOCK].mean() for start in range(BLOCK)])
        assert by_place.max() < 1.4 * by_place.min()


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("side", [(64, 64), SIDE])
@torch.no_grad()
def test_heights_are_as_good_at_the_edge_of_the_image(name, side):
    frames, truth = textured_stack(side=side)
    error = np.abs(build(name).eval()(frames, positions()).height[0].numpy() - truth)
    for edge in (error[:BLOCK], error[-BLOCK:], error[:, :BLOCK], error[:, -BLOCK:]):
        assert edge.mean() < 0.2


def around(scores: torch.Tensor) -> torch.Tensor:
    """What :func:`peak_beside` takes: ``scores`` (N,) of a single block, and no frame beyond both ends."""
    there = torch.stack((scores, torch.ones_like(scores)))
    return nn.functional.pad(there, (1, 1))[None, :, :, None, None]


@given(st.floats(1.0, 4.0), st.floats(20.0, 200.0))
def test_a_frame_says_where_a_sharp_peak_beside_it_lies(place, sharpness):
    peaks = peak_beside(around(-sharpness * (torch.arange(6.0) - place).abs())).flatten()
    nearest = round(place)
    assert float(peaks[nearest]) == pytest.approx(place - nearest, abs=0.02)
    assert peaks[[0, -1]].tolist() == [0.0, 0.0]


def test_a_blunt_curve_and_noise_say_next_to_nothing():
    noise = 0.1 * torch.randn(40, generator=torch.Generator().manual_seed(0))
    assert float(peak_beside(around(noise)).abs().max()) < 0.02


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("place", [2.7, 3.0, 3.3, 3.5])
@torch.no_grad()
def test_a_step_wider_than_the_depth_of_field_leaves_no_terrace(name, place):
    sharp = np.random.default_rng(1).uniform(0.1, 0.9, (96, 96)).astype(np.float32)
    frames = [cv2.GaussianBlur(sharp, (0, 0), 0.5 + 1.6 * abs(k - place)) for k in range(7)]
    torch.manual_seed(0)
    height = fuse(build(name))(torch.from_numpy(np.stack(frames))[None, :, None], positions(7)).height
    assert float(height.mean()) == pytest.approx(place, abs=0.1)


@pytest.mark.parametrize("name", OWN)
@torch.no_grad()
def test_where_nothing_comes_into_focus_the_spread_is_wide(name):
    frames, _truth = textured_stack()
    noise = 0.3 + 0.01 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    network = build(name).eval()
    clear, blank = (network(images, positions()).spread.median() for images in (frames, noise))
    assert blank > 4 * clear


@pytest.mark.parametrize("seed", [None, 0])
@torch.no_grad()
def test_brightness_alone_is_no_detail(seed):
    """Not even for filters that have been trained to whatever; nor is the edge of the image any."""
    stem = FocusStem(filters=LAPLACIANS + 2, mixtures=2, width=8, span=2)
    if seed is not None:
        nn.init.normal_(stem.filters.weight, generator=torch.Generator().manual_seed(seed))
    dark, bright = (stem(torch.full((1, 1, 32, 32), grey)) for grey in (0.1, 1.0))
    assert dark[0].numpy() == pytest.approx(np.log(FAINTEST_ENERGY), abs=1e-2)
    for one, other in zip(dark, bright, strict=True):
        assert one.numpy() == pytest.approx(other.numpy(), abs=1e-2)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("name", OWN)
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    network = build(name).train()
    nn.init.normal_(network.head.weight, std=0.1)
    frames, truth = textured_stack(5, (64, 64))
    z = positions(5)
    height = torch.from_numpy(truth)[None].float()
    loss, _terms = total_loss(network(frames, z), z, height, load_recipe("default").loss)
    loss.backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.any(), parameter_name


@SHAPES
@torch.no_grad()
def test_only_training_gives_the_weights_of_the_frames(span, pixels):
    network = small(span=span, pixels=pixels)
    frames, _truth = textured_stack(5, (30, 37))
    assert network.eval()(frames, positions(5)).weights is None
    weights = network.train()(frames, positions(5)).weights
    assert weights.shape == (1, 5, 30, 37)
    assert weights.sum(1) == pytest.approx(torch.ones(1, 30, 37), abs=1e-4)


# ---------------------------------------------------------------- any pieces, any size


def pushed(network: CompactGplwsNet, frames: torch.Tensor, pieces: list[int]) -> tuple[torch.Tensor, list[int]]:
    """All answers of ``frames``, pushed piece by piece, and how many were due after each."""
    past = Past()
    answers = [network.answers(piece, past) for piece in frames.split(pieces, dim=1)]
    past.last = True
    answers.append(network.answers(None, past))
    due = [0 if part is None else part.shape[1] for part in answers]
    return torch.cat([part for part in answers if part is not None], dim=1), due


@settings(max_examples=25, deadline=None)
@given(
    pieces=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    span=st.sampled_from([1, 2]),
    pixels=st.booleans(),
)
@torch.no_grad()
def test_any_pieces_of_a_stack_give_the_answers_of_the_whole(pieces, span, pixels):
    network = small(span=span, pixels=pixels)
    frames = torch.rand(1, sum(pieces), 1, 19, 26, generator=torch.Generator().manual_seed(len(pieces)))
    whole = network.answers(frames)
    found, _due = pushed(network, frames, pieces)
    assert found.shape == whole.shape
    assert found.numpy() == pytest.approx(whole.numpy(), abs=1e-4)


@torch.no_grad()
def test_the_answer_for_a_frame_is_due_a_fixed_number_of_frames_later():
    frames = torch.rand(1, 40, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    _found, due = pushed(small(), frames, [1] * 40)
    wait = due.index(1)
    assert due == [0] * wait + [1] * (40 - wait) + [wait]
    assert 0 < wait < 20


@torch.no_grad()
def test_a_copy_of_the_past_goes_its_own_way():
    network = small()
    frames = torch.rand(1, 20, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    past = Past()
    network.answers(frames[:, :12], past)
    twin = past.copy()
    twin.last = True
    ended = network.answers(None, twin)
    assert network.answers(frames[:, 12:], past).shape[1] == 8
    again = Past(last=True)
    assert ended.numpy() == pytest.approx(
        network.answers(frames[:, :12], again)[:, -ended.shape[1] :].numpy(), abs=1e-4
    )


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 6),
    rows=st.integers(4, 45),
    columns=st.integers(4, 45),
    span=st.sampled_from([1, 2]),
    pixels=st.booleans(),
)
@torch.no_grad()
def test_any_size_and_number_of_frames_down_to_one(frames, rows, columns, span, pixels):
    network = small(span=span, pixels=pixels)
    images = torch.rand(1, frames, 1, rows, columns, generator=torch.Generator().manual_seed(0))
    found = network(images, positions(frames))
    assert found.height.shape == found.spread.shape == (1, rows, columns)
    assert torch.isfinite(found.height).all()
    assert (found.spread >= 0).all()
    if frames == 1:
        assert not found.height.any(), "there is but one height to choose"
    scores, offset, doubt = split_answers(network.answers(images))
    assert scores.shape[2] == (BLOCK**2 if pixels else 1)
    assert offset.shape[2] == doubt.shape[2] == 1
    assert all(side % network.multiple == 0 for side in (scores.shape[-2] * BLOCK, scores.shape[-1] * BLOCK))


@SHAPES
@torch.no_grad()
def test_what_is_further_away_than_the_reach_has_no_influence(span, pixels):
    network = small(span=span, pixels=pixels)
    columns = 3 * network.reach_px
    frames = torch.rand(1, 4, 1, 2 * network.multiple, columns, generator=torch.Generator().manual_seed(0))
    changed = frames.clone()
    changed[..., 2 * network.reach_px :] = 0.5
    before, after = (network(images, positions(4)).height[0] for images in (frames, changed))
    assert torch.equal(before[:, : network.reach_px], after[:, : network.reach_px])
    assert not torch.equal(before, after)


@pytest.mark.parametrize("name", OWN)
@torch.no_grad()
def test_of_colour_it_sees_the_mean(name):
    network = alive(build(name))
    colour = torch.rand(1, 4, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    grey = network(colour.mean(2, keepdim=True), positions(4)).height
    assert network(colour, positions(4)).height.numpy() == pytest.approx(grey.numpy(), abs=1e-4)
