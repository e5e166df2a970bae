"""GPLWS-Net: the published shape with its parameter counts, and re-parameterization."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.errors import InputError
from models.networks.registry import NETWORKS, build, find_network, parameter_count
from models.networks.reparam import ReparameterizedConv3d, fuse

OURS = [n for n in NETWORKS if n.startswith("gplws")]


def settled(network: nn.Module) -> nn.Module:
    """The network in eval mode with statistics and scales as after training."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            for values, low, high in ((layer.running_mean, -0.2, 0.2), (layer.running_var, 0.5, 2.0)):
                assert values is not None
                values.uniform_(low, high, generator=generator)
            with torch.no_grad():
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.uniform_(-0.1, 0.1, generator=generator)
    return network.eval()


def stack(frames: int, rows: int, columns: int, channels: int) -> torch.Tensor:
    return torch.rand(1, frames, channels, rows, columns, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "training", "fused"),
    [
        ("gplws-net-2023", 562_473, 540_273),
        ("gplws-net-2023-concat", 568_521, 546_321),
        ("gplws-net-2023-single", 541_221, 541_221),
        ("gplws-net-2023-plain", 2_029_113, 1_954_533),
        ("gplws-net-2023-depthwise", 100_137, 94_449),
    ],
)
def test_parameters_in_training_and_in_fused_form(name, training, fused):
    network = build(name)
    assert parameter_count(network) == training
    assert parameter_count(fuse(network)) == fused


@pytest.mark.parametrize("name", ["gplws-net-2023", "gplws-net-2023-concat"])
def test_the_fused_network_has_the_parameters_of_the_paper(name):
    assert parameter_count(fuse(build(name))) == find_network(name).published_parameters


@pytest.mark.parametrize("name", OURS)
@torch.no_grad()
def test_fused_equals_unfused(name):
    network = settled(build(name))
    frames, z = stack(5, 37, 42, find_network(name).channels), torch.arange(5.0)[None]
    before = network(frames, z)
    after = fuse(network)(frames, z)
    assert torch.allclose(after.height, before.height, atol=1e-5)
    assert torch.allclose(after.spread, before.spread, atol=1e-5)
    assert not any(isinstance(layer, ReparameterizedConv3d) for layer in network.modules())


@settings(max_examples=12, deadline=None)
@given(
    channels=st.sampled_from([4, 8, 12]),
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.sampled_from([1, 3, (1, 3, 3), (3, 1, 1), 5]),
)
@torch.no_grad()
def test_one_convolution_does_what_three_branches_do(channels, groups, kernel):
    layer = settled(ReparameterizedConv3d(channels, kernel=kernel, groups=groups))
    x = torch.randn(2, channels, 4, 6, 5, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(layer.fuse()(x), layer(x), atol=1e-5)


@pytest.mark.parametrize("name", ["gplws-net-2023", "gplws-net", "gplws-net-live"])
@pytest.mark.parametrize(("frames", "rows", "columns"), [(3, 8, 8), (7, 33, 50), (200, 16, 24)])
@torch.no_grad()
def test_any_number_of_frames_and_any_size(name, frames, rows, columns):
    network = settled(build(name))
    found = network(stack(frames, rows, columns, find_network(name).channels), torch.arange(float(frames))[None])
    assert found.height.shape == found.spread.shape == (1, rows, columns)
    assert torch.isfinite(found.height).all()
    if found.weights is not None:
        assert found.weights.shape == (1, frames, rows, columns)
        assert torch.allclose(found.weights.sum(1), torch.ones(1, rows, columns), atol=1e-4)


@pytest.mark.parametrize("name", ["gplws-net-2023", "gplws-net", "gplws-net-live"])
@torch.no_grad()
def test_heights_follow_the_focus_positions(name):
    """Unequal steps are weighed by where they are: the same frames twice as far apart give twice the height."""
    network = settled(build(name))
    frames, z = stack(6, 24, 24, find_network(name).channels), torch.tensor([[0.0, 1.0, 3.0, 4.0, 4.5, 9.0]])
    assert torch.allclose(network(frames, 2 * z + 7).height, 2 * network(frames, z).height + 7, atol=1e-3)


def test_every_parameter_learns():
    for name in ("gplws-net-2023", "gplws-net-2023-concat"):
        network = build(name)
        found = network(
            stack(4, 32, 32, find_network(name).channels).expand(2, -1, -1, -1, -1), torch.arange(4.0).expand(2, 4)
        )
        loss = found.height.sum() + found.spread.sum() + (found.weights**2).sum()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_an_unknown_network_is_refused_with_the_list_of_names():
    with pytest.raises(InputError, match="gplws-net-live"):
        build("resnet")
