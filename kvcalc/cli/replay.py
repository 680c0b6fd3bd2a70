"""`kvcalc replay`: a trace of requests, as an engine's scheduler serves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from fractions import Fraction

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
    reserve: str | None,
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
    check_output_format(format, charts=True)
    from pathlib import Path

    from kvcalc.cli._pool import asked_for
    from kvcalc.fleet.replay import replay
    from kvcalc.formats._progress import progress_bar
    from kvcalc.io.traces import count_lines, read_trace

    chosen = asking.one_model(named, preset, model)
    asked = asked_for(
        chosen,
        blocks=blocks,
        gpu=gpu,
        memory=memory,
        weights=weights,
        reserve=reserve,
        utilization=utilization,
        tp=tp,
        dtype=dtype,
        engine=engine,
        engine_set=engine_set,
        scheduler_set=scheduler_set,
    )
    step_seconds = None if step_ms is None else asking.located("--step-ms", _step, step_ms)
    path = Path(trace)
    requests = read_trace(path, step_seconds)
    whole = count_lines(path)
    with progress_bar(f"replaying {path.name}") as bar:
        report = replay(
            chosen,
            requests,
            engine=asked.engine,
            engine_settings=asked.engine_settings,
            scheduler=asked.scheduler,
            kv_dtype=asked.dtype,
            parallel=asked.parallel,
            available_bytes=asked.left_bytes,
            every_step=steps,
            step_seconds=step_seconds,
            curve=curve,
            progress=lambda done: bar(done, whole),
        )
    show(report, format)
    return STALLED if report.totals.stalled else 0


def _step(text: str) -> Fraction:
    """Seconds of a step, given in milliseconds."""
    from fractions import Fraction

    from kvcalc.units import shown

    try:
        found = Fraction(text) / 1000
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if found <= 0:
        raise InvalidValueError(f"expected milliseconds above 0, not {shown(text)}", help="for example --step-ms 25")
    return found


COMMAND = Command(
    help=(
        "Replay a trace as the engine schedules it: blocks in use, preemptions, prefix hits, queueing. Exit code 1: "
        "some requests never fit."
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
        *options.POOL,
        options.STEP_MS,
        options.STEPS,
        options.CURVE,
        options.FORMAT_OF_CHARTS,
    ),
    run=run,
)
