"""What a number of users, each at a context, needs on the ranks that share a model; and how many users or tokens fit.

An engine with a planner answers itself; for others a plan is made here from what they store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kvcalc.cache.dtypes import Dtype
from kvcalc.engines import Engine
from kvcalc.engines.base.footprint import Footprint
from kvcalc.engines.base.longest import Longest
from kvcalc.engines.base.plan import Plan, Planner, least
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import Model
from kvcalc.parallel import Parallel, rank_models


def plan_of(model: Model, engine: Engine, kv_dtype: Dtype, parallel: Parallel) -> Plan:
    """What `model` needs in `engine` on these ranks, except dp, which only distributes users.

    Raises NotApplicableError and InvalidValueError if the engine refuses it, or these ranks cannot share it.
    """
    if isinstance(engine, Planner):
        return engine.plan(model, kv_dtype, parallel)
    if not engine.SHARES_CONTEXT:
        return BytePlan(_held_on_stages(model, engine, kv_dtype, parallel), engine.longest(model, kv_dtype))
    if (parallel.tp, parallel.pp, parallel.dcp) != (1, 1, 1):
        raise NotApplicableError(
            f"engine {engine.name} holds one context in one process, so there are no ranks",
            help="remove tp, pp and dcp, or use another engine",
        )
    return ContextPlan(model, engine, kv_dtype)


def _held_on_stages(
    model: Model, engine: Engine, kv_dtype: Dtype, parallel: Parallel
) -> tuple[tuple[Footprint, ...], ...]:
    """Bytes of a sequence on a rank of each pipeline stage, and during prefill if a method cuts the prompt."""
    model = engine.served(model)
    ranks = rank_models(model, Parallel(tp=parallel.tp, pp=parallel.pp, dcp=parallel.dcp), engine.sharing)
    stages = [rank.model for rank in ranks[:: parallel.tp]]
    steady = [(Footprint.of(stage, engine, kv_dtype),) for stage in stages]
    cut = model.prompt_cut
    if cut is None:
        return tuple(steady)

    from kvcalc.answers.peaks import prefill_footprints

    return tuple(
        own + prefill_footprints(stage, cut, engine, kv_dtype) for own, stage in zip(steady, stages, strict=True)
    )


class _Plain:
    """Answers that engines without a planner do not give."""

    @property
    def max_model_len(self) -> int | None:
        """None: no limit."""
        return None

    @property
    def speaks_for_engine(self) -> bool:
        """No: it only sums what the engine stores."""
        return False

    def blocks(self, tokens: int | None, cache_bytes: int) -> None:
        """None: bytes are not allocated in blocks."""
        del tokens, cache_bytes

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> None:
        """None: the engine reports nothing of its own."""
        del available_bytes, longest


@dataclass(frozen=True)
class BytePlan(_Plain):
    """Each user on its own, byte by byte.

    held: on each stage, the moments of which the largest counts. longest: longest request of the engine.
    """

    held: tuple[tuple[Footprint, ...], ...]
    longest: Longest | None = None

    @property
    def max_model_len(self) -> int | None:
        """The longest request with these settings."""
        return self.longest.tokens if self.longest else None

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """Peak bytes of one sequence times the number of sequences, on each stage."""
        if self.longest:
            self.longest.check(tokens)
        return tuple(sequences * max(moment.bytes(tokens) for moment in stage) for stage in self.held)

    def needed_at_least(self, tokens: int, sequences: int) -> int:
        """Bytes of the stage that needs most."""
        return max(self.needed(tokens, sequences))

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether no stage needs more."""
        return self.needed_at_least(tokens, sequences) <= cache_bytes

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """By division, at the stage and moment with the fewest."""
        each_bytes = cache_bytes // sequences
        found = [moment.max_tokens(each_bytes) for stage in self.held for moment in stage]
        return least([*found, self.max_model_len])

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """By division, at the stage and moment with the fewest."""
        return least([moment.max_sequences(tokens, cache_bytes) for stage in self.held for moment in stage])


@dataclass(frozen=True)
class ContextPlan(_Plain):
    """All users in one context, whose tokens are the sum over all users. Results are cached."""

    model: Model
    engine: Engine
    kv_dtype: Dtype
    _known: dict[int, Footprint] = field(default_factory=dict)

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """Bytes of the context."""
        return (self._context(sequences).bytes(tokens),)

    def needed_at_least(self, tokens: int, sequences: int) -> int:
        """Bytes of the context."""
        return self._context(sequences).bytes(tokens)

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether the context fits."""
        return self.needed_at_least(tokens, sequences) <= cache_bytes

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Largest context shared by this number of users."""
        return self._context(sequences).max_tokens(cache_bytes)

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Most users that can share a context of `tokens` tokens."""
        most = 0
        for number in range(1, self.engine.MAX_SEQUENCES + 1):
            try:
                context = self._context(number)
            except InvalidValueError:  # their number is a setting
                continue
            most = number if context.bytes(tokens) <= cache_bytes else most
        return most

    def _context(self, sequences: int) -> Footprint:
        if sequences not in self._known:
            self._known[sequences] = self.engine.serving(sequences).footprint(self.model, self.kv_dtype)
        return self._known[sequences]
