"""What a benchmark found: plain values that are stored as JSON, merged over several runs and printed as a page."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from models.atomic import replacing
from models.computer import memory_gib, processor_name, versions
from models.errors import InputError
from models.language import _


@dataclass(frozen=True, order=True)
class Size:
    """Of a stack: ``256x256x5`` is 256 rows, 256 columns, 5 frames."""

    rows: int
    columns: int
    frames: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Raises InputError where ``text`` is no size of a stack."""
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})x(\d{1,3})", text.strip().lower())
        size = cls(*map(int, match.groups())) if match else None
        if size is None or min(size.rows, size.columns) < 8 or size.frames < 3:
            raise InputError(
                _("'{text}' is no size of a stack: rows x columns x frames, such as 256x256x5.").format(text=text)
            )
        return size

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}x{self.frames}"


PAPER_SIZES = (Size(256, 256, 5), Size(512, 512, 10), Size(600, 800, 10), Size(540, 960, 15))
SCALING_SIZES = (
    *(Size(256, 256, frames) for frames in (5, 10, 20, 50, 100)),
    *(Size(side, side, 5) for side in (512, 1024, 2048, 4096)),
)


@dataclass(frozen=True)
class Conditions:
    """When and on what something was measured."""

    date: str
    processor: str
    cores: int
    threads: int
    memory_gib: float | None
    versions: dict[str, str]


@dataclass(frozen=True)
class Count:
    """Parameters of a network while training and in its fused form, beside what its source says."""

    network: str
    training: int
    fused: int
    published: int | None


@dataclass(frozen=True)
class Timing:
    """``seconds`` of every round, the first run left out. ``allocator``: "default" or "tuned". ``error``: why none."""

    network: str
    engine: str
    allocator: str
    size: Size
    seconds: tuple[float, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Peak:
    """Most memory that a process held which did nothing but run this network once; its libraries included."""

    network: str
    engine: str
    size: Size
    peak_bytes: int | None
    error: str | None = None


@dataclass(frozen=True)
class Race:
    """One run in which everything took turns. Only times within one race may be compared.

    ``kind``: "latency", many networks at one size, or "scaling", one network at many sizes; ``name`` is the size or
    the network.
    """

    kind: str
    name: str
    conditions: Conditions
    timings: tuple[Timing, ...]
    peaks: tuple[Peak, ...] = ()


@dataclass(frozen=True)
class Training:
    """How weights were made: ``steps`` of ``batch`` stacks in ``seconds``, after the recipe of this name."""

    steps: int
    batch: int
    seconds: float
    recipe: str


@dataclass(frozen=True)
class Accuracy:
    """:func:`models.evaluate.mean_figures` of a method over ``count`` scenes, and its median ``seconds`` per scene.

    ``kind``: scenes of this kind only, or empty for all. ``training``: None where nothing was trained, or no card of
    the weights tells.
    """

    method: str
    kind: str
    count: int
    seconds: float
    figures: dict[str, float | None]
    weights_sha256: str | None = None
    training: Training | None = None


@dataclass(frozen=True)
class Trial:
    """Methods on one set of scenes, ``name``."""

    name: str
    conditions: Conditions
    accuracies: tuple[Accuracy, ...]


@dataclass(frozen=True)
class Results:
    """Everything that is known. See :func:`merge`."""

    counts: tuple[Count, ...] = ()
    races: tuple[Race, ...] = ()
    trials: tuple[Trial, ...] = ()


_RESULTS = TypeAdapter(Results)


def conditions(threads: int) -> Conditions:
    """Those of this computer, now."""
    return Conditions(
        date=time.strftime("%Y-%m-%d"),
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        threads=threads,
        memory_gib=memory_gib(),
        versions=versions(),
    )


def merge(older: Results, newer: Results) -> Results:
    """All of both; what is in both is taken from ``newer``.

    Races are replaced as a whole, since their times belong together. Trials on scenes of the same name are joined
    method by method; their conditions are those of the newer.
    """
    trials = {trial.name: trial for trial in older.trials}
    for trial in newer.trials:
        done = {found.method for found in trial.accuracies}
        known = trials[trial.name].accuracies if trial.name in trials else ()
        kept = tuple(found for found in known if found.method not in done)
        trials[trial.name] = replace(trial, accuracies=kept + trial.accuracies)
    return Results(
        counts=tuple({count.network: count for count in older.counts + newer.counts}.values()),
        races=tuple({(race.kind, race.name): race for race in older.races + newer.races}.values()),
        trials=tuple(trials.values()),
    )


def read_results(path: Path) -> Results:
    """What :func:`write_results` wrote. Raises InputError where ``path`` cannot be read or holds something else."""
    try:
        return _RESULTS.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(_("There is no file {path}.").format(path=path)) from None
    except OSError as error:
        raise InputError(_("Cannot read {path}: {reason}.").format(path=path, reason=error.strerror)) from error
    except ValidationError as error:
        raise InputError(_("{path} holds no results of 'reliefscope benchmark'.").format(path=path)) from error


def read_all_results(paths: Sequence[Path]) -> Results:
    """The files merged, the last one counting most."""
    found = Results()
    for path in paths:
        found = merge(found, read_results(path))
    return found


def results_as_values(results: Results) -> dict[str, Any]:
    """``results`` as plain JSON values."""
    values: dict[str, Any] = _RESULTS.dump_python(results, mode="json")
    return values


def write_results(results: Results, path: Path) -> None:
    """``results`` as JSON. Raises OutputError where ``path`` cannot be written."""
    with replacing(path) as temporary:
        temporary.write_bytes(_RESULTS.dump_json(results, indent=1) + b"\n")
