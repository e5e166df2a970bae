"""The training loop: what it learns, what a seed promises, and what a kill, a pause or a NaN must not break."""

import json
import subprocess
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.errors import Cancelled, InputError, OutputError
from models.networks.prediction import expectation
from models.networks.registry import build
from models.networks.reparam import fuse
from models.training.checkpoint import MovingAverage
from models.training.loop import train
from models.training.recipe import load_recipe
from models.training.scoring import score
from tests.models.training_child import run, tiny_recipe
from tests.models.training_data import TinyNet, render, write_shard


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shards(tmp_path) -> Path:
    write_shard(tmp_path / "shards")
    return tmp_path / "shards"


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


# ---------------------------------------------------------------- what it learns


def test_it_learns(shards, tmp_path):
    """The error on the held-out scenes falls far below that of an untrained network."""
    write_shard(tmp_path / "held", 7, scenes=6)
    recipe = tiny_recipe(
        steps=200,
        batch=4,
        optimiser={"learning_rate": 0.02},
        stages=[{"crop": [24, 24], "frames": [5, 8]}],
        validation=str(tmp_path / "held"),
        validation_scenes=4,
        validations=3,
        ema=0.9,
    )
    seen = []
    result = run(shards, tmp_path / "out", recipe, progress=seen.append)
    untrained = score(TinyNet(), [render(7000 + i) for i in range(4)], 1, torch.device("cpu"))
    assert result.validation.mean_absolute_steps < 0.6 * untrained.mean_absolute_steps
    assert result.validation.scenes == 4
    assert set(result.validation.by_kind) == {"hills"}
    assert sum(now.validation is not None for now in seen) == 3
    assert seen[-1].fraction == 1
    assert seen[-1].remaining_s == 0


@pytest.mark.parametrize(("precision", "channels_last"), [("off", False), ("bf16", True)])
def test_the_published_network_trains_and_its_weights_fuse(shards, tmp_path, precision, channels_last):
    recipe = load_recipe("published").changed(
        epochs=None,
        steps=3,
        batch=2,
        precision=precision,
        channels_last=channels_last,
        stages=[{"crop": [32, 32], "frames": [4, 4]}],
    )
    result = run(shards, tmp_path / "out", recipe)
    assert (result.steps, result.finished, result.skipped) == (3, True, 0)
    network = build("gplws-net-2023")
    network.load_state_dict(load_file(tmp_path / "out" / "weights.safetensors"))  # the training form
    fuse(network)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (card["network"], card["steps"], card["data"]) == (
        "gplws-net-2023",
        3,
        {"folders": ["shards"], "stacks": 4},
    )
    assert card["recipe"]["optimiser"]["learning_rate"] == 1e-3
    assert card["sha256"] == result.sha256
    modes = {(tmp_path / "out" / name).stat().st_mode for name in ("weights.safetensors", "card.json")}
    assert len(modes) == 1, "whoever may read the card may read the weights"
    assert subprocess.check_output(["sha256sum", tmp_path / "out" / "weights.safetensors"], text=True).startswith(
        result.sha256
    )


def test_epochs_count_the_stacks(shards, tmp_path):
    assert run(shards, tmp_path / "out", tiny_recipe(steps=None, epochs=3)).steps == 6  # 3 x 4 stacks, 2 at a time


def test_the_log_has_a_line_per_report(shards, tmp_path):
    run(shards, tmp_path / "out", tiny_recipe(steps=5))
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert {"loss", "charbonnier", "laplace", "focus", "side", "learning_rate", "fraction", "skipped"} <= set(lines[0])


# ---------------------------------------------------------------- the same again


def test_a_seed_gives_the_same_weights_twice_and_another_seed_others(shards, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(shards, tmp_path / name, tiny_recipe(seed=seed, loaders=1 if name == "a" else 3))
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_a_paused_run_goes_on_as_if_it_had_not_been(shards, tmp_path):
    run(shards, tmp_path / "whole", tiny_recipe())
    parts, paused = tmp_path / "parts", 0
    while True:
        stop = threading.Event()
        steps: list[int] = []

        def after_three(now, steps=steps, stop=stop):
            steps.append(now.step)
            if len(steps) == 3:
                stop.set()

        try:
            assert run(shards, parts, tiny_recipe(), progress=after_three, cancel=stop).finished
            break
        except Cancelled:
            paused += 1
            assert not (parts / "weights.safetensors").exists()
    assert paused >= 3
    assert weights(parts) == weights(tmp_path / "whole")
    logged = [json.loads(line)["step"] for line in (parts / "log.jsonl").read_text().splitlines()]
    assert logged == list(range(1, 13))


def test_pause_after_leaves_usable_weights_and_does_not_hurry(shards, tmp_path):
    recipe = tiny_recipe(steps=100_000)
    result = run(shards, tmp_path / "out", recipe, pause_after=0.01)
    assert not result.finished
    assert 0 < result.steps < 10_000
    last = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert last["fraction"] < 0.1
    assert json.loads((tmp_path / "out" / "card.json").read_text())["finished"] is False
    longer = run(shards, tmp_path / "out", recipe, pause_after=0.005)
    assert longer.steps > result.steps
    assert longer.seconds > result.seconds


def test_minutes_end_the_run_and_bring_the_rate_down(shards, tmp_path):
    result = run(shards, tmp_path / "out", tiny_recipe(steps=1_000_000), minutes=0.02)
    assert result.finished
    assert result.seconds >= 1.2
    rates = [json.loads(line)["learning_rate"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert rates[-1] < 0.05 * max(rates)
    again = run(shards, tmp_path / "out", tiny_recipe(steps=1_000_000), minutes=0.02)
    assert again.steps == result.steps  # the time is over, in this part, too


def test_fresh_starts_again(shards, tmp_path):
    run(shards, tmp_path / "out", tiny_recipe(steps=3))
    assert run(shards, tmp_path / "out", tiny_recipe(steps=5)).steps == 5
    run(shards, tmp_path / "out", tiny_recipe(steps=4), resume=False)
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


# ---------------------------------------------------------------- checkpoints


def test_a_damaged_checkpoint_is_said_and_a_foreign_one_too(shards, tmp_path):
    out = tmp_path / "out"
    run(shards, out, tiny_recipe(steps=2))
    with pytest.raises(InputError, match=r"a run of tiny, not of gplws-net-2023.*--fresh"):
        run(shards, out, tiny_recipe(network="gplws-net-2023"))
    content = (out / "checkpoint.pt").read_bytes()
    (out / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"checkpoint\.pt.*damaged.*--fresh"):
        run(shards, out, tiny_recipe(steps=2))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 1}, "seed = 1 instead of 0"),
        ({"optimiser": {"learning_rate": 0.5}}, r"optimiser\.learning_rate = 0\.5 instead of 0\.0015"),
        ({"batch": 3, "ema": 0.5}, r"batch = 3 instead of 2, ema = 0\.5 instead of 0\.998"),
        ({"augmentation": {"flip": False, "rotate": False, "gamma": 0, "gain": 0, "noise": 0}}, "flip.* and 1 more"),
        ({"stages": [{"crop": [16, 16], "frames": [3, 5]}]}, r"stages\.0\.until = 1\.0 instead of 0\.5"),
    ],
)
def test_a_run_does_not_go_on_by_another_recipe(shards, tmp_path, changes, says):
    out = tmp_path / "out"
    run(shards, out, tiny_recipe(steps=2))
    before = (out / "checkpoint.pt").read_bytes()
    with pytest.raises(InputError, match=rf"{says}.*--out.*--fresh"):
        run(shards, out, tiny_recipe(**{"steps": 2, **changes}))
    assert (out / "checkpoint.pt").read_bytes() == before
    assert run(shards, out, tiny_recipe(**{"steps": 3, **changes}), resume=False).steps == 3


def test_a_run_goes_on_longer_and_watched_otherwise(shards, tmp_path):
    run(shards, tmp_path / "out", tiny_recipe(steps=2))
    free = {"steps": None, "epochs": 2, "loaders": 1, "validation": str(shards), "checkpoint_every_s": 1, "name": "it"}
    assert run(shards, tmp_path / "out", tiny_recipe(**free)).steps == 4  # 2 x 4 stacks, 2 at a time


def test_a_run_does_not_go_on_with_other_data(shards, tmp_path):
    out, other = tmp_path / "out", tmp_path / "elsewhere" / "shards"
    write_shard(other, 5)
    run(shards, out, tiny_recipe(steps=2))
    with pytest.raises(InputError, match=r"learns from .*/shards, not from .*/elsewhere/shards.*--data.*--fresh"):
        run(other, out, tiny_recipe(steps=3))
    with pytest.raises(InputError, match=r"not from .*shards, .*elsewhere"):
        train(tiny_recipe(steps=3), [shards, other], out, device="cpu")
    shards.rename(tmp_path / "moved")
    shards.symlink_to(tmp_path / "moved")  # the way out for data that were moved
    assert run(shards, out, tiny_recipe(steps=3)).steps == 3


def test_a_checkpoint_of_before_data_were_kept_goes_on(shards, tmp_path):
    out = tmp_path / "out"
    run(shards, out, tiny_recipe(steps=2))
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    del state["data"]
    torch.save(state, out / "checkpoint.pt")
    assert run(shards, out, tiny_recipe(steps=3)).steps == 3
    state["recipe"] = '{"name": "old", "network": "tiny", "steps": 3, "what": 1}'
    torch.save(state, out / "checkpoint.pt")
    with pytest.raises(InputError, match=r"another version.*--fresh"):
        run(shards, out, tiny_recipe(steps=4))


def test_a_checkpoint_that_cannot_be_written_keeps_the_old_one(shards, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(shards, out, tiny_recipe(steps=2))
    before = (out / "checkpoint.pt").read_bytes()

    def full(state, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(OutputError, match="the disk is full"):
        run(shards, out, tiny_recipe(steps=4))
    assert (out / "checkpoint.pt").read_bytes() == before
    assert {p.name for p in out.iterdir() if p.is_file()} == {
        "checkpoint.pt",
        "weights.safetensors",
        "card.json",
        "log.jsonl",
    }


# ---------------------------------------------------------------- numbers that are none


class Moody(TinyNet):
    """Gives NaN in some of its calls, and lets its norms see infinity."""

    bad_calls: tuple[int, ...] | range = ()

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.register_buffer("fixed", torch.ones(2), persistent=False)  # in no file of weights

    def forward(self, frames, z):
        if self.training:
            self.calls += 1
            if self.calls in self.bad_calls:
                frames = frames * float("inf")
        return expectation(self.layers(frames.transpose(1, 2))[:, 0], z)


def test_steps_without_finite_numbers_are_left_out(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("models.training.loop.build", lambda name: Moody())
    monkeypatch.setattr(Moody, "bad_calls", (3, 4, 9))
    result = run(shards, tmp_path / "out", tiny_recipe())
    assert (result.skipped, result.steps) == (3, 12)
    assert all(torch.isfinite(t).all() for t in load_file(tmp_path / "out" / "weights.safetensors").values())


def test_a_run_that_only_fails_ends_with_advice(shards, tmp_path, monkeypatch):
    monkeypatch.setattr("models.training.loop.build", lambda name: Moody())
    monkeypatch.setattr(Moody, "bad_calls", range(5, 10_000))
    with pytest.raises(InputError, match=r"no finite number 50 times in a row.*lower learning rate"):
        run(shards, tmp_path / "out", tiny_recipe(steps=1000))


def test_half_precision_needs_a_gpu(shards, tmp_path):
    with pytest.raises(InputError, match="precision: fp16 needs a GPU"):
        run(shards, tmp_path / "out", tiny_recipe(precision="fp16"))


@pytest.mark.parametrize(("native", "precision"), [(False, "off"), (True, "bf16")])
def test_auto_is_the_precision_that_the_processor_has_instructions_for(
    shards, tmp_path, monkeypatch, native, precision
):
    monkeypatch.setattr("models.training.loop.computes_bfloat16", lambda: native)
    run(shards, tmp_path / "out", tiny_recipe(precision="auto", steps=2))
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["precision"] == precision
    assert card["recipe"]["precision"] == "auto"


# ---------------------------------------------------------------- parts


def test_the_moving_average_forgets_the_random_start():
    network = TinyNet()
    average = MovingAverage(network, 0.99)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
    for step in range(200):
        average.update(step)
    for name, parameter in network.named_parameters():
        assert torch.allclose(average.state[name], parameter, atol=0.05)


def test_cancel_before_the_first_step_leaves_a_checkpoint(shards, tmp_path):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        train(tiny_recipe(steps=10**6), [shards], tmp_path / "out", cancel=cancel, device="cpu")
    assert (tmp_path / "out" / "checkpoint.pt").exists()
