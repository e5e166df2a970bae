"""Training in processes of its own: killed in the middle, and several that train together."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.models.training_child import run, tiny_recipe
from tests.models.training_data import write_shard

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shards(tmp_path) -> Path:
    write_shard(tmp_path / "shards")
    return tmp_path / "shards"


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def child(shards: Path, out: Path, steps: int, *launcher: str) -> subprocess.Popen[str]:
    words = [sys.executable, *(launcher or ()), "-m", "tests.models.training_child", str(shards), str(out), str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_kill_9_then_the_same_command_gives_the_weights_of_an_uninterrupted_run(shards, tmp_path):
    steps, out = 250, tmp_path / "killed"
    process = child(shards, out, steps)
    for line in process.stdout:
        if int(line.split()[0]) >= 100 and (out / "checkpoint.pt").exists():
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "weights.safetensors").exists()
    result = run(shards, out, tiny_recipe(steps=steps))
    assert result.steps == steps
    run(shards, tmp_path / "whole", tiny_recipe(steps=steps))
    assert weights(out) == weights(tmp_path / "whole")
    assert not list(out.glob(".*part*"))


def test_two_processes_train_one_network(shards, tmp_path):
    """Started by torchrun over gloo; both see other stacks, and only the first one writes."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = child(shards, tmp_path / "out", 10, *launcher)
    out, _err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert out.count("finished 10 0") == 2
    assert sum(line.split()[0] == "10" for line in out.splitlines()) == 1
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (card["processes"], card["steps"]) == (2, 10)
    run(shards, tmp_path / "alone", tiny_recipe(steps=10))
    assert weights(tmp_path / "out") != weights(tmp_path / "alone")
