"""The fewest GPUs that suffice, over tensor-parallel ranks, pipeline stages and replicas.

A replica of tp x pp ranks holds n users, so users / n replicas are needed. Common layouts come first: tensor
parallelism within a node, stages across nodes. Layouts that an engine refuses are left out; dcp stays as requested. A
layout is only planned if it could still be the smallest: p stages reduce what a rank needs at most to a p-th.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.engines.base.plan import Plan
from kvcalc.errors import KvcalcError
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.parallel import Parallel

MAX_TP = 64
"""Most tensor-parallel ranks tried: the largest NVLink domains."""
MAX_GPUS = 1024
"""Most GPUs tried."""
NODE_GPUS = 8
"""GPUs of a common node."""


class Fewest(NamedTuple):
    """The layouts with the fewest GPUs: of all, without stages, and of common ones; None: none suffices."""

    layout: Parallel | None = None
    layout_by_tp: Parallel | None = None
    usual: Parallel | None = None

    @property
    def gpus(self) -> int | None:
        """The number of GPUs."""
        return None if self.layout is None else self.layout.num_ranks

    @property
    def gpus_by_tp(self) -> int | None:
        """The number without pipeline stages."""
        return None if self.layout_by_tp is None else self.layout_by_tp.num_ranks

    @property
    def usual_gpus(self) -> int | None:
        """The number in a common layout."""
        return None if self.usual is None else self.usual.num_ranks

    def improved(self, found: Parallel) -> Fewest:
        """Updated with a sufficient layout, if it has fewer GPUs; on a tie, the one without stages."""
        return Fewest(
            min(self.layout or found, found, key=_effort),
            min(self.layout_by_tp or found, found, key=_effort) if found.pp == 1 else self.layout_by_tp,
            min(self.usual or found, found, key=_effort) if is_usual(found.tp, found.pp) else self.usual,
        )

    def is_beaten_by(self, gpus: int, tp: int, pp: int) -> bool:
        """Whether this number of GPUs, with such replicas, would improve or equal any of them."""
        known = [self.layout]
        known += [self.layout_by_tp] if pp == 1 else []
        known += [self.usual] if is_usual(tp, pp) else []
        return any(layout is None or gpus <= layout.num_ranks for layout in known)


def is_usual(tp: int, pp: int) -> bool:
    """A power of two of tensor-parallel ranks within a node, and stages only of whole nodes."""
    return NODE_GPUS % tp == 0 and (pp == 1 or tp == NODE_GPUS)


def _effort(layout: Parallel) -> tuple[int, int, int]:
    return layout.num_ranks, layout.pp, layout.dp


def fewest_gpus(question: OnGpus, dcp: int, tokens: int) -> Fewest:
    """Fewest GPUs that hold the question's users, with `tokens` tokens each."""
    if question.asked.engine.SHARES_CONTEXT:
        one = Parallel()
        held = question.plan(one).fits(tokens, question.asked.sequences, question.memory(one).cache_bytes)
        return Fewest(one, one, one) if held else Fewest()
    found = Fewest()
    alone: dict[int, Plan | None] = {}
    for tp, pp in _replicas(question, dcp):
        replica = Parallel(tp=tp, pp=pp, dcp=dcp)
        if not found.is_beaten_by(tp * pp, tp, pp) or not _has_memory(question, replica):
            continue
        if tp not in alone:
            alone[tp] = _plan(question, Parallel(tp=tp, dcp=dcp))
        least = tp * pp * _least_replicas(question, replica, alone[tp], tokens)
        if not found.is_beaten_by(least, tp, pp) or least > MAX_GPUS:
            continue
        layout = _layout(question, replica, alone[tp] if pp == 1 else None, tokens)
        if layout is not None:
            found = found.improved(layout)
    return found


def _has_memory(question: OnGpus, replica: Parallel) -> bool:
    """Whether weights leave memory on each GPU; False if the engine refuses the layout."""
    try:
        return question.memory(replica).cache_bytes > 0
    except KvcalcError:
        return False


def _replicas(question: OnGpus, dcp: int) -> Iterator[tuple[int, int]]:
    """Tensor-parallel ranks and stages of a replica: common ones first, then all others, by number of GPUs."""
    uneven, layers = question.asked.engine.PLANS_STAGES, question.asked.model.num_layers
    stages = [pp for pp in range(1, layers + 1) if uneven or layers % pp == 0]
    every = sorted(
        ((tp, pp) for tp in range(dcp, MAX_TP + 1, dcp) for pp in stages if tp * pp <= MAX_GPUS),
        key=lambda replica: (replica[0] * replica[1], replica[1]),
    )
    yield from (replica for replica in every if is_usual(*replica))
    yield from (replica for replica in every if not is_usual(*replica))


def _least_replicas(question: OnGpus, layout: Parallel, alone: Plan | None, tokens: int) -> int:
    """Lower bound of replicas for all users, by what a single stage would need; above any limit: never."""
    if alone is None:
        return 1
    try:
        one, two = (alone.needed_at_least(tokens, users) for users in (1, 2))
        room = question.memory(layout).cache_bytes * layout.pp - one
    except KvcalcError:
        return MAX_GPUS + 1
    if room < 0:
        return MAX_GPUS + 1
    users = question.asked.sequences
    return 1 if two <= one else -(-users // (1 + room // (two - one)))


def _layout(question: OnGpus, replica: Parallel, plan: Plan | None, tokens: int) -> Parallel | None:
    """Replicas that hold all users; None if the engine refuses one, or not even one user fits."""
    plan = plan or _plan(question, replica)
    if plan is None:
        return None
    cache_bytes, users = question.memory(replica).cache_bytes, question.asked.sequences
    try:
        most = plan.max_sequences(tokens, cache_bytes)
        dp = 1 if most is None else -(-users // most) if most else MAX_GPUS + 1
        if dp * replica.num_ranks > MAX_GPUS or not plan.fits(tokens, -(-users // dp), cache_bytes):
            return None
    except KvcalcError:
        return None
    return Parallel(tp=replica.tp, pp=replica.pp, dp=dp, dcp=replica.dcp)


def _plan(question: OnGpus, layout: Parallel) -> Plan | None:
    """Plan of a layout; None if the engine refuses it."""
    try:
        return question.plan(layout)
    except KvcalcError:
        return None
