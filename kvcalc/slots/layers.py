"""Slot rules of what layers keep by themselves: every token, a window, a compressed entry, a state."""

from kvcalc.errors import InvalidValueError
from kvcalc.slots.rule import AtMost, Rule, Tokens, above, ordinal


class EveryToken(Rule):
    """t slots: full attention."""

    def slots(self, tokens: Tokens) -> Tokens:
        """The tokens themselves."""
        return tokens

    def __str__(self) -> str:
        return "every token"


class LastTokens(AtMost):
    """min(t, limit) slots: sliding-window attention, a ring buffer of `limit` tokens."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"last {self.limit:,}"


class CurrentChunk(AtMost):
    """min(t, limit) slots: chunked attention, which looks back to the start of its own chunk.

    Right after a border only a few slots hold tokens that are still seen, but every sequence that got past the first
    border needed the whole chunk, and the buffer for it stays.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return f"chunk of {self.limit:,}"


class EveryNth(Rule):
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


class _ByFillings(Rule):
    """Tokens after `start` that wait until there are n of them: what rules of those that wait, or no longer do, share.

    start: tokens that never waited.
    """

    __slots__ = ("n", "start")

    def __init__(self, n: int, start: int = 0) -> None:
        self.n = n
        self.start = start

    @property
    def kinks(self) -> tuple[int, ...]:
        """The start."""
        return (self.start,) if self.start else ()

    @property
    def period(self) -> int:
        """The n tokens that settle together."""
        return self.n


class Pending(_ByFillings):
    """(t - start) mod n slots: tokens that wait until there are n of them, to be compressed or quantised together."""

    __slots__ = ()

    def slots(self, tokens: Tokens) -> Tokens:
        """(t - start) mod n; none with fewer than start."""
        return above(tokens, self.start) % self.n

    def most(self, tokens: int) -> int:
        """One less than n, or as many as came so far."""
        return min(above(tokens, self.start), self.n - 1)

    @property
    def saturates_at(self) -> int | None:
        """One less than n after the start; from there it falls to none and rises again."""
        return self.start + self.n - 1

    def __str__(self) -> str:
        return f"fewer than {self.n:,} waiting"


class Settled(_ByFillings):
    """t - (t - start) mod n slots: every token that does not wait, the complement of `Pending`."""

    __slots__ = ()

    def slots(self, tokens: Tokens) -> Tokens:
        """All t tokens but (t - start) mod n."""
        return tokens - above(tokens, self.start) % self.n

    def __str__(self) -> str:
        return f"all but those waiting for {self.n:,}"


class Once(Rule):
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


class AllButLast(Rule):
    """max(0, t - count) slots: all tokens but the newest."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count

    def slots(self, tokens: Tokens) -> Tokens:
        """max(0, t - count)."""
        return above(tokens, self.count)

    @property
    def kinks(self) -> tuple[int, ...]:
        """The first tokens, which take none."""
        return (self.count,)

    def __str__(self) -> str:
        return f"all but the last {self.count:,}"


class PromptAndLast(Rule):
    """The prompt and the last `window` generated tokens; t slots as long as nobody says where the prompt ends."""

    __slots__ = ("window",)

    def __init__(self, window: int) -> None:
        self.window = window

    def slots(self, tokens: Tokens) -> Tokens:
        """The tokens themselves, all of them taken for the prompt."""
        return tokens

    def __str__(self) -> str:
        return f"prompt + last {self.window:,}"


class EncoderTokens(Rule):
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
