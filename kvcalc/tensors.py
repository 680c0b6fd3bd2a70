"""The one idea: an attention kind does not return bytes, it returns named tensors with named dimensions.

A `CacheTensor` is what one layer keeps for one sequence: the dimensions of one slot, the format of its elements, and
a rule by which slots grow with the cached tokens::

    k           (num_kv_heads 8, head_dim 128)   every token        llama-3-70b, one layer
    k           (num_kv_heads 16, head_dim 128)  last 1,024 tokens  gemma-3-27b, a sliding layer
    c_kv        (kv_lora_rank 512)               every token        deepseek-r1

Bytes, the printed formula, what an engine allocates and how many tokens fit all read this one value.

Slot rules are a small closed algebra over the number of cached tokens t. Each is exact and, between its kinks, adds
the same number of slots with every period of tokens, so every total has an exact inverse. Each takes one int or a
numpy array of them, without this module importing numpy. All but `Pending` never fall as t grows.
"""

from math import gcd, lcm, prod
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, TypeVar

from kvcalc.dtypes import BF16, Dtype
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Tokens = TypeVar("Tokens", int, "NDArray[np.int64]")
"""Token counts: one int, or an int64 array of them."""


class SlotRule(Protocol):
    """How many slots hold t cached tokens.

    evicts_after: whether a step first adds its token and then drops one, so that there is a slot more meanwhile.
    takes_all_for_prompt: whether the tokens are one prompt, as nobody said where it ends.
    """

    evicts_after: ClassVar[bool]

    @property
    def takes_all_for_prompt(self) -> bool:
        """Whether a prompt is cut once, and all t tokens are taken for it."""
        ...

    def slots(self, tokens: Tokens) -> Tokens:
        """Slots of one sequence with `tokens` tokens cached."""
        ...

    def most(self, tokens: int) -> int:
        """Most slots that a sequence held on its way to `tokens` tokens."""
        ...

    @property
    def kinks(self) -> tuple[int, ...]:
        """Token counts, ascending, after which the growth changes."""
        ...

    @property
    def period(self) -> int:
        """Tokens after which the growth repeats."""
        ...

    @property
    def saturates_at(self) -> int | None:
        """Tokens from which on no further slot is taken; 0 where there never is one, None where there always is."""
        ...


class _Rule:
    """What most rules have in common: they never fall, and each token does as the one before it.

    Rules are values: equal where they are of one class with equal numbers. (A dataclass each would be a tenth of the
    time that a size takes to start.)
    """

    __slots__: tuple[str, ...] = ()
    evicts_after: ClassVar[bool] = False
    takes_all_for_prompt: bool = False
    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = tuple([name for kind in cls.__mro__ for name in kind.__dict__.get("__slots__", ())])

    @property
    def period(self) -> int:
        """One token: each does as the one before it."""
        return 1

    @property
    def kinks(self) -> tuple[int, ...]:
        """None: the growth never changes."""
        return ()

    @property
    def saturates_at(self) -> int | None:
        """None: it never ends."""
        return None

    def most(self, tokens: int) -> int:
        """The slots of the last token, since there were never more."""
        slots: int = self.slots(tokens)  # type: ignore[attr-defined]  # each rule has it
        return slots

    def _numbers(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in self._fields])

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._numbers() == other._numbers()

    def __hash__(self) -> int:
        return hash((type(self), self._numbers()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._numbers()))})"


class EveryToken(_Rule):
    """t slots: full attention."""

    def slots(self, tokens: Tokens) -> Tokens:
        """The tokens themselves."""
        return tokens

    def __str__(self) -> str:
        return "every token"


class _AtMost(_Rule):
    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def slots(self, tokens: Tokens) -> Tokens:
        """min(t, limit)."""
        return lower_of(tokens, self.limit)

    @property
    def kinks(self) -> tuple[int, ...]:
        """The limit, from which on slots are used again."""
        return (self.limit,)

    @property
    def saturates_at(self) -> int | None:
        """The limit."""
        return self.limit


class LastTokens(_AtMost):
    """min(t, limit) slots: sliding-window attention, a ring buffer of `limit` tokens."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"last {self.limit:,}"


class CurrentChunk(_AtMost):
    """min(t, limit) slots: chunked attention, which looks back to the start of its own chunk.

    Right after a border only a few slots hold tokens that are still seen, but every sequence that got past the first
    border needed the whole chunk, and the buffer for it stays.
    """

    def __str__(self) -> str:
        return f"chunk of {self.limit:,}"


class EveryNth(_Rule):
    """floor(t / n) slots: one compressed entry for each n tokens."""

    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        self.n = n

    def slots(self, tokens: Tokens) -> Tokens:
        """floor(t / n)."""
        return tokens // self.n

    @property
    def period(self) -> int:
        """The n tokens that make one slot."""
        return self.n

    def __str__(self) -> str:
        return f"every {ordinal(self.n)} token"


class WholeBlocks(_Rule):
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


class Pending(_Rule):
    """(t - start) mod n slots: tokens that wait until there are n of them, to be compressed or quantised together.

    start: tokens that never waited; with fewer there is no slot.
    """

    __slots__ = ("n", "start")

    def __init__(self, n: int, start: int = 0) -> None:
        self.n = n
        self.start = start

    def slots(self, tokens: Tokens) -> Tokens:
        """(t - start) mod n."""
        return _above(tokens, self.start) % self.n

    def most(self, tokens: int) -> int:
        """One less than n, or as many as came so far."""
        return min(_above(tokens, self.start), self.n - 1)

    @property
    def kinks(self) -> tuple[int, ...]:
        """The start."""
        return (self.start,) if self.start else ()

    @property
    def period(self) -> int:
        """Every n-th token empties the buffer."""
        return self.n

    @property
    def saturates_at(self) -> int | None:
        """One less than n after the start; from there it falls to none and rises again."""
        return self.start + self.n - 1

    def __str__(self) -> str:
        return f"fewer than {self.n:,} waiting"


class Settled(_Rule):
    """t - (t - start) mod n slots: every token that does not wait, the complement of `Pending`."""

    __slots__ = ("n", "start")

    def __init__(self, n: int, start: int = 0) -> None:
        self.n = n
        self.start = start

    def slots(self, tokens: Tokens) -> Tokens:
        """All t tokens but (t - start) mod n."""
        return tokens - _above(tokens, self.start) % self.n

    @property
    def kinks(self) -> tuple[int, ...]:
        """The start."""
        return (self.start,) if self.start else ()

    @property
    def period(self) -> int:
        """The n tokens that settle together."""
        return self.n

    def __str__(self) -> str:
        return f"all but those waiting for {self.n:,}"


class Once(_Rule):
    """`count` slots however long the sequence is: a recurrent state, or the tokens of an encoder.

    from_token: tokens from which on they are there; before it there is none.
    words: what they are, for a report.
    """

    __slots__ = ("count", "from_token", "words")

    def __init__(self, count: int = 1, from_token: int = 0, words: str = "once") -> None:
        self.count = count
        self.from_token = from_token
        self.words = words

    def slots(self, tokens: Tokens) -> Tokens:
        """count, or none before from_token."""
        return self.count * (tokens >= self.from_token) if self.from_token else self.count + tokens * 0

    @property
    def kinks(self) -> tuple[int, ...]:
        """The step at from_token."""
        return (self.from_token - 1, self.from_token) if self.from_token else ()

    @property
    def saturates_at(self) -> int | None:
        """from_token."""
        return self.from_token

    def __str__(self) -> str:
        return f"{self.words} from {self.from_token:,} on" if self.from_token else self.words


class AllButLast(_Rule):
    """max(0, t - count) slots: all tokens but the newest."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count

    def slots(self, tokens: Tokens) -> Tokens:
        """max(0, t - count)."""
        return _above(tokens, self.count)

    @property
    def kinks(self) -> tuple[int, ...]:
        """The first tokens, which take none."""
        return (self.count,)

    def __str__(self) -> str:
        return f"all but the last {self.count:,}"


class FirstTokens(_AtMost):
    """min(t, limit) slots: the first tokens, which are kept in another format than those after them."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"first {self.limit:,}"


class AllButFirst(AllButLast):
    """max(0, t - count) slots: all tokens after the first."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"all but the first {self.count:,}"


class Packed(_Rule):
    """ceil(s * units / per_slot) slots, where s are the slots of another rule: units of several tokens share a slot.

    units: how many of what is packed one of the other rule's slots has, all heads together (groups of elements, say).
    per_slot: how many of them share a slot. rule: when they come.
    """

    __slots__ = ("per_slot", "rule", "units")

    def __init__(self, units: int, per_slot: int, rule: SlotRule) -> None:
        self.units = units
        self.per_slot = per_slot
        self.rule = rule

    def slots(self, tokens: Tokens) -> Tokens:
        """ceil(s * units / per_slot)."""
        return -(-self.rule.slots(tokens) * self.units // self.per_slot)

    def most(self, tokens: int) -> int:
        """As many as the most slots of the other rule need."""
        return -(-self.rule.most(tokens) * self.units // self.per_slot)

    @property
    def kinks(self) -> tuple[int, ...]:
        """Those of the other rule."""
        return self.rule.kinks

    @property
    def period(self) -> int:
        """Tokens after which the other rule repeats and slots are filled to the brim again."""
        return lcm(self.rule.period, self.per_slot // gcd(self.units, self.per_slot))

    @property
    def saturates_at(self) -> int | None:
        """Where the other rule does."""
        return self.rule.saturates_at

    def __str__(self) -> str:
        whole, rest = divmod(self.units, self.per_slot)
        if rest:
            return f"{self.units:,} of each, {self.per_slot:,} to a slot: {self.rule}"
        return str(self.rule) if whole == 1 else f"{whole:,} for each: {self.rule}"


class Within(_Rule):
    """What `outer` makes of the slots of `inner`: one method after another, as tokens that are chosen and quantised."""

    __slots__ = ("inner", "outer")

    def __init__(self, outer: SlotRule, inner: SlotRule) -> None:
        self.outer = outer
        self.inner = inner

    def slots(self, tokens: Tokens) -> Tokens:
        """The outer rule's slots of the inner rule's."""
        return self.outer.slots(self.inner.slots(tokens))

    def most(self, tokens: int) -> int:
        """The outer rule's most, of the inner rule's most."""
        return self.outer.most(self.inner.most(tokens))

    @property
    def takes_all_for_prompt(self) -> bool:  # type: ignore[override]  # the others answer with a constant
        """Where the inner rule does."""
        return self.inner.takes_all_for_prompt

    @property
    def kinks(self) -> tuple[int, ...]:
        """Those of the inner rule, and where its slots come to one of the outer rule's."""
        borders = [0, *self.inner.kinks]
        kinks = set(self.inner.kinks)
        for start, end in zip(borders, [*borders[1:], None], strict=True):
            for kink in self.outer.kinks:
                reached = self._reached(kink, start, end)
                kinks |= {reached - 1, reached} if reached else set()
        return tuple(sorted(kinks))

    @property
    def period(self) -> int:
        """Tokens after which both repeat."""
        return self.inner.period * self.outer.period

    @property
    def saturates_at(self) -> int | None:
        """Where the inner rule does, or its slots come to where the outer one does."""
        if self.inner.saturates_at is not None:
            return self.inner.saturates_at
        end = self.outer.saturates_at
        last = max(self.inner.kinks, default=0)
        return None if end is None else self._reached(end, last, None) or last

    def _reached(self, slots: int, start: int, end: int | None) -> int | None:
        """First token count after start, and up to end, of which the inner rule makes so many slots; None: none."""
        if self.inner.slots(start) >= slots:
            return None
        if end is None:
            end = start + max(slots, 1) * self.inner.period
            while self.inner.slots(end) < slots:
                if self.inner.slots(2 * end) == self.inner.slots(end):
                    return None
                end *= 2
        if self.inner.slots(end) < slots:
            return None
        while end - start > 1:
            middle = (start + end) // 2
            start, end = (start, middle) if self.inner.slots(middle) >= slots else (middle, end)
        return end

    def __str__(self) -> str:
        return f"{self.outer} of {self.inner}"


def within(outer: SlotRule, inner: SlotRule) -> SlotRule:
    """`outer` of what `inner` keeps: `outer` itself where that is every token."""
    return outer if inner == EveryToken() else Within(outer, inner)


class PromptAndLast(_Rule):
    """The prompt and the last `window` generated tokens; t slots as long as nobody says where the prompt ends."""

    __slots__ = ("window",)

    def __init__(self, window: int) -> None:
        self.window = window

    def slots(self, tokens: Tokens) -> Tokens:
        """The tokens themselves, all of them taken for the prompt."""
        return tokens

    def __str__(self) -> str:
        return f"prompt + last {self.window:,}"


class Newest(_AtMost):
    """min(t, limit) slots: the newest tokens, which are kept in another format than those before them."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"newest {self.limit:,}"


class SinksAndLast(_AtMost):
    """min(t, limit) slots: the first `sinks` tokens and the newest of the others."""

    __slots__ = ("sinks",)

    def __init__(self, limit: int, sinks: int) -> None:
        super().__init__(limit)
        self.sinks = sinks

    def __str__(self) -> str:
        return f"{self.sinks:,} sinks + last {self.limit - self.sinks:,}"


class Chosen(_AtMost):
    """min(t, limit) slots: the tokens that a method thinks most of, chosen anew once each step has added its own."""

    __slots__ = ("words",)
    evicts_after: ClassVar[bool] = True

    def __init__(self, limit: int, words: str) -> None:
        super().__init__(limit)
        self.words = words

    def __str__(self) -> str:
        return self.words


class CutPrompt(_Rule):
    """min(p, limit) slots of a prompt of p tokens, cut once, and one for each token after it.

    prompt: p; None as long as nobody says where the prompt ends: then all tokens are taken for it.
    """

    __slots__ = ("limit", "prompt")

    def __init__(self, limit: int, prompt: int | None = None) -> None:
        self.limit = limit
        self.prompt = prompt

    def slots(self, tokens: Tokens) -> Tokens:
        """min(t, limit), and one more for each token after the prompt."""
        kept = lower_of(tokens, self.limit)
        return kept if self.prompt is None else kept + self._not_counted(tokens)

    def _not_counted(self, tokens: Tokens) -> Tokens:
        """Tokens after the prompt that min(t, limit) did not count."""
        return _above(tokens, max(self.prompt or 0, self.limit))

    @property
    def takes_all_for_prompt(self) -> bool:  # type: ignore[override]  # the others answer with a constant
        """Where nobody says where the prompt ends."""
        return self.prompt is None

    @property
    def kinks(self) -> tuple[int, ...]:
        """The limit and, after it, the end of the prompt."""
        ends = {self.limit, max(self.prompt or 0, self.limit)}
        return tuple(sorted(ends))

    @property
    def saturates_at(self) -> int | None:
        """The limit, where all tokens are the prompt."""
        return self.limit if self.prompt is None else None

    def __str__(self) -> str:
        after = "" if self.prompt is None else ", and every token after it"
        return f"{self.limit:,} of the prompt{after}"


class ShareOfPrompt(_Rule):
    """ceil(t * kept / of) slots of a prompt of t tokens, from from_token on; all of a shorter one."""

    __slots__ = ("from_token", "kept", "of")
    takes_all_for_prompt = True

    def __init__(self, kept: int, of: int, from_token: int = 0) -> None:
        self.kept = kept
        self.of = of
        self.from_token = from_token

    def slots(self, tokens: Tokens) -> Tokens:
        """ceil(t * kept / of), or t before from_token."""
        share = -(-tokens * self.kept // self.of)
        return share + (tokens - share) * (tokens < self.from_token)

    def most(self, tokens: int) -> int:
        """As many as there were before the first cut, or as there are now."""
        return max(self.slots(tokens), min(tokens, max(0, self.from_token - 1)))

    @property
    def kinks(self) -> tuple[int, ...]:
        """The fall at from_token."""
        return (self.from_token - 1, self.from_token) if self.from_token > 1 else ()

    @property
    def period(self) -> int:
        """So many tokens of which `kept` stay."""
        return self.of

    def __str__(self) -> str:
        from_token = f" from {self.from_token:,} on" if self.from_token else ""
        return f"{self.kept:,} of {self.of:,} of the prompt{from_token}"


class FlooredShares(_Rule):
    """floor(t * a / b) slots for each share (a, b) of a prompt of t tokens, added up."""

    __slots__ = ("shares",)
    takes_all_for_prompt = True

    def __init__(self, *shares: tuple[int, int]) -> None:
        self.shares = shares

    def slots(self, tokens: Tokens) -> Tokens:
        """The sum over shares of floor(t * a / b)."""
        (kept, of), *others = self.shares
        total = tokens * kept // of
        for kept, of in others:
            total = total + tokens * kept // of
        return total

    @property
    def period(self) -> int:
        """So many tokens after which every share has taken whole ones."""
        return lcm(*(of for _, of in self.shares))

    def __str__(self) -> str:
        return f"{' and '.join(f'{kept:,} of {of:,}' for kept, of in self.shares)} of the prompt"


class EveryTokenAndNext(_Rule):
    """t + 1 slots: a mask that is already as long as the next step needs it."""

    __slots__ = ()

    def slots(self, tokens: Tokens) -> Tokens:
        """The tokens and one more."""
        return tokens + 1

    def __str__(self) -> str:
        return "every token and the next"


class WholeUntilNext(_Rule):
    """All of a prompt of `prompt` tokens, and from the next token on what `cut` left of it: a view holds the whole.

    prompt: None as long as nobody says where the prompt ends: then all tokens are it.
    """

    __slots__ = ("cut", "prompt")

    def __init__(self, cut: SlotRule, prompt: int | None) -> None:
        self.cut = cut
        self.prompt = prompt

    def slots(self, tokens: Tokens) -> Tokens:
        """The prompt and nothing else so far: all t; later those of the cut."""
        if self.prompt is None:
            return tokens
        left = self.cut.slots(tokens)
        return left + (tokens - left) * (tokens <= self.prompt)

    def most(self, tokens: int) -> int:
        """The prompt, or what there is now."""
        return max(self.slots(tokens), min(tokens, tokens if self.prompt is None else self.prompt))

    @property
    def kinks(self) -> tuple[int, ...]:
        """The fall after the prompt."""
        return () if self.prompt is None else tuple(sorted({*self.cut.kinks, self.prompt, self.prompt + 1}))

    def __str__(self) -> str:
        return f"the whole prompt until the next token, then {self.cut}"


class InSteps(_Rule):
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


class LastAndSpare(_AtMost):
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


class Switched(_Rule):
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


class ShareOfTokens(_Rule):
    """min(t, first + ceil(t * kept / of)) slots: a share of all tokens so far, beside a few that always stay.

    It grows by no more than one with each token, so that what is dropped is never missed.
    """

    __slots__ = ("first", "kept", "of")

    def __init__(self, kept: int, of: int, first: int = 0) -> None:
        self.kept = kept
        self.of = of
        self.first = first

    def slots(self, tokens: Tokens) -> Tokens:
        """All tokens, less what the share drops: floor(t * (of - kept) / of), as far as that is more than `first`."""
        return tokens - _above(tokens * (self.of - self.kept) // self.of, self.first)

    @property
    def kinks(self) -> tuple[int, ...]:
        """Where tokens are dropped from on."""
        return (-(-self.first * self.of // (self.of - self.kept)),) if self.first and self.kept < self.of else ()

    @property
    def period(self) -> int:
        """So many tokens of which `kept` stay."""
        return self.of

    @property
    def saturates_at(self) -> int | None:
        """The first tokens, where nothing else stays."""
        return None if self.kept else self.first

    def __str__(self) -> str:
        share = f"{self.kept:,} of {self.of:,}"
        if not self.first:
            return share
        return f"first {self.first:,} + {share}" if self.kept else f"first {self.first:,}"


class ChosenShare(ShareOfTokens):
    """The same slots, of tokens that are chosen anew once each step has added its own."""

    __slots__ = ()
    evicts_after: ClassVar[bool] = True


class WindowAndShare(_Rule):
    """min(t, window) + ceil(max(0, t - window) * kept / of) slots: the newest tokens, and a share of those before."""

    __slots__ = ("kept", "of", "window")

    def __init__(self, window: int, kept: int, of: int) -> None:
        self.window = window
        self.kept = kept
        self.of = of

    def slots(self, tokens: Tokens) -> Tokens:
        """All tokens, less what the share drops of those before the window."""
        return tokens - _above(tokens, self.window) * (self.of - self.kept) // self.of

    @property
    def kinks(self) -> tuple[int, ...]:
        """The window, from which on tokens leave it."""
        return (self.window,)

    @property
    def period(self) -> int:
        """So many tokens of which `kept` stay."""
        return self.of

    def __str__(self) -> str:
        return f"last {self.window:,} + {self.kept:,} of {self.of:,} before"


class Blocks(_Rule):
    """max(least, ceil((s + spare) / size)) slots: blocks of `size` tokens for the s slots of another rule.

    spare: slots that are free when tokens come. least: blocks that are there from the start.
    """

    __slots__ = ("least", "rule", "size", "spare")

    def __init__(self, size: int, rule: SlotRule, spare: int = 0, least: int = 0) -> None:
        self.size = size
        self.rule = rule
        self.spare = spare
        self.least = least

    def slots(self, tokens: Tokens) -> Tokens:
        """The blocks."""
        return self._blocks_for(self.rule.slots(tokens))

    def most(self, tokens: int) -> int:
        """Those for the most slots of the other rule."""
        return self._blocks_for(self.rule.most(tokens))

    def _blocks_for(self, slots: Tokens) -> Tokens:
        return self.least + _above(-(-(slots + self.spare) // self.size), self.least)

    @property
    def kinks(self) -> tuple[int, ...]:
        """Those of the other rule, and where the first blocks do not suffice any more."""
        return tuple(sorted({*self.rule.kinks, *self._outgrown}))

    @property
    def _outgrown(self) -> tuple[int, ...]:
        """Fewest tokens that need more blocks than were there from the start; by halving, as the other rule rises."""
        room = self.least * self.size - self.spare
        end = 1
        while self.rule.slots(end) <= room:
            if self.rule.saturates_at is not None and end >= self.rule.saturates_at:
                return ()
            end *= 2
        start = 0
        while end - start > 1:
            middle = (start + end) // 2
            start, end = (start, middle) if self.rule.slots(middle) > room else (middle, end)
        return (end,) if self.least else ()

    @property
    def period(self) -> int:
        """Tokens after which the other rule repeats and blocks are filled to the brim again."""
        return self.rule.period * self.size

    @property
    def saturates_at(self) -> int | None:
        """Where the other rule does."""
        return self.rule.saturates_at

    def __str__(self) -> str:
        least = f", {self.least:,} at least" if self.least else ""
        return f"blocks of {self.size:,} for {self.rule}{least}"


class InBlocks(Blocks):
    """The tokens that those blocks have room for."""

    __slots__ = ()

    def _blocks_for(self, slots: Tokens) -> Tokens:
        return super()._blocks_for(slots) * self.size

    def __str__(self) -> str:
        least = f", room for {self.least * self.size:,} at least" if self.least else ""
        return f"{self.rule}, in blocks of {self.size:,}{least}"


class EncoderTokens(_Rule):
    """One slot for each token that cross-attention looks at, how many the model's config does not say."""

    def slots(self, tokens: Tokens) -> Tokens:  # noqa: ARG002  # there is no number to give
        """Raises InvalidValueError: an engine setting has to say it first."""
        raise InvalidValueError(
            "this model has cross-attention, and nothing says how many tokens its encoder makes",
            field="encoder_tokens",
            help="set it: --engine-set encoder_tokens=512, or engine_settings={'encoder_tokens': 512}",
        )

    def __str__(self) -> str:
        return "every encoder token"


def lower_of(tokens: Tokens, limit: int) -> Tokens:
    """min(t, limit)."""
    return min(tokens, limit) if isinstance(tokens, int) else tokens.clip(max=limit)


def _above(tokens: Tokens, start: int) -> Tokens:
    """max(0, t - start)."""
    return max(0, tokens - start) if isinstance(tokens, int) else (tokens - start).clip(min=0)


def ordinal(number: int) -> str:
    """`4th`, `128th`; 1st, 2nd and 3rd as they are written."""
    tens, ones = divmod(number % 100, 10)
    return f"{number:,}{('th', 'st', 'nd', 'rd', *['th'] * 6)[ones] if tens != 1 else 'th'}"


class Dim(NamedTuple):
    """One named dimension of a slot, such as num_kv_heads 8. The name says how parallelism may split it."""

    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.name} {self.size:,}"


class CacheTensor(NamedTuple):
    """What one layer caches for one sequence under one name.

    name: the field's own, such as k, v, c_kv.
    dims: dimensions of one slot.
    slot_rule: how many slots t cached tokens take.
    dtype: fixed format, or None for the workload's kv_dtype.
    quantizable: whether a quantised kv_dtype holds for it too; a state stays in the model's own dtype.
    storage_rule: slots of the memory behind it, where an engine keeps more than it sees.
    """

    name: str
    dims: tuple[Dim, ...]
    slot_rule: SlotRule
    dtype: Dtype | None = None
    quantizable: bool = True
    storage_rule: SlotRule | None = None

    @property
    def elements_per_slot(self) -> int:
        """Product of the dimensions."""
        return prod(dim.size for dim in self.dims)

    def stored_as(self, kv_dtype: Dtype) -> Dtype:
        """Format of this tensor in a cache of `kv_dtype`: bf16 where a state would be quantised with K and V."""
        if self.dtype is not None:
            return self.dtype
        return kv_dtype if self.quantizable or kv_dtype.is_computed_in else BF16

    def bytes_per_slot(self, kv_dtype: Dtype) -> int:
        """Bytes of one slot, of one layer and sequence."""
        return self.stored_as(kv_dtype).bytes_of(self.elements_per_slot)
