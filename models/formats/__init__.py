"""Reading stacks and writing height maps in the formats of other programs."""

from pathlib import Path

from models.atomic import check_writable, replacing
from models.errors import InputError, OutputError
from models.focal_stack import FocalStack
from models.formats.maps import (
    read_height_map,
    write_csv_map,
    write_npy_map,
    write_tiff_map,
    write_x3p_map,
)
from models.formats.mesh import MESH_SUFFIXES, write_mesh
from models.formats.picture import PictureStyle, write_picture
from models.formats.stacks import STACK_SUFFIXES, read_stack
from models.height_map import HeightMap
from models.language import _
from models.storage import may_hold_capture, write_sample

__all__ = [
    "MAP_SUFFIXES",
    "MESH_SUFFIXES",
    "STACK_SUFFIXES",
    "PictureStyle",
    "check_output",
    "read_height_map",
    "read_stack",
    "write_height_map",
]

MAP_SUFFIXES = (".h5", ".tif", ".tiff", ".png", ".x3p", ".stl", ".ply", ".obj", ".csv", ".npy")
_NEEDS_SCALE = (".x3p", *MESH_SUFFIXES)


def write_height_map(
    height_map: HeightMap,
    path: str | Path,
    *,
    watertight: bool = False,
    style: PictureStyle | None = None,
    stack: FocalStack | None = None,
) -> None:
    """Write ``height_map`` in the format of the suffix of ``path``; the file appears whole or not at all.

    ``watertight`` closes a mesh with walls and a base; ``style`` says what a ``.png`` shows; ``stack`` goes
    into a ``.h5`` beside the map. Raises InputError where the map does not fit the format, OutputError where
    the file cannot be written; an existing file then stays as it was.
    """
    path = Path(path).absolute()
    check_output(path, calibrated=height_map.z_unit == "um" and height_map.pixel_um is not None)
    if stack is not None and path.suffix.lower() != ".h5":
        raise InputError(_("{path}: only an .h5 file can hold the stack.").format(path=path))
    if path.suffix.lower() == ".h5":
        write_sample(path, height_map, stack)
        return
    with replacing(path) as temporary:
        match path.suffix.lower():
            case ".tif" | ".tiff":
                write_tiff_map(height_map, temporary)
            case ".npy":
                write_npy_map(height_map, temporary)
            case ".csv":
                write_csv_map(height_map, temporary)
            case ".x3p":
                write_x3p_map(height_map, temporary)
            case ".png":
                write_picture(height_map, temporary, style or PictureStyle())
            case _:
                write_mesh(height_map, temporary, watertight=watertight)


def check_output(path: str | Path, *, calibrated: bool = True) -> None:
    """Raise now what :func:`write_height_map` would raise after the long computation.

    ``calibrated`` False says that the map will have no scale, which meshes and X3P need.
    Raises OutputError for the suffix and for a place that cannot be written, InputError for a missing scale.
    """
    path = Path(path).absolute()
    suffix = path.suffix.lower()
    if not suffix:
        raise OutputError(
            _("{path} has no suffix, which decides the format. Formats: {suffixes}.").format(
                path=path, suffixes=" ".join(MAP_SUFFIXES)
            )
        )
    if suffix not in MAP_SUFFIXES:
        raise OutputError(
            _("{path}: '{suffix}' is no format for height maps. Formats: {suffixes}.").format(
                path=path, suffix=suffix, suffixes=" ".join(MAP_SUFFIXES)
            )
        )
    if not calibrated and suffix in _NEEDS_SCALE:
        raise InputError(
            _(
                "{name} holds lengths in micrometres, but the scale of this height map is unknown. "
                "Give the step between the frames and the pixel size."
            ).format(name=path.name)
        )
    check_writable(path)
    if suffix == ".h5" and path.exists() and may_hold_capture(path):
        raise OutputError(
            _("{path} exists and may hold a captured stack, which is never overwritten. Choose another name.").format(
                path=path
            )
        )
