"""Models whose code is published with their weights, not in transformers, with their own field names.

Source: the configuration_*.py published with each: Qwen-1, ChatGLM and GLM-4-9B, Baichuan, InternLM and InternLM2,
XVERSE, EXAONE 3, Phi-3-small, Nemotron-NAS (DeciLM).
"""

from __future__ import annotations

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.errors import InvalidValueError
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    MLP,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_layer,
    hidden_per_head,
    num_layers,
)
from kvcalc.model import MAX_LAYERS
from kvcalc.units import shown

_PLAIN = (
    "baichuan",
    "internlm",
    "internlm2",
    "xverse",
    "exaone",
    "phi3small",
    "deepseek",
    "aquila",
    "orion",
    "yi",
    "minicpm",
)
MODEL_TYPES = (*_PLAIN, "chatglm", "qwen", "nemotron-nas", "deci")
UNUSED: tuple[str, ...] = ()


def decoder(config: Config) -> Decoder:
    """ChatGLM counts KV heads in groups; Nemotron-NAS configures each layer; the others are plain."""
    if config.model_type == "chatglm":
        layers = config.integer("num_layers", most=MAX_LAYERS)
        return decoder_of(config, [FULL] * layers, _chatglm_layer)._replace(
            num_layers_origin=config.origin("num_layers")
        )
    if config.model_type in ("nemotron-nas", "deci"):
        return _nemotron_nas(config)
    if config.model_type == "exaone" and "num_hidden_layers" not in config:
        config = config.with_values({"num_hidden_layers": config.value("num_layers")})
    return decoder_of(config, [FULL] * num_layers(config), _layer)


def _layer(kind: str, config: Config) -> Layer:
    if "kv_channels" in config:  # Qwen-1
        heads = Facts(config).take("num_query_heads", "num_attention_heads").take("num_kv_heads", "num_attention_heads")
        return heads.take("head_dim", "kv_channels").build(GroupedQueryAttention)
    return gqa_layer(kind, config)


def _chatglm_layer(kind: str, config: Config) -> Layer:
    """multi_query_attention with multi_query_group_num groups, else one KV head per query head."""
    facts = Facts(config).take("num_query_heads", "num_attention_heads")
    grouped = config.boolean("multi_query_attention")
    facts.take("num_kv_heads", "multi_query_group_num" if grouped else "num_attention_heads")
    if "kv_channels" in config:
        return facts.take("head_dim", "kv_channels").build(GroupedQueryAttention)
    facts.put("head_dim", hidden_per_head(config), config.origin("hidden_size"))
    return facts.build(GroupedQueryAttention)


def _nemotron_nas(config: Config) -> Decoder:
    """block_configs: per layer n_heads_in_group query heads per KV head, or no attention."""
    layers = num_layers(config)
    blocks = config.value("block_configs")
    if not isinstance(blocks, list) or len(blocks) != layers:
        raise config.wrong(
            "block_configs",
            f"block_configs must describe {layers} layers (num_hidden_layers), not {shown(blocks)}",
            "write one block per layer",
        )
    kinds = [_block(config, blocks, layer) for layer in range(layers)]
    sizes = {f"kv{heads}": heads for heads in {int(kind[2:]) for kind in kinds if kind != MLP}}

    def layer_of(kind: str, own: Config) -> Layer:
        facts = Facts(own).take("num_query_heads", "num_attention_heads")
        facts.put("num_kv_heads", sizes[kind], own.origin("block_configs"))
        if "head_dim" in own:
            facts.take("head_dim")
        else:
            facts.put("head_dim", hidden_per_head(own), own.origin("hidden_size"))
        return facts.build(GroupedQueryAttention)

    return decoder_of(config, kinds, layer_of)


def _block(config: Config, blocks: list[object], layer: int) -> str:
    """`kv8` for a layer of 8 KV heads, MLP for one without attention."""
    block = blocks[layer]
    attention = block.get("attention") if isinstance(block, dict) else None
    if not isinstance(attention, dict):
        raise _block_error(config, layer, "has no attention section")
    if attention.get("no_op") or attention.get("replace_with_linear"):
        return MLP
    unknown = [name for name in ("window_length", "num_sink_tokens", "sparsify") if attention.get(name)]
    if unknown:
        raise _block_error(config, layer, f"sets {unknown[0]}, whose cache is unknown")
    group, heads = attention.get("n_heads_in_group"), config.integer("num_attention_heads")
    if isinstance(group, bool) or not isinstance(group, int) or group < 1 or heads % group:
        raise _block_error(config, layer, f"has n_heads_in_group {shown(group)}, of {heads} num_attention_heads")
    return f"kv{heads // group}"


def _block_error(config: Config, layer: int, what: str) -> InvalidValueError:
    where = config.document.where((*config.path, "block_configs", layer))
    return InvalidValueError(f"block {layer} {what}", field="block_configs", where=where, help="check the block")
