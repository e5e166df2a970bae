import json
import os
import signal
import subprocess
import sys
import time

import pytest

from app.cli import main
from models.storage import open_stack
from models.training import splits
from models.training.shards import read_shard
from models.training.splits import Split, read_scenes

SMALL = ["--count", "18", "--size", "32", "--frames", "3"]


def test_renders_shards_and_goes_on_where_it_was(tmp_path, capsys):
    out = tmp_path / "new" / "pool"
    assert main(["scenes", "--out", str(out), *SMALL, "--seed", "3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["scenes"], said["rendered"]) == (18, 18)
    assert read_shard(out / "shard_00001.npz")["frames"].shape == (2, 3, 32, 32)
    assert main(["scenes", "--out", str(out), *SMALL, "--seed", "3"]) == 0
    assert "0" in capsys.readouterr().out


def test_renders_a_split_that_the_program_opens(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(splits.SPLITS, "tiny", Split(99, 2, frames=(4,), size_px=40))
    assert main(["scenes", "--split", "tiny", "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rendered"] == 2
    assert len(read_scenes(tmp_path)) == 2
    assert len(open_stack(tmp_path / "tiny_001.h5")) == 4
    assert main(["info", str(tmp_path / "tiny_000.h5")]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "validation"], "calibration"),
        (["--split", "test", "--count", "5"], "--count"),
        (["--count", "0"], "count"),
        (["--size", "8"], "size"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_sentence(words, said, tmp_path, capsys):
    assert main(["scenes", "--out", str(tmp_path / "x"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.npz"))


def test_shards_of_another_seed_are_not_touched(tmp_path, capsys):
    assert main(["scenes", "--out", str(tmp_path), *SMALL, "--seed", "1"]) == 0
    assert main(["scenes", "--out", str(tmp_path), *SMALL, "--seed", "2"]) == 2
    assert "other scenes" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_leaves_whole_shards_only(tmp_path, jobs):
    words = ["scenes", "--out", str(tmp_path), "--count", "4000", "--size", "48", "--frames", "3", "--jobs", jobs]
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("shard_*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Stopped" in said
    assert "Traceback" not in said
    left = list(tmp_path.iterdir())
    assert left
    for path in left:
        assert len(read_shard(path)["kind"]) == 16
