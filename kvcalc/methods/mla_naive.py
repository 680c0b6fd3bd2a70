"""Multi-head latent attention, expanded before caching: the cache of naive code for an MLA model."""

from __future__ import annotations

from functools import partial

from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.methods._rebuild import attention_parts, parse_ranks, rebuilt
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.methods.mla import with_latent
from kvcalc.model import Model, facts

TRAITS = Traits(
    ARCHITECTURE,
    "one latent, expanded before it is cached",
    source='DeepSeek-V3 inference/model.py, attn_impl = "naive"',
    formula="Elements per token and layer: num_query_heads * (qk_nope_head_dim + qk_rope_head_dim + v_head_dim).",
    parameters={
        "kv_lora_rank": "width of the expanded latent, as for `mla`",
        "qk_rope_head_dim": "width of its rotary key, as for `mla`",
    },
    remarks=("A layer without a rotary key uses DeepSeek's 64; the notes state the widths.",),
    retraining=True,
    parse=partial(parse_ranks, "mla-naive"),
)


def apply(model: Model, kv_lora_rank: int | None = None, qk_rope_head_dim: int | None = None) -> Model:
    """`model` with each head's key and value cached in full: 128 heads of 192 + 128 for DeepSeek-R1."""

    def expanded(attention: TokenCache) -> NaiveMultiHeadLatentAttention:
        latent = with_latent(attention, kv_lora_rank, qk_rope_head_dim)
        return NaiveMultiHeadLatentAttention(
            num_query_heads=latent.num_query_heads,
            qk_rope_head_dim=latent.qk_rope_head_dim,
            qk_nope_head_dim=latent.qk_nope_head_dim,
            v_head_dim=latent.v_head_dim,
            **latent.reach,
        )

    own = all("qk_rope_head_dim" in facts(part) for part in attention_parts(model))
    borrowed = qk_rope_head_dim is None and not own
    return rebuilt(
        model,
        "MLA naive",
        expanded,
        "using the rotary key of DeepSeek-V3, since this model has none: " if borrowed else "",
    )
