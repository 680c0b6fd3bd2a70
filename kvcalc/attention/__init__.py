"""Attention kinds: one file each, named as presets name them (`attention: gqa`).

A kind is a frozen dataclass of a model's facts, and its `tensors()` says what one such layer caches. Nothing else in
the package knows what a kind is; everything reads the tensors.
"""

from __future__ import annotations

from kvcalc.registry import Registry

KINDS = Registry("kvcalc.attention", "attention kind")


def kind_named(name: str) -> type:
    """Dataclass of the attention kind `name`, such as `gqa`. Raises UnknownNameError."""
    kind: type = KINDS.module(name).KIND
    return kind
