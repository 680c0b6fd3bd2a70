"""Settings of --engine-set: NAME=VALUE, each value of the type that the engine's own field has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.engines import Engine

_WHOLE = re.compile(r"-?[0-9]{1,19}")
"""More digits make no number that any engine takes."""
_IN_THOUSANDS = re.compile(r"[0-9.]{1,19}[kKmMgG]i?")


def engine_settings(engine: Engine, texts: Sequence[str]) -> dict[str, Any]:
    """Settings by name, as the engine's fields want them; what is no such value stays text, and the engine says why.

    Raises InvalidValueError for what is not NAME=VALUE.
    """
    kinds = {field.name: str(field.type) for field in fields(engine.settings)}
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name):
            raise InvalidValueError(
                f"a setting is NAME=VALUE, not {text!r}", where="--engine-set", help="write window=full"
            )
        found[name] = _typed(kinds.get(name, "str"), value)
    return found


def _typed(kind: str, text: str) -> Any:
    """The value that a text means for a field of this type."""
    if kind.startswith("bool"):
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind.startswith("int"):
        return _whole(text)
    if kind.startswith(("float", "Mapping", "Sequence")):
        return _json(text)
    return text


def _whole(text: str) -> int | str:
    """128K is 131,072 here as it is everywhere."""
    if _WHOLE.fullmatch(text):
        return int(text)
    if not _IN_THOUSANDS.fullmatch(text):
        return text

    from kvcalc.units import parse_tokens

    return parse_tokens(text)


def _json(text: str) -> Any:
    from json import loads

    try:
        return loads(text)
    except (ValueError, RecursionError):
        return text
