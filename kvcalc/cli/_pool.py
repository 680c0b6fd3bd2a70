"""The block pool given by an option or sized from a GPU, and the scheduler that serves from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from kvcalc.cli import asking
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from fractions import Fraction

    from kvcalc.engines import Engine
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.fleet.replay.serving import Serving
    from kvcalc.model import Model
    from kvcalc.parallel import Parallel


FLOOR = "floor"
"""For --step-ms: as fast as the memory's bandwidth allows."""


class PoolOptions(TypedDict):
    """What `run` of a command gets for `options.POOL`."""

    blocks: str | None
    gpu: str | None
    memory: str | None
    weights: str | None
    reserve: str | None
    utilization: str | None
    tp: int
    dtype: str
    engine: str
    engine_set: Sequence[str]
    scheduler_set: Sequence[str]


def asked_for(model: Model, given: PoolOptions, step_seconds: Fraction | str | None = None) -> Serving:
    """What is served, given by the options of a pool; each error names its option.

    step_seconds: FLOOR for what the bandwidth of the GPU allows at best.
    """
    from kvcalc.fleet.replay import engine_replayed
    from kvcalc.fleet.replay.serving import Serving

    version = asking.located("--engine", engine_replayed, given["engine"])
    named = f"{version.name}@{version.version}" if version.version else version.name
    layout = asking.parallel(given["tp"], 1, 1)
    settings = asking.settings(named, given["engine_set"])
    scheduler = _scheduler(version, given["scheduler_set"], given["blocks"])
    device = given["gpu"] or given["memory"]
    _check_pool(device, scheduler, settings)
    left: int | None = None
    notes: tuple[str, ...] = ()
    on = None if device is None else _on_gpu(model, given, named, layout)
    if on is not None:
        left, settings = _left(on, layout)
    if isinstance(step_seconds, str):
        step_seconds, notes = _floor(on, layout)
    return Serving(model, named, settings, scheduler, given["dtype"], layout, left, step_seconds, notes)


def _floor(on: OnGpus | None, layout: Parallel | None) -> tuple[Fraction, tuple[str, ...]]:
    from kvcalc.fleet.decode import step_floor
    from kvcalc.parallel import Parallel
    from kvcalc.units import milliseconds

    if on is None:
        raise InvalidValueError(
            "no GPU whose bandwidth sets a floor", where="--step-ms", help="pass --gpu, or milliseconds: --step-ms 25"
        )
    seconds = asking.located("--step-ms", step_floor, on, layout or Parallel())
    return seconds, (
        f"steps take {milliseconds(seconds)}, a floor: what one token reads of the weights at the bandwidth of "
        f"{on.gpu.name}; prefill, more sequences and their cache take longer",
    )


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


def _on_gpu(model: Model, given: PoolOptions, engine: str, layout: Parallel | None) -> OnGpus:
    """The model on the GPU whose memory its weights leave to the pool."""
    from kvcalc.cli._fits import gpu_terms

    terms = gpu_terms(
        given["gpu"],
        given["memory"],
        given["weights"],
        None,
        given["reserve"],
        given["utilization"],
        given["dtype"],
        "1",
        engine,
        given["engine_set"],
    )
    if terms.are_several:
        raise InvalidValueError("expected a single GPU", where="--gpu", help="pass one, for example --gpu h100")
    (question,), _ = terms.asked_of(model, 1, layout)
    return question


def _left(question: OnGpus, layout: Parallel | None) -> tuple[int, dict[str, object]]:
    """Memory of a GPU left for the cache after weights and the rest, and the engine's settings on it."""
    from kvcalc.parallel import Parallel

    left = question.memory(layout or Parallel()).cache_bytes
    if left <= 0:
        raise InvalidValueError(
            f"weights and reserve leave no memory of {question.gpu.name} for the cache",
            where="--gpu",
            help="raise --tp, or correct --weights",
        )
    settings = {name: value for name, value in question.asked.engine.settings_by_name().items() if value is not None}
    return left, dict(settings)
