"""`kvcalc replay`: a trace of requests, as an engine's scheduler serves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from fractions import Fraction

    from kvcalc.engines import Engine
    from kvcalc.model import Model
    from kvcalc.parallel import Parallel

STALLED = 1


def run(
    *,
    trace: str,
    named: str | None,
    preset: str | None,
    model: str | None,
    blocks: str | None,
    gpu: str | None,
    memory: str | None,
    weights: str | None,
    reserve: str,
    utilization: str | None,
    tp: int,
    dtype: str,
    engine: str,
    engine_set: Sequence[str],
    scheduler_set: Sequence[str],
    step_ms: str | None,
    steps: bool,
    curve: bool,
    format: str,
) -> int:
    """Runs `kvcalc replay`."""
    check_output_format(format)
    from pathlib import Path

    from kvcalc.fleet.replay import engine_replayed, replay
    from kvcalc.formats._progress import progress_bar
    from kvcalc.io.traces import count_lines, read_trace

    chosen = asking.one_model(named, preset, model)
    version = asking.located("--engine", engine_replayed, engine)
    named_engine = f"{version.name}@{version.version}" if version.version else version.name
    layout = asking.parallel(tp, 1, 1)
    given = asking.settings(named_engine, engine_set)
    scheduler = _scheduler(version, scheduler_set, blocks)
    _check_pool(gpu or memory, scheduler, given)
    left = None
    if gpu is not None or memory is not None:
        left, given = _left(chosen, gpu, memory, weights, reserve, utilization, dtype, named_engine, engine_set, layout)
    step_seconds = None if step_ms is None else asking.located("--step-ms", _step, step_ms)
    path = Path(trace)
    requests = read_trace(path, step_seconds)
    whole = count_lines(path)
    with progress_bar(f"replaying {path.name}") as bar:
        report = replay(
            chosen,
            requests,
            engine=named_engine,
            engine_settings=given,
            scheduler=scheduler,
            kv_dtype=dtype,
            parallel=layout,
            available_bytes=left,
            every_step=steps,
            step_seconds=step_seconds,
            curve=curve,
            progress=lambda done: bar(done, whole),
        )
    show(report, format)
    return STALLED if report.totals.stalled else 0


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
    """Raises InvalidValueError where nothing says how large the pool is."""
    if not (device or "num_gpu_blocks" in scheduler or "num_gpu_blocks_override" in engine):
        raise InvalidValueError(
            "nothing says how many blocks the pool has", help="give --blocks, or --gpu for what weights leave of it"
        )


def _step(text: str) -> Fraction:
    """Seconds of a step, of so many milliseconds."""
    from fractions import Fraction

    from kvcalc.units import shown

    try:
        found = Fraction(text) / 1000
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if found <= 0:
        raise InvalidValueError(
            f"a step takes a number of milliseconds above 0, not {shown(text)}", help="for instance --step-ms 25"
        )
    return found


def _left(  # options
    model: Model,
    gpu: str | None,
    memory: str | None,
    weights: str | None,
    reserve: str,
    utilization: str | None,
    dtype: str,
    engine: str,
    engine_set: Sequence[str],
    layout: Parallel | None,
) -> tuple[int, dict[str, object]]:
    """What weights and the rest leave for the cache on a GPU, and the engine's settings on it."""
    from fractions import Fraction

    from kvcalc.fleet.memory import share_of
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.fleet.weights import weights_of
    from kvcalc.io.weights import read_weights
    from kvcalc.parallel import Parallel
    from kvcalc.units import parse_bytes

    card = asking.device(gpu, memory)
    share = None if utilization is None else asking.located("--utilization", share_of, utilization, "utilization")
    terms = asking.terms_on(card.written, share, "1", dtype, engine, engine_set)
    given = None if weights is None else asking.located("--weights", read_weights, weights)
    whole = asking.located("--weights", weights_of, model, given)
    reserve_bytes = asking.located("--reserve", parse_bytes, reserve, "reserve")
    question = OnGpus(terms.of(model, 1, layout), card, whole, reserve_bytes, share or Fraction(1))
    left = question.memory(layout or Parallel()).cache_bytes
    if left <= 0:
        raise InvalidValueError(
            f"weights and reserve leave nothing of {card.name} for the cache",
            where="--gpu",
            help="use --tp, or --weights",
        )
    settings = {name: value for name, value in terms.engine.settings_by_name().items() if value is not None}
    return left, dict(settings)


COMMAND = Command(
    help=(
        "Replay a trace as the engine schedules it: blocks in use, preemptions, prefix hits, queueing. "
        "Exit code 1: requests were left that never fit."
    ),
    epilog=(
        "Example: kvcalc replay trace.csv llama3-8b --gpu h100 --step-ms 25. Traces: CSV or JSON lines of "
        "prompt_tokens and output_tokens, Azure's (ContextTokens) or Mooncake's (hash_ids)."
    ),
    takes=(
        options.TRACE,
        options.NAMED,
        options.PRESET,
        options.MODEL,
        options.BLOCKS,
        options.GPU,
        options.MEMORY,
        options.WEIGHTS,
        options.RESERVE,
        options.UTILIZATION,
        options.TP,
        options.DTYPE,
        options.ENGINE._replace(default="vllm", help="Engine whose scheduler serves it: vllm, vllm@0.32.0."),
        options.ENGINE_SET,
        options.SCHEDULER_SET,
        options.STEP_MS,
        options.STEPS,
        options.CURVE,
        options.FORMAT,
    ),
    run=run,
)
