"""What an engine's memory holds on the ranks that share a model: one interface for all engines.

A plan describes one replica and its `sequences`. Its answers are exact, and inverses of each other:

    needed(max_tokens(n), n) <= cache_bytes < needed(max_tokens(n) + 1, n), on the rank with the least to spare
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, Self, cast, runtime_checkable

if TYPE_CHECKING:
    from kvcalc.cache.dtypes import Dtype
    from kvcalc.engines.base import Engine
    from kvcalc.model import Model
    from kvcalc.parallel import Parallel
    from kvcalc.report.blocks import BlocksReport
    from kvcalc.report.fit import FitReport
    from kvcalc.report.pool import PoolReport

    Fitted = FitReport | PoolReport | BlocksReport
    """Reports of engines that plan in blocks per layer, in pools, and in blocks for all layers."""


class Blocks(NamedTuple):
    """Blocks of a pool, for engines that allocate whole blocks only.

    num_blocks: on each rank. block_bytes: of one, on a rank of each pipeline stage. request_blocks: of a request with
    the requested tokens, None without a request.
    """

    num_blocks: int
    block_bytes: tuple[int, ...]
    request_blocks: int | None


class Plan(Protocol):
    """Bytes on a rank of each pipeline stage, by tokens of a user and users; and the inverses."""

    @property
    def max_model_len(self) -> int | None:
        """Longest request that the engine accepts; None if unknown."""

    @property
    def speaks_for_engine(self) -> bool:
        """Whether its answers include what the engine's notes on a size say."""

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """Bytes that `sequences` users of `tokens` tokens each need on a rank of each stage."""

    def needed_at_least(self, tokens: int, sequences: int) -> int:
        """Lower bound of the bytes on a rank that hold them; 0 if it depends on the available memory."""

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether cache_bytes on each rank hold them."""

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Largest context for this number of users; 0 if none fits, None if any does."""

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Most users at this context; None if they take no memory."""

    def blocks(self, tokens: int | None, cache_bytes: int) -> Blocks | None:
        """The pool in blocks; None if the engine has none."""

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> Fitted | None:
        """The engine's own report for available_bytes on a rank of each stage; None without a planner.

        longest: tokens of the longest request in the report, if no setting gives it. Raises NotApplicableError with the
        engine's message if it would not start.
        """


class EnginePlan(Plan, Protocol):
    """A plan by an engine's own planner, which always reports."""

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> Fitted:
        """The engine's own report of this much memory on a rank of each stage."""


@runtime_checkable
class Planner(Protocol):
    """An engine that plans its cache from the memory left on a GPU.

    SHARE: the setting for the share of the GPU's memory; FIXED: the setting for the cache's bytes instead, empty if
    there is none. gpu: a name of presets/gpus.yaml.
    """

    SHARE: ClassVar[str]
    FIXED: ClassVar[str]

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def gpu(self) -> str: ...  # noqa: D102

    @property
    def share_words(self) -> str:
        """The share of memory, with its setting's name."""

    @property
    def fixed_bytes(self) -> int | None:
        """The cache's bytes, if given by a setting."""

    def plan(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> EnginePlan:
        """What the ranks of a replica hold. Raises NotApplicableError with the engine's message if it refuses."""

    def settled(self, model: Model, ranks: Parallel) -> Self:
        """This engine with the settings that it derives for a model on its ranks."""

    def left_for_cache(self, memory_bytes: int, used_bytes: int) -> int:
        """Memory of a GPU left for the cache after the used bytes; may be negative."""


def planner_of(engine: Engine) -> Planner | None:
    """The engine, if it plans its cache. A protocol's isinstance looks at every member of every object."""
    kind = type(engine)
    if kind not in _PLANS:
        _PLANS[kind] = isinstance(engine, Planner)
    return cast("Planner", engine) if _PLANS[kind] else None


_PLANS: dict[type, bool] = {}


def least(numbers: Iterable[int | None]) -> int | None:
    """The smallest; None means unlimited."""
    return min((number for number in numbers if number is not None), default=None)
