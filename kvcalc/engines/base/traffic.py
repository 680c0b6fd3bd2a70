"""Requests as they arrive, and an engine's scheduler, step by step.

A token is (segment, offset): equal segments are equal tokens, and a shorter length means the first ones. That is all a
prefix cache can see of a prompt, so no token ids are invented.
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
"""A segment and its number of tokens; segment None is unique to the request."""


class Request(NamedTuple):
    """A request. prompt: its pieces, in order. output_segment: segment of its generated tokens.

    A later turn sends these again. priority: lower goes first, if the scheduler has priorities.
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
    """A request that starts to run, also after each preemption: the tokens that it found in the prefix cache."""

    step: int
    id: Hashable
    hit_tokens: int


class Turn(Protocol):
    """Called with a step and its number of equal repetitions, including itself."""

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
        """Runs all requests, in order of arrival. progress: called with the number that have arrived."""


class Scheduler(Protocol):
    """An engine's scheduler at work, step by step.

    num_blocks: usable blocks of the pool. block_bytes: of one block, on a rank. block_size: tokens of a block, None if
    groups cache differently. settings: its own, by name.
    max_model_len: tokens at which every request ends. max_requests: concurrent requests.
    evicted: cached blocks overwritten so far.
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
        """Whether a request is unfinished, or a batch is still running."""

    @property
    def stuck(self) -> bool:
        """Whether the last step made no progress, and none will before another request arrives."""

    def held_blocks(self, tokens: int) -> int:
        """Blocks that a generating request holds, by tokens written."""

    def shared_blocks(self, tokens: int) -> int:
        """Blocks shared by requests with this many equal first tokens, whatever follows."""

    def shared_tokens(self, tokens: int) -> int:
        """Tokens that those blocks hold."""

    def kept_blocks(self, prompt: int, tokens: int) -> int:
        """Cached blocks of a finished request for its next turn: by its prompt, and all tokens written."""

    def kept_tokens(self, prompt: int, tokens: int) -> int:
        """Tokens that those hold."""

    def add(self, request: Request) -> None:
        """Adds a request that arrives before the next step."""

    def step(self, number: int, *, counts_groups: bool = True) -> Step:
        """Runs one step. counts_groups: whether it counts blocks per group, which takes as long as the step."""

    def by_events(self) -> Events | None:
        """The same from event to event, for a scheduler that has not started; None if only steps are possible."""


@runtime_checkable
class Replayer(Protocol):
    """An engine whose scheduler kvcalc can replay.

    REPLAYED: the version of the scheduler. SCHEDULER: the dataclass of its settings.
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
        """A scheduler without requests. num_blocks: of the pool, if not given by `settings`.

        Raises NotApplicableError for what the engine refuses or kvcalc does not replay.
        """
