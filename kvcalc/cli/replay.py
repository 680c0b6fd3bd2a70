"""`kvcalc replay`: a trace of requests, as an engine's scheduler serves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli._pool import PoolOptions, asked_for
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path

    from kvcalc.fleet.replay.serving import Serving

STALLED, REFUSED = 1, 2


def run(
    *,
    traces: Sequence[str],
    named: str | None,
    preset: str | None,
    model: str | None,
    step_ms: str | None,
    steps: bool,
    curve: bool,
    on: str | None,
    format: str,
    **pool: Unpack[PoolOptions],
) -> int:
    """Runs `kvcalc replay`."""
    check_output_format(format, charts=True)
    from kvcalc.fleet.replay.serving import FLOOR
    from kvcalc.io.replays import trace_paths

    words = [*traces, *([named] if named else [])]
    last = words.pop() if words and not (preset or model) else None
    chosen = asking.several_models(last, preset, model)
    paths = trace_paths(words)
    step_seconds = step_ms if step_ms in (None, FLOOR) else asking.located("--step-ms", _step, step_ms)
    servings = [asked_for(each, pool, step_seconds) for each in chosen]
    if len(paths) == len(servings) == 1 and on is None:
        return _one(paths[0], servings[0], steps=steps, curve=curve, format=format)
    if steps:
        raise InvalidValueError(
            "each step is shown of one trace for one model, replayed here", where="--steps", help="remove it"
        )
    return _several(paths, servings, curve=curve, on=on, format=format)


def _one(path: Path, serving: Serving, *, steps: bool, curve: bool, format: str) -> int:
    from kvcalc.fleet.replay import replay
    from kvcalc.formats._progress import progress_bar
    from kvcalc.io.traces import count_lines, read_trace

    requests = read_trace(path, serving.step_seconds)
    whole = count_lines(path)
    with progress_bar(f"replaying {path.name}") as bar:
        report = replay(
            serving.model,
            requests,
            **serving.settings,
            every_step=steps,
            curve=curve,
            progress=lambda done: bar(done, whole),
        )
    show(report, format)
    return STALLED if report.totals.stalled else 0


def _several(
    paths: Sequence[Path],
    servings: Sequence[Serving],
    *,
    curve: bool,
    on: str | None,
    format: str,
) -> int:
    check_output_format(format)
    from kvcalc.cli._mix import workers
    from kvcalc.formats._progress import progress_bar
    from kvcalc.io.replays import replays

    with progress_bar("replaying traces") as bar, workers(on) as executor:
        report = replays(paths, servings, curve=curve, executor=executor, progress=bar)
    show(report, format)
    return REFUSED if report.refused else STALLED if report.stalled else 0


def _step(text: str) -> Fraction:
    """Seconds of a step, given in milliseconds."""
    from fractions import Fraction

    from kvcalc.units import shown

    try:
        found = Fraction(text) / 1000
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if found <= 0:
        raise InvalidValueError(
            f"expected milliseconds above 0, not {shown(text)}", help="for example --step-ms 25, or floor with --gpu"
        )
    return found


COMMAND = Command(
    help=(
        "Replay traces as the engine schedules them: blocks in use, preemptions, prefix hits, queueing. Exit code 1: "
        "some requests never fit, 2: a trace is refused."
    ),
    epilog=(
        "Example: kvcalc replay trace.csv llama3-8b --gpu h100 --step-ms 25. Traces: CSV or JSON lines of "
        "prompt_tokens and output_tokens, Azure's (ContextTokens) or Mooncake's (hash_ids). Several traces and models "
        "are a row each: kvcalc replay traces/*.csv llama3-8b,gpt-oss-20b --gpu h100 --on auto"
    ),
    takes=(
        options.TRACES,
        options.NAMED._replace(help=f"{options.NAMED.help} Several: r1,llama3-8b."),
        options.PRESET,
        options.MODEL,
        *options.POOL,
        options.STEP_MS,
        options.STEPS,
        options.CURVE,
        options.ON,
        options.FORMAT_OF_CHARTS,
    ),
    run=run,
)
