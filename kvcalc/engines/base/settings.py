"""Fields of engines: their meanings, and shared checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field as dataclass_field
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kvcalc.errors import InvalidValueError
from kvcalc.units import positive_int, shown

if TYPE_CHECKING:
    from kvcalc.engines.base import Engine
    from kvcalc.report.sheet import Json

Value = TypeVar("Value")
_MEANING = "meaning"
_MOST = 10**9
"""Numbers that are implausible for any setting."""


class Setting(NamedTuple):
    """A setting of an engine: its name, default and meaning."""

    name: str
    default: Json
    meaning: str


def setting(default: Value, meaning: str) -> Value:
    """A field of an engine's dataclass, with its default and its meaning."""
    return dataclass_field(default=default, metadata={_MEANING: meaning})


def settings_of(engine: Engine) -> tuple[Setting, ...]:
    """Each setting of an engine with its value, in order."""
    if not is_dataclass(engine):
        return ()
    return tuple(Setting(f.name, getattr(engine, f.name), f.metadata.get(_MEANING, "")) for f in fields(engine))


def one_of(value: object, field: str, choices: tuple[str | int, ...]) -> None:
    """Raises InvalidValueError if a setting is none of its choices."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise InvalidValueError(
            f"{field} must be one of {', '.join(map(str, choices))}, not {shown(value)}",
            field=field,
            help=f"write {field}={choices[0]}",
        )


def count_from(value: object, field: str, least: int) -> None:
    """Raises InvalidValueError if a setting is neither None nor a whole number of at least `least` (0 or 1)."""
    if value is None or (type(value) is int and value == 0 == least):
        return
    if type(value) is int and value < least == 0:
        raise InvalidValueError(f"{field} must be at least 0, not {shown(value)}", field=field, help=f"write {field}=0")
    positive_int(value, field)


def number_above_zero(value: object, field: str) -> None:
    """Raises InvalidValueError if a setting is neither None nor a plausible number above 0."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST):
        return
    raise InvalidValueError(
        f"{field} must be a number above 0, not {shown(value)}", field=field, help=f"write {field}=2"
    )


def flag(value: object, field: str) -> None:
    """Raises InvalidValueError if a setting is not true or false; 0 and 1 are accepted."""
    if not isinstance(value, bool) and not (type(value) is int and value in (0, 1)):
        raise InvalidValueError(
            f"{field} must be true or false, not {shown(value)}", field=field, help=f"write {field}=1 or {field}=0"
        )


def share(value: object, field: str, example: float) -> None:
    """Raises InvalidValueError if a setting is not a number above 0 and up to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise InvalidValueError(
            f"{field} must be above 0 and at most 1, not {shown(value)}", field=field, help=f"write {field}={example}"
        )


def mapping(value: object, field: str, example: str) -> None:
    """Raises InvalidValueError for a setting that is neither a mapping nor None."""
    if value is not None and not isinstance(value, Mapping):
        raise InvalidValueError(
            f"{field} must be a mapping of names and values, not {shown(value)}",
            field=field,
            help=f"for example {field}: {example}",
        )
