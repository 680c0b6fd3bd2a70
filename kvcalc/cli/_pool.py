"""The block pool given by an option or sized from a GPU, and the scheduler that serves from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import asking
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.engines import Engine
    from kvcalc.fleet.replay.serving import Serving
    from kvcalc.model import Model
    from kvcalc.parallel import Parallel


def asked_for(  # options
    model: Model,
    *,
    blocks: str | None,
    gpu: str | None,
    memory: str | None,
    weights: str | None,
    reserve: str | None,
    utilization: str | None,
    tp: int,
    dtype: str,
    engine: str,
    engine_set: Sequence[str],
    scheduler_set: Sequence[str],
) -> Serving:
    """What is served, given by the options of a pool; each error names its option."""
    from kvcalc.fleet.replay import engine_replayed
    from kvcalc.fleet.replay.serving import Serving

    version = asking.located("--engine", engine_replayed, engine)
    named = f"{version.name}@{version.version}" if version.version else version.name
    layout = asking.parallel(tp, 1, 1)
    given = asking.settings(named, engine_set)
    scheduler = _scheduler(version, scheduler_set, blocks)
    _check_pool(gpu or memory, scheduler, given)
    left = None
    if gpu is not None or memory is not None:
        left, given = _left(model, gpu, memory, weights, reserve, utilization, dtype, named, engine_set, layout)
    return Serving(model, named, given, scheduler, dtype, layout, left)


def _scheduler(engine: Engine, texts: Sequence[str], blocks: str | None) -> dict[str, object]:
    """Settings of --scheduler-set and --blocks."""
    from kvcalc.engines.base.reading import kinds_of_fields, read_pairs
    from kvcalc.engines.base.traffic import Replayer
    from kvcalc.units import parse_tokens

    kinds = kinds_of_fields(engine.SCHEDULER) if isinstance(engine, Replayer) else {}
    found = read_pairs(kinds, texts, "--scheduler-set", "max_num_seqs=128")
    if blocks is not None:
        found["num_gpu_blocks"] = asking.located("--blocks", parse_tokens, blocks, "blocks")
    return found


def _check_pool(device: str | None, scheduler: Mapping[str, object], engine: Mapping[str, object]) -> None:
    """Raises InvalidValueError if the size of the pool is unknown."""
    if not (device or "num_gpu_blocks" in scheduler or "num_gpu_blocks_override" in engine):
        raise InvalidValueError(
            "pool size unknown", help="pass --blocks, or --gpu to size the pool from the memory that the weights leave"
        )


def _left(  # options
    model: Model,
    gpu: str | None,
    memory: str | None,
    weights: str | None,
    reserve: str | None,
    utilization: str | None,
    dtype: str,
    engine: str,
    engine_set: Sequence[str],
    layout: Parallel | None,
) -> tuple[int, dict[str, object]]:
    """Memory of a GPU left for the cache after weights and the rest, and the engine's settings on it."""
    from fractions import Fraction

    from kvcalc.fleet.memory import share_of
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.fleet.weights import loaded
    from kvcalc.parallel import Parallel
    from kvcalc.units import parse_bytes

    card = asking.device(gpu, memory)
    share = None if utilization is None else asking.located("--utilization", share_of, utilization, "utilization")
    terms = asking.terms_on(card.written, share, "1", dtype, engine, engine_set)
    whole = loaded(asking.weights(model, weights, None), terms.engine.served(model))
    reserve_bytes = None if reserve is None else asking.located("--reserve", parse_bytes, reserve, "reserve")
    question = OnGpus(terms.of(model, 1, layout), card, whole, reserve_bytes, share or Fraction(1))
    left = question.memory(layout or Parallel()).cache_bytes
    if left <= 0:
        raise InvalidValueError(
            f"weights and reserve leave no memory of {card.name} for the cache",
            where="--gpu",
            help="raise --tp, or correct --weights",
        )
    settings = {name: value for name, value in terms.engine.settings_by_name().items() if value is not None}
    return left, dict(settings)
