"""How many replicas and GPUs serve users whose requests differ in length; and what one more GPU adds.

A replica of tp x pp GPUs holds n users for a quantile of the time (`kvcalc.fleet.traffic`), so users / n replicas of
one layout are needed. Users are spread evenly, and stay on their replica.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import NamedTuple

from kvcalc.answers.spread import Redone, spread
from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.fleet.fewest import MAX_GPUS, NODE_GPUS, is_usual
from kvcalc.fleet.on_gpus import OnGpus
from kvcalc.fleet.traffic import loads_of, most_users, notes_of
from kvcalc.fleet.traffic.load import Load
from kvcalc.fleet.traffic.mix import Mix
from kvcalc.fleet.traffic.store import Store, stores_of
from kvcalc.parallel import Parallel
from kvcalc.report.replicas import Fleet, ReplicasReport, Step
from kvcalc.units import count

_MOST_STAGES = 4
_FURTHER = (1, 2, 4, 8)
"""Extra GPUs for which users are also shown."""
_SPREAD = "users are spread evenly over replicas of one layout, and stay on their replica"


class Replica(NamedTuple):
    """One replica of a layout on GPUs of one kind, and the memory of the mix's users on it.

    users: that it holds for the quantile of the time. share, share_with_one_more: share of the time without preemption,
    with as many replicas as needed and with one more.
    """

    question: OnGpus
    layout: Parallel
    users: int
    binds: str
    cache_bytes: int
    share: float
    share_with_one_more: float
    notes: tuple[str, ...]

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.layout.num_ranks

    def needed(self, users: int) -> int | None:
        """Replicas for this number of users; None if one replica holds no user."""
        return -(-users // self.users) if self.users else None

    def held(self, gpus: int) -> int:
        """Users that this number of GPUs holds."""
        return gpus // self.gpus * self.users


class _Part(NamedTuple):
    """A layout to evaluate, as sent to a worker."""

    question: OnGpus
    layout: Parallel
    mix: Mix


def replicas_of(
    questions: Iterable[OnGpus],
    mix: Mix,
    layout: Parallel | None = None,
    most_gpus: int | None = None,
    executor: Executor | None = None,
) -> ReplicasReport:
    """Replicas of every common layout on each device that hold all users, fewest GPUs first.

    layout: the only one to try, if given. most_gpus: GPUs available. executor: its workers evaluate one layout each.
    Raises the refusal if every layout is refused, and InvalidValueError for a mix that the engine refuses.
    """
    asked = [_at_longest(question, mix) for question in questions]
    parts = [
        _Part(question, ranks, mix)
        for question in asked
        for ranks in ([_times(layout, 1)] if layout else _layouts(question, most_gpus or MAX_GPUS))
    ]
    redone = Redone()
    outcomes = list(spread(_counted, parts, executor, redone))
    found = [each for each in outcomes if isinstance(each, Replica)]
    refused = [each for each in outcomes if isinstance(each, KvcalcError)]
    if refused and not found:
        raise refused[0]
    first = asked[0].asked
    users = first.sequences
    ordered = sorted(found, key=lambda replica: _rank(replica, users))
    return ReplicasReport(
        model=first.model.name,
        engine=first.engine.name,
        engine_version=first.engine.release_words,
        workload=mix.described,
        quantile=mix.quantile,
        users=users,
        most_gpus=most_gpus,
        fleets=tuple(_fleet(replica, users) for replica in ordered),
        steps=tuple(_steps(found, mix, users, most_gpus)),
        notes=tuple(dict.fromkeys((_SPREAD, *_notes(asked, ordered), *redone.notes))),
    )


def _times(layout: Parallel, replicas: int) -> Parallel:
    return Parallel(layout.tp, layout.pp, replicas, layout.dcp)


def _at_longest(question: OnGpus, mix: Mix) -> OnGpus:
    """The question with the longest request, used to estimate other memory."""
    own = question.asked.model.max_model_len
    longest = mix.workload.longest if own is None else min(own, mix.workload.longest)
    return replace(question, asked=question.asked.at(longest))


def _layouts(question: OnGpus, most_gpus: int) -> Iterator[Parallel]:
    """Common layouts of a replica: within a node (also with stages), or stages of whole nodes."""
    for tp in (1, 2, 4, 8):
        for pp in range(1, _MOST_STAGES + 1):
            usual = is_usual(tp, pp) or tp * pp <= NODE_GPUS
            if usual and tp * pp <= most_gpus and pp <= question.asked.model.num_layers:
                yield Parallel(tp=tp, pp=pp)


def _counted(part: _Part) -> Replica | KvcalcError | None:
    """The memory of users on one replica; None if weights leave nothing, or the engine's refusal."""
    question, layout, mix = part
    users = question.asked.sequences
    try:
        cache_bytes = question.memory(layout).cache_bytes
        if cache_bytes <= 0:
            return None
        stores, loads = _held(part, cache_bytes)
    except KvcalcError as error:
        if isinstance(error, InvalidValueError) and error.field in _OF_THE_MIX:
            raise
        return error
    most = most_users(loads)
    needed = -(-users // most) if most else 0
    return Replica(
        question=question,
        layout=layout,
        users=most,
        binds=min(loads, key=lambda load: load.users).store.name,
        cache_bytes=cache_bytes,
        share=_share(loads, users, needed),
        share_with_one_more=_share(loads, users, needed + 1) if needed else 0.0,
        notes=notes_of(stores, mix),
    )


def _held(part: _Part, cache_bytes: int) -> tuple[tuple[Store, ...], tuple[Load, ...]]:
    """The stores of a replica's ranks, and the users' load on them."""
    question, layout, mix = part
    asked = question.asked
    plan = question.plan(layout)
    stores = stores_of(asked.model, asked.engine, asked.kv_dtype, layout, plan, cache_bytes)
    return stores, loads_of(stores, mix)


def _share(loads: Sequence[Load], users: int, replicas: int) -> float:
    """Share of the time without preemption on one of several replicas that share the users; 0 without replicas."""
    return min(load.share(-(-users // replicas)) for load in loads) if replicas else 0.0


_OF_THE_MIX = ("prompt", "shared_prefix")
"""Fields of errors that do not depend on the layout."""


def _rank(replica: Replica, users: int) -> tuple[object, ...]:
    needed = replica.needed(users)
    gpus = float("inf") if needed is None else needed * replica.gpus
    return gpus, replica.gpus, replica.layout.pp, -replica.users


def _fleet(replica: Replica, users: int) -> Fleet:
    needed = replica.needed(users)
    gpus = None if needed is None else needed * replica.gpus
    return Fleet(
        gpu=replica.question.gpu.name,
        replica=str(replica.layout),
        replica_gpus=replica.gpus,
        replica_users=replica.users,
        cache_bytes=replica.cache_bytes,
        replicas=needed,
        gpus=gpus,
        held=0 if gpus is None else replica.held(gpus),
        share=replica.share,
        share_with_one_more=replica.share_with_one_more,
        binds=replica.binds,
    )


def _steps(found: Sequence[Replica], mix: Mix, users: int, most_gpus: int | None) -> Iterator[Step]:
    """Users of other numbers of GPUs than the fewest that suffice, each in its best layout."""
    enough = [needed * each.gpus for each in found if (needed := each.needed(users)) is not None]
    if not enough:
        return
    fewest = min(enough)
    loads: dict[tuple[str, Parallel], tuple[Load, ...]] = {}
    for gpus in (fewest - 1, fewest, *(fewest + more for more in _FURTHER)):
        able = [each for each in found if each.held(gpus)]
        if not able or (most_gpus is not None and gpus > most_gpus):
            continue
        best = max(able, key=lambda each: (each.held(gpus), -each.gpus))
        replicas = gpus // best.gpus
        key = (best.question.gpu.name, best.layout)
        if key not in loads:
            loads[key] = _held(_Part(best.question, best.layout, mix), best.cache_bytes)[1]
        yield Step(
            gpus=gpus,
            used=replicas * best.gpus,
            gpu=best.question.gpu.name,
            parallel=str(_times(best.layout, replicas)),
            users=best.held(gpus),
            share=_share(loads[key], users, replicas),
        )


def _notes(asked: Sequence[OnGpus], ordered: Sequence[Replica]) -> Iterator[str]:
    for question in asked:
        model, engine = question.asked.model, question.asked.engine
        yield from (*model.notes, *engine.version_notes, *engine.caveats(model), *question.gpu.remarks())
        yield from question.weights.words()
    for replica in ordered[:1]:
        yield from replica.notes
        beside = replica.question.beside(replica.layout)
        if beside is not None:
            yield f"other memory at most {count(beside.high_bytes)} bytes on each GPU, an estimate"
