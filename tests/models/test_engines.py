"""Which engine runs a network: what "auto" chooses, what it remembers, and what an engine cannot take."""

import json

import numpy as np
import pytest
from safetensors.torch import save_file

from models.errors import InputError
from models.focal_stack import FocalStack
from models.methods import ReconstructionOptions
from models.networks import engines
from models.networks.engines import available_engines, fastest_engine, open_network
from models.networks.registry import build
from models.reconstruct import reconstruct
from tests.models.test_compact_network import small
from tests.trained import save_weights

NETWORK = small(pixels=False)


@pytest.fixture
def trials(tmp_path, monkeypatch):
    """The engines that were tried, bfloat16 the faster one; nothing touches the user's own cache."""
    tried: list[str] = []
    monkeypatch.setattr(engines.platformdirs, "user_cache_dir", lambda _name: str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "prepare", lambda _network, engine: engine)

    def seconds(engine):
        tried.append(engine)
        return {"torch": 2.0, "torch-bf16": 1.0, "cuda": 0.1}[engine]

    monkeypatch.setattr(engines, "_seconds", seconds)
    return tried


def test_the_fastest_is_measured_once_and_remembered(trials):
    for _time in range(2):
        assert fastest_engine("own", NETWORK, ["torch", "torch-bf16"]) == "torch-bf16"
    assert trials == ["torch", "torch-bf16"]
    assert fastest_engine("another", NETWORK, ["torch", "torch-bf16"]) == "torch-bf16"
    assert len(trials) == 4


def test_a_single_engine_is_not_measured(trials):
    assert fastest_engine("own", NETWORK, ["torch"]) == "torch"
    assert not trials


def change_versions(monkeypatch):
    monkeypatch.setattr(engines, "versions", lambda: {"reliefscope": "9", "torch": "9"})


def change_processor(monkeypatch):
    monkeypatch.setattr(engines, "processor_name", lambda: "Another processor")


def change_threads(monkeypatch):
    monkeypatch.setattr(engines.torch, "get_num_threads", lambda: 77)


@pytest.mark.parametrize("change", [change_versions, change_processor, change_threads])
def test_what_times_depend_on_is_measured_anew(trials, monkeypatch, change):
    fastest_engine("own", NETWORK, ["torch", "torch-bf16"])
    change(monkeypatch)
    fastest_engine("own", NETWORK, ["torch", "torch-bf16"])
    assert len(trials) == 4
    fastest_engine("own", NETWORK, ["torch", "torch-bf16"])
    assert len(trials) == 4


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"versions": 1, "fastest": 2}', '{"own": "torch"}', "\xff"])
def test_a_memory_that_cannot_be_read_is_made_anew(trials, tmp_path, content):
    path = tmp_path / "cache" / "engines.json"
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    assert fastest_engine("own", NETWORK, ["torch", "torch-bf16"]) == "torch-bf16"
    assert list(json.loads(path.read_text())["fastest"].values()) == ["torch-bf16"]


def test_without_a_place_for_the_memory_it_is_measured_each_time(trials, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    for _time in range(2):
        assert fastest_engine("own", NETWORK, ["torch", "torch-bf16"]) == "torch-bf16"
    assert len(trials) == 4


def test_the_trial_runs_frame_by_frame(monkeypatch):
    monkeypatch.setattr(engines, "TRIAL", (3, 32, 32))
    pushed = []
    answers = NETWORK.answers
    monkeypatch.setattr(
        NETWORK, "answers", lambda frames, past: pushed.append(frames.shape[1]) or answers(frames, past)
    )
    assert engines._seconds(NETWORK, rounds=1) > 0
    assert pushed == [1, 1, 1]


def test_auto_leaves_out_what_waits_for_the_whole_stack(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(engines, "available_engines", lambda: ["torch", "torch-bf16", "openvino"])
    monkeypatch.setattr(engines, "fastest_engine", lambda _name, _network, names: asked.append(names) or "torch")
    weights = save_weights(tmp_path, "gplws-net-live")
    for live in (False, True):
        assert open_network("gplws-net-live", weights=weights, live=live).engine == "torch"
    assert not any("openvino" in names for names in asked)


def test_a_stack_too_large_for_an_engine_is_refused_before_it_is_read(tmp_path, monkeypatch):
    class Unread:
        shape, dtype = (100, 2048, 2048), np.dtype(np.uint8)

        def __getitem__(self, index):
            raise AssertionError("a frame was read")

        def __len__(self):
            return 100

    weights = save_weights(tmp_path, "gplws-net-live")
    options = ReconstructionOptions(method="gplws-net-live", weights=str(weights), engine="openvino")
    with pytest.raises(InputError, match=r"'openvino' takes all frames at once; for 419 million pixels.*auto or torch"):
        reconstruct(FocalStack(Unread(), np.arange(100.0)), options)
    assert open_network("gplws-net-live", weights=weights, engine="torch", stack_pixels=10**10).engine == "torch"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"log_spread": 1}'])
def test_a_calibration_that_cannot_be_read_is_said(tmp_path, text):
    path = tmp_path / "w.safetensors"
    save_file(build("gplws-net-live").state_dict(), path, metadata={"network": "gplws-net-live", "calibration": text})
    with pytest.raises(InputError, match=r"calibration in the weights .*w\.safetensors cannot be read.*calibrate"):
        open_network("gplws-net-live", weights=path, engine="torch")


@pytest.mark.skipif("openvino" not in available_engines(), reason="OpenVINO is not installed")
def test_openvino_is_there_for_whole_stacks_and_not_for_a_sweep(tmp_path):
    weights = save_weights(tmp_path, "gplws-net-live")
    opened = open_network("gplws-net-live", weights=weights, engine="openvino", stack_pixels=10**6)
    assert opened.engine == "openvino"
    with pytest.raises(InputError, match="engine 'openvino' cannot be used here; choose auto, torch"):
        open_network("gplws-net-live", weights=weights, engine="openvino", live=True)
