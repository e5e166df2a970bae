"""Heights along a straight line, as plain arrays and as a CSV file."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.atomic import replacing
from models.height_map import HeightMap

Pixel = tuple[float, float]


@dataclass(frozen=True)
class Profile:
    """Heights (N,) at equal distances along a line; NaN where the map has a hole.

    ``distance`` (N,) counts micrometres where ``distance_unit`` is "um", pixels where it is "px".
    ``row`` and ``column`` (N,) say where each point lies in the map, in pixels.
    """

    distance: NDArray[np.float64]
    height: NDArray[np.float32]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    distance_unit: str
    height_unit: str


def height_profile(height_map: HeightMap, heights: NDArray[np.float32], start: Pixel, end: Pixel) -> Profile:
    """Bilinear heights from ``start`` to ``end``, (row, column) each, about one point per pixel.

    ``heights`` (H, W) belong to ``height_map`` but may have more holes. A point next to a hole is NaN;
    so is one outside the map.
    """
    length_px = math.dist(start, end)
    count = max(2, round(length_px) + 1)
    row = np.linspace(start[0], end[0], count)
    column = np.linspace(start[1], end[1], count)
    pixel = height_map.pixel_um
    return Profile(
        distance=np.linspace(0.0, length_px * (pixel or 1.0), count),
        height=_bilinear(heights, row, column),
        row=row,
        column=column,
        distance_unit="px" if pixel is None else "um",
        height_unit=height_map.z_unit,
    )


def _bilinear(
    values: NDArray[np.float32], row: NDArray[np.float64], column: NDArray[np.float64]
) -> NDArray[np.float32]:
    rows, columns = values.shape
    inside = (row >= 0) & (row <= rows - 1) & (column >= 0) & (column <= columns - 1)
    row, column = np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)
    top, left = np.floor(row).astype(np.intp), np.floor(column).astype(np.intp)
    bottom, right = np.minimum(top + 1, rows - 1), np.minimum(left + 1, columns - 1)
    down, across = row - top, column - left
    result = np.zeros(row.shape)
    for r, c, weight in (
        (top, left, (1 - down) * (1 - across)),
        (top, right, (1 - down) * across),
        (bottom, left, down * (1 - across)),
        (bottom, right, down * across),
    ):
        # A neighbour without weight does not count: on a whole pixel the hole beside it is no reason for a gap.
        result += np.where(weight > 0, weight * values[r, c], 0.0)
    return np.where(inside, result, np.nan).astype(np.float32)


def write_csv(profile: Profile, path: Path) -> None:
    """Columns distance, height, row and column, with their units in the first line; a hole is an empty field.

    Raises OutputError where the file cannot be written.
    """
    height_name = "height_um" if profile.height_unit == "um" else "height_frames"
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([f"distance_{profile.distance_unit}", height_name, "row", "column"])
        for distance, height, row, column in zip(
            profile.distance, profile.height, profile.row, profile.column, strict=True
        ):
            shown = "" if np.isnan(height) else f"{height:.6g}"
            writer.writerow([f"{distance:.6g}", shown, f"{row:.3f}", f"{column:.3f}"])
