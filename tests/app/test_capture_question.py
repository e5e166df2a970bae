"""``capture`` with a controller that fails on the way: at a terminal somebody is asked, without one it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hardware.simulator.controllers.grbl import GrblEmulator
from models.storage import frames_written, is_complete, open_stack, recover

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")

FRAMES = 20
ROOT = Path(__file__).parents[2]
PROFILE = """
based_on = "simulated"
title = "Emulated drive"

[stage]
driver = "grbl"
port = "{port}"
low_um = -3900
high_um = -1
speed_um_s = 5000
trust_position = {trust}

[axis]
soft_limits_um = [-3900, -1]
backlash_um = 2.0
settle_ms = 0
tolerance_um = 2.0

[camera]
image_shape = [48, 64]
"""


@pytest.fixture
def controller() -> Iterator[GrblEmulator]:
    with GrblEmulator(name="Focus", homing=True, hard_limits=True) as emulator:
        yield emulator


class Terminal:
    """The command at a terminal of its own, and what it says there."""

    def __init__(self, controller: GrblEmulator, out: Path, *, trouble, options=("--home",), trust=False) -> None:
        profile = out.with_suffix(".toml")
        profile.write_text(PROFILE.format(port=controller.port, trust=str(trust).lower()))
        words = ["capture", "--profile", profile, *options, "--top-um=-500", "--bottom-um=-519"]
        words += ["--frames", FRAMES, "--exposure-ms", "1", "--out", out]
        self._ours, terminal = os.openpty()
        self.said = ""
        self.child = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *map(str, words)], cwd=ROOT, stdin=terminal, stderr=terminal,
            stdout=subprocess.DEVNULL, env={**os.environ, "LANG": "C", "COLUMNS": "200"},
        )  # fmt: skip
        os.close(terminal)
        if trouble is not None:
            threading.Thread(target=make_trouble, args=(controller, out, trouble), daemon=True).start()

    def read_until(self, words: str) -> None:
        end_s = time.monotonic() + 60.0
        while words not in self.said:
            assert time.monotonic() < end_s, self.said
            self.said += os.read(self._ours, 4096).decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """The exit code, when everything was read."""
        try:
            while data := os.read(self._ours, 4096):
                self.said += data.decode(errors="replace")
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(self._ours)
        return self.child.wait(60)


def make_trouble(controller: GrblEmulator, out: Path, trouble) -> None:
    """When some frames are on disk."""
    before = None
    while before is None or len(controller.commands) < before + 6:
        time.sleep(0.002)
        if before is None and out.exists():
            before = len(controller.commands)
    trouble()


def hit_a_switch(controller: GrblEmulator):
    def trouble() -> None:
        with controller.lock:
            controller._critical_alarm(1)

    return trouble


def check_whole(out: Path) -> None:
    assert is_complete(out)
    np.testing.assert_allclose(open_stack(out).z_um, np.linspace(-500.0, -519.0, FRAMES), atol=0.2)


def check_kept(out: Path, said: str) -> None:
    assert not is_complete(out)
    written, planned = frames_written(out)
    assert 2 <= written < planned == FRAMES
    assert f"{written} of {FRAMES} frames are safe" in said
    assert f"reliefscope recover {out}" in said
    np.testing.assert_allclose(recover(out).z_um, np.linspace(-500.0, -519.0, FRAMES)[:written], atol=0.2)


def homings(controller: GrblEmulator) -> int:
    return len([command for command in controller.commands if command.startswith("$H")])


def wait_for_homing(controller: GrblEmulator) -> None:
    end_s = time.monotonic() + 60.0
    while controller.state != "Home":
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.parametrize(("key", "homed"), [("h", 2), ("p", 1)])
def test_a_key_lets_it_go_on(controller, tmp_path, key, homed):
    terminal = Terminal(controller, tmp_path / "a.h5", trouble=hit_a_switch(controller))
    terminal.read_until("Type h / p / e and press Enter.")
    assert "limit switch" in terminal.said
    assert "frames are safe; the capture waits" in terminal.said
    for title in ("Home and go on", "This position is right: go on", "End here and keep the frames"):
        assert title in terminal.said
    terminal.type("what?\n")
    terminal.read_until("what?")
    terminal.type(f"{key}\n")
    assert terminal.end() == 0, terminal.said
    assert terminal.said.count("press Enter") == 2
    assert homings(controller) == homed
    check_whole(tmp_path / "a.h5")
    assert open_stack(tmp_path / "a.h5").metadata["course"]["decisions"] == 1


def test_a_key_ends_it_and_keeps_the_frames(controller, tmp_path):
    terminal = Terminal(controller, tmp_path / "a.h5", trouble=hit_a_switch(controller))
    terminal.read_until("press Enter.")
    terminal.type("e\n")
    assert terminal.end() == 2
    assert homings(controller) == 1
    check_kept(tmp_path / "a.h5", terminal.said)


def test_ctrl_c_ends_the_question_and_keeps_the_frames(controller, tmp_path):
    terminal = Terminal(controller, tmp_path / "a.h5", trouble=hit_a_switch(controller))
    terminal.read_until("press Enter.")
    terminal.child.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.said
    check_kept(tmp_path / "a.h5", terminal.said)


def test_ctrl_c_halts_the_homing_on_the_way_and_keeps_the_frames(controller, tmp_path, monkeypatch):
    terminal = Terminal(controller, tmp_path / "a.h5", trouble=hit_a_switch(controller))
    terminal.read_until("press Enter.")
    monkeypatch.setattr("hardware.simulator.controllers.grbl.HOMING_S", 1000.0)
    terminal.type("h\n")
    wait_for_homing(controller)
    terminal.child.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert controller.state == "Alarm"
    check_kept(tmp_path / "a.h5", terminal.said)


def test_ctrl_c_halts_the_homing_at_the_beginning(controller, tmp_path, monkeypatch):
    monkeypatch.setattr("hardware.simulator.controllers.grbl.HOMING_S", 1000.0)
    terminal = Terminal(controller, tmp_path / "a.h5", trouble=None)
    wait_for_homing(controller)
    terminal.child.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert controller.state == "Alarm"
    assert "Traceback" not in terminal.said
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize("option", ["--trust-position", ""])
def test_what_a_person_vouched_for_is_not_homed_on_the_way(controller, tmp_path, option):
    """Homing would count from another zero. Where the counter was reset, there is no way on at all."""
    controller.state = "Idle"
    with controller.lock:
        controller.motor.put(-505.0)
    terminal = Terminal(
        controller, tmp_path / "a.h5", trouble=controller.reset, options=[option] if option else [], trust=not option
    )
    terminal.read_until("Type e and press Enter.")
    assert "The two do not fit" in terminal.said
    terminal.type("e\n")
    assert terminal.end() == 2
    assert homings(controller) == 0
    check_kept(tmp_path / "a.h5", terminal.said)


def test_without_a_terminal_it_ends_and_keeps_the_frames(controller, tmp_path):
    out = tmp_path / "a.h5"
    profile = tmp_path / "a.toml"
    profile.write_text(PROFILE.format(port=controller.port, trust="false"))
    words = ["capture", "--profile", profile, "--home", "--top-um=-500", "--bottom-um=-519"]
    words += ["--frames", FRAMES, "--exposure-ms", "1", "--out", out]
    threading.Thread(target=make_trouble, args=(controller, out, hit_a_switch(controller)), daemon=True).start()
    child = subprocess.run(
        [sys.executable, "-m", "app.cli", *map(str, words)], cwd=ROOT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, env={**os.environ, "LANG": "C"}, timeout=60,
    )  # fmt: skip
    assert child.returncode == 2
    assert "press Enter" not in child.stderr
    assert child.stderr.count("limit switch") == 1
    assert homings(controller) == 1
    check_kept(out, child.stderr)
