"""A video file as a stack: every picture is a frame."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.formats.frames import DecodedFrames
from models.language import _

VIDEO_SUFFIXES = (".avi", ".mp4", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".webm", ".wmv")


class _Player:
    """Reads pictures by number. Seeking in compressed video lands beside the target, so it plays from the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rewind()
        self.count = 0
        while self._capture.grab():
            self.count += 1
        self._rewind()

    def read(self, index: int) -> NDArray[Any]:
        if index < self._next:
            self._rewind()
        while self._next < index and self._capture.grab():
            self._next += 1
        ok, image = self._capture.read()
        if not ok:
            raise InputError(_("Picture {n} of {path} cannot be decoded.").format(n=index + 1, path=self._path))
        self._next += 1
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    def _rewind(self) -> None:
        self._capture = cv2.VideoCapture(str(self._path))  # which closes the one before
        self._next = 0
        if not self._capture.isOpened():
            raise InputError(_("{path} is not a readable video.").format(path=self._path))


def read_video(path: Path) -> DecodedFrames:
    """The pictures of a video as RGB uint8 frames. Raises InputError where it cannot be decoded.

    The file is played once to count its pictures: what its header claims is often wrong.
    """
    player = _Player(path)
    if player.count == 0:
        raise InputError(_("{path} is not a readable video.").format(path=path))
    first = player.read(0)
    return DecodedFrames(
        player.read,
        (player.count, *first.shape),
        first.dtype,
        lambda index: _("Picture {n} of {path}").format(n=index + 1, path=path),
    )
