"""FastGen: each head keeps only what its attention was found to need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import accumulate

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.dtypes import FP32
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.slots.methods import chosen_share
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.errors import InvalidValueError
from kvcalc.methods._selection import Share, Shares, selected
from kvcalc.methods._traits import SELECTION, Traits
from kvcalc.model import Model, PromptCut
from kvcalc.units import positive_int, shown

TRAITS = Traits(
    SELECTION,
    "per head: special tokens, punctuation, frequent, local, or everything",
    source="Ge et al. 2023, arXiv 2310.01801; no published code",
    formula=(
        "Tokens kept per head: min(t, special_tokens + ceil(r * t)), where r adds up the ratios of the head's policy."
    ),
    parameters={
        "heads_per_policy": (
            "KV heads of a layer with each of the five policies, written 0+4+8+16+4; default: all heads full"
        ),
        "special_tokens": "fewer than 5 in the paper",
        "punctuation_ratio": "about a tenth of English",
        "frequent_ratio": "share of the current length, as in the paper",
        "local_ratio": "share of the current length, as in the paper",
    },
    remarks=(
        (
            "special: r = 0. punctuation: punctuation_ratio. frequent: + frequent_ratio. local: + local_ratio. full: "
            "all tokens."
        ),
        "State: a float32 sum of attention for each kept token of the frequent and the local heads.",
        (
            "The paper's profiling determines heads_per_policy by the share of attention they recover, separately for "
            "each model and prompt. Heads fall back to full: no memory is saved without a measurement. (For Llama 1, "
            "Table 1 prunes 17% to 57% of the cache at the compared qualities.)"
        ),
        (
            "Frequent tokens are counted among those not kept for another reason, and local ones among the rest, so "
            "the sum is an upper bound of the paper's union: a newest token that is also frequent counts once there."
        ),
        "Prefill needs the full attention map; within a step there is one more token.",
    ),
    flash_attention=False,
    per_head_paging=True,
    caveat="each head's policy is profiled for each prompt; heads_per_policy sets the numbers. cold-compress, which "
    "reproduces it, saves no memory",
)
POLICIES = ("special", "punctuation", "frequent", "local", "full")
"""Policies of a head; each also keeps what those before it do."""
_DECIMALS = 100
SCORED = ("frequent", "local")
"""Policies that select by accumulated attention."""


def apply(
    model: Model,
    heads_per_policy: Sequence[int] = (),
    special_tokens: int = 4,
    punctuation_ratio: float | Fraction = 0.1,
    frequent_ratio: float | Fraction = 0.3,
    local_ratio: float | Fraction = 0.3,
) -> Model:
    """`model` with the tokens that each head keeps by its FastGen policy.

    Raises InvalidValueError for ratios above 1 in total, or heads that do not match a layer.
    """
    positive_int(special_tokens, "special_tokens")
    ratios = {
        "punctuation_ratio": Fraction(str(punctuation_ratio)),
        "frequent_ratio": Fraction(str(frequent_ratio)),
        "local_ratio": Fraction(str(local_ratio)),
    }
    for field, ratio in ratios.items():
        if not 0 <= ratio <= 1 or _DECIMALS % ratio.denominator:
            raise InvalidValueError(
                f"{field} must be from 0 to 1 with at most two decimals, not {shown(float(ratio))}",
                field=field,
                help="write 0.3",
            )
    if (together := sum(ratios.values())) > 1:
        raise InvalidValueError(
            f"the ratios add up to {shown(float(together))}, more than every token",
            field="local_ratio",
            help="write 0.3",
        )
    kept = [*accumulate(ratios.values(), initial=Fraction(0))]
    rules = [chosen_share(*share.as_integer_ratio(), special_tokens) for share in kept]
    cut = PromptCut(layer_by_layer=True, scoring_queries=None)
    shares = partial(_shares, rules, tuple(heads_per_policy))
    changed = selected(model, "FastGen", shares, state=_scores, prompt_cut=cut)
    if heads_per_policy:
        return changed
    note = "without heads_per_policy, every head keeps every token"
    return replace(changed, notes=(*changed.notes, note))


def _shares(
    rules: Sequence[SlotRule], heads_per_policy: tuple[int, ...], layer: int, attention: GroupedQueryAttention
) -> Shares:
    heads = attention.num_kv_heads
    number = heads_per_policy or (0, 0, 0, 0, heads)
    if len(number) != len(POLICIES) or sum(number) != heads:
        raise InvalidValueError(
            f"heads_per_policy has {len(number)} numbers, {sum(number):,} heads in total, but layer {layer} has "
            f"{heads:,} KV heads for {len(POLICIES)} policies",
            field="heads_per_policy",
            help=f"heads in the order {', '.join(POLICIES)}: write heads_per_policy=0+0+0+0+{heads}",
        )
    chosen = (Share(rule, count, f"_{name}") for rule, count, name in zip(rules, number, POLICIES, strict=False))
    return (*chosen, Share(EVERY_TOKEN, number[-1]))


def _scores(_: GroupedQueryAttention, shares: Shares) -> tuple[CacheTensor, ...]:
    return tuple(
        CacheTensor(f"score{share.suffix}", (Dim("num_kv_heads", share.heads),), share.rule, FP32, quantizable=False)
        for share in shares
        if share.heads and share.suffix.removeprefix("_") in SCORED
    )
