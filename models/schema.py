"""The layout of the sample file: its groups, data sets and attributes, by version. See docs/file-format.md."""

import json
import math
import time
from collections.abc import Mapping
from importlib import metadata as packages
from pathlib import Path
from typing import Any, cast, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import Optics, ZUnit
from models.height_map import HeightMap
from models.language import _

FORMAT = "reliefscope"
SCHEMA_VERSION = 1

STRUCTURE_BYTES = 1 << 20
"""Room for everything in a file but its images."""

COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
"""Built into every HDF5; without the byte shuffle camera noise does not compress at all."""
COURSE_BYTES = 16384
OPTIONAL_IMAGES = ("all_in_focus", "interval68_um", "interval95_um")
"""What not every reconstruction has."""


def software_version() -> str:
    """Version of the installed program, written into every file."""
    try:
        return packages.version("reliefscope")
    except packages.PackageNotFoundError:
        return "unknown"


def stamp(file: h5py.File) -> None:
    """What every new file of ours begins with. ``complete`` is false until everything else is in it."""
    file.attrs["format"] = FORMAT
    file.attrs["schema_version"] = SCHEMA_VERSION
    file.attrs["software_version"] = software_version()
    file.attrs["created"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    file.attrs["complete"] = False
    # Made now, so that saving a map later never rewrites the root of a file that holds a stack.
    file.create_group("reconstructions")


def check_schema(file: h5py.File, path: Path) -> None:
    """Raise InputError where ``file`` is not ours or newer than this program."""
    if file.attrs.get("format") != FORMAT or "schema_version" not in file.attrs:
        raise InputError(_("{path} is an HDF5 file, but not one of Reliefscope.").format(path=path))
    version = int(file.attrs["schema_version"])
    if version > SCHEMA_VERSION:
        raise InputError(
            _(
                "{path} was written by a newer Reliefscope (file version {version}; this program reads up to "
                "{known}). Please update Reliefscope."
            ).format(path=path, version=version, known=SCHEMA_VERSION)
        )


def write_json(group: h5py.Group, name: str, values: Mapping[str, Any]) -> None:
    """A mapping as JSON text in a scalar data set: attributes end at 64 KiB, device logs do not."""
    group[name] = json.dumps(dict(values), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays as JSON numbers and lists, anything else as text."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


def read_json(group: h5py.Group, name: str) -> dict[str, Any]:
    """The mapping stored by :func:`write_json`; empty where there is none."""
    if name not in group:
        return {}
    values = json.loads(group[name].asstr()[()])
    return values if isinstance(values, dict) else {}


def reserve_course(stack: h5py.Group) -> None:
    """Room for JSON text of a fixed length: how the capture went is told while it runs."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    kind = h5py.h5t.py_create(h5py.string_dtype("utf-8", COURSE_BYTES))
    h5py.h5d.create(stack.id, b"course", kind, h5py.h5s.create(h5py.h5s.SCALAR), layout)
    rewrite_course(stack, {})


def rewrite_course(stack: h5py.Group, course: Mapping[str, Any]) -> None:
    """``course`` into the reserved room; its lists lose their last entries where they do not fit.

    Raises ValueError where it is too long without them.
    """
    values = dict(course)
    while len(text := json.dumps(values, ensure_ascii=False, default=_plain).encode()) > COURSE_BYTES:
        if not any(isinstance(value, list) and value for value in values.values()):
            raise ValueError(f"a course of {len(text)} bytes, at most {COURSE_BYTES} fit")
        values = {name: value[:-1] if isinstance(value, list) else value for name, value in values.items()}
    stack["course"][()] = text


def create_stack(
    file: h5py.File,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    pixel_um: float | None,
    optics: Optics | None,
    z_unit: ZUnit,
    metadata: Mapping[str, Any],
) -> h5py.Group:
    """``/stack`` with everything but the frames; heights are NaN until their frame is there."""
    stack = file.create_group("stack")
    stack.attrs["z_unit"] = z_unit
    if pixel_um is not None:
        stack.attrs["pixel_um"] = pixel_um
    if optics is not None:
        stack.attrs["magnification"] = optics.magnification
        stack.attrs["na"] = optics.na
        stack.attrs["wavelength_um"] = optics.wavelength_um
        stack.attrs["refractive_index"] = optics.refractive_index
    write_json(stack, "metadata", metadata)
    for name in ("z_um", "z_requested_um", "time_s"):
        stack[name] = np.full(shape[0], np.nan)
    return stack


def reserve_frames(stack: h5py.Group, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """All chunks, one per frame, get their place in the file now and are not filled."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((1, *shape[1:]))
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind = h5py.h5t.py_create(dtype)
    h5py.h5d.create(stack.id, b"frames", kind, h5py.h5s.create_simple(shape), layout)


def read_z_unit(group: h5py.Group) -> ZUnit:
    """Raises ValueError for a unit that this schema does not know."""
    unit = group.attrs["z_unit"]
    if unit not in get_args(ZUnit):
        raise ValueError(f"z_unit '{unit}'")
    return cast(ZUnit, unit)


def read_pixel_um(group: h5py.Group) -> float | None:
    """None where the pixel size is unknown. Raises ValueError where it is no positive number."""
    if "pixel_um" not in group.attrs:
        return None
    pixel_um = float(group.attrs["pixel_um"])
    if not (math.isfinite(pixel_um) and pixel_um > 0):
        raise ValueError(f"pixel_um {pixel_um}")
    return pixel_um


def read_optics(stack: h5py.Group) -> Optics | None:
    """The objective that the stack was taken with, None where it is unknown."""
    if "magnification" not in stack.attrs:
        return None
    names = ("magnification", "na", "wavelength_um", "refractive_index")
    return Optics(**{name: float(stack.attrs[name]) for name in names})


def write_reconstruction(
    file: h5py.File, height_map: HeightMap, name: str, provenance: Mapping[str, Any] | None = None
) -> None:
    """``/reconstructions/<name>``; ``provenance`` replaces that of the map."""
    group = file["reconstructions"].create_group(name)
    group.attrs["z_unit"] = height_map.z_unit
    group.attrs["method"] = height_map.method
    if height_map.pixel_um is not None:
        group.attrs["pixel_um"] = height_map.pixel_um
    write_json(group, "parameters", height_map.parameters)
    write_json(group, "provenance", height_map.provenance if provenance is None else provenance)
    images: dict[str, NDArray[Any]] = {
        "height_um": height_map.height_um,
        "confidence": height_map.confidence,
        "flags": height_map.flags,
    }
    optional = {name: getattr(height_map, name) for name in OPTIONAL_IMAGES}
    images |= {name: image for name, image in optional.items() if image is not None}
    for key, image in images.items():
        group.create_dataset(key, data=image, chunks=image.shape, **COMPRESSION)


def read_reconstruction(group: h5py.Group) -> HeightMap:
    """What :func:`write_reconstruction` wrote."""
    return HeightMap(
        height_um=group["height_um"][:],
        confidence=group["confidence"][:],
        flags=group["flags"][:],
        pixel_um=read_pixel_um(group),
        z_unit=read_z_unit(group),
        method=group.attrs["method"],
        parameters=read_json(group, "parameters"),
        provenance=read_json(group, "provenance"),
        **{name: group[name][:] for name in OPTIONAL_IMAGES if name in group},
    )
