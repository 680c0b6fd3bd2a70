"""Torch modules, one file for each attention kind, named as the kind: real weights, a real cache, real attention.

A module allocates its cache from its own weights' shapes, never from what sizing predicts: that is what makes the
comparison a measurement. Its `new_cache` returns the cache's tensors by the names that sizing gives them.
"""

from __future__ import annotations

from kvcalc.attention import KINDS
from kvcalc.errors import NotApplicableError
from kvcalc.registry import Registry
from kvcalc.verify.modules._module import CacheModule

MODULES = Registry("kvcalc.verify.modules", "attention module")


def module_for(attention: object) -> type[CacheModule]:
    """Module class of an attention kind. Raises NotApplicableError for a kind that has none."""
    kind = next(name for name in KINDS.names() if KINDS.module(name).KIND is type(attention))
    if kind not in MODULES.names():
        raise NotApplicableError(
            f"no torch module for {kind} layers, so they cannot be verified",
            help=f"known: {', '.join(MODULES.names())}; `kvcalc size` sizes all kinds",
        )
    module: type[CacheModule] = MODULES.module(kind).MODULE
    return module
