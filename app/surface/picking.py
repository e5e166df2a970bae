"""Which pixel of a height map a line of sight meets first."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def scene_height(
    height: NDArray[np.float32] | np.float32, clamp: tuple[float, float], lift: tuple[float, float]
) -> NDArray[Any]:
    """Where a height is drawn: held inside ``clamp``, then (height - lift[0]) * lift[1]."""
    return np.asarray((np.clip(height, *clamp) - lift[0]) * lift[1])


def first_hit(
    near: NDArray[np.float64],
    far: NDArray[np.float64],
    heights: NDArray[np.float32],
    extent: tuple[float, float],
    clamp: tuple[float, float],
    lift: tuple[float, float],
) -> tuple[int, int] | None:
    """Row and column where the line from ``near`` to ``far``, (3,) each in the scene, first meets the surface.

    ``heights`` (rows, columns) lie centred on the origin over ``extent`` in x and y, row 0 at +y, drawn as
    :func:`scene_height` says. Looked up at points half a cell apart at most, so that a point near a steep
    wall may be off by one cell. None where the line passes by or through a hole.
    """
    direction = far - near
    low, high = (float(scene_height(np.float32(value), clamp, lift)) for value in clamp)
    start, end = 0.0, 1.0
    # Only the part inside the block counts; its longest way crosses rows + columns cells.
    for axis, (lower, upper) in enumerate(
        ((-extent[0] / 2, extent[0] / 2), (-extent[1] / 2, extent[1] / 2), (low - 1e-3, high + 1e-3))
    ):
        if abs(direction[axis]) > 1e-12:
            enters, leaves = sorted((side - near[axis]) / direction[axis] for side in (lower, upper))
            start, end = max(start, enters), min(end, leaves)
        elif not lower <= near[axis] <= upper:
            return None
    if start > end:
        return None
    rows, columns = heights.shape
    points = near + np.linspace(start, end, 2 * (rows + columns))[:, None] * direction
    column = np.rint((points[:, 0] / extent[0] + 0.5) * (columns - 1)).astype(np.intp)
    row = np.rint((0.5 - points[:, 1] / extent[1]) * (rows - 1)).astype(np.intp)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    surface = np.full(len(points), -np.inf)
    seen = scene_height(heights[row[inside], column[inside]], clamp, lift)
    surface[inside] = np.where(np.isnan(seen), -np.inf, seen)
    hits = np.flatnonzero(points[:, 2] <= surface)
    return None if hits.size == 0 else (int(row[hits[0]]), int(column[hits[0]]))
