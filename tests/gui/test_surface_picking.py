"""Which pixel the line of sight meets, without a window."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.surface.picking import first_hit

EXTENT, CLAMP, LIFT = (10.0, 5.0), (0.0, 4.0), (2.0, 0.5)


def surface() -> np.ndarray:
    """A block 4 high in the middle third of a plane at 0, (30, 60)."""
    heights = np.zeros((30, 60), np.float32)
    heights[:, 20:40] = 4.0
    return heights


def place(row: float, column: float, z: float) -> np.ndarray:
    return np.array([(column / 59 - 0.5) * 10.0, (0.5 - row / 29) * 5.0, z])


@given(st.integers(0, 29), st.integers(0, 59))
def test_straight_down_every_pixel_is_found(row, column):
    hit = first_hit(place(row, column, 9.0), place(row, column, -9.0), surface(), EXTENT, CLAMP, LIFT)
    assert hit == (row, column)


@given(st.integers(0, 29), st.integers(0, 18), st.floats(0.1, 3.0))
def test_the_nearer_of_two_walls_is_met(row, column, slope):
    """From the left, aimed at the foot of a pixel behind the block: the wall at column 20 stands in the way."""
    target = place(row, 59 - column, -1.0)
    start = target + np.array([-12.0, 0.0, 12.0 * slope])
    hit = first_hit(start, target, surface(), EXTENT, CLAMP, LIFT)
    assert hit is not None
    height_over_wall = start[2] + (place(row, 20, 0)[0] - start[0]) * -slope
    if height_over_wall < 0.95:
        assert abs(hit[1] - 20) <= 1
    elif start[2] + (place(row, 39.5, 0)[0] - start[0]) * -slope > 1.05:
        assert hit[1] >= 40
    assert hit[0] == row


def test_beside_the_block_above_it_and_through_a_hole_there_is_nothing():
    heights = surface()
    assert first_hit(place(-3, 10, 9), place(-3, 10, -9), heights, EXTENT, CLAMP, LIFT) is None
    level = first_hit(place(5, -30, 3), place(5, 90, 3), heights, EXTENT, CLAMP, LIFT)
    assert level is None
    heights[10:20, 20:40] = np.nan
    assert first_hit(place(15, 30, 9), place(15, 30, -9), heights, EXTENT, CLAMP, LIFT) is None


def test_nearly_level_sight_still_meets_the_wall():
    hit = first_hit(place(12, -3000, 1.2), place(12, 3000, -1.2), surface(), EXTENT, CLAMP, LIFT)
    assert hit is not None
    assert hit[0] == 12
    assert abs(hit[1] - 20) <= 1
