"""``info`` and ``methods``: what is in a file, what comes with the program, and what it can do."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from app.terminal import complain, print_facts, print_json, print_table
from models.errors import InputError
from models.focal_stack import FocalStack
from models.formats import read_height_map, read_stack
from models.formats.maps import READ_SUFFIXES, is_tiff_map
from models.height_map import HeightMap
from models.labels.label_file import has_label, read_label
from models.language import N_, _
from models.methods import DEFAULT_METHOD, METHODS, Kind
from models.networks.weights import SUFFIX, WeightsFile, describe_weights, shipped_files
from models.schema import software_version
from models.storage import (
    SAMPLE_SUFFIXES,
    frames_written,
    has_stack,
    is_complete,
    load_reconstruction,
    open_stack,
    reconstruction_names,
)

SOURCES = {
    "invalid": N_("unknown"),
    "focus": N_("focus"),
    "confocal": N_("scan"),
    "fused": N_("both"),
    "interpolated": N_("interpolated"),
    "manual": N_("by hand"),
    "cloned": N_("cloned"),
    "conflict": N_("contradiction"),
}
"""Where the heights of a label come from, by name of its provenance."""

_FROM_FILE = ("pixel_um_in_file", "range_in_file", "z_offset", "unit_in_file", "channel", "instrument", "measured")

KINDS: dict[Kind, str] = {
    "network": N_("Networks"),
    "measure": N_("Focus measures"),
    "volume": N_("Methods of the whole focus volume"),
}


def register(cli: typer.Typer) -> None:
    """Add the commands, with help in the language in use."""
    Json = Annotated[bool, typer.Option("--json", help=_("Print one JSON document instead of a table."))]  # noqa: N806

    @cli.command(
        "info",
        help=_(
            "Say what is in a file or folder: frames, scale, reconstructions. Without a FILE: which trained weights "
            "come with the program."
        ),
    )
    def info_command(
        file: Annotated[
            Path | None,
            typer.Argument(metavar="FILE", help=_("A stack, a height map, a folder of images or a file of weights.")),
        ] = None,
        as_json: Json = False,
    ) -> None:
        if file is None:
            _say_what_is_shipped(as_json)
            return
        facts = _describe(file)
        if as_json:
            print_json(facts)
            return
        print_facts(_readable(facts))
        if facts.get("complete") is False:
            complain(
                _("This capture was interrupted. Recover its frames with: reliefscope recover {file}").format(file=file)
            )

    @cli.command("methods", help=_("List the methods of reconstruction."))
    def methods_command(as_json: Json = False) -> None:
        if as_json:
            print_json(
                [
                    {
                        "name": m.name,
                        "kind": m.kind,
                        "title": m.title,
                        "summary": m.summary,
                        "source": m.source,
                        "default": m.name == DEFAULT_METHOD,
                        "needs_whole_stack": m.whole_stack,
                    }
                    for m in METHODS.values()
                ]
            )
            return
        for kind, heading in KINDS.items():
            print(_(heading))
            print_table(
                (_("name"), _("method"), _("good for")),
                [(m.name, _(m.title), f"{_(m.summary)} {m.source}.") for m in METHODS.values() if m.kind == kind],
            )
            print()


def _say_what_is_shipped(as_json: bool) -> None:
    """The program, and the weights that come with it."""
    weights = [_describe_weights(describe_weights(path)) for path in shipped_files()]
    if as_json:
        print_json({"version": software_version(), "weights": weights})
        return
    print(f"reliefscope {software_version()}")
    if not weights:
        print(_("No trained weights come with this program. Give a file of yours with --weights."))
        return
    print_table(
        (_("network"), _("weights"), "SHA-256", _("card")),
        [(w["network"], w["path"], w["sha256"], w["card"] or "-") for w in weights],
    )


def _describe_weights(found: WeightsFile) -> dict[str, Any]:
    return {
        "network": found.network,
        "path": str(found.path),
        "sha256": found.sha256,
        "calibrated": found.calibrated,
        "card": None if found.card is None else str(found.card),
    }


def _describe(path: Path) -> dict[str, Any]:
    """Everything that ``info`` knows about ``path``, as JSON values."""
    if not path.exists():
        raise InputError(_("There is no file or folder {path}.").format(path=path))
    suffix = path.suffix.lower()
    facts: dict[str, Any] = {"path": str(path)}
    if suffix == SUFFIX and not path.is_dir():
        return {**facts, "kind": "weights", **_describe_weights(describe_weights(path))}
    if suffix in SAMPLE_SUFFIXES and not path.is_dir():
        return {**facts, **_describe_sample(path)}
    if not path.is_dir() and suffix in READ_SUFFIXES and (suffix not in (".tif", ".tiff") or is_tiff_map(path)):
        return {**facts, "kind": "height map", **_describe_map(read_height_map(path))}
    return {**facts, "kind": "stack", **_describe_stack(read_stack(path))}


def _describe_sample(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": "sample", "complete": is_complete(path)}
    if has_stack(path):
        written, planned = frames_written(path)
        facts |= {"frames_written": written, "frames_planned": planned}
        if facts["complete"]:
            facts |= _describe_stack(open_stack(path))
    facts["reconstructions"] = {
        name: _describe_map(load_reconstruction(path, name)) for name in reconstruction_names(path)
    }
    if has_label(path):
        facts["label"] = read_label(path).shares()
    return facts


def _describe_stack(stack: FocalStack) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "frames": len(stack),
        "rows": stack.image_shape[0],
        "columns": stack.image_shape[1],
        "colour": "rgb" if len(stack.frames.shape) == 4 else "grey",
        "bits": 8 * int(np.dtype(stack.frames.dtype).itemsize),
        "z_unit": stack.z_unit,
        "first": float(stack.z_um[0]),
        "last": float(stack.z_um[-1]),
        "step": stack.step_um,
        "pixel_um": stack.pixel_um,
    }
    if stack.optics is not None:
        facts |= {"magnification": stack.optics.magnification, "na": stack.optics.na}
    return facts


def _describe_map(height_map: HeightMap) -> dict[str, Any]:
    heights = height_map.height_um[np.isfinite(height_map.height_um)]
    return {
        "rows": height_map.shape[0],
        "columns": height_map.shape[1],
        "z_unit": height_map.z_unit,
        "pixel_um": height_map.pixel_um,
        "method": height_map.method,
        "lowest": float(heights.min()) if heights.size else None,
        "highest": float(heights.max()) if heights.size else None,
        "missing_share": 1 - heights.size / max(1, height_map.height_um.size),
        **{name: height_map.provenance[name] for name in _FROM_FILE if name in height_map.provenance},
    }


def _readable(facts: dict[str, Any]) -> dict[str, str]:
    """The same facts in words."""
    words = {_("file"): facts["path"]}
    if facts["kind"] == "weights":
        calibrated = _("yes") if facts["calibrated"] else _("no: they state no uncertainty")
        return words | {
            _("network"): facts["network"],
            "SHA-256": facts["sha256"],
            _("calibrated"): calibrated,
            _("card"): facts["card"] or "-",
        }
    if "complete" in facts and not facts["complete"]:
        words[_("state")] = _("interrupted: {written} of {planned} frames were written").format(
            written=facts["frames_written"], planned=facts["frames_planned"]
        )
    if "frames" in facts:
        words |= _readable_stack(facts)
    if facts["kind"] == "height map":
        words |= _readable_map_file(facts)
    for name, entry in facts.get("reconstructions", {}).items():
        words[_("height map '{name}'").format(name=name)] = _readable_map(entry)
    if "label" in facts:
        words[_("label")] = ", ".join(f"{_(SOURCES[kind])} {share:.1%}" for kind, share in facts["label"].items())
    return words


def _readable_stack(facts: dict[str, Any]) -> dict[str, str]:
    unit = _unit(facts["z_unit"])
    known = _("step {step:g} µm").format(step=facts["step"]) if facts["z_unit"] == "um" else _("step unknown")
    colour = _("RGB") if facts["colour"] == "rgb" else _("grey")
    words = {
        _("frames"): _("{n} of {columns} x {rows} pixels, {colour}, {bits} bit").format(
            n=facts["frames"], columns=facts["columns"], rows=facts["rows"], colour=colour, bits=facts["bits"]
        ),
        _("heights"): f"{facts['first']:g} … {facts['last']:g} {unit}, {known}",
        _("pixel"): _("unknown") if facts["pixel_um"] is None else f"{facts['pixel_um']:g} µm",
    }
    if "magnification" in facts:
        words[_("objective")] = f"{facts['magnification']:g}x / NA {facts['na']:g}"
    return words


def _readable_map(facts: dict[str, Any]) -> str:
    size = f"{facts['columns']} x {facts['rows']}"
    if facts["lowest"] is None:
        return size
    method = f", {facts['method']}" if facts["method"] else ""
    return f"{size}, {facts['lowest']:.2f} … {facts['highest']:.2f} {_unit(facts['z_unit'])}{method}"


def _readable_map_file(facts: dict[str, Any]) -> dict[str, str]:
    """What to compare with the instrument's own display before its numbers are believed."""
    pixel = _("unknown") if facts["pixel_um"] is None else f"{facts['pixel_um']:.4g} µm"
    if (in_file := facts.get("pixel_um_in_file")) is not None:
        pixel = _("{pixel}, from {x:.4g} x {y:.4g} µm in the file").format(pixel=pixel, x=in_file[0], y=in_file[1])
    words = {_("height map"): _readable_map(facts), _("pixel"): pixel, _("missing"): f"{facts['missing_share']:.1%}"}
    if (heights := facts.get("range_in_file")) is not None:
        words[_("heights in the file")] = f"{heights[0]:.2f} … {heights[1]:.2f} {_unit(facts['z_unit'])}"
    if "z_offset" in facts:
        words[_("taken off")] = _("{offset:g} µm, which float32 cannot hold exactly").format(offset=facts["z_offset"])
    if facts["z_unit"] != "um":
        words[_("unit")] = _("unknown: the file names none")
    if facts.get("instrument"):
        words[_("instrument")] = facts["instrument"]
    return words


def _unit(z_unit: str) -> str:
    return "µm" if z_unit == "um" else _("frames")
