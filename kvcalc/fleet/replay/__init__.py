"""A trace of requests, replayed as an engine schedules it: blocks in use, preemptions, prefix hits, queueing.

requests   the requests to replay, validated
steps      the loop, step by step or from event to event
serving    all of a replay but its trace
distances  hit rates by cache size, from one pass over the trace
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.engines import ENGINES, Engine
from kvcalc.engines.base import Workload
from kvcalc.engines.base.plan import Planner
from kvcalc.engines.base.traffic import Replayer, Request, Scheduler
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.fleet.replay.distances import distances_of, hit_rates, host_hit_rates, watched
from kvcalc.fleet.replay.requests import requests_of
from kvcalc.fleet.replay.steps import counted, stepped
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.fit import FitReport
from kvcalc.report.replay import ReplayReport
from kvcalc.report.sheet import Json
from kvcalc.report.tiers import HOST
from kvcalc.units import shown

_CURVE = "hit rates by cache size are exact to the block for sequential requests, and an estimate for overlapping ones"
_HOST = (
    "a host tier has the full blocks of prompts, copied to it when they are computed, the least recently used evicted: "
    "vLLM's OffloadingConnector with its defaults, as read, not measured"
)
_NO_HOST = "steps and hits are those of only the device's cache; --curve has the hit rate with a host tier"


def replay(  # noqa: PLR0913  # question and engine
    model: Model,
    requests: Iterable[Request | Mapping[str, object]],
    *,
    engine: str = "vllm",
    engine_settings: Mapping[str, object] | None = None,
    scheduler: Mapping[str, object] | None = None,
    kv_dtype: str | Dtype = "bf16",
    parallel: Parallel | None = None,
    available_bytes: int | None = None,
    every_step: bool = True,
    step_seconds: Fraction | None = None,
    notes: Sequence[str] = (),
    curve: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ReplayReport:
    """Replays `requests` exactly as the engine's scheduler would, step by step.

    requests: mappings of id, arrival_step, prompt ([[segment, tokens], ...]), output_segment, output_tokens and
    priority. A token is (segment, offset): equal segments are equal tokens, and segment None equals no other.
    scheduler: settings of the engine's scheduler, such as max_num_seqs and num_gpu_blocks. available_bytes: left for
    the cache on a rank, if no setting gives the number of blocks.
    every_step: whether the report has each step; without, one group of full attention is replayed from event to event,
    a million requests in less than a minute. step_seconds: what the report says of a step; steps are the clock.
    notes: what the report says before its own.
    curve: whether to say which cache would hit how much, of several sizes and with host tiers. progress: called with
    the requests that arrived so far. Raises InvalidValueError, UnknownNameError, and NotApplicableError for engines
    that are not replayed.
    """
    if not isinstance(model, Model):
        raise InvalidValueError(f"replay takes a Model, not {shown(model)}", help="load it first: kvcalc.load('r1')")
    chosen = engine_replayed(engine, engine_settings)
    dtype = kv_dtype if isinstance(kv_dtype, Dtype) else dtype_named(kv_dtype)
    at_work = scheduler_of(model, chosen, scheduler or {}, dtype, parallel, available_bytes)
    ranks = parallel or Parallel()
    host_bytes = _host_bytes(chosen, model, dtype, ranks)
    host_blocks = host_bytes // (at_work.block_bytes * ranks.num_ranks)
    checked = requests_of(requests, at_work.max_model_len)
    distances = distances_of(at_work) if curve else None
    if distances is not None:
        checked = watched(checked, distances)
    run = stepped if every_step else counted
    outcome = run(at_work, checked, progress)
    return ReplayReport(
        model=model.name,
        engine=chosen.name,
        engine_version=chosen.release_words,
        engine_settings=tuple(chosen.settings_by_name().items()),
        scheduler_settings=tuple((name, _plain(value)) for name, value in at_work.settings.items()),
        num_blocks=at_work.num_blocks,
        block_bytes=at_work.block_bytes,
        steps=outcome.steps,
        hits=outcome.hits,
        totals=outcome.totals,
        used=outcome.used,
        waits=outcome.waits,
        spans=outcome.spans,
        step_seconds=step_seconds,
        curve=() if distances is None else hit_rates(distances, at_work.num_blocks),
        host_curve=() if distances is None else host_hit_rates(distances, host_blocks),
        ranks=ranks.num_ranks,
        notes=(*notes, *chosen.version_notes, *chosen.caveats(model), *_notes(host_bytes, curve=curve)),
    )


def _host_bytes(engine: Engine, model: Model, kv_dtype: Dtype, ranks: Parallel) -> int:
    """Host memory that the engine's settings give all ranks for blocks off the device; 0 without."""
    tiers = engine.tiers(model, kv_dtype, ranks, Workload(1, 1, None))
    return sum(tier.replica_bytes or 0 for tier in tiers if tier.medium == HOST)


def _notes(host_bytes: int, *, curve: bool) -> Iterator[str]:
    if curve:
        yield _CURVE
        yield _HOST
    elif host_bytes:
        yield _NO_HOST


def engine_replayed(name: str, settings: Mapping[str, object] | None = None) -> Engine:
    """The engine; by default in the version whose scheduler is replayed."""
    chosen = Engine.of(name, settings)
    named = "@" in name or "version" in (settings or {})
    if named or not isinstance(chosen, Replayer):
        return chosen
    return Engine.of(f"{name}@{chosen.REPLAYED}", settings)


def scheduler_of(
    model: Model,
    engine: Engine,
    settings: Mapping[str, object],
    kv_dtype: Dtype,
    parallel: Parallel | None,
    available_bytes: int | None,
) -> Scheduler:
    """The engine's scheduler without requests. Raises NotApplicableError for an engine without a replayed scheduler."""
    if not isinstance(engine, Replayer):
        raise NotApplicableError(
            f"the scheduler of {engine.TITLE} is not replayed", help=f"use one of {', '.join(replayed())}"
        )
    num_blocks = None
    if available_bytes is not None and isinstance(engine, Planner):
        planner = with_common(engine, settings)
        assert isinstance(planner, Planner)
        fitted = planner.plan(model, kv_dtype, parallel or Parallel()).fit((available_bytes,))
        num_blocks = fitted.num_blocks if isinstance(fitted, FitReport) else None
    return engine.scheduler(model, kv_dtype, settings, num_blocks, parallel)


def with_common(engine: Engine, settings: Mapping[str, object]) -> Engine:
    """The engine with the scheduler's settings that are also its own, such as max_model_len, except blocks."""
    common = {
        name: value
        for name, value in settings.items()
        if value is not None and name in engine.setting_names() and name != "block_size"
    }
    return Engine.of(f"{engine.name}@{engine.version}", {**engine.settings_by_name(), **common}) if common else engine


def replayed() -> list[str]:
    """Engines whose scheduler is replayed."""
    return [name for name in ENGINES.names() if isinstance(Engine.of(name), Replayer)]


def _plain(value: object) -> Json:
    return value if isinstance(value, bool | int | float | str) else None
