"""Networks and methods of the focus volume on the command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from app.cli import main
from models.language import use_language
from models.networks import weights as weights_module
from models.storage import load_reconstruction
from tests.trained import save_weights, ship

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    yield
    use_language("en")


@pytest.fixture
def stack(tmp_path) -> Path:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 255, (7, 40, 48), dtype=np.uint8))
    return path


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    ship(monkeypatch, tmp_path / "weights", "gplws-net-live")
    return tmp_path / "weights" / "gplws-net-live.safetensors"


def run(capsys, *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refuse(capsys, *words: object, says: str) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert re.search(says, err), err


@pytest.mark.parametrize("words", [("--help",), ("methods", "--json"), ("reconstruct", "--help")])
def test_what_needs_no_network_loads_no_pytorch(words):
    code = f"import sys, app.cli; app.cli.main({list(words)}); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.split()[-1] == "False"


def test_the_window_loads_no_pytorch():
    code = "import sys, app.main_window; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "False"


def test_methods_are_listed_by_kind(capsys):
    methods = {entry["name"]: entry for entry in json.loads(run(capsys, "methods", "--json")[1])}
    assert methods["gplws-net"]["kind"] == "network"
    assert methods["mdml"]["kind"] == "measure"
    assert methods["rr"]["kind"] == "volume"
    assert methods["rr"]["needs_whole_stack"]
    assert not methods["gplws-net-live"]["needs_whole_stack"]
    out = run(capsys, "methods")[1]
    headings = [out.index(words) for words in ("Networks", "Focus measures", "Methods of the whole focus volume")]
    assert headings == sorted(headings)
    assert headings[1] < out.index("tenengrad") < headings[2] < out.index("variational")


@pytest.mark.parametrize("method", ["gplws-net-live", "rr"])
def test_reconstruct_by_a_network_and_by_the_volume(capsys, stack, shipped, tmp_path, method):
    out = tmp_path / "a.h5"
    code, text, _err = run(capsys, "reconstruct", stack, "--step-um", 2, "--method", method, "--out", out, "--json")
    assert code == 0
    document = json.loads(text)
    assert document["method"] == method
    assert (document["median_interval95"] is not None) == (method == "gplws-net-live")
    found = load_reconstruction(out)
    assert found.method == method
    assert (found.interval95_um is not None) == (method == "gplws-net-live")
    told = run(capsys, "reconstruct", stack, "--step-um", 2, "--method", method, "--out", out)[1]
    assert ("± " in told) == (method == "gplws-net-live")


def test_weights_choose_their_network(capsys, stack, tmp_path, monkeypatch):
    ship(monkeypatch, tmp_path / "none")
    own = save_weights(tmp_path, "gplws-net-live")
    words = ("reconstruct", stack, "--out", tmp_path / "a.npy")
    document = json.loads(run(capsys, *words, "--weights", own, "--engine", "torch", "--json")[1])
    assert document["method"] == "gplws-net-live"
    assert document["parameters"]["engine"] == "torch"
    assert document["parameters"]["weights"] == str(own)
    peer = save_weights(tmp_path, "gplws-net-2023", calibrated=False)
    assert json.loads(run(capsys, *words, "--weights", peer, "--json")[1])["method"] == "gplws-net-2023"


def test_what_does_not_fit_is_said(capsys, stack, tmp_path, monkeypatch):
    ship(monkeypatch, tmp_path / "none")
    own = save_weights(tmp_path, "gplws-net-live")
    words = ("reconstruct", stack, "--out", tmp_path / "a.npy")
    refuse(capsys, *words, "--weights", own, "--method", "mdml", says="network 'gplws-net-live'")
    refuse(capsys, *words, "--weights", own, "--method", "magic", says="no method called 'magic'")
    refuse(capsys, *words, "--weights", tmp_path / "no.safetensors", says="There is no file")
    refuse(capsys, *words, "--weights", stack, says="holds no weights")
    refuse(capsys, *words, "--weights", own, "--window", 9, says="--window.*no use for it")
    refuse(capsys, *words, "--method", "rdf", "--engine", "torch", says="--engine.*no use for it")
    refuse(capsys, *words, "--weights", own, "--engine", "abacus", says="--engine abacus")
    refuse(capsys, *words, "--method", "gplws-net", says="No weights of 'gplws-net'")
    refuse(capsys, *words, "--method", "fvnet", says="No weights of 'fvnet'")
    bare = save_weights(tmp_path, "gplws-net", calibrated=False)
    refuse(capsys, *words, "--weights", bare, says="not calibrated")
    assert not (tmp_path / "a.npy").exists()


def test_info_says_which_weights_come_with_the_program(capsys, tmp_path, monkeypatch):
    ship(monkeypatch, tmp_path / "none")
    assert "No trained weights" in run(capsys, "info")[1]
    ship(monkeypatch, tmp_path / "weights", "gplws-net-live")
    (weights_module.FOLDER / "gplws-net-live.md").write_text("# GPLWS-Net, live\n")
    document = json.loads(run(capsys, "info", "--json")[1])
    (entry,) = document["weights"]
    assert entry["network"] == "gplws-net-live"
    assert re.fullmatch("[0-9a-f]{64}", entry["sha256"])
    assert entry["card"].endswith("gplws-net-live.md")
    assert "gplws-net-live" in run(capsys, "info")[1]


def test_info_of_a_file_of_weights(capsys, tmp_path):
    path = save_weights(tmp_path, "fvnet", calibrated=False)
    facts = json.loads(run(capsys, "info", path, "--json")[1])
    assert (facts["kind"], facts["network"], facts["calibrated"]) == ("weights", "fvnet", False)
    assert "no: they state no uncertainty" in run(capsys, "info", path)[1]
    (tmp_path / "bad.safetensors").write_text("no")
    refuse(capsys, "info", tmp_path / "bad.safetensors", says="holds no weights")
