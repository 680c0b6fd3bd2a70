"""A scheduler for a model, from the groups of vLLM's planner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import gcd, lcm
from typing import TYPE_CHECKING

from kvcalc.cache.dtypes import Dtype
from kvcalc.engines.vllm.planner import Planned
from kvcalc.engines.vllm.scheduling.cache import Cache
from kvcalc.engines.vllm.scheduling.pool import Pool
from kvcalc.engines.vllm.scheduling.scheduler import VllmScheduler
from kvcalc.engines.vllm.scheduling.settings import EAGLE, REPLAYED, Rules, SchedulerSettings
from kvcalc.engines.vllm.scheduling.states import AlignedStateTable, Checkpoints, StateTable
from kvcalc.engines.vllm.scheduling.tables import ChunkTable, FullTable, Reach, Table, WindowTable
from kvcalc.engines.vllm.specs import CHUNKED, FULL, MLA, SLIDING, STATE, Spec, ceil_div
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.units import shown

if TYPE_CHECKING:
    from kvcalc.engines.vllm.engine import Vllm

_BATCHES = 2
"""Batches in flight with asynchronous scheduling."""
_NULL_BLOCKS = 1


def started(
    engine: Vllm,
    model: Model,
    kv_dtype: Dtype,
    given: Mapping[str, object],
    num_blocks: int | None,
    parallel: Parallel,
) -> VllmScheduler:
    """An idle scheduler. num_blocks: of the pool, if given neither in settings nor in the engine's."""
    check_replayed(engine, parallel)
    settings = with_drafts(SchedulerSettings.of(given), engine)
    known = {
        name: value
        for name in ("max_model_len", "async_scheduling", "enable_prefix_caching")
        if (value := vars(settings)[name]) is not None
    }
    planned = replace(engine, **known).planned(model, kv_dtype, parallel)
    blocks = settings.num_gpu_blocks or engine.num_gpu_blocks_override or num_blocks
    if blocks is None:
        raise InvalidValueError(
            "pool size unknown",
            field="num_gpu_blocks",
            help='pass scheduler={"num_gpu_blocks": ...}, or the memory of the cache',
        )
    return scheduler_of(planned, settings, blocks, engine.prefix_match_unit)


def scheduler_of(
    planned: Planned, settings: SchedulerSettings, num_blocks: int, match_unit: int | None
) -> VllmScheduler:
    """An idle scheduler. num_blocks: all blocks of the pool. match_unit: prefix_match_unit."""
    run, limits = planned.run, planned.run.limits
    specs = _resized([group.first for group in planned.groups], settings.block_size, planned.block_size)
    keeps = run.keeps_prefixes if settings.enable_prefix_caching is None else settings.enable_prefix_caching
    _check(specs, settings, run.ranks.dcp)
    reach = _reach(specs, settings, match_unit, keeps_prefixes=keeps, aligned=limits.keeps_states)
    longest = settings.max_model_len or limits.max_model_len
    batched = settings.max_num_batched_tokens or run.max_num_batched_tokens
    asynchronous = settings.async_scheduling
    if asynchronous is None:
        asynchronous = run.cpu is None and not settings.num_speculative_tokens
    batches = _BATCHES if asynchronous else 1
    in_flight = settings.max_in_flight_tokens or batches * batched
    pool = Pool(num_blocks - _NULL_BLOCKS)
    tables = [
        _table(spec, (group, len(specs), spec.block_size, pool, reach), planned, settings, longest, in_flight)
        for group, spec in enumerate(specs)
    ]
    numbers = {spec: number for number, spec in enumerate(dict.fromkeys(specs))}
    watermark = int(settings.watermark * num_blocks)
    cache = Cache(pool, tables, [numbers[spec] for spec in specs], reach, longest, watermark)
    rules = Rules(
        max_model_len=longest,
        max_num_batched_tokens=batched,
        max_num_seqs=settings.max_num_seqs or run.max_num_seqs,
        batches=batches,
        step_tokens=reach.step_tokens,
        partial_hits=reach.hit_tokens < reach.step_tokens,
        settings=settings,
    )
    states = next((table.checkpoints for table in tables if isinstance(table, AlignedStateTable)), None)
    return VllmScheduler(rules, cache, states, reach.unit_tokens, max(planned.block_bytes))


def check_replayed(engine: Vllm, parallel: Parallel) -> None:
    """Raises NotApplicableError for a version whose scheduler is unknown, and for ranks that schedule differently."""
    if parallel.pp > 1 or parallel.dcp > 1:
        raise NotApplicableError(
            f"kvcalc does not replay vLLM's scheduler with {parallel}: pipeline stages and shared tokens were not "
            "measured",
            help="use only tp; each data-parallel replica has its own scheduler",
        )
    if engine.version != REPLAYED:
        raise NotApplicableError(
            f"kvcalc replays the scheduler of vLLM {REPLAYED}, not of {engine.version}",
            help=f"use --engine vllm@{REPLAYED}",
        )


def with_drafts(settings: SchedulerSettings, engine: Vllm) -> SchedulerSettings:
    """With the speculative decoding of the engine's settings, unless the scheduler's settings have their own."""
    speculative = engine.speculative
    if not speculative or settings.num_speculative_tokens:
        return settings
    tokens = speculative.get("num_speculative_tokens")
    return replace(
        settings,
        spec_method=str(speculative.get("method", "mtp")),
        num_speculative_tokens=tokens if isinstance(tokens, int) else 1,
    )


def _resized(specs: Sequence[Spec], asked: int | None, planned: int) -> list[Spec]:
    """With blocks of another size, independent of the kernels; unaligned states keep theirs."""
    if asked is None or asked == planned:
        return list(specs)
    return [
        spec if spec.kind == STATE else spec._replace(block_size=max(1, spec.block_size * asked // planned))
        for spec in specs
    ]


def _reach(
    specs: Sequence[Spec], settings: SchedulerSettings, match_unit: int | None, *, keeps_prefixes: bool, aligned: bool
) -> Reach:
    """Units of tokens in which prefixes are keyed and hit. Raises InvalidValueError for a unit that does not divide."""
    sizes = [spec.block_size for spec in specs]
    step = lcm(*sizes)
    unit = step
    if keeps_prefixes and len(specs) > 1:
        unit = match_unit or gcd(*sizes)
    if any(size % unit for size in sizes) and keeps_prefixes:
        raise InvalidValueError(
            f"prefix_match_unit ({shown(unit)}) must divide the blocks of all groups ({', '.join(map(str, sizes))})",
            field="prefix_match_unit",
            help=f"use a divisor of {gcd(*sizes)}",
        )
    if keeps_prefixes and match_unit not in (None, step) and len(specs) == 1:
        raise InvalidValueError(
            f"with one group hits end at blocks of {step} tokens, not at prefix_match_unit ({shown(match_unit)})",
            field="prefix_match_unit",
            help="remove it",
        )
    states = aligned and any(spec.kind == STATE and spec.block_size > unit for spec in specs)
    others = all(spec.kind in (FULL, MLA, STATE) or spec.block_size == unit for spec in specs)
    hit = unit if states and others and keeps_prefixes else step
    interval = settings.prefix_cache_retention_interval
    sparse = any(spec.kind in (SLIDING, STATE) for spec in specs)
    if interval and (interval % step or not sparse):
        raise InvalidValueError(
            f"prefix_cache_retention_interval ({shown(interval)}) must be a multiple of {step} tokens, of a model with "
            "windows or states",
            field="prefix_cache_retention_interval",
            help="write prefix_cache_retention_interval=0",
        )
    return Reach(step, unit, hit, interval, keeps_prefixes, settings.drops_last)


def _table(
    spec: Spec,
    place: tuple[object, ...],
    planned: Planned,
    settings: SchedulerSettings,
    longest: int,
    in_flight: int,
) -> Table:
    limits = planned.run.limits
    size, window = spec.block_size, spec.window or 1
    if spec.kind == SLIDING:
        seen = min(window - 1 + limits.extra_window_tokens + in_flight, longest)
        return WindowTable(
            *place, window=window, extra_tokens=limits.extra_window_tokens, most_blocks=ceil_div(seen, size) + 1
        )
    if spec.kind == CHUNKED:
        return ChunkTable(*place, chunk=window, most_blocks=ceil_div(min(window + in_flight, longest), size))
    if spec.kind != STATE:
        return FullTable(*place)  # type: ignore[arg-type]
    drafts = settings.num_speculative_tokens
    if not limits.keeps_states:
        return StateTable(*place, drafts=drafts)
    reach = place[-1]
    assert isinstance(reach, Reach)
    steps = [each for each in _checkpoint_steps(planned) if each]
    step = steps[0] if spec.checkpoint_blocks and steps else None
    checkpoints = Checkpoints(size, reach.unit_tokens, step, drops_last=reach.drops_last)
    return AlignedStateTable(*place, drafts=drafts, checkpoints=checkpoints)


def _checkpoint_steps(planned: Planned) -> list[int]:
    """Interval, in tokens, at which a chunk can leave a state behind, for each cache of states."""
    return [max(1, cache.checkpoint_tokens) for cache in planned.caches if cache.spec.kind == STATE]


def _check(specs: Sequence[Spec], settings: SchedulerSettings, dcp: int) -> None:
    """Raises NotApplicableError for groups that cannot be replayed."""
    unknown = sorted({spec.kind for spec in specs} - {FULL, MLA, SLIDING, CHUNKED, STATE})
    if unknown:
        raise NotApplicableError(
            f"groups of {', '.join(unknown)} are not replayed", help="use a model of attention, windows and states"
        )
    if dcp > 1:
        raise NotApplicableError("decode context parallelism is not replayed", help="use dcp=1")
    if settings.spec_method == EAGLE and any(spec.kind in (STATE, CHUNKED) for spec in specs):
        raise NotApplicableError(
            "drafts by eagle with states or chunks are not replayed: they were not measured", help="use ngram"
        )
