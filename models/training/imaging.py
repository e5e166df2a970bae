"""Images of a scene at any focus, fast enough to train from: thin slabs near focus, thick ones far from it.

A scene is a pile of :class:`Sheet`: a relief that is closed everywhere, and before it what floats or stands
out (fibres, dust, components), each with its own cover. Light within one sheet adds up, as in
:class:`models.optics.FocusRenderer`; a sheet hides those below it through its *blurred* cover, which is what
a wide aperture sees around an edge (Barsky and Kosloff, Algorithms for rendering depth of field effects,
2008). No pixel is blurred on its own.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from models.focal_stack import Optics
from models.optics import FREQUENCY_BINS, TransferTable, transfer_table

FloatImage = NDArray[np.float32]
Spectrum = NDArray[np.complex64]

MOST_SLABS = 128
"""More are merged: memory and time are bounded, whatever the depth of field is against the relief."""
THICKNESS_AT_DEFOCUS = 0.1
"""A slab may be this thick in shares of its distance from focus: its blur then differs by as much across it."""
_LAST_PER_PX = 0.5 * 2.0**0.5


@dataclass(frozen=True)
class Sheet:
    """``height_um`` and ``light`` (H, W) float32: the light it sends into the aperture; ``cover`` 0..1, None: all."""

    height_um: FloatImage
    light: FloatImage
    cover: FloatImage | None = None


class Blur(Protocol):
    """What defocus does to spatial frequencies. ``slab_um``: the defocus that makes no visible difference."""

    slab_um: float

    def at(self, defocus_um: float) -> tuple[FloatImage, float]:
        """Transfer at frequencies from 0 in steps of ``step_per_px``, and the last one that counts, per pixel."""

    @property
    def step_per_px(self) -> float: ...


class PupilBlur:
    """Diffraction and defocus of a microscope objective (:func:`models.optics.transfer_table`).

    ``lopsided``: the relative difference of the blur above and below focus that spherical aberration makes.
    """

    def __init__(self, optics: Optics, pixel_um: float, lopsided: float = 0.0) -> None:
        self._table = transfer_table()
        self._waves_per_um = TransferTable.waves_per_um(optics)
        self._lopsided = lopsided
        self.step_per_px = pixel_um / TransferTable.bins_per_frequency(optics)
        self.slab_um = 0.15 / self._waves_per_um

    def at(self, defocus_um: float) -> tuple[FloatImage, float]:
        share = 1.0 + self._lopsided if defocus_um > 0 else 1.0 - self._lopsided
        transfer, last_bin = self._table.at(abs(defocus_um) * self._waves_per_um * share)
        return transfer, last_bin * self.step_per_px


class SpreadBlur:
    """A thin lens far from its diffraction limit: a Gaussian or a disc that grows with the defocus.

    ``px_per_um``: standard deviation of the Gaussian, or half the radius of the disc (the same deviation along
    a line), per um of defocus; ``least_px`` is left in focus and adds up in squares.
    """

    step_per_px = _LAST_PER_PX / (FREQUENCY_BINS - 1)

    def __init__(self, px_per_um: float, least_px: float, *, disc: bool, lopsided: float = 0.0) -> None:
        self._px_per_um, self._least_px, self._disc, self._lopsided = px_per_um, least_px, disc, lopsided
        self._frequency = (np.arange(FREQUENCY_BINS) * self.step_per_px).astype(np.float32)
        self.slab_um = 0.35 / px_per_um

    def at(self, defocus_um: float) -> tuple[FloatImage, float]:
        share = 1.0 + self._lopsided if defocus_um > 0 else 1.0 - self._lopsided
        spread_px = abs(defocus_um) * self._px_per_um * share
        turns = np.float32(2.0 * np.pi) * self._frequency
        transfer = np.exp(-0.5 * (turns * np.float32(self._least_px)) ** 2)
        if not self._disc:
            transfer *= np.exp(-0.5 * (turns * np.float32(spread_px)) ** 2)
            return transfer, min(0.5 / max(spread_px, 0.1), _LAST_PER_PX)
        from scipy.special import j1

        x = np.maximum(turns * np.float32(2.0 * spread_px), np.float32(1e-4))
        transfer *= 2.0 * j1(x) / x
        return transfer, min(2.5 / max(spread_px, 0.1), _LAST_PER_PX)


@dataclass(frozen=True)
class _Slab:
    spectrum: Spectrum
    height_um: float
    thick_um: float
    weight: float
    parts: tuple["_Slab", ...] = ()


class StackRenderer:
    """Irradiance of ``sheets`` (lowest first) at any focus height.

    The picture repeats at its edges, so sheets must be larger than what is shown. ``glow``: (share, radius in
    pixels) of the light that inter-reflection and scatter spread widely. One renderer serves one thread.
    """

    def __init__(self, sheets: list[Sheet], blur: Blur, glow: tuple[float, float] = (0.0, 20.0)) -> None:
        self._blur = blur
        self.shape = (int(sheets[0].light.shape[0]), int(sheets[0].light.shape[1]))
        rows, columns = self.shape
        # A sign that alternates from row to row moves frequency 0 to the middle row: blocks become slices.
        self._sign = np.where(np.arange(rows) % 2, -1.0, 1.0).astype(np.float32)[:, None]
        fy = np.fft.fftshift(np.fft.fftfreq(rows)).astype(np.float32)[:, None]
        fx = np.fft.rfftfreq(columns).astype(np.float32)
        frequency = np.hypot(fy, fx)
        self._bin = np.minimum(frequency / np.float32(blur.step_per_px) + 0.5, FREQUENCY_BINS - 1).astype(np.intp)
        share, radius_px = glow
        spread = np.exp(-0.5 * (2.0 * np.pi * radius_px * frequency) ** 2)
        self._finish = (np.sinc(fy) * np.sinc(fx) * ((1.0 - share) + share * spread)).astype(np.float32)
        self._sheets = [(self._slabs(s, s.light if s.cover is None else s.light * s.cover), s) for s in sheets]
        self._covers = [None if s.cover is None else self._slabs(s, s.cover) for s in sheets]

    def render(self, z_um: float) -> FloatImage:
        """The whole canvas (H, W) float32 with ``z_um`` in focus."""
        image = np.zeros(self.shape, dtype=np.float32)
        for (slabs, _sheet), cover in zip(self._sheets, self._covers, strict=True):
            if cover is not None:
                image *= 1.0 - np.clip(self._image(cover, z_um), 0.0, 1.0)
            image += self._image(slabs, z_um)
        return np.maximum(image, 0.0, out=image)

    def _slabs(self, sheet: Sheet, light: FloatImage) -> _Slab:
        """The sheet cut into slabs, and these merged two by two up to a single one."""
        lowest = float(sheet.height_um.min())
        slab_um = max(self._blur.slab_um, float(np.ptp(sheet.height_um)) / MOST_SLABS)
        position = (sheet.height_um - np.float32(lowest)) / np.float32(slab_um)
        level: list[_Slab | None] = []
        for number in range(int(position.max()) + 2):
            # linear interpolation between the two nearest slabs
            part = light * np.maximum(1.0 - np.abs(position - np.float32(number)), 0.0)
            weight = float(part.sum())
            slab = None
            if weight > 0.0:
                spectrum = scipy.fft.rfft2(part * self._sign)
                slab = _Slab(spectrum, lowest + number * slab_um, slab_um, weight)
            level.append(slab)
        while len(level) > 1:
            level.extend([None] * (len(level) % 2))
            level = [_merged(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
        if level[0] is None:  # a sheet without light
            return _Slab(np.zeros((1, 1), dtype=np.complex64), lowest, slab_um, 0.0)
        return level[0]

    def _image(self, slabs: _Slab, z_um: float) -> FloatImage:
        if slabs.weight == 0.0:
            return np.zeros(self.shape, dtype=np.float32)
        total = np.zeros_like(slabs.spectrum)
        middle = total.shape[0] // 2
        waiting = [slabs]
        while waiting:
            slab = waiting.pop()
            defocus_um = z_um - slab.height_um
            if slab.parts and slab.thick_um > THICKNESS_AT_DEFOCUS * (abs(defocus_um) - slab.thick_um / 2.0):
                waiting.extend(slab.parts)
                continue
            transfer, last_per_px = self._blur.at(defocus_um)
            rows = min(int(last_per_px * self.shape[0]) + 2, middle)
            block = np.s_[middle - rows : middle + rows, : int(last_per_px * self.shape[1]) + 3]
            total[block] += slab.spectrum[block] * np.take(transfer, self._bin[block], mode="clip")
        total *= self._finish
        return np.asarray(scipy.fft.irfft2(total, s=self.shape) * self._sign, dtype=np.float32)


def _merged(first: _Slab | None, second: _Slab | None) -> _Slab | None:
    if first is None or second is None:
        return first or second
    weight = first.weight + second.weight
    height_um = (first.weight * first.height_um + second.weight * second.height_um) / weight
    thick_um = abs(second.height_um - first.height_um) + (first.thick_um + second.thick_um) / 2.0
    return _Slab(first.spectrum + second.spectrum, height_um, thick_um, weight, (first, second))
