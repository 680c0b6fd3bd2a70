"""Base of all kinds that cache something for each token: the reach of a layer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._facts import Facts
from kvcalc.cache.slots.layers import EVERY_TOKEN, current_chunk, last_tokens, prompt_and_last
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.errors import InvalidValueError

_MOST_HEADS = 10_000
"""Heads up to which a working number is searched."""


@dataclass(frozen=True, kw_only=True)
class TokenCache(Facts):
    """Facts of a layer that caches tokens.

    Raises InvalidValueError for a field that is not a whole number of at least 1, or if two limits are given.
    """

    SPLIT = ("num_query_heads",)

    num_query_heads: Annotated[int, "attention heads of the layer"]
    sliding_window: Annotated[int | None, "tokens that a query sees, including itself; None: all"] = None
    attention_chunk_size: Annotated[int | None, "chunk of tokens within which attention stays; None: no chunks"] = None
    reference_window: Annotated[int | None, "generated tokens seen in addition to the whole prompt; None: all"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = {name: limit for name, limit in self.reach.items() if limit is not None}
        if len(limits) > 1:
            (first, one), (second, other), *_ = limits.items()
            raise InvalidValueError(
                f"{first} ({one}) and {second} ({other}) cannot both limit one layer",
                field=second,
                help="keep the one that the model uses",
            )

    @property
    def reach(self) -> dict[str, int | None]:
        """The limits as facts, for a layer of another kind with the same reach."""
        return {
            "sliding_window": self.sliding_window,
            "attention_chunk_size": self.attention_chunk_size,
            "reference_window": self.reference_window,
        }

    def check_heads_share(self, field: str, noun: str) -> None:
        """Raises InvalidValueError if the query heads are not a multiple of `field`, the number of its `noun`s."""
        heads, number = self.num_query_heads, getattr(self, field)
        if heads % number == 0:
            return
        divisors = [n for n in range(1, min(heads, _MOST_HEADS) + 1) if heads % n == 0]
        below = max(n for n in divisors if n <= number)
        above = min((n for n in divisors if n >= number), default=heads)
        near = f"{below} or {above}" if below != above else str(below)
        raise InvalidValueError(
            f"num_query_heads ({heads}) is not a multiple of {field} ({number})",
            field=field,
            help=f"each {noun} serves equally many query heads: {near} would work",
        )

    @property
    @abstractmethod
    def head_widths(self) -> tuple[int, int]:
        """Widths of one head's key and value, for a plain multi-head layer instead of this one."""

    @property
    def slot_rule(self) -> SlotRule:
        """Slots of every tensor of the layer."""
        if self.sliding_window is not None:
            return last_tokens(self.sliding_window)
        if self.attention_chunk_size is not None:
            return current_chunk(self.attention_chunk_size)
        if self.reference_window is not None:
            return prompt_and_last(self.reference_window)
        return EVERY_TOKEN
