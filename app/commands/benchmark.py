"""``benchmark``: the networks side by side, in numbers; writes docs/benchmarks.md."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from app.terminal import complain, duration, ended_by_ctrl_c, print_json, print_table, progress_bar
from models.atomic import check_writable, replacing
from models.benchmark import (
    PAPER_SIZES,
    Conditions,
    Race,
    Results,
    Size,
    conditions,
    merge,
    read_all_results,
    results_as_values,
    write_results,
)
from models.benchmark_child import ENGINES, SLOW_S
from models.benchmark_latency import Plan, expected_s, run_race, work
from models.benchmark_latency import latency as latency_plan
from models.benchmark_latency import scaling as scaling_plan
from models.errors import InputError
from models.language import _
from models.methods import METHODS
from models.networks.registry import NETWORKS, find_network

_FORMS = ("training", "fused", "published")
_WIDE = 110
"""Characters in a line from which on there is room for titles beside names."""


def register(cli: typer.Typer) -> None:
    """Add the command, with help in the language in use."""

    @cli.command("benchmark", help=_("Count, time and compare the networks."))
    def benchmark_command(
        list_networks: Annotated[
            bool, typer.Option("--list", help=_("List every network with its number of parameters."))
        ] = False,
        latency: Annotated[bool, typer.Option("--latency", help=_("Measure time and memory, all in turn."))] = False,
        sizes: Annotated[
            str,
            typer.Option(
                "--sizes",
                metavar="SIZES",
                help=_("Rows x columns x frames, separated by commas; if not given, the four of the paper."),
            ),
        ] = "",
        scaling: Annotated[
            str,
            typer.Option(
                "--scaling",
                metavar="NETWORKS",
                help=_("Time these for 5 to 100 frames and 256 to 4096 pixels, too, with the first --engine."),
            ),
        ] = "",
        networks: Annotated[
            str,
            typer.Option(
                "--networks",
                metavar="NAMES",
                help=_(
                    "Networks or methods, separated by commas. Without it --latency times every network but the "
                    "ablations, which takes hours on a slow computer, and --scenes runs all methods of the program and "
                    "all networks of --weights."
                ),
            ),
        ] = "",
        rounds: Annotated[int, typer.Option("--rounds", help=_("How often each is timed."))] = 3,
        slow_s: Annotated[
            float, typer.Option("--slow", metavar="SECONDS", help=_("What takes longer than this is timed once."))
        ] = SLOW_S,
        engine: Annotated[
            list[str] | None, typer.Option("--engine", help=_("What runs the networks. May be given several times."))
        ] = None,
        threads: Annotated[int, typer.Option("--threads", help=_("Processor cores to use; 0 is all."))] = 0,
        tuned_allocator: Annotated[
            bool, typer.Option("--tuned-allocator", help=_("Time all with large memory pages, too (Linux)."))
        ] = False,
        scenes: Annotated[
            list[str] | None,
            typer.Option(
                "--scenes", metavar="[TITLE=]FOLDER", help=_("Measure accuracy on these. May be given several times.")
            ),
        ] = None,
        weights: Annotated[
            list[Path] | None,
            typer.Option(
                "--weights", metavar="FILE", help=_("Weights of a network, .safetensors, or a folder of them.")
            ),
        ] = None,
        results: Annotated[
            Path | None,
            typer.Option(
                "--results",
                metavar="FILE",
                help=_("Keep all results in this file, with those it has. Stopped, --latency goes on from it."),
            ),
        ] = None,
        resume: Annotated[
            bool, typer.Option("--resume/--fresh", help=_("Go on with the times in --results, or take them again."))
        ] = True,
        merged: Annotated[
            list[Path] | None,
            typer.Option("--merge", metavar="FILE", help=_("Results of other runs. May be given several times.")),
        ] = None,
        markdown: Annotated[
            Path | None, typer.Option("--markdown", metavar="FILE", help=_("Write the page of all results."))
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))] = False,
    ) -> None:
        names = _names(networks)
        for path in (results, markdown):
            if path is not None:
                check_writable(path)
        known = read_all_results([*(merged or []), *([results] if results is not None and results.exists() else [])])
        if not (list_networks or latency or scaling or scenes or known != Results()):
            raise InputError(_("Nothing to measure: give --list, --latency, --scaling or --scenes; see --help."))
        where = conditions(_threads(threads))
        pieces: list[Iterator[Results]] = []
        if list_networks or markdown is not None:
            pieces.append(_counts())
        if latency or scaling:
            plans = _plans(latency, names, sizes, scaling, engine or ["torch"], rounds, slow_s, tuned_allocator)
            pieces.append(_races(plans, where, known.races if resume else ()))
        pieces += [_trial(title, folders, names, weights or [], where) for title, folders in _titled(scenes or [])]
        found = Results()
        with ended_by_ctrl_c():
            for piece in chain.from_iterable(pieces):
                found = merge(found, piece)
                if results is not None:  # a run of hours that is stopped keeps what it has
                    write_results(merge(known, found), results)
        everything = merge(known, found)
        if markdown is not None:
            _write_page(everything, markdown)
        _show(found if list_networks or latency or scaling or scenes else everything, list_networks, as_json)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in METHODS:
            find_network(name)
    return names


def _threads(given: int) -> int:
    if given < 0:
        raise InputError(_("--threads {n} cannot be used: it must be 1 or more, or 0 for all.").format(n=given))
    return given or os.cpu_count() or 1


def _counts() -> Iterator[Results]:
    from models.benchmark_counts import count

    yield Results(counts=tuple(count(name) for name in NETWORKS))


def _plans(
    latency: bool,
    names: Sequence[str],
    sizes: str,
    scaling: str,
    engines: Sequence[str],
    rounds: int,
    slow_s: float,
    tuned: bool,
) -> list[Plan]:
    """The races that are asked for, the smallest first: what they take tells how long the others will."""
    for engine in engines:
        if engine not in ENGINES:
            raise InputError(
                _("There is no engine called '{name}'. Engines: {names}.").format(name=engine, names=", ".join(ENGINES))
            )
    for option, value in (("--rounds", rounds), ("--slow", slow_s)):
        if value < 1:
            raise InputError(
                _("{option} {value} cannot be used: it must be 1 or more.").format(option=option, value=value)
            )
    allocators = ("default", "tuned") if tuned else ("default",)
    chosen = names or [name for name, spec in NETWORKS.items() if spec.role != "ablation"]
    # A method is no network: it runs as it is, once, whatever engines there are.
    entries = [(name, engine) for name in chosen for engine in (engines if name in NETWORKS else engines[:1])]
    plans = []
    if latency:
        wanted = [Size.parse(part) for part in sizes.split(",")] if sizes else PAPER_SIZES
        plans += [
            latency_plan(entries, size, rounds=rounds, allocators=allocators, slow_s=slow_s)
            for size in sorted(wanted, key=work)
        ]
    # Our networks at many sizes belong to the whole picture, not to a look at one size.
    own = [name for name, spec in NETWORKS.items() if spec.role == "own"]
    for name in _names(scaling) or (own if latency and not sizes else []):
        find_network(name)
        plans.append(scaling_plan((name, engines[0]), rounds=rounds, allocators=allocators, slow_s=slow_s))
    return plans


def _races(plans: Sequence[Plan], where: Conditions, known: Sequence[Race]) -> Iterator[Results]:
    """Every race as far as it is, again and again; the time that all will take is said as soon as it is known."""
    found = Results(races=tuple(known))
    said = False
    for plan in plans:
        with progress_bar(plan.name) as report:
            for race in run_race(plan, where, known=known, progress=report):
                said = said or _say_how_long(expected_s(plans, where, found.races))
                now = Results(races=(race,))
                found = merge(found, now)
                yield now


def _say_how_long(seconds: float | None) -> bool:
    if seconds:
        complain(
            _("All times take about {time}. Stopped, the same command with --results goes on.").format(
                time=duration(seconds)
            )
        )
    return seconds is not None


def _titled(texts: Sequence[str]) -> list[tuple[str, list[Path]]]:
    """``TITLE=FOLDER``, or a folder whose name is the title; all folders of one title are one set of scenes."""
    sets: dict[str, list[Path]] = {}
    for text in texts:
        title, _sign, folder = text.rpartition("=")
        sets.setdefault(title or Path(folder).name, []).append(Path(folder))
    return list(sets.items())


def _trial(
    title: str, folders: Sequence[Path], names: Sequence[str], weights: Sequence[Path], where: Conditions
) -> Iterator[Results]:
    from models.benchmark import Trial
    from models.benchmark_accuracy import find_candidate, find_weights, labelled_scenes, score_all, summarise
    from models.benchmark_child import use_threads

    use_threads(where.threads, with_torch=True)
    sets = [labelled_scenes(folder) for folder in folders]
    files = find_weights(weights) if weights else {}
    chosen = names or [*METHODS, *(name for name in files if name not in METHODS)]
    candidates = [find_candidate(name, weights=files) for name in chosen]
    scores = []
    for scenes in sets:
        with progress_bar(title) as report:
            scores += score_all(scenes, candidates, progress=report)
    yield Results(trials=(Trial(title, where, summarise(scores, candidates)),))


def _write_page(results: Results, path: Path) -> None:
    from models.benchmark_page import page

    with replacing(path) as temporary:
        temporary.write_text(page(results), encoding="utf-8")


def _show(results: Results, list_networks: bool, as_json: bool) -> None:
    from models.benchmark_page import page

    if as_json:
        print_json(_listed(results) if list_networks else results_as_values(results))
    elif list_networks:
        about = {"name": _("name"), "title": _("network"), "role": _("role")}
        if shutil.get_terminal_size().columns < _WIDE:
            del about["title"]
        rows = [
            (*(e[key] for key in about), *(f"{e[key]:,}" if e[key] else "-" for key in _FORMS))
            for e in _listed(results)
        ]
        headings = (*about.values(), _("training"), _("fused"), _("published"))
        whole = [place for place, key in enumerate(about) if key != "title"]
        print_table(headings, rows, whole=whole, numbers=len(_FORMS))
    else:
        print(page(results))


def _listed(results: Results) -> list[dict[str, Any]]:
    """One entry per network: what it is, and its parameters in training and in fused form."""
    entries = []
    for found in results.counts:
        spec = NETWORKS[found.network]
        about = {"name": spec.name, "title": _(spec.title), "role": spec.role, "source": spec.source}
        entries.append({**about, **{key: value for key, value in asdict(found).items() if key != "network"}})
    return entries
