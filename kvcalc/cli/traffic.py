"""`kvcalc traffic`: users that a pool holds when their requests differ in length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from fractions import Fraction

    from kvcalc.fleet.traffic.workload import Workload

NONE = 1


def run(
    *,
    named: str | None,
    preset: str | None,
    model: str | None,
    context: str,
    output: str | None,
    quantile: str,
    shared_prefix: str | None,
    prefixes: int,
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
    format: str,
) -> int:
    """Runs `kvcalc traffic`."""
    check_output_format(format)
    from kvcalc.cli._pool import asked_for
    from kvcalc.units import parse_tokens, positive_int

    share = asking.located("--quantile", _share, quantile)
    workload = _workload(context, output)
    prefix = 0 if shared_prefix is None else asking.located("--shared-prefix", parse_tokens, shared_prefix, "prefix")
    groups = asking.located("--prefixes", positive_int, prefixes, "prefixes")
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
    from kvcalc.cache.dtypes import dtype_named
    from kvcalc.fleet.replay import engine_replayed, scheduler_of
    from kvcalc.fleet.traffic import users_of

    served = engine_replayed(asked.engine, asked.engine_settings)
    scheduler = scheduler_of(
        chosen, served, asked.scheduler, dtype_named(asked.dtype), asked.parallel, asked.left_bytes
    )
    report = users_of(chosen, served, scheduler, workload, quantile=share, shared_prefix=prefix, prefixes=groups)
    show(report, format)
    return 0 if report.users else NONE


def _workload(context: str, output: str | None) -> Workload:
    """Lengths of --context and --output; of a trace, both."""
    from pathlib import Path

    from kvcalc.fleet.traffic.workload import Workload, parse_lengths
    from kvcalc.io.files import is_file
    from kvcalc.io.traces import read_lengths

    if is_file(Path(context)):
        if output is not None:
            raise InvalidValueError("a trace says what is generated, too", where="--output", help="leave --output out")
        return Workload.joint((prompt, generated) for prompt, generated in read_lengths(Path(context)))
    prompts = asking.located("--tokens", parse_lengths, context)
    outputs = None if output is None else asking.located("--output", parse_lengths, output, "output")
    return Workload.independent(prompts, outputs)


def _share(text: str) -> Fraction:
    """`99` or `99.9` percent."""
    from fractions import Fraction

    from kvcalc.units import shown

    try:
        found = Fraction(text.removesuffix("%")) / 100
    except (ValueError, ZeroDivisionError):
        found = Fraction(0)
    if not 0 < found <= 1:
        raise InvalidValueError(f"a share is above 0 and at most 100 percent, not {shown(text)}", help="write 99")
    return found


COMMAND = Command(
    help=(
        "How many users fit when their requests differ in length: a distribution, not one length. "
        "Exit code 1: not one does."
    ),
    epilog="Example: kvcalc traffic llama3-8b --gpu h100 --context p50=1K,p95=4K,max=7K --output p50=200,max=1K",
    takes=(
        options.NAMED,
        options.PRESET,
        options.MODEL,
        options.CONTEXT,
        options.OUTPUT,
        options.QUANTILE,
        options.SHARED_PREFIX,
        options.PREFIXES,
        *options.POOL,
        options.FORMAT,
    ),
    run=run,
)
