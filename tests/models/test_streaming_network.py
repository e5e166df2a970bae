"""A network frame by frame: the same map as the whole stack at once, whatever the pieces and strips."""

import numpy as np
import pytest
import torch

from models.errors import InputError
from models.focal_stack import FocalStack
from models.height_map import Flag
from models.methods import ReconstructionOptions
from models.networks import engines, streaming
from models.networks.calibration import Calibration, calibrate
from models.networks.engines import available_engines, open_network, prepare
from models.networks.gplws_compact import BLOCK, split_answers
from models.networks.inference import infer
from models.networks.registry import build
from models.networks.reparam import fuse
from models.networks.streaming import StreamingNetwork
from tests.models.test_compact_network import alive, small, textured_stack
from tests.trained import save_weights

CERTAIN = Calibration((-5.0, 5.0), (0.1, 1.0), (0.2, 2.0), (1.0, 0.0))
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 255, (13, 70, 83)).astype(np.uint8)
Z_UM = 100 + np.cumsum(RNG.uniform(0.5, 2.0, 13))


def random_network(name="gplws-net-live"):
    torch.manual_seed(0)
    return alive(build(name))


NETWORK = random_network()


def stream(groups, frames=FRAMES, z_um=Z_UM, network=NETWORK, **options):
    taking = StreamingNetwork(network, CERTAIN, ReconstructionOptions(**options), pixel_um=0.5)
    start = 0
    for size in groups:
        taking.add_all(list(zip(frames[start : start + size], z_um[start : start + size], strict=True)))
        start += size
    assert taking.frame_count == len(frames)
    return taking.finish()


@pytest.mark.parametrize(
    ("name", "groups"),
    [("gplws-net-live", [13]), ("gplws-net-live", [1] * 13), ("gplws-net-live", [5, 1, 7]), ("gplws-net", [5, 1, 7])],
)
def test_pieces_of_the_sweep_give_what_the_whole_stack_gives(name, groups):
    network = random_network(name)
    stack = FocalStack(FRAMES, Z_UM)
    whole = infer(network, stack, channels=1)
    height_map = stream(groups, network=network)
    assert np.abs(height_map.height_um - whole.height_um).max() < 2e-3
    at_once = stream([13], network=network)
    np.testing.assert_allclose(height_map.interval68_um, at_once.interval68_um, atol=2e-3 * stack.step_um)
    best = best_frames(network, FRAMES)
    assert np.mean(height_map.all_in_focus == np.take_along_axis(FRAMES, best[None], 0)[0]) > 0.999


def test_intervals_are_the_calibrated_doubt_and_unknown_at_the_ends():
    stack = FocalStack(FRAMES, np.arange(13) * 3.0)
    half68, _half95 = CERTAIN.half_widths(infer(NETWORK, stack, channels=1).spread_um / np.float32(3.0))
    height_map = stream([13], z_um=stack.z_um)
    at_end = height_map.has_flag(Flag.PEAK_AT_END)
    assert at_end.any()
    assert np.array_equal(np.isnan(height_map.interval68_um), at_end)
    assert np.abs(height_map.interval68_um / 3.0 - half68)[~at_end].max() < 2e-3
    assert height_map.confidence[at_end].max() <= 0.25


def test_with_unequal_steps_intervals_follow_the_steps_around_a_height():
    z_um = np.concatenate((np.arange(7.0), 6.0 + 4.0 * np.arange(1, 7)))
    height_map = stream([13], z_um=z_um)
    equal = stream([13], z_um=np.arange(13.0)).interval68_um
    known = np.isfinite(height_map.interval68_um) & np.isfinite(equal)
    growth = (height_map.interval68_um / equal)[known][np.argsort(height_map.height_um[known])]
    low, high = np.array_split(growth, 10)[::9]
    assert growth.min() > 0.99  # the least step
    assert growth.max() < 4.01  # the greatest one
    assert np.median(high) > 1.1 * np.median(low)


def best_frames(network, frames):
    """The frame (H, W) of the highest score: of each pixel, or of the block that it lies in."""
    answers = network.answers(torch.from_numpy(frames.astype(np.float32) / 255)[None, :, None])
    scores, _offset, _doubt = split_answers(answers)
    each = torch.nn.functional.pixel_shuffle(scores[0].expand(-1, BLOCK**2, -1, -1), BLOCK)[:, 0]
    return each[:, : frames.shape[1], : frames.shape[2]].argmax(0).numpy()


@pytest.mark.parametrize("name", ["gplws-net-live", "gplws-net"])
@pytest.mark.parametrize("falling", [False, True])
def test_an_untrained_network_finds_the_hill_and_its_picture_in_focus(name, falling):
    """In um, from unequal steps, in either direction."""
    frames, truth = textured_stack()
    images = (frames[0, :, 0].numpy() * 255).astype(np.uint8)
    z_um = 50 + 4 * np.arange(11.0)
    keep = np.delete(np.arange(11), [1, 9])[:: -1 if falling else 1]
    found = stream([4, 5], images[keep], z_um[keep], fuse(build(name)))
    error_steps = np.abs(found.height_um - (50 + 4 * truth)) / 4
    assert np.median(error_steps) < 0.2
    sharp = np.take_along_axis(images, np.rint(truth)[None].astype(int), 0)[0]
    assert np.corrcoef(found.all_in_focus.ravel(), sharp.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("count", [2, 3])
def test_the_shortest_sweeps(count):
    found = stream([1] * count, FRAMES[:count], Z_UM[:count], fuse(build("gplws-net-live")))
    assert found.shape == FRAMES.shape[1:]
    assert ((found.height_um >= Z_UM[0] - 1e-3) & (found.height_um <= Z_UM[count - 1] + 1e-3)).all()


def test_a_map_in_between_changes_nothing():
    taking = StreamingNetwork(NETWORK, CERTAIN, ReconstructionOptions())
    for frame, z in zip(FRAMES, Z_UM, strict=True):
        taking.add(frame, z)
        if taking.frame_count >= 2:
            between = taking.height_map()
            assert np.isfinite(between.height_um).all()
    assert np.array_equal(taking.finish().height_um, stream([1] * 13).height_um)


@pytest.mark.parametrize("name", ["gplws-net-live", "gplws-net"])
def test_strips_leave_no_seam(name, monkeypatch):
    network = random_network(name)
    frames = RNG.integers(0, 255, (5, 700, 24)).astype(np.uint8)
    whole = stream([5], frames, Z_UM[:5], network)
    monkeypatch.setattr(streaming, "PIXELS_AT_ONCE", 24 * 100)
    assert len(streaming.strips_of((700, 24), network)) > 6
    strips = stream([2, 3], frames, Z_UM[:5], network)
    assert np.abs(strips.height_um - whole.height_um).max() < 1e-3
    assert np.array_equal(strips.flags, whole.flags)


def test_colour_16_bit_and_descending_sweeps():
    colour = RNG.integers(0, 4095, (6, 30, 40, 3)).astype(np.uint16)
    height_map = stream([6], colour, np.arange(6.0)[::-1])
    assert height_map.all_in_focus.shape == (30, 40, 3)
    assert height_map.height_um.dtype == np.float32
    assert height_map.interval95_um.shape == (30, 40)
    known = ~height_map.has_flag(Flag.PEAK_AT_END)
    assert known.any()
    assert (height_map.interval95_um >= height_map.interval68_um)[known].all()


def test_a_frame_that_does_not_fit_is_refused_and_the_others_stay():
    taking = StreamingNetwork(NETWORK, CERTAIN, ReconstructionOptions())
    taking.add(FRAMES[0], 0.0)
    with pytest.raises(InputError, match="first one"):
        taking.add(FRAMES[1, :20], 1.0)
    with pytest.raises(InputError, match="at least 2"):
        taking.height_map()
    taking.add(FRAMES[1], 1.0)
    assert taking.height_map().shape == FRAMES.shape[1:]


def test_alignment_marks_what_was_outside():
    moved = np.stack([np.roll(FRAMES[0], 3 * k, axis=1) for k in range(4)])
    height_map = stream([4], moved, Z_UM[:4], align="shift")
    assert height_map.has_flag(Flag.OUTSIDE).any()
    assert "drift_px" in height_map.parameters


@pytest.mark.parametrize("network", [NETWORK, small(pixels=True)], ids=["live", "scores for each pixel"])
@pytest.mark.parametrize("engine", [name for name in available_engines() if name != "torch"])
def test_engines_agree(network, engine):
    """The tolerances that models/networks/engines.py states, in steps."""
    other = prepare(network, engine)
    expected, found = stream([13], network=network), stream([13], network=other)
    step_um = np.median(np.diff(Z_UM))
    error = np.abs(found.height_um - expected.height_um).mean() / step_um
    assert error < (0.01 if engine == "openvino" else 0.05)


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True, "avx512_bf16": False}, True), ({"avx2": True}, False)],
)
def test_auto_tries_bfloat16_only_where_the_processor_has_it(tmp_path, monkeypatch, capabilities, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    tried = []
    monkeypatch.setattr(engines, "fastest_engine", lambda _name, _network, names: tried.append(names) or names[0])
    path = save_weights(tmp_path, "gplws-net-live")
    assert open_network("gplws-net-live", weights=path).engine == "torch"
    assert ("torch-bf16" in tried[0]) == native
    assert open_network("gplws-net-live", weights=path, engine="torch-bf16").engine == "torch-bf16"


def test_intervals_hold_what_they_promise():
    rng = np.random.default_rng(3)
    spread = rng.lognormal(-1, 1, 40_000).astype(np.float32)
    error = rng.laplace(0, 0.7 * spread**1.2).astype(np.float32)
    calibration = calibrate(spread[::2], error[::2])
    half68, half95 = calibration.half_widths(spread[1::2])
    assert np.mean(np.abs(error[1::2]) <= half68) == pytest.approx(0.68, abs=0.02)
    assert np.mean(np.abs(error[1::2]) <= half95) == pytest.approx(0.95, abs=0.01)
    assert Calibration.from_json(calibration.to_json()).half68_steps == pytest.approx(
        calibration.half68_steps, abs=1e-4
    )
    confidence = calibration.confidence(spread)
    assert confidence.min() >= 0
    assert confidence[spread < 0.2].mean() > confidence[spread > 2].mean()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"log_spread": 3}', '{"log_spread": [1], "half68_steps": []}'])
def test_what_is_no_calibration_is_said_to_be_none(text):
    with pytest.raises(ValueError, match=r"calibration|Expecting value"):
        Calibration.from_json(text)


def test_weights_of_other_networks_and_unknown_engines_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file(build("gplws-net-live").state_dict(), path, metadata={"network": "gplws-net-live"})
    with pytest.raises(InputError, match="not calibrated"):
        open_network("gplws-net-live", weights=path, engine="torch")
    with pytest.raises(InputError, match="not of 'gplws-net'"):
        open_network("gplws-net", weights=path)
    with pytest.raises(InputError, match="engine 'abacus'"):
        open_network("gplws-net-live", weights=path, engine="abacus")
