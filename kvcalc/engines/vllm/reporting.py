"""A plan and its capacity as the report of `kvcalc.fit`."""

from __future__ import annotations

from kvcalc.engines.vllm.grouping import Group
from kvcalc.engines.vllm.planner import Capacity, Planned
from kvcalc.engines.vllm.specs import Limits
from kvcalc.engines.vllm.versions import Reported
from kvcalc.report.fit import FitGroup, FitReport
from kvcalc.report.sheet import Json


def fit_report(name: str, planned: Planned, fitting: Capacity) -> FitReport:
    """Report on the model called `name`."""
    return FitReport(
        model=name,
        engine="vllm",
        version=planned.run.version,
        gpu=planned.run.gpu.name,
        engine_settings=(),
        parallel="",
        available_bytes=fitting.available_bytes,
        bytes_per_block=planned.block_bytes,
        num_blocks=fitting.num_blocks,
        request_blocks=fitting.request_blocks,
        max_model_len=fitting.limits.max_model_len,
        block_size=planned.block_size,
        groups=tuple(_fit_group(planned, group, fitting.limits) for group in planned.groups),
        resolved=_resolved(planned),
        counted_block_size=_counted_block_size(planned),
    )


def _counted_block_size(planned: Planned) -> int:
    """Tokens per reported block of a group, in versions that report blocks; else 0."""
    release, dcp = planned.run.release, planned.run.ranks.dcp
    if release.reported_tokens is not Reported.BY_BLOCKS:
        return 0
    if release.counts_states_by_block_size and len(planned.groups) == 1:
        return planned.block_size * dcp
    return min(group.first.block_size for group in planned.groups) * dcp


def _fit_group(planned: Planned, group: Group, limits: Limits) -> FitGroup:
    caches = [planned.caches[member] for member in group.members]
    return FitGroup(
        kind=group.first.kind,
        caches=tuple(dict.fromkeys(cache.name for cache in caches)),
        layers=tuple(cache.layer for cache in caches),
        block_size=group.first.block_size,
        page_bytes=tuple(sorted({spec.page_bytes for spec in group.specs})),
        blocks_per_request=group.blocks(limits),
    )


def _resolved(planned: Planned) -> tuple[tuple[str, Json], ...]:
    """Choices of vLLM for unset settings."""
    run = planned.run
    backends = dict.fromkeys(cache.backend.name for cache in planned.caches if cache.backend)
    return (
        ("dtype", run.model_dtype),
        ("kv_cache_dtype", run.cache_dtype),
        ("attention_backends", list(backends)),
        ("max_num_batched_tokens", run.max_num_batched_tokens),
        ("max_num_seqs", run.max_num_seqs),
        ("max_in_flight_tokens", run.limits.in_flight_tokens),
        ("enable_prefix_caching", run.keeps_prefixes),
        ("disable_hybrid_kv_cache_manager", run.unifies_windows),
    )
