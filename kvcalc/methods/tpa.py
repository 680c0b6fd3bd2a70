"""TPA: keys and values of all heads as a few products of two vectors, which are cached instead."""

from __future__ import annotations

from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.tpa import TensorProductAttention
from kvcalc.methods._rebuild import rebuilt
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.model import Model

TRAITS = Traits(
    ARCHITECTURE,
    "keys and values as products of small factors",
    source="Zhang et al. 2025, arXiv 2501.06425; tensorgi/TPA",
    formula=(
        "Elements per token and layer: rank * (2 * num_query_heads + head_dim + v_head_dim), 4 * (H + d) by default."
    ),
    parameters={
        "rank": "number of products in keys and in values (R_K = R_V in the paper)",
    },
    remarks=("T6 models have more query heads than others of their size; the model keeps its own.",),
    retraining=True,
    caveat="the authors' code allocates max_batch_size * max_seq_len slots at once",
)


def apply(model: Model, rank: int = 2) -> Model:
    """`model` with tensor product attention in every layer that caches tokens.

    Raises NotApplicableError if no layer caches tokens.
    """

    def factored(attention: TokenCache) -> TensorProductAttention:
        key_width, value_width = attention.head_widths
        return TensorProductAttention(
            num_query_heads=attention.num_query_heads,
            head_dim=key_width,
            k_rank=rank,
            v_rank=rank,
            v_head_dim=None if value_width == key_width else value_width,
            **attention.reach,
        )

    return rebuilt(model, "TPA", factored)
