"""Requests as they arrive, and what an engine's scheduler makes of them, step by step.

A token is (segment, offset): equal segments are equal tokens, and a shorter length is its first ones. That is all that
a prefix cache can see of a prompt, so no token id is ever made up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

from kvcalc.report.replay import Step

if TYPE_CHECKING:
    from kvcalc.cache.dtypes import Dtype
    from kvcalc.engines.base.tally import Tally
    from kvcalc.model import Model
    from kvcalc.parallel import Parallel

Piece = tuple[Hashable, int]
"""A segment and how many of its tokens; the segment None is one that no other request has."""


class Request(NamedTuple):
    """A request. prompt: its pieces, in order. output_segment: whose tokens it generates.

    A later turn sends these again. priority: lower goes first, where the scheduler has priorities.
    """

    id: Hashable
    arrival_step: int
    prompt: tuple[Piece, ...]
    output_segment: Hashable
    output_tokens: int
    priority: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return sum(tokens for _, tokens in self.prompt)


class Admission(NamedTuple):
    """A request that starts to run, once more after each preemption: the tokens that it found in the prefix cache."""

    step: int
    id: Hashable
    hit_tokens: int


class Turn(Protocol):
    """Told of a step and of how many alike follow it, this one among them."""

    def __call__(  # noqa: D102, PLR0913, PLR0917  # a tuple would cost as much as the step
        self,
        step: int,
        count: int,
        used: int,
        running: int,
        waiting: int,
        preempted: Sequence[Hashable],
        scheduled: int,
        used_after: int,
        /,
    ) -> None: ...


class Events(Protocol):
    """A scheduler that goes from event to event, and only counts. hits: of each request's first admission, by id."""

    tally: Tally
    hits: dict[Hashable, int]

    def run(
        self, requests: Iterable[Request], told: Turn | None = None, progress: Callable[[int], None] | None = None
    ) -> None:
        """All requests, in the order in which they arrive. progress: is told how many arrived so far."""


class Scheduler(Protocol):
    """An engine's scheduler at work, step by step.

    num_blocks: of the pool, all that requests can get. block_bytes: of one, on a rank. block_size: tokens of one, None
    where groups cache in different ways. settings: its own, by name.
    max_model_len: tokens at which every request ends. max_requests: that run at the same time.
    evicted: cached blocks that were overwritten so far.
    """

    num_blocks: int
    block_bytes: int
    block_size: int | None
    max_model_len: int
    max_requests: int
    settings: Mapping[str, object]
    admissions: list[Admission]

    @property
    def busy(self) -> bool:
        """Whether a request is unfinished, or a batch not yet done."""

    @property
    def stuck(self) -> bool:
        """Whether the last step moved nothing, and none will before another request arrives."""

    def held_blocks(self, tokens: int) -> int:
        """Blocks that a request holds while it generates, once so many tokens of it are written."""

    def shared_blocks(self, tokens: int) -> int:
        """Blocks that requests hold in common that begin with so many equal tokens, whatever follows."""

    def shared_tokens(self, tokens: int) -> int:
        """Tokens that those blocks hold."""

    def kept_blocks(self, prompt: int, tokens: int) -> int:
        """Cached blocks of a request that ended, with which its next turn goes on: of its prompt, and all written."""

    def kept_tokens(self, prompt: int, tokens: int) -> int:
        """Tokens that those hold."""

    def add(self, request: Request) -> None:
        """A request that arrives before the next step."""

    def step(self, number: int, *, counts_groups: bool = True) -> Step:
        """One turn. counts_groups: whether it says what each group holds, which takes as long as the step."""

    def by_events(self) -> Events | None:
        """The same from event to event, of a scheduler that has done nothing yet; None where only steps will do."""


@runtime_checkable
class Replayer(Protocol):
    """An engine whose scheduler kvcalc has.

    REPLAYED: the version whose scheduler that is. SCHEDULER: the dataclass of its settings.
    """

    REPLAYED: ClassVar[str]
    SCHEDULER: ClassVar[type]

    def scheduler(
        self,
        model: Model,
        kv_dtype: Dtype,
        settings: Mapping[str, object],
        num_blocks: int | None = None,
        parallel: Parallel | None = None,
    ) -> Scheduler:
        """A scheduler with nothing to do yet. num_blocks: of the pool, where `settings` do not say.

        Raises NotApplicableError for what the engine refuses or kvcalc does not replay.
        """
