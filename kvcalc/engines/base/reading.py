"""Settings written as text, as on a command line: each is parsed to the type of the engine's field."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Literal, get_args, get_origin, get_type_hints

from kvcalc.engines.base import Engine
from kvcalc.engines.base.support import Support
from kvcalc.engines.base.versions import Release
from kvcalc.errors import InvalidValueError
from kvcalc.units import parse_tokens, shown

Kind = Literal["text", "count", "number", "flag", "json", "list"]
_KINDS: dict[object, Kind] = {
    bool: "flag",
    int: "count",
    float: "number",
    str: "text",
    Mapping: "json",
    Sequence: "list",
}
_WHOLE = re.compile(r"-?[0-9]{1,19}")
"""Most digits of a number that any engine accepts."""
_IN_THOUSANDS = re.compile(r"[0-9.]{1,19}[kKmMgG]i?")
ON, OFF = ("true", "on", "yes", "1", "enabled"), ("false", "off", "no", "0", "disabled")
_WHAT: dict[Kind, str] = {"number": "a number", "json": "a JSON object", "flag": "true or false"}


@cache
def kinds_of(engine: type[Engine]) -> Mapping[str, Kind]:
    """Kind of each setting, by its field's type without None."""
    kinds = kinds_of_fields(engine)
    return kinds | {alias: kinds[name] for alias, name in engine.ALIASES.items()}


def kinds_of_fields(settings: type) -> dict[str, Kind]:
    """Kind of each field of a dataclass of settings."""
    hints = get_type_hints(settings, localns={"Release": Release, "Support": Support})
    return {field.name: _kind(hints[field.name]) for field in fields(settings)}


def _kind(hint: object) -> Kind:
    inner = (
        next((arm for arm in get_args(hint) if arm is not type(None)), hint) if type(None) in get_args(hint) else hint
    )
    return _KINDS[get_origin(inner) or inner]


def read_value(text: str, kind: Kind, name: str) -> object:
    """The value of a text. Raises InvalidValueError if it has another kind."""
    value = parse_tokens(text, name) if kind == "count" and not _WHOLE.fullmatch(text) else _READERS[kind](text)
    if value is None:
        raise InvalidValueError(
            f"{name} must be {_WHAT[kind]}, not {shown(text)}", field=name, help="write it as the engine expects it"
        )
    return value


def value_or_text(text: str, kind: Kind) -> object:
    """The value of a text; the text itself if it has another kind, so that the engine reports why."""
    value = _READERS[kind](text)
    return text if value is None else value


def _text(text: str) -> str:
    return text


def _whole(text: str) -> int | None:
    """128K is 131,072, as everywhere."""
    if _WHOLE.fullmatch(text):
        return int(text)
    return parse_tokens(text) if _IN_THOUSANDS.fullmatch(text) else None


def _flag(text: str) -> bool | None:
    return True if text.lower() in ON else False if text.lower() in OFF else None


def _number(text: str) -> int | float | None:
    value = _loaded(text)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _object(text: str) -> dict[str, object] | None:
    value = _loaded(text)
    return value if isinstance(value, dict) else None


def _list(text: str) -> list[object]:
    """`[0, 1]` as in JSON, or `0,1`."""
    value = _loaded(text) if text.startswith("[") else None
    return value if isinstance(value, list) else [_item(part.strip()) for part in text.split(",")]


def _item(text: str) -> int | str:
    return int(text) if _WHOLE.fullmatch(text) else text


def _loaded(text: str) -> object:
    from json import loads

    try:
        return loads(text)
    except (ValueError, RecursionError):
        return None


_READERS = {"text": _text, "count": _whole, "number": _number, "flag": _flag, "json": _object, "list": _list}


def read_settings(engine: type[Engine], texts: Sequence[str]) -> dict[str, object]:
    """Settings from NAME=VALUE, typed as the engine's fields. Raises InvalidValueError for any other form."""
    return read_pairs(kinds_of(engine), texts)


def read_pairs(
    kinds: Mapping[str, Kind], texts: Sequence[str], where: str = "--engine-set", example: str = "window=full"
) -> dict[str, object]:
    """Values from NAME=VALUE, by the kinds of their names. Raises InvalidValueError for any other form."""
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name):
            raise InvalidValueError(f"a setting is NAME=VALUE, not {shown(text)}", where=where, help=f"write {example}")
        found[name] = value_or_text(value, kinds.get(name, "text"))
    return found


def typed(engine: type[Engine], settings: Mapping[str, object]) -> dict[str, object]:
    """Settings, some of which may be written as text."""
    kinds = kinds_of(engine)
    return {
        name: value_or_text(value, kinds.get(name, "text")) if isinstance(value, str) else value
        for name, value in settings.items()
    }
