"""Any method, frame by frame: the object that :func:`models.reconstruct.reconstruct` and a growing map feed.

A focus measure and a network of ours take frame by frame what they get. Methods that need the whole stack cannot: while
frames come, a stand-in grows the map, the live network where its weights are there, else a focus measure; ``method``
says which. The same list of stand-ins is what a capture falls back to, one after the other, where a network fails or
is too slow for the camera.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.focal_stack import ZUnit
from models.height_map import HeightMap
from models.language import _
from models.methods import DEFAULT_MEASURE, LIVE_NETWORK, ReconstructionOptions, find_method
from models.networks.weights import shipped_weights
from models.streaming import StreamingReconstruction

if TYPE_CHECKING:
    from models.networks.streaming import StreamingNetwork


class LiveReconstruction:
    """Takes the frames of one sweep, up or down, by a focus measure or a network that works frame by frame.

    The promises are those of :class:`models.streaming.StreamingReconstruction`; ``facts`` go into the parameters of
    the map. ``method``: the one that makes the map, which may be a stand-in.
    """

    def __init__(
        self, inner: "StreamingReconstruction | StreamingNetwork", method: str, facts: Mapping[str, Any]
    ) -> None:
        self._inner, self.method, self._facts = inner, method, dict(facts)

    @property
    def frame_count(self) -> int:
        return self._inner.frame_count

    @property
    def drift_px(self) -> NDArray[np.float64]:
        """(n, 2) movement in rows and columns of each frame against the first; zeros without alignment."""
        return self._inner.drift_px

    @property
    def magnification(self) -> NDArray[np.float64]:
        """(n,) scale of each frame against the first; ones without alignment."""
        return self._inner.magnification

    def add(self, frame: NDArray[Any], z_um: float) -> None:
        """Take in the next frame. Raises InputError where it does not fit to the ones before it."""
        self.add_all([(frame, z_um)])

    def add_all(self, frames: Sequence[tuple[NDArray[Any], float]]) -> None:
        """Take in the next frames, each with its z in um; raises InputError, taking none, where one does not fit."""
        self._inner.add_all(frames)

    def height_map(self) -> HeightMap:
        """The map of the frames so far. Raises InputError before the second frame."""
        return self._signed(self._inner.height_map())

    def finish(self) -> HeightMap:
        """The final map, with the regularisation that the options ask for."""
        return self._signed(self._inner.finish())

    def _signed(self, height_map: HeightMap) -> HeightMap:
        movement = {k: v for k, v in height_map.parameters.items() if k in ("drift_px", "magnification")}
        return replace(height_map, parameters={**self._facts, **movement})


def live_methods(options: ReconstructionOptions) -> tuple[str, ...]:
    """The methods that may make a map while frames come, in the order in which they are tried.

    A focus measure stands for itself. A network goes on with the live network and the default measure; what needs the
    whole stack begins there.
    """
    method = find_method(options.method)
    if method.kind == "measure":
        return (options.method,)
    wanted = () if method.whole_stack else (options.method,)
    smaller = (LIVE_NETWORK,) if shipped_weights(LIVE_NETWORK) is not None else ()
    return tuple(dict.fromkeys((*wanted, *smaller, DEFAULT_MEASURE)))


def streaming_reconstruction(
    options: ReconstructionOptions,
    *,
    method: str | None = None,
    pixel_um: float | None = None,
    z_unit: ZUnit = "um",
    provenance: Mapping[str, Any] | None = None,
    live: bool = False,
    stack_pixels: int | None = None,
) -> LiveReconstruction:
    """A reconstruction frame by frame by ``method``, by default the first of :func:`live_methods`.

    ``live``: the frames come from a camera, so what waits for the last one does not do. ``stack_pixels``: of all frames
    together, where they are known. Loads PyTorch where a network is meant, which takes seconds the first time. Raises
    InputError for an unknown method, and for a network whose weights are missing or do not fit or whose engine is not
    there or cannot take so many pixels.
    """
    method = method or live_methods(options)[0]
    if method != options.method:  # the weights are those of the one that was chosen
        options = options.model_copy(update={"method": method, "weights": None})
    if find_method(method).kind != "network":
        measure = StreamingReconstruction(options, pixel_um=pixel_um, z_unit=z_unit, provenance=provenance)
        return LiveReconstruction(measure, method, options.record())
    from models.networks.engines import open_network
    from models.networks.streaming import StreamingNetwork

    weights = None if options.weights is None else Path(options.weights)
    opened = open_network(method, weights=weights, engine=options.engine, live=live, stack_pixels=stack_pixels)
    network = StreamingNetwork(
        opened.network, opened.calibration, options, pixel_um=pixel_um, z_unit=z_unit, provenance=provenance
    )
    facts = {**options.record(), "engine_used": opened.engine, "weights_sha256": opened.weights_sha256}
    return LiveReconstruction(network, method, facts)


def prepare(options: ReconstructionOptions) -> None:
    """Load what the method needs before its first frame, for a network seconds the first time. Raises InputError."""
    if find_method(options.method).kind != "network":
        return
    if find_method(options.method).whole_stack:
        import models.networks.inference  # noqa: F401 - PyTorch itself is what takes the time
    else:
        streaming_reconstruction(options)


@contextmanager
def memory_said() -> Iterator[None]:
    """Turn lack of memory, whatever a network calls it, into an InputError that says so."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(w in str(error).lower() for w in _LACK_OF_MEMORY):
            raise
        raise InputError(
            _("There is not enough memory for this method. Choose another one or a smaller image.")
        ) from error


_LACK_OF_MEMORY = ("not enough memory", "out of memory", "can't allocate memory")
"""What PyTorch and OpenVINO say, in no exception of their own."""
