"""``devices`` and ``capture`` on a stage at a real port, with the controller emulated."""

import json
import os
import signal
import threading

import pytest

from app.cli import main
from hardware import search as search_module
from hardware.cameras import CamerasFound
from hardware.profile import load_profile, profile_names
from hardware.search import SerialPort
from hardware.simulator.controllers.grbl import GrblEmulator
from hardware.stages.registry import DRIVERS
from models.storage import open_stack

CAMERAS = CamerasFound((), {})
SERIAL = sorted(name for name in profile_names() if hasattr(load_profile(name).stage, "port"))


@pytest.fixture(autouse=True)
def only_what_the_test_plugs_in(monkeypatch, tmp_path):
    monkeypatch.setenv("RELIEFSCOPE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(search_module.list_ports, "comports", list)
    monkeypatch.setattr(search_module, "list_cameras", lambda: CAMERAS)


@pytest.fixture
def controller():
    with GrblEmulator(name="Focus", homing=True) as emulator:
        yield emulator


def test_lists_the_microscopes(capsys):
    assert main(["devices", "--profiles"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in profile_names())
    assert main(["devices", "--profiles", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [item["name"] for item in document["profiles"]] == profile_names()
    assert {item["name"]: item["simulated"] for item in document["profiles"]}["simulated"] is True
    assert "ports" not in document


def test_finds_the_controller_without_moving_it(controller, capsys):
    assert main(["devices", "--port", controller.port]) == 0
    told = capsys.readouterr()
    assert "Focus" in told.out
    assert "No camera was found." in told.err
    assert controller.motor.position_um == 0.0
    assert not any(line.startswith("$H") for line in controller.commands)


def test_what_is_found_as_one_json_document(controller, tmp_path, capsys):
    missing = str(tmp_path / "tty")
    assert main(["devices", "--port", controller.port, "--port", missing, "--json"]) == 0
    here, nowhere = json.loads(capsys.readouterr().out)["ports"]
    assert (here["stage"], here["baud"], here["problem"]) == ("grbl", 115200, None)
    assert "Focus" in here["identity"]
    assert nowhere["stage"] is None
    assert "cannot be opened" in nowhere["problem"]


def test_no_port_says_what_to_do(capsys):
    assert main(["devices"]) == 0
    assert "--port" in capsys.readouterr().err


def test_the_users_own_profiles_are_listed_and_broken_ones_told(tmp_path, capsys):
    folder = tmp_path / "user" / "profiles"
    folder.mkdir(parents=True)
    (folder / "bench.toml").write_text('based_on = "simulated"\ntitle = "On the bench"\n')
    (folder / "broken.toml").write_text('based_on = "simulated"\n[axis]\nsettle_ms = -1\n')
    assert main(["devices", "--profiles"]) == 0
    told = capsys.readouterr()
    assert "On the bench" in told.out
    assert "axis.settle_ms" in told.err


def test_describes_a_microscope_that_was_found(controller, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    words = [
        "--port", controller.port, "--write-profile", str(path), "--title", "Roll microscope",
        "--limits-um", "-1500", "0", "--direction", "down", "--backlash-um", "12", "--settle-ms", "80",
        "--speed-um-s", "500", "--sensor-pixel-um", "3.45", "--objective", "5x,5,0.13",
        "--objective", "20x,20,0.4,0.1731",
        "--set", "axis.tolerance_um=3", "--set", "stage.axis=Z",
    ]  # fmt: skip
    assert main(["devices", *words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    profile = load_profile(path)
    assert (summary["stage"], summary["port"]) == ("grbl", controller.port)
    assert summary["pixel_um"] == pytest.approx(0.69)
    assert profile.title == "Roll microscope"
    assert (profile.stage.low_um, profile.stage.high_um, profile.stage.speed_um_s) == (-1500, 0, 500)
    assert profile.stage.baud == 115200
    axis = profile.axis
    assert (axis.sign, axis.backlash_um, axis.settle_ms, axis.tolerance_um) == (-1, 12, 80, 3)
    assert axis.soft_limits_um is None
    assert [objective.name for objective in profile.objectives] == ["5x", "20x"]
    assert profile.changed(objective="20x").pixel_um == 0.1731
    assert not [line for line in controller.commands if line.startswith(("$J", "$H"))]


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_protocol_is_described_by_its_name_and_port(driver, tmp_path):
    path = tmp_path / "mine.toml"
    assert main(["devices", "--write-profile", str(path), "--stage", driver, "--port", "COM7"]) == 0
    profile = load_profile(path)
    assert (profile.stage.driver, profile.stage.port) == (driver, "COM7")


def test_a_camera_with_a_region(tmp_path):
    path = tmp_path / "mine.toml"
    words = [
        "--stage",
        "simulated",
        "--camera",
        "basler:12345678",
        "--sensor-pixel-um",
        "2.4",
        "--roi",
        "8",
        "16",
        "640",
        "480",
    ]
    assert main(["devices", "--write-profile", str(path), *words]) == 0
    camera = load_profile(path).camera
    assert (camera.driver, camera.serial, camera.sensor_pixel_um) == ("basler", "12345678", 2.4)
    assert (camera.settings.roi.left, camera.settings.roi.height) == (8, 480)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stage", "steam", "--port", "COM1"], "Drivers: simulated, grbl"),
        (["--stage", "grbl"], "--stage grbl --port PORT"),
        (["--stage", "grbl", "--port", "COM1", "--limits-um", "5", "-5"], "high_um must be more than low_um"),
        (["--stage", "grbl", "--port", "COM1", "--speed-um-s", "0"], "stage.speed_um_s: it must be more than 0"),
        (["--stage", "grbl", "--port", "COM1", "--direction", "left"], "--direction"),
        (["--stage", "simulated", "--objective", "10x,10"], "is no objective"),
        (["--stage", "simulated", "--objective", "10x,10,2.5"], "na"),
        (["--stage", "simulated", "--set", "axis.speed=3"], "axis.speed: there is no such setting"),
        (["--stage", "simulated", "--set", "nonsense"], "is no setting"),
        (["--stage", "simulated", "--camera", "uvc:x"], "names no camera"),
        (["--stage", "simulated", "--camera", "toaster:1"], "driver must be one of"),
    ],
)
def test_mistakes_name_the_field_and_write_nothing(words, message, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    assert main(["devices", "--write-profile", str(path), *words]) == 2
    assert message in capsys.readouterr().err
    assert not path.exists()


def test_without_a_stage_nothing_is_written(tmp_path, capsys):
    assert main(["devices", "--write-profile", str(tmp_path / "mine.toml")]) == 2
    assert "No stage was found" in capsys.readouterr().err
    assert main(["devices", "--write-profile", str(tmp_path / "mine.txt"), "--stage", "simulated"]) == 2
    assert ".toml" in capsys.readouterr().err


def test_two_stages_must_be_told_apart(controller, tmp_path, capsys):
    with GrblEmulator() as other:
        ports = ["--port", controller.port, "--port", other.port]
        assert main(["devices", *ports, "--write-profile", str(tmp_path / "mine.toml")]) == 2
    told = capsys.readouterr().err
    assert controller.port in told
    assert other.port in told


def test_ctrl_c_ends_the_search(monkeypatch, capsys):
    ports = [f"/dev/nothing{number}" for number in range(40)]
    monkeypatch.setattr(search_module, "serial_ports", lambda: tuple(map(SerialPort, ports)))
    asked = threading.Event()

    def ask_slowly(port, drivers, **words):
        if not asked.is_set():
            asked.set()
            os.kill(os.getpid(), signal.SIGINT)
        return None

    monkeypatch.setattr(search_module, "identify_port", ask_slowly)
    assert main(["devices"]) == 130
    assert "Stopped" in capsys.readouterr().err


# --- capture


@pytest.fixture
def quick(controller, tmp_path):
    """A profile on the emulated controller, with a small picture."""
    path = tmp_path / "quick.toml"
    path.write_text(
        f'based_on = "grbl"\n[stage]\nport = "{controller.port}"\nlow_um = -3000\n'
        "[axis]\nsettle_ms = 0\nbacklash_um = 2\nsoft_limits_um = [-3000, 0]\n"
        "[camera]\nimage_shape = [48, 64]\nreadout_ms = 0\n[camera.settings]\nexposure_ms = 1\n"
    )
    return ["capture", "--profile", str(path), "--frames", "3", "--out", str(tmp_path / "s.h5")]


RANGE_AFTER_HOMING = ["--top-um", "-205", "--bottom-um", "-215"]


def test_an_unreferenced_stage_is_refused_with_both_ways_out(quick, controller, capsys, tmp_path):
    assert main([*quick, *RANGE_AFTER_HOMING]) == 2
    told = capsys.readouterr().err
    assert "--home" in told
    assert "--trust-position" in told
    assert controller.motor.position_um == 0.0
    assert not (tmp_path / "s.h5").exists()


def test_homes_when_asked_and_captures(quick, tmp_path, capsys):
    assert main([*quick, *RANGE_AFTER_HOMING, "--home"]) == 0
    assert "is homing" in capsys.readouterr().err
    assert open_stack(tmp_path / "s.h5").z_um == pytest.approx([-205, -210, -215], abs=0.5)


def test_trusts_the_position_when_told_to(quick, controller, tmp_path):
    with controller.lock:
        controller.settings[22] = 0
        controller.state = "Idle"
    assert main([*quick, "--top-um", "-5", "--bottom-um", "-15", "--trust-position"]) == 0
    assert open_stack(tmp_path / "s.h5").z_um == pytest.approx([-5, -10, -15], abs=0.5)
    assert not any(line.startswith("$H") for line in controller.commands)


def test_a_shipped_profile_with_another_port(controller, tmp_path, capsys):
    words = [
        "capture",
        "--profile",
        "grbl",
        "--port",
        controller.port,
        "--out",
        str(tmp_path / "s.h5"),
        "--frames",
        "3",
    ]
    assert main([*words, *RANGE_AFTER_HOMING]) == 2
    assert "--home" in capsys.readouterr().err, "it got as far as the controller"
    assert main([*words, *RANGE_AFTER_HOMING, "--home", "--trust-position"]) == 2
    assert (
        main(["capture", "--port", "COM1", "--out", str(tmp_path / "s.h5"), "--frames", "3", *RANGE_AFTER_HOMING]) == 2
    )
    assert "has no port" in capsys.readouterr().err


@pytest.mark.parametrize("name", SERIAL)
def test_every_shipped_profile_of_a_serial_stage_takes_a_port(name, tmp_path, capsys):
    missing = str(tmp_path / "tty")
    words = ["capture", "--profile", name, "--port", missing, "--out", str(tmp_path / "s.h5"), "--frames", "3"]
    assert main([*words, *RANGE_AFTER_HOMING]) == 2
    assert missing in capsys.readouterr().err
