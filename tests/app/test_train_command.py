"""``reliefscope train`` as users meet it: weights and a card, one sentence for what cannot be, Ctrl-C without loss."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main
from models.language import use_language
from tests.models.training_data import write_shard

ROOT = Path(__file__).parents[2]

RECIPE = """
network = "gplws-net-2023"
steps = 3
batch = 2
ema = 0.9
[[stages]]
crop = [32, 32]
frames = [4, 4]
"""


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    yield
    use_language("en")


@pytest.fixture
def shards(tmp_path) -> Path:
    write_shard(tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "short.toml"
    path.write_text(RECIPE)
    return path


def run(capsys, *words: object) -> tuple[int, str, str]:
    code = main(["train", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refuse(capsys, *words: object, says: str) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert re.search(says, err), err
    assert len(err.strip().splitlines()) == 1


def test_from_shards_to_weights(capsys, shards, recipe, tmp_path):
    words = ("--config", recipe, "--data", shards, "--validation", shards, "--out", tmp_path / "out", "--json")
    code, out, err = run(capsys, *words)
    facts = json.loads(out)
    assert code == 0
    assert (facts["network"], facts["recipe"], facts["steps"], facts["finished"]) == (
        "gplws-net-2023",
        "short",
        3,
        True,
    )
    assert 0 < facts["mean_absolute_error_steps"] < 8
    assert "step 3, 100.0%" in err
    assert "error on unseen scenes" in err
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["sha256"] == facts["sha256"]
    assert Path(facts["weights"]).is_file()
    assert run(capsys, *words)[0] == 0  # nothing is left to do
    code, out, err = run(capsys, *words[:-1], "--fresh", "--steps", 1, "--seed", 5, "--threads", 1)
    assert code == 0
    assert "weights.safetensors" in out
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (card["steps"], card["recipe"]["seed"]) == (1, 5)


def test_another_recipe_or_other_data_in_the_folder_of_a_run_are_refused(capsys, shards, recipe, tmp_path):
    words = ("--config", recipe, "--data", shards, "--out", tmp_path / "out", "--threads", 1)
    assert run(capsys, *words)[0] == 0
    refuse(capsys, *words, "--seed", 3, says=r"another recipe: now seed = 3 instead of 0.*--out.*--fresh")
    write_shard(tmp_path / "others", 5)
    refuse(capsys, *words, "--data", tmp_path / "others", says=r"learns from .*shards, not from .*others.*--fresh")
    assert run(capsys, *words, "--steps", 4, "--minutes", 1)[0] == 0


def test_a_pause_is_said(capsys, shards, recipe, tmp_path):
    words = ("--config", recipe, "--data", shards, "--out", tmp_path / "out", "--steps", 100000)
    code, _out, err = run(capsys, *words, "--pause-after", 0.002)
    assert code == 0
    assert "Paused. The same command goes on from the checkpoint" in err


def test_what_cannot_be_used_is_said_in_one_sentence(capsys, shards, recipe, tmp_path):
    out = ("--out", tmp_path / "out")
    refuse(capsys, "--config", "fast", "--data", shards, *out, says="no recipe called 'fast'.*default")
    refuse(capsys, "--network", "nothing", "--data", shards, *out, says="network: There is no network called")
    refuse(capsys, "--config", recipe, "--data", tmp_path / "none", *out, says="There is no folder")
    refuse(capsys, "--config", recipe, "--data", shards, "--minutes", 0, *out, says="--minutes 0.* more than 0")
    refuse(capsys, "--config", recipe, "--data", shards, "--steps", 0, *out, says="steps: it must be 1 or more")
    refuse(capsys, "--config", recipe, "--data", shards, "--device", "abacus", *out, says="'abacus' cannot be used")
    refuse(capsys, "--config", "published", *out, says="epochs: rendered scenes have no end")
    recipe.write_text(RECIPE + "\n[optimiser]\nlearning_rate = 'fast'")
    refuse(capsys, "--config", recipe, "--data", shards, *out, says="optimiser.learning_rate: it must be a number")
    (tmp_path / "file").write_text("")
    refuse(capsys, "--data", shards, "--out", tmp_path / "file", says="Cannot write .*file")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(shards, recipe, tmp_path):
    recipe.write_text("log_every_s = 0\n" + RECIPE)
    words = ("--config", str(recipe), "--data", str(shards), "--out", str(tmp_path / "out"), "--steps", "100000")
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "train", *words],
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "step 1" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Stopped. The same command goes on" in rest
    assert "Traceback" not in rest
    assert (tmp_path / "out" / "checkpoint.pt").exists()
