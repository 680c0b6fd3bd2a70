"""The smallest number of GPUs that holds what is asked, over layouts of tensor-parallel ranks and pipeline stages.

Layouts that an engine refuses are left out; dp and dcp stay as they are asked for. A layout is only planned where it
could fit: weights are shared by all ranks, and p stages cannot bring what a rank needs below a p-th.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.engines.base.plan import Plan
from kvcalc.errors import KvcalcError
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.parallel import Parallel

MAX_TP = 64
"""Most tensor-parallel ranks that are tried: those of the largest domains of GPUs that share memory links."""
MAX_GPUS = 1024
"""Most GPUs that are tried."""


class Fewest(NamedTuple):
    """The layout of fewest GPUs, and that of fewest by tensor parallelism alone; None where no layout holds it."""

    layout: Parallel | None
    layout_by_tp: Parallel | None

    @property
    def gpus(self) -> int | None:
        """How many GPUs that are."""
        return None if self.layout is None else self.layout.num_ranks

    @property
    def gpus_by_tp(self) -> int | None:
        """How many it takes without pipeline stages."""
        return None if self.layout_by_tp is None else self.layout_by_tp.num_ranks


def fewest_gpus(question: OnGpus, ranks: Parallel, tokens: int, sequences: int) -> Fewest:
    """Fewest GPUs that hold `sequences` users of `tokens` tokens in each of ranks.dp replicas."""
    one_process = question.asked.engine.SHARES_CONTEXT
    best: Parallel | None = None
    by_tp: Parallel | None = None
    for tp in (1,) if one_process else range(ranks.dcp, MAX_TP + 1, ranks.dcp):
        if best is not None and by_tp is not None and tp * ranks.dp >= best.num_ranks:
            break
        first = _with(ranks, tp, 1)
        if best is not None and first.num_ranks >= best.num_ranks and question.memory(first).cache_bytes <= 0:
            continue
        alone = _plan(question, first)
        if alone is None and (ranks.pp == 1 or _plan(question, _with(ranks, tp, ranks.pp)) is None):
            continue
        for pp in (1,) if one_process else _stages(question, ranks, tp, best):
            layout = _with(ranks, tp, pp)
            if not _could_fit(question, layout, alone, tokens, sequences):
                continue
            plan = alone if pp == 1 and alone is not None else _plan(question, layout)
            if plan is not None and plan.fits(tokens, sequences, question.memory(layout).cache_bytes):
                by_tp = by_tp or (layout if pp == 1 else None)
                if best is None or layout.num_ranks < best.num_ranks + (pp == 1):  # of two, the one without stages
                    best = layout
                break
    return Fewest(best, by_tp)


def _stages(question: OnGpus, ranks: Parallel, tp: int, best: Parallel | None) -> Iterator[int]:
    """Numbers of stages that are worth a try: one always, more where they stay below the best that is known."""
    most = min(question.asked.model.num_layers, MAX_GPUS // (tp * ranks.dp))
    if best is not None:
        most = min(most, (best.num_ranks - 1) // (tp * ranks.dp))
    uneven = question.asked.engine.PLANS_STAGES
    yield from (pp for pp in range(1, max(1, most) + 1) if uneven or question.asked.model.num_layers % pp == 0)


def _with(ranks: Parallel, tp: int, pp: int) -> Parallel:
    return Parallel(tp=tp, pp=pp, dp=ranks.dp, dcp=ranks.dcp)


def _plan(question: OnGpus, layout: Parallel) -> Plan | None:
    """Plan of a layout; None where the engine refuses it."""
    try:
        return question.plan(layout)
    except KvcalcError:
        return None


def _could_fit(question: OnGpus, layout: Parallel, alone: Plan | None, tokens: int, sequences: int) -> bool:
    """Whether a p-th of what one stage would need is there, where that is known before the layout is planned."""
    cache_bytes = question.memory(layout).cache_bytes
    if cache_bytes <= 0:
        return False
    return alone is None or alone.needed_at_least(tokens, sequences) <= cache_bytes * layout.pp
