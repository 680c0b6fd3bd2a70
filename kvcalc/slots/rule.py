"""What every slot rule has: how many slots hold t cached tokens, exactly.

Each rule is exact and, between its kinks, adds the same number of slots with every period of tokens, so every total
has an exact inverse. Each takes one int or a numpy array of them, without this package importing numpy. Most never
fall as t grows; what a rule held at `most` is what a sweep checks against overflow.
"""

from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Tokens = TypeVar("Tokens", int, "NDArray[np.int64]")
"""Token counts: one int, or an int64 array of them."""


class SlotRule(Protocol):
    """How many slots hold t cached tokens.

    takes_all_for_prompt: whether the tokens are one prompt, as nobody said where it ends.
    """

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

    def in_step(self, tokens: int) -> int:
        """Slots inside of the step after `tokens` tokens, once its own is there and before any is dropped for it."""
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


class Rule:
    """What most rules have in common: they never fall, and each token does as the one before it.

    Rules are values: equal where they are of one class with equal numbers. (A dataclass each would be a tenth of the
    time that a size takes to start.)
    """

    __slots__: tuple[str, ...] = ()
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

    def in_step(self, tokens: int) -> int:
        """Those of one token more, since none is dropped only then."""
        slots: int = self.slots(tokens + 1)  # type: ignore[attr-defined]  # each rule has it
        return slots

    def _numbers(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in self._fields])

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._numbers() == other._numbers()

    def __hash__(self) -> int:
        return hash((type(self), self._numbers()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._numbers()))})"


class AtMost(Rule):
    """min(t, limit) slots, whichever tokens they are."""

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


def lower_of(tokens: Tokens, limit: int) -> Tokens:
    """min(t, limit)."""
    return min(tokens, limit) if isinstance(tokens, int) else tokens.clip(max=limit)


def above(tokens: Tokens, start: int) -> Tokens:
    """max(0, t - start)."""
    return max(0, tokens - start) if isinstance(tokens, int) else (tokens - start).clip(min=0)


def ordinal(number: int) -> str:
    """`4th`, `128th`; 1st, 2nd and 3rd as they are written."""
    tens, ones = divmod(number % 100, 10)
    return f"{number:,}{('th', 'st', 'nd', 'rd', *['th'] * 6)[ones] if tens != 1 else 'th'}"
