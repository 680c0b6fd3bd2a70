"""How many users a pool holds when requests differ in length.

workload       how long requests are
distribution   what users hold together, by convolution
"""

from __future__ import annotations

from fractions import Fraction

from kvcalc.engines import Engine
from kvcalc.engines.base.traffic import Scheduler
from kvcalc.errors import InvalidValueError
from kvcalc.fleet.traffic.distribution import Blocks, held_weights
from kvcalc.fleet.traffic.workload import Workload
from kvcalc.model import Model
from kvcalc.report.traffic import TrafficReport
from kvcalc.units import shown

_ASSUMED = (
    "users are independent of each other, and each starts its next request when one ends; reading a prompt takes no "
    "time",
)


def users_of(  # noqa: PLR0913  # what is asked
    model: Model,
    engine: Engine,
    scheduler: Scheduler,
    workload: Workload,
    *,
    quantile: Fraction = Fraction(99, 100),
    shared_prefix: int = 0,
    prefixes: int = 1,
) -> TrafficReport:
    """Users at which nothing is preempted for so large a share of the time, beside what one length would say.

    shared_prefix: tokens that every prompt begins with, of which there are `prefixes` different ones; full attention
    holds each once.
    Raises InvalidValueError for a workload that the engine would refuse.
    """
    longest = scheduler.max_model_len
    _check(workload, longest, shared_prefix)
    common = scheduler.shared_blocks(shared_prefix)
    left = scheduler.num_blocks - prefixes * common

    def held(tokens: int) -> int:
        return scheduler.held_blocks(tokens) - common

    one = Blocks(held_weights(workload.pairs, held, longest), max(left, 0))
    users = one.most_users(quantile) if left > 0 else 0
    end = min(workload.longest, longest - 1)
    mean = workload.mean_tokens
    return TrafficReport(
        model=model.name,
        engine=engine.name,
        engine_version=engine.release_words,
        workload=workload.described,
        quantile=quantile,
        num_blocks=scheduler.num_blocks,
        block_bytes=scheduler.block_bytes,
        prefix_blocks=prefixes * common,
        users=users,
        next_share=None if left <= 0 else float(one.share_within(users + 1)),
        mean_blocks=one.mean,
        most_blocks=one.most,
        mean_tokens=mean,
        user_blocks=tuple((name, one.quantile(1, share) or 0) for name, share in _SHOWN),
        all_blocks=tuple((name, one.quantile(users, share) if users else 0) for name, share in _SHOWN),
        users_at_most=max(left, 0) // max(1, held(end)),
        users_at_mean=max(left, 0) // max(1, held(round(mean))),
        notes=_ASSUMED,
    )


_SHOWN = (("p50", Fraction(1, 2)), ("p90", Fraction(9, 10)), ("p99", Fraction(99, 100)))


def _check(workload: Workload, longest: int, shared_prefix: int) -> None:
    """Raises InvalidValueError for prompts that the engine refuses, and for those that a prefix does not fit in."""
    prompts = [prompt for prompt, _, _ in workload.pairs]
    if max(prompts) >= longest:
        raise InvalidValueError(
            f"a prompt of {shown(max(prompts))} tokens is not shorter than max_model_len ({longest:,})",
            field="context",
            help="shorten it, or raise max_model_len",
        )
    if shared_prefix and min(prompts) <= shared_prefix:
        raise InvalidValueError(
            f"a prompt of {shown(min(prompts))} tokens has nothing behind a shared prefix of {shown(shared_prefix)}",
            field="shared_prefix",
            help="count the prefix into the prompt's tokens",
        )
