"""Settings in TOML files: those that come with the program are known by name, others by path."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from models.errors import InputError
from models.language import _


def shipped_names(folder: str) -> list[str]:
    """Names of the files in this folder of ``resources``, without ``.toml``."""
    items = (files("resources") / folder).iterdir()
    return sorted(item.name.removesuffix(".toml") for item in items if item.name.endswith(".toml"))


def read_toml(name_or_path: str, folder: str, *, unknown: str) -> dict[str, Any]:
    """What stands in the file of this name in ``folder`` of ``resources``, or at this path, which ends in ``.toml``.

    Raises InputError: ``unknown`` where it is neither, or what is wrong with the file.
    """
    if name_or_path in shipped_names(folder):
        text = (files("resources") / folder / f"{name_or_path}.toml").read_text(encoding="utf-8")
    elif Path(name_or_path).suffix == ".toml":
        try:
            text = Path(name_or_path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(_("There is no file {path}.").format(path=name_or_path)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(_("{path} cannot be read: {error}").format(path=name_or_path, error=error)) from error
    else:
        raise InputError(unknown)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(_("{path} is not valid TOML: {error}").format(path=name_or_path, error=error)) from error
