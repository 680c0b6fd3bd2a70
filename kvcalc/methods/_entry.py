"""The report on a method: its traits, and its parameters in words."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Rational

from kvcalc.methods import METHODS, parameters
from kvcalc.report.methods import MethodEntry


def entry_of(name: str, arguments: Mapping[str, object] | None = None) -> MethodEntry:
    """A method with its parameters: defaults, or given values."""
    method = METHODS.module(name)
    traits = method.TRAITS._asdict()
    values = {key: _in_words(value) for key, value in (arguments or parameters(method.apply)).items()}
    shown = {name: value for name, value in traits.items() if name != "parse"}
    return MethodEntry(name, **{**shown, "parameters": values}, meanings=traits["parameters"])


def _in_words(default: object) -> str:
    """A default as written by users."""
    if default is ...:
        return "required"
    if default is None or default == ():
        return "none"
    if isinstance(default, tuple):
        return "+".join(map(str, default))
    if isinstance(default, Rational) and not isinstance(default, int):
        return f"{float(default):g}"
    return str(default).lower() if isinstance(default, bool) else str(default)
