"""One folder per sample, with its frames and, if there is one, its height: Micro 3D, intaglio, our own tests.

Layout. The group behind Micro 3D and the intaglio plates keeps a sample as ``k/1.bmp .. k/N.bmp``, focused in the order
of the numbers, with a label that counts frames from 1 to N, 0 where unknown, in ``.mat`` as ``SD_Result``
(github.com/jiangfeng-Z/FFS-DfF: folders, Test_M/Test_Intaglio.py, Dataloader/Dataloader_Hander.py; the labelled Micro
3D data are not public, so the names of their label files are not known). Read here, more tolerantly:

- frames: images whose names differ in one running number, in the folder or in its ``stack``, ``frames`` or ``images``;
- the height, beside the frames or in the folder above them, as .npy, .tif, .pfm, .exr, .mat, .png or .bmp:
  ``height_um`` in um above the lowest frame, which needs the step; ``gt_index`` in frames counted from 0;
  ``label``, ``depth`` or ``gt`` in frames counted from 1, below 1 unknown. None: nothing is known;
- ``meta.txt``, lines ``step: 2.5 um``, ``pixel size: 1.02 um``, ``order: descending``; other lines are notes.

Frames are taken to run towards the camera unless ``order`` says the contrary; the stack given always rises.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import FocalStack
from models.formats.images import IMAGE_SUFFIXES, frame_files
from models.language import N_, _
from models.training.datasets.data_set import Entry, known_scene, split_of
from models.training.datasets.files import folders_below, frames_of, numbers_beside, read_numbers
from models.training.scene import Scene

EXPECTED = N_("folders with numbered frames and height_um, gt_index, label, depth or gt as an image")

_FRAME_FOLDERS = ("stack", "frames", "images")
_LABELS = ("height_um", "gt_index", "label", "depth", "gt")
_LENGTH = re.compile(r"([-+0-9.eE]+)\s*(nm|um|µm|μm|mm)?\b")
_UM = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "mm": 1e3}


@dataclass(frozen=True)
class _Notes:
    """What ``meta.txt`` says."""

    step_um: float | None = None
    pixel_um: float | None = None
    descending: bool = False


def detect(path: Path) -> bool:
    return bool(_samples(path))


def entries(path: Path) -> list[Entry]:
    """Every sample below ``path``, or ``path`` itself; the kind of a scene is the folder that its sample lies in."""
    found = []
    for sample, frames in _samples(path):
        name = sample.relative_to(path).as_posix() if sample != path else sample.name
        kind = sample.parent.name if sample != path else sample.name
        found.append(Entry(name, split_of(sample, path), functools.partial(_read_scene, name, kind, sample, frames)))
    return found


def _samples(path: Path) -> list[tuple[Path, Path]]:
    """Each sample with the folder of its frames."""
    found = []
    for folder, names in folders_below(path):
        numbered = [
            n for n in names if Path(n).suffix.lower() in IMAGE_SUFFIXES and any(map(str.isdigit, Path(n).stem))
        ]
        if len(numbered) >= 2:
            inner = folder.name.lower() in _FRAME_FOLDERS and folder != path
            found.append((folder.parent if inner else folder, folder))
    return found


def _read_scene(name: str, kind: str, sample: Path, folder: Path) -> Scene:
    notes = _read_notes(sample / "meta.txt")
    files = frame_files(folder)
    z = np.arange(len(files), dtype=np.float64) * (notes.step_um or 1.0)
    stack = FocalStack(
        frames_of(files[::-1] if notes.descending else files),
        z,
        notes.pixel_um,
        z_unit="frame" if notes.step_um is None else "um",
        metadata={"source": str(sample), "scene": name, "unit": "frames" if notes.step_um is None else "um"},
    )
    label = next((file for stem in _LABELS if (file := _label_file(sample, folder, stem))), None)
    if label is None:
        return known_scene(name, kind, stack, np.full(stack.image_shape, np.nan), sample)
    return known_scene(name, kind, stack, _height(label, notes, len(files)), label)


def _label_file(sample: Path, folder: Path, stem: str) -> Path | None:
    return numbers_beside(sample, stem) or numbers_beside(folder, stem)


def _height(label: Path, notes: _Notes, count: int) -> NDArray[np.float64]:
    """In the unit and the order of the stack; a frame number counts the frames as they are stored."""
    values = read_numbers(label).astype(np.float64)
    if label.stem == "height_um":
        if notes.step_um is None:
            raise InputError(
                _(
                    "{path}: heights in µm need the step between the frames. Write a line 'step: 2.5 um' into {meta}."
                ).format(path=label, meta=label.parent / "meta.txt")
            )
        return values
    with np.errstate(invalid="ignore"):
        index = values if label.stem == "gt_index" else np.where(values >= 1, values - 1, np.nan)
    known = index[np.isfinite(index)]
    if known.size and (known.min() < -1 or known.max() > count):
        raise InputError(
            _("{path} goes from frame {least:.4g} to {most:.4g}, but there are {n} frames.").format(
                path=label, least=float(known.min()), most=float(known.max()), n=count
            )
        )
    if notes.descending:
        index = (count - 1) - index
    return index * (notes.step_um or 1.0)


def _read_notes(path: Path) -> _Notes:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return _Notes()
    except OSError as error:
        raise InputError(_("{path} cannot be read: {reason}.").format(path=path, reason=error.strerror)) from error
    lines = dict(_line(line) for line in text.splitlines() if ":" in line or "=" in line)
    return _Notes(
        step_um=_length_um(next((lines[key] for key in ("step", "step um", "z step") if key in lines), "")),
        pixel_um=_length_um(next((lines[key] for key in ("pixel", "pixel um", "pixel size") if key in lines), "")),
        descending=lines.get("order", "").lower().startswith(("desc", "fall", "down")),
    )


def _line(line: str) -> tuple[str, str]:
    key, value = re.split(r"[:=]", line, maxsplit=1)
    return key.strip().lower().replace("_", " "), value.strip()


def _length_um(text: str) -> float | None:
    """None where the text does not begin with a positive length; um where it names no unit."""
    match = _LENGTH.match(text)
    try:
        value = float(match[1]) if match else 0.0
    except ValueError:
        return None
    length = value * _UM[match[2] or "um"] if match else 0.0
    return length if np.isfinite(length) and length > 0 else None
