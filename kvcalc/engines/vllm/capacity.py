"""How many blocks fit, and whether one request of the longest length does.

    bytes per block = the largest group's pages on that pipeline stage
    num_blocks = min over stages of available bytes // bytes per block
    max_concurrency = num_blocks / sum over groups of blocks that one request takes
    tokens = int(max_concurrency * max_model_len)

One block is never given out, so a request must fit in the others. `versions` lists what differed before.
Source: vLLM, v1/core/kv_cache_planning.py (get_kv_cache_configs), kv_cache_utils.py (get_kv_cache_capacity).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from math import lcm
from typing import NamedTuple

from kvcalc.engines.vllm.grouping import Group
from kvcalc.engines.vllm.specs import Limits, ceil_div, round_up
from kvcalc.engines.vllm.versions import FitCheck, Packing, RequestBlocks, VllmRelease
from kvcalc.errors import NotApplicableError
from kvcalc.units import GIB


class Stage(NamedTuple):
    """A pipeline stage. held: positions of its caches. block_bytes: of one block; available_bytes: for all of them."""

    held: tuple[int, ...]
    block_bytes: int
    available_bytes: int

    def usable_bytes(self, release: VllmRelease) -> int:
        """A request's limits, as the version counts them."""
        return self.available_bytes - (self.block_bytes if release.reserves_null_block else 0)


def stage_block_bytes(
    groups: Sequence[Group], held: Sequence[int], *, blocks_outermost: bool, packing: Packing = Packing.DENSE
) -> int:
    """Bytes of one block on a stage: of its largest group, in packed layouts a multiple of all strides."""
    here = set(held)
    if blocks_outermost and packing is not Packing.DENSE:
        return _block_of_slots(groups, here, packing)
    widest = max(group.bytes_per_block(held, blocks_outermost=blocks_outermost) for group in groups)
    if not blocks_outermost:
        return widest
    strides = [
        spec.stride_alignment_bytes
        for group in groups
        for member, spec in zip(group.members, group.specs, strict=True)
        if member in here
    ]
    return round_up(widest, lcm(*strides))


def _block_of_slots(groups: Sequence[Group], here: Collection[int], packing: Packing) -> int:
    """Bytes of a block with a slot for each page size: as many as one group has, or as the longest has of any size."""
    counts = [
        Counter(spec.page_bytes for m, spec in zip(group.members, group.specs, strict=True) if m in here)
        for group in groups
    ]
    if packing is Packing.BY_PAGE:
        sizes = {size for count in counts for size in count}
        return sum(size * max(count[size] for count in counts) for size in sizes)
    return sum(counts[0]) * max((max(count.values()) for count in counts if count), default=0)


def request_blocks(groups: Sequence[Group], limits: Limits, release: VllmRelease | None = None) -> int:
    """Blocks that one request takes of all groups, as the version counts them if one is given."""
    packed = any(len({spec.page_bytes for spec in group.specs}) > 1 for group in groups)
    alike = not packed and len({group.first.page_bytes for group in groups}) == 1
    rule = RequestBlocks.EACH_GROUP if release is None or alike or len(groups) == 1 else release.request_blocks
    if rule is RequestBlocks.EACH_GROUP:
        return sum(group.blocks(limits) for group in groups)

    def page_bytes(group: Group) -> int:
        whole = packed and rule is RequestBlocks.ALL_PAGES
        return sum(spec.page_bytes for spec in group.specs) if whole else group.first.page_bytes

    return ceil_div(sum(group.blocks(limits) * page_bytes(group) for group in groups), page_bytes(groups[0]))


def needed_bytes(groups: Sequence[Group], limits: Limits, stage: Stage, release: VllmRelease) -> int:
    """Bytes of a stage that one request must fit in, as the version checks it."""
    if release.fit_check is FitCheck.LAYERS:
        here = set(stage.held)
        return sum(
            spec.blocks(limits) * spec.page_bytes
            for group in groups
            for member, spec in zip(group.members, group.specs, strict=True)
            if member in here
        )
    counted = groups[:1] if release.fit_check is FitCheck.FIRST_GROUP else groups
    return request_blocks(counted, limits) * stage.block_bytes


def check_fits(groups: Sequence[Group], limits: Limits, stages: Sequence[Stage], release: VllmRelease) -> None:
    """Raises NotApplicableError if a stage cannot hold a request of max_model_len tokens and the null block."""
    for stage in stages:
        if (request_blocks(groups, limits) + 1) * stage.block_bytes <= stage.available_bytes:
            continue  # by the strictest of the rules
        usable_bytes = stage.usable_bytes(release)
        if usable_bytes <= 0 or stage.available_bytes < stage.block_bytes:
            raise NotApplicableError(
                "No available memory for the cache blocks",
                help="raise gpu_memory_utilization, or use more GPUs",
            )
        asked_bytes = needed_bytes(groups, limits, stage, release)
        if asked_bytes > usable_bytes:
            estimate = longest_fitting(groups, limits, stage, release)
            hint = f"the estimated maximum model length is {estimate}; " if estimate else ""
            raise NotApplicableError(
                f"To serve at least one request with the model's max seq len ({limits.max_model_len}), "
                f"({_gib(asked_bytes)} GiB KV cache is needed, which is larger than the available KV cache memory "
                f"({_gib(usable_bytes)} GiB)",
                help=f"{hint}raise gpu_memory_utilization or lower max_model_len",
            )


def auto_fit(groups: Sequence[Group], limits: Limits, stages: Sequence[Stage], release: VllmRelease) -> Limits:
    """`limits` with the longest request that every stage can hold with the null block, up to the model's length.

    Raises NotApplicableError if not even one token fits.
    """
    longest = min(longest_fitting(groups, limits, stage, release) for stage in stages)
    if longest <= 0:
        raise NotApplicableError(
            "Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token",
            help="raise gpu_memory_utilization, or use more GPUs",
        )
    return limits._replace(max_model_len=longest)


def longest_fitting(groups: Sequence[Group], limits: Limits, stage: Stage, release: VllmRelease) -> int:
    """Longest request that fits a stage, at most max_model_len; 0 if none does.

    By bisection, since a longer request never takes fewer blocks.
    """
    low, high = 0, limits.max_model_len
    while low < high:
        middle = ceil_div(low + high, 2)
        asked = limits._replace(max_model_len=middle)
        if needed_bytes(groups, asked, stage, release) <= stage.usable_bytes(release):
            low = middle
        else:
            high = middle - 1
    return low


def _gib(number_bytes: int) -> float:
    return round(number_bytes / GIB, 2)
