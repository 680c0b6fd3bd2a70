"""What the memory of an engine holds on the ranks that share a model: asked once, whoever the engine is.

A plan is of one replica: `sequences` are those of its own. Its answers are exact, and inverses of each other:

    needed(max_tokens(n), n) <= cache_bytes < needed(max_tokens(n) + 1, n), on the rank that has least to spare
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from kvcalc.report.fit import FitReport
    from kvcalc.report.pool import PoolReport

    Fitted = FitReport | PoolReport
    """Reports of engines that plan in blocks, and of those that plan in pools."""


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


def least(numbers: Iterable[int | None]) -> int | None:
    """The smallest; None stands for any number."""
    return min((number for number in numbers if number is not None), default=None)
