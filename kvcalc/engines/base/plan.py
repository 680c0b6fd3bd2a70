"""What the memory of an engine holds on the ranks that share a model: asked once, whoever the engine is.

A plan is of one replica: `sequences` are those of its own. Its answers are exact, and inverses of each other:

    needed(max_tokens(n), n) <= cache_bytes < needed(max_tokens(n) + 1, n), on the rank that has least to spare
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from kvcalc.cache.dtypes import Dtype
    from kvcalc.model import Model
    from kvcalc.parallel import Parallel
    from kvcalc.report.blocks import BlocksReport
    from kvcalc.report.fit import FitReport
    from kvcalc.report.pool import PoolReport

    Fitted = FitReport | PoolReport | BlocksReport
    """Reports of engines that plan in blocks by layer, in pools, and in blocks for all layers."""


class Blocks(NamedTuple):
    """Blocks of a pool, for engines that give out nothing smaller.

    num_blocks: on each rank. block_bytes: of one, on a rank of each pipeline stage. request_blocks: that a request of
    the tokens asked about takes, None where nothing was asked.
    """

    num_blocks: int
    block_bytes: tuple[int, ...]
    request_blocks: int | None


class Plan(Protocol):
    """Bytes on a rank of each pipeline stage, by tokens of a user and users; and the inverses."""

    @property
    def max_model_len(self) -> int | None:
        """Longest request that the engine takes; None where nobody says."""

    @property
    def speaks_for_engine(self) -> bool:
        """Whether its answers say all that the engine's notes on a size do."""

    def needed(self, tokens: int, sequences: int) -> tuple[int, ...]:
        """Bytes that `sequences` users of `tokens` tokens each need on a rank of each stage."""

    def needed_at_least(self, tokens: int, sequences: int) -> int:
        """Bytes below which no rank holds them; 0 where that depends on the memory that there is."""

    def fits(self, tokens: int, sequences: int, cache_bytes: int) -> bool:
        """Whether cache_bytes on each rank hold them."""

    def max_tokens(self, sequences: int, cache_bytes: int) -> int | None:
        """Largest context of so many users; 0 where none fits, None where every one does."""

    def max_sequences(self, tokens: int, cache_bytes: int) -> int | None:
        """Most users at that context; None where they take nothing."""

    def blocks(self, tokens: int | None, cache_bytes: int) -> Blocks | None:
        """What there is in blocks; None where the engine gives out none."""

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> Fitted | None:
        """What the engine itself would report of available_bytes on a rank of each stage; None where it has no planner.

        longest: tokens of the longest request that the report is to speak of, where no setting says.
        Raises NotApplicableError where the engine would not start, in its words.
        """


class EnginePlan(Plan, Protocol):
    """A plan of an engine's own, which always reports."""

    def fit(self, available_bytes: Sequence[int], longest: int | None = None) -> Fitted:
        """The engine's own report of so much memory on a rank of each stage."""


@runtime_checkable
class Planner(Protocol):
    """An engine that plans its cache by the memory that is left for it on a GPU.

    SHARE: the setting that says which share of the GPU's memory it takes; FIXED: that gives the cache's bytes instead,
    empty where there is none. gpu: a name of presets/gpus.yaml.
    """

    SHARE: ClassVar[str]
    FIXED: ClassVar[str]

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def gpu(self) -> str: ...  # noqa: D102

    @property
    def share_words(self) -> str:
        """The share that is taken, with its setting's name."""

    @property
    def fixed_bytes(self) -> int | None:
        """The cache's bytes where a setting gives them."""

    def plan(self, model: Model, kv_dtype: Dtype, ranks: Parallel) -> EnginePlan:
        """What the ranks of a replica hold. Raises NotApplicableError for what the engine refuses, in its words."""

    def settled(self, model: Model, ranks: Parallel) -> Self:
        """This engine with the settings that it works out for a model on its ranks."""

    def left_for_cache(self, memory_bytes: int, used_bytes: int) -> int:
        """Of a GPU's memory, what the cache gets beside what is in use; it may be negative."""


def least(numbers: Iterable[int | None]) -> int | None:
    """The smallest; None stands for any number."""
    return min((number for number in numbers if number is not None), default=None)
