"""Attention kinds: one file each, named as presets name them (`attention: gqa`).

A kind is a frozen dataclass of a model's facts, and its `tensors()` says what one such layer caches. Nothing else in
the package depends on the kinds; everything reads the tensors. The meaning of a fact is next to its type.
"""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

from kvcalc.registry import Registry

KINDS = Registry("kvcalc.attention", "attention kind")


def kind_named(name: str) -> type:
    """Dataclass of the attention kind `name`, such as `gqa`. Raises UnknownNameError."""
    kind: type = KINDS.module(name).KIND
    return kind


def meanings_of(kind: type) -> dict[str, str]:
    """Meaning of each fact of a kind, by the names of its fields."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(kind)}
