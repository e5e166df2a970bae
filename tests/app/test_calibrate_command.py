"""``calibrate``: from what train leaves to weights with intervals, on the command line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from app.cli import main
from models.networks.registry import build
from models.training.generator import random_scene
from models.training.splits import write_scene


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    save_file(build("gplws-net-live").state_dict(), path, metadata={"network": "gplws-net-live"})
    return path


@pytest.fixture
def scenes(tmp_path):
    (tmp_path / "scenes").mkdir()
    for index in range(3):
        write_scene(tmp_path / "scenes" / f"scene_{index}.h5", random_scene((8, index), size=(72, 72), frames=5))
    return tmp_path / "scenes"


def test_the_result_says_how_often_the_intervals_held(weights, scenes, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "mine.safetensors"
    assert main(["calibrate", str(weights), "--scenes", str(scenes), "--out", str(out), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["calibration"]["scenes"] == 3
    assert 0.5 < card["calibration"]["inside_68"] < 0.9
    assert {path.name for path in out.parent.iterdir()} == {"mine.safetensors", "mine.json"}


@pytest.mark.parametrize("spoil", ["weights", "scenes"])
def test_bad_input_is_explained_and_leaves_nothing(weights, scenes, tmp_path, capsys, spoil):
    (tmp_path / "out").mkdir()
    if spoil == "weights":
        weights.write_bytes(b"no weights")
    else:
        scenes = tmp_path / "nowhere"
    arguments = ["calibrate", str(weights), "--scenes", str(scenes), "--out", str(tmp_path / "out" / "w.safetensors")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert ("weights.safetensors" if spoil == "weights" else "nowhere") in said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").iterdir())
