"""Quantised caches in torch, with packed codes and scales: what a method stores for a layer, really run.

A file holds `POLICY`, a policy as in `kvcalc.verify.policies`. It is named as its method, takes that method's
arguments, and calls its tensors by the names that sizing gives them.
"""

from __future__ import annotations

from kvcalc.registry import Registry

QUANTISED = Registry("kvcalc.verify.quantised", "quantised torch cache")
