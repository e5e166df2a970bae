"""A simulated camera: what the renderer shows, counted in electrons, with noise, and digitised."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from hardware.camera import (
    CameraDisconnected,
    CameraError,
    CameraIdentity,
    CameraRanges,
    CameraSettings,
    Picture,
    check_settings,
)
from hardware.clock import Clock
from models.language import _
from models.optics import FocusRenderer


class SimulatedCameraSettings(BaseModel):
    """The sensor. The linear camera model of EMVA 1288: electrons, gain, offset, noise of both kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    full_well_e: float = Field(default=10500.0, gt=0)
    light_e_per_ms: float = Field(default=950.0, gt=0)
    """Electrons per ms from a level mirror of reflectance 1 in the middle of the field."""
    read_noise_e: float = Field(default=3.0, ge=0)
    dark_e_per_s: float = Field(default=20.0, ge=0)
    offset_share: float = Field(default=0.004, ge=0, lt=0.5)
    """Dark level as a share of the full scale, so that noise in the dark is not cut off at zero."""
    readout_ms: float = Field(default=15.0, ge=0)
    drift_px_per_min: tuple[float, float] = (0.0, 0.0)
    """Slow sideways motion of the sample (rows, columns)."""


class SimulatedCamera:
    """A :class:`hardware.camera.TriggeredCamera` that looks at ``renderer`` while the focus stands at ``focus_um()``.

    ``focus_um`` is asked several times during the exposure; where the focus moved meanwhile the picture is
    the mean. ``fail_at(n)``: the n-th picture from now raises CameraDisconnected, and so do all after it.
    """

    name = "Simulated camera"
    identity = CameraIdentity("simulated", model="Simulated camera")
    dropped_frames = 0
    ranges = CameraRanges(exposure_ms=(0.05, 2000.0), gain=(1.0, 16.0), bit_depths=(8, 12, 16))

    def __init__(
        self,
        renderer: FocusRenderer,
        focus_um: Callable[[], float],
        sensor: SimulatedCameraSettings | None = None,
        clock: Clock | None = None,
        seed: int = 0,
    ) -> None:
        self.sensor = sensor or SimulatedCameraSettings()
        self._renderer = renderer
        self._focus_um = focus_um
        self._clock = clock or Clock()
        self._rng = np.random.default_rng(seed)
        self._settings = CameraSettings()
        self._born_s = self._clock.now()
        self._pictures_to_fault: int | None = None
        self._pulses: SimpleQueue[tuple[float, float]] | None = None

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self._renderer.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self._settings.bit_depth == 8 else np.uint16)

    @property
    def settings(self) -> CameraSettings:
        return self._settings

    def apply(self, settings: CameraSettings) -> None:
        check_settings(self.name, settings, self.ranges)
        self._settings = settings

    def snap(self) -> Picture:
        self._count_down()
        began_s = self._clock.now()
        settings = self._settings
        parts = int(np.clip(settings.exposure_ms / 5.0, 2, 8))
        seen_um = [self._focus_um()]
        for _unused in range(parts):
            self._clock.wait(settings.exposure_ms / 1000.0 / parts)
            seen_um.append(self._focus_um())
        image = self._digitise(self._mean_image(seen_um, began_s), settings)
        left_s = (settings.exposure_ms + self.sensor.readout_ms) / 1000.0 - (self._clock.now() - began_s)
        self._clock.wait(left_s)
        return Picture(image, began_s)

    def arm(self, frame_count: int) -> None:
        self._check_connected()
        self._pulses = SimpleQueue()

    def trigger(self) -> None:
        """A pulse on the trigger line, from any thread; without effect while the camera is not armed."""
        pulses = self._pulses
        if pulses is not None:
            pulses.put((self._clock.now(), self._focus_um()))

    def next_picture(self, timeout_s: float) -> Picture:
        self._count_down()
        if self._pulses is None:
            raise CameraError(_("{camera} is not armed.").format(camera=self.name))
        try:
            began_s, focus_um = self._pulses.get(timeout=timeout_s)
        except Empty:
            raise CameraError(
                _("{camera}: no trigger pulse within {seconds:g} s. Is the trigger line connected?").format(
                    camera=self.name, seconds=timeout_s
                )
            ) from None
        image = self._digitise(self._mean_image([focus_um], began_s), self._settings)
        return Picture(image, began_s)

    def disarm(self) -> None:
        self._pulses = None

    def reconnect(self) -> None:
        self._check_connected()

    def close(self) -> None:
        self._pictures_to_fault = 0

    def fail_at(self, picture: int | None) -> None:
        """Fault on the ``picture``-th picture from now (0: the next); None: plugged in again."""
        self._pictures_to_fault = picture

    def _count_down(self) -> None:
        self._check_connected()
        if self._pictures_to_fault is not None:
            self._pictures_to_fault -= 1

    def _check_connected(self) -> None:
        if self._pictures_to_fault == 0:
            raise CameraDisconnected(_("{camera} does not answer. Check its cable.").format(camera=self.name))

    def _mean_image(self, seen_um: list[float], time_s: float) -> NDArray[np.float32]:
        minutes = (time_s - self._born_s) / 60.0
        shift = (self.sensor.drift_px_per_min[0] * minutes, self.sensor.drift_px_per_min[1] * minutes)
        if max(seen_um) - min(seen_um) < 0.05:
            return self._renderer.render(float(np.mean(seen_um)), shift_px=shift)
        images = [self._renderer.render(z_um, shift_px=shift) for z_um in seen_um]
        return np.asarray(np.mean(images, axis=0), dtype=np.float32)

    def _digitise(self, irradiance: NDArray[np.float32], settings: CameraSettings) -> NDArray[Any]:
        """Electrons with shot noise (its Gaussian limit) and read noise, full well, gain, offset, rounding."""
        sensor = self.sensor
        electrons = irradiance * np.float32(sensor.light_e_per_ms * settings.exposure_ms)
        electrons += np.float32(sensor.dark_e_per_s * settings.exposure_ms / 1000.0)
        spread = np.sqrt(electrons + np.float32(sensor.read_noise_e**2))
        electrons += spread * self._rng.standard_normal(electrons.shape, dtype=np.float32)
        np.minimum(electrons, np.float32(sensor.full_well_e), out=electrons)
        top = 2**settings.bit_depth - 1
        scale = settings.gain * top * (1.0 - sensor.offset_share) / sensor.full_well_e
        counts = electrons * np.float32(scale) + np.float32(sensor.offset_share * top + 0.5)
        return np.asarray(np.clip(counts, 0, top), dtype=self.dtype)
