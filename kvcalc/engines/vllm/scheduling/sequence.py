"""A request in the scheduler: its progress, and its blocks."""

from __future__ import annotations

from collections.abc import Hashable

from kvcalc.engines.base.tokens import Tokens
from kvcalc.engines.base.traffic import Request
from kvcalc.engines.vllm.scheduling.pool import Block


class Held:
    """What a request holds of one group.

    blocks: its table, with NULL for what is out of reach. registered: blocks of the table offered to the prefix cache.
    The rest is for states: started: whether blocks were allocated. previous: place of the state before the last.
    retired: places before this one are empty. checkpoint: tokens and place of the state that this chunk leaves behind.
    shared: place and block to be copied before it is written.
    """

    __slots__ = ("blocks", "checkpoint", "previous", "registered", "retired", "shared", "started")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> list[Block]:
        """Reset; returns the blocks that were held."""
        blocks: list[Block] = getattr(self, "blocks", [])
        self.blocks: list[Block] = []
        self.registered = 0
        self.started = False
        self.previous: int | None = None
        self.retired = 0
        self.checkpoint: tuple[int, int] | None = None
        self.shared: tuple[int, Block] | None = None
        return blocks


class Sequence:
    """A running request.

    known: tokens of prompt and output. computed: tokens whose cache is written, or will be by the batches in flight.
    drafts: tokens that the next step verifies. placeholders: outputs that batches in flight will bring. in_flight:
    tokens of those batches. stale: of these, those scheduled before a preemption. calm: consecutive steps in which it
    got one token. junction: tokens in common with another request's prefix that no group of states or windows kept.
    """

    __slots__ = (
        "calm",
        "computed",
        "drafts",
        "finished",
        "held",
        "in_flight",
        "is_chunk",
        "junction",
        "known",
        "most_tokens",
        "number",
        "order",
        "placeholders",
        "prompt",
        "request",
        "running",
        "stale",
        "tokens",
    )

    def __init__(self, request: Request, number: int, tokens: Tokens, num_groups: int) -> None:
        self.request = request
        self.number = number
        self.tokens = tokens
        self.prompt = self.known = request.prompt_tokens
        self.most_tokens = self.prompt + request.output_tokens
        self.order = (request.priority, request.arrival_step + number * 1e-4, str(number))
        self.held = tuple(Held() for _ in range(num_groups))
        self.computed = self.drafts = self.placeholders = self.in_flight = self.stale = self.junction = self.calm = 0
        self.running = self.finished = self.is_chunk = False

    def __lt__(self, other: Sequence) -> bool:
        return self.order < other.order

    @property
    def id(self) -> Hashable:
        """The request's."""
        return self.request.id

    @property
    def outputs(self) -> int:
        """Tokens generated so far."""
        return self.known - self.prompt

    @property
    def prefill_end(self) -> int:
        """Tokens that are read, not generated: the prompt, and output from before a preemption."""
        return max(self.prompt, self.known - 1)
