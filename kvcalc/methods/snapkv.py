"""SnapKV: keeps the prompt's tokens that its last window attends to most, and that window."""

from __future__ import annotations

from fractions import Fraction

from kvcalc.methods._selection import cut_to, ratio_cut, scored_prompt, selected, window_below
from kvcalc.methods._traits import KEPT, LAYER_BY_LAYER, PROMPT_END, QUERY_HEADS, SELECTION, Traits
from kvcalc.model import Model, PromptCut

TRAITS = Traits(
    SELECTION,
    "the prompt's tokens that its last window attends to most",
    source="Li et al. 2024, arXiv 2404.14469; FasterDecoding/SnapKV",
    formula="Tokens kept per head: min(n, max_capacity_prompt) of a prompt of n tokens; then every token.",
    parameters={
        "max_capacity_prompt": "tokens of the prompt that are kept, including the window",
        "window_size": "the prompt's last tokens, which select the others",
        "compression_ratio": "share of the prompt to drop, instead of a capacity, as in kvpress",
        "prompt_tokens": PROMPT_END,
        "gqa_support": QUERY_HEADS,
    },
    remarks=(
        "Defaults are those of the authors' monkey patch.",
        LAYER_BY_LAYER,
    ),
    per_head_paging=True,
    caveat="the authors' code stores every query head: gqa_support=false",
    step_copy=KEPT,
)


def apply(  # parameters of the authors' code or of kvpress
    model: Model,
    max_capacity_prompt: int = 2048,
    window_size: int = 32,
    compression_ratio: float | Fraction | None = None,
    prompt_tokens: int | None = None,
    gqa_support: bool = True,
) -> Model:
    """`model` with the prompt cut as in SnapKV.

    Raises InvalidValueError for a window that is not smaller than the capacity or, by a ratio, than the prompt, as the
    authors' code and kvpress assert.
    """
    if compression_ratio is None:
        window_below(window_size, max_capacity_prompt, "max_capacity_prompt")
        rule = cut_to(max_capacity_prompt, prompt_tokens)
    else:
        rule = ratio_cut(compression_ratio, scored_prompt(prompt_tokens, window_size))
    return selected(
        model,
        "SnapKV",
        rule,
        gqa_support=gqa_support,
        prompt_cut=PromptCut(layer_by_layer=True, prompt_tokens=prompt_tokens, scoring_queries=window_size),
    )
