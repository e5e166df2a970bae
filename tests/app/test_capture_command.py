import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from app import demo
from app.cli import main
from models.storage import frames_written, is_complete, open_stack

RANGE = ["--top-um", "5", "--bottom-um", "-15"]


@pytest.fixture
def profile(tmp_path):
    """A small simulated microscope that does not wait."""
    path = tmp_path / "quick.toml"
    path.write_text('based_on = "simulated"\ntime_scale = inf\n[camera]\nimage_shape = [48, 64]\n')
    return ["--profile", str(path)]


def test_captures_a_stack(profile, tmp_path, capsys):
    out = tmp_path / "s.h5"
    assert main(["capture", *profile, *RANGE, "--step-um", "3", "--bit-depth", "12", "--out", str(out)]) == 0
    stack = open_stack(out)
    np.testing.assert_allclose(stack.z_um, np.linspace(5, -15, 8), atol=0.01)
    assert stack.frames.dtype == np.uint16
    assert "2.85714 µm instead of 3 µm" in capsys.readouterr().err


def test_ascending_by_count_with_one_json_document(profile, tmp_path, capsys):
    out = tmp_path / "s.h5"
    words = ["capture", *profile, *RANGE, "--frames", "6", "--ascending", "--exposure-ms", "5", "--gain", "2", "--json"]
    assert main([*words, "--out", str(out)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["frames"] == 6
    assert summary["first_um"] == -15.0
    assert summary["bytes"] == out.stat().st_size
    stack = open_stack(out)
    assert np.all(np.diff(stack.z_um) > 0)
    assert stack.metadata["camera_settings"] == {"exposure_ms": 5.0, "gain": 2.0, "bit_depth": 8}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*RANGE], "either --step-um or --frames"),
        ([*RANGE, "--step-um", "1", "--frames", "3"], "either --step-um or --frames"),
        (["--top-um", "-15", "--bottom-um", "5", "--step-um", "1"], "must lie above"),
        ([*RANGE, "--step-um", "nan"], "positive number"),
        ([*RANGE, "--frames", "1"], "2 to"),
        (["--top-um", "5000", "--bottom-um", "0", "--frames", "5"], "outside the limits"),
        ([*RANGE, "--frames", "5", "--gain", "0.1"], "--gain 0.1"),
        ([*RANGE, "--frames", "5", "--exposure-ms", "99999"], "exposure"),
        ([*RANGE, "--frames", "5", "--bit-depth", "10"], "8, 12, 16"),
        ([*RANGE, "--frames", "5", "--profile", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_explained_and_leaves_nothing(profile, tmp_path, capsys, words, message):
    out = tmp_path / "s.h5"
    assert main(["capture", *profile, *words, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_refuses_other_suffixes_and_existing_files(profile, tmp_path, capsys):
    words = ["capture", *profile, *RANGE, "--frames", "5", "--out"]
    assert main([*words, str(tmp_path / "s.tif")]) == 2
    assert ".h5" in capsys.readouterr().err
    (tmp_path / "s.h5").write_text("mine")
    assert main([*words, str(tmp_path / "s.h5")]) == 2
    assert (tmp_path / "s.h5").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for another process on Windows")
def test_ctrl_c_keeps_the_frames_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "s.h5"
    words = ["capture", *RANGE, "--frames", "400", "--out", str(out)]
    running = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *words], stderr=subprocess.PIPE, text=True, env={**os.environ, "LANG": "C"}
    )
    try:
        written_at = set()
        while len(written_at) < 5:  # every frame touches the file
            assert running.poll() is None
            time.sleep(0.02)
            if out.exists():
                written_at.add(out.stat().st_mtime_ns)
        running.send_signal(signal.SIGINT)
        _nothing, said = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 130
    assert f"reliefscope recover {out}" in said
    assert not is_complete(out)
    written = frames_written(out)[0]
    assert 2 <= written < 400
    assert main(["recover", str(out)]) == 0
    assert main(["recover", str(out)]) == 2, "there is nothing left to recover"
    assert len(open_stack(out)) == written


def test_the_headless_demo_leaves_a_stack_and_a_picture(profile, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "PROFILE", profile[1])
    for _again in range(2):
        assert demo.main(["--headless"]) == 0
    assert is_complete(tmp_path / "demo" / "engraved_roll.h5")
    assert (tmp_path / "demo" / "engraved_roll.png").read_bytes()[:4] == b"\x89PNG"
    assert "steps" in capsys.readouterr().out
