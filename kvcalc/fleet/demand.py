"""What a number of users, each at a context, needs on the ranks that share a model; and how many of either fit.

A demand is asked of one replica: `sequences` are those of its own. Its answers are exact, and inverses of each other:

    needed(max_tokens(n), n) <= cache_bytes < needed(max_tokens(n) + 1, n), on the rank that has least to spare
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from kvcalc.capacity import max_sequences, max_tokens
from kvcalc.dtypes import BF16, Dtype
from kvcalc.engines import Engine
from kvcalc.engines._block_plan import BlockPlan
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.footprint import Footprint
from kvcalc.model import Model
from kvcalc.parallel import Parallel, rank_models
from kvcalc.units import count

_PAGE_TOKENS = ("page_size", "tokens_per_block")
"""Names under which engines with pools report the tokens of their pages."""
_PLENTY_BYTES = 2**50
"""Memory in which every engine starts that starts at all."""


class _Pools(NamedTuple):
    """What an engine makes of its memory: tokens of the pools, tokens of a page, most requests at a time."""

    tokens: int
    page: int
    requests: int | None


class Demand(Protocol):
    """Bytes on a rank of each pipeline stage, by tokens of a user and users; and the inverses.

    max_model_len: longest request, where one is known to the engine.
    """

    @property
    def max_model_len(self) -> int | None:
        """Longest request that the engine takes; None where nobody says."""

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """Bytes that `sequences` users of `tokens` tokens each need on a rank of each stage."""

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether that is there on each rank."""

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Largest context of so many users; 0 where none fits, None where every one does."""

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Most users at that context; None where they take nothing."""


def demand_of(model: Model, engine: Engine, kv_dtype: Dtype, parallel: Parallel) -> Demand:
    """What `model` needs in `engine` on these ranks; dp aside, which is a matter of who has which users.

    Raises NotApplicableError and InvalidValueError for what the engine refuses, or these ranks cannot share.
    """
    if hasattr(engine.module, "block_plan"):
        ranks = {"tp": parallel.tp, "pp": parallel.pp, "dcp": parallel.dcp}
        return BlockDemand(engine.module.block_plan(model, engine.settings, kv_dtype, **ranks))
    if engine.is_shared:
        if (parallel.tp, parallel.pp, parallel.dcp) != (1, 1, 1):
            raise NotApplicableError(
                f"the engine {engine.name} holds one context in one process, which no ranks share",
                help="leave tp, pp and dcp out, or take another engine",
            )
        return ContextDemand(model, engine, kv_dtype)
    each = ByteDemand(_held_on_stages(model, engine, kv_dtype, parallel))
    if hasattr(engine.module, "fit"):
        if kv_dtype != BF16:
            raise InvalidValueError(
                f"the pools of {engine.name} have a format of their own, which kv_dtype ({kv_dtype}) does not change",
                field="kv_dtype",
                help=f"leave it at {BF16}, and set {'dtype' if hasattr(engine.settings, 'dtype') else 'kv_cache_dtype'}"
                f" of the engine",
            )
        return PoolDemand(model, engine, parallel, each)
    return each


def _held_on_stages(
    model: Model, engine: Engine, kv_dtype: Dtype, parallel: Parallel
) -> tuple[tuple[Footprint, ...], ...]:
    """What a sequence holds on a rank of each pipeline stage, and while its prompt is read, where a method cuts it."""
    ranks = rank_models(model, Parallel(tp=parallel.tp, pp=parallel.pp, dcp=parallel.dcp), engine.sharing)
    stages = [rank.model for rank in ranks[:: parallel.tp]]
    steady = [(Footprint.of(stage, engine, kv_dtype),) for stage in stages]
    cut = model.prompt_cut
    if cut is None:
        return tuple(steady)

    from kvcalc.peaks import prefill_footprints

    return tuple(
        own + prefill_footprints(stage, cut, engine, kv_dtype) for own, stage in zip(steady, stages, strict=True)
    )


def _least(numbers: list[int | None]) -> int | None:
    """The smallest; None stands for any number."""
    return min((number for number in numbers if number is not None), default=None)


class ByteDemand(NamedTuple):
    """Each user on its own, byte by byte. held: on each stage, the moments of which the one that takes most counts."""

    held: tuple[tuple[Footprint, ...], ...]

    @property
    def max_model_len(self) -> None:
        """Any."""
        return

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """Bytes of one sequence at its most, as often as there are sequences, on each stage."""
        return tuple(sequences * max(moment.bytes(tokens) for moment in stage) for stage in self.held)

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether no stage needs more."""
        return max(self.needed(tokens, sequences)) <= cache_bytes

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """By division, on the stage and at the moment that has fewest."""
        each_bytes = cache_bytes // sequences
        return _least([max_tokens(moment, each_bytes) for stage in self.held for moment in stage])

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """By division, on the stage and at the moment that has fewest."""
        return _least([max_sequences(moment, tokens, cache_bytes) for stage in self.held for moment in stage])


@dataclass(frozen=True)
class ContextDemand:
    """All users in one context, whose tokens are those of all of them together. Contexts once asked for are kept."""

    model: Model
    engine: Engine
    kv_dtype: Dtype
    _known: dict[int, Footprint] = field(default_factory=dict)

    @property
    def max_model_len(self) -> None:
        """Any."""
        return

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """Bytes of the context."""
        return (self._context(sequences).bytes(tokens),)

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether the context takes no more."""
        return self.needed(tokens, sequences)[0] <= cache_bytes

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Largest context for so many users together."""
        return max_tokens(self._context(sequences), cache_bytes)

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Most users among whom a context of `tokens` tokens can be shared."""
        most = 0
        for number in self.engine.numbers_of_sequences():
            try:
                context = self._context(number)
            except InvalidValueError:  # a setting says how many they are
                continue
            most = number if context.bytes(tokens) <= cache_bytes else most
        return most

    def _context(self, sequences: int) -> Footprint:
        if sequences not in self._known:
            self._known[sequences] = Footprint.of(self.model, self.engine.serving(sequences), self.kv_dtype)
        return self._known[sequences]


class BlockDemand(NamedTuple):
    """Users that take whole blocks of one pool, some blocks of which are never given out."""

    plan: BlockPlan

    @property
    def max_model_len(self) -> int | None:
        """Of the engine."""
        return self.plan.max_model_len

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """(sequences * blocks of a request + spare blocks) * bytes of a block, on each stage."""
        blocks = sequences * self._request_blocks(tokens) + self.plan.spare_blocks
        return tuple(blocks * each_bytes for each_bytes in self.plan.block_bytes)

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether the pool has so many blocks."""
        return sequences * self._request_blocks(tokens) <= self._usable(cache_bytes)

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Longest request of which the pool has blocks for so many, up to the longest that the engine takes."""
        each = self._usable(cache_bytes) // sequences
        found = [max_tokens(Footprint.summed((1, rule) for rule in rules), each) for rules in self.plan.choices()]
        return _least([*found, self.max_model_len])

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Blocks by those of a request."""
        blocks = self._request_blocks(tokens)
        return self._usable(cache_bytes) // blocks if blocks else None

    def _usable(self, cache_bytes: int) -> int:
        return max(0, self.plan.blocks_in(max(0, cache_bytes)) - self.plan.spare_blocks)

    def _request_blocks(self, tokens: int) -> int:
        longest = self.max_model_len
        if longest is not None and tokens > longest:
            raise NotApplicableError(
                f"a request of {count(tokens)} tokens is longer than max_model_len ({count(longest)})",
                help=f"ask for at most {count(longest)} tokens",
            )
        return self.plan.request_blocks(tokens)


@dataclass(frozen=True)
class PoolDemand:
    """Users that take whole pages of pools whose sizes the engine works out from the memory that there is.

    What a user takes of a pool of windows is not asked: that pool is as large as the engine makes it.
    """

    model: Model
    engine: Engine
    parallel: Parallel
    each: ByteDemand
    _known: dict[int, _Pools] = field(default_factory=dict)

    @property
    def max_model_len(self) -> None:
        """Any."""
        return

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """Bytes of the pages that they take, on each stage."""
        return self.each.needed(tokens, sequences)

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether the pools hold so many."""
        most = self.max_sequences(tokens, cache_bytes)
        return most is None or sequences <= most

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Tokens of the pools shared evenly, in whole pages."""
        pool, page, most = self._pools(cache_bytes)
        return 0 if most is not None and sequences > most else pool // page // sequences * page

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Pages of the pools by those of a user, and no more than the engine runs at a time."""
        pool, page, most = self._pools(cache_bytes)
        return _least([pool // page // -(-tokens // page), most])

    def _pools(self, cache_bytes: int) -> _Pools:
        if cache_bytes not in self._known:
            self._known[cache_bytes] = self._planned(max(0, cache_bytes))
        return self._known[cache_bytes]

    def _planned(self, cache_bytes: int) -> _Pools:
        """Pools in so much memory; none where the engine does not start with it, but would with more."""
        try:
            report = self._report(cache_bytes)
        except NotApplicableError:
            self._report(_PLENTY_BYTES)
            return _Pools(0, 1, None)
        resolved = dict(report.resolved)
        page = next((resolved[name] for name in _PAGE_TOKENS if name in resolved), 1)
        return _Pools(report.tokens, page, report.max_requests)

    def _report(self, cache_bytes: int) -> Any:
        ranks = self.parallel
        available = (cache_bytes,) * ranks.pp
        fit, settings = self.engine.module.fit, self.engine.settings
        return fit(self.model, settings, tp=ranks.tp, pp=ranks.pp, dcp=ranks.dcp, available_bytes=available)
