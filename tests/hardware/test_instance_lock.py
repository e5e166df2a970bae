import contextlib
import os
import signal
import subprocess
import sys

import platformdirs
import pytest

from hardware.instance_lock import DeviceLock, lock_folder
from hardware.profile import load_profile, open_microscope
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stage import StageError, StagePortBusy

HOLD = """
import sys, time
from hardware.instance_lock import DeviceLock
from hardware.stage import StageError
lock = DeviceLock(sys.argv[1], "Stage", StageError)
print("held", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def held_by_another_program(device):
    child = subprocess.Popen([sys.executable, "-c", HOLD, device], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_the_message_names_the_other_process():
    with held_by_another_program("/dev/ttyX") as child:
        with pytest.raises(StageError, match=rf"Stage is in use .* process {child.pid}, since 20\d\d-"):
            DeviceLock("/dev/ttyX", "Stage", StageError)
        DeviceLock("/dev/ttyY", "Stage", StageError).close()


def test_kill_releases_it():
    with held_by_another_program("/dev/ttyX") as child:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        with DeviceLock("/dev/ttyX", "Stage", StageError):
            pass


def test_twice_in_one_program():
    with DeviceLock("A", "Stage", StageError), pytest.raises(StageError, match="open in this program already"):
        DeviceLock("A", "Stage", StageError)
    DeviceLock("A", "Stage", StageError).close()


def test_similar_names_are_different_devices():
    with DeviceLock("COM 1", "a", StageError), DeviceLock("COM/1", "b", StageError):
        assert len([path for path in lock_folder().iterdir() if path.name.startswith("COM_1")]) == 2


def test_a_folder_that_cannot_be_used_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(platformdirs, "user_runtime_dir", lambda *_names, **_options: str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match="cannot be reserved"):
        DeviceLock("A", "Stage", StageError)


def test_a_microscope_holds_its_port_whatever_name_it_goes_by(tmp_path):
    with GrblEmulator() as emulator:
        profile = load_profile("grbl").changed(stage={"port": emulator.port}, camera={"image_shape": (64, 64)})
        other_name = tmp_path / "by-id"
        other_name.symlink_to(emulator.port)
        with open_microscope(profile), pytest.raises(StagePortBusy, match="already"):
            open_microscope(profile.changed(stage={"port": str(other_name)}))
        open_microscope(profile).close()
        with held_by_another_program(os.path.realpath(emulator.port)) as child:
            heard = len(emulator.received)
            with pytest.raises(StagePortBusy, match=str(child.pid)):
                open_microscope(profile)
            assert heard == len(emulator.received), "the controller was not even asked"


def test_a_microscope_that_cannot_be_opened_lets_its_port_go(tmp_path):
    missing = load_profile("grbl").changed(stage={"port": str(tmp_path / "none")})
    for _time in range(2):
        with pytest.raises(StageError, match="cannot be opened"):
            open_microscope(missing)
