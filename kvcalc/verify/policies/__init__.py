"""Torch policies: what a method keeps of a layer's keys and values, run for real; one small file for each method.

A policy file holds `POLICY`, a subclass of `Policy`. It is named as its method, takes that method's arguments, and
calls its tensors by the names that sizing gives them, so that the two can be held against each other.
"""

from __future__ import annotations

from kvcalc.model import Applied
from kvcalc.registry import Registry
from kvcalc.verify.policies._policy import Place, Policy

POLICIES = Registry("kvcalc.verify.policies", "torch policy")


def policy_for(applied: Applied, place: Place) -> Policy:
    """Policy of the method for one layer, which may be a quantised cache. Raises UnknownNameError where it has none."""
    from kvcalc.verify.quantised import QUANTISED  # each of its caches is a policy

    registry = POLICIES if applied.name in POLICIES.names() else QUANTISED
    policy: Policy = registry.module(applied.name).POLICY(place, applied.arguments)
    return policy
