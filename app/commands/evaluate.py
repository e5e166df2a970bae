"""``evaluate``: how far reconstructions are from known heights, for one stack or for many scenes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands.reconstruct import check_share, reconstruction_options, size_text, summary_of
from app.commands.stack_options import stack_options
from app.terminal import ended_by_ctrl_c, print_facts, print_json, print_table, progress_bar
from models.benchmark import Accuracy
from models.errors import InputError
from models.evaluate import Comparison, compare, figures
from models.focal_stack import FocalStack
from models.formats import read_height_map, read_stack
from models.height_map import HeightMap
from models.language import _
from models.methods import DEFAULT_METHOD, METHODS
from models.networks.registry import NETWORKS
from models.storage import SAMPLE_SUFFIXES, stack_sha256
from models.training.scene import Scene


def register(cli: typer.Typer) -> None:
    """Add the command, with help in the language in use."""
    given = stack_options()

    @cli.command("evaluate", help=_("Compare reconstructions with known heights."))
    def evaluate_command(
        input_path: Annotated[
            Path,
            typer.Argument(
                metavar="INPUT",
                help=_("A stack, with --truth; or a folder of scenes that know their heights, such as .h5 files."),
            ),
        ],
        truth: Annotated[
            Path | None,
            typer.Option(
                "--truth", metavar="FILE", help=_("Known heights, in the unit of the stack: .tif .npy .csv .x3p .h5")
            ),
        ] = None,
        step_um: given.step_um = None,
        z0_um: given.z0_um = None,
        descending: given.descending = False,
        pixel_um: given.pixel_um = None,
        method: Annotated[
            list[str] | None,
            typer.Option(
                "--method",
                help=_("One of: {names}; or a network. May be given several times.").format(names=", ".join(METHODS)),
            ),
        ] = None,
        weights: Annotated[
            list[Path] | None,
            typer.Option(
                "--weights", metavar="FILE", help=_("Weights of a network, .safetensors, or a folder of them.")
            ),
        ] = None,
        window: given.window = None,
        align: given.align = "none",
        regularisation: given.regularisation = None,
        confidence_above: Annotated[
            float,
            typer.Option("--confidence-above", metavar="0..1", help=_("Compare pixels of this confidence or more.")),
        ] = 0.0,
        by_kind: Annotated[bool, typer.Option("--by-kind", help=_("Also a table by kind of scene."))] = False,
        as_json: given.as_json = False,
    ) -> None:
        from models.benchmark_accuracy import labelled_scenes, score_all, summarise

        check_share("--confidence-above", confidence_above)
        options = reconstruction_options(DEFAULT_METHOD, window, align, regularisation)
        if truth is not None:
            stack = read_stack(input_path, step_um=step_um, z0_um=z0_um, descending=descending, pixel_um=pixel_um)
            scenes: Sequence[Scene] = [_known_scene(input_path, stack, truth)]
        elif step_um is not None or z0_um is not None or descending or pixel_um is not None:
            raise InputError(
                _("Scenes know their own heights: --step-um, --z0-um, --descending and --pixel-um need --truth.")
            )
        elif input_path.is_file() and input_path.suffix.lower() not in SAMPLE_SUFFIXES:
            raise InputError(
                _("{path} does not hold its known heights: give them with --truth.").format(path=input_path)
            )
        else:
            scenes = labelled_scenes(input_path)
        candidates = _candidates(method or [DEFAULT_METHOD], weights or [], options)
        with ended_by_ctrl_c():
            if truth is not None and len(candidates) == 1:
                _evaluate_one(input_path, truth, scenes[0], candidates[0], confidence_above, as_json)
                return
            with progress_bar(_("Evaluating")) as report:
                scores = score_all(scenes, candidates, confidence_above=confidence_above, progress=report)
        rows = summarise(scores, candidates)
        if as_json:
            document = {
                "input": str(input_path),
                "scenes": len({one.scene for one in scores}),
                "methods": _as_json(rows),
            }
            print_json(
                {
                    **document,
                    "by_scene": [
                        _flat(one.figures, scene=one.scene, kind=one.kind, method=one.method, seconds=one.seconds)
                        for one in scores
                    ],
                }
            )
            return
        _print_rows([row for row in rows if not row.kind])
        if by_kind:
            _print_kinds(rows)


def _candidates(names: Sequence[str], weights: Sequence[Path], options: Any) -> list[Any]:
    """What is to be compared. Weights that no method asked for are a misunderstanding; better said than ignored."""
    from models.benchmark_accuracy import find_candidate, find_weights

    for name in names:
        if name not in METHODS and name not in NETWORKS:
            find_candidate(name)
        if names.count(name) > 1:
            raise InputError(_("--method {name} is given twice.").format(name=name))
    files = find_weights(weights) if weights else {}
    unused = [name for name in files if name not in names]
    if unused and not any(path.is_dir() for path in weights):
        raise InputError(
            _("The weights in {path} are of the network '{name}', which is not among the methods.").format(
                path=files[unused[0]], name=unused[0]
            )
        )
    return [find_candidate(name, options, files) for name in names]


def _known_scene(input_path: Path, stack: FocalStack, truth: Path) -> Scene:
    known = read_height_map(truth)
    if known.shape != stack.image_shape:
        raise InputError(
            _("The known heights {truth} have {a} pixels, the frames {b}.").format(
                truth=truth, a=size_text(known.shape), b=size_text(stack.image_shape)
            )
        )
    if known.z_unit == "um" and stack.z_unit == "frame":
        raise InputError(_("The known heights are in micrometres: give the step of the stack with --step-um."))
    return Scene(input_path.stem, "", stack, known.height_um)


def _evaluate_one(
    input_path: Path, truth: Path, scene: Scene, candidate: Any, confidence_above: float, as_json: bool
) -> None:
    """One method on one stack, in detail."""
    stack = scene.stack
    start = time.perf_counter()
    with progress_bar(_("Reconstructing")) as report:
        found = candidate.run(stack, report)
    seconds = time.perf_counter() - start
    result = compare(found, scene.height_um, step_um=stack.step_um, confidence_above=confidence_above, z_um=stack.z_um)
    summary = summary_of(input_path, stack, _identified(found, stack), seconds)
    if as_json:
        print_json({**summary, "truth": str(truth), **figures(result)})
    else:
        _print_comparison(result, stack, summary)


def _identified(height_map: HeightMap, stack: FocalStack) -> HeightMap:
    return replace(height_map, provenance={**height_map.provenance, "stack_sha256": stack_sha256(stack)})


def _as_json(rows: Sequence[Accuracy]) -> list[dict[str, Any]]:
    """One entry per method, with its figures by kind of scene."""
    return [
        {
            **_flat(row.figures, method=row.method, scenes=row.count, seconds=row.seconds),
            "weights_sha256": row.weights_sha256,
            "kinds": {
                one.kind: _flat(one.figures, scenes=one.count, seconds=one.seconds)
                for one in rows
                if one.method == row.method and one.kind
            },
        }
        for row in rows
        if not row.kind
    ]


def _flat(values: Mapping[str, float | None], **facts: Any) -> dict[str, Any]:
    return {**facts, **values}


def _print_rows(rows: Sequence[Accuracy]) -> None:
    """All figures, one line per method; in two tables, or a terminal would fold them."""
    print_table(
        (_("method"), "MAE", "RMSE", "MSE", "AbsRel", "SqRel", _("median"), _("seconds")),
        [
            (
                row.method,
                *(
                    _number(row.figures[f"{name}_steps"])
                    for name in ("mean_absolute_error", "root_mean_square_error", "mean_square_error")
                ),
                _number(row.figures["absolute_relative_error"]),
                _number(row.figures["square_relative_error_steps"]),
                _number(row.figures["median_absolute_error_steps"]),
                f"{row.seconds:.3f}",
            )
            for row in rows
        ],
    )
    print()
    print_table(
        (_("method"), _("bumpiness"), "δ1", "δ2", "δ3", _("> 1 step"), _("in 68 %"), _("in 95 %"), "MAE"),
        [
            (
                row.method,
                _number(row.figures["bumpiness"]),
                *(
                    _share(row.figures[name])
                    for name in (*(f"within_1.25^{k}" for k in (1, 2, 3)), "bad_share", "inside_68", "inside_95")
                ),
                _number(row.figures["mean_absolute_error"]),
            )
            for row in rows
        ],
    )
    print()
    print(
        _(
            "{n} scene(s). Errors in the first table are in steps, the last column is in the unit of the scenes; "
            "seconds are the median per scene."
        ).format(n=max(row.count for row in rows))
    )


def _print_kinds(rows: Sequence[Accuracy]) -> None:
    """Mean absolute error in steps, kind by kind."""
    methods = list(dict.fromkeys(row.method for row in rows))
    errors = {(row.kind, row.method): row for row in rows if row.kind}
    kinds = sorted({kind for kind, _method in errors})
    print()
    print_table(
        (_("MAE by kind"), _("scenes"), *methods),
        [
            (
                kind,
                str(errors[kind, methods[0]].count),
                *(_number(errors[kind, method].figures["mean_absolute_error_steps"]) for method in methods),
            )
            for kind in kinds
        ],
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _print_comparison(result: Comparison, stack: FocalStack, summary: Mapping[str, Any]) -> None:
    if result.count == 0:
        raise InputError(_("No pixel has both a height and a known height: there is nothing to compare."))
    unit = _("frames") if stack.z_unit == "frame" else "µm"
    facts = {
        _("stack"): _("{n} frames of {size} pixels").format(n=len(stack), size=size_text(stack.image_shape)),
        _("method"): f"{summary['method']} ({summary['seconds']:.2f} s)",
        _("mean absolute error"): _("{error:.4f} {unit} = {steps:.3f} steps").format(
            error=result.mean_absolute_um, unit=unit, steps=result.mean_absolute_steps
        ),
        _("median absolute error"): f"{result.median_absolute_um:.4f} {unit}",
        _("root mean square error"): f"{result.root_mean_square_um:.4f} {unit}",
        _("mean square error"): f"{result.mean_square_um2:.4f} {unit}²",
        _("bias"): f"{result.bias_um:+.4f} {unit}",
        _("relative error (AbsRel, SqRel)"): f"{result.absolute_relative:.4f}, {result.square_relative_um:.4f} {unit}",
        _("within 1.25, 1.25², 1.25³"): ", ".join(f"{share:.2%}" for share in result.within),
        _("bumpiness"): _number(figures(result)["bumpiness"]),
        _("off by more than one step"): f"{result.bad_fraction:.2%}",
        _("pixels compared"): f"{result.count} ({result.coverage:.1%})",
    }
    stated = {_("truth in the intervals of 68 %, 95 %"): f"{result.inside_68:.1%}, {result.inside_95:.1%}"}
    print_facts(facts | (stated if figures(result)["inside_68"] is not None else {}))
