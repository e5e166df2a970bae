"""The frames of a running capture, to be gone through again when another method takes over."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from models.storage import StoredFrames

KEPT_BYTES = 128 << 20
"""So much stays in memory; what comes later is read from the file of the capture."""


class TakenFrames:
    """Frames with their z in um, in the order in which they came, which is that of the file ``path``.

    ``path`` None: all of them stay in memory. ``again`` False: nobody will ask for them, they are only counted.
    """

    def __init__(self, path: Path | None, *, again: bool = True) -> None:
        self._path, self._again = path, again
        self._kept: list[NDArray[Any]] = []
        self._z_um: list[float] = []

    def __len__(self) -> int:
        return len(self._z_um)

    def append(self, image: NDArray[Any], z_um: float) -> None:
        is_small = self._path is None or (len(self._kept) + 1) * image.nbytes <= KEPT_BYTES
        if self._again and (is_small or not self._kept):  # the first one says what they look like
            self._kept.append(image)
        self._z_um.append(z_um)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], float]:
        """Frame ``index`` and its z; raises InputError where the file cannot be read."""
        if index < len(self._kept):
            return self._kept[index], self._z_um[index]
        assert self._path is not None
        first = self._kept[0]
        return StoredFrames(self._path, (len(self), *first.shape), first.dtype)[index], self._z_um[index]
