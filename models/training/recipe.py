"""A training recipe: everything that decides what a training run does, in one TOML file."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models.errors import InputError
from models.language import _
from models.networks.registry import find_network
from models.toml_files import read_toml, shipped_names
from models.validation import first_problem, merged

RECIPE_FOLDER = "training"
Pixels = Annotated[int, Field(ge=8, le=4096)]
FrameCount = Annotated[int, Field(ge=2, le=200)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1000)]

FREE = frozenset(
    {
        *("name", "title", "steps", "epochs", "loaders", "log_every_s", "checkpoint_every_s"),
        *("validations", "validation", "validation_scenes"),
    }
)
"""Values of a recipe that a run may go on with changed: how long, how fast and how closely watched it is. All others
decide what is learned."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Section):
    """What the batches look like up to ``until``, the part of the run that is done: 1 is its end.

    Every batch has one side of ``crop`` and one number of ``frames`` drawn from these ranges, both ends included.
    """

    until: Annotated[float, Field(gt=0, le=1)] = 1.0
    crop: tuple[Pixels, Pixels] = (96, 96)
    frames: tuple[FrameCount, FrameCount] = (6, 12)
    batch: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Stacks per step on each device; None takes the recipe's."""

    @field_validator("crop", "frames")
    @classmethod
    def _rising(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(_("the first number must not be larger than the second"))
        return value


class Optimiser(_Section):
    name: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    schedule: Literal["constant", "cosine"] = "cosine"
    warm_up: float = Field(default=0.0, ge=0, lt=1)
    """Part of the run over which the rate rises linearly from 0."""
    final: Share = 0.01
    """What the cosine ends at, as a part of the learning rate."""
    clip_gradients: float | None = Field(default=None, gt=0)
    """Largest norm of all gradients together; None does not clip."""

    def rate(self, fraction: float) -> float:
        """The learning rate when ``fraction`` of the run is done."""
        if fraction < self.warm_up:
            # Never exactly 0, so that the very first step counts.
            return self.learning_rate * max(fraction / self.warm_up, 1e-3)
        if self.schedule == "constant":
            return self.learning_rate
        done = min((fraction - self.warm_up) / (1 - self.warm_up), 1.0)
        return self.learning_rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done)))


class LossWeights(_Section):
    """How much each term of :func:`models.training.losses.total_loss` counts; 0 leaves it out."""

    charbonnier: Weight = 1.0
    absolute: Weight = 0.0
    scale_invariant_log: Weight = 0.0
    gradient: Weight = 0.0
    edge: Weight = 0.0
    side: Weight = 0.0
    laplace: Weight = 0.0
    focus: Weight = 0.0


class Augmentation(_Section):
    """What is changed at random in every stack of a batch; see :mod:`models.training.batches`."""

    flip: bool = True
    rotate: bool = True
    reverse: bool = False
    """The relief upside down: frames in reverse order, heights negated."""
    gamma: float = Field(default=0.0, ge=0, le=2)
    """Exponents from 2^-gamma to 2^gamma."""
    gain: float = Field(default=0.0, ge=0, lt=1)
    """Contrast from 1 - gain to 1 + gain."""
    offset: float = Field(default=0.0, ge=0, le=0.5)
    """Brightness from -offset to +offset, of a range of 1."""
    flicker: float = Field(default=0.0, ge=0, lt=1)
    """Largest standard deviation of the brightness from frame to frame."""
    drift: float = Field(default=0.0, ge=0, lt=1)
    """Largest change of the brightness from the first to the last frame."""
    noise: float = Field(default=0.0, ge=0, le=0.5)
    """Largest standard deviation of the noise added to mid-grey, half of it shot noise."""
    blank: Share = 0.0
    """Part of the stacks that lose all detail on one side or everywhere, so that doubt is learned there."""
    colour: float = Field(default=0.0, ge=0, lt=1)
    """Gains of the colour channels from 1 - colour to 1 + colour, for networks that take colour."""
    stride: int = Field(default=1, ge=1, le=8)
    """Frames are picked up to this many apart."""
    irregular: Share = 0.0
    """Part of the stacks whose steps are unequal."""
    land_at_end: Share = 0.0
    """Part of the stacks cut so that the lowest or the highest surface lies on the first or last frame."""


class Recipe(_Section):
    """Reads like ``resources/training/default.toml``. A run is as long as ``steps``, or ``epochs`` over the data."""

    name: str
    title: str = ""
    network: str
    steps: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    batch: int = Field(default=4, ge=1, le=1024)
    seed: int = Field(default=0, ge=0)
    precision: Literal["off", "auto", "bf16", "fp16"] = "off"
    """In which the network computes: "off" is single precision, "auto" the fastest that the device has instructions
    for. bf16 without them is no gain: a step of FVNet took 27 s instead of 2.2 s on such a processor."""
    channels_last: bool = False
    loaders: int = Field(default=1, ge=1, le=64)
    """Threads that prepare batches beside the training."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the moving average of the weights, which is what is kept at the end; 0 keeps the weights themselves."""
    log_every_s: float = Field(default=10.0, ge=0)
    """Time between two lines of the log."""
    checkpoint_every_s: float = Field(default=30.0, gt=0, le=45)
    validations: int = Field(default=20, ge=1)
    """How many times, evenly over the run, the network is tried on scenes that it does not learn from."""
    validation: str | None = None
    """Folder of scenes that are never trained on."""
    validation_scenes: int = Field(default=16, ge=1)
    """At most this many, evenly spread over the folder."""
    optimiser: Optimiser = Optimiser()
    loss: LossWeights = LossWeights()
    augmentation: Augmentation = Augmentation()
    stages: tuple[Stage, ...] = (Stage(),)

    @field_validator("network")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            return find_network(value).name
        except InputError as error:
            raise ValueError(str(error).removesuffix(".")) from None

    @field_validator("stages")
    @classmethod
    def _whole_run(cls, value: tuple[Stage, ...]) -> tuple[Stage, ...]:
        ends = [stage.until for stage in value]
        if ends != sorted(set(ends)) or not ends or ends[-1] != 1:
            raise ValueError(_("'until' must rise from stage to stage and end at 1"))
        return value

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(_("give either steps or epochs"))
        if not any(self.loss.model_dump().values()):
            raise ValueError(_("every part of the loss is 0: nothing would be learned"))
        return self

    def stage(self, fraction: float) -> Stage:
        """The stage that holds when ``fraction`` of the run is done."""
        return next((stage for stage in self.stages if fraction < stage.until), self.stages[-1])

    def changed(self, **changes: Any) -> "Recipe":
        """A copy with other values; a section takes a mapping of its own: ``changed(optimiser={"warm_up": 0})``.

        Raises InputError that names the field, like :func:`load_recipe`.
        """
        return _validated(merged(self.model_dump(), changes), self.name)

    def differences(self, before: "Recipe") -> list[str]:
        """What decides otherwise than ``before`` what is learned, for people: ``batch = 8 instead of 4``."""
        now, then = (_flat(recipe.model_dump(mode="json", exclude=set(FREE))) for recipe in (self, before))
        return [
            _("{field} = {new} instead of {old}").format(field=field, new=now.get(field), old=then.get(field))
            for field in dict.fromkeys((*now, *then))
            if now.get(field) != then.get(field)
        ]


def recipe_names() -> list[str]:
    """Names of the recipes that come with the program."""
    return shipped_names(RECIPE_FOLDER)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """The recipe of this name, or in this file. Raises InputError that names the file and the field."""
    name = str(name_or_path)
    unknown = _("There is no recipe called '{name}'. Recipes: {names}; or give the path of a .toml file.").format(
        name=name, names=", ".join(recipe_names())
    )
    data = read_toml(name, RECIPE_FOLDER, unknown=unknown)
    return _validated({**data, "name": Path(name).stem}, name)


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    """Single values by their names in the recipe, such as ``optimiser.learning_rate`` and ``stages.0.batch``."""
    if not isinstance(values, dict | list):
        return {name: values}
    items = values.items() if isinstance(values, dict) else enumerate(values)
    dot = "." if name else ""
    return {key: value for item, part in items for key, value in _flat(part, f"{name}{dot}{item}").items()}


def _validated(data: dict[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        field, _value, problem = first_problem(error)
        raise InputError(
            _("Recipe {path}: {field}: {problem}").format(path=source, field=field or _("recipe"), problem=problem)
        ) from error
