"""One section of a profile as a form, made from the description that checks it (a pydantic model).

What a driver needs is asked for here without anybody having to draw it: a list of choices, a tick, or a line of text
that is read as the type of the field. Empty means: the default.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit, QVBoxLayout, QWidget

from app.fields import Form, Section
from app.theme import tabular
from models.language import N_, _

LABELS: dict[str, str] = {
    "port": N_("Port"),
    "index": N_("Number of the camera"),
    "serial": N_("Serial number"),
    "path": N_("Stack"),
    "configuration": N_("Configuration"),
    "axis": N_("Axis"),
    "low_um": N_("Lowest position"),
    "high_um": N_("Highest position"),
    "um_per_step": N_("One step"),
    "um_per_full_step": N_("One full step"),
    "sign": N_("Stage counts up: focus goes"),
    "soft_limits_um": N_("Heights allowed (low, high)"),
    "backlash_um": N_("Backlash"),
    "approach": N_("Every move ends"),
    "settle_ms": N_("Rest after a move"),
    "speed_um_s": N_("Speed"),
    "sensor_pixel_um": N_("Pixel on the sensor"),
    "trust_position": N_("Trust the position"),
}
"""What a field is called; those without a name here keep the file's, under "More settings"."""

CHOICES: dict[tuple[str, Any], str] = {
    ("sign", 1): N_("up"),
    ("sign", -1): N_("down"),
    ("approach", 1): N_("upwards"),
    ("approach", -1): N_("downwards"),
}
UNITS = (
    ("_um_s", "µm/s"),
    ("_um", "µm"),
    ("um_per_step", "µm"),
    ("um_per_full_step", "µm"),
    ("_ms", "ms"),
    ("_s", "s"),
)

Field = QLineEdit | QComboBox | QCheckBox


class SectionForm(QWidget):
    """Shows the fields of ``model``; ``value()`` gives what the user left in them, unchecked.

    ``hidden`` fields, and those that hold tables, keep what :meth:`__init__` was given in ``values``.
    """

    def __init__(self, model: type[BaseModel], values: Mapping[str, Any], hidden: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._values = dict(values)
        self.fields: dict[str, Field] = {}
        self._infos: dict[str, FieldInfo] = {}
        first, more = Form(), Form()
        for name in sorted(model.model_fields, key=lambda name: list(LABELS).index(name) if name in LABELS else 99):
            info = model.model_fields[name]
            if name == "driver" or name in hidden or _is_table(info):
                continue
            field = _field(name, info, self._values.get(name))
            self.fields[name], self._infos[name] = field, info
            (first if name in LABELS else more).row(label(name), field)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(first)
        self.more = Section(_("More settings"), more)
        self.more.header.setChecked(False)
        self.more.setVisible(any(name not in LABELS for name in self.fields))
        column.addWidget(self.more)

    def value(self) -> dict[str, Any]:
        """The section as it stands in a file."""
        kept = {name: value for name, value in self._values.items() if name not in self.fields}
        for name, field in self.fields.items():
            read = _read(field, self._infos[name])
            if read is not None:
                kept[name] = read
        return kept

    def set_text(self, name: str, text: str) -> None:
        """Put a value into a line of text, where the section has that field."""
        field = self.fields.get(name)
        if isinstance(field, QLineEdit):
            field.setText(text)

    def show_field(self, name: str) -> bool:
        """Lead the eye to a field; False where it is not here."""
        field = self.fields.get(name)
        if field is None:
            return False
        if name not in LABELS:
            self.more.header.setChecked(True)
        field.setFocus()
        return True


def label(name: str) -> str:
    """What a field is called on the page."""
    words = _(LABELS[name]) if name in LABELS else name
    unit = next((unit for ending, unit in UNITS if name.endswith(ending)), "")
    return f"{words} ({unit})" if unit and name in LABELS else words


def _types(info: FieldInfo) -> tuple[Any, ...]:
    """The alternatives of a field's type, without None."""
    kind = info.annotation
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return tuple(kind for kind in kinds if kind is not NoneType)


def _is_table(info: FieldInfo) -> bool:
    return any(get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel | dict))
               for kind in _types(info))  # fmt: skip


def _field(name: str, info: FieldInfo, value: Any) -> Field:
    kinds = _types(info)
    if any(get_origin(kind) is Literal for kind in kinds):
        box = QComboBox()
        options = [option for kind in kinds for option in get_args(kind)]
        if not info.is_required() and info.default is None:
            box.addItem(_("as the device stands"), None)
        for option in options:
            box.addItem(_(CHOICES[name, option]) if (name, option) in CHOICES else str(option), option)
        box.setCurrentIndex(max(0, box.findData(info.default if value is None else value)))
        return box
    if bool in kinds:
        tick = QCheckBox()
        tick.setChecked(bool(info.default if value is None else value))
        return tick
    line = QLineEdit(_text(value))
    if not info.is_required():
        line.setPlaceholderText(_("automatic") if info.default is None else _text(info.default))
    if info.description:
        line.setToolTip(info.description)
    line.setFont(tabular(line.font()))
    return line


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) and value == float(f"{value:g}") else str(value)


def _read(field: Field, info: FieldInfo) -> Any:
    if isinstance(field, QComboBox):
        return field.currentData()
    if isinstance(field, QCheckBox):
        return field.isChecked()
    text = field.text().strip()
    if not text:
        return None
    kinds = _types(info)
    if str in kinds or Path in kinds:
        return text
    words = f"[{text}]" if any(get_origin(kind) is tuple for kind in kinds) else text
    try:
        return tomllib.loads(f"value = {words}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # the check says what is expected instead
