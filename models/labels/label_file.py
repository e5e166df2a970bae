"""A label in a sample file: ``/label``, beside the focus map that it was made from (docs/file-format.md)."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from models.atomic import check_space, replacing
from models.errors import InputError
from models.focal_stack import FocalStack
from models.hdf5 import open_sample
from models.height_map import HeightMap
from models.labels.label import Label, Provenance
from models.language import _
from models.schema import (
    COMPRESSION,
    STRUCTURE_BYTES,
    read_json,
    read_pixel_um,
    read_z_unit,
    software_version,
    write_json,
)
from models.storage import write_sample

_IMAGES = ("height_um", "sigma_um", "provenance", "valid")
_FACTS = ("transform", "parameters", "origin")
KIND = "fused"


def write_label(
    path: str | Path, label: Label, focus: HeightMap, name: str = "", stack: FocalStack | None = None
) -> None:
    """``label`` and the focus map it was made from as a new file, which appears whole or not at all.

    ``stack``, the one that the focus map is of, goes into it, too, where it is to be learned from. ``name`` tells it
    from others in a data set; the file's own if not given. Replaces an existing file. Raises OutputError where the disk
    is full or the place cannot be written.
    """
    path = Path(path).absolute()
    images = {**{key: getattr(label, key) for key in _IMAGES}, **{f"sources/{k}": v for k, v in label.sources.items()}}
    with replacing(path) as temporary:
        write_sample(temporary, focus, stack)
        check_space(temporary, sum(image.nbytes for image in images.values()) + STRUCTURE_BYTES)
        with open_sample(temporary, "r+") as file:
            group = file.create_group("label")
            group.attrs["z_unit"], group.attrs["kind"], group.attrs["name"] = "um", KIND, name or path.stem
            if label.pixel_um is not None:
                group.attrs["pixel_um"] = label.pixel_um
            for key in _FACTS:
                write_json(group, key, getattr(label, key))
            for key, image in images.items():
                group.create_dataset(key, data=image, chunks=image.shape, **COMPRESSION)
            _begin_history(group, label)


def has_label(path: str | Path) -> bool:
    """Whether :func:`read_label` finds one. Raises InputError where the file cannot be read."""
    with open_sample(Path(path).absolute()) as file:
        return "label" in file and all(key in file["label"] for key in _IMAGES)


def read_label(path: str | Path) -> Label:
    """What :func:`write_label` wrote.

    Raises InputError where the file cannot be read, has no label or one of heights alone, as rendered scenes have.
    """
    path = Path(path).absolute()
    if not has_label(path):
        raise InputError(_("{path} holds no label with its origin.").format(path=path))
    with open_sample(path) as file:
        group = file["label"]
        if read_z_unit(group) != "um":
            raise InputError(_("The label of {path} is not in micrometres.").format(path=path))
        provenance = group["provenance"][:]
        if provenance.dtype != np.uint8 or provenance.size == 0 or provenance.max() > max(Provenance):
            raise ValueError("unknown provenance")
        return Label(
            height_um=group["height_um"][:],
            sigma_um=group["sigma_um"][:],
            provenance=provenance,
            valid=group["valid"][:].astype(np.bool_),
            sources={key: images[:] for key, images in group.get("sources", {}).items()},
            pixel_um=read_pixel_um(group),
            **{key: read_json(group, key) for key in _FACTS},
        )


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """What was done to the label, oldest first. Raises InputError where the file cannot be read or has no label."""
    path = Path(path).absolute()
    with open_sample(path) as file:
        if "label/history" not in file:
            raise InputError(_("{path} holds no label with its origin.").format(path=path))
        return [json.loads(line) for line in file["label/history"].asstr()[:]]


def _begin_history(group: h5py.Group, label: Label) -> None:
    """One line of JSON per action; the data set can grow, its lines are never changed."""
    first: Mapping[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "action": KIND,
        "software_version": software_version(),
        "shares": label.shares(),
    }
    text = h5py.string_dtype("utf-8")
    history = group.create_dataset("history", shape=(1,), maxshape=(None,), chunks=(64,), dtype=text)
    history[0] = json.dumps(first, ensure_ascii=False)
