"""``reconstruct``: from a stack to heights."""

import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import ValidationError

from app.commands.stack_options import stack_options
from app.terminal import complain, ended_by_ctrl_c, print_facts, print_json, progress_bar
from models.colour_maps import lut
from models.errors import InputError, OutputError
from models.focal_stack import FocalStack
from models.formats import (
    MAP_SUFFIXES,
    MESH_SUFFIXES,
    PictureStyle,
    check_output,
    read_stack,
    write_height_map,
)
from models.formats.images import frame_files
from models.formats.picture import CONTENTS, Content
from models.height_map import Flag, HeightMap, without_weak
from models.language import _
from models.methods import DEFAULT_METHOD, ENGINES, METHODS, ReconstructionOptions, find_method
from models.networks.weights import weights_network
from models.reconstruct import reconstruct
from models.storage import stack_sha256
from models.validation import first_problem


def register(cli: typer.Typer) -> None:
    """Add the commands, with help in the language in use."""
    given = stack_options()
    Method = Annotated[  # noqa: N806
        str | None,
        typer.Option(
            "--method",
            help=_("One of: {names}. {default} if not given.").format(names=", ".join(METHODS), default=DEFAULT_METHOD),
        ),
    ]

    @cli.command("reconstruct", help=_("Compute the height of every pixel of a focal stack."))
    def reconstruct_command(
        input_path: given.input_path,
        out: Annotated[
            list[Path],
            typer.Option(
                "--out",
                metavar="FILE",
                help=_("Result, by suffix: {suffixes}. May be given several times.").format(
                    suffixes=" ".join(MAP_SUFFIXES)
                ),
            ),
        ],
        step_um: given.step_um = None,
        z0_um: given.z0_um = None,
        descending: given.descending = False,
        pixel_um: given.pixel_um = None,
        method: Method = None,
        weights: Annotated[
            Path | None,
            typer.Option(
                "--weights", metavar="FILE", help=_("Own weights, .safetensors: their network is the method.")
            ),
        ] = None,
        engine: Annotated[
            str | None,
            typer.Option("--engine", help=_("What runs a network: {names}.").format(names=", ".join(ENGINES))),
        ] = None,
        window: given.window = None,
        align: given.align = "none",
        regularisation: given.regularisation = None,
        min_confidence: Annotated[
            float, typer.Option("--min-confidence", metavar="0..1", help=_("Leave out heights of less confidence."))
        ] = 0.0,
        watertight: Annotated[
            bool, typer.Option("--watertight", help=_("Meshes get walls and a base, for printing."))
        ] = False,
        with_stack: Annotated[
            bool, typer.Option("--with-stack", help=_("An .h5 result holds the images, too."))
        ] = False,
        show: Annotated[
            str, typer.Option("--show", help=_("What a .png shows: height, confidence or all-in-focus."))
        ] = "height",
        colour_map: Annotated[
            str, typer.Option("--colour-map", help=_("Colours of a .png, such as viridis or cividis."))
        ] = "viridis",
        hill_shade: Annotated[bool, typer.Option("--hill-shade", help=_("Light a .png from the upper left."))] = False,
        mark_uncertain: Annotated[
            bool, typer.Option("--mark-uncertain", help=_("Hatch heights without a focus peak inside the stack."))
        ] = False,
        as_json: given.as_json = False,
    ) -> None:
        method = chosen_method(method, weights)
        _check_fits("--window", window, method, {"measure", "volume"})
        _check_fits("--engine", engine, method, {"network"})
        options = reconstruction_options(method, window, align, regularisation, weights=weights, engine=engine)
        check_share("--min-confidence", min_confidence)
        style = replace(_picture_style(show, colour_map), hill_shade=hill_shade, mark_uncertain=mark_uncertain)
        _check_use("--watertight", watertight, out, MESH_SUFFIXES)
        _check_use("--with-stack", with_stack, out, (".h5",))
        _check_use("--show, --colour-map, --hill-shade, --mark-uncertain", style != PictureStyle(), out, (".png",))
        stack = read_stack(input_path, step_um=step_um, z0_um=z0_um, descending=descending, pixel_um=pixel_um)
        _check_outputs(out, input_path, stack)
        with ended_by_ctrl_c():
            height_map, seconds = reconstruct_timed(stack, options)
            if min_confidence > 0:
                height_map = without_weak(height_map, min_confidence)
            for path in out:
                write_height_map(
                    height_map,
                    path,
                    watertight=watertight,
                    style=style,
                    stack=stack if with_stack and path.suffix.lower() == ".h5" else None,
                )
        summary = {**summary_of(input_path, stack, height_map, seconds), "outputs": [str(path) for path in out]}
        if as_json:
            print_json(summary)
        else:
            _print_summary(stack, height_map, summary)


def chosen_method(method: str | None, weights: Path | None) -> str:
    """The method that is asked for by name, by the network of a file of weights, or by neither."""
    if weights is None:
        return method or DEFAULT_METHOD
    network = weights_network(weights)
    find_method(network)
    if method is not None and method != network:
        find_method(method)
        raise InputError(
            _(
                "--method {method}: the weights in {path} are of the network '{network}'. Leave one of the two out."
            ).format(method=method, path=weights, network=network)
        )
    return network


def _check_fits(option: str, value: object, method: str, kinds: Collection[str]) -> None:
    """An option that the method does not look at is a misunderstanding; better said than ignored."""
    if value is not None and find_method(method).kind not in kinds:
        raise InputError(
            _("{option}: the method '{method}' has no use for it. Leave it out.").format(option=option, method=method)
        )


def reconstruction_options(
    method: str,
    window: int | None,
    align: str,
    regularisation: float | None,
    *,
    weights: Path | None = None,
    engine: str | None = None,
) -> ReconstructionOptions:
    find_method(method)
    given: dict[str, Any] = {
        "method": method,
        "window": window,
        "align": align,
        "regularisation": regularisation,
        "weights": None if weights is None else str(weights),
        "engine": engine,
    }
    try:
        return ReconstructionOptions(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        option, value, reason = first_problem(error)
        raise InputError(
            _("--{option} {value} cannot be used: {reason}.").format(option=option, value=value, reason=reason)
        ) from None


def _picture_style(show: str, colour_map: str) -> PictureStyle:
    lut(colour_map)
    if show not in CONTENTS:
        raise InputError(
            _("--show {value} cannot be used; choose {names}.").format(value=show, names=", ".join(CONTENTS))
        )
    return PictureStyle(content=cast(Content, show), colour_map=colour_map)


def check_share(option: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(
            _("{option} {value} cannot be used: it must be from 0 to 1.").format(option=option, value=value)
        )


def _check_use(option: str, given: bool, outputs: list[Path], suffixes: Collection[str]) -> None:
    """An option that no output listens to is a misunderstanding; better said than ignored."""
    if given and not any(path.suffix.lower() in suffixes for path in outputs):
        raise InputError(
            _("{option}: this concerns only {suffixes} results, and none is asked for.").format(
                option=option, suffixes=" ".join(suffixes)
            )
        )


def _check_outputs(outputs: list[Path], input_path: Path, stack: FocalStack) -> None:
    """Everything that would spoil the writing is said now, before the long computation."""
    source = input_path.resolve()
    kept = set(frame_files(source)) if source.is_dir() else {source}
    seen: set[Path] = set()
    for path in outputs:
        target = path.resolve()
        if target in kept:
            raise OutputError(_("{path} is part of the input and would be overwritten.").format(path=path))
        if target in seen:
            raise OutputError(_("{path} is given twice.").format(path=path))
        seen.add(target)
        check_output(path, calibrated=stack.z_unit == "um" and stack.pixel_um is not None)


def reconstruct_timed(stack: FocalStack, options: ReconstructionOptions) -> tuple[HeightMap, float]:
    """The map with the identity of its stack, and the seconds that the reconstruction took."""
    start = time.perf_counter()
    with progress_bar(_("Reconstructing")) as report:
        height_map = reconstruct(stack, options, progress=report)
    seconds = time.perf_counter() - start
    provenance = {**height_map.provenance, "source": stack.metadata.get("source"), "stack_sha256": stack_sha256(stack)}
    return replace(height_map, provenance=provenance), seconds


def summary_of(input_path: Path, stack: FocalStack, height_map: HeightMap, seconds: float) -> dict[str, Any]:
    heights = height_map.height_um[np.isfinite(height_map.height_um)]
    return {
        "input": str(input_path),
        "frames": len(stack),
        "rows": height_map.shape[0],
        "columns": height_map.shape[1],
        "z_unit": height_map.z_unit,
        "step": stack.step_um,
        "pixel_um": height_map.pixel_um,
        "method": height_map.method,
        "parameters": dict(height_map.parameters),
        "lowest": float(heights.min()) if heights.size else None,
        "highest": float(heights.max()) if heights.size else None,
        "missing_share": 1 - heights.size / height_map.height_um.size,
        "peak_at_end_share": float(height_map.has_flag(Flag.PEAK_AT_END).mean()),
        "mean_confidence": float(height_map.confidence.mean()),
        "median_interval95": _median(height_map.interval95_um),
        "stack_sha256": height_map.provenance["stack_sha256"],
        "seconds": round(seconds, 3),
    }


def _median(interval: NDArray[np.float32] | None) -> float | None:
    """Half the width of the interval of the middle pixel; None where there is none."""
    return None if interval is None or np.isnan(interval).all() else float(np.nanmedian(interval))


def _print_summary(stack: FocalStack, height_map: HeightMap, summary: dict[str, Any]) -> None:
    unit = _("frames") if height_map.z_unit == "frame" else "µm"
    lowest, highest = summary["lowest"], summary["highest"]
    facts = {
        _("stack"): _("{n} frames of {size} pixels").format(n=len(stack), size=size_text(stack.image_shape)),
        _("method"): f"{height_map.method} ({summary['seconds']:.2f} s)",
        _("heights"): "-" if lowest is None else f"{lowest:z.2f} … {highest:z.2f} {unit}",
        _("missing"): f"{summary['missing_share']:.1%}",
        _("peak on first or last frame"): f"{summary['peak_at_end_share']:.1%}",
        _("mean confidence"): f"{summary['mean_confidence']:.2f}",
    }
    if summary["median_interval95"] is not None:
        facts[_("uncertainty (95 %)")] = _("± {u:.2f} {unit} at the median pixel").format(
            u=summary["median_interval95"], unit=unit
        )
    print_facts({**facts, _("written"): "\n".join(summary["outputs"])})
    if height_map.z_unit == "frame":
        complain(_("The step between the frames is unknown, so heights count frames. Give it with --step-um."))


def size_text(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]}"
