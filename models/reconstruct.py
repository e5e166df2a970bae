"""From a focal stack to a height map, by any method; and the focus curve of one pixel."""

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import Cancelled, InputError
from models.focal_stack import FocalStack
from models.focus.measures import focus_measure, margin_px
from models.height_map import HeightMap
from models.language import _
from models.live import memory_said, streaming_reconstruction
from models.methods import DEFAULT_MEASURE, MEASURES, ReconstructionOptions, find_method
from models.whole_stack import whole_stack_map

FRAMES_AT_ONCE = 4
"""Together they are faster than one by one; more would only take memory."""
_DEFAULTS = ReconstructionOptions()


def reconstruct(
    stack: FocalStack,
    options: ReconstructionOptions = _DEFAULTS,
    *,
    progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> HeightMap:
    """The height map of a whole stack by any method, read frame by frame where the method allows it.

    ``progress`` is called with (done, in all), frames in most methods. Raises Cancelled soon after ``cancel`` is
    set; InputError for an unknown method, weights that are missing or do not fit, an engine that is not there, and a
    stack that is too large for a method that needs all of it.
    """
    if find_method(options.method).whole_stack:
        return whole_stack_map(stack, options, progress=progress, cancel=cancel)
    streaming = streaming_reconstruction(
        options,
        pixel_um=stack.pixel_um,
        z_unit=stack.z_unit,
        provenance=stack.metadata.get("provenance", {}),
        stack_pixels=len(stack) * stack.image_shape[0] * stack.image_shape[1],
    )
    frames = _until_cancelled(stack, cancel)
    with memory_said():
        while group := list(islice(frames, FRAMES_AT_ONCE)):
            streaming.add_all(group)
            if progress is not None:
                progress(streaming.frame_count, len(stack))
        return streaming.finish()


def _until_cancelled(stack: FocalStack, cancel: threading.Event | None) -> Iterator[tuple[NDArray[Any], float]]:
    for frame in stack:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        yield frame


def focus_curve(
    stack: FocalStack, row: int, column: int, options: ReconstructionOptions = _DEFAULTS
) -> NDArray[np.float32]:
    """The focus measure (N,) of one pixel in every frame, the curve whose peak is its height.

    Of methods that are no focus measure, by the default one: what there was to see at this pixel.
    Raises InputError where the pixel lies outside the image.
    """
    rows, columns = stack.image_shape
    if not (0 <= row < rows and 0 <= column < columns):
        raise InputError(
            _("Pixel ({row}, {column}) lies outside the image of {rows} x {columns} pixels.").format(
                row=row, column=column, rows=rows, columns=columns
            )
        )
    measure = options.method if options.method in MEASURES else DEFAULT_MEASURE
    reach = 2 * margin_px(measure, options.window)
    top, left = max(row - reach, 0), max(column - reach, 0)
    part = slice(top, row + reach + 1), slice(left, column + reach + 1)
    # Frames that can be read in part are: half the time on 2048 x 2048 pixels, and no large arrays.
    region = getattr(stack.frames, "region", lambda index, *part: stack.frames[index][part])
    curve = [
        focus_measure(region(index, *part), measure, options.window, stabilise=options.stabilise)[
            row - top, column - left
        ]
        for index in range(len(stack))
    ]
    return np.array(curve, dtype=np.float32)
