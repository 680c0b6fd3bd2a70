"""DMC: each head learned to merge a token into its last slot, or to give it a new slot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import partial

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.slots.engines import blocks, in_blocks
from kvcalc.cache.slots.layers import EVERY_TOKEN, once
from kvcalc.cache.slots.methods import share_of_tokens
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.methods._compression import NEXT, by_ratio, state_of_heads
from kvcalc.methods._indices import INT32
from kvcalc.methods._selection import selected
from kvcalc.methods._traits import MERGED, Traits
from kvcalc.model import Model
from kvcalc.units import positive_int

TRAITS = Traits(
    MERGED,
    "a token is merged into a head's last slot, or gets its own",
    source="Nawrot et al. 2024, arXiv 2403.09636; NVIDIA/Megatron-LM, branch dmc",
    formula="Slots per head: N * ceil((ceil(t / dmc_cr) + 1) / N), N = dmc_paged_block_size; a block from the start.",
    parameters={
        "dmc_cr": "tokens merged into a slot on average, from 1 to 64 in quarters",
        "dmc_window_size": "w, the newest tokens that a merge can reach",
        "dmc_paged_block_size": "tokens per block",
        "max_len": "tokens that the block table has room for, if there are fewer",
        "head_cr": "ratios of a layer's KV heads if they differ, written 2+4+8+8, instead of dmc_cr",
    },
    remarks=(
        (
            "State per head: a window of w + 1 keys, values and weights, the first of which is their sum; two int32 "
            "lengths; an int32 block table of ceil((t + 1) / N) entries, or of max_len; and one int32 with its number "
            "of slots."
        ),
        "Defaults are those of the authors' branch.",
        "A prompt is processed token by token, so it is never held completely.",
    ),
    retraining=True,
    per_head_paging=True,
    caveat="how often a head merges is learned; dmc_cr is the mean targeted in training. Each head has a whole block "
    "from the start, and the authors' code allocates its pool of 40 GiB at once",
)


def apply(  # parameters of the authors' code, or of what the heads learned
    model: Model,
    dmc_cr: float | Fraction = 4.0,
    dmc_window_size: int = 12,
    dmc_paged_block_size: int = 256,
    max_len: int | None = None,
    head_cr: Sequence[int] = (),
) -> Model:
    """`model` with the tokens of each head merged by dynamic memory compression.

    Raises InvalidValueError for a ratio that is not from 1 to 64 in quarters, or a list with another number of heads.
    """
    size = positive_int(dmc_paged_block_size, "dmc_paged_block_size")
    slots = positive_int(dmc_window_size, "dmc_window_size") + 1
    least = -(-positive_int(max_len, "max_len") // size) if max_len else 0

    def rule_of(ratio: Fraction) -> SlotRule:
        return in_blocks(size, share_of_tokens(ratio.denominator, ratio.numerator), NEXT)

    shares = by_ratio(dmc_cr, tuple(head_cr), "dmc_cr", rule_of)
    table = blocks(size, EVERY_TOKEN, NEXT, least)
    return selected(model, "DMC", shares, state=state_of_heads(partial(_window, slots), table))


def _window(slots: int, attention: GroupedQueryAttention, heads: Dim) -> Iterable[CacheTensor]:
    (_, key), (_, value) = (tensor.dims for tensor in attention.tensors())
    always = once(slots, words=f"window of {slots - 1:,} and its sum")
    for name, dims in (
        ("window_k", (heads, key)),
        ("window_v", (heads, value)),
        ("window_weights", (heads,)),
    ):
        yield CacheTensor(name, dims, always, quantizable=False)
    yield CacheTensor("head_alloc", (heads,), once(), INT32, quantizable=False)
