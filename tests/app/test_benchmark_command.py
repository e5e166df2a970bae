"""``benchmark`` and ``evaluate`` over many scenes, as users meet them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.torch import save_file

from app.cli import main
from models.benchmark import read_results
from models.focal_stack import FocalStack
from models.language import use_language
from models.networks.registry import NETWORKS, build
from models.training.scene import Scene
from models.training.splits import write_scene

NAME = "gplws-net-2023"


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("COLUMNS", "100")
    yield
    use_language("en")


@pytest.fixture
def scenes(tmp_path) -> Path:
    """Two sample files with tilted planes of known height, 2 um apart."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    texture = np.random.default_rng(1).integers(0, 2, (32, 32)) * 160.0 + 40
    truth = np.tile(np.linspace(1, 3, 32, dtype=np.float32), (32, 1))
    for name, kind in (("a", "plane"), ("b", "slope")):
        blur = np.exp(-np.abs(truth[None] - np.arange(5)[:, None, None]))
        frames = (texture * blur + 120 * (1 - blur)).astype(np.uint8)
        scene = Scene(name, kind, FocalStack(frames, 10 + 2.0 * np.arange(5)), 10 + 2 * truth)
        write_scene(folder / f"{name}.h5", scene)
    return folder


@pytest.fixture
def weights(tmp_path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "own.safetensors"
    save_file(build(NAME).state_dict(), path, {"network": NAME})
    return path


def run(capsys, *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refuse(capsys, *words: object, says: str) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert re.search(says, err), err
    assert "Traceback" not in err


# ---------------------------------------------------------------- evaluate


def test_evaluate_scenes_by_several_methods_and_a_network(capsys, scenes, weights):
    words = ("--method", "mdml", "--method", "sml", "--method", NAME, "--weights", weights)
    code, out, _err = run(capsys, "evaluate", scenes, *words, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["scenes"] == 2
    assert [entry["method"] for entry in document["methods"]] == ["mdml", "sml", NAME]
    mdml, _sml, network = document["methods"]
    assert mdml["mean_absolute_error_steps"] < 0.5
    assert mdml["inside_68"] is None
    assert network["inside_68"] is not None
    assert network["weights_sha256"]
    assert set(mdml["kinds"]) == {"plane", "slope"}
    for name in ("bumpiness", "within_1.25^1", "square_relative_error", "root_mean_square_error", "seconds"):
        assert isinstance(mdml[name], float), name
    assert [(one["scene"], one["method"]) for one in document["by_scene"][:3]] == [
        ("a", "mdml"),
        ("a", "sml"),
        ("a", NAME),
    ]


def test_evaluate_prints_a_line_per_method_and_per_kind(capsys, scenes):
    code, out, _err = run(capsys, "evaluate", scenes, "--method", "mdml", "--method", "rdf", "--by-kind")
    assert code == 0
    assert len(re.findall(r"^mdml ", out, re.MULTILINE)) == 2  # errors, then shares
    assert re.search(r"^slope +1 +0\.\d{3} +0\.\d{3}", out, re.MULTILINE)
    assert "2 scene(s)" in out
    assert "slope" not in run(capsys, "evaluate", scenes, "--method", "mdml")[1]


def test_evaluate_one_stack_by_a_network_and_beside_a_method(capsys, tmp_path, weights):
    frames = np.random.default_rng(0).integers(0, 255, (4, 24, 32), dtype=np.uint8)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    truth = tmp_path / "truth.npy"
    np.save(truth, np.full((24, 32), 1.5))
    words = ("evaluate", tmp_path, "--truth", truth)
    code, out, _err = run(capsys, *words, "--method", NAME, "--weights", weights)
    assert code == 0
    assert "bumpiness" in out
    assert "68 %" in out
    facts = json.loads(run(capsys, *words, "--json")[1])
    assert (facts["method"], facts["pixels"]) == ("mdml", 24 * 32)
    assert len(facts["stack_sha256"]) == 64
    document = json.loads(run(capsys, *words, "--method", "mdml", "--method", "sml", "--json")[1])
    assert document["scenes"] == 1
    assert document["methods"][0]["mean_absolute_error"] == pytest.approx(facts["mean_absolute_error"])


def test_evaluate_refuses_what_it_cannot_use(capsys, scenes, weights, tmp_path):
    (tmp_path / "empty").mkdir()
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    refuse(capsys, "evaluate", tmp_path / "nowhere", says="no file or folder")
    refuse(capsys, "evaluate", tmp_path / "empty", says="no data set")
    refuse(capsys, "evaluate", tmp_path / "stack.tif", says="--truth")
    refuse(capsys, "evaluate", scenes, "--step-um", 2, says="need --truth")
    refuse(capsys, "evaluate", scenes, "--method", "abc", says="no method or network called 'abc'")
    refuse(capsys, "evaluate", scenes, "--method", "sml", "--method", "sml", says="given twice")
    refuse(capsys, "evaluate", scenes, "--weights", weights, says="not among the methods")
    refuse(capsys, "evaluate", scenes, "--method", NAME, "--weights", scenes / "a.h5", says="holds no weights")
    refuse(capsys, "evaluate", scenes, "--confidence-above", 2, says="from 0 to 1")


# ---------------------------------------------------------------- benchmark


def test_list_names_every_network_with_its_parameters(capsys):
    code, out, err = run(capsys, "benchmark", "--list", "--json")
    entries = {entry["name"]: entry for entry in json.loads(out)}
    assert (code, err) == (0, "")
    assert list(entries) == list(NETWORKS)
    assert (entries[NAME]["fused"], entries[NAME]["published"]) == (540_273, 540_273)
    assert all(entry["training"] >= entry["fused"] > 0 for entry in entries.values())


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 200])
def test_the_list_breaks_neither_names_nor_numbers(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, _err = run(capsys, "benchmark", "--list")
    assert code == 0
    words = out.split()
    assert {"name", "role", "training", "fused", "published", "ablation", *NETWORKS} <= set(words)
    assert {"540,273", "562,473", "39,790,343"} <= set(words)
    assert ("GPLWS-Net, accurate" in out) == (columns >= 110)
    assert max(len(line.rstrip()) for line in out.splitlines()) <= max(columns, 80)


def test_measure_keep_and_rebuild_the_page(capsys, scenes, weights, tmp_path):
    kept, markdown = tmp_path / "results.json", tmp_path / "page.md"
    words = ("benchmark", "--results", kept)
    sizes = ("--sizes", "32x32x3", "--rounds", 1, "--threads", 1)
    assert run(capsys, *words, "--latency", *sizes, "--networks", NAME)[0] == 0
    title = f"tilted planes={scenes}"
    assert run(capsys, *words, "--scenes", title, "--networks", f"mdml,{NAME}", "--weights", weights)[0] == 0
    results = read_results(kept)
    assert [race.name for race in results.races] == ["32x32x3"]
    assert [trial.name for trial in results.trials] == ["tilted planes"]
    assert run(capsys, *words, "--markdown", markdown)[0] == 0
    text = markdown.read_text()
    assert "### tilted planes (2 scenes)" in text
    assert "### 32x32x3" in text
    assert "| 540,273 |" in text
    assert str(tmp_path) not in text
    assert run(capsys, "benchmark", "--merge", kept, "--markdown", tmp_path / "again.md")[0] == 0
    assert (tmp_path / "again.md").read_text() == text


def test_latency_goes_on_from_its_results_unless_told_otherwise(capsys, tmp_path):
    kept = tmp_path / "results.json"
    words = ("benchmark", "--latency", "--sizes", "32x32x3,64x32x3", "--networks", "sml", "--threads", 1)
    code, _out, err = run(capsys, *words, "--rounds", 1, "--results", kept)
    assert code == 0
    assert re.search(r"All times take about .* min. Stopped, the same command with --results goes on", err)
    first = read_results(kept)
    assert [race.name for race in first.races] == ["32x32x3", "64x32x3"]
    code, out, _err = run(capsys, *words, "--rounds", 1, "--results", kept, "--json")
    assert json.loads(out)["races"] == json.loads(kept.read_text())["races"]
    assert read_results(kept).races == first.races
    assert run(capsys, *words, "--rounds", 2, "--results", kept)[0] == 0
    both = read_results(kept)
    assert [race.timings[0].seconds[0] for race in both.races] == [race.timings[0].seconds[0] for race in first.races]
    assert {len(race.timings[0].seconds) for race in both.races} == {2}
    assert run(capsys, *words, "--rounds", 1, "--results", kept, "--fresh")[0] == 0
    assert {len(race.timings[0].seconds) for race in read_results(kept).races} == {1}


def test_folders_of_one_title_are_one_set_of_scenes(capsys, scenes):
    words = ("--scenes", f"rocks={scenes / 'a.h5'}", "--scenes", f"rocks={scenes / 'b.h5'}", "--scenes", scenes)
    code, out, _err = run(capsys, "benchmark", *words, "--networks", "sml", "--json")
    assert code == 0
    rocks, both = json.loads(out)["trials"]
    assert (rocks["name"], both["name"]) == ("rocks", "scenes")
    assert rocks["accuracies"][0]["count"] == 2
    assert rocks["accuracies"][0]["figures"] == both["accuracies"][0]["figures"]


def test_json_is_the_only_thing_on_stdout(capsys, scenes):
    code, out, err = run(capsys, "benchmark", "--scenes", scenes, "--networks", "sml", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["trials"][0]["name"] == "scenes"
    assert document["trials"][0]["accuracies"][0]["method"] == "sml"


def test_benchmark_refuses_what_it_cannot_use(capsys, scenes, tmp_path):
    refuse(capsys, "benchmark", says="Nothing to measure")
    refuse(capsys, "benchmark", "--latency", "--networks", "abc", says="no network called 'abc'")
    refuse(capsys, "benchmark", "--latency", "--sizes", "9x9", says="no size")
    refuse(capsys, "benchmark", "--latency", "--rounds", 0, says="--rounds 0")
    refuse(capsys, "benchmark", "--latency", "--slow", 0, says="--slow 0")
    refuse(capsys, "benchmark", "--latency", "--threads", -1, says="--threads -1")
    refuse(capsys, "benchmark", "--latency", "--engine", "steam", says="no engine called 'steam'.*torch")
    refuse(capsys, "benchmark", "--scaling", "abc", says="no network called 'abc'")
    refuse(capsys, "benchmark", "--scenes", tmp_path / "nowhere", says="no file or folder")
    refuse(capsys, "benchmark", "--list", "--markdown", tmp_path / "no" / "page.md", says="does not exist")
    refuse(capsys, "benchmark", "--list", "--merge", tmp_path / "none.json", says="no file")
    (tmp_path / "bad.json").write_text("{}}")
    refuse(capsys, "benchmark", "--list", "--results", tmp_path / "bad.json", says="holds no results")
