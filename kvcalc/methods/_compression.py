"""Heads with a learned compression ratio, in blocks: their ratios, shares, lengths and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import lcm

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.slots.layers import once
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.errors import InvalidValueError
from kvcalc.methods._indices import INT32
from kvcalc.methods._selection import Share, Shares, SharesOf, State
from kvcalc.units import positive_int, shown

NEXT = 1
"""Slot kept free in a head's last block for the next token."""
_MOST, _QUARTERS = 64, 4
_MOST_TOGETHER = 128
"""Longest common period of several ratios, in tokens: growth over a longer one is not informative."""


def compression(value: float | Fraction, field: str) -> Fraction:
    """Tokens per kept token, exact. Raises InvalidValueError for a ratio that is not from 1 to 64 in quarters."""
    ratio = Fraction(str(value))
    if 1 <= ratio <= _MOST and _QUARTERS % ratio.denominator == 0:
        return ratio
    raise InvalidValueError(
        f"{field} must be from 1 to {_MOST} in quarters, not {shown(float(ratio))}",
        field=field,
        help=f"write {field}=4",
    )


def compression_of_heads(value: float | Fraction, head_cr: Sequence[int], field: str, heads: int) -> list[Fraction]:
    """The ratio of each head: `value` for all, or head_cr.

    Raises InvalidValueError for a list of another length, or ratios whose common period is too long.
    """
    if not head_cr:
        return [compression(value, field)] * heads
    if len(head_cr) != heads:
        raise InvalidValueError(
            f"head_cr has {len(head_cr)} numbers, but a layer has {heads} KV heads",
            field="head_cr",
            help="give one per head, or none",
        )
    if (together := lcm(*(positive_int(ratio, "head_cr", most=_MOST) for ratio in head_cr))) > _MOST_TOGETHER:
        raise InvalidValueError(
            f"head_cr has ratios with a common period of {together:,} tokens; the limit is {_MOST_TOGETHER:,}",
            field="head_cr",
            help="use powers of two, such as 2+4+8+16",
        )
    return [Fraction(ratio) for ratio in head_cr]


def by_ratio(
    value: float | Fraction, head_cr: Sequence[int], field: str, rule_of: Callable[[Fraction], SlotRule]
) -> SharesOf:
    """Shares of a layer's heads: heads of one ratio have a common rule. Raises as `compression_of_heads`."""

    def shares(_layer: int, attention: GroupedQueryAttention) -> Shares:
        ratios = compression_of_heads(value, head_cr, field, attention.num_kv_heads)
        several = len(set(ratios)) > 1
        return tuple(
            Share(rule_of(ratio), ratios.count(ratio), f"_cr{ratio}" if several else "")
            for ratio in dict.fromkeys(ratios)
        )

    return shares


def state_of_heads(of_share: Callable[[GroupedQueryAttention, Dim], Iterable[CacheTensor]], table: SlotRule) -> State:
    """Tensors of each share besides its tokens: those of `of_share`, two lengths, and a block table.

    of_share: from the attention and the share's heads. The lengths, of tokens and slots, and the table, with one entry
    per slot of `table`, are int32.
    """

    def of_heads(attention: GroupedQueryAttention, heads: Dim) -> Iterable[CacheTensor]:
        yield from of_share(attention, heads)
        lengths = Dim("lengths", len(("tokens", "slots")))
        yield CacheTensor("lens", (heads, lengths), once(), INT32, quantizable=False)
        yield CacheTensor("block_table", (heads,), table, INT32, quantizable=False)

    def state(attention: GroupedQueryAttention, shares: Shares) -> tuple[CacheTensor, ...]:
        return tuple(
            tensor._replace(name=f"{tensor.name}{share.suffix}")
            for share in shares
            for tensor in of_heads(attention, Dim("num_kv_heads", share.heads or attention.num_kv_heads))
        )

    return state
