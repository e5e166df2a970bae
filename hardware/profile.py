"""A microscope described in one TOML file, and how to open it."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

import tomli_w
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from hardware.camera import Camera, CameraError, CameraSettings
from hardware.cameras import open_camera
from hardware.cameras.settings import SECTIONS, RealCameraProfile
from hardware.clock import Clock, FastClock
from hardware.instance_lock import DeviceLock
from hardware.motion import FocusAxis
from hardware.settling import SettleBy
from hardware.simulator.camera import SimulatedCamera, SimulatedCameraSettings
from hardware.simulator.stage import SimulatedStage, SimulatedStageSettings
from hardware.stage import Stage, StageError, StagePortBusy
from hardware.stages.driver import SerialStageSettings
from hardware.stages.micromanager import MicroManagerStage, MicroManagerStageProfile
from hardware.stages.registry import DRIVERS, open_stage
from models.atomic import replacing
from models.errors import InputError
from models.focal_stack import Optics
from models.language import N_, _
from models.optics import FocusRenderer, Illumination
from models.surfaces import Surface, surface
from models.toml_files import read_toml, shipped_names
from models.validation import first_problem, merged

PROFILE_FOLDER = "profiles"
_LOCKED_CAMERAS = ("uvc", "basler", "genicam")
"""Of the others the serial number is no device: a file, a label in a configuration."""
Pixels = Annotated[int, Field(ge=8, le=16384)]

# Titles stand in the TOML files; here they are for the translators. The window shows _(profile.title).
_TITLES = (
    N_("Simulated: engraved roll"),
    N_("Simulated: hexagonal anilox"),
    N_("Simulated: intaglio lines"),
    N_("Simulated: coin"),
    N_("Simulated: depth standard"),
    N_("Simulated: steel ball"),
    N_("ASI focus drive"),
    N_("GRBL focus drive"),
    N_("Marlin focus drive"),
    N_("OpenFlexure (Sangaboard)"),
    N_("openUC2"),
    N_("PI focus drive"),
    N_("Prior focus drive"),
    N_("Prior NanoScanZ piezo"),
    N_("Zaber focus drive"),
    N_("USB video camera on a simulated stage"),
    N_("Basler camera on a simulated stage"),
    N_("GenICam camera on a simulated stage"),
    N_("Micro-Manager"),
    N_("Replay of a stack"),
)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProfileFieldError(InputError):
    """One setting of a profile cannot be used: ``field`` as in the file (``stage.low_um``), and what is wrong."""

    def __init__(self, message: str, field: str, problem: str) -> None:
        super().__init__(message)
        self.field, self.problem = field, problem


class Objective(_Section):
    """One objective on the turret. ``pixel_um``: measured size of a camera pixel in the sample; None: computed."""

    name: str
    magnification: float = Field(gt=0, le=1000)
    na: float = Field(gt=0, le=1.6)
    wavelength_um: float = Field(default=0.55, gt=0.1, lt=2.0)
    refractive_index: float = Field(default=1.0, ge=1.0, le=2.0)
    pixel_um: float | None = Field(default=None, gt=0, le=1000)

    @property
    def optics(self) -> Optics:
        return Optics(self.magnification, self.na, self.wavelength_um, self.refractive_index)


class AxisProfile(_Section):
    """How the stage sits in the microscope; see :class:`hardware.motion.FocusAxis`."""

    sign: Literal[1, -1] = 1
    origin_um: float = 0.0
    soft_limits_um: tuple[float, float] | None = None
    backlash_um: float = Field(default=0.0, ge=0)
    approach: Literal[1, -1] = -1
    settle: SettleBy = "time"
    settle_ms: float = Field(default=0.0, ge=0)
    settle_window_um: float = Field(default=0.1, gt=0)
    settle_limit_s: float = Field(default=2.0, gt=0)
    speed_um_s: float | None = Field(default=None, gt=0)
    tolerance_um: float = Field(default=1.0, gt=0)
    stall_s: float = Field(default=2.0, gt=0)
    hardware_timed: bool = False


class SimulatedStageProfile(SimulatedStageSettings):
    driver: Literal["simulated"]


def _driver_of(section: Any) -> Any:
    return section.get("driver") if isinstance(section, Mapping) else getattr(section, "driver", None)


if TYPE_CHECKING:
    StageProfile = SimulatedStageProfile | MicroManagerStageProfile | SerialStageSettings
else:  # each driver has settings of its own, checked by its own class
    StageProfile = Annotated[
        Union[
            Annotated[SimulatedStageProfile, Tag("simulated")],
            Annotated[MicroManagerStageProfile, Tag("micromanager")],
            *(Annotated[driver.settings, Tag(driver.name)] for driver in DRIVERS.values()),
        ],
        Discriminator(
            _driver_of,
            custom_error_type="unknown_driver",
            custom_error_message="driver must be one of: {drivers}",
            custom_error_context={"drivers": ", ".join(("simulated", "micromanager", *DRIVERS))},
        ),
    ]


class SimulatedCameraProfile(SimulatedCameraSettings):
    driver: Literal["simulated"]
    image_shape: tuple[Pixels, Pixels] = (512, 512)
    sensor_pixel_um: float = Field(default=5.0, gt=0)
    settings: CameraSettings = CameraSettings()


if TYPE_CHECKING:
    CameraProfile = SimulatedCameraProfile | RealCameraProfile
else:
    CameraProfile = Annotated[
        Union[
            Annotated[SimulatedCameraProfile, Tag("simulated")],
            *(Annotated[section, Tag(name)] for name, section in SECTIONS.items()),
        ],
        Discriminator(
            _driver_of,
            custom_error_type="unknown_driver",
            custom_error_message="driver must be one of: {drivers}",
            custom_error_context={"drivers": ", ".join(("simulated", *SECTIONS))},
        ),
    ]


class SampleProfile(_Section):
    """What a simulated camera looks at. ``parameters``: see :mod:`models.surfaces`."""

    surface: str
    parameters: dict[str, float] = {}
    vignetting: float = Field(default=0.12, ge=0, lt=1)
    tilt: float = Field(default=0.06, ge=-1, le=1)
    stray: float = Field(default=0.08, ge=0, le=1)
    roughness_slope: float = Field(default=0.2, ge=0, le=1)
    diffuse: float = Field(default=0.12, ge=0, le=1)
    breathing_per_um: float = 0.0


class Profile(_Section):
    """A microscope: objectives, stage, axis, camera. ``seed`` and ``time_scale`` serve the simulated one."""

    name: str
    title: str
    objectives: tuple[Objective, ...] = Field(min_length=1)
    objective: str
    stage: StageProfile
    axis: AxisProfile = AxisProfile()
    camera: CameraProfile
    sample: SampleProfile | None = None
    seed: int = 0
    time_scale: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _objective_is_there(self) -> Self:
        if self.objective not in [objective.name for objective in self.objectives]:
            raise ValueError(_("objective '{name}' is not among the objectives").format(name=self.objective))
        return self

    @model_validator(mode="after")
    def _simulated_camera_has_a_sample(self) -> Self:
        if self.camera.driver == "simulated" and self.sample is None:
            raise ValueError(_("a simulated camera needs a section [sample] to look at"))
        return self

    @property
    def selected_objective(self) -> Objective:
        return next(objective for objective in self.objectives if objective.name == self.objective)

    @property
    def pixel_um(self) -> float:
        """Size of a camera pixel in the sample: as measured, else by the nominal magnification."""
        objective = self.selected_objective
        return objective.pixel_um or self.camera.sensor_pixel_um / objective.magnification

    @property
    def is_simulated(self) -> bool:
        return self.stage.driver == "simulated" and self.camera.driver == "simulated"

    def changed(self, **changes: Any) -> "Profile":
        """A copy with other values; a section takes a mapping of its own: ``changed(camera={"read_noise_e": 0})``.

        Raises InputError that names the field, like :func:`load_profile`.
        """
        return checked_profile(_changed(self.model_dump(exclude_unset=True), changes), self.name)


class Microscope:
    """An open microscope: ``axis``, ``camera``, ``optics``, ``pixel_um``, ``profile``. Close it after use.

    ``known_surface`` is what the simulated microscope looks at, cut to the camera's field; None on a real one.
    """

    def __init__(
        self,
        profile: Profile,
        axis: FocusAxis,
        camera: Camera,
        *,
        stage: Stage,
        known_surface: Surface | None = None,
        locks: ExitStack | None = None,
    ) -> None:
        self.profile = profile
        self.axis = axis
        self.camera = camera
        self.stage = stage
        self.known_surface = known_surface
        self._locks = locks or ExitStack()

    @property
    def optics(self) -> Optics:
        return self.profile.selected_objective.optics

    @property
    def pixel_um(self) -> float:
        return self.profile.pixel_um

    def close(self) -> None:
        try:
            self.axis.close()
        finally:
            self.camera.close()
            self._locks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def profile_names() -> list[str]:
    """Names of the profiles that come with the program."""
    return shipped_names(PROFILE_FOLDER)


def load_profile(name_or_path: str | Path) -> Profile:
    """The profile of this name, or in this file. Raises InputError that names the file and the field.

    A file that says ``based_on = "simulated"`` need only name what differs from that profile.
    """
    return checked_profile(_read_profile(str(name_or_path)), str(name_or_path))


def save_profile(profile: Profile, path: Path) -> None:
    """Write a file that :func:`load_profile` reads, complete in itself, replacing another. Raises OutputError."""
    data = profile.model_dump(mode="json", exclude={"name"}, exclude_none=True, exclude_unset=True)
    with replacing(path) as temporary:
        temporary.write_text(tomli_w.dumps(data), encoding="utf-8")


def _read_profile(name: str, inner: tuple[str, ...] = ()) -> dict[str, Any]:
    if name in inner:
        raise InputError(_("The profile {path} is based on itself.").format(path=name))
    unknown = _("There is no profile called '{name}'. Profiles: {names}; or give the path of a .toml file.").format(
        name=name, names=", ".join(profile_names())
    )
    data = read_toml(name, PROFILE_FOLDER, unknown=unknown)
    base = _read_profile(str(data.pop("based_on")), (*inner, name)) if "based_on" in data else {}
    return {**_changed(base, data), "name": Path(name).stem}


def open_microscope(profile: Profile | str | Path) -> Microscope:
    """Connect to the stage and camera of a profile. Nothing moves. Raises StageError, CameraError, InputError."""
    if not isinstance(profile, Profile):
        profile = load_profile(profile)
    clock = Clock() if profile.time_scale == 1.0 else FastClock(profile.time_scale)
    locks = ExitStack()
    stage: Stage | None = None
    camera: Camera | None = None
    try:
        if (device := _stage_device(profile)) is not None:
            locks.enter_context(DeviceLock(*device, StagePortBusy))
        stage = _open_stage(profile, clock)
        trusted = not isinstance(profile.stage, SimulatedStageProfile) and profile.stage.trust_position
        axis = FocusAxis(stage, clock=clock, trusted=trusted, **profile.axis.model_dump())
        seen_um = axis.position_um()

        def focus_um() -> float:
            nonlocal seen_um
            if isinstance(stage, SimulatedStage):  # where it really is, play and all
                return profile.axis.sign * (stage.carriage_um() - profile.axis.origin_um)
            with suppress(StageError):  # cut off: what is shown stays where it was, and the stage's own fault is told
                seen_um = axis.position_um()
            return seen_um

        known = None
        if isinstance(profile.camera, SimulatedCameraProfile):
            camera, known = _simulated_camera(profile, profile.camera, focus_um, clock)
        else:
            camera = open_camera(profile.camera, focus_um, clock)
            identity = camera.identity
            if identity.serial and identity.driver in _LOCKED_CAMERAS:
                locks.enter_context(DeviceLock(f"{identity.driver} {identity.serial}", camera.name, CameraError))
    except BaseException:
        for opened in (camera, stage, locks):
            if opened is not None:
                opened.close()
        raise
    return Microscope(profile, axis, camera, stage=stage, known_surface=known, locks=locks)


def _stage_device(profile: Profile) -> tuple[str, str] | None:
    """What tells the stage from all others, and what people call it; None for a simulated one."""
    stage = profile.stage
    if isinstance(stage, SimulatedStageSettings):
        return None
    if isinstance(stage, MicroManagerStageProfile):
        return f"micromanager {stage.configuration} {stage.device}", "Micro-Manager"
    port = stage.port
    return (os.path.realpath(port) if port.startswith("/") else port), port  # a port may have several names


def _open_stage(profile: Profile, clock: Clock) -> Stage:
    if isinstance(profile.stage, SimulatedStageSettings):
        return SimulatedStage(profile.stage, clock)
    if isinstance(profile.stage, MicroManagerStageProfile):
        return MicroManagerStage(profile.stage)
    return open_stage(profile.stage)


def _simulated_camera(
    profile: Profile, sensor: SimulatedCameraProfile, focus_um: Callable[[], float], clock: Clock
) -> tuple[Camera, Surface]:
    """The camera, and the surface that it looks at."""
    sample = profile.sample
    assert sample is not None  # the profile was checked
    known = surface(sample.surface, sensor.image_shape, profile.pixel_um, seed=profile.seed, **sample.parameters)
    renderer = FocusRenderer(
        known,
        profile.selected_objective.optics,
        illumination=Illumination(sample.vignetting, sample.tilt, sample.stray),
        roughness_slope=sample.roughness_slope,
        diffuse=sample.diffuse,
        breathing_per_um=sample.breathing_per_um,
    )
    camera = SimulatedCamera(renderer, focus_um, sensor, clock, profile.seed)
    camera.apply(sensor.settings)
    return camera, known


def _changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``changes`` over ``base``; a section for another driver takes over nothing."""
    kept = dict(base)
    for name, section in changes.items():
        old, new = _driver_of(base.get(name)), _driver_of(section)
        if new is not None and new != old:
            kept.pop(name, None)
    return merged(kept, changes)


def checked_profile(data: Mapping[str, Any], source: str) -> Profile:
    """The profile of these values, ``name`` included. Raises ProfileFieldError; ``source``: what it calls the file."""
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        field, _value, problem = first_problem(error)
        for section in ("stage", "camera"):  # the driver is no part of the field's name
            driver = str(_driver_of(data.get(section)))
            field = field.replace(f"{section}.{driver}.", f"{section}.", 1)
        raise ProfileFieldError(
            _("Profile {path}: {field}: {problem}").format(path=source, field=field or _("profile"), problem=problem),
            field,
            problem,
        ) from error
