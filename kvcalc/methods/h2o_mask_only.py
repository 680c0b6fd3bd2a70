"""H2O as the authors evaluated it: attention is masked, and every token stays."""

from __future__ import annotations

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.slots.layers import EVERY_TOKEN
from kvcalc.cache.slots.methods import every_token_and_next
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.methods._selection import Shares, selected
from kvcalc.methods._traits import KEPT, SELECTION, Traits
from kvcalc.model import Model

TRAITS = Traits(
    SELECTION,
    "H2O mask-only, as evaluated in the paper: tokens are masked, not dropped",
    source="Zhang et al. 2023, arXiv 2306.14048; FMInference/H2O, h2o_hf/utils_hh",
    formula="Tokens kept: all. No memory is saved, whatever the budget.",
    remarks=(
        (
            "State, in the model's dtype: previous_scores, a sum for each query head and token; attention_masks_next, "
            "a mask for each query head, the tokens and the next."
        ),
    ),
    flash_attention=False,
    caveat="saves no memory: this is the code behind the paper's accuracy, and it adds its scores to a full cache",
    step_copy=KEPT,
)


def apply(model: Model) -> Model:
    """`model` with all its tokens, and the scores and masks of H2O's evaluation code."""
    return selected(model, "H2O, masked", EVERY_TOKEN, state=_state)


def _state(attention: GroupedQueryAttention, _: Shares) -> tuple[CacheTensor, ...]:
    heads = (Dim("num_query_heads", attention.num_query_heads),)
    return (
        CacheTensor("previous_scores", heads, EVERY_TOKEN, quantizable=False),
        CacheTensor("attention_masks_next", heads, every_token_and_next(), quantizable=False),
    )
