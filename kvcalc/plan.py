"""Capacity plans: does each deployment's cache fit what its GPU leaves for it, and if not, what would?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from kvcalc.capacity import max_sequences, max_tokens
from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError
from kvcalc.footprint import Footprint
from kvcalc.hardware import Gpu
from kvcalc.model import Model
from kvcalc.report.check import CheckReport, Finding
from kvcalc.sizing import size
from kvcalc.units import both_units, shown
from kvcalc.workload import Workload

DEFAULT_UTILIZATION = Fraction("0.92")
"""Share of a GPU's memory that a plan uses where it does not say: vLLM's default gpu_memory_utilization since 0.20."""


@dataclass(frozen=True)
class Limit:
    """Bytes available to the cache, and in words how they came about."""

    available_bytes: int
    words: str

    @classmethod
    def of_budget(cls, budget_bytes: int) -> Limit:
        """A number of bytes, given."""
        return cls(budget_bytes, "budget")

    @classmethod
    def of_gpu(cls, gpu: Gpu, utilization: Fraction, weights_bytes: int, reserve_bytes: int) -> Limit:
        """floor(gpu memory * utilization) - weights - reserve, in bytes; it may be negative.

        Raises InvalidValueError where utilization is not in 0..1.
        """
        if not 0 < utilization <= 1:
            raise InvalidValueError(
                f"gpu_memory_utilization must be above 0 and at most 1, not {shown(float(utilization))}",
                field="gpu_memory_utilization",
                help="write a share such as 0.9, not a percentage",
            )
        words = (
            f"{gpu.name}: {both_units(gpu.memory_bytes)} x {float(utilization):g} - {both_units(weights_bytes)} weights"
        )
        if reserve_bytes:
            words += f" - {both_units(reserve_bytes)} reserve"
        return cls(int(gpu.memory_bytes * utilization) - weights_bytes - reserve_bytes, words)


@dataclass(frozen=True)
class Deployment:
    """One entry of a plan. file, line: where it stands, for findings that point at it."""

    name: str
    model: Model
    workload: Workload
    engine: Engine
    limit: Limit
    file: str = ""
    line: int = 0


def check(deployments: Iterable[Deployment]) -> CheckReport:
    """Verdict on each deployment, with what would fit."""
    return CheckReport(tuple(map(_finding, deployments)))


def _finding(deployment: Deployment) -> Finding:
    model, workload, engine = deployment.model, deployment.workload, deployment.engine
    available_bytes = deployment.limit.available_bytes
    footprint = Footprint.of(model, engine.serving(workload.sequences), workload.kv_dtype)
    report = size(
        model,
        tokens=workload.tokens,
        sequences=workload.sequences,
        kv_dtype=workload.kv_dtype,
        engine=engine.name,
        engine_settings=engine.settings_by_name(),
    )
    return Finding(
        deployment=deployment.name,
        model=model.name,
        tokens=workload.tokens,
        sequences=workload.sequences,
        kv_dtype=workload.kv_dtype.name,
        needed_bytes=report.total_bytes,
        available_bytes=available_bytes,
        limit=deployment.limit.words,
        max_tokens=max_tokens(footprint, available_bytes // engine.times_held(workload.sequences)),
        max_sequences=_max_sequences(deployment, footprint),
        file=deployment.file,
        line=deployment.line,
        notes=report.notes,
    )


def _max_sequences(deployment: Deployment, footprint: Footprint) -> int | None:
    """Most sequences that fit; where they share a context, the most among which those tokens can be shared."""
    model, workload, engine = deployment.model, deployment.workload, deployment.engine
    available_bytes = deployment.limit.available_bytes
    if not engine.is_shared:
        return max_sequences(footprint, workload.tokens, available_bytes)
    shared = {n: Footprint.of(model, engine.serving(n), workload.kv_dtype) for n in engine.numbers_of_sequences()}
    return max((n for n, context in shared.items() if context.bytes(workload.tokens) <= available_bytes), default=0)
