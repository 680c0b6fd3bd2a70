"""Tensors of layers as texts: `self_attn.q_proj.bias: q if attention_bias`, with sizes by the words of `_facts`.

A dimension is a word, a number, or a product of them (`2*expert_ffn`). A condition is a field, or `not` one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

ALWAYS = "always"
GATED, FUSED_GATE = ("gate_proj", "up_proj", "down_proj"), ("gate_up_proj", "down_proj")


class Block(NamedTuple):
    """Tensors that belong to one part of a checkpoint. dtype: where that is not the checkpoint's format."""

    part: str
    tensors: tuple[str, ...]
    dtype: str = ""


def linear(name: str, shape: str, bias: str = "") -> Iterator[str]:
    """A weight, and its bias: ALWAYS, never (empty), or on a condition."""
    yield f"{name}.weight: {shape}"
    if bias:
        yield f"{name}.bias: {shape.partition(' x ')[0]}" + ("" if bias == ALWAYS else f" if {bias}")


def qkvo(bias: str = "", out_bias: str | None = None, *, q: str = "q", extra: tuple[str, ...] = ()) -> Block:
    """Projections of Q, K, V and the output, whose bias is that of the others unless `out_bias` says otherwise.

    q: rows of the first, which may hold a gate besides.
    """
    last = bias if out_bias is None else out_bias
    projections = (("q_proj", f"{q} x hidden", bias), ("k_proj", "kv x hidden", bias), ("v_proj", "kv x hidden", bias))
    each = (
        linear(f"self_attn.{name}", shape, own) for name, shape, own in (*projections, ("o_proj", "hidden x q", last))
    )
    return Block("attention", (*(text for texts in each for text in texts), *extra))


def qk_norms(q: str = "head_dim", kv: str = "head_dim", condition: str = "") -> tuple[str, ...]:
    """Norms of Q and K: of each head, or of all heads."""
    end = f" if {condition}" if condition else ""
    return (f"self_attn.q_norm.weight: {q}{end}", f"self_attn.k_norm.weight: {kv}{end}")


LATENT = Block(
    "attention",
    (
        "self_attn.q_proj.weight: latent_q x hidden if not q_lora_rank",
        "self_attn.q_a_proj.weight: q_rank x hidden if q_lora_rank",
        "self_attn.q_a_proj.bias: q_rank if q_lora_rank and attention_bias",
        "self_attn.q_a_layernorm.weight: q_rank if q_lora_rank",
        "self_attn.q_b_proj.weight: latent_q x q_rank if q_lora_rank",
        "self_attn.kv_a_proj_with_mqa.weight: latent_kv x hidden",
        "self_attn.kv_a_proj_with_mqa.bias: latent_kv if attention_bias",
        "self_attn.kv_a_layernorm.weight: kv_rank",
        "self_attn.kv_b_proj.weight: heads_kv x kv_rank",
        "self_attn.o_proj.weight: hidden x heads_v",
        "self_attn.o_proj.bias: hidden if attention_bias",
    ),
)
"""Multi-head latent attention."""
INDEXER = Block(
    "attention",
    (
        "self_attn.indexer.wq_b.weight: index_heads*index_head x q_rank",
        "self_attn.indexer.wk.weight: index_head x hidden",
        *linear("self_attn.indexer.k_norm", "index_head", ALWAYS),
        "self_attn.indexer.weights_proj.weight: index_heads x hidden",
    ),
)
"""The indexer of sparse attention."""


def delta_net(*projections: str) -> Block:
    """Linear attention by the gated delta rule, with these projections of its input."""
    return Block(
        "state",
        (
            "linear_attn.dt_bias: v_heads",
            "linear_attn.A_log: v_heads",
            "linear_attn.conv1d.weight: convolved x 1 x kernel",
            *(f"linear_attn.{text}" for text in projections),
            "linear_attn.norm.weight: v_dim",
            "linear_attn.out_proj.weight: hidden x values",
        ),
    )


def feed_forward(
    name: str = "mlp", width: str = "ffn", bias: str = "", part: str = "mlp", condition: str = ""
) -> Block:
    """A gated feed-forward layer: gate, up and down."""
    gates = (text for gate in GATED[:2] for text in linear(f"{name}.{gate}", f"{width} x hidden", bias))
    texts = (*gates, *linear(f"{name}.down_proj", f"hidden x {width}", bias))
    return Block(part, tuple(_also(text, condition) for text in texts))


def _also(text: str, condition: str) -> str:
    if not condition:
        return text
    return f"{text} and {condition}" if " if " in text else f"{text} if {condition}"


FUSED = Block("mlp", ("mlp.gate_up_proj.weight: 2*ffn x hidden", "mlp.down_proj.weight: hidden x ffn"))
"""A feed-forward layer whose gate and up projection are one tensor."""


def ungated(first: str, second: str, bias: str) -> Block:
    """A feed-forward layer without a gate."""
    return Block("mlp", (*linear(f"mlp.{first}", "ffn x hidden", bias), *linear(f"mlp.{second}", "hidden x ffn", bias)))


def experts(width: str = "expert_ffn") -> Block:
    """Routed experts, stacked: gate and up in one tensor."""
    return Block(
        "experts",
        (
            f"mlp.experts.gate_up_proj: experts x 2*{width} x hidden",
            f"mlp.experts.down_proj: experts x hidden x {width}",
        ),
    )


def router(name: str = "gate") -> Block:
    """Scores of the experts."""
    return Block("router", (f"mlp.{name}.weight: experts x hidden",))


def correction(name: str = "gate.e_score_correction_bias", shape: str = "experts", dtype: str = "") -> Block:
    """A bias of the scores that balances experts."""
    return Block("router", (f"mlp.{name}: {shape}",), dtype)


def norms(*names: str, bias: str = "") -> Block:
    """Norms of the residual stream."""
    return Block("norm", tuple(text for name in names for text in linear(name, "hidden", bias)))


BEFORE = norms("input_layernorm", "post_attention_layernorm")
AFTER = norms("post_attention_layernorm", "post_feedforward_layernorm")
AROUND = norms("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
"""Norms before attention and feed-forward, after them, or both."""
