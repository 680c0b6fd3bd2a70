"""A question about any number of GPUs of one kind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from kvcalc.engines import Engine
from kvcalc.engines.base.beside import Beside
from kvcalc.engines.base.plan import Plan
from kvcalc.engines.base.versions import Rule, rules_read
from kvcalc.errors import NotApplicableError
from kvcalc.fleet.demand import plan_of
from kvcalc.fleet.memory import Memory, memory_of
from kvcalc.fleet.weights import Weights, on_rank
from kvcalc.hardware.gpu import MIG_NAME, Gpu
from kvcalc.parallel import Parallel
from kvcalc.question import Question
from kvcalc.report.others import Other


def check_shared(engine: Engine, gpu: Gpu, parallel: Parallel) -> None:
    """Raises NotApplicableError for ranks that share a model on MIG slices, or experts where the engine's do not."""
    if gpu.memory_from == MIG_NAME and max(parallel.tp * parallel.pp, parallel.ep) > 1:
        raise NotApplicableError(
            f"no ranks share a model on MIG slices ({parallel} on {gpu.name}): a process sees one slice, and none "
            "shares memory with another",
            help="use one slice per replica (dp), or the whole GPU",
        )
    check_experts(engine, parallel)


def check_experts(engine: Engine, parallel: Parallel) -> None:
    """Raises NotApplicableError for ranks that share experts where the engine's do not."""
    if parallel.ep > 1 and not engine.sharing.experts:
        raise NotApplicableError(
            f"ranks of {engine.TITLE} share no experts ({parallel})", help="remove ep, or use another --engine"
        )


@dataclass(frozen=True)
class OnGpus:
    """A question about GPUs of one kind.

    weights: of the whole model; a rank's share: `kvcalc.fleet.weights.on_rank`. reserve_bytes: on each GPU; None: the
    estimate of the engine's other memory, if known. Each layout is planned once.
    rules: version rules used by its plans. others: models on the same GPU; then only one GPU is used.
    """

    asked: Question
    gpu: Gpu
    weights: Weights
    reserve_bytes: int | None
    utilization: Fraction
    others: tuple[Other, ...] = ()
    rules: set[Rule[Any]] = field(default_factory=set)
    _plans: dict[Parallel, Plan] = field(default_factory=dict)
    _beside: dict[Parallel, Beside | None] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        """State for another process: the question without plans."""
        return {**vars(self), "rules": set(), "_plans": {}, "_beside": {}}

    def at(self, tokens: int) -> OnGpus:
        """The same for users of this many tokens."""
        if tokens == self.asked.tokens:
            return self
        return replace(self, asked=self.asked.at(tokens), _beside={})

    def in_eight_bits(self) -> OnGpus | None:
        """The same with an 8-bit cache; None if it already has 8 bits."""
        asked = self.asked
        engine, kv_dtype = asked.engine.in_eight_bits()
        if engine.cache_format(asked.model, kv_dtype) == asked.engine.cache_format(asked.model, asked.kv_dtype):
            return None
        return replace(self, asked=asked._replace(engine=engine, kv_dtype=kv_dtype), _plans={}, _beside={})

    def with_weights(self, weights: Weights) -> OnGpus:
        """The same with other weights; the cache is equal, so plans are shared."""
        return replace(self, weights=weights, _beside={})

    def beside(self, parallel: Parallel) -> Beside | None:
        """Other memory besides weights and cache, as an interval; None if it is given or unknown."""
        widths = self.weights.widths
        if self.reserve_bytes is not None or widths is None:
            return None
        if parallel not in self._beside:
            model, _, _, kv_dtype, engine, _ = self.asked
            asked = self.asked.tokens if self.asked.tokens > 1 else None  # without a requested context
            self._beside[parallel] = engine.beside(model, kv_dtype, parallel, widths, asked)
        return self._beside[parallel]

    def memory(self, parallel: Parallel, *, at_best: bool = False) -> Memory:
        """Memory of each GPU. at_best: with the lower bound of other memory.

        Raises NotApplicableError for ranks that cannot share the model so (`check_shared`), or GPUs with other models.
        """
        if self.others and parallel.num_ranks > 1:
            raise NotApplicableError(
                f"other models need a single GPU, and {parallel} has {parallel.num_ranks}",
                help="remove the layout, or pass the other models' memory as --reserve",
            )
        check_shared(self.asked.engine, self.gpu, parallel)
        engine = self.asked.engine.settled(self.asked.model, parallel)
        weights = on_rank(self.weights, self.asked.model, parallel, engine.sharing)
        beside = self.beside(parallel)
        reserve_bytes = self.reserve_bytes or 0
        if beside is not None:
            reserve_bytes = beside.low_bytes if at_best else beside.high_bytes
        others = sum(each.least_bytes if at_best else each.most_bytes for each in self.others)
        return memory_of(engine, self.gpu, weights, reserve_bytes + others, self.utilization)

    def plan(self, parallel: Parallel) -> Plan:
        """What users need on each rank. Raises the engine's refusals."""
        shared = replace(parallel, ep=1)  # experts are weights
        if shared not in self._plans:
            with rules_read() as read:
                self._plans[shared] = plan_of(self.asked.model, self.asked.engine, self.asked.kv_dtype, shared)
            self.rules.update(read)
        return self._plans[shared]
