"""PyramidKV: SnapKV with a budget that shrinks from layer to layer."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial

from kvcalc.cache.slots.methods import cut_prompt
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.methods._pyramid import Budget, pyramid
from kvcalc.methods._selection import Share, compression_of, scored_prompt, selected, window_below
from kvcalc.methods._traits import KEPT, LAYER_BY_LAYER, PROMPT_END, QUERY_HEADS, SELECTION, Traits
from kvcalc.model import Model, PromptCut
from kvcalc.units import positive_int

TRAITS = Traits(
    SELECTION,
    "SnapKV with more tokens in lower layers and fewer in higher ones",
    source="Cai et al. 2024, arXiv 2406.02069; Zefan-Cai/KVCache-Factory",
    formula="Tokens kept per head of layer l: high - l * floor((high - low) / (L - 1)) + w; then every token.",
    parameters={
        "max_capacity_prompt": "tokens of the prompt that a layer keeps on average, including the window",
        "window_size": "w, the prompt's last tokens, which select the others",
        "beta": "how much less the top layer keeps",
        "compression_ratio": (
            "share of the prompt to drop on average, as in kvpress: b is then n (1 - ratio), in floats without the "
            "window, rounded at the end; if the top layer would have fewer tokens than the window, all layers keep "
            "the same"
        ),
        "prompt_tokens": PROMPT_END,
        "gqa_support": QUERY_HEADS,
    },
    remarks=(
        (
            "With b = max_capacity_prompt - w, high = min(2 b - floor(b / beta), n - w), low = 2 b - high and w = "
            "window_size. Prompts below max_capacity_prompt tokens stay complete, those below 2 b keep the capacity "
            "in all layers. Rounding makes the sum slightly exceed the budget (65,552 for 65,536 in 32 layers of "
            "2,048)."
        ),
        "Defaults are those of the authors' run script.",
        LAYER_BY_LAYER,
    ),
    per_head_paging=True,
    caveat="the authors' code stores every query head: gqa_support=false; one block table for all layers costs as much "
    "as the largest layer",
    step_copy=KEPT,
)


def apply(
    model: Model,
    max_capacity_prompt: int = 512,
    window_size: int = 8,
    beta: int = 20,
    compression_ratio: float | Fraction | None = None,
    prompt_tokens: int | None = None,
    gqa_support: bool = True,
) -> Model:
    """`model` with the prompt cut as in SnapKV, more in higher layers.

    Raises InvalidValueError for a window that is not smaller than the capacity or, by a ratio, than the prompt.
    """
    window_below(window_size, max_capacity_prompt, "max_capacity_prompt")
    budget = Budget(model.num_layers, max_capacity_prompt, window_size, positive_int(beta, "beta"))
    rule_of: Callable[[int], SlotRule] = partial(pyramid, budget)
    if compression_ratio is not None:
        prompt = scored_prompt(prompt_tokens, window_size)
        rule_of = partial(_by_ratio, budget, compression_of(compression_ratio), prompt)
    elif prompt_tokens is not None:
        rule_of = partial(_of_prompt, budget, positive_int(prompt_tokens, "prompt_tokens"))
    cut = PromptCut(layer_by_layer=True, prompt_tokens=prompt_tokens, scoring_queries=window_size)
    return selected(
        model, "PyramidKV", lambda layer, _: (Share(rule_of(layer)),), gqa_support=gqa_support, prompt_cut=cut
    )


def _of_prompt(budget: Budget, prompt: int, layer: int) -> SlotRule:
    return cut_prompt(pyramid(budget, layer).slots(prompt), prompt)


def _by_ratio(budget: Budget, ratio: float, prompt: int, layer: int) -> SlotRule:
    """What kvpress keeps, in floats. Source: kvpress 0.5.5, PyramidKVPress."""
    mean = prompt * (1 - ratio)
    low = mean / budget.beta
    high = 2 * mean - low
    if high >= prompt - budget.window_size:
        high = prompt - budget.window_size
        low = 2 * mean - high
    if not ratio:
        kept = prompt
    elif not prompt >= high >= low >= budget.window_size:
        kept = max(1, round(mean))
    else:
        kept = round(high - layer * (high - low) / max(budget.num_layers - 1, 1))
    return cut_prompt(kept, prompt)
