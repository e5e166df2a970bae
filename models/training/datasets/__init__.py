"""Other people's depth-from-focus data sets, read lazily as scenes.

Each module holds one family, with its layout and where that is described.
"""

from pathlib import Path

from models.errors import InputError
from models.language import N_, _
from models.training.datasets import defocusnet, middlebury, named_by_disparity, sample_folders, stack_files
from models.training.datasets.data_set import DataSet

__all__ = ["LAYOUTS", "DataSet", "open_data_set"]

_FOLDERS = {
    "defocusnet": defocusnet,
    "flyingthings": named_by_disparity,
    "middlebury": middlebury,
    "samples": sample_folders,
}
"""In the order in which they are tried: the last one takes any folder with numbered images."""

LAYOUTS = {**stack_files.EXPECTED, **{layout: module.EXPECTED for layout, module in _FOLDERS.items()}}
"""What :func:`open_data_set` reads, each with what it expects (English, to be translated by ``_``)."""

_NOTHING_FITS = N_("{path} is no data set that Reliefscope knows. Expected is one of:\n{layouts}")


def open_data_set(path: str | Path, layout: str | None = None) -> DataSet:
    """The scenes of the file or folder ``path``, read when they are asked for.

    ``layout`` is one of ``LAYOUTS``; None finds it out. Raises InputError where nothing fits, saying what was
    expected, and where the file or a listing of it is damaged; damage to one scene shows when that is read.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise InputError(_("There is no file or folder {path}.").format(path=path))
    if layout is None:
        layout = _detect(path)
    if layout not in LAYOUTS:
        raise InputError(
            _("'{layout}' is no layout of a data set. Layouts: {layouts}.").format(
                layout=layout, layouts=", ".join(LAYOUTS)
            )
        )
    is_folder = layout in _FOLDERS
    if is_folder != path.is_dir():
        raise _unexpected(path, layout)
    entries = _FOLDERS[layout].entries(path) if is_folder else stack_files.entries(path, layout)
    if not entries:
        raise _unexpected(path, layout)
    return DataSet(path, layout, entries)


def _detect(path: Path) -> str:
    if path.is_dir():
        layout = next((layout for layout, module in _FOLDERS.items() if module.detect(path)), None)
    else:
        layout = stack_files.detect(path)
    if layout is None:
        lines = "\n".join(f"- {name}: {_(expected)}" for name, expected in LAYOUTS.items())
        raise InputError(_(_NOTHING_FITS).format(path=path, layouts=lines))
    return layout


def _unexpected(path: Path, layout: str) -> InputError:
    return InputError(
        _("{path} has not the layout '{layout}': {expected}.").format(
            path=path, layout=layout, expected=_(LAYOUTS[layout])
        )
    )
