"""A slot rule: an expression over t with its words for a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kvcalc.cache.slots.algebra import Expression, Operation, Stretch
from kvcalc.cache.slots.primitives import Constant

if TYPE_CHECKING:
    from kvcalc.cache.slots.algebra import Tokens


class SlotRule(Operation):
    """The slots for t cached tokens, by an expression from which all answers follow.

    words: for a report. window: the layer's own reach in tokens, a sliding window or a chunk; None if unlimited, or if
    a method or an engine decides what is kept. generated_window: its reach in addition to its whole prompt. packing:
    (units, per_slot, rule) if slots of another rule share one, units of each for all heads together.
    """

    __slots__ = ("generated_window", "packing", "window", "words")

    def __init__(
        self,
        expression: Expression,
        words: str,
        *,
        window: int | None = None,
        generated_window: int | None = None,
        packing: tuple[int, int, SlotRule] | None = None,
    ) -> None:
        self.operands = (expression,)
        self.words = words
        self.window = window
        self.generated_window = generated_window
        self.packing = packing

    def _value(self, numbers: Sequence[Tokens]) -> Tokens:
        (number,) = numbers
        return number

    def _made_of(self) -> Iterator[Stretch]:
        return iter(self.operands[0].stretches)

    @property
    def constant(self) -> int | None:
        """Slots for any sequence length; None if they depend on t."""
        (expression,) = self.operands
        return expression.number if isinstance(expression, Constant) else None

    def __str__(self) -> str:
        return self.words


def ordinal(number: int) -> str:
    """`4th`, `128th`, `1st`, `2nd`, `3rd`."""
    tens, ones = divmod(number % 100, 10)
    return f"{number:,}{('th', 'st', 'nd', 'rd', *['th'] * 6)[ones] if tens != 1 else 'th'}"
