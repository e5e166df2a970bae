"""A height map as a triangle mesh in micrometres: STL, PLY and OBJ for printing, milling and other 3D programs."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.height_map import HeightMap
from models.language import _

MESH_SUFFIXES = (".stl", ".ply", ".obj")

_BASE_SHARE = 0.05
"""Thickness of the base below the lowest point, as a share of the longer side."""


def write_mesh(height_map: HeightMap, path: Path, *, watertight: bool = False) -> None:
    """Write ``height_map`` to ``path`` by its suffix. Raises InputError where a scale is missing.

    x runs with the columns, y against the rows (so that the mesh is not mirrored), z is the height; all in
    um. Missing pixels leave holes. ``watertight`` adds walls and a flat base, as printing needs.
    """
    height_um, pixel_um = calibrated(height_map, path)
    vertices, faces = triangulate(height_um, pixel_um, watertight=watertight)
    if len(faces) == 0:
        raise InputError(_("The height map has no four neighbouring heights: there is no surface to write."))
    import trimesh  # half a second, which only those who write a mesh should wait

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.export(path, file_type=path.suffix.lower()[1:])


def calibrated(height_map: HeightMap, path: Path) -> tuple[NDArray[np.float32], float]:
    """Heights in um and the pixel size in um; raises InputError where either scale is unknown."""
    if height_map.z_unit != "um" or height_map.pixel_um is None:
        raise InputError(
            _(
                "{name} holds lengths in micrometres, but the scale of this height map is unknown. "
                "Give the step between the frames and the pixel size."
            ).format(name=path.name)
        )
    return height_map.height_um, height_map.pixel_um


def triangulate(
    height_um: NDArray[np.float32], pixel_um: float, *, watertight: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices (V, 3) in um and faces (F, 3), counter-clockwise seen from outside.

    Two triangles for every four neighbouring pixels that all have a height.
    """
    rows, columns = height_um.shape
    finite = np.isfinite(height_um)
    cells = finite[:-1, :-1] & finite[:-1, 1:] & finite[1:, :-1] & finite[1:, 1:]
    if watertight:
        _open_pinches(cells)
    number = np.arange(rows * columns).reshape(rows, columns)
    corners = (number[:-1, :-1][cells], number[:-1, 1:][cells], number[1:, :-1][cells], number[1:, 1:][cells])
    top_left, top_right, bottom_left, bottom_right = corners
    faces = np.concatenate(
        [
            np.column_stack([top_left, bottom_left, bottom_right]),
            np.column_stack([top_left, bottom_right, top_right]),
        ]
    )
    used = np.unique(faces) if len(faces) else np.empty(0, np.int64)
    renumbered = np.zeros(rows * columns, np.int64)
    renumbered[used] = np.arange(len(used))
    row, column = np.divmod(used, columns)
    vertices = np.column_stack([column * pixel_um, (rows - 1 - row) * pixel_um, height_um.ravel()[used]]).astype(
        np.float64
    )
    faces = renumbered[faces]
    if not watertight or len(faces) == 0:
        return vertices, faces

    base = vertices.copy()
    base[:, 2] = vertices[:, 2].min() - _BASE_SHARE * pixel_um * max(rows, columns)
    start, end = (renumbered[edge] for edge in _border(cells, number))
    below = len(vertices)
    walls = np.concatenate(
        [np.column_stack([end, start, start + below]), np.column_stack([end, start + below, end + below])]
    )
    return np.concatenate([vertices, base]), np.concatenate([faces, faces[:, ::-1] + below, walls])


def _open_pinches(cells: NDArray[np.bool_]) -> None:
    """Remove cells that touch another one at a corner only: walls would meet there in one shared line."""
    while True:
        a, b, c, d = cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]
        falling, rising = a & d & ~b & ~c, b & c & ~a & ~d
        if not (falling.any() or rising.any()):
            return
        a[falling] = False
        b[rising] = False


def _border(cells: NDArray[np.bool_], number: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end vertex of every edge with a cell on one side only, that cell on its left."""
    padded = np.pad(cells, 1)
    inside = padded[1:-1, 1:-1]
    north, south = inside & ~padded[:-2, 1:-1], inside & ~padded[2:, 1:-1]
    west, east = inside & ~padded[1:-1, :-2], inside & ~padded[1:-1, 2:]
    top_left, top_right, bottom_left, bottom_right = (
        number[:-1, :-1],
        number[:-1, 1:],
        number[1:, :-1],
        number[1:, 1:],
    )
    start = (top_right[north], bottom_left[south], top_left[west], bottom_right[east])
    end = (top_left[north], bottom_right[south], bottom_left[west], top_right[east])
    return np.concatenate(start), np.concatenate(end)
