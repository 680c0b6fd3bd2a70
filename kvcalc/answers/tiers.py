"""Caches off the devices, on each node: what its ranks keep in host memory and on disk."""

from __future__ import annotations

from kvcalc.engines.base import Workload
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.tiers import NodeTier, Tier

USUAL_NODE = 8
"""Default number of GPUs per node."""


def tiers_of(
    question: Question,
    ranks: Parallel,
    cache_bytes: int | None = None,
    gpus_per_node: int | None = None,
    *,
    at_most: bool = False,
) -> tuple[NodeTier, ...]:
    """What the question's engine keeps on a node of `gpus_per_node` GPUs; default: all ranks, up to 8.

    cache_bytes: memory for the cache on each device, or its upper bound; None if not asked.
    """
    users = -(-question.sequences // ranks.dp)
    found = question.engine.tiers(
        question.model, question.kv_dtype, ranks, Workload(question.tokens, users, cache_bytes, at_most)
    )
    return tuple(on_node(tier, ranks, gpus_per_node) for tier in found)


def on_node(tier: Tier, ranks: Parallel, gpus_per_node: int | None = None) -> NodeTier:
    """A tier on one node, for the ranks on it."""
    number = min(ranks.num_ranks, gpus_per_node or USUAL_NODE)
    if tier.rank_bytes is None or tier.replica_bytes is None:
        return NodeTier(tier, number, None)
    whole = number == ranks.num_ranks
    return NodeTier(tier, number, ranks.dp * tier.replica_bytes if whole else number * tier.rank_bytes)
