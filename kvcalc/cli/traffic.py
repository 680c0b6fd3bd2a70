"""`kvcalc traffic`: users that fit when their requests differ in length."""

from __future__ import annotations

from typing import Unpack

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli._pool import PoolOptions, asked_for
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

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
    active: str,
    format: str,
    **pool: Unpack[PoolOptions],
) -> int:
    """Runs `kvcalc traffic`."""
    check_output_format(format, charts=True)
    from kvcalc.cli._mix import at_option, mix_asked_for

    mix = mix_asked_for(context, output, quantile, shared_prefix, prefixes, active)
    chosen = asking.one_model(named, preset, model)
    asked = asked_for(chosen, pool)
    from kvcalc.fleet.traffic.served import users_served

    try:
        report = users_served(asked, mix)
    except InvalidValueError as error:
        raise at_option(error) from None
    show(report, format)
    return 0 if report.users else NONE


COMMAND = Command(
    help=(
        "How many users fit when requests differ in length: a distribution instead of one length. Exit code 1: no "
        "user fits."
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
        options.ACTIVE,
        *options.POOL,
        options.FORMAT_OF_CHARTS,
    ),
    run=run,
)
