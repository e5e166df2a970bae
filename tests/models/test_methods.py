"""The list of methods, and every one of them through the one function: from a stack to a height map."""

import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from models import live
from models.errors import Cancelled, InputError
from models.focal_stack import FocalStack
from models.height_map import Flag
from models.live import live_methods, streaming_reconstruction
from models.methods import (
    DEFAULT_MEASURE,
    DEFAULT_METHOD,
    MEASURES,
    METHODS,
    ReconstructionOptions,
    find_method,
)
from models.networks import engines
from models.networks.registry import NETWORKS
from models.networks.weights import describe_weights, weights_network
from models.reconstruct import focus_curve, reconstruct
from models.whole_stack import nearest_frame
from tests.trained import save_weights, ship

OWN = ("gplws-net", "gplws-net-live")
PEERS = ("gplws-net-2023", "defocus-net", "dff-in-the-wild")
"""Of those that look at whole stacks: one that says how sure it is, one that says nothing, one with weights only."""


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "weights"
    ship(monkeypatch, folder, *OWN)
    return folder


def tilted(frames: int = 9, dtype: type = np.uint8, *, colour: bool = False) -> FocalStack:
    rng = np.random.default_rng(0)
    texture = rng.uniform(30, 220, (48, 64))
    truth = np.linspace(1, frames - 2, 64)
    images = []
    for index in range(frames):
        levels = [cv2.GaussianBlur(texture, (0, 0), 0.3 + 0.7 * d)[:, c] for c, d in enumerate(np.abs(truth - index))]
        images.append(np.stack(levels, axis=1))
    stack = (np.stack(images) * np.iinfo(dtype).max / 255).astype(dtype)
    return FocalStack(np.repeat(stack[..., None], 3, axis=3) if colour else stack, np.arange(frames) * 2.0 - 3, 0.5)


STACK = tilted()


def test_every_method_is_of_a_kind_and_says_what_it_needs():
    assert {m.kind for m in METHODS.values()} == {"network", "measure", "volume"}
    assert set(OWN) <= set(METHODS)
    assert MEASURES == ("sml", "mdml", "tenengrad", "rdf")
    assert [name for name, m in METHODS.items() if m.kind == "volume"] == ["rr", "variational", "tft"]
    for name, method in METHODS.items():
        assert method.name == name
        assert method.title
        assert method.summary.endswith(".")
        assert method.whole_stack == (name not in (*OWN, *MEASURES))
    assert DEFAULT_METHOD in METHODS
    assert DEFAULT_MEASURE in MEASURES


def test_a_network_without_weights_is_known_though_it_is_not_offered():
    assert find_method("fvnet").kind == "network"
    assert all(name in METHODS or NETWORKS[name].role != "own" for name in NETWORKS)
    with pytest.raises(InputError, match=r"wavelet.*mdml"):
        find_method("wavelet")


def test_options_of_an_older_program_still_load():
    older = {"method": "rdf", "window": 15, "align": "shift", "regularisation": 1.0, "stabilise": False}
    options = ReconstructionOptions(**older)
    assert (options.weights, options.engine) == (None, "auto")
    assert options.record() == older
    with pytest.raises(ValidationError):
        ReconstructionOptions(engine="abacus")


def test_the_list_and_what_reconstructs_load_no_pytorch_until_it_is_needed():
    code = "import sys, models.methods, models.reconstruct, models.live; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("method", OWN)
@pytest.mark.parametrize("align", ["none", "shift"])
def test_a_network_of_ours_gives_heights_with_intervals(shipped, method, align):
    done: list[tuple[int, int]] = []
    options = ReconstructionOptions(method=method, align=align)
    found = reconstruct(STACK, options, progress=lambda *now: done.append(now))
    assert done == [(4, 9), (8, 9), (9, 9)]
    assert (found.method, found.shape, found.pixel_um) == (method, (48, 64), 0.5)
    assert found.interval95_um is not None
    assert found.interval68_um is not None
    assert (found.interval95_um >= found.interval68_um).all()
    assert found.parameters["engine_used"] == "torch"
    assert found.parameters["weights_sha256"] == describe_weights(shipped / f"{method}.safetensors").sha256
    assert found.parameters["engine"] == "auto", "what was asked for: another machine may choose another"
    assert "window" not in found.parameters
    assert ("drift_px" in found.parameters) == (align == "shift")


@pytest.mark.parametrize("method", OWN)
def test_a_network_frame_by_frame_gives_the_map_of_the_whole_stack(shipped, method):
    options = ReconstructionOptions(method=method, engine="torch")
    taking = streaming_reconstruction(options, pixel_um=STACK.pixel_um, live=True)
    assert taking.method == method
    for frame, z_um in STACK:
        taking.add(frame, z_um)
    assert taking.frame_count == len(STACK)
    whole = reconstruct(STACK, options)
    np.testing.assert_allclose(taking.finish().height_um, whole.height_um, atol=1e-3)
    assert taking.finish().parameters == whole.parameters


def test_own_weights_are_taken_instead_of_those_of_the_program(shipped, tmp_path):
    own = save_weights(tmp_path, "gplws-net-live", seed=1)
    with_own = reconstruct(STACK, ReconstructionOptions(method="gplws-net-live", weights=str(own)))
    without = reconstruct(STACK, ReconstructionOptions(method="gplws-net-live"))
    assert with_own.parameters["weights_sha256"] != without.parameters["weights_sha256"]
    assert not np.array_equal(with_own.height_um, without.height_um)


def test_weights_that_are_missing_or_damaged_are_said(tmp_path, monkeypatch):
    ship(monkeypatch, tmp_path / "none")
    with pytest.raises(InputError, match="No weights of 'gplws-net'"):
        reconstruct(STACK, ReconstructionOptions(method="gplws-net"))
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no weights"):
        reconstruct(STACK, ReconstructionOptions(method="gplws-net", weights=str(tmp_path / "bad.safetensors")))
    with pytest.raises(InputError, match="holds no weights"):
        weights_network(tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="There is no file"):
        weights_network(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("method", PEERS)
@pytest.mark.parametrize(("colour", "align"), [(False, "none"), (True, "shift")])
def test_a_network_of_whole_stacks_gives_a_map_without_intervals(tmp_path, method, colour, align):
    path = save_weights(tmp_path, method, calibrated=False)
    stack = tilted(7, colour=colour)
    done: list[tuple[int, int]] = []
    options = ReconstructionOptions(method=method, weights=str(path), align=align)
    found = reconstruct(stack, options, progress=lambda *now: done.append(now))
    assert done[0] == (0, 2 * len(stack))
    assert done[-1] == (2 * len(stack), 2 * len(stack))
    assert (found.method, found.shape) == (method, stack.image_shape)
    assert found.interval68_um is None
    assert found.interval95_um is None
    assert np.isfinite(found.height_um).all()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert (found.confidence == 0.5).all() == (method == "defocus-net")
    assert found.all_in_focus.shape == stack.frames.shape[1:]
    assert ("drift_px" in found.parameters) == (align == "shift")


@pytest.mark.parametrize("method", ["rr", "variational", "tft"])
def test_a_method_of_the_volume_finds_the_plane_after_alignment(method):
    shifted = np.stack([np.roll(frame, index % 3, axis=1) for index, frame in enumerate(STACK.frames)])
    done: list[tuple[int, int]] = []
    options = ReconstructionOptions(method=method, align="shift", regularisation=0.5)
    found = reconstruct(FocalStack(shifted, STACK.z_um, 0.5), options, progress=lambda *now: done.append(now))
    assert done[-1] == (27, 27)
    assert [now for now, _all in done] == sorted(now for now, _all in done)
    truth = np.linspace(1, 7, 64) * 2.0 - 3
    assert np.abs(found.height_um - truth)[4:-4, 8:-8].mean() < 1.0
    assert len(found.parameters["drift_px"]) == 9
    assert found.parameters["regularisation"] == 0.5
    assert found.parameters["window"] == 9
    assert found.has_flag(Flag.OUTSIDE).any()
    assert found.interval95_um is None


@pytest.mark.parametrize("method", ["gplws-net-live", "gplws-net-2023", "rr"])
def test_cancel(shipped, method):
    save_weights(shipped, "gplws-net-2023", calibrated=False)
    cancel = threading.Event()

    def progress(done: int, in_all: int) -> None:
        if done >= 3:
            cancel.set()

    with pytest.raises(Cancelled):
        reconstruct(STACK, ReconstructionOptions(method=method), progress=progress, cancel=cancel)


def test_a_network_that_finds_no_memory_says_so(shipped, monkeypatch):
    def hungry(*_arguments: object) -> None:
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1e12 bytes"
        )

    monkeypatch.setattr("models.networks.streaming.StreamingNetwork.add_all", hungry)
    with pytest.raises(InputError, match="not enough memory"):
        reconstruct(STACK, ReconstructionOptions(method="gplws-net"))


def test_what_may_grow_a_map_while_frames_come(tmp_path, monkeypatch):
    def tried(method: str) -> tuple[str, ...]:
        return live_methods(ReconstructionOptions(method=method))

    ship(monkeypatch, tmp_path / "none")
    assert tried("sml") == ("sml",)
    assert tried("gplws-net") == ("gplws-net", "mdml")
    assert tried("rr") == tried("fvnet") == ("mdml",)
    ship(monkeypatch, tmp_path / "live", "gplws-net-live")
    assert tried("gplws-net") == ("gplws-net", "gplws-net-live", "mdml")
    assert tried("gplws-net-live") == ("gplws-net-live", "mdml")
    assert tried("rr") == tried("fvnet") == ("gplws-net-live", "mdml")


def test_a_stand_in_is_named_and_has_weights_of_its_own(shipped, monkeypatch):
    options = ReconstructionOptions(method="fvnet", weights="/nowhere/fvnet.safetensors")
    taking = streaming_reconstruction(options)
    assert taking.method == "gplws-net-live"
    for frame, z_um in STACK:
        taking.add(frame, z_um)
    assert taking.height_map().method == "gplws-net-live"
    assert taking.finish().parameters["weights"] is None
    assert streaming_reconstruction(options, method="mdml").finish is not None


def test_preparing_opens_the_network_once(shipped, monkeypatch):
    options = ReconstructionOptions(method="gplws-net-live", engine="torch")
    live.prepare(options)
    monkeypatch.setattr(engines, "load_network", lambda *_arguments: pytest.fail("loaded again"))
    reconstruct(STACK, options)
    live.prepare(ReconstructionOptions(method="rdf"))


def test_the_focus_curve_of_what_is_no_focus_measure_is_that_of_the_default():
    known = focus_curve(STACK, 10, 20, ReconstructionOptions(method=DEFAULT_MEASURE))
    for method in ("gplws-net", "rr"):
        assert np.array_equal(focus_curve(STACK, 10, 20, ReconstructionOptions(method=method)), known)


@pytest.mark.parametrize("z_um", [[0.0, 1, 3, 4], [4.0, 3, 1, 0]])
def test_the_nearest_frame_in_either_direction(z_um):
    stack = FocalStack(np.zeros((4, 1, 5), np.uint8), np.array(z_um))
    heights = np.array([[-9, 0.4, 1.9, 3.6, 9]], np.float32)
    found = np.array(z_um)[nearest_frame(heights, stack)]
    assert found.tolist() == [[0, 0, 1, 4, 4]]
