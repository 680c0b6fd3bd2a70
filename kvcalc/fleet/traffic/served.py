"""Users that a pool of known size holds, in any engine."""

from __future__ import annotations

from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.engines.base.traffic import Replayer
from kvcalc.fleet.demand import plan_of
from kvcalc.fleet.replay import engine_replayed, scheduler_of
from kvcalc.fleet.replay.serving import Serving
from kvcalc.fleet.traffic import users_of
from kvcalc.fleet.traffic.balance import balance_of
from kvcalc.fleet.traffic.mix import Mix
from kvcalc.fleet.traffic.store import stores_of, stores_of_scheduler
from kvcalc.parallel import Parallel
from kvcalc.report.traffic import TrafficReport


def users_served(asked: Serving, mix: Mix) -> TrafficReport:
    """Users that fit, by the scheduler that kvcalc replays, or by another engine's plan of the memory left.

    Raises InvalidValueError for a mix that the engine would refuse, and the engine's refusals.
    """
    model, left_bytes, engine = asked.model, asked.available_bytes, engine_replayed(asked.engine, asked.engine_settings)
    dtype = asked.kv_dtype if isinstance(asked.kv_dtype, Dtype) else dtype_named(asked.kv_dtype)
    ranks = asked.parallel or Parallel()
    replayed = isinstance(engine, Replayer) and engine.version == engine.REPLAYED
    if replayed or left_bytes is None:
        scheduler = scheduler_of(model, engine, asked.scheduler, dtype, asked.parallel, left_bytes)
        return users_of(model, engine, stores_of_scheduler(scheduler), mix)
    plan = plan_of(model, engine, dtype, ranks)
    report = users_of(model, engine, stores_of(model, engine, dtype, ranks, plan, left_bytes), mix)
    return report._replace(balance=balance_of(plan, left_bytes, mix))
