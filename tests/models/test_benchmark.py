"""Benchmarks: what was measured is kept, merged and printed; measuring itself on the smallest stacks."""

import contextlib
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from models import benchmark_latency
from models.benchmark import (
    Accuracy,
    Conditions,
    Count,
    Peak,
    Race,
    Results,
    Size,
    Timing,
    Training,
    Trial,
    conditions,
    merge,
    read_results,
    write_results,
)
from models.benchmark_accuracy import find_candidate, find_weights, labelled_scenes, score_all, summarise
from models.benchmark_counts import count
from models.benchmark_latency import TUNED_ALLOCATOR, Plan, expected_s, latency, run_race, scaling
from models.benchmark_page import page
from models.benchmark_paper import PAPER_ABLATION
from models.errors import InputError
from models.evaluate import compare, figures
from models.focal_stack import FocalStack
from models.height_map import HeightMap
from models.networks import registry
from models.networks.registry import NETWORKS, build
from models.training.scene import Scene
from models.training.splits import write_scene
from tests.trained import save_weights, ship

NAME = "gplws-net-2023"
HERE = Conditions("2026-01-02", "A processor", 2, 2, 16.0, {"torch": "2.13"})
SMALL = Size(256, 256, 5)


@pytest.fixture
def family(monkeypatch):
    """A list of networks with every role, whatever is registered."""
    spec = NETWORKS[NAME]
    roles = {"own-net": "own", "fast-peer": "peer", "lean-peer": "peer"}
    ours = {name: replace(spec, name=name, role=role, published_parameters=None) for name, role in roles.items()}
    monkeypatch.setattr(registry, "NETWORKS", {NAME: spec, **ours})
    monkeypatch.setattr("models.benchmark_page.NETWORKS", {NAME: spec, **ours})


def accuracy(method: str, error: float, kind: str = "", spread: float | None = None) -> Accuracy:
    truth = np.tile(np.arange(16.0), (16, 1))
    shape = truth.shape
    found = HeightMap((truth + error).astype(np.float32), np.ones(shape, np.float32), np.zeros(shape, np.uint8))
    if spread is not None:
        found = replace(found, interval68_um=np.full(shape, spread, np.float32))
    compared = compare(found, truth, step_um=1.0, z_um=np.arange(16.0))
    return Accuracy(method, kind, 3, 0.25, figures(compared))


def timing(network: str, *seconds: float, allocator: str = "default", engine: str = "torch") -> Timing:
    return Timing(network, engine, allocator, SMALL, seconds)


# ---------------------------------------------------------------- sizes, storage, merging


@given(rows=st.integers(8, 9999), columns=st.integers(8, 9999), frames=st.integers(3, 999))
def test_sizes_are_read_as_they_are_printed(rows, columns, frames):
    size = Size(rows, columns, frames)
    assert Size.parse(str(size)) == size


@pytest.mark.parametrize("text", ["", "256", "256x256", "256x256x2", "4x4x5", "axbxc", "256 x 256 x 5", "-8x8x3"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="256x256x5"):
        Size.parse(text)


def some_results() -> Results:
    return Results(
        counts=(Count(NAME, 562_473, 540_273, 540_273),),
        races=(
            Race(
                "latency",
                str(SMALL),
                HERE,
                (timing("own-net", 0.02, 0.03, 0.01), timing("fast-peer", *[0.4] * 3), timing("lean-peer", *[0.8] * 3)),
                (
                    Peak("own-net", "torch", SMALL, 300 << 20),
                    Peak("fast-peer", "torch", SMALL, 900 << 20),
                    Peak("lean-peer", "torch", SMALL, None, "RuntimeError: no"),
                ),
            ),
        ),
        trials=(Trial("test scenes", HERE, (accuracy("own-net", 0.1, spread=0.2), accuracy("mdml", 0.4))),),
    )


def test_results_survive_their_file(tmp_path):
    path = tmp_path / "results.json"
    write_results(some_results(), path)
    assert read_results(path) == some_results()
    assert json.loads(path.read_text())["counts"][0]["fused"] == 540_273


@pytest.mark.parametrize("content", ["", "[]", '{"counts": [1]}', '{"races": [{"kind": "latency"}]}', "\0"])
def test_files_that_hold_no_results(tmp_path, content):
    path = tmp_path / "results.json"
    with pytest.raises(InputError, match="no file"):
        read_results(path)
    path.write_text(content)
    with pytest.raises(InputError, match="holds no results"):
        read_results(path)


def test_a_newer_race_replaces_the_older_as_a_whole_and_methods_join_a_trial():
    older = some_results()
    alone = Race("latency", str(SMALL), replace(HERE, date="2026-02-03"), (timing("own-net", 0.5),))
    other = Race("scaling", "own-net", HERE, (timing("own-net", 0.5),))
    newer = Results(
        counts=(Count("own-net", 2, 1, None),),
        races=(alone, other),
        trials=(Trial("test scenes", alone.conditions, (accuracy("mdml", 0.3), accuracy("sml", 0.5))),),
    )
    merged = merge(older, newer)
    assert merged.races == (alone, other)
    assert [c.network for c in merged.counts] == [NAME, "own-net"]
    (trial,) = merged.trials
    assert trial.conditions.date == "2026-02-03"
    assert {a.method: round(a.figures["mean_absolute_error"] or 0, 3) for a in trial.accuracies} == {
        "own-net": 0.1,
        "mdml": 0.3,
        "sml": 0.5,
    }
    assert merge(merged, newer) == merged
    assert merge(Results(), older) == older == merge(older, Results())


def test_conditions_name_the_processor_and_the_versions():
    here = conditions(3)
    assert here.processor
    assert here.threads == 3
    assert here.versions["torch"].startswith("2.")


# ---------------------------------------------------------------- the page


def test_page(family):
    text = page(some_results())
    assert text == page(some_results())
    assert f"| `{NAME}` | GPLWS-Net as published | 562,473 | 540,273 | 540,273 | none |" in text
    assert "| `own-net` | 0.100 | 0.100 | 0.010 |" in text
    assert "MAE of `own-net`: 75% below the best model-based method (`mdml`)." in text
    # medians; ratios to the fastest and the leanest peer
    assert "| `own-net` | torch | 0.020 | 0.050 | 300 | 0.33 |" in text
    assert "| `fast-peer` | torch | 0.400 | 1.000 | 900 | 1.00 |" in text
    assert "| `lean-peer` | torch | 0.800 | 2.000 | - | - |" in text
    assert "2.617 s against 3.02 s" in text
    assert "2026-01-02, A processor, 2 cores, 16 GiB, 2 threads; torch 2.13." in text
    assert "on every set of scenes" not in text, "there is but one"


def test_page_of_nothing_is_its_head():
    assert page(Results()).startswith("# Benchmarks\n")
    assert "##" not in page(Results())


def test_both_allocators_stand_side_by_side_with_ratios_of_their_own(family):
    timings = (
        timing("own-net", 0.1),
        timing("fast-peer", 1.0),
        timing("fast-peer", 0.8, engine="openvino"),
        timing("own-net", 0.05, allocator="tuned"),
        timing("fast-peer", 0.5, allocator="tuned"),
        timing("fast-peer", 0.2, allocator="tuned", engine="openvino"),
    )
    text = page(Results(races=(Race("latency", str(SMALL), HERE, timings),)))
    assert "| network | engine | s, default | ratio | s, tuned | ratio | MiB | ratio |" in text
    assert "| `own-net` | torch | 0.100 | 0.125 | 0.050 | 0.250 | - | - |" in text  # peers on their best engine


def test_a_time_of_fewer_rounds_says_so(family):
    timings = (timing("own-net", 0.1, 0.2, 0.3), timing("fast-peer", 61.0))
    text = page(Results(races=(Race("latency", str(SMALL), HERE, timings),)))
    assert "| `own-net` | torch | 0.200 | 0.003 |" in text
    assert "| `fast-peer` | torch | 61.000 (1 round) | 1.000 |" in text


def test_what_failed_says_why(family):
    failed = Timing("lean-peer", "torch", "default", SMALL, (), "RuntimeError: sizes | must match")
    text = page(Results(races=(Race("latency", str(SMALL), HERE, (timing("own-net", 1.0), failed)),)))
    assert "| `lean-peer` | torch | RuntimeError: sizes \\| must match | - | - | - |" in text
    assert "| `own-net` | torch | 1.000 | - | - | - |" in text


def test_ablation_stands_beside_the_paper():
    counts = (count(NAME), Count("gplws-net-2023-plain", 2_029_113, 1_954_533, 754_020))
    trial = Trial("test scenes", HERE, (accuracy("gplws-net-2023-plain", 0.2), accuracy("mdml", 0.3)))
    text = page(Results(counts=counts, trials=(trial,)))
    part = text[text.index("## Ablation") :]
    assert part.count("| `gplws-net-2023` |") == 2, "in table 1 and, smaller, in table 2"
    published = "| 1 | additive links | `gplws-net-2023` | 562,473 | 540,273 | 540,273 | +0 | 0.0275 | - | - |"
    plain = "| `gplws-net-2023-plain` | 2,029,113 | 1,954,533 | 754,020 | +1,200,513 | 0.0468 | 0.040 | 0.200 |"
    assert published in part
    assert plain in part
    assert "| 754,020 | [see below](#ablation) |" in text[: text.index("## Ablation")]
    assert "those on the test scenes" in part
    assert "mdml" not in part
    assert "Ablation" not in page(Results(counts=(Count("fvnet", 1, 1, None),)))


def test_the_variants_of_the_paper_are_networks_of_the_program():
    for variant in PAPER_ABLATION:
        assert NETWORKS[variant.network].role in ("ablation", "published")
    for name, spec in NETWORKS.items():
        if spec.role in ("ablation", "published"):
            printed = [variant.parameters for variant in PAPER_ABLATION if variant.network == name]
            assert spec.published_parameters in printed


def test_every_method_on_every_set_of_scenes(family):
    here = Trial("test scenes", HERE, (accuracy("mdml", 0.2), accuracy("own-net", 0.1), accuracy("mdml", 0.9, "coin")))
    there = Trial("macro", HERE, (accuracy("own-net", 0.3), accuracy("fast-peer", 0.5)))
    text = page(Results(trials=(here, there)))
    part = text[text.index("### MAE on every set") :]
    assert "| method | test scenes | macro |" in part
    assert "| `own-net` | 0.100 | 0.300 |" in part
    assert "| `mdml` | 0.200 | - |" in part
    assert "| `fast-peer` | - | 0.500 |" in part


def test_how_long_a_network_was_trained_stands_beside_its_errors(family):
    trained = replace(accuracy("own-net", 0.1), training=Training(12_345, 4, 903.0, "comparison"))
    text = page(Results(trials=(Trial("test scenes", HERE, (trained, accuracy("mdml", 0.2))),)))
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| `")}
    assert rows["`own-net`"].endswith("| 0.250 | 12,345 x 4, 15 min, comparison |")
    assert rows["`mdml`"].endswith("| 0.250 | - |")


def test_scaling_tells_the_cost_of_a_pixel(family):
    sizes = (Size(100, 100, 10), Size(100, 100, 20))
    timings = tuple(Timing("own-net", "torch", "default", s, (s.frames / 100,)) for s in sizes)
    peaks = (Peak("own-net", "torch", sizes[0], 1 << 30),)
    text = page(Results(races=(Race("scaling", "own-net", HERE, timings, peaks),)))
    assert "| 100 x 100 | 10 | 0.100 | 1000 | 1024 |" in text
    assert "| 100 x 100 | 20 | 0.200 | 1000 | - |" in text


def test_errors_by_kind_of_scene(family):
    rows = (accuracy("mdml", 0.2), accuracy("mdml", 0.1, "gravure"), accuracy("mdml", 0.3, "scratches"))
    text = page(Results(trials=(Trial("test scenes", HERE, rows),)))
    assert "| gravure | 0.100 |" in text
    assert "| scratches | 0.300 |" in text


# ---------------------------------------------------------------- accuracy


@pytest.fixture
def scenes(tmp_path) -> Path:
    """Two sample files with tilted planes of known height."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    texture = np.random.default_rng(1).integers(0, 2, (32, 32)) * 160.0 + 40
    truth = np.tile(np.linspace(1, 3, 32, dtype=np.float32), (32, 1))
    for name, kind in (("a", "plane"), ("b", "slope")):
        blur = np.exp(-np.abs(truth[None] - np.arange(5)[:, None, None]))
        frames = (texture * blur + 120 * (1 - blur)).astype(np.uint8)
        scene = Scene(name, kind, FocalStack(frames, 10 + 2.0 * np.arange(5)), 10 + 2 * truth)
        write_scene(folder / f"{name}.h5", scene)
    return folder


def test_scenes_of_a_folder_are_scored_by_kind(scenes):
    steps: list[tuple[int, int]] = []
    candidates = [find_candidate("mdml"), find_candidate("sml")]
    scores = score_all(labelled_scenes(scenes), candidates, progress=lambda *done: steps.append(done))
    assert steps == [(1, 2), (2, 2)]
    rows = summarise(scores, candidates)
    assert [(row.method, row.kind, row.count) for row in rows] == [
        (method, kind, n) for method in ("mdml", "sml") for kind, n in (("", 2), ("plane", 1), ("slope", 1))
    ]
    assert all(0 < (row.figures["mean_absolute_error_steps"] or 9) < 0.5 for row in rows)
    assert rows[0].figures["mean_absolute_error"] == pytest.approx(2 * rows[0].figures["mean_absolute_error_steps"])
    assert rows[0].figures["pixels"] == 2 * 32 * 32
    assert all(row.seconds > 0 for row in rows)


def test_a_network_is_scored_with_its_weights(scenes, tmp_path):
    weights = tmp_path / "w.safetensors"
    torch.manual_seed(0)
    save_file(build(NAME).state_dict(), weights, {"network": NAME})
    files = find_weights([tmp_path])
    assert files == {NAME: weights}
    candidate = find_candidate(NAME, weights=files)
    (row, *_kinds) = summarise(score_all(labelled_scenes(scenes / "a.h5"), [candidate]), [candidate])
    assert row.count == 1
    assert row.weights_sha256 is not None
    assert len(row.weights_sha256) == 64
    assert 0 <= (row.figures["inside_68"] or 0) <= (row.figures["inside_95"] or 0) <= 1
    assert 10 < 10 + (row.figures["mean_absolute_error"] or 0) < 18  # heights stay within the stack


def card_beside(weights: Path, name: str, sha256: str) -> None:
    card = {"sha256": sha256, "steps": 7, "seconds": 90.5, "recipe": {"name": "short", "batch": 2, "seed": 0}}
    weights.with_name(name).write_text(json.dumps(card))


@pytest.mark.parametrize("name", ["card.json", "w.json"])
def test_the_card_beside_the_weights_tells_how_they_were_trained(tmp_path, name):
    weights = tmp_path / "w.safetensors"
    save_file(build(NAME).state_dict(), weights, {"network": NAME})
    assert find_candidate(NAME, weights={NAME: weights}).training is None
    weights.with_name(name).write_text("no card at all")
    assert find_candidate(NAME, weights={NAME: weights}).training is None
    card_beside(weights, name, "of other weights")
    assert find_candidate(NAME, weights={NAME: weights}).training is None
    card_beside(weights, name, hashlib.sha256(weights.read_bytes()).hexdigest())
    found = find_candidate(NAME, weights={NAME: weights})
    assert found.training == Training(7, 2, 90.5, "short")
    assert found.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_calibrated_weights_of_our_networks_run_as_in_the_program(scenes, tmp_path, monkeypatch):
    """With intervals of their calibration; without one, what they say themselves."""
    ship(monkeypatch, tmp_path / "shipped", "gplws-net-live")
    for calibrated in (True, False):
        weights = save_weights(tmp_path / str(calibrated), "gplws-net-live", calibrated=calibrated, seed=1)
        candidate = find_candidate("gplws-net-live", weights={"gplws-net-live": weights})
        found = candidate.run(labelled_scenes(scenes / "a.h5")[0].stack, lambda done, total: None)
        assert found.interval68_um is not None
        assert np.allclose(found.interval95_um, 1.96 * found.interval68_um) != calibrated
        assert candidate.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    shipped = find_candidate("gplws-net-live")
    assert shipped.weights_sha256 is not None
    assert find_candidate("mdml").weights_sha256 is None


def test_what_cannot_be_scored_is_refused(scenes, tmp_path):
    with pytest.raises(InputError, match=r"no method or network called 'abc'.*mdml.*gplws"):
        find_candidate("abc")
    with pytest.raises(InputError, match="no file or folder"):
        labelled_scenes(tmp_path / "nowhere")
    with h5py.File(scenes / "b.h5", "r+") as file:
        del file["label"]
    with pytest.raises(InputError, match=r"b\.h5 has no label"):
        list(labelled_scenes(scenes))
    with h5py.File(scenes / "b.h5", "r+") as file:
        file["label/height_um"] = np.zeros((3, 4))
    with pytest.raises(InputError, match="another size"):
        list(labelled_scenes(scenes))
    with h5py.File(scenes / "b.h5", "r+") as file:
        del file["label"]
        file["label/height_um"] = np.full((32, 32), np.nan)
    with pytest.raises(InputError, match="nothing to compare"):
        score_all(labelled_scenes(scenes / "b.h5"), [find_candidate("mdml")])


def test_weights_by_network(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
    with pytest.raises(InputError, match=r"no \.safetensors"):
        find_weights([tmp_path / "a"])
    for folder in (tmp_path / "a", tmp_path / "b"):
        save_file({"x": torch.zeros(1)}, folder / "w.safetensors", {"network": NAME})
    with pytest.raises(InputError, match="both weights of"):
        find_weights([tmp_path / "a", tmp_path / "b"])


# ---------------------------------------------------------------- counts, times, memory


def test_counts_of_the_published_network():
    assert count(NAME) == Count(NAME, 562_473, 540_273, 540_273)


def raced(plan: Plan, where: Conditions = HERE, **options) -> Race:
    """The whole race."""
    *_parts, whole = run_race(plan, where, **options)
    return whole


def test_a_race_of_a_network_and_a_method():
    steps: list[tuple[int, int]] = []
    size = Size(32, 32, 3)
    here = replace(HERE, threads=1)
    plan = latency([(NAME, "torch"), ("mdml", "torch")], size, rounds=2)
    found = raced(plan, here, progress=lambda *s: steps.append(s))
    assert (found.kind, found.name, found.conditions) == ("latency", "32x32x3", here)
    assert [(t.network, t.allocator, t.size, len(t.seconds), t.error) for t in found.timings] == [
        (NAME, "default", size, 2, None),
        ("mdml", "default", size, 2, None),
    ]
    assert all(seconds > 0 for t in found.timings for seconds in t.seconds)
    assert steps[-1] == (8, 8)
    if sys.platform == "linux":
        network, method = (peak.peak_bytes for peak in found.peaks)
        assert network is not None
        assert method is not None
        assert 20 << 20 < method < network < 2 << 30


def test_what_takes_long_is_timed_once_by_the_process_itself():
    plan = latency([("mdml", "torch"), ("sml", "torch")], Size(32, 32, 3), rounds=3, slow_s=1e-9)
    found = raced(plan, replace(HERE, threads=1))
    assert [len(timing.seconds) for timing in found.timings] == [1, 1]


class Child:
    """Answers as the process that measures: ``seconds`` by network; a network of "huge" ends the process."""

    def __init__(self, monkeypatch, **seconds: float) -> None:
        self.tasks: list[tuple[list[str], int, str]] = []
        self.seconds = seconds
        monkeypatch.setattr(benchmark_latency, "_answers", self.answers)

    def answers(self, task, allocator, at_end=None):
        self.tasks.append(([turn.network for turn in task.turns], task.rounds, allocator))
        left = list(task.turns)
        for number in range(task.rounds + 1):
            for turn in tuple(left):
                if turn.network == "huge":
                    raise benchmark_latency._Ended("no memory", turn)
                if turn.network == "choosy":
                    left.remove(turn)
                    yield turn, {"error": "too small"}
                    continue
                seconds = self.seconds.get(turn.network, 0.5)
                yield turn, {"seconds": seconds}
                if number and seconds > task.slow_s:
                    left.remove(turn)
            yield None, {"round": number}
        if at_end is not None:
            at_end["peak_bytes"] = 1 << 20

    def times(self) -> list[tuple[list[str], int, str]]:
        """The tasks that timed; the others look at the memory."""
        return [task for task in self.tasks if task[1]]


def entries(*names: str) -> list[tuple[str, str]]:
    return [(name, "torch") for name in names]


def test_a_network_that_the_system_ends_is_left_out_and_the_others_are_timed(monkeypatch):
    child = Child(monkeypatch)
    found = raced(latency(entries("a", "huge", "choosy"), SMALL, rounds=2))
    assert child.times() == [(["a", "huge", "choosy"], 2, "default"), (["a", "choosy"], 2, "default")]
    assert [(t.network, t.seconds, t.error) for t in found.timings] == [
        ("a", (0.5, 0.5), None),
        ("huge", (), "no memory"),
        ("choosy", (), "too small"),
    ]
    assert [p.error for p in found.peaks] == [None, "no memory", "too small"]


def test_a_race_that_was_stopped_goes_on_with_the_rounds_that_are_missing(monkeypatch):
    child = Child(monkeypatch)
    plan = latency(entries("a", "b", "choosy"), SMALL, rounds=3, allocators=("default", "tuned"))
    stopped = None
    for part in run_race(plan, HERE):
        stopped = part
        if len(part.timings[0].seconds) == 2:
            break
    assert stopped is not None
    assert [len(timing.seconds) for timing in stopped.timings] == [2, 2, 0, 0, 0, 0]
    child.tasks.clear()
    found = raced(plan, replace(HERE, date="2027-01-01"), known=[stopped])
    assert child.times() == [(["a", "b"], 1, "default"), (["a", "b", "choosy"], 3, "tuned")]
    assert [len(timing.seconds) for timing in found.timings] == [3, 3, 0, 3, 3, 0]
    assert len(found.peaks) == 3
    child.tasks.clear()
    assert raced(plan, HERE, known=[found]) == replace(found, conditions=HERE)
    assert not child.tasks
    more = raced(replace(plan, rounds=5), HERE, known=[found])
    assert child.times() == [(["a", "b"], 2, "default"), (["a", "b"], 2, "tuned")]
    assert {len(timing.seconds) for timing in more.timings} == {0, 5}


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (replace(HERE, threads=1), ("a", "b")),
        (replace(HERE, versions={"torch": "3"}), ("a", "b")),
        (HERE, ("a", "b", "c")),
        (HERE, ("a",)),
    ],
)
def test_times_of_other_conditions_or_among_others_are_taken_anew(monkeypatch, where, names):
    child = Child(monkeypatch)
    before = raced(latency(entries("a", "b"), SMALL, rounds=2))
    child.tasks.clear()
    found = raced(latency(entries(*names), SMALL, rounds=2), where, known=[before])
    assert child.times() == [(list(names), 2, "default")]
    assert found.conditions == where


def test_what_takes_long_is_timed_once_and_not_again(monkeypatch):
    child = Child(monkeypatch, slow=61.0)
    plan = latency(entries("a", "slow"), SMALL, rounds=3)
    found = raced(plan)
    assert [len(timing.seconds) for timing in found.timings] == [3, 1]
    child.tasks.clear()
    raced(plan, known=[found])
    assert not child.tasks


def test_the_time_of_a_race_is_told_from_other_sizes(monkeypatch):
    Child(monkeypatch, slow=10.0, a=1.0)
    tenfold = Size(SMALL.rows * 10, SMALL.columns, SMALL.frames)
    plans = [
        latency(entries("a", "slow", "choosy"), size, rounds=3, allocators=("default", "tuned"))
        for size in (SMALL, tenfold)
    ]
    assert expected_s(plans, HERE, ()) is None
    first = raced(plans[0])
    start = benchmark_latency.START_S
    # 3 rounds and 1 to warm up for each of 2 allocators and 1 for the memory; of the slow one 1, 1 and 1
    assert expected_s(plans, HERE, [first]) == pytest.approx(10 * 9 + 100 * 5 + 3 * start)
    assert expected_s(plans[:1], HERE, [first]) == 0
    begun = next(run_race(plans[0], HERE))
    assert expected_s(plans[:1], HERE, [begun]) == pytest.approx((1 + 10) * (3 + 4 + 1) + 3 * start)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_the_end_of_the_process_is_told_in_words(monkeypatch):
    kill = "import os; print('{\"start\": 0}', flush=True); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(benchmark_latency, "_child", fake_child(kill))
    found = raced(scaling(("a", "torch"), rounds=1, sizes=(SMALL, Size(64, 64, 5))))
    assert [t.error for t in found.timings] == ["ended by the system, most likely for want of memory"] * 2
    monkeypatch.setattr(benchmark_latency, "_child", fake_child("raise SystemExit(3)"))
    with pytest.raises(benchmark_latency._Ended, match="code 3"):
        raced(latency(entries("a"), SMALL, rounds=1))


def fake_child(script: str):
    """A process that answers as ``script`` says, in place of the one that measures."""

    @contextlib.contextmanager
    def child(task, allocator):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            yield process

    return child


def test_one_network_at_many_sizes(monkeypatch):
    Child(monkeypatch)
    sizes = (SMALL, Size(64, 64, 5))
    found = raced(scaling(("a", "torch"), rounds=1, sizes=sizes))
    assert (found.kind, found.name, [timing.size for timing in found.timings]) == ("scaling", "a", list(sizes))
    assert [peak.size for peak in found.peaks] == list(sizes)


def test_the_tuned_allocator_is_set_where_the_networks_run(monkeypatch):
    seen: dict[str, str] = {}

    class Process:
        def __init__(self, words, env, **pipes):
            seen.update(env)
            raise OSError("not started")

    monkeypatch.setattr(subprocess, "Popen", Process)
    with pytest.raises(OSError, match="not started"):
        raced(latency([(NAME, "torch")], SMALL, rounds=1, allocators=("tuned",)))
    assert TUNED_ALLOCATOR.items() <= seen.items()
    assert seen["OMP_NUM_THREADS"] == "2"
