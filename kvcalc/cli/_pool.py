"""The block pool given by an option or sized from a GPU, and the scheduler that serves from it."""

from __future__ import annotations

from collections.abc import Sequence
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
    """What is served, by the options of a pool; each error names its option. step_seconds: a text is the floor."""
    from kvcalc.fleet.replay import engine_replayed
    from kvcalc.fleet.replay.serving import Serving, at_floor, pooled

    version = asking.located("--engine", engine_replayed, given["engine"])
    named = f"{version.name}@{version.version}" if version.version else version.name
    layout = asking.parallel(given["tp"], 1, 1)
    settings = asking.settings(named, given["engine_set"])
    scheduler = _scheduler(version, given["scheduler_set"], given["blocks"])
    on = _on_gpu(model, given, named, layout) if given["gpu"] or given["memory"] else None
    step = None if isinstance(step_seconds, str) else step_seconds
    asked = Serving(model, named, settings, scheduler, given["dtype"], layout, None, step)
    served = asking.located("--gpu" if on else "", pooled, asked, on)
    return asking.located("--step-ms", at_floor, served, on) if isinstance(step_seconds, str) else served


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
