"""Torch policies: what a method keeps of a layer's keys and values, run for real; one small file for each method.

A policy file holds `POLICY`, a subclass of `Policy`. It is named as its method, takes that method's arguments, and
calls its tensors by the names that sizing gives them, so that the two can be compared.
"""

from __future__ import annotations

from kvcalc.registry import Registry

POLICIES = Registry("kvcalc.verify.policies", "torch policy")
