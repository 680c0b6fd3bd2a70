"""VATP: tokens are scored by attention times the norm of their value."""

from __future__ import annotations

from fractions import Fraction

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.methods._selection import Share, Shares, budget_of, selected
from kvcalc.methods._traits import KEPT, PROMPT_END, SELECTION, Traits
from kvcalc.model import Model, PromptCut
from kvcalc.units import positive_int

TRAITS = Traits(
    SELECTION,
    "the tokens with the most attention times value norm, and the newest",
    source="Guo et al. 2024, arXiv 2406.12335; guozhiyu/vatp",
    formula=(
        "Tokens kept per head: int(heavy_ratio * n) + int(recent_ratio * n) of a prompt of n tokens, and no more after "
        "it."
    ),
    parameters={
        "heavy_ratio": "share of the prompt kept for attention times value norm",
        "recent_ratio": "share of the prompt kept as the newest tokens",
        "sink_len": "first tokens that count as heaviest; part of the budget, without effect on the bytes",
        "prompt_tokens": PROMPT_END,
        "mask_only": "true as in the authors' code: all tokens stay and no memory is saved",
    },
    remarks=(
        (
            "State, in the model's dtype: previous_scores, the accumulated attention, and value_norm, the L1 norm of "
            "the value, per query head and kept token: 1 / d of the keys and values of MHA."
        ),
        "Defaults are the paper's for half of the cache; its script gives both ratios the same value.",
        "Its other base method, Scissorhands, has the same budget: heavy 2 int(r n) - 10, newest 10.",
    ),
    flash_attention=False,
    per_head_paging=True,
    caveat="the authors' code only masks tokens and keeps all of them: mask_only=true",
    step_copy=KEPT,
)


def apply(  # parameters of the authors' code, or how it is run
    model: Model,
    heavy_ratio: float | Fraction = 0.25,
    recent_ratio: float | Fraction = 0.25,
    sink_len: int = 20,
    prompt_tokens: int | None = None,
    mask_only: bool = False,
) -> Model:
    """`model` with the tokens with the most attention times value norm, and the newest.

    Raises InvalidValueError for a ratio outside 0 to 1.
    """
    positive_int(sink_len, "sink_len")
    rule = budget_of({"heavy_ratio": heavy_ratio, "recent_ratio": recent_ratio}, prompt_tokens, "heaviest and newest")
    cut = PromptCut(layer_by_layer=True, prompt_tokens=prompt_tokens, scoring_queries=None)
    return selected(
        model,
        "VATP, masked" if mask_only else "VATP",
        lambda _, __: (Share(EVERY_TOKEN if mask_only else rule),),
        state=_state,
        prompt_cut=None if mask_only else cut,
    )


def _state(attention: GroupedQueryAttention, shares: Shares) -> tuple[CacheTensor, ...]:
    heads = (Dim("num_query_heads", attention.num_query_heads),)
    names = ("previous_scores", "value_norm")
    return tuple(CacheTensor(name, heads, shares[0].rule, quantizable=False) for name in names)
