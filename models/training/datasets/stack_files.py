"""HDF5 files of focal stacks with disparities: DDFF 12-Scene and 4D Light Field.

Both hold, for each part of the set (``train``, ``val``, ``test``), ``stack_<part>`` (M, N, H, W, 3) of values
0..255 and ``disp_<part>`` (M, H, W): the disparity in pixels, larger = nearer. So ``z_um`` and heights are
disparities, in the order that rises.

- **DDFF 12-Scene**: Hazirbas et al., Deep Depth From Focus, ACCV 2018; keys, values 0..255 and the range of
  disparities 0.0202..0.2825: readme and reader of github.com/soyers/ddff-pytorch (its readme says
  ``stacks_train``, its reader ``stack_train``; both are taken). The ten frames are focused from 0.5 m to 7 m,
  equally spaced in disparity (github.com/albert100121/AiFDepthNet, test.py, with the calibration of the
  camera: 521.4052 px focal length, 0.27088 mm baseline); distance in m = 0.14124 / disparity. 0 is unknown.
  The stacks of the test file come without disparities.
- **4D Light Field**: Honauer et al., ACCV 2016, refocused by the generator of AiFDepthNet
  (data/4D-Light-Field_Gen/FS_gen.py): beside the above ``focus_position_disp`` (1, N), -2.5..2.5 by default,
  ``AiF_<part>`` and ``name_<part>`` (M, 1). Stored as float32; rows that were never filled have no name.

A pack of one's own with the same keys is read, too; 0 is then unknown where all focus positions are positive.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import FocalStack
from models.language import N_, _
from models.training.datasets.data_set import Entry, known_scene
from models.training.scene import Scene

SUFFIXES = (".h5", ".hdf5", ".h5py")
EXPECTED = {
    "ddff": N_("an HDF5 file with stack_train (M, N, H, W, 3) and disp_train (M, H, W), or _val, _test"),
    "light-field": N_("an HDF5 file with stack_train, disp_train and focus_position_disp (1, N), or _val"),
}
_KINDS = {"ddff": "DDFF-12", "light-field": "4D Light Field"}

_DDFF_METRE_PX = 521.4052 * 1982.0250823695178 / 7317.020641763665 * 1e-3
"""Distance in metres times disparity in pixels: focal length in pixels times baseline in metres."""
_DDFF_FOCUS_M = (0.5, 7.0)
_DDFF_MOST_PX = 1.0
"""Far above any disparity of the set (0.2825 px); what is larger is another set or another unit."""

# What HDF5 raises for content that is missing or makes no sense.
_DAMAGE: tuple[type[Exception], ...] = (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError)


def detect(path: Path) -> str | None:
    """The layout of the file ``path``, None where it is none of these. Raises InputError where it is damaged."""
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        return None
    keys = _keys(path)
    if not any(key.startswith(("stack_", "stacks_")) for key in keys):
        return None
    return "light-field" if "focus_position_disp" in keys else "ddff"


def entries(path: Path, layout: str) -> list[Entry]:
    """Every scene of the file. Raises InputError where keys are missing or shapes do not fit together."""
    keys = _keys(path)
    if layout == "light-field" and "focus_position_disp" not in keys:
        raise _missing(path, "focus_position_disp", keys)
    found: list[Entry] = []
    for part in ("train", "val", "test"):
        stack_key = next((key for key in (f"stack_{part}", f"stacks_{part}") if key in keys), None)
        if stack_key is None:
            continue
        truth_key = f"disp_{part}" if f"disp_{part}" in keys else None
        if truth_key is None and part != "test":
            raise _missing(path, f"disp_{part}", keys)
        _check_shapes(path, keys, stack_key, truth_key)
        for row, name in enumerate(_names(path, keys, part, keys[stack_key][0])):
            if name:
                read = functools.partial(_read_scene, path, layout, stack_key, truth_key, row, f"{part}/{name}")
                found.append(Entry(f"{part}/{name}", part, read))
    if not found:
        raise _missing(path, "stack_train", keys)
    return found


def _read_scene(path: Path, layout: str, stack_key: str, truth_key: str | None, row: int, name: str) -> Scene:
    try:
        with h5py.File(path, "r") as file:
            frames = file[stack_key][row]
            disparity = None if truth_key is None else np.asarray(file[truth_key][row], np.float32)
            positions = np.ravel(file["focus_position_disp"][0]) if layout == "light-field" else None
    except _DAMAGE as error:
        raise InputError(
            _("Cannot read scene {name} of {path}: {reason}.").format(name=name, path=path, reason=error)
        ) from error
    frames = _as_images(frames, path, name)
    z_px = _ddff_positions_px(len(frames)) if positions is None else positions.astype(np.float64)
    if z_px.shape != (len(frames),) or not np.isfinite(z_px).all() or len(np.unique(z_px)) != len(z_px):
        raise InputError(
            _("{path}: focus_position_disp must hold {n} different focus positions.").format(path=path, n=len(frames))
        )
    truth = _truth(disparity, frames.shape[1:3], z_px, path)
    if positions is None and np.nanmax(truth, initial=0.0) > _DDFF_MOST_PX:
        raise InputError(
            _(
                "{path} has disparities up to {most:.3g} px, DDFF 12-Scene has none above 0.29. "
                "A file of another set needs its focus positions as focus_position_disp (1, N)."
            ).format(path=path, most=float(np.nanmax(truth)))
        )
    order = np.argsort(z_px)
    stack = FocalStack(
        np.ascontiguousarray(frames[order]),
        z_px[order],
        z_unit="frame",
        metadata={"source": str(path), "scene": name, "unit": "disparity in pixels"},
    )
    return known_scene(name, _KINDS[layout], stack, truth, path)


def _ddff_positions_px(count: int) -> NDArray[np.float64]:
    near_m, far_m = _DDFF_FOCUS_M
    return np.linspace(_DDFF_METRE_PX / near_m, _DDFF_METRE_PX / far_m, count)


def _truth(
    disparity: NDArray[np.float32] | None, shape: tuple[int, ...], z_px: NDArray[np.float64], path: Path
) -> NDArray[np.float32]:
    """The disparity with NaN where unknown: not finite, or 0 where nothing was focused at or behind 0."""
    if disparity is None:
        return np.full(shape, np.nan, np.float32)
    truth = disparity.reshape(disparity.shape[-2:])
    unknown = ~np.isfinite(truth)
    if z_px.min() > 0:
        unknown |= truth <= 0
    return np.where(unknown, np.float32(np.nan), truth)


def _as_images(frames: NDArray[Any], path: Path, name: str) -> NDArray[Any]:
    """(N, H, W[, 3]) uint8 or uint16; whole numbers that were stored as floats are taken back."""
    if frames.shape[-1] == 1 and frames.ndim == 4:
        frames = frames[..., 0]
    if frames.dtype in (np.uint8, np.uint16):
        return frames
    values = frames.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(
            _("Scene {name} of {path} is damaged: its frames hold values that are no numbers.").format(
                name=name, path=path
            )
        )
    if values.min() < -0.5 or values.max() >= 255.5:
        raise InputError(
            _("Scene {name} of {path}: frames go from {least:.4g} to {most:.4g}; 0 to 255 is expected.").format(
                name=name, path=path, least=float(values.min()), most=float(values.max())
            )
        )
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _keys(path: Path) -> dict[str, tuple[int, ...]]:
    """The data sets at the top of the file with their shapes."""
    try:
        with h5py.File(path, "r") as file:
            return {key: value.shape for key, value in file.items() if isinstance(value, h5py.Dataset)}
    except FileNotFoundError:
        raise InputError(_("There is no file {path}.").format(path=path)) from None
    except _DAMAGE as error:
        raise InputError(_("Cannot read {path}: it is not an HDF5 file or it is damaged.").format(path=path)) from error


def _check_shapes(path: Path, keys: Mapping[str, tuple[int, ...]], stack_key: str, truth_key: str | None) -> None:
    stack = keys[stack_key]
    fits = len(stack) in (4, 5) and stack[1] >= 2 and 0 not in stack and (len(stack) == 4 or stack[4] in (1, 3))
    if not fits:
        raise InputError(
            _("{path}: {key} has shape {shape}; (M, N, H, W, 3) with at least 2 frames is expected.").format(
                path=path, key=stack_key, shape=stack
            )
        )
    if truth_key is None:
        return
    truth = keys[truth_key]
    one_each = len(truth) == 3 or (len(truth) == 4 and truth[1] == 1)
    if not one_each or truth[0] != stack[0] or truth[-2:] != stack[2:4]:
        raise InputError(
            _("{path}: {key} has shape {shape}; {expected} is expected, to fit {stack_key}.").format(
                path=path, key=truth_key, shape=truth, expected=(stack[0], *stack[2:4]), stack_key=stack_key
            )
        )


def _names(path: Path, keys: Mapping[str, tuple[int, ...]], part: str, count: int) -> list[str]:
    """One name per row: the number where the file has no names, empty where it has and this row was not filled."""
    key = f"name_{part}"
    if key not in keys or keys[key][:1] != (count,):
        return [f"{row:04d}" for row in range(count)]
    try:
        with h5py.File(path, "r") as file:
            stored = np.asarray(file[key][()], dtype=object).reshape(count, -1)[:, 0]
    except _DAMAGE as error:
        raise InputError(
            _("Cannot read {path}: the file is damaged ({reason}).").format(path=path, reason=error)
        ) from error
    texts = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in stored]
    return texts if any(texts) else [f"{row:04d}" for row in range(count)]


def _missing(path: Path, key: str, keys: Mapping[str, tuple[int, ...]]) -> InputError:
    return InputError(
        _("{path} has no '{key}'. It holds: {keys}.").format(path=path, key=key, keys=", ".join(keys) or _("nothing"))
    )
