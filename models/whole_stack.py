"""The methods that need all frames at once: those of the focus volume, and networks that look at whole stacks.

Around each of them the rest is as for the other methods: alignment before, regularisation after, flags and confidence.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from models.errors import Cancelled
from models.focal_stack import FocalStack
from models.focus.alignment import Aligner
from models.focus.measures import to_grey
from models.focus.peak import LEAST_CONFIDENCE
from models.focus.regularise import regularise
from models.focus.volume import volume_heights
from models.height_map import Flag, HeightMap
from models.live import memory_said
from models.methods import ReconstructionOptions, find_method
from models.networks.registry import find_network
from models.sweep_checks import is_saturated

if TYPE_CHECKING:
    from torch import nn

    from models.networks.inference import Inference

Report = Callable[[int, int], None]

_NORMAL_95 = np.float32(1.96)
UNKNOWN_CONFIDENCE = 0.5
"""Of every pixel where a network does not say at all how sure it is."""


@dataclass(frozen=True)
class _Moved:
    """A stack in memory, aligned. ``inside``: (N, H, W) uint8, 0 where a frame has no pixels; None = everywhere."""

    stack: FocalStack
    inside: NDArray[np.uint8] | None
    found: dict[str, Any]


def whole_stack_map(
    stack: FocalStack,
    options: ReconstructionOptions,
    *,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> HeightMap:
    """The height map of ``stack`` by a method that needs all of it.

    ``progress`` is called with (done, in all), a network's own work being a single step. Raises Cancelled soon after
    ``cancel`` is set, for a network when that step is over; InputError where weights are missing or do not fit and for
    a stack that is too large for the memory.
    """
    is_volume = find_method(options.method).kind == "volume"
    reads = not is_volume or options.align != "none"
    shares = 3 if is_volume and reads else 2

    def report(done: int, _in_all: int) -> None:
        if cancel is not None and cancel.is_set():
            raise Cancelled
        if progress is not None:
            progress(done, shares * len(stack))

    def volume_report(done: int, in_all: int) -> None:
        report(done + len(stack) * reads, in_all)

    moved = _moved(stack, options, report) if reads else _Moved(stack, None, {})
    if is_volume:
        found = volume_heights(
            moved.stack,
            options.method,
            window=options.window,
            stabilise=options.stabilise,
            progress=volume_report,
            cancel=cancel,
        )
    else:
        found = _by_network(moved.stack, options)
    parameters = {**found.parameters, **options.record(), **moved.found}
    found = replace(found, flags=_with_outside(found, moved), parameters=parameters)
    report(shares * len(stack), 0)
    return regularise(found, options.regularisation, stack.step_um)


def _moved(stack: FocalStack, options: ReconstructionOptions, report: Report) -> _Moved:
    """All frames in memory, brought onto the first one as the options ask."""
    aligner = Aligner(options.align)
    frames = np.empty(stack.frames.shape, stack.frames.dtype)
    inside = None if options.align == "none" else np.full(frames.shape[:3], 255, np.uint8)
    for index, (frame, _z_um) in enumerate(stack):
        report(index, len(stack))
        seen = aligner.align(frame, to_grey(frame))
        frames[index] = seen.frame
        if inside is not None and seen.inside is not None:
            inside[index] = seen.inside
    aligned = replace(stack, frames=frames)
    if inside is None:
        return _Moved(aligned, None, {})
    movement = {"drift_px": aligner.drift_px.tolist(), "magnification": aligner.magnification.tolist()}
    return _Moved(aligned, inside, movement)


def _by_network(stack: FocalStack, options: ReconstructionOptions) -> HeightMap:
    """Heights of a network that states no calibrated intervals: the map has none."""
    from models.networks.inference import load_network

    weights = None if options.weights is None else Path(options.weights)
    return network_map(load_network(options.method, weights), options.method, stack)


def network_map(network: "nn.Module", name: str, stack: FocalStack, *, own_doubt: bool = False) -> HeightMap:
    """The height map of ``stack`` by the ``network`` called ``name``, in its inference form.

    Intervals are not stated, for nobody has checked them; ``own_doubt`` takes the network's doubt, where it states one,
    for the standard deviation of a normal distribution, which is for those who measure how far it can be believed.
    Raises InputError where the memory is too small.
    """
    from models.networks.inference import infer

    with memory_said():
        found = infer(network, stack, channels=find_network(name).channels)
    confidence = _confidence(found, stack)
    nearest = nearest_frame(found.height_um, stack)
    picture = np.empty(stack.frames.shape[1:], stack.frames.dtype)
    for index in range(len(stack)):
        here = nearest == index
        picture[here] = stack.frames[index][here]
    flags = (confidence < LEAST_CONFIDENCE).astype(np.uint8) * np.uint8(Flag.NO_PEAK)
    flags[(nearest == 0) | (nearest == len(stack) - 1)] |= np.uint8(Flag.PEAK_AT_END)
    flags[is_saturated(picture)] |= np.uint8(Flag.SATURATED)
    half68 = found.spread_um if own_doubt else None
    return HeightMap(
        found.height_um,
        confidence,
        flags,
        picture,
        stack.pixel_um,
        stack.z_unit,
        name,
        {},
        stack.metadata.get("provenance", {}),
        half68,
        None if half68 is None else _NORMAL_95 * half68,
    )


def _confidence(found: "Inference", stack: FocalStack) -> NDArray[np.float32]:
    """How far the network believes itself right to one step, (H, W), not calibrated: 0 where it knows no more than one
    that has seen nothing, 1 where it is sure.

    The weight of the frames within a step of the height, or what a normal distribution of its spread has there; both
    less what equal weights for all frames would have, as J. Cohen corrects agreement for chance (Educ. Psychol. Meas.
    20 (1960) 37). In two or three frames nearly any guess is right to one step, so little is left there.
    """
    height_um, step_um = found.height_um, stack.step_um
    if found.weights is not None:
        sure, chance = np.zeros_like(height_um), np.zeros_like(height_um)
        for weight, z_um in zip(found.weights, stack.z_um, strict=True):
            near = np.abs(height_um - np.float32(z_um)) <= step_um
            sure += np.where(near, weight, 0)
            chance += near / np.float32(len(stack))
    elif found.spread_um is not None:
        sure = erf(step_um / (sqrt(2) * np.maximum(found.spread_um, 1e-9)))
        chance = np.full_like(height_um, erf(step_um / (sqrt(2) * float(np.std(stack.z_um)))))
    else:
        return np.full(height_um.shape, UNKNOWN_CONFIDENCE, np.float32)
    return np.clip((sure - chance) / np.maximum(1 - chance, 1e-6), 0, 1).astype(np.float32)


def nearest_frame(height_um: NDArray[np.float32], stack: FocalStack) -> NDArray[np.intp]:
    """The index of the frame nearest to each height (H, W), in the order of the stack; NaN counts as the highest."""
    z_um = np.sort(stack.z_um)
    place = np.searchsorted((z_um[1:] + z_um[:-1]) / 2, height_um)
    return place if stack.z_um[-1] > stack.z_um[0] else len(stack) - 1 - place


def _with_outside(found: HeightMap, moved: _Moved) -> NDArray[np.uint8]:
    """The flags, with OUTSIDE where alignment moved a pixel out of the frame nearest to its height."""
    if moved.inside is None:
        return found.flags
    nearest = nearest_frame(found.height_um, moved.stack)
    outside = np.take_along_axis(moved.inside, nearest[None], axis=0)[0] == 0
    return np.where(outside, found.flags | np.uint8(Flag.OUTSIDE), found.flags)
