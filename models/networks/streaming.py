"""Reconstruction by a network, frame by frame: each frame is looked at once, when it arrives.

Memory is a fixed number of images whatever the length of the sweep: what the network keeps of its last frames
(:class:`models.networks.gplws_compact.Past`) and running sums of the softmax over the frames (M. Milakov and
N. Gimelshein, Online normalizer calculation for softmax, 2018). Large images are computed in strips that overlap by
what the network sees, so nothing changes at a seam.
"""

import copy
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from torch import Tensor

from models.errors import InputError
from models.focal_stack import ZUnit
from models.focus.alignment import Aligner
from models.focus.measures import to_grey
from models.focus.peak import END_CONFIDENCE, LEAST_CONFIDENCE
from models.focus.regularise import regularise
from models.height_map import Flag, HeightMap
from models.language import _
from models.methods import ReconstructionOptions
from models.networks.calibration import Calibration
from models.networks.gplws_compact import BLOCK, as_pixels, smoothed, split_answers, spread_in_steps
from models.networks.past import Past
from models.sweep_checks import check_arrivals, full_scale, is_saturated

PIXELS_AT_ONCE = 1 << 21
"""Larger images are computed in strips of about this size."""
NO_SCORE = -1e30


class StreamableNetwork(Protocol):
    """What a :class:`models.networks.gplws_compact.CompactGplwsNet` shows, whatever engine computes its answers."""

    multiple: int
    reach_px: int

    @property
    def device(self) -> torch.device: ...
    def answers(self, frames: Tensor | None, past: Past | None = None) -> Tensor | None: ...


class _Strip:
    """Running sums for some rows of the image; every array is (P, rows / 4, columns / 4), P = 16 or 1 for a block."""

    def __init__(self, core: slice, reach: slice) -> None:
        self.core, self.reach = core, reach
        self.past = Past()
        self.count = 0
        self.top: Tensor | None = None

    def copy(self) -> "_Strip":
        twin = _Strip(self.core, self.reach)
        twin.__dict__.update(self.__dict__)
        twin.past = self.past.copy()
        return twin

    def add(self, answers: Tensor, z: Tensor, spacing: Tensor) -> list[NDArray[np.uint8]]:
        """Take in the ``answers`` (n, P + 2, h, w) of frames at ``z`` (n,); ``spacing`` (n,): that of their neighbours.

        Returns for each frame where it is the best so far, (rows, columns) 0 or 255.
        """
        scores, offset, doubt = split_answers(answers.float())
        if self.top is None:
            self.top = torch.full_like(scores[0], NO_SCORE)
            blank = torch.zeros(6, *scores.shape[1:], device=scores.device)
            self.total, self.height, self.shift, self.doubt, self.step, self.sum = blank
            self.best = torch.zeros(scores.shape[1:], dtype=torch.int32, device=scores.device)
        top = self.top
        is_better = []
        for frame in scores:
            better = frame > top
            self.best = torch.where(better, self.count, self.best)
            top = torch.maximum(top, frame)
            self.count += 1
            is_better.append(_labels(better.to(torch.uint8) * 255))
        weights = torch.exp(scores - top)
        fade = torch.exp(self.top - top)
        self.total = self.total * fade + weights.sum(0)
        self.height = self.height * fade + (weights * z[:, None, None, None]).sum(0)
        self.shift = self.shift * fade + (weights * (offset * spacing[:, None, None, None])).sum(0)
        self.doubt = self.doubt * fade + (weights * doubt).sum(0)
        self.step = self.step * fade + (weights * spacing.abs()[:, None, None, None]).sum(0)
        self.sum = self.sum + scores.sum(0)
        self.top = top
        return is_better

    def result(self) -> tuple[NDArray[Any], ...]:
        """Height, spread in steps, step there and best frame, each (rows, columns) of the strip without its overlap."""
        inside = slice(self.core.start - self.reach.start, self.core.stop - self.reach.start)
        assert self.top is not None
        height, shift, doubt, step = (
            (part / self.total)[None] for part in (self.height, self.shift, self.doubt, self.step)
        )
        spread = spread_in_steps(doubt, (self.top - self.sum / self.count)[None])
        found = (height + smoothed(shift), spread, smoothed(step))
        pixels = (as_pixels(part)[0][inside].cpu().numpy() for part in found)
        return (*pixels, _labels(self.best)[inside])


def _labels(parts: Tensor) -> NDArray[Any]:
    """(P, h, w) whole numbers to (4 h, 4 w): of the 16 pixels of each block, or the same for all."""
    whole = parts if len(parts) > 1 else parts.expand(BLOCK**2, -1, -1)
    image: NDArray[Any] = F.pixel_shuffle(whole, BLOCK)[0].cpu().numpy()
    return image


class StreamingNetwork:
    """Takes the frames of one sweep, up or down, and gives the height map of what has arrived.

    The same promises as :class:`models.streaming.StreamingReconstruction`; ``network`` is in its inference form.
    """

    def __init__(
        self,
        network: StreamableNetwork,
        calibration: Calibration,
        options: ReconstructionOptions,
        *,
        pixel_um: float | None = None,
        z_unit: ZUnit = "um",
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self._network, self._calibration, self._options = network, calibration, options
        self._pixel_um = pixel_um
        self._z_unit: ZUnit = z_unit
        self._provenance = dict(provenance or {})
        self._z_um: list[float] = []
        self._aligner = Aligner(options.align)
        self._running: _Running | None = None

    @property
    def frame_count(self) -> int:
        return len(self._z_um)

    @property
    def drift_px(self) -> NDArray[np.float64]:
        """(n, 2) movement in rows and columns of each frame against the first; zeros without alignment."""
        return self._aligner.drift_px

    @property
    def magnification(self) -> NDArray[np.float64]:
        """(n,) scale of each frame against the first; ones without alignment."""
        return self._aligner.magnification

    def add(self, frame: NDArray[Any], z_um: float) -> None:
        """Take in the next frame. Raises InputError where it does not fit to the ones before it."""
        self.add_all([(frame, z_um)])

    def add_all(self, frames: Sequence[tuple[NDArray[Any], float]]) -> None:
        """Take in the next frames, each with its z in um; raises InputError, taking none, where one does not fit."""
        first = frames[0][0] if self._running is None else self._running.all_in_focus
        z_um = check_arrivals(frames, first, self._z_um)
        if self._running is None:
            self._running = _Running(self._network, first)
        seen = [self._aligner.align(frame, to_grey(frame)) for frame, _z in frames]
        self._z_um = z_um
        self._running.push([(found.frame, found.inside) for found in seen], np.array(z_um))

    def height_map(self) -> HeightMap:
        """The map of the frames so far. Raises InputError before the second frame."""
        if self._running is None or self.frame_count < 2:
            raise InputError(
                _("The stack has {n} frame; at least 2 are needed to find a focus.").format(n=self.frame_count)
            )
        ended = self._running.copy()
        ended.push([], np.array(self._z_um), last=True)
        return self._map_of(ended)

    def finish(self) -> HeightMap:
        """The final map, with the regularisation that the options ask for."""
        return regularise(self.height_map(), self._options.regularisation, self._step_um)

    @property
    def _step_um(self) -> float:
        return float(np.median(np.abs(np.diff(self._z_um))))

    def _map_of(self, ended: "_Running") -> HeightMap:
        height, spread, step_um, best = ended.result()
        height_um = (height + self._z_um[0]).astype(np.float32)
        half68, half95 = self._calibration.half_widths(spread)
        confidence = self._calibration.confidence(spread)
        at_end = (best == 0) | (best == self.frame_count - 1)
        # The surface may lie anywhere beyond: no interval, and no more trust than a focus measure gives.
        confidence[at_end] *= np.float32(END_CONFIDENCE)
        half68[at_end] = half95[at_end] = np.nan
        flags = (confidence < LEAST_CONFIDENCE).astype(np.uint8) * np.uint8(Flag.NO_PEAK)
        flags[at_end] |= np.uint8(Flag.PEAK_AT_END)
        flags[is_saturated(ended.all_in_focus)] |= np.uint8(Flag.SATURATED)
        flags[ended.outside > 0] |= np.uint8(Flag.OUTSIDE)
        parameters = self._options.record()
        if self._options.align != "none":
            parameters |= {"drift_px": self.drift_px.tolist(), "magnification": self.magnification.tolist()}
        return HeightMap(
            height_um,
            confidence,
            flags,
            ended.all_in_focus,
            self._pixel_um,
            self._z_unit,
            self._options.method,
            parameters,
            self._provenance,
            half68 * step_um,
            half95 * step_um,
        )


class _Running:
    """All strips of an image, and the frames whose answers are not due yet."""

    def __init__(self, network: StreamableNetwork, first: NDArray[Any]) -> None:
        self._network = network
        self.shape = (int(first.shape[0]), int(first.shape[1]))
        self._strips = [_Strip(core, reach) for core, reach in strips_of(self.shape, network)]
        self._images: deque[tuple[NDArray[Any], NDArray[np.uint8] | None]] = deque()
        self._count = 0
        self._full_scale = full_scale(first)
        self.all_in_focus = np.zeros_like(first)
        self.outside = np.zeros(self.shape, np.uint8)

    def copy(self) -> "_Running":
        """The same state, to go on from without changing this one."""
        twin = copy.copy(self)
        twin._strips = [strip.copy() for strip in self._strips]
        twin._images = self._images.copy()
        twin.all_in_focus, twin.outside = self.all_in_focus.copy(), self.outside.copy()
        return twin

    @torch.inference_mode()
    def push(
        self,
        images: list[tuple[NDArray[Any], NDArray[np.uint8] | None]],
        z_um: NDArray[np.float64],
        *,
        last: bool = False,
    ) -> None:
        """Take in aligned ``images``, the last ones of those at ``z_um``; with ``last`` all answers become due."""
        self._images.extend(images)
        frames = None
        if images:
            frames = _as_tensor([image for image, _inside in images], self._full_scale).to(self._network.device)
        spacing_um = np.gradient(z_um) if len(z_um) > 1 else np.zeros(1)
        due = 0
        for strip in self._strips:
            strip.past.last = last
            answers = self._network.answers(None if frames is None else frames[..., strip.reach, :], strip.past)
            if answers is None:
                continue
            due = answers.shape[1]
            part = slice(self._count, self._count + due)
            z, spacing = (torch.from_numpy(values[part].astype(np.float32)) for values in (z_um - z_um[0], spacing_um))
            better = strip.add(answers[0], z.to(answers.device), spacing.to(answers.device))
            self._show(strip, better)
        for _done in range(due):
            self._images.popleft()
        self._count += due

    def _show(self, strip: _Strip, better: list[NDArray[np.uint8]]) -> None:
        """Put the pixels where a frame is the best so far into the image that is in focus everywhere."""
        rows, columns = strip.core, slice(0, self.shape[1])
        top = strip.core.start - strip.reach.start
        for (image, inside), mask in zip(self._images, better, strict=False):
            here = np.ascontiguousarray(mask[top : top + rows.stop - rows.start, columns])
            cv2.copyTo(image[rows], here, self.all_in_focus[rows])
            outside = np.zeros_like(here) if inside is None else (inside[rows] == 0).astype(np.uint8)
            cv2.copyTo(outside, here, self.outside[rows])

    def result(self) -> tuple[NDArray[Any], ...]:
        """Height above that of the first frame, spread in steps, step in um and best frame of the image, each (H, W).

        The step is the distance of the frames that a pixel is made of: with unequal steps not the same everywhere.
        """
        parts = zip(*(strip.result() for strip in self._strips), strict=True)
        return tuple(np.concatenate(part)[:, : self.shape[1]] for part in parts)


def strips_of(shape: tuple[int, int], network: StreamableNetwork) -> list[tuple[slice, slice]]:
    """Rows of each strip of an image (H, W), without and with the overlap that makes it independent of its edges."""
    height, width = shape
    unit = network.multiple
    rows = max(PIXELS_AT_ONCE // width // unit, 1) * unit
    if height * width <= PIXELS_AT_ONCE:
        rows = height
    overlap = -(-network.reach_px // unit) * unit
    return [
        (slice(top, min(top + rows, height)), slice(max(top - overlap, 0), min(top + rows + overlap, height)))
        for top in range(0, height, rows)
    ]


def _as_tensor(images: list[NDArray[Any]], scale: int) -> Tensor:
    """Grey frames (1, n, 1, H, W) float32, ``scale`` as 1."""
    grey = np.stack([to_grey(image) for image in images]).astype(np.float32)
    grey /= np.float32(scale)
    return torch.from_numpy(grey)[None, :, None]
