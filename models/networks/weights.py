"""Files of trained weights: those that come with the program, and what a file says of itself. Loads no PyTorch."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from safetensors import SafetensorError, safe_open

from models.errors import InputError
from models.language import _

SUFFIX = ".safetensors"
FOLDER = Path(str(files("resources"))) / "weights"


@dataclass(frozen=True)
class WeightsFile:
    """``network``: whose weights these are. ``calibrated``: whether they come with honest intervals.

    ``card``: the page on their data, recipe, figures and limits beside the file, None where there is none.
    """

    path: Path
    network: str
    calibrated: bool
    sha256: str
    card: Path | None


def shipped_weights(name: str) -> Path | None:
    """The weights of network ``name`` that come with the program, None where there are none."""
    path = FOLDER / f"{name}{SUFFIX}"
    return path if path.is_file() else None


def shipped_files() -> list[Path]:
    """All weights that come with the program, by name."""
    return sorted(FOLDER.glob(f"*{SUFFIX}"))


def weights_network(path: Path) -> str:
    """The name of the network whose weights ``path`` holds. Raises InputError where it is no file of weights."""
    name = _metadata(path).get("network")
    if name is None:
        raise InputError(_("{path} does not say which network its weights are for.").format(path=path))
    return name


def describe_weights(path: Path) -> WeightsFile:
    """What ``path`` says of itself. Raises InputError where it is no file of weights."""
    network = weights_network(path)
    cards = (path.with_suffix(suffix) for suffix in (".md", ".json"))
    return WeightsFile(
        path=path,
        network=network,
        calibrated="calibration" in _metadata(path),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        card=next((card for card in cards if card.is_file()), None),
    )


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except FileNotFoundError:
        raise InputError(_("There is no file {path}.").format(path=path)) from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            _("{path} holds no weights: it is no .safetensors file or it is damaged.").format(path=path)
        ) from error
