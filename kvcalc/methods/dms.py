"""DMS: each head learned which tokens to drop once they leave the window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import partial

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.slots.engines import blocks, in_blocks
from kvcalc.cache.slots.layers import EVERY_TOKEN, once
from kvcalc.cache.slots.methods import window_and_share
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.errors import InvalidValueError
from kvcalc.methods._compression import NEXT, by_ratio, state_of_heads
from kvcalc.methods._indices import INT32
from kvcalc.methods._masked import masked
from kvcalc.methods._selection import selected
from kvcalc.methods._traits import MERGED, Traits
from kvcalc.model import Model
from kvcalc.units import positive_int

TRAITS = Traits(
    MERGED,
    "a head drops a token when it leaves the window, or keeps it permanently",
    source="Łańcucki et al. 2025, arXiv 2506.05345; NVIDIA/Model-Optimizer, experimental/dms",
    formula="Tokens kept per head: s = min(t, w) + ceil(max(0, t - w) / dms_cr), w = dms_window_size.",
    parameters={
        "dms_cr": "tokens before the window per kept one, from 1 to 64 in quarters",
        "dms_window_size": ("newest tokens, which are never dropped; the released model has one more than its config"),
        "dms_paged_attention_block_size": "tokens per block, fewer than the window",
        "dms_preallocate_for_tokens": "tokens preallocated per head",
        "max_context_length": "tokens that the block table has room for, if there are fewer",
        "head_cr": "ratios of a layer's KV heads if they differ, written 2+4+8+8, instead of dms_cr",
        "mask_only": (
            "true as in kvpress: all tokens stay and no memory is saved; a threshold decides how many are masked, at "
            "24 bytes each, not counted here"
        ),
    },
    remarks=(
        (
            "Slots: N * max(ceil(p / N), ceil((s + 1) / N)) with N = dms_paged_attention_block_size and p = "
            "dms_preallocate_for_tokens."
        ),
        (
            "State per head, in int32: recent_info, slot and decision of each token of the window; two lengths; and a "
            "block table of ceil(t / N) + 1 entries, or of max_context_length and one."
        ),
        "Defaults are those of the authors' config.",
        "A prompt is processed in chunks; only the window is held completely.",
    ),
    retraining=True,
    per_head_paging=True,
    caveat="how much a head drops is learned; dms_cr is the training target. The authors' code grows its pool by half "
    "each time; kvpress only masks tokens: mask_only=true",
)


def apply(  # parameters of the authors' code, or of what the heads learned
    model: Model,
    dms_cr: float | Fraction = 8.0,
    dms_window_size: int = 512,
    dms_paged_attention_block_size: int = 256,
    dms_preallocate_for_tokens: int = 4096,
    max_context_length: int | None = None,
    head_cr: Sequence[int] = (),
    mask_only: bool = False,
) -> Model:
    """`model` with the tokens that each head keeps after dynamic memory sparsification.

    Raises InvalidValueError for a ratio that is not from 1 to 64 in quarters, a list with another number of heads, or a
    window that is not larger than a block, as the authors' code asserts.
    """
    window, size = positive_int(dms_window_size, "dms_window_size"), dms_paged_attention_block_size
    if mask_only:
        return masked(model, "DMS")
    if window <= positive_int(size, "dms_paged_attention_block_size"):
        raise InvalidValueError(
            f"dms_window_size ({window:,}) is not larger than dms_paged_attention_block_size ({size:,})",
            field="dms_window_size",
            help=f"use a window above {size:,}, or smaller blocks",
        )
    least = -(-positive_int(dms_preallocate_for_tokens, "dms_preallocate_for_tokens") // size)
    longest = -(-positive_int(max_context_length, "max_context_length") // size) + 1 if max_context_length else 0

    def rule_of(ratio: Fraction) -> SlotRule:
        return in_blocks(size, window_and_share(window, ratio.denominator, ratio.numerator), NEXT, least)

    shares = by_ratio(dms_cr, tuple(head_cr), "dms_cr", rule_of)
    table = blocks(size, EVERY_TOKEN, size, longest)
    return selected(model, "DMS", shares, state=state_of_heads(partial(_window, window), table))


def _window(window: int, _: GroupedQueryAttention, heads: Dim) -> Iterable[CacheTensor]:
    pair = Dim("slot_and_decision", len(("slot", "decision")))
    always = once(window, words=f"window of {window:,}")
    yield CacheTensor("recent_info", (heads, pair), always, INT32, quantizable=False)
