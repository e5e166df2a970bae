"""The reconstruction methods by name, and the options that every one of them takes."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from models.errors import InputError
from models.language import N_, _

Alignment = Literal["none", "shift", "similarity"]


@dataclass(frozen=True)
class Method:
    """One entry of ``reliefscope methods``: name on the command line, title and what it is good for."""

    name: str
    title: str
    summary: str
    source: str


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            "sml",
            N_("Sum-modified Laplacian"),
            N_("Sharp and fast; the choice for well-lit textured surfaces."),
            "Nayar and Nakagawa, IEEE TPAMI 16 (1994) 824",
        ),
        Method(
            "mdml",
            N_("Multi-directional modified Laplacian"),
            N_("Four directions and three scales; steadier than SML on weak texture."),
            "Yan et al., Pattern Recognition 98 (2020) 107065",
        ),
        Method(
            "tenengrad",
            N_("Tenengrad"),
            N_("Energy of the Sobel gradient; robust against fine noise, blurs narrow detail."),
            "Krotkov, Int. J. Computer Vision 1 (1988) 223",
        ),
        Method(
            "rdf",
            N_("Ring difference filter"),
            N_("Compares a disk with a ring around it; the most robust on dim and noisy stacks."),
            "Jeon et al., IEEE TPAMI 42 (2020) 1517",
        ),
    )
}
DEFAULT_METHOD = "mdml"


class ReconstructionOptions(BaseModel):
    """How to reconstruct. ``window`` is the side of the square, in pixels, over which focus is summed; it is
    odd, or the map would lie half a pixel beside the surface.

    ``regularisation``: 0 keeps every pixel at its own focus peak; larger values let confident
    neighbours decide where the own peak is weak. 1 is a good start.
    ``stabilise`` measures focus on the square root of the grey values, in which photon noise is the same in
    bright and dark places; without it the methods are those of their papers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = DEFAULT_METHOD
    window: int = Field(default=9, ge=1, le=101)
    align: Alignment = "none"
    regularisation: float = Field(default=0.0, ge=0.0, le=100.0, allow_inf_nan=False)
    stabilise: bool = True

    @field_validator("window")
    @classmethod
    def _has_a_middle(cls, window: int) -> int:
        if window % 2 == 0:
            raise PydanticCustomError("even_window", "it must be odd")
        return window


def find_method(name: str) -> Method:
    """The method called ``name``; raises InputError that lists the names otherwise."""
    try:
        return METHODS[name]
    except KeyError:
        raise InputError(
            _("There is no method called '{name}'. Methods: {names}.").format(name=name, names=", ".join(METHODS))
        ) from None
