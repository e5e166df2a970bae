"""Reconstruction by the methods that need the whole focus volume at once: RR, variational, 3D TFT.

Each of them gives heights only. Around them everything is as in :mod:`models.streaming`: every pixel has its own
peak of the focus measure MEASURE, with height, confidence and flags by :mod:`models.focus.peak`. The map of the method
keeps these flags; a height nearest to the first or last frame is flagged PEAK_AT_END, too, and one that lies more
than a step from the pixel's own peak SMOOTHED. The confidence is that of the own peak, times the part of its rise that
the focus curve still has at the height that was chosen. NaN stays NaN.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import Cancelled, InputError
from models.focal_stack import FocalStack
from models.focus.measures import focus_measure, to_grey
from models.focus.peak import END_CONFIDENCE, interpolate
from models.focus.robust import regularised_volume
from models.focus.tft import BANDS, bands, fused
from models.focus.variational import variational_heights
from models.height_map import Flag, HeightMap
from models.language import _
from models.methods import ReconstructionOptions
from models.streaming import StreamingReconstruction

Plane = NDArray[np.float32]
Tick = Callable[[float], None]

MEASURE = "mdml"
"""What the volume is made of: of our measures the best on all but the noisiest stacks."""
VOLUMES, PLANES = 6, 50
"""Memory that a method takes at most: as many arrays of float32 (N, H, W) and (H, W)."""


@dataclass(frozen=True)
class FocusVolume:
    """A focal stack with its focus measures, in rising z whatever the order of the frames.

    ``measure``: (N, H, W) float32; ``grey``: (N, H, W) in the camera's dtype; ``z``: (N,) heights in steps above the
    lowest frame; ``own``: (H, W) heights, in these steps, of the pixels' own peaks, filled where there is none.
    """

    measure: NDArray[np.float32]
    grey: NDArray[np.uint8 | np.uint16]
    z: NDArray[np.float64]
    own: Plane
    window: int
    stabilise: bool


def _robust(volume: FocusVolume, tick: Tick) -> Plane:
    return peak_heights(regularised_volume(volume.measure, volume.grey, volume.z, tick), volume.z)


def _variational(volume: FocusVolume, tick: Tick) -> Plane:
    return variational_heights(volume.measure, volume.own, volume.z, tick)


def _time_frequency(volume: FocusVolume, tick: Tick) -> Plane:
    images: list[Plane] = []
    strengths = bands(
        volume.grey, volume.z, volume.window, stabilise=volume.stabilise, check=lambda: tick(len(images) / BANDS)
    )
    for strength in strengths:
        images.append(peak_heights(strength, volume.z))
    return fused(images, volume.window)


VOLUME_METHODS: dict[str, Callable[[FocusVolume, Tick], Plane]] = {
    "rr": _robust,
    "variational": _variational,
    "tft": _time_frequency,
}
"""By name: from the volume, and a function that is told the part done and may raise, to heights (H, W) in steps."""


def volume_heights(
    stack: FocalStack,
    method: str,
    *,
    window: int = 9,
    stabilise: bool = True,
    progress: Callable[[int, int], None] | None = None,
    cancel: threading.Event | None = None,
) -> HeightMap:
    """The height map of a whole stack by a method of VOLUME_METHODS.

    ``window`` and ``stabilise`` as in :class:`models.methods.ReconstructionOptions`. ``progress`` is called with
    (done, in all), half of it for reading the frames. Raises Cancelled soon after ``cancel`` is set, InputError for an
    unknown method and for a stack that is too large for the memory: the methods need at most 4 H W (VOLUMES N + PLANES)
    bytes, 0.7 GB for 20 frames of 1024 x 1024 pixels.
    """
    if method not in VOLUME_METHODS:
        raise InputError(
            _("There is no method called '{name}'. Methods: {names}.").format(
                name=method, names=", ".join(VOLUME_METHODS)
            )
        )
    _check_memory(stack)
    in_all = 2 * len(stack)

    def report(done: float) -> None:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(int(done), in_all)

    try:
        volume, own = _read(stack, window, stabilise, report)
        if min(own.shape) < 2:  # no neighbours, nothing to regularise
            heights = volume.own
        else:
            heights = VOLUME_METHODS[method](volume, lambda part: report(len(stack) * (1 + part * 0.9)))
        height_map = _finished(stack, volume, heights, own, report)
    except MemoryError:
        raise _too_large(stack) from None
    report(in_all)
    return replace(height_map, method=method, parameters={**own.parameters, "method": method, "focus_measure": MEASURE})


def peak_heights(volume: NDArray[np.float32], z: NDArray[np.float64]) -> Plane:
    """The height (H, W) of the peak of every curve of ``volume`` (N, H, W), not negative, at ``z`` (N,) rising.

    Of equal values the one at the largest z wins, as in :class:`models.focus.peak.PeakSearch`.
    """
    last = len(volume) - 1
    index = last - volume[::-1].argmax(axis=0)

    def at(offset: int) -> Plane:
        return np.asarray(np.take_along_axis(volume, np.clip(index + offset, 0, last)[None], axis=0)[0])

    return interpolate(at(0), [(at(-1), at(1)), (at(-2), at(2))], index.astype(np.uint16), z)


def _read(
    stack: FocalStack, window: int, stabilise: bool, report: Callable[[float], None]
) -> tuple[FocusVolume, HeightMap]:
    """The volume, and the map of the pixels' own peaks."""
    options = ReconstructionOptions(method=MEASURE, window=window, stabilise=stabilise)
    source = stack.metadata.get("provenance", {})
    streaming = StreamingReconstruction(options, pixel_um=stack.pixel_um, z_unit=stack.z_unit, provenance=source)
    shape = (len(stack), *stack.image_shape)
    measure, grey = np.empty(shape, np.float32), np.empty(shape, stack.frames.dtype)
    places = np.argsort(np.argsort(stack.z_um))
    for place, (frame, z_um) in zip(places, stack, strict=True):
        report(streaming.frame_count)
        streaming.add(frame, z_um)
        grey[place] = to_grey(frame)
        measure[place] = focus_measure(grey[place], MEASURE, window, stabilise=stabilise)
    own = streaming.height_map()
    lowest = stack.z_um.min()
    in_steps = (own.height_um.astype(np.float64) - lowest) / stack.step_um
    known = np.isfinite(in_steps)
    in_steps[~known] = np.median(in_steps[known]) if known.any() else 0
    z = (np.sort(stack.z_um) - lowest) / stack.step_um
    return FocusVolume(measure, grey, z, in_steps.astype(np.float32), window, stabilise), own


def _finished(
    stack: FocalStack, volume: FocusVolume, heights: Plane, own: HeightMap, report: Callable[[float], None]
) -> HeightMap:
    """The map with ``heights`` (H, W) in steps: its confidence, flags and picture in focus."""
    last = len(stack) - 1
    nearest = np.searchsorted((volume.z[1:] + volume.z[:-1]) / 2, heights)
    best = volume.measure.max(axis=0)
    others = (volume.measure.sum(axis=0) - best) / last
    here = np.take_along_axis(volume.measure, nearest[None], axis=0)[0]
    rise = np.maximum(best - others, np.finfo(np.float32).tiny)
    confidence = own.confidence * np.clip((here - others) / rise, 0, 1)
    flags = own.flags.copy()
    at_end = (nearest == 0) | (nearest == last)
    confidence[at_end & ~own.has_flag(Flag.PEAK_AT_END)] *= np.float32(END_CONFIDENCE)
    flags[at_end] |= np.uint8(Flag.PEAK_AT_END)
    missing = np.isnan(own.height_um)
    flags[(np.abs(heights - volume.own) > 1) & ~missing] |= np.uint8(Flag.SMOOTHED)
    height_um = (stack.z_um.min() + stack.step_um * heights.astype(np.float64)).astype(np.float32)
    height_um[missing] = np.nan
    picture = _picture(stack, nearest, report)
    return replace(own, height_um=height_um, confidence=confidence, flags=flags, all_in_focus=picture)


def _picture(stack: FocalStack, nearest: NDArray[np.intp], report: Callable[[float], None]) -> NDArray[Any]:
    """Every pixel from the frame nearest to its height; ``nearest`` (H, W) counts the frames in rising z."""
    picture = np.empty(stack.frames.shape[1:], stack.frames.dtype)
    for index, place in enumerate(np.argsort(np.argsort(stack.z_um))):
        report(len(stack) * (1.9 + 0.1 * index / len(stack)))
        shown = nearest == place
        picture[shown] = stack.frames[index][shown]
    return picture


def _check_memory(stack: FocalStack) -> None:
    """Refuse what the machine cannot hold. Where it does not say how much that is, the attempt will tell."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        has = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if 0 < has < _needed_bytes(stack):
            raise _too_large(stack)


def _needed_bytes(stack: FocalStack) -> int:
    rows, columns = stack.image_shape
    return 4 * rows * columns * (VOLUMES * len(stack) + PLANES)


def _too_large(stack: FocalStack) -> InputError:
    return InputError(
        _(
            "This method needs {size:.1f} GB of memory for a stack of {n} frames, more than there is. Choose another "
            "method, fewer frames or a smaller image."
        ).format(size=_needed_bytes(stack) / 1e9, n=len(stack))
    )
