"""What a training run leaves on disk: its checkpoint, from which it goes on, and at the end its weights with a card."""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.atomic import replacing
from models.errors import InputError
from models.language import _

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
CARD = "card.json"

State = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """All that decides how a run goes on after ``step`` steps and ``seconds``.

    No state of random numbers: those of a step follow from the seed and its number.
    """

    recipe: str
    step: int
    seconds: float
    skipped: int
    network: State
    average: State
    optimiser: State
    scaler: State


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint at ``path``: it is the old or the new one at any moment. Raises OutputError."""
    with replacing(path) as temporary:
        torch.save(asdict(checkpoint), temporary)


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint, in main memory. Raises InputError where the file is damaged or something else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(**state)
    except (OSError, RuntimeError, TypeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise InputError(
            _("{path} is no checkpoint of a training run, or it is damaged. Start again with --fresh.").format(
                path=path
            )
        ) from error


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed run was just writing."""
    for name in (CHECKPOINT, WEIGHTS, CARD):
        for left in folder.glob(f".{Path(name).stem}.*.part{Path(name).suffix}"):
            left.unlink(missing_ok=True)


def write_weights(folder: Path, network: nn.Module, card: Mapping[str, Any]) -> str:
    """``weights.safetensors`` of ``network`` and ``card.json``, which names their SHA-256. Returns that.

    Raises OutputError.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"network": str(card["network"])})
        sha256 = hashlib.sha256(temporary.read_bytes()).hexdigest()
    text = json.dumps({**card, "sha256": sha256}, ensure_ascii=False, indent=2, allow_nan=False)
    with replacing(folder / CARD) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return sha256


class MovingAverage:
    """Exponential moving average of everything in a network that is a float, the statistics of its norms included.

    ``decay`` is smaller at first, (1 + t) / (10 + t), so that the random start is soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._source = network
        self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        new: Mapping[str, Tensor] = self._source.state_dict()
        floats = [name for name, tensor in new.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in floats], [new[name] for name in floats], 1 - decay)
        for name in new.keys() - set(floats):
            self.state[name].copy_(new[name])

    def load(self, state: State) -> None:
        for name, tensor in self.state.items():
            tensor.copy_(state[name])
