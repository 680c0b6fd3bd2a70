"""Quantised caches in torch, with packed codes and scales: what a method stores of a layer, run for real.

A file holds `POLICY`, a policy as in `kvcalc.verify.policies`. It is named as its method, takes that method's
arguments, and calls its tensors by the names that sizing gives them.
"""

from __future__ import annotations

from kvcalc.model import Applied
from kvcalc.registry import Registry
from kvcalc.verify.policies._policy import Place
from kvcalc.verify.quantised._cache import QuantisedCache

QUANTISED = Registry("kvcalc.verify.quantised", "quantised torch cache")


def cache_for(applied: Applied, place: Place) -> QuantisedCache:
    """Cache of the method for one layer. Raises UnknownNameError where the method has none."""
    cache: QuantisedCache = QUANTISED.module(applied.name).POLICY(place, applied.arguments)
    return cache
