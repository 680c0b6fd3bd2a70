"""HiCache: a copy of each pool of the device in host memory, per rank.

    with a ratio   pages of a pool = int(its slots * hicache_ratio) // page_size + 1
    with a size    hicache_size * 10^9 bytes per rank, divided by the pools' sizes, in slots; then the same

States are pages of one. Products are floats, as in SGLang. The default ratio is 2, or less if that exceeds
hicache_host_memory_fraction of the host's free memory.
Source: SGLang 0.5.23, mem_cache/pool_host/base.py, mem_cache/pool_host/mamba.py,
mem_cache/hybrid_cache/hybrid_pool_assembler.py (_split_hicache_size), arg_groups/hicache_hook.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from kvcalc.engines.base.lmcache import lmcache_tiers
from kvcalc.engines.base.pools import STATES
from kvcalc.engines.sglang.settings import SglangSettings
from kvcalc.engines.sglang.stage import FULL, TAILS
from kvcalc.parallel import Parallel
from kvcalc.report.pool import Pool, PoolReport
from kvcalc.report.tiers import HOST, Tier
from kvcalc.units import GB

NAME, RETRACTED, OFFLOADED = "HiCache", "retracted requests", "decode offloading"
_RETRACTED_RATIO = 0.2
_MORE_CONTEXT = 4
"""Slots that a request may take beyond its context (get_req_to_token_extra_context_len)."""
_RATIO, _BUFFER_RATIO = 2.0, 1.2
"""Default hicache_ratio: of a cache, and of a buffer before storage."""
BUFFER_ONLY = "buffer_only"


def tiers_of(
    settings: SglangSettings, ranks: Parallel, planned: PoolReport | str, *, at_most: bool = False
) -> Iterator[Tier]:
    """What the host keeps. planned: the device's pools, or why they are unknown.

    at_most: whether the pools may be smaller.
    """
    if settings.enable_lmcache:
        yield from lmcache_tiers(settings.lmcache or {}, ranks)
    if settings.enable_hierarchical_cache:
        yield _copies(NAME, settings, ranks, planned, at_most=at_most)


def tier_of_decode(
    settings: SglangSettings, ranks: Parallel, planned: PoolReport, longest: int | None, *, at_most: bool = False
) -> Tier:
    """What a decode side's host keeps: retracted requests, or all of them.

    A pool for only retracted requests has a fifth of the device's slots, or those of the longest request, of `longest`
    tokens. Source: mem_cache/kv_cache_builder.py (resolve_decode_retraction_backup).
    """
    if settings.disaggregation_decode_enable_offload_kvcache:
        return _copies(OFFLOADED, settings, ranks, planned, at_most=at_most)
    if settings.hicache_ratio is None and not settings.hicache_size:
        page = int(str(dict(planned.resolved)["page_size"]))
        slots = min(pool.slots for pools in planned.stages for pool in pools if pool.name == FULL)
        tokens = slots if longest is None else min(longest + _MORE_CONTEXT - 1, slots)
        ratio = max(_RETRACTED_RATIO, -(-tokens // page) * page / slots)
        settings = replace(settings, hicache_ratio=ratio)
    return _copies(RETRACTED, settings, ranks, planned, at_most=at_most)


def _copies(name: str, settings: SglangSettings, ranks: Parallel, planned: PoolReport | str, *, at_most: bool) -> Tier:
    """Copies of the device's pools on the host of each rank."""
    ratio = settings.hicache_ratio
    default = _BUFFER_RATIO if settings.hicache_host_memory_mode == BUFFER_ONLY else _RATIO
    words = f"hicache_ratio {default if ratio is None else ratio:g}"
    if settings.hicache_size:
        words = f"hicache_size {settings.hicache_size:,} GB per rank"
    if isinstance(planned, str):
        size_bytes = settings.hicache_size * GB or None
        all_bytes = None if size_bytes is None else ranks.tp * ranks.pp * size_bytes
        known = "" if size_bytes else f" {planned}"
        return Tier(name, HOST, size_bytes, all_bytes, f"{words}{known}", at_most=True)
    page = int(str(dict(planned.resolved)["page_size"]))
    stages = [sum(_host_bytes(pools, settings, default, page)) for pools in planned.stages]
    by_default = not settings.hicache_size and ratio is None
    words += ", its default; less if it exceeds 80% of the host's free memory" if by_default else ""
    less = by_default or (at_most and not settings.hicache_size)
    return Tier(name, HOST, max(stages), ranks.tp * sum(stages), words, at_most=less)


def _host_bytes(pools: Sequence[Pool], settings: SglangSettings, default: float, page: int) -> Iterator[int]:
    """Bytes of the copy of each pool of a rank; pools of running requests have none."""
    copied = [pool for pool in pools if pool.name != TAILS and not _is_of_running(pool)]
    whole_bytes = sum(pool.bytes for pool in copied)
    for pool in copied:
        step = 1 if pool.name == STATES else page
        if settings.hicache_size:
            share = settings.hicache_size * pool.bytes / whole_bytes
            slots = int(share * 1e9 // pool.bytes_per_slot)
        else:
            slots = int(pool.slots * (default if settings.hicache_ratio is None else settings.hicache_ratio))
        yield (slots // step + 1) * step * pool.bytes_per_slot


def _is_of_running(pool: Pool) -> bool:
    """Whether its slots belong to running requests, like states of drafts."""
    return pool.name == STATES and pool.slot.endswith("draft")
