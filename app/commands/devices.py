"""``devices``: what is connected, the microscopes that are described, and the description of a new one."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from app.settings import own_profiles
from app.terminal import INTERRUPTED, cancelled_by_ctrl_c, complain, print_facts, print_json, print_table, progress_bar
from hardware.camera import CameraIdentity
from hardware.profile import Profile, SimulatedCameraProfile, load_profile, profile_names, save_profile
from hardware.search import Found, camera_section, search
from hardware.stages.registry import DRIVERS, FoundStage
from models.errors import Cancelled, InputError, ReliefscopeError
from models.language import _
from models.validation import merged

SIMULATED = "simulated"


def register(cli: typer.Typer) -> None:
    """Add the command, with help in the language in use."""
    told = _("what was found")

    @cli.command(
        "devices",
        help=_(
            "List serial ports, cameras and microscopes. Controllers are asked who they are; nothing moves. "
            "With --write-profile: describe a microscope in a file for --profile and the window."
        ),
    )
    def devices_command(
        ports: Annotated[
            list[str] | None,
            typer.Option(
                "--port", metavar="PORT", help=_("Ask only here, also on ports that the system does not list.")
            ),
        ] = None,
        profiles_only: Annotated[
            bool, typer.Option("--profiles", help=_("List only the microscopes that are described; ask nobody."))
        ] = False,
        write_profile: Annotated[
            Path | None, typer.Option("--write-profile", metavar="FILE", help=_("Write a profile, a .toml file."))
        ] = None,
        title: Annotated[str | None, typer.Option("--title", help=_("What you call the microscope."))] = None,
        stage: Annotated[
            str | None, typer.Option("--stage", metavar="PROTOCOL", help=_("{names}.").format(names=", ".join(DRIVERS)))
        ] = None,
        um_per_step: Annotated[
            float | None, typer.Option("--um-per-step", metavar="UM", help=_("Way of the stage in one step."))
        ] = None,
        direction: Annotated[
            str | None,
            typer.Option("--direction", metavar="up|down", help=_("Where the focus goes when the stage counts up.")),
        ] = None,
        limits_um: Annotated[
            tuple[float, float] | None,
            typer.Option("--limits-um", metavar="LOW HIGH", help=_("Travel that may be used, as the stage counts.")),
        ] = None,
        backlash_um: Annotated[float | None, typer.Option("--backlash-um", metavar="UM", help=_("Play."))] = None,
        settle_ms: Annotated[
            float | None, typer.Option("--settle-ms", metavar="MS", help=_("Rest after a move."))
        ] = None,
        speed_um_s: Annotated[
            float | None, typer.Option("--speed-um-s", metavar="UM/S", help=_("Speed of moves."))
        ] = None,
        camera: Annotated[
            str | None,
            typer.Option("--camera", metavar="KIND[:SERIAL]", help=_("uvc:0, basler:12345678, … or 'simulated'.")),
        ] = None,
        sensor_pixel_um: Annotated[
            float | None, typer.Option("--sensor-pixel-um", metavar="UM", help=_("Size of a pixel on the sensor."))
        ] = None,
        roi: Annotated[
            tuple[int, int, int, int] | None,
            typer.Option("--roi", metavar="LEFT TOP WIDTH HEIGHT", help=_("Part of the sensor, in pixels.")),
        ] = None,
        objectives: Annotated[
            list[str] | None,
            typer.Option(
                "--objective",
                metavar="NAME,MAGNIFICATION,NA[,PIXEL_UM]",
                help=_("An objective; the first one is chosen. PIXEL_UM: measured size of a pixel in the sample."),
            ),
        ] = None,
        more: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="NAME=VALUE", help=_("Any other setting: axis.tolerance_um=2.")),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))] = False,
    ) -> None:
        if write_profile is None:
            found = None if profiles_only else _search(ports)
            _print_found(found, as_json)
            return
        if write_profile.suffix != ".toml":
            raise InputError(_("A profile is a .toml file; '{name}' is not.").format(name=write_profile.name))
        chosen, port = _stage(stage, ports)
        sections: dict[str, dict[str, Any]] = {
            "stage": {"port": port, "um_per_step": um_per_step, "speed_um_s": speed_um_s},
            "axis": {"backlash_um": backlash_um, "settle_ms": settle_ms, "speed_um_s": speed_um_s},
            "camera": {**_camera(camera), "sensor_pixel_um": sensor_pixel_um},
        }
        if chosen is not None:
            sections["stage"]["baud"] = chosen.baud
        if limits_um is not None:
            sections["stage"] |= {"low_um": limits_um[0], "high_um": limits_um[1]}
        if direction is not None:
            sections["axis"]["sign"] = _sign(direction)
        if roi is not None:
            sections["camera"]["settings"] = {"roi": dict(zip(("left", "top", "width", "height"), roi, strict=True))}
        changes: dict[str, Any] = {
            name: {key: value for key, value in section.items() if value is not None}
            for name, section in sections.items()
        }
        if limits_um is not None:  # those of the shipped profile belong to another travel
            changes["axis"]["soft_limits_um"] = None
        if title is not None:
            changes["title"] = title
        if objectives:
            changes["objectives"] = [_objective(words) for words in objectives]
            changes["objective"] = changes["objectives"][0]["name"]
        for words in more or []:
            changes = merged(changes, _setting(words))
        name = stage or (chosen.driver.name if chosen else SIMULATED)
        profile = load_profile(name).changed(**changes)
        save_profile(profile, write_profile)
        summary = {"file": str(write_profile), **describe(str(write_profile), profile)}
        if as_json:
            print_json(summary)
        else:
            print_facts(
                {
                    _("profile"): str(write_profile),
                    _("stage"): f"{profile.stage.driver} {getattr(profile.stage, 'port', '')}".rstrip(),
                    _("camera"): profile.camera.driver,
                    _("pixel"): f"{profile.pixel_um:g} µm",
                    told: _identity(chosen),
                }
            )


def describe(name: str, profile: Profile) -> dict[str, Any]:
    """What ``--json`` says of a microscope."""
    return {
        "name": name,
        "title": profile.title,
        "stage": profile.stage.driver,
        "port": getattr(profile.stage, "port", None),
        "camera": profile.camera.driver,
        "objective": profile.objective,
        "objectives": [objective.name for objective in profile.objectives],
        "pixel_um": profile.pixel_um,
        "image_shape": _image_shape(profile),
        "simulated": profile.is_simulated,
    }


def _image_shape(profile: Profile) -> list[int] | None:
    """Rows and columns as far as the profile says; otherwise the camera tells when it is opened."""
    camera = profile.camera
    if isinstance(camera, SimulatedCameraProfile):
        return list(camera.image_shape)
    roi = camera.settings.roi if camera.settings is not None else None
    return None if roi is None else [roi.height, roi.width]


def _search(ports: list[str] | None) -> Found:
    try:
        with cancelled_by_ctrl_c() as cancel, progress_bar(_("Looking for devices")) as report:
            return search(ports, progress=report, told=lambda words: report(title=words), cancel=cancel)
    except Cancelled:
        complain(_("Stopped."))
        raise typer.Exit(INTERRUPTED) from None


def _print_found(found: Found | None, as_json: bool) -> None:
    profiles = []
    for name in (*profile_names(), *own_profiles()):
        try:
            profiles.append(describe(name, load_profile(own_profiles().get(name, name))))
        except ReliefscopeError as error:
            complain(str(error))
    if as_json:
        print_json({**(_as_json(found) if found else {}), "profiles": profiles})
        return
    if found is not None:
        rows = [
            (
                answer.port.name,
                answer.port.description,
                answer.stage.driver.title if answer.stage else answer.problem or _("nobody answers"),
                _identity(answer.stage),
            )
            for answer in found.ports
        ]
        if rows:
            print_table((_("port"), _("plug"), _("controller"), _("in its own words")), rows)
        else:
            complain(_("There is no serial port. Is the cable plugged in? Name other ports with --port."))
        print()
        if found.cameras.cameras:
            print_table(
                (_("camera"), _("maker"), _("model")),
                [(_camera_name(camera), camera.vendor, camera.model) for camera in found.cameras.cameras],
            )
        else:
            complain(_("No camera was found."))
        for reason in found.cameras.unavailable.values():
            complain(reason)
        print()
    print_table(
        (_("profile"), _("microscope"), _("stage"), _("camera"), _("pixel")),
        [
            (
                item["name"],
                _(item["title"]),
                " ".join(filter(None, (item["stage"], item["port"]))),
                item["camera"],
                f"{item['pixel_um']:g} µm",
            )
            for item in profiles
        ],
    )


def _as_json(found: Found) -> dict[str, Any]:
    return {
        "ports": [
            {
                "port": answer.port.name,
                "description": answer.port.description,
                "serial_number": answer.port.serial_number,
                "stage": answer.stage.driver.name if answer.stage else None,
                "baud": answer.stage.baud if answer.stage else None,
                "identity": answer.stage.identity if answer.stage else None,
                "problem": answer.problem or None,
            }
            for answer in found.ports
        ],
        "cameras": [
            {"camera": _camera_name(camera), **vars(camera), "profile": camera_section(camera)}
            for camera in found.cameras.cameras
        ],
        "unavailable": found.cameras.unavailable,
    }


def _identity(stage: FoundStage | None) -> str:
    return f"{stage.identity} ({stage.baud} baud)" if stage else ""


def _camera_name(camera: CameraIdentity) -> str:
    return f"{camera.driver}:{camera.serial}" if camera.serial else camera.driver


def _stage(driver: str | None, ports: list[str] | None) -> tuple[FoundStage | None, str | None]:
    """The controller that answered where one was searched for, and its port. Raises InputError."""
    if driver == SIMULATED:
        return None, None
    if driver is not None:
        if driver not in DRIVERS:
            raise InputError(
                _("There is no stage driver '{driver}'. Drivers: {names}.").format(
                    driver=driver, names=", ".join((SIMULATED, *DRIVERS))
                )
            )
        if ports is None or len(ports) != 1:
            raise InputError(_("Name the port of the stage: --stage {driver} --port PORT.").format(driver=driver))
        return None, ports[0]
    found = _search(ports).stages
    if len(found) != 1:
        listed = "; ".join(f"--stage {stage.driver.name} --port {stage.port}" for stage in found)
        if found:
            raise InputError(_("Several stages were found. Choose one: {stages}.").format(stages=listed))
        raise InputError(
            _("No stage was found. Check cable and power, or name it: --stage PROTOCOL --port PORT. "
              "Without any: --stage simulated.")
        )  # fmt: skip
    return found[0], found[0].port


def _camera(words: str | None) -> dict[str, Any]:
    """The driver and what chooses the camera; nothing for the simulated one."""
    if words is None or words == SIMULATED:
        return {}
    driver, _colon, serial = words.partition(":")
    if driver == "uvc" and serial and not serial.isdigit():
        raise InputError(_("'{words}' names no camera: a UVC camera has a number, such as uvc:0.").format(words=words))
    return camera_section(CameraIdentity(driver, serial=serial or ("0" if driver == "uvc" else "")))


def _sign(direction: str) -> int:
    if direction not in ("up", "down"):
        raise InputError(_("--direction is 'up' or 'down', not '{value}'.").format(value=direction))
    return 1 if direction == "up" else -1


def _objective(words: str) -> dict[str, Any]:
    name, *numbers = (part.strip() for part in words.split(","))
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if len(values) not in (2, 3) or not name:
        raise InputError(
            _("'{words}' is no objective. Example: --objective '10x,10,0.30' or, with the measured size of a pixel, "
              "--objective '10x,10,0.30,0.487'.").format(words=words)
        )  # fmt: skip
    return {"name": name, **dict(zip(("magnification", "na", "pixel_um"), values, strict=False))}


def _setting(words: str) -> dict[str, Any]:
    """``axis.tolerance_um=2`` as nested values; a value that is no TOML is taken as text."""
    name, equals, value = words.partition("=")
    if not equals or not name.strip():
        raise InputError(_("'{words}' is no setting. Example: --set axis.tolerance_um=2.").format(words=words))
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(name.strip().split(".")):
        parsed = {part: parsed}
    return dict(parsed)
