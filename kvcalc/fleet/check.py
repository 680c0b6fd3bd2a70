"""Capacity plans: does each deployment's cache fit in the memory left on its GPUs, and if not, what would?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from kvcalc.answers.size import beyond_the_model
from kvcalc.answers.tiers import on_node, tiers_of
from kvcalc.engines import Engine
from kvcalc.engines.base.plan import Plan, planner_of
from kvcalc.errors import KvcalcError, NotApplicableError
from kvcalc.fleet.demand import plan_of
from kvcalc.fleet.memory import memory_of
from kvcalc.hardware.gpu import Gpu
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.check import NODE, CheckReport, Finding, Mixed, Written
from kvcalc.report.deployments import Note
from kvcalc.report.tiers import HOST, NodeTier, Tier

if TYPE_CHECKING:
    from kvcalc.fleet.on_gpus import OnGpus
    from kvcalc.fleet.traffic.mix import Mix


@dataclass(frozen=True)
class Limit:
    """Bytes available to the cache on each GPU, and their derivation: words with bytes between them."""

    available_bytes: int
    words: tuple[str | int, ...]

    @classmethod
    def of_budget(cls, budget_bytes: int) -> Limit:
        """A given number of bytes."""
        return cls(budget_bytes, ("budget of ", budget_bytes))

    @classmethod
    def of_gpu(  # the terms of a GPU's memory
        cls,
        engine: Engine,
        gpu: Gpu,
        utilization: Fraction,
        weights_bytes: int,
        reserve_bytes: int,
        reserve_words: str = "reserve",
    ) -> Limit:
        """Memory of a GPU left after weights and reserve, within the engine's share if it has one.

        May be negative. Raises InvalidValueError if the engine's share is unknown.
        """
        memory = memory_of(engine, gpu, weights_bytes, reserve_bytes, utilization)
        planner = planner_of(engine)
        if planner is not None and planner.fixed_bytes is not None:
            return cls(memory.cache_bytes, (memory.share,))
        share = f"{float(utilization):g}" if planner is None else memory.share
        words: tuple[str | int, ...] = (f"{gpu.name} ", gpu.memory_bytes, f" x {share} - ", weights_bytes, " weights")
        if reserve_bytes:
            words = (*words, " - ", reserve_bytes, f" {reserve_words}")
        return cls(memory.cache_bytes, words)


class Host(NamedTuple):
    """Host memory of a node; None if unknown. gpus_per_node: None for all GPUs, up to 8.

    offloaded_bytes: weights of each GPU that are kept there. spread_bytes: width of the interval of a device's cache
    memory, if it rests on an estimate. words: owner of the memory.
    """

    memory_bytes: int | None = None
    gpus_per_node: int | None = None
    offloaded_bytes: int = 0
    spread_bytes: int = 0
    words: str = NODE

    def of_container(self, memory_bytes: int, gpus: int, words: str) -> Host:
        """The same under a container's limit for this number of GPUs."""
        return self._replace(memory_bytes=memory_bytes, gpus_per_node=gpus, words=words)


_UNKNOWN_HOST = Host()


@dataclass(frozen=True)
class Deployment:
    """One entry of a plan: the question and the available memory. remarks: notes for its author.

    file, line: its place, for findings; where: the same, for errors. written: its fields as written, to name the cause
    of a change. mix: the workload if requests differ in length, and mix_where it is written; the question's tokens are
    then the longest request's. on: the same question for its GPUs, if it names them and no weights are offloaded.
    """

    name: str
    asked: Question
    limit: Limit
    file: str = ""
    line: int = 0
    where: str = ""
    remarks: tuple[str, ...] = ()
    written: tuple[Written, ...] = ()
    mix: Mix | None = None
    mix_where: str = ""
    host: Host = _UNKNOWN_HOST
    on: OnGpus | None = None

    @property
    def ranks(self) -> Parallel:
        """The ranks that share the model; one by default."""
        return self.asked.parallel or Parallel()


_MOST_PLANS = 1024
"""Number of cached plans."""


class _Planned(NamedTuple):
    """A plan, and the format of its cache. deployment: keeps the objects alive by whose identity it is found."""

    deployment: Deployment
    plan: Plan
    kv_dtype: str


class _Plans:
    """Cache of engines' plans by what they depend on: files often repeat the same models."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], _Planned] = {}

    def of(self, deployment: Deployment) -> _Planned:
        """The plan of a deployment."""
        asked, ranks = deployment.asked, deployment.ranks
        if len(self._known) >= _MOST_PLANS:
            self._known.clear()
        key = (id(asked.model), id(asked.engine), asked.kv_dtype.name, *(ranks.tp, ranks.pp, ranks.dcp))
        if key not in self._known:
            plan = plan_of(asked.model, asked.engine, asked.kv_dtype, ranks)
            self._known[key] = _Planned(deployment, plan, asked.engine.cache_format(asked.model, asked.kv_dtype))
        return self._known[key]


def check(deployments: Iterable[Deployment], refused: Iterable[Note] = (), skipped: Iterable[Note] = ()) -> CheckReport:
    """Verdict on each deployment, with what would fit; refusals of an engine name the deployment's place.

    refused, skipped: what could not be read.
    """
    plans = _Plans()
    findings: list[Finding] = []
    notes = list(refused)
    for deployment in deployments:
        try:
            findings.append(_located_finding(deployment, plans))
        except KvcalcError as error:
            notes.append(Note.of(error, deployment.where))
    return CheckReport(tuple(findings), tuple(notes), tuple(skipped))


def verdicts(deployments: Iterable[Deployment | Note]) -> Iterator[Finding | Note]:
    """The same as a stream; what could not be read is passed through."""
    plans = _Plans()
    for each in deployments:
        if isinstance(each, Note):
            yield each
            continue
        try:
            yield _located_finding(each, plans)
        except KvcalcError as error:
            yield Note.of(error, each.where)


def _located_finding(deployment: Deployment, plans: _Plans) -> Finding:
    try:
        return _finding(deployment, plans.of(deployment))
    except KvcalcError as error:
        raise error.at(deployment.where) if deployment.where and not error.where else error from None


def _finding(deployment: Deployment, planned: _Planned) -> Finding:
    asked, ranks, plan = deployment.asked, deployment.ranks, planned.plan
    available_bytes = deployment.limit.available_bytes
    each = -(-asked.sequences // ranks.dp)
    held = _held(deployment, plan, each)
    tiers = _tiers(deployment)
    finding = Finding(
        deployment=deployment.name,
        model=asked.model.name,
        tokens=asked.tokens,
        sequences=asked.sequences,
        kv_dtype=planned.kv_dtype,
        needed_bytes=held.needed_bytes,
        available_bytes=available_bytes,
        limit=deployment.limit.words,
        max_tokens=plan.max_tokens(each, available_bytes),
        max_sequences=None if held.most is None else held.most * ranks.dp,
        fits=held.fits,
        engine=asked.engine.name,
        engine_version=asked.engine.release_words,
        parallel=str(ranks) if ranks.num_ranks > 1 else "",
        file=deployment.file,
        line=deployment.line,
        notes=(*held.notes, *_notes(deployment, plan), *map(str, tiers), *deployment.remarks),
        written=deployment.written,
        mixed=held.mixed,
        tiers=tiers,
        host_memory_bytes=deployment.host.memory_bytes,
        host_words=deployment.host.words,
    )
    return finding._replace(fits=finding.fits and not finding.missing_host_bytes)


def _tiers(deployment: Deployment) -> tuple[NodeTier, ...]:
    """Caches off the devices; none if the engine would not start, which the device's verdict reports."""
    asked, ranks, host = deployment.asked, deployment.ranks, deployment.host
    try:
        cache_bytes = deployment.limit.available_bytes + host.spread_bytes
        found = tiers_of(asked, ranks, cache_bytes, host.gpus_per_node, at_most=host.spread_bytes > 0)
    except NotApplicableError:
        found = ()
    if not host.offloaded_bytes:
        return found
    each_bytes = host.offloaded_bytes
    weights = Tier("weights", HOST, each_bytes, ranks.tp * ranks.pp * each_bytes, "kept there of each GPU")
    return (*found, on_node(weights, ranks, host.gpus_per_node))


class _Held(NamedTuple):
    """What a replica's users need on each GPU, and how many users fit."""

    needed_bytes: int
    most: int | None
    fits: bool
    mixed: Mixed | None = None
    notes: tuple[str, ...] = ()


def _held(deployment: Deployment, plan: Plan, users: int) -> _Held:
    tokens, available_bytes = deployment.asked.tokens, deployment.limit.available_bytes
    if deployment.mix is not None:
        return _held_by_mix(deployment, deployment.mix, plan, users)
    most = plan.max_sequences(tokens, available_bytes)
    return _Held(max(plan.needed(tokens, users)), most, plan.fits(tokens, users, available_bytes))


def _held_by_mix(deployment: Deployment, mix: Mix, plan: Plan, users: int) -> _Held:
    """The same if requests differ in length: for the mix's share of the time."""
    from kvcalc.fleet.traffic import loads_of, most_users, notes_of
    from kvcalc.fleet.traffic.store import stores_of

    asked, ranks = deployment.asked, deployment.ranks
    try:
        stores = stores_of(asked.model, asked.engine, asked.kv_dtype, ranks, plan, deployment.limit.available_bytes)
        loads = loads_of(stores, mix)
    except KvcalcError as error:
        raise error.at(deployment.mix_where) if deployment.mix_where and not error.where else error from None
    needed = sum((load.needed(users) + load.store.spare) * load.store.unit_bytes for load in loads)
    most = most_users(loads)
    mixed = Mixed(mix.described, mix.quantile, min(load.share(users) for load in loads))
    return _Held(needed, most, users <= most, mixed, (mixed.words, *notes_of(stores, mix)))


def _notes(deployment: Deployment, plan: Plan) -> tuple[str, ...]:
    """Notes of the model and the engine."""
    asked = deployment.asked
    own = () if plan.speaks_for_engine else asked.serving.notes(asked.model)
    each = asked.tokens * asked.times_held // asked.sequences
    own = (*asked.engine.version_notes, *own, *asked.engine.caveats(asked.model))
    return (*asked.model.notes, *own, *beyond_the_model(asked.model, each))
