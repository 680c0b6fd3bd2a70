"""Slot rules of layers: every token, a window, a compressed entry, a state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvcalc.cache.slots.algebra import Expression, Stretch
from kvcalc.cache.slots.primitives import TOKENS, Above, AtMost, Constant, Floor, Remainder, Switch
from kvcalc.cache.slots.rule import SlotRule, ordinal
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.cache.slots.algebra import Tokens

EVERY_TOKEN = SlotRule(TOKENS, "every token")
"""t slots: full attention."""


def last_tokens(window: int) -> SlotRule:
    """min(t, window) slots: sliding-window attention, a ring buffer of `window` tokens."""
    return SlotRule(AtMost(TOKENS, window), f"last {window:,}", window=window)


def current_chunk(size: int) -> SlotRule:
    """min(t, size) slots: chunked attention, which looks back to the start of its own chunk.

    Right after a boundary only a few slots are still needed, but every sequence past the first boundary needed the
    whole chunk, and its buffer stays.
    """
    return SlotRule(AtMost(TOKENS, size), f"chunk of {size:,}", window=size)


def prompt_and_last(window: int) -> SlotRule:
    """The prompt and the last `window` generated tokens; t slots if the prompt length is unknown."""
    return SlotRule(TOKENS, f"prompt + last {window:,}", generated_window=window)


def every_nth(n: int) -> SlotRule:
    """floor(t / n) slots: one compressed entry for each n tokens."""
    return SlotRule(Floor(TOKENS, 1, n), f"every {ordinal(n)} token")


def pending(n: int, start: int = 0) -> SlotRule:
    """(t - start) mod n slots: tokens pending until n of them are compressed or quantised together.

    start: tokens that were never pending.
    """
    return SlotRule(Remainder(Above(TOKENS, start), n), f"fewer than {n:,} pending")


def settled(n: int, start: int = 0) -> SlotRule:
    """min(t, start) + n * floor((t - start) / n) slots: every token except those of `pending`."""
    return SlotRule(AtMost(TOKENS, start) + n * Floor(Above(TOKENS, start), 1, n), f"all but those pending for {n:,}")


def once(count: int = 1, from_token: int = 0, words: str = "once") -> SlotRule:
    """`count` slots for any sequence length: a recurrent state, or the tokens of an encoder.

    from_token: tokens from which on they exist. words: for a report.
    """
    if not from_token:
        return SlotRule(Constant(count), words)
    return SlotRule(Switch(from_token, Constant(0), Constant(count)), f"{words} from {from_token:,} on")


def all_but_last(count: int) -> SlotRule:
    """max(0, t - count) slots: all tokens but the newest."""
    return SlotRule(Above(TOKENS, count), f"all but the last {count:,}")


class _EncoderTokens(Expression):
    """The tokens that cross-attention attends to, if the model's config does not give their number.

    Raises InvalidValueError when the number is needed: an engine setting must give it.
    """

    __slots__ = ()

    def slots(self, tokens: Tokens) -> Tokens:  # noqa: ARG002
        raise _unknown()

    def in_step(self, tokens: int) -> int:  # noqa: ARG002
        raise _unknown()

    def bounds(self, first: int, last: int) -> tuple[int, int]:  # noqa: ARG002
        raise _unknown()

    def over(self, inner: Expression) -> Expression:  # noqa: ARG002
        return self

    def _made_of(self) -> Iterator[Stretch]:
        yield Stretch(0, 1, 0)


def _unknown() -> InvalidValueError:
    return InvalidValueError(
        "this model has cross-attention, and the number of its encoder's tokens is unknown",
        field="encoder_tokens",
        help="set it: --engine-set encoder_tokens=512, or engine_settings={'encoder_tokens': 512}",
    )


ENCODER_TOKENS = SlotRule(_EncoderTokens(), "every encoder token")
"""One slot for each token that cross-attention attends to."""
