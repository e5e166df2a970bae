"""Which scenes are drawn: the mixture that networks are trained on, and the kinds that they are tested on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.errors import InputError
from models.language import _
from models.training import engraved, ground
from models.training.fields import Shape
from models.training.finish import ANY, STRONG, Finish
from models.training.relief import Relief

Make = Callable[[Shape, np.random.Generator], Relief]
Span = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """A distribution of scenes. ``Span``: the least and the largest value, drawn evenly over orders of magnitude.

    ``hard``: share of scenes of engraved metal (bright land, dark steep walls, grainy floor), from ``engraved``;
    the others come from ``families``. ``macro``: share of those taken by a macro lens, whose blur has a
    standard deviation of ``blur_px_per_step`` and at most ``most_blur_px``, a disc in the share ``disc`` of the
    cases, else a Gaussian. ``na``: numerical aperture of the objectives; ``sampling``: pixels in units of the
    resolution lambda / 2 NA; ``step_dof``: step in depths of field. ``things``: share of scenes with things that
    stand before the relief, ``fibres`` with fibres and dust. ``parts``: shares of reliefs of less than a step, up
    to a third, most, and exactly the whole of the stack. ``dim``: share of scenes with little light.
    """

    families: tuple[Make, ...]
    engraved: tuple[Make, ...] = engraved.ENGRAVED
    hard: float = 0.0
    macro: float = 0.0
    disc: float = 0.5
    blur_px_per_step: Span = (0.12, 2.0)
    most_blur_px: Span = (4.0, 30.0)
    na: Span = (0.05, 0.8)
    sampling: Span = (0.25, 2.0)
    step_dof: Span = (0.3, 3.0)
    things: float = 0.0
    fibres: float = 0.0
    parts: tuple[float, float, float, float] = (0.12, 0.28, 0.4, 0.2)
    finishes: tuple[Finish, ...] = ANY
    dim: float = 0.15
    laboratory: float = 0.0
    """Share of scenes with even light, little noise and no faults: as other people's rendered sets are."""


STYLES: dict[str, Style] = {
    "mixed": Style(
        families=(*ground.GROUND, *engraved.ENGRAVED[:3], engraved.coin),
        hard=0.27,
        macro=0.33,
        things=0.12,
        fibres=0.1,
    ),
    "textured": Style(
        families=(*ground.GROUND, ground.rock, ground.rock, engraved.coin),
        macro=0.6,
        disc=0.3,
        blur_px_per_step=(0.15, 1.2),
        most_blur_px=(4.0, 20.0),
        sampling=(0.25, 1.0),
        step_dof=(0.15, 1.2),
        things=0.1,
        parts=(0.02, 0.2, 0.73, 0.05),
        finishes=STRONG,
        dim=0.0,
        laboratory=0.6,
    ),
    "light-field": Style(
        families=(ground.swell, ground.steps, ground.balls, ground.plane),
        macro=1.0,
        disc=1.0,
        blur_px_per_step=(0.6, 2.5),
        most_blur_px=(5.0, 16.0),
        things=0.9,
        parts=(0.0, 0.4, 0.4, 0.2),
        finishes=STRONG,
        laboratory=1.0,
    ),
    "macro": Style(
        families=(ground.rock, ground.rock, ground.swell),
        macro=1.0,
        disc=0.0,
        blur_px_per_step=(0.12, 0.5),
        most_blur_px=(4.0, 12.0),
        parts=(0.0, 0.1, 0.8, 0.1),
        finishes=STRONG,
        dim=0.05,
    ),
    "rolls": Style(
        families=(),
        engraved=(engraved.gravure, engraved.gravure, engraved.anilox, engraved.cell),
        hard=1.0,
        na=(0.4, 0.5),
        sampling=(0.5, 1.2),
        step_dof=(0.5, 1.5),
        parts=(0.0, 0.0, 0.8, 0.2),
        dim=0.0,
    ),
}
"""``mixed`` and ``textured`` are for training: what is hard, and what is so clear that parts of a step can be learned
from it. The others are narrower: most of what they show lies among the hard scenes, too. What a network does on quite
other pictures, real stacks and other renderers tell."""


def style(name: str) -> Style:
    """The style called ``name``. Raises InputError where there is none, listing those there are."""
    if name not in STYLES:
        raise InputError(
            _("There is no style of scenes '{name}'. Styles: {names}.").format(name=name, names=", ".join(STYLES))
        )
    return STYLES[name]
