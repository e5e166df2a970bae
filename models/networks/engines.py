"""What runs a network: PyTorch on the processor or a graphics card, or OpenVINO; and which of them is fastest here.

"auto" chooses among those that take frame by frame. Where there are several, it measures once for each network and
computer, with a stack of random frames, and remembers the answer in the user's cache. Heights by "torch-bf16" stay
within 0.05 step of "torch" on average, by "openvino" within 0.01 step (tests/models/test_streaming_network.py); the
layers that see grey values and give scores always compute in single precision. "cuda", in half precision, has not been
run yet.

OpenVINO runs only where it is asked for: stacks of one size after the other gain from it. It saves up to a third of a
stack's time, but takes in all frames together, in memory of their number, and half a minute before the first stack of
each size. Its own cache (CACHE_DIR) would spare 1 to 4 s of these 30 to 50: the rest is PyTorch's export and the
conversion.
"""

import hashlib
import importlib.util
import json
import logging
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from models.atomic import replacing
from models.computer import processor_name, versions
from models.errors import InputError, OutputError
from models.language import _
from models.networks.calibration import Calibration
from models.networks.gplws_compact import CompactGplwsNet
from models.networks.inference import load_network
from models.networks.past import Past
from models.networks.weights import shipped_weights

log = logging.getLogger(__name__)

N = TypeVar("N", bound=nn.Module)

TRIAL = (8, 256, 256)
"""Frames, rows and columns of the stack that engines are compared with."""
AT_ONCE = ("openvino",)
"""Engines that need all frames at once."""
PIXELS_AT_ONCE = 1 << 24
"""Most pixels, of all frames together, that these engines take: 16 frames of 1024 x 1024, about 1.5 GiB."""


@dataclass(frozen=True)
class OpenedNetwork:
    """A network that is ready to run: ``network`` goes into :class:`models.networks.streaming.StreamingNetwork`."""

    name: str
    network: "CompactGplwsNet | OpenVinoNetwork"
    calibration: Calibration
    engine: str
    weights_sha256: str


class OpenVinoNetwork:
    """A fused network compiled by OpenVINO: the same answers as its ``answers``, but of the whole stack at once.

    With a past it keeps the frames and answers when the last one is there, so it suits stacks, not a live sweep.
    """

    device = torch.device("cpu")

    def __init__(self, network: CompactGplwsNet) -> None:
        self.multiple, self.reach_px = network.multiple, network.reach_px
        self._network = network
        self._compiled = lru_cache(maxsize=4)(self._compile)
        for parameter in network.parameters():
            parameter.requires_grad_(False)

    def answers(self, frames: Tensor | None, past: Past | None = None) -> Tensor | None:
        """See :meth:`models.networks.gplws_compact.CompactGplwsNet.answers`."""
        if past is not None:
            frames = past.gather(frames)
        if frames is None:
            return None
        compiled = self._compiled(tuple(frames.shape))
        return torch.from_numpy(np.array(compiled([frames.numpy()])[0]))

    def _compile(self, shape: tuple[int, ...]) -> "Compiled":
        return compile_openvino(_Answers(self._network), (torch.zeros(shape),))


class _Answers(nn.Module):
    """``answers`` as a module of one argument, which is what converters take."""

    def __init__(self, network: CompactGplwsNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        answers = self.network.answers(frames)
        assert answers is not None
        return answers


Compiled = Callable[[list[NDArray[np.float32]]], Mapping[int, NDArray[np.float32]]]


def compile_openvino(network: nn.Module, example: tuple[Tensor, ...], precision: str = "f32") -> Compiled:
    """``network`` compiled for inputs of just the shapes of ``example``; ``precision``: "f32" or "bf16".

    Raises ImportError where OpenVINO is not installed (``pip install reliefscope[cpu-fast]``).
    """
    import openvino

    with torch.no_grad():
        model = openvino.convert_model(torch.export.export(network, example))
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled: Compiled = openvino.Core().compile_model(model, "CPU", settings)
    return compiled


def computes_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16. Others imitate them: as good, but slower."""
    # An older PyTorch does not tell; then it is not worth a try. Nor on ARM, where it has not been measured.
    tell = getattr(torch.cpu, "get_capabilities", None)
    capabilities: Mapping[str, Any] = {} if tell is None else tell()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def available_engines() -> list[str]:
    """Those that can run on this machine, "auto" left out."""
    engines = ["torch", "torch-bf16"]
    if importlib.util.find_spec("openvino") is not None:
        engines.append("openvino")
    if torch.cuda.is_available():
        engines.append("cuda")
    return engines


def open_network(
    name: str,
    *,
    weights: Path | None = None,
    engine: str = "auto",
    live: bool = False,
    stack_pixels: int | None = None,
) -> OpenedNetwork:
    """The own network called ``name`` with its calibration, on an ``engine`` of :data:`models.methods.ENGINES`.

    ``weights``: a file of one's own instead of those of the program. ``live``: only engines that take frame by frame.
    ``stack_pixels``: of all frames together, where they are known. Raises InputError where the weights are missing or
    do not fit, the engine is not there, or it needs all frames at once and they are too many.
    """
    if engine in AT_ONCE and (stack_pixels or 0) > PIXELS_AT_ONCE:
        raise InputError(
            _(
                "The engine '{engine}' takes all frames at once; for {n} million pixels the memory would be too small. "
                "Choose the engine auto or torch."
            ).format(engine=engine, n=round((stack_pixels or 0) / 1e6))
        )
    path = weights or shipped_weights(name)
    return _open(name, path, path.stat().st_mtime_ns if path and path.is_file() else 0, engine, live)


@lru_cache(maxsize=4)
def _open(name: str, path: Path | None, _changed: int, engine: str, live: bool) -> OpenedNetwork:
    network = load_network(name, path)
    assert path is not None
    if not isinstance(network, CompactGplwsNet):
        raise InputError(_("The network '{name}' does not work frame by frame.").format(name=name))
    usable = [other for other in available_engines() if not (live and other in AT_ONCE)]
    if engine == "auto":
        streaming = [other for other in usable if other not in AT_ONCE]
        worth_a_try = [other for other in streaming if other != "torch-bf16" or computes_bfloat16()]
        engine = fastest_engine(name, network, worth_a_try)
    elif engine not in usable:
        raise InputError(
            _("The engine '{engine}' cannot be used here; choose {names}.").format(
                engine=engine, names=", ".join(["auto", *usable])
            )
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return OpenedNetwork(name, prepare(network, engine), _calibration_of(path), engine, digest)


def prepare(network: CompactGplwsNet, engine: str) -> "CompactGplwsNet | OpenVinoNetwork":
    """A copy of the fused ``network`` that runs on ``engine``."""
    network = with_channels_last(deepcopy(network))
    if engine == "openvino":
        return OpenVinoNetwork(network)
    if engine == "cuda":
        network.to("cuda")
    if engine != "torch":
        dtype = torch.float16 if engine == "cuda" else torch.bfloat16
        for part in (network.down, network.up, network.refine):
            part.to(dtype)
    return network


def with_channels_last(network: N) -> N:
    """``network`` itself with its kernels in the memory order that makes grouped convolutions fast on processors."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            order = torch.channels_last if isinstance(layer, nn.Conv2d) else torch.channels_last_3d
            layer.weight.data = layer.weight.data.contiguous(memory_format=order)
    return network


def fastest_engine(name: str, network: CompactGplwsNet, engines: list[str]) -> str:
    """The quickest of ``engines`` for this network here; measured once, then read from the user's cache."""
    if len(engines) == 1:
        return engines[0]
    known = Path(platformdirs.user_cache_dir("reliefscope")) / "engines.json"
    machine = torch.cuda.get_device_name() if "cuda" in engines else "no GPU"
    place = f"{name}, {processor_name()}, {machine}, {torch.get_num_threads()} threads, {'+'.join(engines)}"
    remembered = _remembered(known)
    if remembered.get(place) not in engines:
        seconds = {engine: _seconds(prepare(network, engine)) for engine in engines}
        remembered[place] = min(seconds, key=lambda engine: seconds[engine])
        log.info("Seconds for the trial stack by engine: %s", seconds)
        try:
            known.parent.mkdir(parents=True, exist_ok=True)
            with replacing(known) as temporary:
                temporary.write_text(json.dumps({"versions": versions(), "fastest": remembered}, indent=1))
        except (OSError, OutputError) as error:
            log.info("The fastest engine is not remembered: %s", error)
    return remembered[place]


def _remembered(path: Path) -> dict[str, str]:
    """What was fastest with the versions that are installed; nothing where others measured, or no one did."""
    try:
        known = json.loads(path.read_text())
        return dict(known["fastest"]) if known["versions"] == versions() else {}
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or of an earlier form
        return {}


@torch.inference_mode()
def _seconds(network: "CompactGplwsNet | OpenVinoNetwork", rounds: int = 4) -> float:
    """Of the trial stack frame by frame, as during a sweep; the fastest of several."""
    frames = torch.rand(1, TRIAL[0], 1, *TRIAL[1:], device=network.device)
    best = float("inf")
    for _round in range(rounds):
        begun_s = time.perf_counter()
        past = Past()
        for index in range(TRIAL[0]):
            past.last = index == TRIAL[0] - 1
            answers = network.answers(frames[:, index : index + 1], past)
        assert answers is not None
        answers.cpu()
        best = min(best, time.perf_counter() - begun_s)
    return best


def _calibration_of(path: Path) -> Calibration:
    """Raises InputError where the weights say nothing of their errors, or nothing that can be read."""
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("calibration")
    if text is None:
        raise InputError(
            _("The weights {path} are not calibrated: run reliefscope calibrate on them first.").format(path=path)
        )
    try:
        return Calibration.from_json(text)
    except ValueError as error:
        raise InputError(
            _("The calibration in the weights {path} cannot be read: run reliefscope calibrate on them again.").format(
                path=path
            )
        ) from error
