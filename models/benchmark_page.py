"""The page of all results, docs/benchmarks.md: the same results give the same text."""

from collections.abc import Iterable, Sequence
from statistics import median

from models.benchmark import Accuracy, Conditions, Count, Peak, Race, Results, Timing, Training, Trial
from models.benchmark_paper import ABOUT_ABLATION, PAPER_ABLATION, PAPER_SECONDS
from models.methods import METHODS
from models.networks.registry import NETWORKS

_COLUMNS = {
    "mean_absolute_error_steps": "MAE",
    "root_mean_square_error_steps": "RMSE",
    "mean_square_error_steps": "MSE",
    "absolute_relative_error": "AbsRel",
    "square_relative_error_steps": "SqRel",
    "bumpiness": "bumpiness",
    "within_1.25^1": "δ < 1.25",
    "within_1.25^2": "δ < 1.25²",
    "within_1.25^3": "δ < 1.25³",
    "bad_share": "off by > 1 step",
    "inside_68": "in 68 %",
    "inside_95": "in 95 %",
}
_SHARES = ("within_1.25^1", "within_1.25^2", "within_1.25^3", "bad_share", "inside_68", "inside_95")
_MAE = "mean_absolute_error_steps"
_MSE = "mean_square_error_steps"

_HEAD = """\
# Benchmarks

Written by `reliefscope benchmark --markdown docs/benchmarks.md`; changes by hand are lost. Every figure was measured
with this program. Figures of papers are named as such; they were taken on other data and other computers.
"""
_ABOUT_ACCURACY = """\
Errors are in steps between two frames, means over the scenes; every pixel with a known height counts. Depth, for
AbsRel, SqRel and δ, is counted from one step below the lowest frame. Bumpiness is the curvature of the error with the
height of the stack as unit of length, from 0 to 5. *In 68 %* and *in 95 %*: how often the truth lies in the interval
that the method states; honest is 68 % and 95 %. A network without calibration states its own doubt as a standard
deviation. Seconds are the median per scene. *Trained*: steps and the stacks in each, time and recipe of the weights, as
their card says.
"""
_ABOUT_TIME = """\
All rows of a table with one allocator took turns; medians over {rounds} after a first one to warm up, over fewer where
a single run takes long, which is said. Ratios are to the fastest peer on the faster of the engines shown, with the same
allocator. *Tuned* is glibc with large pages that keeps its memory (`--tuned-allocator`). Memory is the peak of a
process that loads the network, converts it where the engine needs that, and runs it once. Weights are random: speed
does not depend on them.
"""


def page(results: Results) -> str:
    """``results`` in Markdown; parts of which nothing is known are left out."""
    parts = [_HEAD]
    if results.counts:
        parts += ["## Parameters", *_parameters(results.counts)]
    if results.trials:
        parts += ["## Accuracy", _ABOUT_ACCURACY, *(part for trial in results.trials for part in _trial(trial))]
        parts += _across(results.trials)
    parts += _ablation(results.counts, results.trials)
    latencies = sorted((r for r in results.races if r.kind == "latency"), key=lambda race: _work(race))
    if latencies:
        rounds = sorted({len(t.seconds) for race in latencies for t in race.timings if t.seconds})
        about = _ABOUT_TIME.format(rounds=_rounds(rounds))
        parts += ["## Time and memory", about, *(part for race in latencies for part in _latency(race))]
    scalings = [race for race in results.races if race.kind == "scaling"]
    if scalings:
        parts += ["## Frames and pixels", *(part for race in scalings for part in _scaling(race))]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _parameters(counts: Sequence[Count]) -> list[str]:
    rows = [
        (
            f"`{count.network}`",
            NETWORKS[count.network].title if count.network in NETWORKS else "",
            f"{count.training:,}",
            f"{count.fused:,}",
            "-" if count.published is None else f"{count.published:,}",
            "-" if count.published is None else _nearest_difference(count, count.published),
        )
        for count in counts
    ]
    return [_table(("network", "", "training", "fused", "published", "difference"), rows)]


def _nearest_difference(count: Count, published: int) -> str:
    """Sources count either form; the nearer one is compared. What the paper's tables count has a section of its own."""
    if _role(count.network) == "ablation" and published != count.fused:
        return "[see below](#ablation)"
    training = abs(count.training - published) < abs(count.fused - published)
    ours = count.training if training else count.fused
    form = " (training form)" if training else ""
    return f"{ours - published:+,}{form}" if ours != published else f"none{form}"


def _trial(trial: Trial) -> list[str]:
    overall = sorted((found for found in trial.accuracies if not found.kind), key=_mae)
    rows = [
        (
            f"`{found.method}`",
            *(_figure(found.figures.get(name), share=name in _SHARES) for name in _COLUMNS),
            f"{found.seconds:.3f}",
            _trained(found.training),
        )
        for found in overall
    ]
    scenes = max((found.count for found in overall), default=0)
    parts = [
        f"### {trial.name} ({scenes} {'scene' if scenes == 1 else 'scenes'})",
        _table(("method", *_COLUMNS.values(), "s", "trained"), rows),
        *_comparison(overall),
    ]
    kinds = sorted({found.kind for found in trial.accuracies if found.kind})
    if len(kinds) > 1:
        cells = {(found.method, found.kind): found.figures.get(_MAE) for found in trial.accuracies}
        by_kind = [(kind, *(_figure(cells.get((found.method, kind))) for found in overall)) for kind in kinds]
        parts += ["MAE by kind of scene:", _table(("", *(f"`{found.method}`" for found in overall)), by_kind)]
    return [*parts, _measured(trial.conditions)]


def _comparison(overall: Sequence[Accuracy]) -> list[str]:
    """Each own network against the best peer and the best model-based method."""
    lines = []
    for own in (found for found in overall if _role(found.method) == "own" and _known(found)):
        others = []
        for what, role in (("best peer", "peer"), ("best model-based method", "model-based")):
            best = next((found for found in overall if _role(found.method) == role and _known(found)), None)
            if best is not None and _mae(best) > 0:
                change = _mae(own) / _mae(best) - 1
                others.append(f"{abs(change):.0%} {'below' if change <= 0 else 'above'} the {what} (`{best.method}`)")
        if others:
            lines.append(f"- MAE of `{own.method}`: {', '.join(others)}.")
    return ["\n".join(lines)] if lines else []


def _trained(training: Training | None) -> str:
    if training is None:
        return "-"
    return f"{training.steps:,} x {training.batch}, {training.seconds / 60:.0f} min, {training.recipe}"


def _across(trials: Sequence[Trial]) -> list[str]:
    """Every method on every set of scenes."""
    if len(trials) < 2:
        return []
    found = {
        (one.method, trial.name): one.figures.get(_MAE) for trial in trials for one in trial.accuracies if not one.kind
    }
    methods = dict.fromkeys(method for method, _trial in found)
    rows = [(f"`{method}`", *(_figure(found.get((method, trial.name))) for trial in trials)) for method in methods]
    headings = ("method", *(trial.name for trial in trials))
    return ["### MAE on every set of scenes", _table(headings, rows)]


def _ablation(counts: Sequence[Count], trials: Sequence[Trial]) -> list[str]:
    """The paper's variants, ours beside it: on the first set of scenes on which one of them was tried."""
    variants = {variant.network for variant in PAPER_ABLATION}
    known = {count.network: count for count in counts if count.network in variants}
    trial = next((t for t in trials if any(found.method in variants for found in t.accuracies)), None)
    if not known and trial is None:
        return []
    tried = {} if trial is None else {found.method: found for found in trial.accuracies if not found.kind}
    rows = []
    for table, what, network, published, paper_mse in PAPER_ABLATION:
        count, found = known.get(network), tried.get(network)
        sizes = (
            ["-"] * 3 if count is None else [f"{count.training:,}", f"{count.fused:,}", f"{count.fused - published:+,}"]
        )
        errors = [None if found is None else found.figures.get(name) for name in (_MSE, _MAE)]
        row = [str(table), what, f"`{network}`", *sizes[:2], f"{published:,}", sizes[2], f"{paper_mse:.4f}"]
        rows.append([*row, *map(_figure, errors)])
    headings = (
        "table",
        "variant",
        "network",
        "training",
        "fused",
        "paper",
        "fused - paper",
        "MSE, paper",
        "MSE",
        "MAE",
    )
    where = [] if trial is None else [f"MSE and MAE without *paper* are those on the {trial.name}."]
    return ["## Ablation", ABOUT_ABLATION, *where, _table(headings, rows)]


def _latency(race: Race) -> list[str]:
    allocators = list(dict.fromkeys(timing.allocator for timing in race.timings))
    peaks = {(peak.network, peak.engine): peak for peak in race.peaks}
    times = {(t.network, t.engine, t.allocator): t for t in race.timings}
    fastest = {allocator: _least(_peer_seconds(race, allocator)) for allocator in allocators}
    leanest = _least(p.peak_bytes for p in race.peaks if _role(p.network) == "peer" and p.peak_bytes is not None)
    entries = list(dict.fromkeys((timing.network, timing.engine) for timing in race.timings))
    most = max((len(timing.seconds) for timing in race.timings), default=0)
    rows = []
    for network, engine in sorted(entries, key=lambda entry: _seconds(times.get((*entry, allocators[0])))):
        cells = [f"`{network}`", engine if network in NETWORKS else ""]
        for allocator in allocators:
            cells += _time_cells(times.get((network, engine, allocator)), fastest[allocator], most)
        rows.append((*cells, *_memory_cells(peaks.get((network, engine)), leanest)))
    headings = ["network", "engine"]
    for allocator in allocators:
        headings += [f"s, {allocator}", "ratio"]
    parts = [f"### {race.name}", _table((*headings, "MiB", "ratio"), rows)]
    if race.name in PAPER_SECONDS:
        own, peer = PAPER_SECONDS[race.name]
        parts.append(f"The paper: {own} s against {peer} s of its best peer, ratio {own / peer:.2f}.")
    return [*parts, _measured(race.conditions)]


def _scaling(race: Race) -> list[str]:
    allocators = list(dict.fromkeys(timing.allocator for timing in race.timings))
    times = {(timing.size, timing.allocator): timing for timing in race.timings}
    peaks = {peak.size: peak for peak in race.peaks}
    rows = []
    for size in dict.fromkeys(timing.size for timing in race.timings):
        cells = [f"{size.rows} x {size.columns}", str(size.frames)]
        for allocator in allocators:
            seconds = _seconds(times.get((size, allocator)))
            work = size.rows * size.columns * size.frames
            cells += [f"{seconds:.3f}", f"{seconds / work * 1e9:.0f}"] if seconds < float("inf") else ["-", "-"]
        rows.append((*cells, _memory_cells(peaks.get(size), None)[0]))
    headings = ["pixels", "frames"]
    for allocator in allocators:
        headings += [f"s, {allocator}", "ns per pixel and frame"]
    engine = race.timings[0].engine if race.timings else ""
    return [f"### `{race.name}`, {engine}", _table((*headings, "MiB"), rows), _measured(race.conditions)]


def _rounds(counts: Sequence[int]) -> str:
    return f"{' or '.join(map(str, counts)) or 'no'} {'round' if counts == [1] else 'rounds'}"


def _peer_seconds(race: Race, allocator: str) -> Iterable[float]:
    return (
        median(timing.seconds)
        for timing in race.timings
        if timing.allocator == allocator and timing.seconds and _role(timing.network) == "peer"
    )


def _time_cells(timing: Timing | None, fastest: float | None, most_rounds: int) -> list[str]:
    if timing is None or not timing.seconds:
        return [(timing.error if timing else None) or "-", "-"]
    seconds, rounds = median(timing.seconds), len(timing.seconds)
    fewer = f" ({_rounds([rounds])})" if rounds < most_rounds else ""
    return [f"{seconds:.3f}{fewer}", "-" if fastest is None else f"{seconds / fastest:.3f}"]


def _memory_cells(peak: Peak | None, leanest: float | None) -> list[str]:
    if peak is None or peak.peak_bytes is None:
        return ["-", "-"]
    return [f"{peak.peak_bytes / 2**20:.0f}", "-" if leanest is None else f"{peak.peak_bytes / leanest:.2f}"]


def _measured(where: Conditions) -> str:
    """One line: when, on what, with what."""
    memory = "" if where.memory_gib is None else f", {where.memory_gib:g} GiB"
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    threads = f"{where.threads} {'thread' if where.threads == 1 else 'threads'}"
    return f"{where.date}, {where.processor}, {where.cores} cores{memory}, {threads}; {versions}."


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _figure(value: float | None, *, share: bool = False) -> str:
    return "-" if value is None else f"{value:.1%}" if share else f"{value:.3f}"


def _role(name: str) -> str:
    return NETWORKS[name].role if name in NETWORKS else "model-based" if name in METHODS else ""


def _known(found: Accuracy) -> bool:
    return found.figures.get(_MAE) is not None


def _mae(found: Accuracy) -> float:
    value = found.figures.get(_MAE)
    return float("inf") if value is None else value


def _seconds(timing: Timing | None) -> float:
    return median(timing.seconds) if timing is not None and timing.seconds else float("inf")


def _least(values: Iterable[float]) -> float | None:
    return min(values, default=None)


def _work(race: Race) -> tuple[int, str]:
    size = race.timings[0].size if race.timings else None
    return (0 if size is None else size.rows * size.columns * size.frames, race.name)
