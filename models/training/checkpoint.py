"""What a training run leaves on disk: its checkpoint, from which it goes on, and at the end its weights with a card."""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor, nn

from models.atomic import replacing
from models.errors import InputError
from models.language import _
from models.training.recipe import Recipe

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
CARD = "card.json"
_SHOWN = 4
"""More differences of two recipes than these are only counted."""

State = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """All that decides how a run goes on after ``step`` steps and ``seconds``.

    No state of random numbers: those of a step follow from the seed and its number. ``data``: the folders that were
    learned from, see :func:`data_names`; None in files of before this was kept.
    """

    recipe: str
    step: int
    seconds: float
    skipped: int
    network: State
    average: State
    optimiser: State
    scaler: State
    data: list[str] | None = None


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


def data_names(data: object) -> list[str]:
    """What a checkpoint says of folders, or of an endless source: where they are, links not followed; or "rendered".

    Whoever moves a folder in the middle of a run can leave a link in its place.
    """
    return [str(folder.absolute()) for folder in data] if isinstance(data, Sequence) else ["rendered"]


def check_continues(checkpoint: Checkpoint, recipe: Recipe, data: list[str] | None, folder: Path) -> None:
    """That a run of ``recipe`` on ``data``, None not compared, is the one whose checkpoint lies in ``folder``.

    A run that went on with something else would be described by no recipe, and its card would be untrue. Raises
    InputError that says what differs and the way out.
    """
    try:
        before = Recipe.model_validate_json(checkpoint.recipe)
    except ValidationError as error:
        raise InputError(
            _("The run in {path} was begun by another version: its recipe reads otherwise. Choose --fresh.").format(
                path=folder
            )
        ) from error
    if before.network != recipe.network:
        raise InputError(
            _("{path} holds a run of {old}, not of {new}. Choose another --out, or --fresh.").format(
                path=folder, old=before.network, new=recipe.network
            )
        )
    if changes := recipe.differences(before):
        shown = ", ".join(changes[:_SHOWN])
        if len(changes) > _SHOWN:
            shown = _("{changes} and {n} more").format(changes=shown, n=len(changes) - _SHOWN)
        raise InputError(
            _(
                "The run in {path} was begun with another recipe: now {changes}. Go on with the same recipe, choose "
                "another --out, or start again with --fresh."
            ).format(path=folder, changes=shown)
        )
    if data is not None and checkpoint.data is not None and data != checkpoint.data:
        raise InputError(
            _(
                "The run in {path} learns from {old}, not from {new}. Go on with the same --data in the same order, "
                "choose another --out, or start again with --fresh."
            ).format(path=folder, old=", ".join(checkpoint.data), new=", ".join(data))
        )


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
        content = save(tensors, metadata={"network": str(card["network"])})
        temporary.write_bytes(content)  # save_file() would leave a file that nobody else may read
        sha256 = hashlib.sha256(content).hexdigest()
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
