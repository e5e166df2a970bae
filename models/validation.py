"""Settings from files: sections merged, and what pydantic found wrong in words and language of this program."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from models.language import N_, _

_REASONS = {
    "greater_than": N_("it must be more than {gt:g}"),
    "greater_than_equal": N_("it must be {ge:g} or more"),
    "less_than": N_("it must be less than {lt:g}"),
    "less_than_equal": N_("it must be {le:g} or less"),
    "finite_number": N_("it must be a finite number"),
    "float_parsing": N_("it must be a number"),
    "float_type": N_("it must be a number"),
    "int_parsing": N_("it must be a whole number"),
    "int_from_float": N_("it must be a whole number"),
    "int_type": N_("it must be a whole number"),
    "bool_parsing": N_("it must be true or false"),
    "bool_type": N_("it must be true or false"),
    "string_type": N_("it must be a text"),
    "literal_error": N_("it must be {expected}"),
    "missing": N_("it is missing"),
    "extra_forbidden": N_("there is no such setting"),
    "unknown_driver": N_("driver must be one of: {drivers}"),
    "even_window": N_("it must be an odd number, so that the window has a middle pixel"),
}
"""By pydantic's name of the error, and our own; anything else is told in pydantic's words."""


def first_problem(error: ValidationError) -> tuple[str, Any, str]:
    """(name of the field, parts joined by dots; the value given; why it cannot be used) of the first problem."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    reason = _REASONS.get(first["type"])
    if reason is None:
        return name, first["input"], first["msg"].removeprefix("Value error, ")
    return name, first["input"], _(reason).format(**first.get("ctx", {}))


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``changes`` over ``base``; a section takes over what it does not name."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
