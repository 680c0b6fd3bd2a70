"""Mamba and Mamba-2, with and without attention: Jamba, Bamba, Granite 4, Falcon-H1, Nemotron-H, Zamba, PLaMo 2.

Source: transformers 5.23 modeling_mamba.py, modeling_mamba2.py and configuration_*.py of each hybrid; MLX-LM 0.32.2
models/plamo2.py.
"""

from __future__ import annotations

from collections.abc import Callable

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.mamba import Mamba
from kvcalc.attention.mamba2 import Mamba2
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    HYBRID,
    LINEAR,
    MLP,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_facts,
    gqa_layer,
    kinds_of,
    letters,
    only,
    whole_number_or,
)
from kvcalc.io.families._drafts import num_drafts
from kvcalc.model import MAX_LAYERS
from kvcalc.units import shown

MODEL_TYPES = (
    *("mamba", "falcon_mamba", "mamba2", "jamba", "bamba", "granitemoehybrid", "falcon_h1", "nemotron_h"),
    *("zamba", "zamba2", "plamo2"),
)
UNUSED = ("mamba_hidden_act", "mtp_layers_block_type")
"""An activation; the blocks of one multi-token-prediction layer, one of which is attention."""
_KIND_OF_LETTER = {"M": LINEAR, "*": FULL, "-": MLP, "E": MLP}
_MOST_EXPANDED = 10_000
_PLAMO_STEP = 2
_ZAMBA2_BLOCKS = "L" + "LLLLLH" * 7 + "LLLLH" + "LLLH" + "LL"


def decoder(config: Config) -> Decoder:
    """Each type has its own fields for which layers are attention, state space, or both."""
    layer_of = _LAYERS[config.model_type]
    if config.model_type == "nemotron_h":
        config, kinds = _nemotron_blocks(config)
        return decoder_of(config, kinds, layer_of, draft=FULL, num_drafts=num_drafts(config))
    return decoder_of(config, _kinds(config), layer_of)


def _kinds(config: Config) -> list[str]:
    if config.model_type in ("zamba", "zamba2"):
        return kinds_of(config, lambda layers: _zamba(config, layers), field="layers_block_type")
    if config.model_type == "granitemoehybrid":
        return kinds_of(config, letters("L"))
    if config.model_type in ("mamba", "falcon_mamba", "mamba2"):
        return kinds_of(config, letters("L"), field="")
    defaults: dict[str, Callable[[int], list[str]]] = {
        "falcon_h1": lambda layers: [HYBRID] * layers,
        "jamba": lambda layers: _each(config, layers, "attn_layer_period", "attn_layer_offset", FULL),
        "bamba": lambda layers: _listed(config, layers),
        "plamo2": lambda layers: _plamo2(config, layers),
    }
    return kinds_of(config, defaults[config.model_type], field="")  # layer_types is computed there, never read


def _each(config: Config, layers: int, period: str, offset: str, kind: str) -> list[str]:
    every, start = config.integer(period), whole_number_or(config, offset, 0)
    return [kind if layer % every == start else LINEAR for layer in range(layers)]


def _listed(config: Config, layers: int) -> list[str]:
    indices = config.value("attn_layer_indices") or []
    if not isinstance(indices, list) or not all(isinstance(i, int) and 0 <= i < layers for i in indices):
        raise config.wrong(
            "attn_layer_indices",
            f"attn_layer_indices must list layers from 0 to {layers - 1}, not {shown(indices)}",
            "count layers from 0",
        )
    return [FULL if layer in indices else LINEAR for layer in range(layers)]


def _plamo2(config: Config, layers: int) -> list[str]:
    """Of each mamba_step (2) layers the one in the middle is attention; for very few layers the last."""
    if not config.boolean("mamba_enabled", default=True):
        return [FULL] * layers
    step = config.integer_or("mamba_step", _PLAMO_STEP) or _PLAMO_STEP
    middle = step // 2
    if layers <= middle:
        return [LINEAR] * (layers - 1) + [FULL]
    return [FULL if layer % step == middle else LINEAR for layer in range(layers)]


def _zamba(config: Config, layers: int) -> list[str]:
    if config.model_type == "zamba2":
        return [HYBRID if letter == "H" else LINEAR for letter in _ZAMBA2_BLOCKS[:layers].ljust(layers, "L")]
    start = [LINEAR, LINEAR, HYBRID]
    return [*start, *_each(config, max(layers - len(start), 0), "attn_layer_period", "attn_layer_offset", HYBRID)][
        :layers
    ]


def _nemotron_blocks(config: Config) -> tuple[Config, list[str]]:
    """layers_block_type, or hybrid_override_pattern (M Mamba, * attention, - MLP, E experts); it numbers the layers."""
    if "hybrid_override_pattern" in config and not config.given("layers_block_type"):
        pattern = config.text("hybrid_override_pattern")
        if not pattern or not {*pattern} <= {*_KIND_OF_LETTER} or len(pattern) > MAX_LAYERS:
            raise config.wrong(
                "hybrid_override_pattern",
                f"hybrid_override_pattern must be letters of M, *, - and E, not {shown(pattern)}",
                "write one letter per layer",
            )
        return config, [_KIND_OF_LETTER[letter] for letter in pattern]
    types = config.texts("layers_block_type")
    if not types:
        types = ["mamba", "moe", "attention", "mlp"]
    return config.with_values({"num_hidden_layers": len(types), "layers_block_type": types}), kinds_of(
        config.with_values({"num_hidden_layers": len(types), "layers_block_type": types}),
        letters("L"),
        field="layers_block_type",
    )


def _mamba_layer(kind: str, config: Config) -> Layer:
    """mamba, falcon_mamba: inner channels are intermediate_size, or expand * hidden_size."""
    facts = Facts(config)
    if config.given("intermediate_size"):
        facts.take("mamba_intermediate_size", "intermediate_size")
    else:
        _expanded(facts, config, "expand")
    return facts.take("mamba_state_size", "state_size").take("mamba_conv_kernel", "conv_kernel").build(Mamba)


def _mamba2_layer(kind: str, config: Config) -> Layer:
    facts = Facts(config).take("mamba_num_heads", "num_heads").take("mamba_head_dim", "head_dim")
    facts.take("mamba_num_groups", "n_groups").take("mamba_state_size", "state_size")
    _expanded(facts.take("mamba_conv_kernel", "conv_kernel"), config, "expand")
    return facts.build(Mamba2)


def _jamba_layer(kind: str, config: Config) -> Layer:
    if kind != LINEAR:
        return gqa_layer(kind, config)
    return (
        _expanded(Facts(config), config, "mamba_expand")
        .take("mamba_state_size", "mamba_d_state")
        .take("mamba_conv_kernel", "mamba_d_conv")
        .build(Mamba)
    )


def _bamba_layer(kind: str, config: Config) -> Layer:
    """bamba, granitemoehybrid, falcon_h1: Mamba-2 and attention, in turn or (hybrid) side by side."""
    if kind not in (LINEAR, HYBRID):
        return gqa_layer(kind, config)
    facts = Facts(config).take("mamba_num_heads", "mamba_n_heads")
    if config.value("mamba_d_ssm") is not None and config.model_type == "falcon_h1":
        facts.take("mamba_intermediate_size", "mamba_d_ssm")
    else:
        _expanded(facts, config, "mamba_expand")
    if config.value("mamba_d_head") in (None, "auto"):
        head_dim = facts.whole("mamba_intermediate_size") // facts.whole("mamba_num_heads")
        facts.put("mamba_head_dim", head_dim, facts.origins["mamba_intermediate_size"])
    else:
        facts.take("mamba_head_dim", "mamba_d_head")
    facts.take("mamba_num_groups", "mamba_n_groups").take("mamba_state_size", "mamba_d_state")
    layer = facts.take("mamba_conv_kernel", "mamba_d_conv").build(Mamba2)
    return gqa_layer(FULL, config) + layer if kind == HYBRID else layer


def _nemotron_layer(kind: str, config: Config) -> Layer:
    if kind != LINEAR:
        if config.given("attention_head_dim") and not config.given("head_dim"):  # as first published
            config = config.with_values({"head_dim": config.value("attention_head_dim")})
        return gqa_layer(kind, config)
    facts = Facts(config).take("mamba_num_heads").take("mamba_head_dim")
    facts.take("mamba_num_groups", "mamba_n_groups" if config.given("mamba_n_groups") else "n_groups")
    facts.take("mamba_state_size", "ssm_state_size")
    facts.take("mamba_conv_kernel", "mamba_d_conv" if config.given("mamba_d_conv") else "conv_kernel")
    return facts.take_dtype("state_dtype", "mamba_ssm_cache_dtype").build(Mamba2)


def _plamo2_layer(kind: str, config: Config) -> Layer:
    """Heads of hidden_size_per_head in both kinds; the convolution covers only the inner channels."""
    if kind != LINEAR:
        heads = Facts(config).take("num_query_heads", "num_attention_heads").take("num_kv_heads", "num_key_value_heads")
        return heads.take("head_dim", "hidden_size_per_head").build(GroupedQueryAttention)
    channels = config.integer("mamba_num_heads") * config.integer("hidden_size_per_head")
    facts = Facts(config).put("mamba_intermediate_size", channels, config.origin("mamba_num_heads"))
    return facts.take("mamba_state_size", "mamba_d_state").take("mamba_conv_kernel", "mamba_d_conv").build(Mamba)


def _zamba_layer(kind: str, config: Config) -> Layer:
    only(config, kind, LINEAR, HYBRID)
    facts = _expanded(Facts(config), config, "mamba_expand")
    facts.take("mamba_state_size", "mamba_d_state").take("mamba_conv_kernel", "mamba_d_conv")
    layer = facts.build(Mamba)
    return _shared_attention(config) + layer if kind == HYBRID else layer


def _zamba2_layer(kind: str, config: Config) -> Layer:
    only(config, kind, LINEAR, HYBRID)
    facts = _expanded(Facts(config), config, "mamba_expand").take("mamba_num_heads", "n_mamba_heads")
    head_dim = facts.whole("mamba_intermediate_size") // config.integer("n_mamba_heads")
    facts.put("mamba_head_dim", head_dim, facts.origins["mamba_intermediate_size"])
    facts.take("mamba_num_groups", "mamba_ngroups").take("mamba_state_size", "mamba_d_state")
    layer = facts.take("mamba_conv_kernel", "mamba_d_conv").build(Mamba2)
    return _shared_attention(config) + layer if kind == HYBRID else layer


def _shared_attention(config: Config) -> Layer:
    """Zamba's attention reads two inputs side by side: heads are twice as wide as hidden_size / heads."""
    facts = gqa_facts(config, own_head_dim=False)
    if config.model_type == "zamba" and "attention_head_dim" in config:
        facts.take("head_dim", "attention_head_dim")
    else:
        heads = config.integer("num_attention_heads")
        facts.put("head_dim", 2 * config.integer("hidden_size") // heads, config.origin("hidden_size"))
    return facts.build(GroupedQueryAttention)


def _expanded(facts: Facts, config: Config, field: str) -> Facts:
    """Inner channels: expand * hidden_size."""
    inner = config.integer(field, most=_MOST_EXPANDED) * config.integer("hidden_size")
    return facts.put("mamba_intermediate_size", inner, config.origin("hidden_size"))


_LAYERS: dict[str, Callable[[str, Config], Layer]] = {
    "mamba": _mamba_layer,
    "falcon_mamba": _mamba_layer,
    "mamba2": _mamba2_layer,
    "jamba": _jamba_layer,
    "bamba": _bamba_layer,
    "granitemoehybrid": _bamba_layer,
    "falcon_h1": _bamba_layer,
    "nemotron_h": _nemotron_layer,
    "zamba": _zamba_layer,
    "zamba2": _zamba2_layer,
    "plamo2": _plamo2_layer,
}
