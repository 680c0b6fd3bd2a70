"""Classes of transformers as tensors: one row each, by the model type whose config.json they are built from.

Source: transformers 5.24.0, modeling_*.py of each type. `tests/io/parameters` holds every row against the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kvcalc.errors import NotApplicableError
from kvcalc.io.parameters._facts import Facts
from kvcalc.io.parameters._layers import (
    AFTER,
    ALWAYS,
    AROUND,
    BEFORE,
    FUSED,
    INDEXER,
    LATENT,
    Block,
    correction,
    delta_net,
    experts,
    feed_forward,
    linear,
    norms,
    qk_norms,
    qkvo,
    router,
    ungated,
)
from kvcalc.units import shown

FULL, LINEAR, _PERIOD = "full_attention", "linear_attention", 4
Sparse = Callable[[Facts, int], set[int]]


class Class(NamedTuple):
    """Tensors of a class.

    blocks: of every layer. dense, sparse: of layers with a feed-forward part and with experts; which: those with
    experts, by the number of layers. last_norm, head_bias: after the last layer. fields: the class's own names of
    sizes. divides: whether head_dim is always hidden_size / heads. ignored: fields of published configs that the class
    does not read. mixers: of layers by their kind in `layer_types`.
    """

    name: str
    blocks: tuple[Block, ...]
    dense: tuple[Block, ...] = ()
    sparse: tuple[Block, ...] = ()
    which: Sparse | None = None
    last_norm: Block = norms("norm")
    head_bias: str = ""
    fields: Mapping[str, str] = {}
    divides: bool = False
    ignored: tuple[str, ...] = ()
    mixers: Mapping[str, tuple[Block, ...]] = {}

    def sparse_layers(self, facts: Facts, layers: int) -> set[int]:
        """Layers with experts."""
        return self.which(facts, layers) if self.which else set()


def kinds_of(facts: Facts, layers: int) -> list[str]:
    """Kind of each layer as `layer_types` says, or each `full_attention_interval`-th attends to all tokens."""
    kinds = facts.value("layer_types")
    if kinds is None:
        period = _count(facts, "full_attention_interval") or _PERIOD
        return [LINEAR if (layer + 1) % period else FULL for layer in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or not {FULL, LINEAR}.issuperset(map(str, kinds)):
        raise NotApplicableError(f"layer_types is {shown(kinds)}", help="")
    return kinds


def _every(facts: Facts, layers: int) -> set[int]:
    del facts
    return set(range(layers))


def _after_first(facts: Facts, layers: int) -> set[int]:
    """All but the first `first_k_dense_replace`."""
    return set(range(_count(facts, "first_k_dense_replace"), layers))


def _each_step(facts: Facts, layers: int) -> set[int]:
    """Each `decoder_sparse_step`-th, but for `mlp_only_layers`."""
    step, listed = _count(facts, "decoder_sparse_step") or 1, facts.value("mlp_only_layers") or []
    if not isinstance(listed, list):
        raise NotApplicableError(f"mlp_only_layers is {shown(listed)}", help="")
    if not facts.holds("num_experts"):
        return set()
    return {layer for layer in range(layers) if layer not in listed and (layer + 1) % step == 0}


def _as_listed(facts: Facts, layers: int) -> set[int]:
    """As `mlp_layer_types` says, or all but the first."""
    kinds = facts.value("mlp_layer_types")
    if kinds is None:
        return set(range(1, layers))
    if not isinstance(kinds, list) or len(kinds) != layers or not {"dense", "sparse"}.issuperset(map(str, kinds)):
        raise NotApplicableError(f"mlp_layer_types is {shown(kinds)}", help="")
    return {layer for layer, kind in enumerate(kinds) if kind == "sparse"}


def _listed_or_after_first(facts: Facts, layers: int) -> set[int]:
    return _after_first(facts, layers) if facts.value("mlp_layer_types") is None else _as_listed(facts, layers)


def _between(facts: Facts, layers: int) -> set[int]:
    """From `moe_layer_start_index` to `moe_layer_end_index`, each `moe_layer_interval`-th."""
    first, step = _count(facts, "moe_layer_start_index"), _count(facts, "moe_layer_interval") or 1
    last = facts.value("moe_layer_end_index")
    end = layers if last in (None, -1) else _count(facts, "moe_layer_end_index") + 1
    return {layer for layer in range(first, min(end, layers)) if (layer + 1) % step == 0}


def _count(facts: Facts, field: str) -> int:
    value = facts.value(field)
    if value is None:
        return 0
    if type(value) is not int or value < 0:
        raise NotApplicableError(f"{field} is {shown(value)}", help="")
    return value


_PLAIN = (qkvo(), BEFORE)
_DEEPSEEK_SPARSE = (
    experts(),
    router(),
    correction(dtype="F32"),
    feed_forward("mlp.shared_experts", "shared_experts_ffn", part="shared experts"),
)
_GLM_SPARSE = (experts(), router(), correction(), _DEEPSEEK_SPARSE[-1])
_SHARED_EXPERT = (
    router(),
    experts(),
    feed_forward("mlp.shared_expert", "shared_ffn", part="shared experts"),
    Block("shared experts", ("mlp.shared_expert_gate.weight: 1 x hidden",)),
)
_GATED = {FULL: (qkvo("attention_bias", q="2*q", extra=qk_norms()),)}
_QWEN3_5 = _GATED | {
    LINEAR: (
        delta_net(
            "in_proj_qkv.weight: convolved x hidden",
            "in_proj_z.weight: values x hidden",
            "in_proj_b.weight: v_heads x hidden",
            "in_proj_a.weight: v_heads x hidden",
        ),
    )
}
_LOCAL = {"experts": "num_local_experts", "expert_ffn": "intermediate_size"}
_ROUTED = {"experts": "n_routed_experts"}

CLASSES = {
    "llama": Class("LlamaForCausalLM", (qkvo("attention_bias"), BEFORE), (feed_forward(bias="mlp_bias"),)),
    "mistral": Class("MistralForCausalLM", _PLAIN, (feed_forward(),)),
    "ministral": Class("MinistralForCausalLM", _PLAIN, (feed_forward(),)),
    "ministral3": Class("Ministral3ForCausalLM", _PLAIN, (feed_forward(),)),
    "mixtral": Class("MixtralForCausalLM", _PLAIN, (), (router(), experts()), _every, fields=_LOCAL),
    "mistral4": Class(
        "Mistral4ForCausalLM",
        (LATENT, BEFORE),
        (feed_forward(),),
        (experts(), router(), _DEEPSEEK_SPARSE[-1]),
        _after_first,
        fields=_ROUTED,
    ),
    "qwen2": Class("Qwen2ForCausalLM", (qkvo(ALWAYS, ""), BEFORE), (feed_forward(),)),
    "qwen3": Class("Qwen3ForCausalLM", (qkvo("attention_bias", extra=qk_norms()), BEFORE), (feed_forward(),)),
    "qwen2_moe": Class(
        "Qwen2MoeForCausalLM",
        (qkvo("qkv_bias", ""), BEFORE),
        (feed_forward(),),
        _SHARED_EXPERT,
        _each_step,
    ),
    "qwen3_moe": Class(
        "Qwen3MoeForCausalLM",
        (qkvo("attention_bias", extra=qk_norms()), BEFORE),
        (feed_forward(),),
        (router(), experts()),
        _each_step,
    ),
    "qwen3_next": Class(
        "Qwen3NextForCausalLM",
        (BEFORE,),
        (feed_forward(),),
        _SHARED_EXPERT,
        _each_step,
        mixers=_GATED
        | {
            LINEAR: (
                delta_net("in_proj_qkvz.weight: keys_and_values x hidden", "in_proj_ba.weight: 2*v_heads x hidden"),
            )
        },
    ),
    "qwen3_5_text": Class("Qwen3_5ForCausalLM", (BEFORE,), (feed_forward(),), mixers=_QWEN3_5),
    "qwen3_5_moe_text": Class("Qwen3_5MoeForCausalLM", (BEFORE,), (), _SHARED_EXPERT, _every, mixers=_QWEN3_5),
    "gemma": Class("GemmaForCausalLM", (qkvo("attention_bias"), BEFORE), (feed_forward(),)),
    "gemma2": Class("Gemma2ForCausalLM", (qkvo("attention_bias"), AROUND), (feed_forward(),)),
    "gemma3_text": Class("Gemma3ForCausalLM", (qkvo("attention_bias", extra=qk_norms()), AROUND), (feed_forward(),)),
    "phi3": Class(
        "Phi3ForCausalLM",
        (
            Block("attention", ("self_attn.o_proj.weight: hidden x q", "self_attn.qkv_proj.weight: qkv x hidden")),
            BEFORE,
        ),
        (FUSED,),
    ),
    "phimoe": Class(
        "PhimoeForCausalLM",
        (qkvo("attention_bias"), norms("input_layernorm", "post_attention_layernorm", bias=ALWAYS)),
        (),
        (router("router"), experts()),
        _every,
        norms("norm", bias=ALWAYS),
        "lm_head_bias",
        _LOCAL,
    ),
    "deepseek_v2": Class(
        "DeepseekV2ForCausalLM",
        (LATENT, BEFORE),
        (feed_forward(bias="mlp_bias"),),
        (
            experts(),
            router(),
            feed_forward("mlp.shared_experts", "shared_experts_ffn", "mlp_bias", part="shared experts"),
        ),
        _after_first,
        fields=_ROUTED,
    ),
    "deepseek_v3": Class(
        "DeepseekV3ForCausalLM", (LATENT, BEFORE), (feed_forward(),), _DEEPSEEK_SPARSE, _after_first, fields=_ROUTED
    ),
    "deepseek_v32": Class(
        "DeepseekV32ForCausalLM",
        (LATENT, INDEXER, BEFORE),
        (feed_forward(),),
        _DEEPSEEK_SPARSE,
        _listed_or_after_first,
        fields=_ROUTED,
    ),
    "glm": Class("GlmForCausalLM", (qkvo("attention_bias", ""), BEFORE), (FUSED,)),
    "glm4": Class(
        "Glm4ForCausalLM",
        (
            qkvo("attention_bias", ""),
            norms("input_layernorm", "post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm"),
        ),
        (FUSED,),
    ),
    "glm4_moe": Class(
        "Glm4MoeForCausalLM",
        (qkvo("attention_bias", "", extra=qk_norms(condition="use_qk_norm")), BEFORE),
        (feed_forward(),),
        _GLM_SPARSE,
        _after_first,
        fields=_ROUTED,
    ),
    "glm4_moe_lite": Class(
        "Glm4MoeLiteForCausalLM",
        (LATENT, BEFORE),
        (feed_forward(),),
        _GLM_SPARSE,
        _as_listed,
        fields=_ROUTED,
        ignored=("first_k_dense_replace", "head_dim", "num_key_value_heads"),
    ),
    "gpt_oss": Class(
        "GptOssForCausalLM",
        (qkvo("attention_bias", extra=("self_attn.sinks: heads",)), BEFORE),
        (),
        (
            Block("router", tuple(linear("mlp.router", "experts x hidden", ALWAYS))),
            Block(
                "experts",
                (
                    "mlp.experts.gate_up_proj: experts x hidden x 2*ffn",
                    "mlp.experts.gate_up_proj_bias: experts x 2*ffn",
                    "mlp.experts.down_proj: experts x ffn x hidden",
                    "mlp.experts.down_proj_bias: experts x hidden",
                ),
            ),
        ),
        _every,
        fields=_LOCAL,
    ),
    "minimax_m2": Class(
        "MiniMaxM2ForCausalLM",
        (qkvo(extra=qk_norms("q", "kv")), BEFORE),
        (),
        (correction("e_score_correction_bias"), router(), experts()),
        _every,
        fields=_LOCAL,
    ),
    "hy_v3": Class(
        "HYV3ForCausalLM",
        (qkvo("attention_bias", extra=qk_norms()), BEFORE),
        (feed_forward(bias="mlp_bias"),),
        (
            correction("e_score_correction_bias"),
            router(),
            experts(),
            feed_forward("mlp.shared_experts", "shared_experts_ffn", "mlp_bias", part="shared experts"),
        ),
        _as_listed,
        fields={"shared": "num_shared_experts"},
    ),
    "ernie4_5": Class("Ernie4_5ForCausalLM", (qkvo("use_bias"), BEFORE), (feed_forward(bias="use_bias"),)),
    "ernie4_5_moe": Class(
        "Ernie4_5_MoeForCausalLM",
        (qkvo("use_bias"), BEFORE),
        (feed_forward(bias="use_bias"),),
        (
            router(),
            correction("gate.moe_statics.e_score_correction_bias", "1 x experts"),
            experts(),
            feed_forward(
                "mlp.shared_experts", "shared_experts_ffn", "use_bias", "shared experts", "moe_num_shared_experts"
            ),
        ),
        _between,
        head_bias="use_bias",
        fields={"experts": "moe_num_experts", "shared": "moe_num_shared_experts", "picked": "moe_k"},
    ),
    "olmo": Class("OlmoForCausalLM", (qkvo("attention_bias"),), (feed_forward(),), last_norm=norms()),
    "olmo2": Class("Olmo2ForCausalLM", (qkvo("attention_bias", extra=qk_norms("q", "kv")), AFTER), (feed_forward(),)),
    "olmo3": Class("Olmo3ForCausalLM", (qkvo("attention_bias", extra=qk_norms("q", "kv")), AFTER), (feed_forward(),)),
    "olmoe": Class(
        "OlmoeForCausalLM",
        (qkvo("attention_bias", extra=qk_norms("hidden", "kv")), BEFORE),
        (),
        (router(), experts("ffn")),
        _every,
        fields={"expert_ffn": "intermediate_size"},
    ),
    "cohere": Class(
        "CohereForCausalLM",
        (
            qkvo("attention_bias", extra=qk_norms("heads x head_dim", "kv_heads x head_dim", "use_qk_norm")),
            norms("input_layernorm"),
        ),
        (feed_forward(),),
    ),
    "cohere2": Class(
        "Cohere2ForCausalLM", (qkvo("attention_bias"), norms("input_layernorm")), (feed_forward(),), divides=True
    ),
    "granite": Class("GraniteForCausalLM", (qkvo("attention_bias"), BEFORE), (feed_forward(bias="mlp_bias"),)),
    "exaone4": Class("Exaone4ForCausalLM", (qkvo(extra=qk_norms()), AFTER), (feed_forward(),)),
    "smollm3": Class("SmolLM3ForCausalLM", (qkvo("attention_bias"), BEFORE), (feed_forward(bias="mlp_bias"),)),
    "seed_oss": Class(
        "SeedOssForCausalLM", (qkvo("attention_bias", "attention_out_bias"), BEFORE), (feed_forward(bias="mlp_bias"),)
    ),
    "starcoder2": Class(
        "Starcoder2ForCausalLM",
        (qkvo("use_bias"), norms("input_layernorm", "post_attention_layernorm", bias=ALWAYS)),
        (ungated("c_fc", "c_proj", "use_bias"),),
        last_norm=norms("norm", bias=ALWAYS),
    ),
}
"""Classes by model type."""
CLASSES["kimi_k2"] = CLASSES["deepseek_v3"]._replace(ignored=("num_key_value_heads",))  # published for its class
