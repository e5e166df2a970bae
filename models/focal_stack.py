"""A focal stack: images of one place, each with the height of the plane that was in focus."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.language import _

ZUnit = Literal["um", "frame"]
"""``frame``: the step between the frames is unknown, so heights count frames and are no measurement."""

MOST_FRAMES = 65_535
"""The number of a pixel's best frame is kept in 16 bits."""


class Frames(Protocol):
    """What holds the images: an array, an HDF5 data set or files read one by one on demand.

    ``shape`` is (N, H, W) or (N, H, W, 3) in RGB order; ``dtype`` is uint8 or uint16.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, index: int, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Optics:
    """The objective and the light: what decides how thick the plane in focus is."""

    magnification: float
    na: float
    wavelength_um: float = 0.55
    refractive_index: float = 1.0

    def depth_of_field_um(self, pixel_um: float) -> float:
        """Total depth of field: diffraction term plus detector term, lambda n / NA^2 + n e / (M NA).

        ``pixel_um`` is the pixel size in the sample, e / M. Formula: Inoue and Spring, Video
        Microscopy (1997), as given by the objective manufacturers.
        """
        n = self.refractive_index
        return n * self.wavelength_um / self.na**2 + n * pixel_um / self.na


@dataclass(frozen=True)
class FocalStack:
    """Frames (N, H, W[, 3]) with the height ``z_um`` (N,) of the plane in focus in each of them.

    Heights are in the sample's frame, larger means closer to the objective, and run strictly up or
    strictly down; nobody may assume which. ``pixel_um`` is None where the lateral scale is unknown.
    ``metadata`` holds what is known of the origin (source, device, times) as plain JSON values.

    Raises InputError where frames and heights do not fit together.
    """

    frames: Frames
    z_um: NDArray[np.float64]
    pixel_um: float | None = None
    optics: Optics | None = None
    z_unit: ZUnit = "um"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
            raise InputError(
                _("The stack has shape {shape}; frames must be grey (N, H, W) or RGB (N, H, W, 3).").format(shape=shape)
            )
        if self.frames.dtype not in (np.uint8, np.uint16):
            raise InputError(
                _("The stack holds {dtype} values; 8- or 16-bit unsigned images are needed.").format(
                    dtype=self.frames.dtype
                )
            )
        if 0 in shape[1:]:
            raise InputError(_("The frames of the stack have no pixels."))
        if shape[0] > MOST_FRAMES:
            raise InputError(
                _("The stack has {n} frames; at most {most} can be used.").format(n=shape[0], most=MOST_FRAMES)
            )
        if shape[0] < 2:
            raise InputError(_("The stack has {n} frame; at least 2 are needed to find a focus.").format(n=shape[0]))
        z_um = np.asarray(self.z_um, dtype=np.float64)
        object.__setattr__(self, "z_um", z_um)
        if z_um.shape != (shape[0],):
            raise InputError(_("The stack has {n} frames but {m} heights.").format(n=shape[0], m=z_um.size))
        if not np.isfinite(z_um).all():
            raise InputError(_("The heights of the frames must be finite numbers."))
        steps = np.diff(z_um)
        if not ((steps > 0).all() or (steps < 0).all()):
            raise InputError(_("The heights of the frames must run strictly upwards or strictly downwards."))
        if self.pixel_um is not None and not (np.isfinite(self.pixel_um) and self.pixel_um > 0):
            raise InputError(_("The pixel size must be a positive number of micrometres."))

    def __len__(self) -> int:
        return int(self.frames.shape[0])

    def __iter__(self) -> Iterator[tuple[NDArray[Any], float]]:
        """The frames with their heights, in the order of capture."""
        for index in range(len(self)):
            yield self.frames[index], float(self.z_um[index])

    @property
    def image_shape(self) -> tuple[int, int]:
        """(rows, columns) of every frame."""
        return int(self.frames.shape[1]), int(self.frames.shape[2])

    @property
    def step_um(self) -> float:
        """Median distance between neighbouring frames, always positive."""
        return float(np.median(np.abs(np.diff(self.z_um))))
