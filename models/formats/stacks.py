"""A focal stack from whatever a user has: a folder, a TIFF, a video, or one of our own files."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import FocalStack, Frames, ZUnit
from models.formats.images import IMAGE_SUFFIXES, read_folder
from models.formats.tiff import TIFF_SUFFIXES, TiffScale, read_tiff
from models.formats.video import VIDEO_SUFFIXES, read_video
from models.language import _
from models.storage import SAMPLE_SUFFIXES, open_stack

STACK_SUFFIXES = (*SAMPLE_SUFFIXES, *TIFF_SUFFIXES, *VIDEO_SUFFIXES)


def read_stack(
    path: str | Path,
    *,
    step_um: float | None = None,
    z0_um: float | None = None,
    descending: bool = False,
    pixel_um: float | None = None,
) -> FocalStack:
    """The stack at ``path``: a folder of images, a (OME-, ImageJ-) TIFF, a video or an ``.h5`` of ours.

    The frames stay in their files. ``step_um`` is the distance between two frames, ``z0_um`` the height
    of the first frame, ``descending`` says that the following ones are lower; ``pixel_um`` the pixel size
    in the sample. What is given here replaces what the file says. Where nobody knows the step, heights
    count frames from 0 and ``z_unit`` is "frame". Raises InputError.
    """
    path = Path(path).absolute()
    for value, name in ((step_um, _("step")), (pixel_um, _("pixel size"))):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(
                _("The {name} must be a positive number of micrometres, not {value}.").format(name=name, value=value)
            )
    if z0_um is not None and not math.isfinite(z0_um):
        raise InputError(_("The height of the first frame must be a finite number, not {z}.").format(z=z0_um))
    if not path.exists():
        raise InputError(_("There is no file or folder {path}.").format(path=path))
    suffix = path.suffix.lower()
    if suffix in SAMPLE_SUFFIXES and not path.is_dir():
        stack = open_stack(path)
        if step_um is not None or z0_um is not None or descending:
            stored_step = stack.step_um if stack.z_unit == "um" else None
            z_um, unit = _heights(len(stack), step_um or stored_step, z0_um, descending)
            stack = replace(stack, z_um=z_um, z_unit=unit)
        return stack if pixel_um is None else replace(stack, pixel_um=pixel_um)
    frames, scale = _read_frames(path, suffix)
    z_um, unit = _heights(frames.shape[0], step_um or scale.step_um, z0_um, descending)
    return FocalStack(
        frames=frames,
        z_um=z_um,
        pixel_um=pixel_um if pixel_um is not None else scale.pixel_um,
        z_unit=unit,
        metadata={"source": str(path), "provenance": {"source": str(path)}},
    )


def _read_frames(path: Path, suffix: str) -> tuple[Frames, TiffScale]:
    if path.is_dir():
        return read_folder(path), TiffScale()
    if suffix in TIFF_SUFFIXES:
        return read_tiff(path)
    if suffix in VIDEO_SUFFIXES:
        return read_video(path), TiffScale()
    if suffix in IMAGE_SUFFIXES:
        raise InputError(
            _("{path} is a single image. Give the folder that holds all frames of the stack.").format(path=path)
        )
    raise InputError(
        _("{path}: '{suffix}' is no stack format. A stack is a folder of images or one of {suffixes}.").format(
            path=path, suffix=suffix, suffixes=" ".join(STACK_SUFFIXES)
        )
    )


def _heights(
    count: int, step_um: float | None, z0_um: float | None, descending: bool
) -> tuple[NDArray[np.float64], ZUnit]:
    if step_um is None and z0_um is not None:
        raise InputError(_("The height of the first frame means nothing without the step between the frames."))
    step = (1.0 if step_um is None else step_um) * (-1 if descending else 1)
    unit: ZUnit = "frame" if step_um is None else "um"
    return (z0_um or 0.0) + step * np.arange(count, dtype=np.float64), unit
