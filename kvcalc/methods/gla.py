"""GLA: two latents instead of MLA's one, each for half of the heads, so that TP ranks can split them."""

from __future__ import annotations

from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.gla import GroupedLatentAttention
from kvcalc.methods._rebuild import rebuilt
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.model import Model, facts

TRAITS = Traits(
    ARCHITECTURE,
    "a few latents that TP ranks can split",
    source="Zadouri et al. 2025, arXiv 2505.21487; Dao-AILab/grouped-latent-attention",
    formula="Elements per token and layer: num_latent_heads * latent_head_dim + qk_rope_dim, GLA-2 by default.",
    parameters={
        "num_latent_heads": "latents (h_c in the paper), each for equally many query heads",
        "latent_head_dim": "width of one (d_c); default: twice that of a value head, as in the authors' code",
        "qk_rope_dim": "width of the rotary key (d_R), held by each tensor-parallel rank; default: half of a head",
    },
    retraining=True,
    caveat="the kernel's example repeats the rotary key for each latent",
)


def apply(
    model: Model, num_latent_heads: int = 2, latent_head_dim: int | None = None, qk_rope_dim: int | None = None
) -> Model:
    """`model` with grouped latent attention in every layer that caches tokens.

    Raises NotApplicableError if no layer caches tokens, InvalidValueError for latents that do not divide the query
    heads.
    """

    def grouped(attention: TokenCache) -> GroupedLatentAttention:
        key_width, value_width = attention.head_widths
        return GroupedLatentAttention(
            num_query_heads=attention.num_query_heads,
            num_latent_heads=num_latent_heads,
            latent_head_dim=2 * value_width if latent_head_dim is None else latent_head_dim,
            qk_rope_head_dim=value_width // 2 if qk_rope_dim is None else qk_rope_dim,
            qk_nope_head_dim=facts(attention).get("qk_nope_head_dim", key_width),
            v_head_dim=value_width,
            **attention.reach,
        )

    return rebuilt(model, f"GLA-{num_latent_heads}", grouped)
