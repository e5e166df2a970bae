"""Networks applied to stacks: units, order, colour, and weights that fit or do not."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.errors import InputError
from models.focal_stack import FocalStack
from models.height_map import Flag
from models.methods import ReconstructionOptions
from models.networks import inference
from models.networks.engines import open_network
from models.networks.inference import infer, load_network, network_frames
from models.networks.prediction import Prediction
from models.networks.registry import NETWORKS, build
from models.networks.weights import FOLDER
from models.reconstruct import reconstruct
from models.whole_stack import network_map
from tests.models.test_compact_network import textured_stack

NAME = "gplws-net-2023"


class Brightest(nn.Module):
    """The height of the brightest frame, for tests: what goes in is seen in what comes out."""

    def forward(self, frames: torch.Tensor, z: torch.Tensor) -> Prediction:
        self.frames, self.z = frames, z
        weights = nn.functional.one_hot(frames.mean(2).argmax(1), frames.shape[1]).movedim(-1, 1).float()
        height = (weights * z[:, :, None, None]).sum(1)
        return Prediction(height, weights, torch.full_like(height, 0.5))


def stack(z_um: list[float], *, dtype: type = np.uint8, colour: bool = False) -> FocalStack:
    """Column k is bright in the frame that lies k-th from below."""
    order = np.argsort(np.argsort(z_um))
    frames = np.zeros((len(z_um), 3, len(z_um)), dtype)
    for index, rank in enumerate(order):
        frames[index, :, rank] = np.iinfo(dtype).max
    return FocalStack(np.repeat(frames[..., None], 3, axis=3) if colour else frames, np.array(z_um))


@pytest.mark.parametrize("z_um", [[10, 12, 14, 17], [17, 14, 12, 10]])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_heights_are_those_of_the_stack_whatever_its_order_and_colour(z_um, dtype, colour, channels):
    network = Brightest()
    found = infer(network, stack(z_um, dtype=dtype, colour=colour), channels=channels)
    assert np.allclose(found.height_um, np.array([[10, 12, 14, 17]] * 3))
    assert network.frames.shape == (1, 4, channels, 3, 4)
    assert network.frames.max() == 1
    assert np.allclose(network.z, [[0, 1, 2, 3.5]])  # in steps of 2 um, rising
    assert found.spread_um is not None
    assert np.allclose(found.spread_um, 1.0)
    assert found.weights is not None
    assert np.array_equal(found.weights.argmax(0)[0], np.arange(4) if z_um[0] == 10 else np.arange(4)[::-1])


class Believing(nn.Module):
    """Says the same of every pixel, for tests: ``weights`` (N,) of the frames, or None, and a ``spread``, or None."""

    def __init__(self, weights: list[float] | None, spread: float | None) -> None:
        super().__init__()
        self.weights, self.spread = weights, spread

    def forward(self, frames: torch.Tensor, z: torch.Tensor) -> Prediction:
        shape = (1, *frames.shape[-2:])
        weights = torch.tensor(self.weights or [1 / z.shape[1]] * z.shape[1])
        height = (weights * z).sum().expand(shape)
        spread = None if self.spread is None else torch.full(shape, self.spread)
        each = weights[None, :, None, None].expand(1, -1, *shape[1:])
        return Prediction(height, None if self.weights is None else each, spread)


def confidence(count: int, weights: list[float] | None, spread: float | None = None) -> float:
    frames = np.random.default_rng(0).integers(0, 255, (count, 8, 8), dtype=np.uint8)
    found = network_map(Believing(weights, spread), NAME, FocalStack(frames, 7 + 2.0 * np.arange(count)))
    assert found.interval68_um is None
    assert np.ptp(found.confidence) == 0
    assert found.has_flag(Flag.NO_PEAK).all() == (found.confidence[0, 0] < 0.25)
    return float(found.confidence[0, 0])


@pytest.mark.parametrize("count", [3, 4, 5, 10, 30])
def test_a_network_to_which_all_frames_look_alike_is_not_confident(count):
    assert confidence(count, [1 / count] * count) == pytest.approx(0, abs=1e-5)
    assert confidence(count, None, float(np.std(np.arange(count)))) == pytest.approx(0, abs=1e-5)
    assert confidence(count, None, 10.0 * count) == 0  # less than that cannot be known


@pytest.mark.parametrize("count", [5, 10, 30])
def test_a_network_that_sees_one_sharp_frame_is_confident_and_one_that_sees_two_far_apart_is_not(count):
    def weighing(**frames: float) -> list[float]:
        return [frames.get(f"f{index}", 0.0) for index in range(count)]

    assert confidence(count, weighing(f2=1.0)) == pytest.approx(1)
    assert confidence(count, None, 0.01) == pytest.approx(1)
    assert confidence(count, weighing(f1=0.05, f2=0.9, f3=0.05)) == pytest.approx(1)
    assert confidence(count, weighing(f0=0.5, f4=0.5)) == 0
    sure = [confidence(count, None, spread) for spread in (0.1, 0.5, 1.0, 1.4)]
    assert sure == sorted(sure, reverse=True)


def test_own_doubt_becomes_an_interval_for_those_who_measure_it_only():
    frames = FocalStack(np.full((5, 8, 8), 9, np.uint8), 2.0 * np.arange(5))
    found = network_map(Believing(None, 0.5), NAME, frames, own_doubt=True)
    assert np.allclose(found.interval68_um, 1.0)  # half a step of 2 um
    assert np.allclose(found.interval95_um, 1.96)
    assert network_map(Believing([0.2] * 5, None), NAME, frames, own_doubt=True).interval68_um is None


def test_colour_becomes_grey_as_for_the_focus_measures():
    frames = np.zeros((2, 1, 3, 3), np.uint8)
    frames[0, 0] = np.eye(3, dtype=np.uint8) * 200
    colour = FocalStack(frames, np.arange(2.0))
    assert network_frames(colour, 1)[0, 0, 0].tolist() == pytest.approx([60 / 255, 117 / 255, 23 / 255])
    assert network_frames(colour, 3)[0, :, 0, 1].tolist() == pytest.approx([0, 200 / 255, 0])


def test_weights_of_a_file_are_used_and_fused(tmp_path):
    torch.manual_seed(3)
    network = build(NAME)
    path = tmp_path / "own.safetensors"
    save_file(network.state_dict(), path, {"network": NAME})
    loaded = load_network(NAME, path)
    assert not loaded.training
    assert sum(p.numel() for p in loaded.parameters()) < sum(p.numel() for p in network.parameters())
    frames, z = torch.rand(1, 3, 3, 16, 24), torch.arange(3.0)[None]
    with torch.inference_mode():
        assert torch.allclose(loaded(frames, z).height, network.eval()(frames, z).height, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, spec in NETWORKS.items() if spec.role == "own"])
def test_the_weights_of_the_program_fit_and_say_how_sure_they_are(name):
    opened = open_network(name, engine="torch")
    card = json.loads((FOLDER / f"{name}.json").read_text())
    assert card["sha256"] == opened.weights_sha256
    frames, truth = textured_stack()
    height_map = reconstruct(
        FocalStack((255 * frames[0, :, 0].numpy()).astype(np.uint8), np.arange(11.0)),
        ReconstructionOptions(method=name, engine="torch"),
    )
    assert np.median(np.abs(height_map.height_um - truth)) < 0.25
    inside = np.abs(height_map.height_um - truth) <= height_map.interval95_um
    assert inside.mean() > 0.8


def test_weights_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "shipped_weights", lambda name: None)
    with pytest.raises(InputError, match="--weights"):
        load_network(NAME)
    with pytest.raises(InputError, match="no network called"):
        load_network("gpl")
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="no file"):
        load_network(NAME, path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(InputError, match="holds no weights"):
        load_network(NAME, path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="which network"):
        load_network(NAME, path)
    save_file({"a": torch.zeros(1)}, path, {"network": "fvnet"})
    with pytest.raises(InputError, match="of the network 'fvnet'"):
        load_network(NAME, path)
    save_file({"a": torch.zeros(1)}, path, {"network": NAME})
    with pytest.raises(InputError, match="do not fit"):
        load_network(NAME, path)
