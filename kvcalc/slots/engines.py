"""Slot rules of how engines lay tokens out: in whole blocks, in steps, with slots to spare."""

from math import lcm

from kvcalc.slots.rule import AtMost, Rule, SlotRule, Tokens, lower_of


class WholeBlocks(Rule):
    """ceil(min(t, limit) / n) + extra slots: blocks of n tokens, of which an engine gives out no parts.

    limit: tokens that are held at most; None: all. extra: blocks beside those that the tokens fill.
    """

    __slots__ = ("extra", "limit", "n")

    def __init__(self, n: int, limit: int | None = None, extra: int = 0) -> None:
        self.n = n
        self.limit = limit
        self.extra = extra

    def slots(self, tokens: Tokens) -> Tokens:
        """ceil(min(t, limit) / n) + extra."""
        limit = self.limit
        if limit is not None:
            tokens = min(tokens, limit) if isinstance(tokens, int) else tokens.clip(max=limit)
        return -(-tokens // self.n) + self.extra

    @property
    def kinks(self) -> tuple[int, ...]:
        """The limit."""
        return () if self.limit is None else (self.limit,)

    @property
    def period(self) -> int:
        """The n tokens of a block."""
        return self.n

    @property
    def saturates_at(self) -> int | None:
        """The limit."""
        return self.limit

    def __str__(self) -> str:
        reach = "" if self.limit is None else f", up to {self.limit:,}"
        return f"blocks of {self.n:,}{reach}"


class InSteps(Rule):
    """min(ceil(t / every) * slots_each, limit) slots: an engine that takes memory in whole steps, used or not.

    every: tokens that one step is enough for. slots_each: slots of a step. limit: most slots, a multiple of slots_each;
    None: no end. words: what they are, for a report.
    """

    __slots__ = ("every", "limit", "slots_each", "words")

    def __init__(self, every: int, slots_each: int, limit: int | None = None, words: str = "") -> None:
        self.every = every
        self.slots_each = slots_each
        self.limit = limit
        self.words = words

    def slots(self, tokens: Tokens) -> Tokens:
        """min(ceil(t / every) * slots_each, limit)."""
        taken = -(-tokens // self.every) * self.slots_each
        if self.limit is None:
            return taken
        return min(taken, self.limit) if isinstance(taken, int) else taken.clip(max=self.limit)

    @property
    def kinks(self) -> tuple[int, ...]:
        """The end of the last step."""
        return () if self.limit is None else (self.limit // self.slots_each * self.every,)

    @property
    def period(self) -> int:
        """The tokens of a step."""
        return self.every

    @property
    def saturates_at(self) -> int | None:
        """The first token of the last step."""
        return None if self.limit is None else self.kinks[0] - self.every + 1

    def __str__(self) -> str:
        return self.words or f"in steps of {self.every:,}"


class LastAndSpare(AtMost):
    """min(t + spare, limit) slots: a ring that has room for `spare` tokens more until it is as long as it will be."""

    __slots__ = ("spare",)

    def __init__(self, limit: int, spare: int) -> None:
        super().__init__(limit)
        self.spare = spare

    def slots(self, tokens: Tokens) -> Tokens:
        """min(t + spare, limit)."""
        return lower_of(tokens + self.spare, self.limit)

    @property
    def kinks(self) -> tuple[int, ...]:
        """Where it is full."""
        return (max(0, self.limit - self.spare),)

    @property
    def saturates_at(self) -> int | None:
        """Where it is full."""
        return self.kinks[0]

    def __str__(self) -> str:
        return f"last {self.limit:,}, {self.spare:,} ahead"


class Switched(Rule):
    """Slots of one rule before `token` tokens, and of another from there on: an engine that stores them anew."""

    __slots__ = ("after", "before", "token", "words")

    def __init__(self, before: SlotRule, token: int, after: SlotRule, words: str = "") -> None:
        self.before = before
        self.token = token
        self.after = after
        self.words = words

    def slots(self, tokens: Tokens) -> Tokens:
        """Those of the rule that holds."""
        early = self.before.slots(tokens)
        return early + (self.after.slots(tokens) - early) * (tokens >= self.token)

    def most(self, tokens: int) -> int:
        """The more of what the first rule came to and the second has."""
        early = self.before.most(min(tokens, self.token - 1))
        return early if tokens < self.token else max(early, self.after.most(tokens))

    @property
    def kinks(self) -> tuple[int, ...]:
        """Those of each rule while it holds, and where they switch."""
        early = {kink for kink in self.before.kinks if kink < self.token}
        late = {kink for kink in self.after.kinks if kink > self.token}
        return tuple(sorted({*early, max(0, self.token - 1), self.token, *late}))

    @property
    def period(self) -> int:
        """Tokens after which both repeat."""
        return lcm(self.before.period, self.after.period)

    @property
    def saturates_at(self) -> int | None:
        """Where the second rule does, at the switch at the earliest."""
        end = self.after.saturates_at
        return None if end is None else max(self.token, end)

    def __str__(self) -> str:
        return self.words or f"{self.before}; from {self.token:,} on {self.after}"
