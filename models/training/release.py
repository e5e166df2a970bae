"""From the weights that a run leaves to those that the program ships: calibrated, with a card beside them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from models.atomic import replacing
from models.errors import InputError
from models.language import _
from models.networks.calibration import Calibration, calibrate
from models.networks.inference import infer, load_network
from models.networks.registry import find_network
from models.networks.weights import weights_network
from models.training.checkpoint import CARD
from models.training.scene import Scene

LEAST_PIXELS = 10_000
PIXELS_PER_SCENE = 20_000
OUTSIDE_STEPS = 0.5
"""Truth further outside the stack than this is nothing that a network can know."""

Progress = Callable[[int, int], None]


def release(weights: Path, scenes: Sequence[Scene], out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Write ``weights`` with the calibration on ``scenes`` to ``out`` and the card to ``out`` with suffix .json.

    ``scenes`` must be ones that the network has not trained on. Returns the card: what the run's own card says, and the
    share of errors inside the 68 % and 95 % intervals of a calibration on every second scene, in the other scenes.
    Raises InputError where there is one scene only, the network gives no spread or too few pixels have a truth,
    OutputError.
    """
    name = weights_network(weights)
    if len(scenes) < 2:
        raise InputError(_("Calibrating needs two scenes or more: one half is checked with what the other gave."))
    spreads, errors = held_out_errors(name, weights, scenes, progress)
    spread, error = np.concatenate(spreads), np.concatenate(errors)
    if spread.size < LEAST_PIXELS:
        raise InputError(
            _("Only {n} pixels have a known height; calibrating needs {least}.").format(
                n=spread.size, least=LEAST_PIXELS
            )
        )
    check = calibrate(np.concatenate(spreads[::2]), np.concatenate(errors[::2]))
    calibration = calibrate(spread, error)
    with safe_open(weights, framework="numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    metadata = {"network": name, "calibration": calibration.to_json()}
    with replacing(out) as temporary:
        content = save(tensors, metadata=metadata)
        temporary.write_bytes(content)  # save_file() would leave a file that nobody else may read
        digest = hashlib.sha256(content).hexdigest()
    card = {**_card_of(weights), "network": name, "file": out.name, "sha256": digest}
    card["calibration"] = {
        "scenes": len(scenes),
        "pixels": int(spread.size),
        **coverage(check, np.concatenate(spreads[1::2]), np.concatenate(errors[1::2])),
    }
    with replacing(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(card, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return card


def held_out_errors(
    name: str, weights: Path, scenes: Sequence[Scene], progress: Progress | None = None
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Spread and absolute error, both in steps, of random pixels (n,) with a known height, for each of ``scenes``."""
    network = load_network(name, weights)
    rng = np.random.default_rng(0)
    spreads, errors = [], []
    for done, scene in enumerate(scenes):
        found = infer(network, scene.stack, channels=find_network(name).channels)
        if found.spread_um is None:
            raise InputError(_("The network '{name}' states no doubt that could be calibrated.").format(name=name))
        step_um, z_um, truth = scene.stack.step_um, scene.stack.z_um, scene.height_um
        margin_um = OUTSIDE_STEPS * step_um
        known = np.flatnonzero((truth >= z_um.min() - margin_um) & (truth <= z_um.max() + margin_um))
        chosen = rng.permutation(known)[:PIXELS_PER_SCENE]
        spreads.append(found.spread_um.ravel()[chosen] / np.float32(step_um))
        errors.append(np.abs(found.height_um - truth).ravel()[chosen] / np.float32(step_um))
        if progress is not None:
            progress(done + 1, len(scenes))
    return spreads, errors


def coverage(
    calibration: Calibration, spread_steps: NDArray[np.float32], error_steps: NDArray[np.float32]
) -> dict[str, float]:
    """Shares of the errors (n,) inside the 68 % and 95 % intervals that ``calibration`` gives."""
    half68, half95 = calibration.half_widths(spread_steps)
    return {
        "inside_68": round(float(np.mean(error_steps <= half68)), 4),
        "inside_95": round(float(np.mean(error_steps <= half95)), 4),
        "median_error_steps": round(float(np.median(error_steps)), 4),
    }


def _card_of(weights: Path) -> dict[str, Any]:
    """What the run wrote beside its weights, nothing where there is no such file."""
    try:
        card: dict[str, Any] = json.loads((weights.parent / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card
