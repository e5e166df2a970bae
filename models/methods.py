"""The reconstruction methods by name, and the options that every one of them takes. Loads no PyTorch."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from models.errors import InputError
from models.language import N_, _
from models.networks.registry import NETWORKS, NetworkSpec
from models.networks.weights import shipped_weights

Alignment = Literal["none", "shift", "similarity"]
Kind = Literal["network", "measure", "volume"]

Engine = Literal["auto", "torch", "torch-bf16", "openvino", "cuda"]
"""What can run a network; see :mod:`models.networks.engines`."""
ENGINES: tuple[Engine, ...] = get_args(Engine)


@dataclass(frozen=True)
class Method:
    """One entry of ``reliefscope methods``: name on the command line, title and what it is good for.

    ``kind``: a "network", a focus "measure" (every pixel takes its own peak) or a method of the focus "volume".
    ``whole_stack``: it needs all frames in memory at once, so nothing can grow while they come.
    """

    name: str
    title: str
    summary: str
    source: str
    kind: Kind
    whole_stack: bool = False


def _measure(name: str, title: str, summary: str, source: str) -> Method:
    return Method(name, title, summary, source, "measure")


def _volume(name: str, title: str, summary: str, source: str) -> Method:
    return Method(name, title, summary, source, "volume", whole_stack=True)


def _network(spec: NetworkSpec) -> Method:
    own = spec.role == "own"
    summary = _NETWORK_SUMMARIES.get(spec.name, _OTHER_NETWORK)
    return Method(spec.name, spec.title, summary, spec.source, "network", whole_stack=not own)


_NETWORK_SUMMARIES = {
    "gplws-net": N_("Learned on rendered surfaces; says how sure it is of every height."),
    "gplws-net-live": N_("Smaller and faster, for maps that grow beside the camera; says how sure it is, too."),
}
_OTHER_NETWORK = N_("A published network, for comparison. Needs the whole stack in memory.")

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        *(_network(spec) for spec in NETWORKS.values() if spec.role == "own" or shipped_weights(spec.name)),
        _measure(
            "sml",
            N_("Sum-modified Laplacian"),
            N_("Sharp and fast; the choice for well-lit textured surfaces."),
            "Nayar and Nakagawa, IEEE TPAMI 16 (1994) 824",
        ),
        _measure(
            "mdml",
            N_("Multi-directional modified Laplacian"),
            N_("Four directions and three scales; steadier than SML on weak texture."),
            "Yan et al., Pattern Recognition 98 (2020) 107065",
        ),
        _measure(
            "tenengrad",
            N_("Tenengrad"),
            N_("Energy of the Sobel gradient; robust against fine noise, blurs narrow detail."),
            "Krotkov, Int. J. Computer Vision 1 (1988) 223",
        ),
        _measure(
            "rdf",
            N_("Ring difference filter"),
            N_("Compares a disk with a ring around it; the most robust on dim and noisy stacks."),
            "Jeon et al., IEEE TPAMI 42 (2020) 1517",
        ),
        _volume(
            "rr",
            N_("Robust focus volume"),
            N_(
                "Shares focus curves between neighbours, not across edges; for weak texture and noise. "
                "Needs the whole stack in memory."
            ),
            "after Ali and Mahmood, IEEE TIP 30 (2021) 7215",
        ),
        _volume(
            "variational",
            N_("Variational depth from focus"),
            N_(
                "Total variation against the focus curves; the steadiest in strong noise. "
                "Needs the whole stack in memory."
            ),
            "Moeller et al., IEEE TIP (2015), arXiv 1408.0173",
        ),
        _volume(
            "tft",
            N_("3D time-frequency transform"),
            N_(
                "Fuses the steady depth images of 21 wavelet bands; precise on well-textured stacks. "
                "Needs the whole stack in memory."
            ),
            "after Yan et al., Scientia Sinica Informationis 53 (2023) 282",
        ),
    )
}
"""The methods that the program offers: of the networks its own, and those whose weights come with it."""

MEASURES = tuple(method.name for method in METHODS.values() if method.kind == "measure")
DEFAULT_METHOD = "mdml"
DEFAULT_MEASURE = "mdml"
"""What shows a focus curve, or grows a map, where the chosen method has none."""
LIVE_NETWORK = "gplws-net-live"


class ReconstructionOptions(BaseModel):
    """How to reconstruct. ``window`` is the side of the square, in pixels, over which focus is summed; it is
    odd, or the map would lie half a pixel beside the surface.

    ``regularisation``: 0 keeps every pixel at its own focus peak; larger values let confident
    neighbours decide where the own peak is weak. 1 is a good start.
    ``stabilise`` measures focus on the square root of the grey values, in which photon noise is the same in
    bright and dark places; without it the methods are those of their papers.
    Networks have neither a window nor use for that. ``weights``: a file of one's own for the network, instead of those
    that come with the program; ``engine``: what runs it. Both concern networks only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = DEFAULT_METHOD
    window: int = Field(default=9, ge=1, le=101)
    align: Alignment = "none"
    regularisation: float = Field(default=0.0, ge=0.0, le=100.0, allow_inf_nan=False)
    stabilise: bool = True
    weights: str | None = None
    engine: Engine = "auto"

    @field_validator("window")
    @classmethod
    def _has_a_middle(cls, window: int) -> int:
        if window % 2 == 0:
            raise PydanticCustomError("even_window", "it must be odd")
        return window

    def record(self) -> dict[str, Any]:
        """What decided the map, for its ``parameters``: nothing that the method does not look at."""
        is_network = find_method(self.method).kind == "network"
        return self.model_dump(exclude={"window", "stabilise"} if is_network else {"weights", "engine"})


def find_method(name: str) -> Method:
    """The method called ``name``, also a network that is not offered because its weights do not come with the program.

    Raises InputError that lists the names otherwise.
    """
    if name in METHODS:
        return METHODS[name]
    if name in NETWORKS:
        return _network(NETWORKS[name])
    raise InputError(
        _("There is no method called '{name}'. Methods: {names}.").format(name=name, names=", ".join(METHODS))
    )
