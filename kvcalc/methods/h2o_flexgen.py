"""H2O in FlexGen: the authors' offloading engine, which allocates its slots before the prompt."""

from __future__ import annotations

from fractions import Fraction

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.dtypes import FP16
from kvcalc.cache.slots.layers import once
from kvcalc.cache.slots.methods import floored_shares
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.methods._selection import Share, Shares, known_prompt, ratio_of, selected
from kvcalc.methods._traits import PROMPT_END, SELECTION, Traits
from kvcalc.methods.h2o import heads_alike
from kvcalc.model import Model, PromptCut
from kvcalc.units import positive_int

TRAITS = Traits(
    SELECTION,
    "H2O in slots allocated at the start",
    source="Zhang et al. 2023, arXiv 2306.14048; FMInference/H2O, h2o_flexgen",
    formula="Slots per head, with k = int(hh_ratio * n) of a prompt of n tokens: 2 k from the start to the end.",
    parameters={
        "hh_ratio": "heavy hitters, and the same number of newest tokens; at most 0.5",
        "hh_all": (
            "true also cuts the prompt; with false 2 k + gen_len - 1 slots are allocated, or n + gen_len - 1 if 2 k "
            "is at least n"
        ),
        "gen_len": "tokens to generate",
        "prompt_tokens": PROMPT_END,
    },
    remarks=(
        "After the prompt 2 k - 1 of them hold a token. State: acc, one fp16 sum per head and slot.",
        "Defaults are those of the authors' command line.",
        "Models with GQA or MQA are refused.",
    ),
    flash_attention=False,
    per_head_paging=True,
    caveat="hh_ratio counts for the heavy hitters and again for the newest tokens: 0.1 keeps 20%",
)


def apply(
    model: Model,
    hh_ratio: float | Fraction = 0.1,
    hh_all: bool = True,
    gen_len: int = 32,
    prompt_tokens: int | None = None,
) -> Model:
    """`model` with the slots allocated by FlexGen's H2O.

    Raises NotApplicableError for GQA and MQA, InvalidValueError for an invalid ratio, or if hh_all=false needs
    prompt_tokens.
    """
    heads_alike(model, "H2O in FlexGen")
    ratio = ratio_of(hh_ratio, "hh_ratio", most=Fraction(1, 2))
    rule: SlotRule
    if not hh_all:
        prompt = known_prompt(prompt_tokens, "what hh_all=false allocates depends on the prompt")
        rule = once(min(2 * int(float(ratio) * prompt), prompt) + positive_int(gen_len, "gen_len") - 1, words=_AT_START)
    elif prompt_tokens is None:
        rule = floored_shares(*2 * (ratio.as_integer_ratio(),))
    else:
        rule = once(2 * int(float(ratio) * positive_int(prompt_tokens, "prompt_tokens")), words=_AT_START)
    cut = PromptCut(layer_by_layer=True, prompt_tokens=prompt_tokens, scoring_queries=None)
    return selected(model, "H2O in FlexGen", lambda _, __: (Share(rule),), state=_sums, prompt_cut=cut)


_AT_START = "all from the start"


def _sums(attention: GroupedQueryAttention, shares: Shares) -> tuple[CacheTensor, ...]:
    heads = (Dim("num_query_heads", attention.num_query_heads),)
    return (CacheTensor("acc", heads, shares[0].rule, FP16, quantizable=False),)
