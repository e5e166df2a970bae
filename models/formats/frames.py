"""Frames that stay in their files and are decoded when somebody asks for them."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.language import _

_CACHE_BYTES = 256 << 20
"""A short stack stays in memory between two passes; a long one needs no more than this."""


class DecodedFrames:
    """The ``Frames`` of any format: ``decode(index)`` gives an image (H, W) or (H, W, 3), uint8 or uint16.

    Usable from any thread. The images are shared with a cache and therefore read-only.
    """

    def __init__(
        self,
        decode: Callable[[int], NDArray[Any]],
        shape: tuple[int, ...],
        dtype: Any,
        name_of: Callable[[int], str],
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._decode, self._name_of = decode, name_of
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        image_bytes = int(np.prod(shape[1:])) * int(self.dtype.itemsize)
        self._capacity = max(1, _CACHE_BYTES // max(1, image_bytes))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> NDArray[Any]:
        """Frame ``index``; InputError that names the file where it cannot be decoded or has another size."""
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"frame {index} of {n}")
        index %= n
        with self._lock:
            if index not in self._cache:
                self._cache[index] = self._checked(index)
                if len(self._cache) > self._capacity:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(index)
            return self._cache[index]

    def _checked(self, index: int) -> NDArray[Any]:
        image = self._decode(index)
        if image.shape != self.shape[1:] or image.dtype != self.dtype:
            raise InputError(
                _("{name} is {found}, the first frame is {expected}. All frames of a stack must be alike.").format(
                    name=self._name_of(index),
                    found=describe_image(image.shape, image.dtype),
                    expected=describe_image(self.shape[1:], self.dtype),
                )
            )
        image = np.ascontiguousarray(image)
        image.flags.writeable = False
        return image


def describe_image(shape: tuple[int, ...], dtype: Any) -> str:
    """``640 x 480 pixels, grey, 8 bit``."""
    colour = _("RGB") if len(shape) == 3 else _("grey")
    return _("{width} x {height} pixels, {colour}, {bits} bit").format(
        width=shape[1], height=shape[0], colour=colour, bits=8 * np.dtype(dtype).itemsize
    )


def without_alpha(image: NDArray[Any]) -> NDArray[Any]:
    """Grey with alpha becomes (H, W), RGBA becomes (H, W, 3); transparency is no measurement."""
    if image.ndim == 3 and image.shape[2] in (1, 2):
        return image[..., 0]
    if image.ndim == 3 and image.shape[2] == 4:
        return image[..., :3]
    return image
