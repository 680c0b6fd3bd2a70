"""`kvcalc traffic`: users that fit when their requests differ in length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli._pool import PoolOptions, asked_for
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.engines import Engine
    from kvcalc.fleet.replay.serving import Serving
    from kvcalc.fleet.traffic.mix import Mix
    from kvcalc.report.traffic import TrafficReport

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
    from kvcalc.fleet.replay import engine_replayed

    served = engine_replayed(asked.engine, asked.engine_settings)
    try:
        report = _answer(asked, served, mix)
    except InvalidValueError as error:
        raise at_option(error) from None
    show(report, format)
    return 0 if report.users else NONE


def _answer(asked: Serving, served: Engine, mix: Mix) -> TrafficReport:
    """Users by the scheduler that kvcalc replays, or by another engine's plan of the remaining memory."""
    from kvcalc.cache.dtypes import dtype_named
    from kvcalc.engines.base.traffic import Replayer
    from kvcalc.fleet.demand import plan_of
    from kvcalc.fleet.replay import scheduler_of
    from kvcalc.fleet.traffic import users_of
    from kvcalc.fleet.traffic.balance import balance_of
    from kvcalc.fleet.traffic.store import stores_of, stores_of_scheduler
    from kvcalc.parallel import Parallel

    model, left_bytes = asked.model, asked.available_bytes
    dtype, ranks = dtype_named(str(asked.kv_dtype)), asked.parallel or Parallel()
    replayed = isinstance(served, Replayer) and served.version == served.REPLAYED
    if replayed or left_bytes is None:
        scheduler = scheduler_of(model, served, asked.scheduler, dtype, asked.parallel, left_bytes)
        return users_of(model, served, stores_of_scheduler(scheduler), mix)
    plan = plan_of(model, served, dtype, ranks)
    report = users_of(model, served, stores_of(model, served, dtype, ranks, plan, left_bytes), mix)
    return report._replace(balance=balance_of(plan, left_bytes, mix))


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
