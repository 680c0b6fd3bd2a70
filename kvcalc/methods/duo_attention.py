"""DuoAttention: a few retrieval heads keep every token, the others stream."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.slots.layers import EVERY_TOKEN, once
from kvcalc.cache.slots.methods import all_but_first, sinks_and_last
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor
from kvcalc.errors import InvalidValueError
from kvcalc.methods._masked import masked, masked_indices
from kvcalc.methods._selection import Share, Shares, for_each_layer, selected
from kvcalc.methods._traits import SELECTION, Traits
from kvcalc.model import Model
from kvcalc.units import positive_int

TRAITS = Traits(
    SELECTION,
    "every token in retrieval heads, sinks and the newest in the others",
    source="Xiao et al. 2024, arXiv 2410.10819; mit-han-lab/duo-attention",
    formula=(
        "Slots per layer: f * t for its f retrieval heads, (h - f) * min(t, sink_size + recent_size) for the others."
    ),
    parameters={
        "retrieval_heads": (
            "f of each layer, written 4+2+0+..., or one number for all; default: half of each layer's heads"
        ),
        "sink_size": "first tokens that every head keeps",
        "recent_size": "newest tokens that every head keeps",
        "mask_only": (
            "true as in kvpress: all heads keep all tokens of a prompt of t and no memory is saved; (h - f) * (t - "
            "sink_size - recent_size) of them are masked, by three int64 indices each"
        ),
        "prompt_tokens": "tokens of the prompt, for mask_only; without it, every cached token is prompt",
    },
    remarks=(
        (
            "Half of the heads is the average of the evaluation's sparsity of 0.5; sinks and window are those of the "
            "evaluation scripts."
        ),
    ),
    per_head_paging=True,
    caveat="which heads retrieve is learned for each model; retrieval_heads sets how many. kvpress only masks tokens: "
    "mask_only=true",
)
_STREAMING = "_streaming"


def apply(
    model: Model,
    retrieval_heads: Sequence[int] = (),
    sink_size: int = 64,
    recent_size: int = 256,
    mask_only: bool = False,
    prompt_tokens: int | None = None,
) -> Model:
    """`model` with every token only in its retrieval heads.

    Raises InvalidValueError for too many retrieval heads, or a list of another length.
    """
    budget = positive_int(sink_size, "sink_size") + positive_int(recent_size, "recent_size")
    each = for_each_layer(model, retrieval_heads, "retrieval_heads")
    streaming = EVERY_TOKEN if mask_only else sinks_and_last(budget, sink_size)

    def shares(layer: int, attention: GroupedQueryAttention) -> Shares:
        heads = each[layer] if each else attention.num_kv_heads // 2
        if not 0 <= heads <= attention.num_kv_heads:
            raise InvalidValueError(
                f"layer {layer} has {attention.num_kv_heads} KV heads, but retrieval_heads is {heads}",
                field="retrieval_heads",
                help=f"use a number from 0 to {attention.num_kv_heads}",
            )
        return (Share(EVERY_TOKEN, heads), Share(streaming, attention.num_kv_heads - heads, _STREAMING))

    if mask_only:
        return masked(model, "DuoAttention", shares, state=partial(_masked_tokens, _between(budget, prompt_tokens)))
    return selected(model, "DuoAttention", shares)


def _between(budget: int, prompt_tokens: int | None) -> SlotRule:
    """Tokens of the prompt that are neither sinks nor the newest."""
    if prompt_tokens is None:
        return all_but_first(budget)
    prompt = positive_int(prompt_tokens, "prompt_tokens")
    return once(max(0, prompt - budget), prompt, "between sinks and newest")


def _masked_tokens(rule: SlotRule, _: GroupedQueryAttention, shares: Shares) -> tuple[CacheTensor, ...]:
    streaming = (share.heads for share in shares if share.suffix == _STREAMING)
    return tuple(masked_indices(heads, rule, _STREAMING) for heads in streaming if heads)
