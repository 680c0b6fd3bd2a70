"""H2O: heavy hitters, the tokens with the most accumulated attention, and the newest ones."""

from __future__ import annotations

from fractions import Fraction

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.cache.dtypes import FP16
from kvcalc.cache.slots.methods import chosen
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.errors import NotApplicableError
from kvcalc.methods._selection import Shares, ratio_cut, selected
from kvcalc.methods._traits import KEPT, SELECTION, Traits
from kvcalc.model import Model, PromptCut
from kvcalc.units import positive_int

TRAITS = Traits(
    SELECTION,
    "the tokens with the most accumulated attention, and the newest",
    source="Zhang et al. 2023, arXiv 2306.14048; FMInference/H2O, h2o_hf/utils_real_drop",
    formula="Tokens kept per head: min(t, hh_size + recent_size); one more within a step.",
    parameters={
        "hh_size": "heavy hitters",
        "recent_size": "the newest tokens",
        "compression_ratio": (
            "share of the prompt to drop instead, as in kvpress' observed attention: by the mean attention that a "
            "token received, on any model, without persistent scores; later tokens stay"
        ),
        "prompt_tokens": "tokens of the prompt, for compression_ratio",
    },
    remarks=(
        "State: hh_score, one fp16 sum per head and kept token, 1 / (2 d) of the keys and values of MHA.",
        "Defaults are those of the authors' class; their summarisation script has 1024 + 1024.",
        (
            "Models with GQA or MQA are refused: the authors' code sums the attention of each query head, and drops "
            "from as many heads of keys and values."
        ),
    ),
    flash_attention=False,
    per_head_paging=True,
    caveat="the authors' evaluation code only masks tokens and keeps all of them: h2o-mask-only",
    step_copy=KEPT,
)


def apply(
    model: Model,
    hh_size: int = 4,
    recent_size: int = 512,
    compression_ratio: float | Fraction | None = None,
    prompt_tokens: int | None = None,
) -> Model:
    """`model` with only its heavy hitters and newest tokens.

    Raises NotApplicableError for GQA and MQA: the authors' code sums the attention of each query head, and drops from
    as many heads of keys and values.
    """
    kept = positive_int(hh_size, "hh_size") + positive_int(recent_size, "recent_size")
    cut = PromptCut(layer_by_layer=True, prompt_tokens=prompt_tokens, scoring_queries=None)
    if compression_ratio is not None:
        return selected(model, "H2O", ratio_cut(compression_ratio, prompt_tokens), prompt_cut=cut)
    heads_alike(model, "H2O")
    rule = chosen(kept, f"{hh_size:,} heaviest + last {recent_size:,}")
    return selected(model, "H2O", rule, state=_scores, prompt_cut=cut)


def heads_alike(model: Model, name: str) -> None:
    """Raises NotApplicableError if query heads share heads of keys and values."""
    for group in model.groups:
        for part in group.parts:
            if isinstance(part, GroupedQueryAttention) and part.num_kv_heads != part.num_query_heads:
                raise NotApplicableError(
                    f"{name} drops tokens of each query head, but {model.name} has {part.num_kv_heads} KV heads for "
                    f"{part.num_query_heads} query heads",
                    help="use it on a model with MHA, or rebuild it first: --attention mha",
                )


def _scores(attention: GroupedQueryAttention, shares: Shares) -> tuple[CacheTensor, ...]:
    heads = Dim("num_query_heads", attention.num_query_heads)
    return (CacheTensor("hh_score", (heads,), shares[0].rule, FP16, quantizable=False),)
