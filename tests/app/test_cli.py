"""The command line as users meet it: results, JSON, and one clear message with exit code 2 for bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import trimesh
from PIL import Image

from app.cli import main
from models.capture_file import StackWriter
from models.formats import read_height_map
from models.language import use_language
from models.storage import load_reconstruction, open_stack
from tests.data import SHARED, needs_shared

ROOT = Path(__file__).parents[2]
MDML = ("--method", "mdml")


@pytest.fixture(autouse=True)
def english(monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    yield
    use_language("en")


@pytest.fixture
def stack(tmp_path) -> Path:
    """A tilted plane: column c is sharp in frame c / 8."""
    folder = tmp_path / "stack"
    folder.mkdir()
    texture = np.random.default_rng(1).integers(0, 2, (48, 64)) * 160.0 + 40
    height = np.arange(64) / 8
    for index in range(9):
        blur = np.abs(height - index)[None] / 4
        Image.fromarray((texture * np.exp(-blur) + 120 * (1 - np.exp(-blur))).astype(np.uint8)).save(
            folder / f"{index:02d}.png"
        )
    return folder


def run(capsys, *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refuse(capsys, *words: object, says: str) -> None:
    """The command ends with code 2, says nothing on stdout and one message with ``says`` on stderr."""
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert re.search(says, err), err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


# ---------------------------------------------------------------- reconstruct


def test_reconstruct_into_every_format(capsys, stack, tmp_path):
    outputs = [
        tmp_path / f"map{suffix}" for suffix in (".h5", ".tif", ".png", ".x3p", ".stl", ".ply", ".obj", ".csv", ".npy")
    ]
    words = [word for path in outputs for word in ("--out", path)]
    code, out, err = run(capsys, "reconstruct", stack, *MDML, "--step-um", 2, "--z0-um", 10, "--pixel-um", 0.5, *words)
    assert code == 0, err
    assert "9 frames of 64 x 48 pixels" in out
    heights = read_height_map(outputs[1])
    assert (heights.z_unit, heights.pixel_um) == ("um", 0.5)
    expected = 10 + 2 * np.arange(64) / 8
    assert np.abs(heights.height_um - expected)[:, 8:56].mean() < 1.0
    for path in (outputs[0], outputs[3], outputs[7], outputs[8]):
        assert np.array_equal(read_height_map(path).height_um, heights.height_um, equal_nan=True), path
    for path in outputs[4:7]:
        assert trimesh.load(path).extents[0] == pytest.approx(63 * 0.5), path
    provenance = load_reconstruction(outputs[0]).provenance
    assert provenance["source"] == str(stack)
    assert len(provenance["stack_sha256"]) == 64


def test_json_is_the_only_thing_on_stdout(capsys, stack, tmp_path):
    code, out, err = run(
        capsys, "reconstruct", stack, "--out", tmp_path / "a.tif", "--method", "sml", "--window", 7, "--json"
    )
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert (facts["frames"], facts["rows"], facts["columns"]) == (9, 48, 64)
    assert (facts["z_unit"], facts["method"], facts["parameters"]["window"]) == ("frame", "sml", 7)
    assert facts["outputs"] == [str(tmp_path / "a.tif")]
    assert 0 <= facts["lowest"] < facts["highest"] <= 8


def test_without_a_step_the_user_is_told(capsys, stack, tmp_path):
    code, out, err = run(capsys, "reconstruct", stack, "--out", tmp_path / "a.tif")
    assert code == 0
    assert "frames" in out
    assert "--step-um" in err


def test_descending_turns_the_surface_round(capsys, stack, tmp_path):
    for name, words in (("up", []), ("down", ["--descending"])):
        assert run(capsys, "reconstruct", stack, "--step-um", 2, *words, "--out", tmp_path / f"{name}.npy")[0] == 0
    up, down = np.load(tmp_path / "up.npy"), np.load(tmp_path / "down.npy")
    assert np.allclose(up, -down, atol=1e-3, equal_nan=True)


def test_watertight_and_with_stack(capsys, stack, tmp_path):
    words = ("--step-um", 2, "--pixel-um", 1, "--watertight", "--with-stack")
    assert run(capsys, "reconstruct", stack, *words, "--out", tmp_path / "a.stl", "--out", tmp_path / "a.h5")[0] == 0
    assert trimesh.load(tmp_path / "a.stl").is_watertight
    assert len(open_stack(tmp_path / "a.h5")) == 9
    assert run(capsys, "reconstruct", tmp_path / "a.h5", "--out", tmp_path / "b.npy")[0] == 0
    assert np.array_equal(np.load(tmp_path / "b.npy"), read_height_map(tmp_path / "a.h5").height_um, equal_nan=True)


@pytest.mark.parametrize("show", ["height", "confidence", "all-in-focus"])
def test_pictures(capsys, stack, tmp_path, show):
    words = ("--show", show, "--colour-map", "batlow", "--hill-shade", "--out", tmp_path / "a.png")
    assert run(capsys, "reconstruct", stack, *words)[0] == 0
    assert min(Image.open(tmp_path / "a.png").size) > 300


@needs_shared
def test_evaluate_against_known_heights(capsys):
    folder = SHARED / "stacks" / "cou_rock_1_41f"
    code, out, _err = run(capsys, "evaluate", folder, "--truth", folder / "gt_index.tif", "--json")
    facts = json.loads(out)
    assert code == 0
    assert 0.02 < facts["mean_absolute_error_steps"] < 0.145
    assert facts["pixels"] > 100_000
    code, out, _err = run(capsys, "evaluate", folder, "--truth", folder / "gt_index.tif")
    assert "mean absolute error" in out


# ---------------------------------------------------------------- info, methods, help


def test_info_of_a_folder_a_sample_and_a_map(capsys, stack, tmp_path):
    assert "9 of 64 x 48 pixels, grey, 8 bit" in run(capsys, "info", stack)[1]
    run(
        capsys,
        "reconstruct",
        stack,
        "--method",
        "mdml",
        "--step-um",
        2,
        "--out",
        tmp_path / "a.h5",
        "--out",
        tmp_path / "a.tif",
        "--with-stack",
    )
    facts = json.loads(run(capsys, "info", tmp_path / "a.h5", "--json")[1])
    assert (facts["frames"], facts["complete"], facts["step"]) == (9, True, 2.0)
    assert facts["reconstructions"]["main"]["method"] == "mdml"
    facts = json.loads(run(capsys, "info", tmp_path / "a.tif", "--json")[1])
    assert (facts["kind"], facts["z_unit"], facts["rows"]) == ("height map", "um", 48)
    assert "height map" in run(capsys, "info", tmp_path / "a.tif")[1]


def test_info_of_an_interrupted_capture(capsys, tmp_path):
    with StackWriter(tmp_path / "a.h5", image_shape=(4, 5), dtype=np.uint8, frame_count=9) as writer:
        for index in range(3):
            writer.append(np.zeros((4, 5), np.uint8), z_um=index, z_requested_um=index, time_s=0)
    code, out, err = run(capsys, "info", tmp_path / "a.h5")
    assert code == 0
    assert "3 of 9 frames" in out
    assert "reliefscope recover" in err
    refuse(capsys, "reconstruct", tmp_path / "a.h5", "--out", tmp_path / "b.tif", says="recover it first")


def test_methods(capsys):
    code, out, _err = run(capsys, "methods", "--json")
    methods = {method["name"]: method for method in json.loads(out)}
    assert code == 0
    assert {"sml", "mdml", "tenengrad", "rdf"} <= set(methods)
    assert sum(method["default"] for method in methods.values()) == 1
    assert "Nayar" in run(capsys, "methods")[1]


def test_help_and_version(capsys):
    code, out, _err = run(capsys, "--help")
    assert code == 0
    for command in ("reconstruct", "evaluate", "info", "methods", "capture", "devices"):
        assert command in out
    assert run(capsys, "reconstruct", "--help")[0] == 0
    assert re.match(r"reliefscope \S+\n$", run(capsys, "--version")[1])


def test_language_of_messages(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("app.cli.use_language", lambda code: codes.append(code) or use_language(code))
    codes: list[str | None] = []
    run(capsys, "--language", "zh_CN", "methods")
    run(capsys, "methods", "--language=zh_CN")
    run(capsys, "methods")
    assert codes == ["zh_CN", "zh_CN", None]
    refuse(capsys, "--language", "tlh", "methods", says="no language 'tlh'.*en, zh_CN")


def test_files_open_in_the_window(capsys, monkeypatch, stack):
    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setitem(sys.modules, "app.application", type(sys)("app.application"))
    sys.modules["app.application"].run = lambda paths, demo=False: opened.append(paths) or 0
    assert run(capsys)[0] == 0
    assert run(capsys, stack)[0] == 0
    assert opened == [[], [str(stack)]]
    refuse(capsys, "reconstrct", says="neither a command nor a file")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
def test_without_a_display_the_window_is_refused_in_words(capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    refuse(capsys, says="no display")


def test_known_heights_in_another_unit_are_refused(capsys, stack, tmp_path):
    run(capsys, "reconstruct", stack, *MDML, "--step-um", 2, "--out", tmp_path / "truth.tif")
    refuse(capsys, "evaluate", stack, "--truth", tmp_path / "truth.tif", says="--step-um")
    code, out, _err = run(capsys, "evaluate", stack, "--step-um", 2, "--truth", tmp_path / "truth.tif", *MDML, "--json")
    assert (code, json.loads(out)["mean_absolute_error"]) == (0, 0.0)


# ---------------------------------------------------------------- bad input


def test_bad_values(capsys, stack, tmp_path):
    out = ("--out", tmp_path / "a.tif")
    for words, says in (
        (("--step-um", "nan"), "step must be a positive number"),
        (("--step-um", "inf"), "step must be a positive number"),
        (("--step-um", "0"), "step must be a positive number"),
        (("--step-um", "-2"), "step must be a positive number"),
        (("--step-um", "two"), "--step-um"),
        (("--pixel-um", "-1"), "pixel size must be a positive number"),
        (("--z0-um", "3"), "without the step"),
        (("--method", "magic"), "no method called 'magic'.*mdml"),
        (("--method", "mdml", "--window", "0"), "--window 0"),
        (("--method", "mdml", "--window", "5000"), "--window 5000"),
        (("--align", "rotate"), "--align rotate"),
        (("--regularisation", "-1"), "--regularisation"),
        (("--regularisation", "nan"), "--regularisation"),
        (("--colour-map", "jet"), "no colour map called 'jet'"),
        (("--show", "shadows"), "--show shadows"),
        (("--with-stack",), "--with-stack: this concerns only .h5"),
        (("--watertight",), "--watertight: this concerns only .stl .ply .obj"),
        (("--hill-shade",), "--hill-shade.* concerns only .png"),
        (("--method", "mdml", "--window", "8"), "--window 8 .* odd"),
        (("--min-confidence", "1.5"), "--min-confidence 1.5 .* from 0 to 1"),
        (("--nonsense",), "--nonsense"),
    ):
        refuse(capsys, "reconstruct", stack, *words, *out, says=says)
    refuse(capsys, "reconstruct", stack, says="--out")
    refuse(capsys, "reconstruct", *out, says="INPUT")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stack"]


def test_weak_heights_can_be_left_out(capsys, stack, tmp_path):
    whole, strong = tmp_path / "whole.npy", tmp_path / "strong.npy"
    assert run(capsys, "reconstruct", stack, *MDML, "--out", whole)[0] == 0
    _code, out, _err = run(capsys, "reconstruct", stack, *MDML, "--min-confidence", 0.7, "--out", strong, "--json")
    assert json.loads(out)["missing_share"] > 0
    known = np.isfinite(np.load(strong))
    assert 0 < known.mean() < 1
    np.testing.assert_array_equal(np.load(strong)[known], np.load(whole)[known])


def test_bad_stacks(capsys, stack, tmp_path):
    out = ("--out", tmp_path / "a.tif")
    refuse(capsys, "reconstruct", tmp_path / "nowhere", *out, says="no file or folder")
    (tmp_path / "empty").mkdir()
    refuse(capsys, "reconstruct", tmp_path / "empty", *out, says="holds no images")
    shutil.copy(stack / "00.png", tmp_path / "empty" / "00.png")
    refuse(capsys, "reconstruct", tmp_path / "empty", *out, says="holds one image")
    (tmp_path / "empty" / "01.png").write_text("this is text")
    refuse(capsys, "reconstruct", tmp_path / "empty", *out, says=r"01\.png is not a readable PNG image")
    Image.new("L", (9, 9)).save(tmp_path / "empty" / "01.png")
    refuse(capsys, "reconstruct", tmp_path / "empty", *out, says=r"01\.png is 9 x 9 pixels")
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, np.zeros((5, 40, 40), np.uint16), photometric="minisblack")
    for length in (100, 4000, 15000):
        cut = tmp_path / "cut.tif"
        cut.write_bytes(whole.read_bytes()[:length])
        refuse(capsys, "reconstruct", cut, *out, says=r"cut\.tif is (damaged or cut short|not a readable TIFF)")
    (tmp_path / "notes.doc").write_text("x")
    refuse(capsys, "reconstruct", tmp_path / "notes.doc", *out, says="no stack format")
    refuse(capsys, "info", tmp_path / "nowhere", says="no file or folder")
    refuse(capsys, "evaluate", stack, "--truth", tmp_path / "nowhere.tif", says=r"no file .*nowhere\.tif")
    refuse(capsys, "evaluate", stack, "--truth", whole, says="not a readable height map|40 x 40")
    assert not (tmp_path / "a.tif").exists()


def test_a_frame_cut_short_is_found_while_reading_and_nothing_is_left(capsys, stack, tmp_path):
    frame = stack / "05.png"
    frame.write_bytes(frame.read_bytes()[:-200])
    refuse(capsys, "reconstruct", stack, "--out", tmp_path / "a.tif", says=r"05\.png is damaged or cut short")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stack"]


def test_bad_outputs_are_refused_before_the_work(capsys, stack, tmp_path, monkeypatch):
    def fail(*_words: object, **_options: object) -> None:
        raise AssertionError("the reconstruction was started")

    monkeypatch.setattr("app.commands.reconstruct.reconstruct", fail)
    calibrated = ("--step-um", 1, "--pixel-um", 1)
    (tmp_path / "folder.tif").mkdir()
    for path, says in (
        (tmp_path / "a.jpeg2000", "no format for height maps.*\\.x3p"),
        (tmp_path / "a", "has no suffix"),
        (tmp_path / "nowhere" / "a.tif", "does not exist"),
        (tmp_path / "folder.tif", "is a folder"),
        (stack / "03.png", "part of the input"),
        ("/proc/a.tif", "Cannot write /proc"),
    ):
        refuse(capsys, "reconstruct", stack, *calibrated, "--out", path, says=says)
    for suffix in (".x3p", ".stl", ".ply", ".obj"):
        refuse(capsys, "reconstruct", stack, "--step-um", 1, "--out", tmp_path / f"a{suffix}", says="scale .* unknown")
    twice = ("--out", tmp_path / "a.tif", "--out", tmp_path / "stack" / ".." / "a.tif")
    refuse(capsys, "reconstruct", stack, *twice, says="given twice")
    # One bad output stops the good ones, too.
    refuse(capsys, "reconstruct", stack, "--out", tmp_path / "a.tif", "--out", tmp_path / "a.xyz", says="no format")
    assert not (tmp_path / "a.tif").exists()


def test_the_input_is_never_overwritten(capsys, stack, tmp_path):
    sample = tmp_path / "a.h5"
    assert run(capsys, "reconstruct", stack, "--with-stack", "--out", sample)[0] == 0
    before = sample.read_bytes()
    link = tmp_path / "link.h5"
    link.symlink_to(sample)
    for target in (sample, link):
        refuse(capsys, "reconstruct", sample, "--out", target, says="part of the input")
    refuse(capsys, "reconstruct", stack, "--out", sample, says="may hold a captured stack")
    assert sample.read_bytes() == before


def test_a_full_disk(capsys, stack, small_disk):
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 2**12))
    for suffix in (".tif", ".stl", ".h5", ".csv"):
        words = ("--step-um", 1, "--pixel-um", 1, "--out", small_disk / f"a{suffix}")
        refuse(capsys, "reconstruct", stack, *words, says="full|disk space")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_read_only_mount(capsys, stack, small_disk):
    if subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True).returncode:
        pytest.skip("remounting needs root")
    refuse(capsys, "reconstruct", stack, "--out", small_disk / "a.tif", says="no permission|Read-only")


# ---------------------------------------------------------------- as a real process


def start(*words: object, **options: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    environment.pop("DISPLAY", None)
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", *map(str, words)],
        cwd=ROOT,
        text=True,
        env=environment,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def test_as_a_process_without_a_display(stack, tmp_path):
    child = start("reconstruct", stack, "--out", tmp_path / "a.tif", "--json")
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert json.loads(out)["frames"] == 9
    child = start("reconstruct", stack, "--out", tmp_path / "a.xyz")
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (2, "")
    assert "no format" in err


def test_no_window_system_is_loaded_for_a_command(stack):
    code = (
        "import sys; from app.cli import main; main(['info', sys.argv[1]]); "
        "print([name for name in sys.modules if name.startswith(('PySide6', 'pyqtgraph', 'OpenGL'))])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(stack)], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "[]", run.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
def test_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500), dtype=np.uint8)
    for index in range(60):
        tifffile.imwrite(folder / f"{index}.tif", noise)
    ours, terminal = os.openpty()  # on a terminal the progress bar tells when the work has begun
    child = start(
        "reconstruct", folder, "--method", "rdf", "--window", 31, "--out", tmp_path / "a.tif", stderr=terminal
    )
    os.close(terminal)
    said = ""
    while "Reconstructing" not in said:
        said += os.read(ours, 1000).decode()
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 130
    said += os.read(ours, 10000).decode()
    os.close(ours)
    assert "Stopped." in said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["stack"]


def test_a_reader_that_hangs_up_is_no_reason_to_complain(stack):
    child = start("methods", "--json")
    child.stdout.close()
    child.wait(timeout=60)
    assert child.stderr.read() == ""
    child.stderr.close()


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_a_terminal_without_the_letter_mu_is_no_reason_to_fail(stack, encoding):
    words = [sys.executable, "-m", "app.cli", "info", stack]
    result = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}, capture_output=True,
        timeout=60,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert b"Traceback" not in result.stderr
    assert b"frames" in result.stdout
