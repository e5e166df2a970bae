"""The peer networks: sizes as published, any picture, any number of frames, heights in the unit of z, training."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.networks.aif_depth_net import AifDepthNet
from models.networks.ddff import Ddff
from models.networks.defocus_net import DefocusNet
from models.networks.dff_in_the_wild import DffInTheWild
from models.networks.fvnet import FvNet


def dfvnet() -> FvNet:
    return FvNet(differential=True)


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "ddff": Ddff,
    "defocus-net": DefocusNet,
    "aif-depth-net": AifDepthNet,
    "fvnet": FvNet,
    "dfvnet": dfvnet,
    "dff-in-the-wild": DffInTheWild,
}
OFFICIAL_PARAMETERS = {
    "ddff": 39_790_343,
    "defocus-net": 3_729_042,
    "aif-depth-net": 16_533_873,
    "fvnet": 19_501_484,
    "dfvnet": 19_501_484,
    "dff-in-the-wild": 4_038_832,
}
MULTIPLE = {name: 16 if name == "defocus-net" else 32 for name in BUILDERS}
SIDES = {"defocus-net": 1, "fvnet": 3, "dfvnet": 3, "dff-in-the-wild": 3}
NEVER_RUN = {"defocus-net": 6_928, "fvnet": 513_000, "dfvnet": 513_000, "dff-in-the-wild": 22_240}
"""Parameters of the official code that take no part in its result: frozen here."""


@pytest.fixture(scope="module", params=BUILDERS)
def named(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    torch.manual_seed(1)
    return request.param, BUILDERS[request.param]().eval()


def a_stack(frames: int, height: int = 64, width: int = 64, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Texture, sharp in a frame that depends on the column; positions at unequal steps."""
    generator = torch.Generator().manual_seed(frames)
    sharp = torch.rand(batch, 1, 3, height, width, generator=generator).expand(-1, frames, -1, -1, -1)
    blurred = F.avg_pool3d(sharp, (1, 5, 5), stride=1, padding=(0, 2, 2), count_include_pad=False)
    peak = torch.linspace(0, frames - 1, width)
    far = ((torch.arange(frames)[:, None] - peak).abs() / frames)[None, :, None, None]
    z = torch.linspace(0, 1, frames) ** 1.3 * 8 + 2
    return torch.lerp(sharp, blurred, far), z.expand(batch, -1)


def test_parameters_as_in_the_official_code(named: tuple[str, nn.Module]) -> None:
    name, network = named
    assert sum(p.numel() for p in network.parameters()) == OFFICIAL_PARAMETERS[name]
    frozen = sum(p.numel() for p in network.parameters() if not p.requires_grad)
    assert frozen == NEVER_RUN.get(name, 0)


@pytest.mark.parametrize("frames", [2, 5])
@torch.no_grad()
def test_any_size_and_number_of_frames(named: tuple[str, nn.Module], frames: int) -> None:
    name, network = named
    stack, z = a_stack(frames, 70, 90)
    found = network(stack, z)
    assert found.height.shape == (1, 70, 90)
    assert torch.isfinite(found.height).all()
    assert found.side == ()
    if found.weights is not None:
        assert found.weights.shape == (1, frames, 70, 90)
        torch.testing.assert_close(found.weights.sum(1), torch.ones(1, 70, 90))
        assert found.height.min() >= z.min() - 1e-4
        assert found.height.max() <= z.max() + 1e-4
    if found.spread is not None:
        assert found.spread.shape == (1, 70, 90)
        assert (found.spread >= 0).all()
    # The same picture with the margin that the network adds by itself.
    step = MULTIPLE[name]
    padded = F.pad(stack, (0, -90 % step, 0, -70 % step, 0, 0), mode="replicate")
    torch.testing.assert_close(network(padded, z).height[:, :70, :90], found.height)


@torch.no_grad()
def test_heights_follow_the_focus_positions(named: tuple[str, nn.Module]) -> None:
    """In other units, from another origin: the same surface."""
    _, network = named
    stack, z = a_stack(4)
    found, moved = network(stack, z), network(stack, 2.5 * z + 40)
    torch.testing.assert_close(moved.height, 2.5 * found.height + 40, rtol=1e-4, atol=1e-3)
    if found.spread is not None:
        torch.testing.assert_close(moved.spread, 2.5 * found.spread, rtol=1e-3, atol=1e-2)


@torch.no_grad()
def test_stacks_of_a_batch_do_not_mix(named: tuple[str, nn.Module]) -> None:
    _, network = named
    stack, z = a_stack(3, batch=2)
    both = network(stack, z * torch.tensor([[1.0], [3.0]]))
    torch.testing.assert_close(both.height[1:], network(stack[1:], 3 * z[1:]).height, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", BUILDERS)
def test_one_step_of_training(name: str) -> None:
    torch.manual_seed(2)
    network = BUILDERS[name]().train()
    taught = {key: p for key, p in network.named_parameters() if p.requires_grad}
    before = {key: p.detach().clone() for key, p in taught.items()}
    optimiser = torch.optim.Adam(taught.values(), lr=1e-3)
    stack, z = a_stack(4)
    truth = torch.linspace(2, 10, 64).expand(1, 64, 64)
    found = network(stack, z)
    assert len(found.side) == SIDES.get(name, 0)
    loss = sum(F.l1_loss(estimate, truth) for estimate in (found.height, *found.side))
    loss.backward()
    optimiser.step()
    assert torch.isfinite(loss)
    for key, parameter in taught.items():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter).all(), key
        assert not torch.equal(parameter, before[key]) or not parameter.grad.any(), key
    with torch.no_grad():
        assert torch.isfinite(network.eval()(stack, z).height).all()


@pytest.mark.parametrize("name", BUILDERS)
@torch.no_grad()
def test_shapes_where_all_frames_run_at_once(name: str) -> None:
    """Some take the frames one by one on a CPU only; a device without numbers stands in for the others."""
    with torch.device("meta"):
        network = BUILDERS[name]().eval()
        found = network(torch.empty(2, 5, 3, 70, 90), torch.empty(2, 5))
    assert found.height.shape == (2, 70, 90)


def test_ddff_counts_one_weight_per_frame() -> None:
    with torch.device("meta"):
        network = Ddff(frames=10)
    assert sum(p.numel() for p in network.parameters()) == OFFICIAL_PARAMETERS["ddff"] + 5


@torch.no_grad()
def test_ddff_takes_other_numbers_of_frames_than_it_was_built_for() -> None:
    """Frames that are all the same weigh as much, however many there are."""
    torch.manual_seed(3)
    network = Ddff(frames=4).eval()
    network.scoring.weight.uniform_(0.1, 0.5)
    frame = torch.rand(1, 1, 3, 32, 32)
    four, ten = (network(frame.expand(-1, n, -1, -1, -1), torch.linspace(1, 9, n)[None]).height for n in (4, 10))
    torch.testing.assert_close(ten, four, rtol=0.05, atol=0.05)


@torch.no_grad()
def test_defocus_net_takes_frames_in_any_order() -> None:
    """It compares frames by their maximum only; the first and the last give the range of heights."""
    torch.manual_seed(4)
    network = DefocusNet().eval()
    stack, z = a_stack(5)
    order = [0, 3, 1, 2, 4]
    torch.testing.assert_close(network(stack[:, order], z[:, order]).height, network(stack, z).height)


@torch.no_grad()
def test_only_dfvnet_looks_at_differences() -> None:
    """In a stack without change all but the last frame of each differential volume are zero, whatever the picture."""
    torch.manual_seed(5)
    plain = FvNet().eval()
    differential = dfvnet().eval()
    differential.load_state_dict(plain.state_dict())
    stack, z = a_stack(4)
    still = stack[:, :1].expand(-1, 4, -1, -1, -1)
    volumes = []
    for network in (plain, differential):
        network.decoders[3].register_forward_pre_hook(lambda _, inputs: volumes.append(inputs[0]))
        network(still, z)
    assert volumes[0].any()
    assert not volumes[1][:, :, :-1].any()
    torch.testing.assert_close(volumes[1][:, :, -1], volumes[0][:, :, -1])
