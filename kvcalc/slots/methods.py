"""Slot rules of what methods leave: chosen tokens, shares of a prompt, packed codes, blocks of single heads."""

from math import gcd, lcm

from kvcalc.slots.layers import AllButLast, EveryToken
from kvcalc.slots.rule import AtMost, Rule, SlotRule, Tokens, above, lower_of


class FirstTokens(AtMost):
    """min(t, limit) slots: the first tokens, which are kept in another format than those after them."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"first {self.limit:,}"


class AllButFirst(AllButLast):
    """max(0, t - count) slots: all tokens after the first."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"all but the first {self.count:,}"


class Packed(Rule):
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

    def in_step(self, tokens: int) -> int:
        """As many as the other rule's slots inside of the step need."""
        return -(-self.rule.in_step(tokens) * self.units // self.per_slot)

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


class Within(Rule):
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

    def in_step(self, tokens: int) -> int:
        """The outer rule's slots of what the inner rule has inside of the step."""
        return self.outer.slots(self.inner.in_step(tokens))

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


class Newest(AtMost):
    """min(t, limit) slots: the newest tokens, which are kept in another format than those before them."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"newest {self.limit:,}"


class SinksAndLast(AtMost):
    """min(t, limit) slots: the first `sinks` tokens and the newest of the others."""

    __slots__ = ("sinks",)

    def __init__(self, limit: int, sinks: int) -> None:
        super().__init__(limit)
        self.sinks = sinks

    def __str__(self) -> str:
        return f"{self.sinks:,} sinks + last {self.limit - self.sinks:,}"


class ChosenAnew(Rule):
    """What rules have in common whose tokens are chosen anew once each step has added its own: it is one more."""

    __slots__ = ()

    def in_step(self, tokens: int) -> int:
        """What is kept, and the step's own token."""
        kept: int = self.slots(tokens)  # type: ignore[attr-defined]  # each rule has it
        return kept + 1


class Chosen(ChosenAnew, AtMost):
    """min(t, limit) slots: the tokens that a method thinks most of."""

    __slots__ = ("words",)

    def __init__(self, limit: int, words: str) -> None:
        super().__init__(limit)
        self.words = words

    def __str__(self) -> str:
        return self.words


class CutPrompt(Rule):
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
        return above(tokens, max(self.prompt or 0, self.limit))

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


class ShareOfPrompt(Rule):
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


class FlooredShares(Rule):
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


class EveryTokenAndNext(Rule):
    """t + 1 slots: a mask that is already as long as the next step needs it."""

    __slots__ = ()

    def slots(self, tokens: Tokens) -> Tokens:
        """The tokens and one more."""
        return tokens + 1

    def __str__(self) -> str:
        return "every token and the next"


class WholeUntilNext(Rule):
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


class ShareOfTokens(Rule):
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
        return tokens - above(tokens * (self.of - self.kept) // self.of, self.first)

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


class ChosenShare(ChosenAnew, ShareOfTokens):
    """The same slots, of the tokens that a method thinks most of."""

    __slots__ = ()


class WindowAndShare(Rule):
    """min(t, window) + ceil(max(0, t - window) * kept / of) slots: the newest tokens, and a share of those before."""

    __slots__ = ("kept", "of", "window")

    def __init__(self, window: int, kept: int, of: int) -> None:
        self.window = window
        self.kept = kept
        self.of = of

    def slots(self, tokens: Tokens) -> Tokens:
        """All tokens, less what the share drops of those before the window."""
        return tokens - above(tokens, self.window) * (self.of - self.kept) // self.of

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


class Blocks(Rule):
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

    def in_step(self, tokens: int) -> int:
        """Those for the other rule's slots inside of the step."""
        return self._blocks_for(self.rule.in_step(tokens))

    def _blocks_for(self, slots: Tokens) -> Tokens:
        return self.least + above(-(-(slots + self.spare) // self.size), self.least)

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
