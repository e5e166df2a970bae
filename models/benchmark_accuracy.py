"""Methods and networks against scenes whose heights are known."""

import hashlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from models.benchmark import Accuracy, Training
from models.errors import InputError
from models.evaluate import compare, figures, mean_figures
from models.focal_stack import FocalStack
from models.height_map import HeightMap
from models.language import _
from models.methods import METHODS, ReconstructionOptions
from models.networks.registry import NETWORKS
from models.networks.weights import describe_weights, shipped_weights, weights_network
from models.reconstruct import reconstruct
from models.storage import SAMPLE_SUFFIXES
from models.training.datasets import DataSet, open_data_set, stack_files
from models.training.datasets.data_set import Entry
from models.training.scene import Scene
from models.training.splits import read_scene
from models.whole_stack import network_map

_DEFAULTS = ReconstructionOptions()
_NO_WEIGHTS: Mapping[str, Path] = {}

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Candidate:
    """A method or network, ready to run; it reports (frames done, frames in all), a network nothing."""

    name: str
    run: Callable[[FocalStack, Report], HeightMap]
    weights_sha256: str | None = None
    training: Training | None = None


def _ignore(done: int, total: int) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class SceneScore:
    """One method on one scene: :func:`models.evaluate.figures` and the seconds it took, reading not counted."""

    scene: str
    kind: str
    method: str
    seconds: float
    figures: dict[str, float | None]


def find_candidate(
    name: str, options: ReconstructionOptions = _DEFAULTS, weights: Mapping[str, Path] = _NO_WEIGHTS
) -> Candidate:
    """The method or network called ``name``. ``options`` concern methods; ``weights`` are files by network.

    What is both runs as the program runs it, unless weights are given for it that are not calibrated. Raises InputError
    where there is none of this name or its weights are missing or do not fit.
    """
    file = weights.get(name)
    origin = _origin(file or shipped_weights(name)) if name in NETWORKS else (None, None)
    if name in METHODS and (file is None or describe_weights(file).calibrated):
        chosen = options.model_copy(update={"method": name, "weights": None if file is None else str(file)})
        return Candidate(name, lambda stack, report: reconstruct(stack, chosen, progress=report), *origin)
    if name in NETWORKS:
        from models.networks.inference import load_network

        network = load_network(name, file)
        return Candidate(name, lambda stack, report: network_map(network, name, stack, own_doubt=True), *origin)
    raise InputError(
        _("There is no method or network called '{name}'. Methods: {methods}. Networks: {networks}.").format(
            name=name, methods=", ".join(METHODS), networks=", ".join(NETWORKS)
        )
    )


def find_weights(paths: Iterable[Path]) -> dict[str, Path]:
    """Files of weights, or all those in a folder, by the network that each says it belongs to.

    Raises InputError where a file holds no weights, a folder no file of them, or two are of one network.
    """
    found: dict[str, Path] = {}
    for path in paths:
        files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        if not files:
            raise InputError(_("The folder {folder} holds no .safetensors file.").format(folder=path))
        for file in files:
            name = weights_network(file)
            if name in found:
                raise InputError(
                    _("{a} and {b} are both weights of '{name}'. Give one of them.").format(
                        a=found[name], b=file, name=name
                    )
                )
            found[name] = file
    return found


def labelled_scenes(path: Path) -> DataSet:
    """The scenes of ``path``: a sample file, a folder of them (:mod:`models.training.splits`), or a data set.

    Raises InputError where there are none; reading a scene raises it where its file holds no truth.
    """
    is_sample = path.suffix.lower() in SAMPLE_SUFFIXES and path.is_file() and stack_files.detect(path) is None
    files = [path] if is_sample else sorted(f for s in SAMPLE_SUFFIXES for f in path.glob(f"[!.]*{s}"))
    if not files:
        return open_data_set(path)
    return DataSet(path, "", [Entry(file.stem, "", partial(read_scene, file)) for file in files])


def in_memory(scene: Scene) -> Scene:
    """The same scene with its frames read, so that reading is not timed."""
    stack = scene.stack
    return replace(scene, stack=replace(stack, frames=np.stack([stack.frames[k] for k in range(len(stack))])))


def score(scene: Scene, candidate: Candidate, *, confidence_above: float = 0.0) -> SceneScore:
    """One method on one scene."""
    start = time.perf_counter()
    found = candidate.run(scene.stack, _ignore)
    seconds = time.perf_counter() - start
    comparison = compare(
        found, scene.height_um, step_um=scene.stack.step_um, confidence_above=confidence_above, z_um=scene.stack.z_um
    )
    return SceneScore(scene.name, scene.kind, candidate.name, seconds, figures(comparison))


def score_all(
    scenes: Sequence[Scene],
    candidates: Sequence[Candidate],
    *,
    confidence_above: float = 0.0,
    progress: Report = _ignore,
) -> list[SceneScore]:
    """Every method on every scene, scene by scene; one without any known height is passed over.

    ``progress`` is called with (scenes done, scenes in all). Raises InputError where no scene has known heights.
    """
    scores = []
    for done, scene in enumerate(scenes, 1):
        if np.isfinite(scene.height_um).any():
            loaded = in_memory(scene)
            scores += [score(loaded, candidate, confidence_above=confidence_above) for candidate in candidates]
        progress(done, len(scenes))
    if not scores:
        raise InputError(_("No scene has known heights: there is nothing to compare."))
    return scores


def summarise(scores: Sequence[SceneScore], candidates: Sequence[Candidate]) -> tuple[Accuracy, ...]:
    """Of every method: all scenes together, then kind by kind."""
    rows = []
    for candidate in candidates:
        mine = [one for one in scores if one.method == candidate.name]
        for kind in ("", *sorted({one.kind for one in mine})):
            part = [one for one in mine if kind in ("", one.kind)]
            if part:
                seconds = statistics.median(one.seconds for one in part)
                means = mean_figures([one.figures for one in part])
                rows.append(
                    Accuracy(
                        candidate.name, kind, len(part), seconds, means, candidate.weights_sha256, candidate.training
                    )
                )
    return tuple(rows)


class _Recipe(BaseModel):
    name: str
    batch: int


class _Card(BaseModel):
    """Of the card that :func:`models.training.loop.train` and ``release`` write, what tells how weights were made."""

    sha256: str
    steps: int
    seconds: float
    recipe: _Recipe


def _origin(file: Path | None) -> tuple[str | None, Training | None]:
    """SHA-256 of weights and, where a card beside them names it, how they were made."""
    if file is None:
        return None, None
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for path in (file.with_suffix(".json"), file.with_name("card.json")):
        try:
            card = _Card.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):  # no card, or of something else
            continue
        if card.sha256 == digest:
            return digest, Training(card.steps, card.recipe.batch, card.seconds, card.recipe.name)
    return digest, None
