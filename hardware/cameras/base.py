"""What every camera driver keeps in the same way."""

from typing import Any

import numpy as np

from hardware.camera import CameraIdentity, CameraRanges, CameraSettings


class CameraBase:
    """The state that :class:`hardware.camera.Camera` shows; drivers read it back from the camera after each change."""

    name: str
    identity: CameraIdentity
    ranges: CameraRanges
    settings: CameraSettings
    image_shape: tuple[int, ...]
    dropped_frames = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.settings.bit_depth == 8 else np.uint16)
