"""Multi-head latent attention: `mla:512+64` caches a latent of 512 and a rotary key of 64 per token and layer."""

from __future__ import annotations

from functools import partial

from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.methods._rebuild import DEEPSEEK_RANKS, attention_parts, parse_ranks, rebuilt
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.model import Model, facts

TRAITS = Traits(
    ARCHITECTURE,
    "one latent for all heads",
    source="DeepSeek-V2, arXiv 2405.04434",
    formula="Elements per token and layer: kv_lora_rank + qk_rope_head_dim.",
    parameters={
        "kv_lora_rank": "width of the latent shared by all heads",
        "qk_rope_head_dim": "width of the rotary key shared by all heads",
    },
    remarks=(
        ("Without numbers a layer keeps its own latent; layers without one use DeepSeek's 512 + 64, with a note."),
    ),
    retraining=True,
    parse=partial(parse_ranks, "mla"),
)


def apply(model: Model, kv_lora_rank: int | None = None, qk_rope_head_dim: int | None = None) -> Model:
    """`model` with a latent of `kv_lora_rank` and a rotary key of `qk_rope_head_dim`."""
    own = all("kv_lora_rank" in facts(part) for part in attention_parts(model))
    borrowed = kv_lora_rank is None and not own
    return rebuilt(
        model,
        "MLA" if kv_lora_rank is None else f"MLA {kv_lora_rank}+{qk_rope_head_dim}",
        lambda attention: with_latent(attention, kv_lora_rank, qk_rope_head_dim),
        "using the ranks of DeepSeek-V3, since this model has none: " if borrowed else "",
    )


def with_latent(
    attention: TokenCache, kv_lora_rank: int | None, qk_rope_head_dim: int | None
) -> MultiHeadLatentAttention:
    """Layer with a latent and the reach of `attention`; ranks default to its own, or DeepSeek's."""
    own = facts(attention)
    key_width, value_width = attention.head_widths
    return MultiHeadLatentAttention(
        num_query_heads=attention.num_query_heads,
        kv_lora_rank=own.get("kv_lora_rank", DEEPSEEK_RANKS[0]) if kv_lora_rank is None else kv_lora_rank,
        qk_rope_head_dim=own.get("qk_rope_head_dim", DEEPSEEK_RANKS[1])
        if qk_rope_head_dim is None
        else qk_rope_head_dim,
        qk_nope_head_dim=own.get("qk_nope_head_dim", key_width),
        v_head_dim=value_width,
        **attention.reach,
    )
