"""``label fuse`` from the command line: the label, what it says of itself, and what it refuses."""

import json

import h5py
import numpy as np
import pytest
import typer
from scipy import ndimage

from app import cli
from app.commands.label_fusion import register_fuse
from models.errors import InputError, OutputError
from models.focal_stack import FocalStack
from models.formats import write_height_map
from models.height_map import Flag, HeightMap
from models.labels.label import Provenance
from models.labels.label_file import read_label
from models.storage import load_reconstruction, write_sample
from models.training.splits import read_scene

PIXEL_UM = 0.8


def rough(rng, size, width, rms):
    field = ndimage.gaussian_filter(rng.normal(size=(size, size)), width)
    return rms * field / field.std()


@pytest.fixture(scope="module")
def surface():
    rng = np.random.default_rng(3)
    return rough(rng, 240, 16, 4.0) + rough(rng, 240, 4, 1.0)


@pytest.fixture(scope="module")
def maps(tmp_path_factory, surface):
    """A focus map of the middle of a surface, and a scan with a hole of a shifted part of it: 12 right, 9 down."""
    folder, rng = tmp_path_factory.mktemp("maps"), np.random.default_rng(4)
    focus = (surface[20:212, 20:212] + rng.normal(0, 0.2, (192, 192))).astype(np.float32)
    scan = (surface[29:221, 32:224] + 3.0 + rng.normal(0, 0.03, (192, 192))).astype(np.float32)
    scan[60:90, 70:100] = np.nan
    flags = np.zeros(focus.shape, np.uint8)
    flags[:4] = Flag.PEAK_AT_END
    known = {"pixel_um": PIXEL_UM, "z_unit": "um"}
    write_height_map(HeightMap(focus, np.ones_like(focus), flags, method="mdml", **known), folder / "focus.h5")
    ones = np.isfinite(scan).astype(np.float32)
    write_height_map(HeightMap(scan, ones, np.zeros(scan.shape, np.uint8), **known), folder / "scan.x3p")
    return folder


def transform(**changed):
    """What ``label register --json`` prints for the maps above."""
    values = {
        "accepted": True,
        "doubts": [],
        "matrix": [[1.0, 0.0, 12.0], [0.0, 1.0, 9.0]],
        "flip": False,
        "turn_deg": 0.0,
        "scale_z": 1.0,
        "offset_um": -3.0,
        "tilt": [0.0, 0.0],
        "sigma_um": 0.2,
        "overlap": 0.9,
        "runner_up_ratio": None,
        "closure_px": 0.01,
        "uncertainty_px": 0.01,
        "covariance": np.zeros((10, 10)).tolist(),
    }
    return json.dumps({**values, **changed})


@pytest.fixture
def fuse(maps, capsys):
    """Run the command by itself; the JSON document it prints."""

    def run(*words):
        group = typer.Typer()
        register_fuse(group)
        arguments = [str(word) for word in (maps / "focus.h5", maps / "scan.x3p", "--json", *words)]
        group(arguments, standalone_mode=False)
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def laid(tmp_path):
    path = tmp_path / "transform.json"
    path.write_text(transform())
    return path


def test_the_maps_are_registered_fused_and_written(fuse, maps, tmp_path, surface):
    facts = fuse("--out", tmp_path / "label.h5")
    assert facts["transform"]["accepted"]
    assert facts["transform"]["matrix"][0] == pytest.approx([1, 0, 12], abs=0.1)
    label = read_label(tmp_path / "label.h5")
    assert label.pixel_um == PIXEL_UM
    error = label.height_um - surface[20:212, 20:212]
    offset = np.nanmedian(error)  # the metre is the scan, whose zero is registered on that of the focus map
    assert abs(offset) < 0.1
    assert np.sqrt(np.nanmean((error - offset) ** 2)) < 0.12
    hole = label.provenance[73:94, 86:107]
    assert (hole == Provenance.FOCUS).mean() > 0.95
    assert (label.provenance[:4] != Provenance.FUSED).all()  # peaks on the first or last frame are no heights
    assert label.origin["scan"]["file"] == str(maps / "scan.x3p")
    assert len(label.origin["focus"]["height_sha256"]) == 64
    assert label.origin["focus"]["method"] == "mdml"
    assert facts["shares"] == label.shares()


def test_a_given_transform_replaces_the_search(fuse, laid, tmp_path, monkeypatch):
    def fail(*_given, **_known):
        raise AssertionError("searched")

    monkeypatch.setattr("models.labels.registration.register", fail)
    facts = fuse("--out", tmp_path / "label.h5", "--transform", laid, "--scan-sigma-um", "0.03")
    assert facts["transform"]["offset_um"] == -3.0
    assert (facts["parameters"]["scan_sigma_um"], facts["parameters"]["scan_sigma_estimated"]) == (0.03, False)
    assert facts["shares"]["fused"] > 0.7


def test_a_doubtful_registration_is_refused_unless_accepted(fuse, laid, tmp_path):
    laid.write_text(transform(accepted=False, doubts=["Two places fit equally well."]))
    words = ("--out", tmp_path / "label.h5", "--transform", laid)
    with pytest.raises(InputError, match=r"not accepted.*Two places fit equally well.*--accept-anyway"):
        fuse(*words)
    assert not (tmp_path / "label.h5").exists()
    assert fuse(*words, "--accept-anyway")["parameters"]["accepted_anyway"] is True


def test_maps_that_were_laid_wrongly_are_refused(fuse, laid, tmp_path):
    laid.write_text(transform(matrix=[[1.0, 0.0, 60.0], [0.0, 1.0, 60.0]]))
    with pytest.raises(InputError, match="not of the same place"):
        fuse("--out", tmp_path / "label.h5", "--transform", laid)
    assert not (tmp_path / "label.h5").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", transform(matrix=[[0, 0, 0], [0, 0, 0]]), transform(offset_um="much"), transform(tilt=[1])]
)
def test_something_else_than_a_transform_is_refused(fuse, laid, tmp_path, text):
    laid.write_text(text)
    with pytest.raises(InputError, match="label register --json"):
        fuse("--out", tmp_path / "label.h5", "--transform", laid)
    with pytest.raises(InputError, match="no file"):
        fuse("--out", tmp_path / "label.h5", "--transform", tmp_path / "none.json")


def test_the_work_of_a_person_and_the_inputs_are_never_overwritten(fuse, laid, maps, tmp_path):
    out = tmp_path / "label.h5"
    fuse("--out", out, "--transform", laid)
    fuse("--out", out, "--transform", laid)  # nobody has touched it
    with h5py.File(out, "r+") as file:
        file["label/history"].resize((2,))
        file["label/history"][1] = "{}"
    with pytest.raises(OutputError, match="somebody has worked on"):
        fuse("--out", out, "--transform", laid)
    with pytest.raises(InputError, match="is an input"):
        fuse("--out", maps / "focus.h5", "--transform", laid)
    with pytest.raises(OutputError, match=r"\.h5"):
        fuse("--out", tmp_path / "label.tif", "--transform", laid)


def test_a_scale_given_by_hand_is_kept_in_the_origin(fuse, laid, tmp_path):
    fuse("--out", tmp_path / "label.h5", "--transform", laid, "--scan-unit-um", "1", "--min-confidence", "0.1")
    origin = read_label(tmp_path / "label.h5").origin
    assert origin["scan"]["provenance"]["correction"]["z_factor"] == 1.0
    assert "correction" not in origin["focus"]["provenance"]


@pytest.mark.parametrize("words", [("--scan-sigma-um", "0"), ("--min-confidence", "2"), ("--scan-unit-um", "0")])
def test_impossible_numbers_are_refused(fuse, laid, tmp_path, words):
    with pytest.raises(InputError):
        fuse("--out", tmp_path / "label.h5", "--transform", laid, *words)


def test_the_frames_go_along_where_they_are_wanted(fuse, laid, maps, tmp_path, capsys):
    with pytest.raises(InputError, match="holds no stack"):
        fuse("--out", tmp_path / "label.h5", "--transform", laid, "--with-stack")
    stack = FocalStack(np.zeros((3, 192, 192), np.uint8), np.arange(3.0), pixel_um=PIXEL_UM)
    focus = load_reconstruction(maps / "focus.h5")
    write_sample(tmp_path / "roll.h5", focus, stack)
    words = [tmp_path / "roll.h5", maps / "scan.x3p", "--with-stack", "--out", tmp_path / "b.h5", "--transform", laid]
    assert cli.main(["label", "fuse", *map(str, words)]) == 0
    scene = read_scene(tmp_path / "b.h5")
    assert len(scene.stack) == 3
    np.testing.assert_array_equal(scene.height_um, read_label(tmp_path / "b.h5").height_um)


def test_the_command_line_knows_it(maps, laid, tmp_path, capsys):
    words = ["label", "fuse", maps / "focus.h5", maps / "scan.x3p", "--out", tmp_path / "a.h5", "--transform", laid]
    assert cli.main(["--language", "en", *map(str, words)]) == 0
    assert "median standard deviation" in capsys.readouterr().out
    assert cli.main(["--language", "en", "info", str(tmp_path / "a.h5")]) == 0
    assert "both 8" in capsys.readouterr().out
    laid.write_text(transform(accepted=False, doubts=["Two places fit."]))
    assert cli.main(["--language", "en", *map(str, words)]) == 2
    assert "Two places fit." in capsys.readouterr().err
