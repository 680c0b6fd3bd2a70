"""Capacity plans: does each deployment's cache fit what its GPUs leave for it, and if not, what would?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from kvcalc.answers.size import beyond_the_model
from kvcalc.engines import Engine
from kvcalc.engines.base.plan import Plan, Planner
from kvcalc.errors import KvcalcError
from kvcalc.fleet.demand import plan_of
from kvcalc.fleet.memory import memory_of
from kvcalc.hardware import Gpu
from kvcalc.model import Model
from kvcalc.parallel import Parallel
from kvcalc.report.check import CheckReport, Finding
from kvcalc.units import both_units
from kvcalc.workload import Workload

DEFAULT_UTILIZATION = Fraction("0.92")
"""Share of a GPU's memory that a plan uses where it does not say: vLLM's default gpu_memory_utilization since 0.20."""


@dataclass(frozen=True)
class Limit:
    """Bytes available to the cache on each GPU, and in words how they came about."""

    available_bytes: int
    words: str

    @classmethod
    def of_budget(cls, budget_bytes: int) -> Limit:
        """A number of bytes, given."""
        return cls(budget_bytes, "budget")

    @classmethod
    def of_gpu(cls, engine: Engine, gpu: Gpu, utilization: Fraction, weights_bytes: int, reserve_bytes: int) -> Limit:
        """What weights and reserve of a GPU leave of its memory, by the engine's own share where it has one.

        It may be negative. Raises InvalidValueError where an engine's own share is not known.
        """
        memory = memory_of(engine, gpu, weights_bytes, reserve_bytes, utilization)
        if isinstance(engine, Planner) and engine.fixed_bytes is not None:
            return cls(memory.cache_bytes, memory.share)
        share = memory.share if isinstance(engine, Planner) else f"{float(utilization):g}"
        words = f"{gpu.name}: {both_units(gpu.memory_bytes)} x {share} - {both_units(weights_bytes)} weights"
        if reserve_bytes:
            words += f" - {both_units(reserve_bytes)} reserve"
        return cls(memory.cache_bytes, words)


@dataclass(frozen=True)
class Deployment:
    """One entry of a plan. parallel: the ranks that share the model. remarks: what its author must know.

    file, line: where it stands, for findings that point at it; where: the same, for errors.
    """

    name: str
    model: Model
    workload: Workload
    engine: Engine
    limit: Limit
    parallel: Parallel = field(default_factory=Parallel)
    file: str = ""
    line: int = 0
    where: str = ""
    remarks: tuple[str, ...] = ()


class _Plans:
    """What engines plan, by what it depends on: files ask of the same models again and again."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[Deployment, Plan]] = {}

    def of(self, deployment: Deployment) -> Plan:
        """The deployment's; what it is known by stays alive with it."""
        ranks = deployment.parallel
        key = (
            id(deployment.model),
            id(deployment.engine),
            deployment.workload.kv_dtype.name,
            *(ranks.tp, ranks.pp, ranks.dcp),
        )
        if key not in self._known:
            found = plan_of(deployment.model, deployment.engine, deployment.workload.kv_dtype, ranks)
            self._known[key] = deployment, found
        return self._known[key][1]


def check(deployments: Iterable[Deployment]) -> CheckReport:
    """Verdict on each deployment, with what would fit. Raises what an engine refuses, located at the deployment."""
    plans = _Plans()
    return CheckReport(tuple(_located_finding(deployment, plans) for deployment in deployments))


def _located_finding(deployment: Deployment, plans: _Plans) -> Finding:
    try:
        return _finding(deployment, plans.of(deployment))
    except KvcalcError as error:
        raise error.at(deployment.where) if deployment.where else error from None


def _finding(deployment: Deployment, plan: Plan) -> Finding:
    model, workload, ranks = deployment.model, deployment.workload, deployment.parallel
    available_bytes = deployment.limit.available_bytes
    each = -(-workload.sequences // ranks.dp)
    most = plan.max_sequences(workload.tokens, available_bytes)
    return Finding(
        deployment=deployment.name,
        model=model.name,
        tokens=workload.tokens,
        sequences=workload.sequences,
        kv_dtype=workload.kv_dtype.name,
        needed_bytes=max(plan.needed(workload.tokens, each)),
        available_bytes=available_bytes,
        limit=deployment.limit.words,
        max_tokens=plan.max_tokens(each, available_bytes),
        max_sequences=None if most is None else most * ranks.dp,
        fits=plan.fits(workload.tokens, each, available_bytes),
        engine=deployment.engine.name,
        engine_version=deployment.engine.release_words,
        parallel=str(ranks) if ranks.num_ranks > 1 else "",
        file=deployment.file,
        line=deployment.line,
        notes=(*_notes(deployment, plan), *deployment.remarks),
    )


def _notes(deployment: Deployment, plan: Plan) -> tuple[str, ...]:
    """What the model and the engine have to say."""
    model, workload = deployment.model, deployment.workload
    engine = deployment.engine.serving(workload.sequences)
    own = () if plan.speaks_for_engine else engine.notes(model)
    each = workload.tokens * engine.times_held(workload.sequences) // workload.sequences
    return (*model.notes, *own, *beyond_the_model(model, each))
