"""What requests of any length take of the pool, as rules that can be inverted."""

from __future__ import annotations

from kvcalc.engines._block_plan import BlockPlan
from kvcalc.engines._vllm.allocation import block_rule
from kvcalc.engines._vllm.capacity import request_blocks
from kvcalc.engines._vllm.planning import Plan, check_stages

_NULL_BLOCKS = 1
"""The pool keeps its first block for itself."""


def block_plan_of(planned: Plan, num_blocks: int | None, *, limited: bool) -> BlockPlan:
    """Blocks of the pool and the rules by which a request takes them; limited: whether a longest request is known.

    Raises NotApplicableError for groups that these ranks cannot share.
    """
    limits = planned.run.limits
    check_stages(planned)
    request_blocks(planned.groups, limits)  # which refuses what no ranks can share
    return BlockPlan(
        block_bytes=planned.block_bytes,
        groups=tuple(
            tuple(dict.fromkeys(block_rule(spec, limits) for spec in group.specs)) for group in planned.groups
        ),
        spare_blocks=_NULL_BLOCKS,
        max_model_len=limits.max_model_len if limited else None,
        num_blocks=num_blocks,
    )
