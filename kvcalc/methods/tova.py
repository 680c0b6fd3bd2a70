"""TOVA: the tokens that the newest one attends to most, the same for all heads of a layer."""

from __future__ import annotations

from fractions import Fraction

from kvcalc.cache.slots.methods import chosen
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.methods._selection import ratio_cut, selected
from kvcalc.methods._traits import KEPT, LAYER_BY_LAYER, SELECTION, Traits
from kvcalc.model import Model, PromptCut
from kvcalc.units import positive_int

TRAITS = Traits(
    SELECTION,
    "the tokens that the newest one attends to most",
    source="Oren et al. 2024, arXiv 2401.06104; schwartz-lab-NLP/TOVA",
    formula="Tokens kept per layer: min(t, cache_size); one more within a step. No state.",
    parameters={
        "cache_size": "tokens, as in the authors' example",
        "compression_ratio": ("share of the prompt to drop instead, as in kvpress, which keeps every token after it"),
        "prompt_tokens": "tokens of the prompt, for compression_ratio",
    },
    remarks=(LAYER_BY_LAYER,),
    step_copy=KEPT,
)


def apply(
    model: Model,
    cache_size: int = 512,
    compression_ratio: float | Fraction | None = None,
    prompt_tokens: int | None = None,
) -> Model:
    """`model` with the tokens that the newest one attends to most."""
    rule: SlotRule = chosen(positive_int(cache_size, "cache_size"), f"best {cache_size:,}")
    if compression_ratio is not None:
        rule = ratio_cut(compression_ratio, prompt_tokens)
    cut = PromptCut(layer_by_layer=True, prompt_tokens=prompt_tokens, scoring_queries=1)
    return selected(model, "TOVA", rule, prompt_cut=cut)
