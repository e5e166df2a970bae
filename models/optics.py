"""What a microscope objective makes of a relief: defocus, diffraction, light lost on slopes and behind walls.

The image of an incoherently lit relief is the sum of the images of its points. :class:`FocusRenderer`
cuts the relief into thin height slabs, transforms each slab once, and for a focus height ``z_um`` adds the
slabs under the optical transfer function of their own distance from focus. So the light of an out-of-focus
land spills into a cell as it does in a real microscope; nothing is blurred "per pixel".

Modelled: the exact defocused transfer function of a diffraction-limited circular pupil, the width of the
spectrum, integration over the camera pixel, specular and rough reflection into a finite aperture, shading
by steep walls, uneven illumination, veiling stray light, focus breathing, lateral shift. Not modelled:
aberrations, coherent fringes at edges (the illumination is taken as incoherent), polarisation, light that
is reflected twice, and the changed *shape* of the blur where a wall covers a part of the aperture (the light
that is lost there is modelled).
"""

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.focal_stack import Optics
from models.surfaces import Surface

FloatImage = NDArray[np.float32]

FREQUENCY_BINS = 1024
LAST_FREQUENCY = 2.5
"""Of the transfer table, in NA / lambda: the cut-off of the shortest wavelength, with room."""
MOST_WAVES = 500.0
"""The largest defocus of the transfer table; nothing larger makes a visible difference."""
LAST_TURNS = 4.0
"""Frequency times waves of defocus up to which the transfer is computed."""
NEGLIGIBLE_TRANSFER = 0.01
"""Frequencies beyond the last one that a slab passes with this contrast are left out: 0.001 of the image at most."""


def half_aperture_rad(optics: Optics) -> float:
    """Half angle of the cone of light that the objective accepts."""
    return math.asin(min(optics.na / optics.refractive_index, 1.0))


def blur_radius_um(defocus_um: float, optics: Optics) -> float:
    """Radius in the sample of the geometric blur circle: thin lens, ``|defocus| tan(alpha)``."""
    return abs(defocus_um) * math.tan(half_aperture_rad(optics))


def defocus_transfer(
    frequency_per_um: NDArray[np.float64], defocus_um: NDArray[np.float64], optics: Optics, bandwidth: float = 0.1
) -> FloatImage:
    """Contrast (D, F) float32 that the objective passes at each frequency (F,) for each defocus (D,).

    The overlap integral of two defocused circular pupils, averaged over the spectrum (``bandwidth``: its
    standard deviation relative to the wavelength). In focus it is the diffraction limit with cut-off
    2 NA / lambda; far from focus it tends to the transfer function of the geometric blur circle.
    H. H. Hopkins, The frequency response of a defocused optical system, Proc. R. Soc. A 231 (1955) 91.
    """
    path_um = optics.refractive_index * np.abs(defocus_um) * (1.0 - math.cos(half_aperture_rad(optics)))
    relative = frequency_per_um * optics.wavelength_um / optics.na
    return _overlap_of_pupils(relative, path_um / optics.wavelength_um, bandwidth)


def _overlap_of_pupils(
    frequency: NDArray[np.float64], waves: NDArray[np.float64], bandwidth: float = 0.1
) -> FloatImage:
    """:func:`defocus_transfer` without units: frequency in NA / lambda, defocus as waves of path at the rim."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    nodes, weights = (nodes + 1.0) / 2.0, weights / 2.0
    transfer = np.zeros((len(waves), len(frequency)))
    for offset, share in ((-math.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (math.sqrt(3.0), 1 / 6)):  # Gauss-Hermite
        wavelength = 1.0 + bandwidth * offset  # relative to the mean
        s = np.clip(frequency * wavelength, 0.0, 2.0)
        # x = (1 - s/2)(1 - (1 - t)^2): the substitution removes the square-root end point of the integrand
        reach = 1.0 - s[:, None] / 2.0
        x = reach * (1.0 - (1.0 - nodes) ** 2)
        height = np.sqrt(np.maximum(1.0 - (x + s[:, None] / 2.0) ** 2, 0.0))
        area = 4.0 / np.pi * height * reach * 2.0 * (1.0 - nodes) * weights
        for row, wave in enumerate(waves / wavelength):
            # Beyond, the contrast stays below 0.005 and the phase turns too fast for the nodes.
            counts = s * wave * reach[:, 0] <= LAST_TURNS
            phase = 4.0 * np.pi * wave * s[counts, None] * x[counts]
            transfer[row, counts] += share * np.einsum("fx,fx->f", area[counts], np.cos(phase))
    return transfer.astype(np.float32)


def light_from_slope(slope: FloatImage, optics: Optics, *, roughness_slope: float, diffuse: float) -> FloatImage:
    """Share of the light that comes back into the aperture from a surface of this slope (dz/dx), 1 where level.

    A facet tilted by beta turns the reflected cone by 2 beta: what returns is the overlap of two circular
    pupils shifted by sin(2 beta). Facets are distributed around the mean surface with the Gaussian rms
    ``roughness_slope`` (Torrance and Sparrow, J. Opt. Soc. Am. 57 (1967) 1105); a share ``diffuse`` is
    scattered evenly and falls with the cosine.
    """
    table_slope = np.linspace(0.0, max(float(slope.max()), 0.1), 256)
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    weights = weights / weights.sum()
    along, across = np.meshgrid(nodes * roughness_slope, nodes * roughness_slope)
    facet = np.hypot(table_slope[:, None, None] + along, across)
    shift = np.minimum(np.sin(2.0 * np.arctan(facet)) / (2.0 * optics.na / optics.refractive_index), 1.0)
    shift[facet > 1.0] = 1.0  # beyond 45 degrees the light is thrown downwards
    overlap = 2.0 / np.pi * (np.arccos(shift) - shift * np.sqrt(1.0 - shift**2))
    specular = np.einsum("sij,i,j->s", overlap, weights, weights)
    cosine = 1.0 / np.hypot(1.0, table_slope)
    table = (1.0 - diffuse) * specular / specular[0] + diffuse * cosine
    return np.asarray(np.interp(slope, table_slope, table), dtype=np.float32)


def open_aperture(
    height_um: FloatImage, pixel_um: float, optics: Optics, azimuths: int = 12, *, coarse: bool = False
) -> FloatImage:
    """Share of the aperture (H, W), 0..1, that no higher part of the relief hides from each point.

    For each azimuth the steepest line of sight to the relief bounds the cone; the aperture is counted in
    the plane of the pupil, where an aplanatic objective spreads light evenly over sin(theta). ``coarse``
    looks less often the farther away it looks: many times faster, but blind to thin walls far off.
    """
    tan_alpha = math.tan(half_aperture_rad(optics))
    reach = math.ceil(float(np.ptp(height_um)) * tan_alpha / pixel_um)
    reach = min(reach, min(height_um.shape) // 2)
    sin_alpha = math.sin(half_aperture_rad(optics))
    distances = list(range(1, reach + 1))
    if coarse:
        distances = sorted({round(1.3**power) for power in range(20) if 1.3**power <= reach})
    shares = np.zeros_like(height_um)
    for azimuth in np.arange(azimuths) * (2.0 * np.pi / azimuths):
        horizon = np.zeros_like(height_um)  # slope of the line of sight, dz/dr
        for distance in distances:
            move = np.array([[1, 0, distance * np.cos(azimuth)], [0, 1, distance * np.sin(azimuth)]])
            seen = cv2.warpAffine(
                height_um, move, height_um.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            np.maximum(horizon, (seen - height_um) / (distance * pixel_um), out=horizon)
        # the sine of the polar angle at which sight is blocked, squared, against that of the rim of the pupil
        shares += np.minimum(1.0 / (1.0 + horizon**2) / sin_alpha**2, 1.0)
    return np.asarray(shares / azimuths, dtype=np.float32)


def slope_of(height_um: FloatImage, pixel_um: float) -> FloatImage:
    """Magnitude of the gradient (H, W), dimensionless."""
    rows, columns = np.gradient(height_um, np.float32(pixel_um))
    return np.asarray(np.hypot(rows, columns), dtype=np.float32)


def depth_of_focus_um(optics: Optics) -> float:
    """The diffraction term of the depth of field, lambda n / NA^2."""
    return optics.wavelength_um * optics.refractive_index / optics.na**2


@dataclass(frozen=True)
class TransferTable:
    """:func:`defocus_transfer` of any objective, looked up: ``transfer`` (D, F) at ``waves`` (D,) of defocus.

    ``last_bin`` (D,): the last frequency that still counts. Without units, so one table serves all optics;
    ``bins_per_frequency(optics)`` and ``waves_per_um(optics)`` lead from um to its rows and columns.
    """

    waves: NDArray[np.float64]
    transfer: FloatImage
    last_bin: NDArray[np.int64]

    @staticmethod
    def bins_per_frequency(optics: Optics) -> float:
        """Columns per (1/um)."""
        return (FREQUENCY_BINS - 1) / LAST_FREQUENCY * optics.wavelength_um / optics.na

    @staticmethod
    def waves_per_um(optics: Optics) -> float:
        """Path at the rim of the pupil, in wavelengths, per um of defocus."""
        return optics.refractive_index * (1.0 - math.cos(half_aperture_rad(optics))) / optics.wavelength_um

    def at(self, waves: float) -> tuple[FloatImage, int]:
        """Transfer over the frequency bins, interpolated, and the last bin that counts."""
        upper = min(int(np.searchsorted(self.waves, waves)), len(self.waves) - 1)
        lower = max(upper - 1, 0)
        gap = self.waves[upper] - self.waves[lower]
        t = np.float32(min((waves - self.waves[lower]) / gap, 1.0) if gap else 0.0)
        profile = (1 - t) * self.transfer[lower] + t * self.transfer[upper]
        return profile, int(max(self.last_bin[lower], self.last_bin[upper]))


@functools.lru_cache(maxsize=1)
def transfer_table() -> TransferTable:
    """Fine steps up to half a wave of defocus, 3 % apart further out, where the curve only changes its scale."""
    far_count = math.ceil(math.log(MOST_WAVES / 0.5) / math.log(1.03))
    waves = np.concatenate([np.linspace(0.0, 0.5, 25), 0.5 * 1.03 ** np.arange(1, far_count + 1)])
    transfer = _overlap_of_pupils(np.linspace(0.0, LAST_FREQUENCY, FREQUENCY_BINS), waves)
    counts = np.abs(transfer) >= NEGLIGIBLE_TRANSFER
    return TransferTable(waves, transfer, FREQUENCY_BINS - 1 - np.argmax(counts[:, ::-1], axis=1))


@dataclass(frozen=True)
class Illumination:
    """Uneven light on the sensor: ``vignetting`` is lost in the corners, ``tilt`` from one side to the other.

    ``stray``: light reflected inside the objective that veils the whole image, as a share of its mean. It is
    why the walls of an engraving are dark grey and not black.
    """

    vignetting: float = 0.12
    tilt: float = 0.06
    stray: float = 0.08

    def field(self, shape: tuple[int, int]) -> FloatImage:
        """Relative brightness (H, W), 1 in the centre."""
        y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
        return (1.0 - self.vignetting * (x**2 + y**2) / 2.0 + self.tilt * (x + 0.5 * y) / 3.0).astype(np.float32)


class FocusRenderer:
    """Images of a surface at any focus height, before the camera.

    ``roughness_slope`` and ``diffuse``: see :func:`light_from_slope`. ``breathing_per_um``: relative change
    of magnification per um of focus. Preparation costs one transform per slab (a slab is a third of the
    depth of field); memory is about 4 bytes x pixels x slabs. One renderer serves one thread.

    Source of the superposition: Goodman, Introduction to Fourier Optics, ch. 6 (incoherent imaging).
    """

    def __init__(
        self,
        surface: Surface,
        optics: Optics,
        *,
        illumination: Illumination | None = None,
        roughness_slope: float = 0.2,
        diffuse: float = 0.12,
        breathing_per_um: float = 0.0,
    ) -> None:
        self.surface = surface
        self.optics = optics
        self.breathing_per_um = breathing_per_um
        self.shape = (int(surface.height_um.shape[0]), int(surface.height_um.shape[1]))
        self._illumination = illumination or Illumination()
        self._field = self._illumination.field(self.shape)
        self._middle_um = float(np.median(surface.height_um))
        self._transfer = transfer_table()
        self._waves_per_um = TransferTable.waves_per_um(optics)
        self._bins_per_frequency = TransferTable.bins_per_frequency(optics)
        self._slab_um = depth_of_focus_um(optics) / 3.0
        self._prepare_slabs(roughness_slope, diffuse)

    def _prepare_slabs(self, roughness_slope: float, diffuse: float) -> None:
        import scipy.fft  # a fifth of a second, which only those who simulate should wait

        surface, pixel_um = self.surface, self.surface.pixel_um
        margin = [min(48, n - 1) for n in self.shape]
        # even and a product of small primes: alternating signs need the first, a fast transform the second
        padded = [
            2 * scipy.fft.next_fast_len((n + 1) // 2 + m, real=True) for n, m in zip(self.shape, margin, strict=True)
        ]
        edges = tuple((m, p - n - m) for n, m, p in zip(self.shape, margin, padded, strict=True))
        height = np.pad(surface.height_um, edges, mode="symmetric")
        slope = slope_of(height, pixel_um)
        light = np.pad(surface.reflectance, edges, mode="symmetric")
        light = light * light_from_slope(slope, self.optics, roughness_slope=roughness_slope, diffuse=diffuse)
        if slope.max() > 1.0 / math.tan(half_aperture_rad(self.optics)):
            light = light * open_aperture(height, pixel_um, self.optics) ** 2  # on the way in and on the way out

        # A sign that alternates from row to row moves frequency 0 to the middle row: blocks become slices.
        self._sign = np.where(np.arange(padded[0]) % 2, -1.0, 1.0).astype(np.float32)[:, None]
        fy = np.fft.fftshift(np.fft.fftfreq(padded[0], pixel_um))
        fx = np.fft.rfftfreq(padded[1], pixel_um)
        self._bin = np.minimum(np.hypot(fy[:, None], fx) * self._bins_per_frequency + 0.5, FREQUENCY_BINS - 1).astype(
            np.intp
        )
        pixel_aperture = (np.sinc(fy * pixel_um)[:, None] * np.sinc(fx * pixel_um)).astype(np.float32)
        self._bin_step = (1.0 / (padded[0] * pixel_um), 1.0 / (padded[1] * pixel_um))
        self._crop = (slice(margin[0], margin[0] + self.shape[0]), slice(margin[1], margin[1] + self.shape[1]))

        lowest = float(height.min())
        slab = (height - lowest) / np.float32(self._slab_um)
        first = np.floor(slab)
        self._slab_height_um: list[float] = []
        self._spectra: list[NDArray[np.complex64]] = []
        for number in range(int(first.max()) + 2):
            share = np.maximum(1.0 - np.abs(slab - number), 0.0, dtype=np.float32)
            if share.any():
                spectrum = scipy.fft.rfft2(light * share * self._sign)
                self._spectra.append(spectrum * pixel_aperture)
                self._slab_height_um.append(lowest + number * self._slab_um)

    def render(self, z_um: float, *, shift_px: tuple[float, float] = (0.0, 0.0)) -> FloatImage:
        """Irradiance (H, W) float32 with ``z_um`` in focus; 1 is a level mirror of reflectance 1 in mid field.

        ``shift_px``: the sample moved by (rows, columns).
        """
        import scipy.fft

        total = np.zeros_like(self._spectra[0])
        middle = total.shape[0] // 2
        for height_um, spectrum in zip(self._slab_height_um, self._spectra, strict=True):
            transfer, last_bin = self._transfer.at(abs(z_um - height_um) * self._waves_per_um)
            radius = (last_bin + 1) / self._bins_per_frequency
            rows = min(int(radius / self._bin_step[0]) + 1, middle)
            block = np.s_[middle - rows : middle + rows, : int(radius / self._bin_step[1]) + 2]
            total[block] += spectrum[block] * np.take(transfer, self._bin[block], mode="clip")
        image = scipy.fft.irfft2(total, s=(total.shape[0], 2 * (total.shape[1] - 1))) * self._sign
        scale = 1.0 + self.breathing_per_um * (z_um - self._middle_um)
        if scale != 1.0 or shift_px != (0.0, 0.0):
            image = self._move(image, scale, shift_px)
        image = np.maximum(image[self._crop], 0.0) * self._field
        return np.asarray(image + np.float32(self._illumination.stray) * image.mean(), dtype=np.float32)

    def _move(self, image: FloatImage, scale: float, shift_px: tuple[float, float]) -> FloatImage:
        row = self._crop[0].start + (self.shape[0] - 1) / 2.0
        column = self._crop[1].start + (self.shape[1] - 1) / 2.0
        matrix = np.array(
            [
                [scale, 0.0, column * (1.0 - scale) + shift_px[1]],
                [0.0, scale, row * (1.0 - scale) + shift_px[0]],
            ]
        )
        moved = cv2.warpAffine(
            image, matrix, image.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(moved, dtype=np.float32)
