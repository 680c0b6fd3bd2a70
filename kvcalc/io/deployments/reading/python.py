"""Constants of a Python program. Nothing is run: computed values become unset variables."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping

UNKNOWN = "${computed}"
_DEEPEST = 40
_LARGEST = 2**32
_MOST_WORDS = 100_000
"""Longest concatenated list and text; a command line has some hundred words."""


def value_of(node: ast.expr, known: Mapping[str, object], depth: int = 0) -> object:
    """The value of an expression of constants and `known` names."""
    read = _READERS.get(type(node))
    return read(node, known, depth + 1) if read is not None and depth < _DEEPEST else UNKNOWN


def _constant(node: ast.Constant, known: Mapping[str, object], depth: int) -> object:  # noqa: ARG001
    return node.value if isinstance(node.value, str | int | float | None) else UNKNOWN


def _name(node: ast.Name, known: Mapping[str, object], depth: int) -> object:  # noqa: ARG001
    return known.get(node.id, f"${{{node.id}}}")


def _own(node: ast.Attribute, known: Mapping[str, object], depth: int) -> object:  # noqa: ARG001
    """self.NAME, which the class sets to a constant."""
    own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    return known.get(node.attr, UNKNOWN) if own else UNKNOWN


def _items(node: ast.List | ast.Tuple, known: Mapping[str, object], depth: int) -> list[object]:
    found: list[object] = []
    for item in node.elts:
        if isinstance(item, ast.Starred):
            inner = value_of(item.value, known, depth)
            found = joined(found, inner if isinstance(inner, list) else [inner])
        else:
            found.append(value_of(item, known, depth))
    return found


def _mapping(node: ast.Dict, known: Mapping[str, object], depth: int) -> dict[str, object]:
    pairs = [(key, value) for key, value in zip(node.keys, node.values, strict=True) if key is not None]
    return {str(value_of(key, known, depth)): value_of(value, known, depth) for key, value in pairs}


def _formatted(node: ast.JoinedStr, known: Mapping[str, object], depth: int) -> str:
    words = "".join(str(value_of(part, known, depth)) for part in node.values)
    return words if len(words) <= _MOST_WORDS else UNKNOWN


def _part(node: ast.FormattedValue, known: Mapping[str, object], depth: int) -> object:
    return value_of(node.value, known, depth)


def _choice(node: ast.IfExp, known: Mapping[str, object], depth: int) -> object:
    decided = value_of(node.test, known, depth)
    if isinstance(decided, int):
        return value_of(node.body if decided else node.orelse, known, depth)
    return UNKNOWN


def _sum(node: ast.BinOp, known: Mapping[str, object], depth: int) -> object:
    one, other = value_of(node.left, known, depth), value_of(node.right, known, depth)
    if isinstance(node.op, ast.Add):
        if isinstance(one, list) and isinstance(other, list):
            return joined(one, other)
        if isinstance(one, str) and isinstance(other, str) and len(one) + len(other) <= _MOST_WORDS:
            return one + other
    small = isinstance(one, int) and isinstance(other, int) and max(abs(one), abs(other)) < _LARGEST
    return one * other if small and isinstance(node.op, ast.Mult) else UNKNOWN  # type: ignore[operator]


def joined(one: list[object], other: list[object]) -> list[object]:
    """Two lists concatenated, up to a limit."""
    return [*one, *other] if len(one) + len(other) <= _MOST_WORDS else [UNKNOWN]


def _call(node: ast.Call, known: Mapping[str, object], depth: int) -> object:
    """str(N), " ".join(LIST), a default, as of os.environ.get("NAME", "..."), JSON, and a model of BentoML."""
    inner = [value_of(each, known, depth) for each in node.args]
    match node.func, inner:
        case ast.Name(id="str" | "int"), [str() | int() as value]:
            return value
        case ast.Attribute(attr="dumps"), [dict() as fields] if UNKNOWN not in str(fields):
            return json.dumps(fields)
        case ast.Attribute(attr="HuggingFaceModel"), [str() as model, *_]:
            return model
        case ast.Attribute(attr="join"), [list() as words]:
            return " ".join(map(str, words))
        case ast.Attribute(attr="get" | "getenv"), [str(), str() as default]:
            return default
    return UNKNOWN


_READERS: Mapping[type[ast.expr], Callable[..., object]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _own,
    ast.List: _items,
    ast.Tuple: _items,
    ast.Dict: _mapping,
    ast.JoinedStr: _formatted,
    ast.FormattedValue: _part,
    ast.IfExp: _choice,
    ast.BinOp: _sum,
    ast.Call: _call,
}
