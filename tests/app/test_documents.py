"""What the documents say can be done can be done: their examples run, their lists are complete."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from app.cli import main
from models.focal_stack import FocalStack
from models.formats import MAP_SUFFIXES
from models.formats.images import IMAGE_SUFFIXES
from models.formats.video import VIDEO_SUFFIXES
from models.height_map import Flag, HeightMap
from models.schema import SCHEMA_VERSION
from models.storage import save_reconstruction, write_stack

DOCS = Path(__file__).parents[2] / "docs"
COMMAND_LINE = (DOCS / "command-line.md").read_text(encoding="utf-8")
FILE_FORMAT = (DOCS / "file-format.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_example_of_the_file_format_runs(tmp_path, monkeypatch, capsys):
    stack = FocalStack(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.array([4.0, 2.0, 0.0]))
    write_stack(tmp_path / "sample.h5", stack)
    height = np.full((4, 5), 1.5, np.float32)
    save_reconstruction(tmp_path / "sample.h5", HeightMap(height, height, np.zeros((4, 5), np.uint8)))
    monkeypatch.chdir(tmp_path)
    (example,) = blocks(FILE_FORMAT, "python")
    exec(compile(example, "file-format.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "3 frames from 4.0 to 0.0 um",
        "brightest grey value of the first frame: 19",
        "main mean height 1.5 um",
    ]


def test_the_schema_is_that_of_the_program(tmp_path):
    import h5py

    assert f"schema version {SCHEMA_VERSION}" in FILE_FORMAT
    stack = FocalStack(np.zeros((3, 4, 5), np.uint8), np.arange(3.0), pixel_um=1.0)
    write_stack(tmp_path / "a.h5", stack)
    image = np.zeros((4, 5), np.uint8)
    height = image.astype(np.float32)
    save_reconstruction(tmp_path / "a.h5", HeightMap(height, height, image, all_in_focus=image, pixel_um=1.0))
    names = set()
    with h5py.File(tmp_path / "a.h5") as file:
        file.visititems(lambda name, item: names.update([name.rpartition("/")[2], *item.attrs]))
        names.update(file.attrs)
    missing = {name for name in names - {"main"} if f"`{name}`" not in FILE_FORMAT and f"/{name}" not in FILE_FORMAT}
    assert not missing
    for flag in Flag:
        assert re.search(rf"\b{flag.value} ", FILE_FORMAT)


# What goes on in the next line is one command.
EXAMPLES = [line for block in blocks(COMMAND_LINE, "sh") for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("line", EXAMPLES)
def test_every_example_is_understood(line, capsys, tmp_path, monkeypatch):
    words = shlex.split(line, comments=True)
    if len(words) < 3:
        return  # the window, or a command without options
    monkeypatch.chdir(tmp_path)
    code = main([*words[1:], "--help"])
    assert code == 0
    shown = capsys.readouterr().out
    for word in words:
        if word.startswith("--"):
            assert word in shown


def test_every_command_option_and_format_is_described(capsys):
    main(["--help"])
    commands = re.findall(r"^│ ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    assert {"reconstruct", "info"} <= set(commands)
    for command in commands:
        assert f"\n## {command}\n" in COMMAND_LINE
    main(["reconstruct", "--help"])
    for option in set(re.findall(r"--[a-z0-9-]+", capsys.readouterr().out)) - {"--help"}:
        assert option in COMMAND_LINE
    for suffix in (*MAP_SUFFIXES, *VIDEO_SUFFIXES):
        assert f"`{suffix}`" in COMMAND_LINE
    for kind in {suffix.strip(".").upper().replace("JPG", "JPEG").removesuffix("F") for suffix in IMAGE_SUFFIXES}:
        assert kind in COMMAND_LINE
