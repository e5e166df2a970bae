"""What the program remembers between two runs, in one JSON file.

A broken file never blocks the start: what cannot be read is left at its default and written to the log.
"""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.methods import ReconstructionOptions

log = logging.getLogger(__name__)

VERSION = 1
RECENT_FILES = 10


def home() -> Path:
    """The folder of the settings; RELIEFSCOPE_HOME moves it, the log and the captures elsewhere."""
    return _moved_home() or Path(platformdirs.user_config_dir("Reliefscope", appauthor=False))


def profiles_folder() -> Path:
    """Where the user keeps descriptions of microscopes, see :mod:`hardware.profile`."""
    return home() / "profiles"


def own_profiles() -> dict[str, Path]:
    """The user's own descriptions of microscopes, by name."""
    return {path.stem: path for path in sorted(profiles_folder().glob("*.toml"))}


def profile_called(name: str) -> str:
    """The file of the user's own profile of this name; anything else stays as it is."""
    return str(own_profiles().get(name, name))


def log_folder() -> Path:
    """Where the log files are."""
    moved = _moved_home()
    return moved / "log" if moved else Path(platformdirs.user_log_dir("Reliefscope", appauthor=False))


def default_captures_folder() -> Path:
    """Where captures go until the user chooses a folder."""
    moved = _moved_home()
    return moved / "captures" if moved else Path(platformdirs.user_documents_dir()) / "Reliefscope"


def _moved_home() -> Path | None:
    name = os.environ.get("RELIEFSCOPE_HOME")
    return Path(name) if name else None


class GamepadSettings(BaseModel):
    """What of a gamepad moves the stage. Axes and buttons are counted from 0, as SDL does; ``dead_zone``: of 1."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    axis: int = Field(default=1, ge=0, le=63)
    up_is_negative: bool = True
    hold_button: int = Field(default=5, ge=0, le=63)
    stop_button: int = Field(default=1, ge=0, le=63)
    dead_zone: float = Field(default=0.2, ge=0.05, le=0.9)
    top_speed_um_s: float = Field(default=50.0, gt=0, le=10_000)


class Settings(BaseModel):
    """Every remembered value with its default. Layouts are Qt's own state, as hexadecimal text."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    version: int = VERSION
    theme: Literal["dark", "light"] = "dark"
    language: str | None = None
    geometry: str = ""
    layouts: dict[str, str] = Field(default_factory=dict)
    workspace: Literal["capture", "surface", "label", "inspect"] = "capture"
    profile: str = "simulated"
    exposure_ms: float = Field(default=10.0, gt=0)
    gain: float = Field(default=1.0, ge=1)
    bit_depth: int = 8
    auto_contrast: bool = True
    jog_steps_um: tuple[float, float, float] = (1.0, 10.0, 100.0)
    jog_step: int = Field(default=1, ge=0, le=2)
    gamepad: GamepadSettings = Field(default_factory=GamepadSettings)
    by_step: bool = True
    step_um: float = Field(default=2.0, gt=0)
    frame_count: int = Field(default=40, ge=2)
    show_surface_after_capture: bool = False
    captures_folder: Path = Field(default_factory=default_captures_folder)
    recent_files: list[str] = Field(default_factory=list)
    reconstruction: ReconstructionOptions = ReconstructionOptions()

    def remember_file(self, path: Path) -> None:
        """Put ``path`` first among the recent files."""
        name = str(path)
        self.recent_files = [name, *(other for other in self.recent_files if other != name)][:RECENT_FILES]


def settings_file() -> Path:
    return home() / "settings.json"


def load_settings(path: Path | None = None) -> Settings:
    """The settings in ``path``; defaults for everything that is missing or cannot be used."""
    path = path or settings_file()
    try:
        stored: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError) as error:
        log.warning("The settings in %s cannot be read and start from their defaults: %s", path, error)
        return Settings()
    if not isinstance(stored, dict):
        log.warning("The settings in %s are not a table of values and start from their defaults", path)
        return Settings()
    while True:
        try:
            return Settings.model_validate(stored)
        except ValidationError as error:
            bad = {str(problem["loc"][0]) for problem in error.errors()}
            log.warning("Settings skipped in %s: %s", path, ", ".join(sorted(bad)))
            stored = {key: value for key, value in stored.items() if key not in bad}


def save_settings(settings: Settings, path: Path | None = None) -> None:
    """Write atomically: a reader sees the old file or the new one. A failure is logged, never raised."""
    path = path or settings_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(settings.model_dump_json(indent=2))
        os.replace(file.name, path)
    except OSError as error:
        log.warning("The settings cannot be saved to %s: %s", path, error)
