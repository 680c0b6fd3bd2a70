"""How many blocks fit, and whether one request of the longest length does.

    bytes per block = the largest group's pages on that pipeline stage
    num_blocks = min over stages of available bytes // bytes per block
    max_concurrency = num_blocks / sum over groups of blocks that one request takes
    tokens = int(max_concurrency * max_model_len)

One block is never given out, so a request must fit what is left beside it.
Source: vLLM, v1/core/kv_cache_planning.py (get_kv_cache_configs), kv_cache_utils.py (get_kv_cache_capacity).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm

from kvcalc.engines.vllm.grouping import Group
from kvcalc.engines.vllm.specs import Limits, ceil_div, round_up
from kvcalc.errors import NotApplicableError
from kvcalc.units import GIB


def stage_block_bytes(groups: Sequence[Group], held: Sequence[int], *, blocks_outermost: bool) -> int:
    """Bytes of one block on a stage: of its largest group, in packed layouts a multiple of all strides."""
    widest = max(group.bytes_per_block(held, blocks_outermost=blocks_outermost) for group in groups)
    if not blocks_outermost:
        return widest
    here = set(held)
    strides = [
        spec.stride_alignment_bytes
        for group in groups
        for member, spec in zip(group.members, group.specs, strict=True)
        if member in here
    ]
    return round_up(widest, lcm(*strides))


def request_blocks(groups: Sequence[Group], limits: Limits) -> int:
    """Blocks that one request takes of all groups."""
    return sum(group.blocks(limits) for group in groups)


def check_fits(groups: Sequence[Group], limits: Limits, block_bytes: Sequence[int], available: Sequence[int]) -> None:
    """Raises NotApplicableError where a stage cannot hold one request of max_model_len tokens beside the null block."""
    for each_bytes, memory_bytes in zip(block_bytes, available, strict=True):
        usable_bytes = memory_bytes - each_bytes
        if usable_bytes <= 0:
            raise NotApplicableError(
                "No available memory for the cache blocks",
                help="raise gpu_memory_utilization, or use more GPUs",
            )
        needed_bytes = request_blocks(groups, limits) * each_bytes
        if needed_bytes > usable_bytes:
            estimate = longest_fitting(groups, limits, each_bytes, usable_bytes)
            hint = f"the estimated maximum model length is {estimate}; " if estimate else ""
            raise NotApplicableError(
                f"To serve at least one request with the model's max seq len ({limits.max_model_len}), "
                f"({_gib(needed_bytes)} GiB KV cache is needed, which is larger than the available KV cache memory "
                f"({_gib(usable_bytes)} GiB)",
                help=f"{hint}raise gpu_memory_utilization or lower max_model_len",
            )


def auto_fit(groups: Sequence[Group], limits: Limits, block_bytes: Sequence[int], available: Sequence[int]) -> Limits:
    """`limits` with the longest request that every stage can hold beside the null block, up to the model's own length.

    Raises NotApplicableError where not even one token fits.
    """
    longest = min(
        longest_fitting(groups, limits, each_bytes, memory_bytes - each_bytes)
        for each_bytes, memory_bytes in zip(block_bytes, available, strict=True)
    )
    if longest <= 0:
        raise NotApplicableError(
            "Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token",
            help="raise gpu_memory_utilization, or use more GPUs",
        )
    return limits._replace(max_model_len=longest)


def longest_fitting(groups: Sequence[Group], limits: Limits, block_bytes: int, usable_bytes: int) -> int:
    """Longest request that fits usable_bytes, at most max_model_len; 0 where none does.

    By halves, since blocks never fall as a request grows.
    """
    low, high = 0, limits.max_model_len
    while low < high:
        middle = ceil_div(low + high, 2)
        if request_blocks(groups, limits._replace(max_model_len=middle)) * block_bytes <= usable_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def _gib(number_bytes: int) -> float:
    return round(number_bytes / GIB, 2)
