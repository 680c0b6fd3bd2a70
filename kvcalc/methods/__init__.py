"""Methods: pure functions Model -> Model, one file each, so that they compose.

A method file holds

    apply(model, *, parameters) -> the changed model

with the parameter names and defaults of the authors' own code, and TRAITS: a description, how much it keeps, and the
meaning of each parameter. Parameters are given as `snapkv:max_capacity_prompt=4096,window_size=64`, or in a shorter
form that its traits `parse`, such as `gqa:16`. Its assumptions go into the model's notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TypeAlias

from kvcalc.errors import InvalidValueError, UnknownNameError
from kvcalc.methods._traits import Traits
from kvcalc.model import Applied, Model
from kvcalc.registry import Registry
from kvcalc.units import shown

Value: TypeAlias = bool | int | Fraction | str | tuple[int, ...]
"""Value of a parameter on the command line."""
METHODS = Registry("kvcalc.methods", "attention or method")
_LONGEST = 4096
"""Length at which a value is too long for a parameter."""


def apply_method(model: Model, spec: str) -> Model:
    """`model` changed by the method in `spec`: `mqa`, `gqa:16`, `mla:512+64`, `l2-norm:keep_ratio=0.5`.

    Raises UnknownNameError, InvalidValueError for a bad argument, NotApplicableError.
    """
    if not isinstance(spec, str):
        raise InvalidValueError(f"a method must be text, not {shown(spec)}", help="for example 'gqa:8'")
    name, _, argument = spec.partition(":")
    name, argument = name.strip().lower(), argument.strip()
    method = METHODS.module(name)
    traits: Traits = method.TRAITS
    arguments: Mapping[str, object]
    if "=" in argument or traits.parse is None:
        arguments = _named(name, method.apply, argument)
    else:
        arguments = traits.parse(argument)
    changed: Model = method.apply(model, **arguments)
    return replace(changed, methods=(*model.methods, Applied(name, {**parameters(method.apply), **arguments})))


def specs_in(text: str) -> list[str]:
    """Methods in one text: `snapkv;kivi`, `snapkv,kivi`, `snapkv:window_size=64,max_capacity_prompt=512,mqa`.

    A comma separates two parameters if a parameter follows it, otherwise two methods.
    """
    specs: list[str] = []
    for part in text.split(";"):
        first = len(specs)
        for piece in part.split(","):
            if "=" in piece.partition(":")[0] and len(specs) > first:
                specs[-1] += f",{piece.strip()}"
            elif piece.strip():
                specs.append(piece.strip())
    return specs


def parameters(method: Callable[..., Model]) -> dict[str, object]:
    """Parameters of a method's `apply` by name, with their defaults (... if required)."""
    from inspect import Parameter, signature

    _, *declared = signature(method).parameters.values()
    return {each.name: ... if each.default is Parameter.empty else each.default for each in declared}


def _named(name: str, method: Callable[..., Model], argument: str) -> dict[str, Value]:
    """Keyword arguments of `key=value,key=value`."""
    known = parameters(method)
    arguments: dict[str, Value] = {}
    for pair in argument.split(",") if argument else ():
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise InvalidValueError(
                f"{name} takes parameter=value, not {pair.strip()!r}", help=f"known: {', '.join(known) or 'none'}"
            )
        if not known:
            raise InvalidValueError(
                f"{name} takes no parameter, not {pair.strip()!r}", help=f"write {name} without a parameter"
            )
        if key not in known:
            raise UnknownNameError.among(f"parameter of {name}", key, known)
        arguments[key] = _value(value, known[key], key)
    return arguments


def _value(text: str, default: object, key: str) -> Value:
    """A value of its parameter's type: a switch, a list (0+1), a ratio, or a whole number."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise InvalidValueError(
                f"{key} must be true or false, not {shown(text)}", field=key, help=f"write {key}=true"
            )
        return text.lower() == "true"
    if key.endswith("_dtype"):
        return text
    ratio = isinstance(default, float) or key.endswith("_ratio")
    parts = text.split("+") if isinstance(default, tuple) else [text]
    if key.startswith("axis_"):  # the last axis is -1
        parts = [text.removeprefix("-")]
    if len(text) > _LONGEST or not all(_is_number(part, fraction=ratio) for part in parts):
        kind = "whole numbers, written 0+1" if isinstance(default, tuple) else "a number"
        raise InvalidValueError(
            f"{key} must be {kind}, not {text[:40]!r}", field=key, help=f"write {key}={_example(default, ratio=ratio)}"
        )
    if isinstance(default, tuple):
        return tuple(map(int, parts))
    return Fraction(text) if ratio else int(text)


def _is_number(text: str, *, fraction: bool) -> bool:
    digits = text.replace(".", "", 1) if fraction else text
    return digits.isascii() and digits.isdecimal() and len(digits) < len("1" + "0" * 18)


def _example(default: object, *, ratio: bool) -> str:
    return "0+1" if isinstance(default, tuple) else "0.5" if ratio else str(default or 1)
