"""The training loop: from a recipe and data to weights, through kills, restarts and several processes."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.atomic import check_writable, write_error
from models.errors import Cancelled, InputError
from models.language import _
from models.networks.engines import computes_bfloat16
from models.networks.registry import build, find_network
from models.schema import software_version
from models.training.batches import Batch, BatchMaker, prefetched
from models.training.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    MovingAverage,
    check_continues,
    clear_leftovers,
    data_names,
    load_checkpoint,
    save_checkpoint,
    write_weights,
)
from models.training.examples import Examples, open_examples
from models.training.journal import Journal
from models.training.losses import total_loss
from models.training.recipe import Recipe
from models.training.scoring import Score, score, spread_over
from models.training.world import World, joined_world

_MOST_SKIPPED_IN_A_ROW = 50


@dataclass(frozen=True)
class TrainingProgress:
    """Where a run is: ``fraction`` of it done, ``remaining_s`` left, mean ``loss`` since the last report."""

    step: int
    fraction: float
    seconds: float
    remaining_s: float
    loss: float
    learning_rate: float
    skipped: int
    validation: Score | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What a run, or the part of it until a pause, has come to. ``weights`` and its card lie in the output folder."""

    folder: Path
    steps: int
    seconds: float
    skipped: int
    finished: bool
    sha256: str
    validation: Score | None


def train(
    recipe: Recipe,
    data: Sequence[Path] | Examples,
    out: Path,
    *,
    progress: Callable[[TrainingProgress], None] | None = None,
    cancel: threading.Event | None = None,
    minutes: float | None = None,
    pause_after: float | None = None,
    resume: bool = True,
    device: str | None = None,
) -> TrainingResult:
    """Train ``recipe`` on ``data`` and leave ``weights.safetensors`` and ``card.json`` in the folder ``out``.

    ``minutes`` ends the run when they are over, counted across all its parts; learning rate and stages follow them.
    ``pause_after``: minutes after which this part of the run stops with a checkpoint, to be resumed; nothing is sped
    up for that. ``resume``: go on from a checkpoint in ``out``, if there is one. ``device``: such as "cpu" or
    "cuda:1"; by default a GPU where there is one. Processes started by torchrun share the work. A checkpoint of another
    network, other data or another recipe is refused; see :data:`models.training.recipe.FREE` for what may change.

    Raises InputError for data, a checkpoint or a recipe that cannot be used and for a loss that is no number over
    and over, OutputError where ``out`` cannot be written, Cancelled after a last checkpoint.
    """
    with joined_world(device) as world:
        examples = open_examples(data, seed=recipe.seed) if isinstance(data, Sequence) else data
        run = _Run(recipe, examples, data_names(data), out, world, minutes, resume)
        try:
            finished = run.go(progress, cancel, pause_after)
            return run.conclude(finished)
        finally:
            run.close()


class _Run:
    """One process's part of a training run."""

    def __init__(
        self,
        recipe: Recipe,
        examples: Examples,
        data: list[str],
        out: Path,
        world: World,
        minutes: float | None,
        resume: bool,
    ) -> None:
        self._precision = _precision(recipe, world.device)
        self.recipe, self.examples, self.data, self.out, self.world = recipe, examples, data, out, world
        self.spec = find_network(recipe.network)
        self.step, self.skipped = 0, 0
        self._budget_s = None if minutes is None else minutes * 60
        self._steps = _steps(recipe, examples, world.size)
        self._held_out = _held_out(recipe)
        _prepare(out, world.is_first)
        torch.manual_seed(recipe.seed)
        self.network = build(recipe.network).to(world.device)
        if recipe.channels_last:
            _put_channels_last(self.network)
        self._optimiser = _optimiser(recipe, self.network)
        self._scaler = torch.amp.GradScaler("cuda", enabled=self._precision == "fp16")
        self._average = MovingAverage(self.network, recipe.ema)
        self._seconds_before = 0.0
        self._validation: tuple[int, Score | None] = (-1, None)
        if resume and (out / CHECKPOINT).exists():
            self._load(load_checkpoint(out / CHECKPOINT))
        self._started = self._logged_at = time.monotonic()
        self._validated = int(self.fraction(self.step) * recipe.validations)
        self._wrapped = world.wrapped(self.network)
        self._maker = BatchMaker(recipe, self.spec, examples, world.rank, world.size)
        self._journal = Journal(out, self.step) if world.is_first else None

    @property
    def seconds(self) -> float:
        """Time trained so far, in all parts of the run."""
        return self._seconds_before + time.monotonic() - self._started

    def fraction(self, step: int) -> float:
        """How much of the run is done before ``step``: by steps or by time, whichever is further."""
        by_time = self.seconds / self._budget_s if self._budget_s else 0.0
        return min(max(step / self._steps, by_time), 1.0)

    def go(
        self,
        progress: Callable[[TrainingProgress], None] | None,
        cancel: threading.Event | None,
        pause_after: float | None,
    ) -> bool:
        """Train to the end or to a pause; True at the end."""
        pause_at = self._started + 60 * pause_after if pause_after is not None else float("inf")
        saved_at = time.monotonic()
        recent = _Recent()
        bad = 0
        on_gpu = self.world.device.type == "cuda"
        batches = prefetched(self._maker, self.step, self.fraction, threads=self.recipe.loaders, pin=on_gpu)
        with contextlib.closing(batches):
            while True:
                fraction, stop = self.world.agreed(
                    self.fraction(self.step),
                    (cancel is not None and cancel.is_set()) + 2 * (time.monotonic() >= pause_at),
                )
                if fraction >= 1 or stop:
                    break
                loss, terms, stepped = self._train_on(next(batches), fraction)
                bad = 0 if stepped else bad + 1
                if bad >= _MOST_SKIPPED_IN_A_ROW:
                    raise InputError(
                        _(
                            "The loss was no finite number {n} times in a row, last at step {step}. A lower learning "
                            'rate, clip_gradients or precision = "off" may help.'
                        ).format(n=bad, step=self.step)
                    )
                self.step += 1
                if stepped:
                    recent.add(loss, terms)
                self._report(recent, fraction, progress)
                if time.monotonic() - saved_at >= self.recipe.checkpoint_every_s:
                    self._save()
                    saved_at = time.monotonic()
        self._save()
        if stop & 1:
            raise Cancelled
        return not stop

    def _train_on(self, batch: Batch, fraction: float) -> tuple[Tensor, dict[str, Tensor], bool]:
        """One step. False, and nothing learned, where the gradients are no finite numbers."""
        # What networks draw themselves follows from the step, too: a resumed run draws the same.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        batch = batch.to(self.world.device)
        self._optimiser.param_groups[0]["lr"] = self.recipe.optimiser.rate(fraction)
        self._wrapped.train()
        with self._autocast():
            prediction = self._wrapped(batch.frames, batch.z)
        loss, terms = total_loss(prediction, batch.z, batch.height, self.recipe.loss)
        self._optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimiser)
        norm = nn.utils.clip_grad_norm_(
            self.network.parameters(), self.recipe.optimiser.clip_gradients or float("inf"), error_if_nonfinite=False
        )
        stepped = bool(torch.isfinite(norm))
        if stepped:
            self._scaler.step(self._optimiser)
            self._average.update(self.step)
        else:
            self.skipped += 1
            # The norms have seen what broke the step; the average has not.
            with torch.no_grad():
                for name, buffer in self.network.named_buffers():
                    if name in self._average.state:  # not where it is fixed and no part of the weights
                        buffer.copy_(self._average.state[name])
        self._scaler.update()
        return loss.detach(), terms, stepped

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._precision == "off":
            return contextlib.nullcontext()
        kind = torch.bfloat16 if self._precision == "bf16" else torch.float16
        return torch.autocast(self.world.device.type, dtype=kind)

    def _report(self, recent: "_Recent", fraction: float, progress: Callable[[TrainingProgress], None] | None) -> None:
        """Every now and then: a line in the log, a validation, and the progress. ``fraction``: before this step."""
        if self._journal is None:
            return
        parts = self.recipe.validations
        done = self.fraction(self.step)
        validate = bool(self._held_out) and int(done * parts) > self._validated
        if not validate and done < 1 and time.monotonic() - self._logged_at < self.recipe.log_every_s:
            return
        self._logged_at = time.monotonic()
        validation = self._validate() if validate else None
        means = recent.take()
        rate = self.recipe.optimiser.rate(fraction)
        values: dict[str, Any] = {
            **means,
            "learning_rate": rate,
            "fraction": fraction,
            "seconds": round(self.seconds, 1),
            "skipped": self.skipped,
            "examples": self.examples.count,
        }
        if validation is not None and validation.mean_absolute_steps is not None:
            values["validation_mae_steps"] = validation.mean_absolute_steps
        self._journal.write(self.step, values)
        if progress is not None:
            remaining = self.seconds * (1 - done) / max(done, 1e-6)
            loss = means.get("loss", float("nan"))
            progress(TrainingProgress(self.step, done, self.seconds, remaining, loss, rate, self.skipped, validation))

    def _validate(self) -> Score | None:
        self._validated = int(self.fraction(self.step) * self.recipe.validations)
        if not self._held_out or not self.world.is_first:
            return None
        if self._validation[0] != self.step:
            found = score(self._averaged(), self._held_out, self.spec.channels, self.world.device)
            self._validation = self.step, found
        return self._validation[1]

    def _averaged(self) -> nn.Module:
        """A network of its own with the averaged weights, in training form."""
        network = build(self.recipe.network).to(self.world.device)
        network.load_state_dict(self._average.state)
        return network

    def _save(self) -> None:
        if not self.world.is_first:
            return
        save_checkpoint(
            self.out / CHECKPOINT,
            Checkpoint(
                recipe=self.recipe.model_dump_json(),
                step=self.step,
                seconds=self.seconds,
                skipped=self.skipped,
                network=self.network.state_dict(),
                average=self._average.state,
                optimiser=self._optimiser.state_dict(),
                scaler=self._scaler.state_dict(),
                data=self.data,
            ),
        )

    def _load(self, checkpoint: Checkpoint) -> None:
        # Other machines may keep the data elsewhere: only the first process's folders are in the checkpoint.
        check_continues(checkpoint, self.recipe, self.data if self.world.is_first else None, self.out)
        try:
            self.network.load_state_dict(checkpoint.network)
            self._optimiser.load_state_dict(checkpoint.optimiser)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                _("The checkpoint in {path} does not fit {network} any more. Start again with --fresh.").format(
                    path=self.out, network=self.recipe.network
                )
            ) from error
        self._average.load(checkpoint.average)
        if checkpoint.scaler:  # else the run began where no gradients are scaled
            self._scaler.load_state_dict(checkpoint.scaler)
        self.step, self.skipped = checkpoint.step, checkpoint.skipped
        self._seconds_before = checkpoint.seconds

    def conclude(self, finished: bool) -> TrainingResult:
        """Validate and write the weights and their card."""
        validation = self._validate()
        sha256 = ""
        if self.world.is_first:
            card = {
                "network": self.recipe.network,
                "title": self.spec.title,
                "form": "training",
                "finished": finished,
                "steps": self.step,
                "seconds": round(self.seconds, 1),
                "skipped_steps": self.skipped,
                "data": {"folders": [Path(name).name for name in self.data], "stacks": self.examples.count},
                "recipe": self.recipe.model_dump(),
                "validation": None if validation is None else asdict(validation),
                "software": software_version(),
                "torch": torch.__version__,
                "device": self.world.device_name,
                "precision": self._precision,
                "processes": self.world.size,
            }
            sha256 = write_weights(self.out, self._averaged(), card)
        return TrainingResult(self.out, self.step, self.seconds, self.skipped, finished, sha256, validation)

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()


class _Recent:
    """Means of the loss and its terms since they were last taken, kept on the device until then."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, loss: Tensor, terms: dict[str, Tensor]) -> None:
        for name, value in {"loss": loss, **terms}.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def take(self) -> dict[str, float]:
        means = {name: float(value) / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


def _precision(recipe: Recipe, device: torch.device) -> str:
    """What ``device`` computes in, "off", "bf16" or "fp16". Raises InputError where it cannot as ``recipe`` says."""
    on_gpu = device.type == "cuda"
    if recipe.precision == "auto":
        return "fp16" if on_gpu else "bf16" if computes_bfloat16() else "off"
    if recipe.precision == "fp16" and not on_gpu:
        raise InputError(_("Recipe {path}: precision: fp16 needs a GPU.").format(path=recipe.name))
    return recipe.precision


def _prepare(out: Path, is_first: bool) -> None:
    """Everything that would spoil the writing is said now, not after hours."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(out, error) from error
    if is_first:
        check_writable(out / CHECKPOINT)
        clear_leftovers(out)


def _put_channels_last(network: nn.Module) -> None:
    """Kernels with their channels last. ``Module.to`` cannot: it stops at networks with 2D and 3D convolutions."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])


def _steps(recipe: Recipe, examples: Examples, processes: int) -> int:
    if recipe.steps is not None:
        return recipe.steps
    if examples.count is None:
        raise InputError(
            _("Recipe {path}: epochs: rendered scenes have no end; give steps instead.").format(path=recipe.name)
        )
    assert recipe.epochs is not None
    return max(round(recipe.epochs * examples.count / (recipe.batch * processes)), 1)


def _held_out(recipe: Recipe) -> list[Any]:
    if recipe.validation is None:
        return []
    pool = open_examples([Path(recipe.validation)])
    return [pool[index] for index in spread_over(pool.count, recipe.validation_scenes)]


def _optimiser(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    kind: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser.name]
    options = recipe.optimiser
    on_gpu = next(network.parameters()).is_cuda
    return kind(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=on_gpu)
