"""Tensors counted from a config are those of the class that transformers builds from it, whatever its fields are."""

from __future__ import annotations

import dataclasses

import pytest

from kvcalc.errors import KvcalcError, NotApplicableError
from kvcalc.io.documents import Document
from kvcalc.io.hf_config import parse_hf_config
from kvcalc.io.parameters.classes import CLASSES
from kvcalc.io.parameters.towers import TOWERED

transformers = pytest.importorskip("transformers")
from kvcalc.verify.transformers.inventory import inventory  # noqa: E402

pytestmark = pytest.mark.peers
TYPES = sorted(CLASSES.keys() - {"kimi_k2"})
"""Model types of transformers with a row; kimi_k2 is published for another's class."""
SMALL = {
    **{"num_hidden_layers": 4, "hidden_size": 96, "intermediate_size": 80, "vocab_size": 640, "q_lora_rank": 24},
    **{"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "moe_intermediate_size": 24},
    **{"shared_expert_intermediate_size": 40, "kv_lora_rank": 20, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4},
    **{"v_head_dim": 12, "num_experts": 5, "num_local_experts": 5, "n_routed_experts": 6, "moe_num_experts": 5},
    **{"num_experts_per_tok": 2, "moe_k": 2, "n_group": 1, "topk_group": 1, "pad_token_id": 0, "bos_token_id": 1},
    **{"linear_conv_kernel_dim": 3, "linear_key_head_dim": 8, "linear_value_head_dim": 10, "index_head_dim": 28},
    **{"linear_num_key_heads": 3, "linear_num_value_heads": 6, "index_n_heads": 5, "index_topk": 16},
    **{"eos_token_id": 2, "max_position_embeddings": 512, "layer_types": None, "mlp_layer_types": None},
}
"""Sizes that divide, none of which is another's."""
LATENT = {"deepseek_v32", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "mistral4"}
NOT_VARIED = {"model_type", "num_hidden_layers", "max_position_embeddings", "chunk_size_feed_forward"}
LISTS = {
    "mlp_only_layers": [[1, 3]],
    "mlp_layer_types": [["sparse", "dense", "sparse", "dense"]],
    "tie_word_embeddings": [True, False],
    "head_dim": [None, 32],
    "q_lora_rank": [None],
    "num_key_value_heads": [None, 1],
    "first_k_dense_replace": [0, 2, 4],
    "decoder_sparse_step": [2],
    "moe_layer_interval": [2],
    "moe_layer_end_index": [2],
    "moe_num_shared_experts": [0, 3],
}


def small(model_type):
    """A config of the type whose class has four narrow layers."""
    fields = {field.name for field in dataclasses.fields(transformers.CONFIG_MAPPING[model_type])}
    names = set(transformers.CONFIG_MAPPING[model_type].attribute_map.values())
    values = {name: value for name, value in SMALL.items() if name in fields | names}
    if model_type in LATENT:
        values.pop("head_dim", None)
    return {"model_type": model_type, **values}


def varied(model_type):
    """That config with one field at another value, for each field of the class that is a number or a switch."""
    base = small(model_type)
    yield base
    for field in dataclasses.fields(transformers.CONFIG_MAPPING[model_type]):
        if field.name in NOT_VARIED or field.name.endswith(("_token_id", "token_index")):
            continue
        value = base.get(field.name, field.default)
        if isinstance(value, bool):
            others = [not value]
        elif type(value) is int:
            others = [value * 2]
        else:
            others = []
        for other in [*others, *LISTS.get(field.name, [])]:
            yield {**base, field.name: other}
    if CLASSES[model_type].mixers:
        yield {**base, "full_attention_interval": 2}
        yield {**base, "layer_types": ["full_attention", "linear_attention", "linear_attention", "linear_attention"]}


def counted(config):
    """The tensors counted, and why not."""
    own = parse_hf_config(Document("config.json", config), "own").checkpoint
    return own.inventory, own.not_counted


def rows(tensors):
    return {tensor._replace(dtype="") for tensor in tensors}


def equal_configs(configs):
    """How many of the configs are counted; each of them has the tensors of its class, to the last."""
    equal = 0
    for config in configs:
        try:
            ours, why = counted(config)
        except KvcalcError:  # no such cache
            continue
        if ours is None:
            assert why
            continue
        try:
            built = inventory(config)
        except NotApplicableError:  # no such class
            continue
        assert rows(ours.tensors) == rows(built.tensors), config
        assert ours.experts_per_token == built.experts_per_token, config
        assert built.source.startswith(f"{ours.source.split()[0].rstrip(',')} "), config
        equal += 1
    return equal


@pytest.mark.parametrize("model_type", TYPES)
def test_what_is_counted_is_what_the_class_has(model_type):
    assert equal_configs(varied(model_type)) > 5


TEXT_OF = {
    "gemma3": "gemma3_text",
    "mistral3": "mistral",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
}
"""Text models of classes with a tower."""
TOWER = {
    **{"hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 4, "num_heads": 4},
    **{"depth": 5, "num_channels": 3, "in_channels": 3, "image_size": 56, "patch_size": 14, "out_hidden_size": 96},
    **{"num_position_embeddings": 64, "deepstack_visual_indexes": [1, 2], "vision_use_head": False},
}
OF_TOWER = {
    **{"num_heads": [2], "num_attention_heads": [2], "hidden_size": [96], "image_size": [112], "patch_size": [28]},
    **{"deepstack_visual_indexes": [[], [1]], "spatial_merge_size": [4], "vision_use_head": [True]},
}
OF_WHOLE = {
    **{"tie_word_embeddings": [True, False], "multimodal_projector_bias": [True], "spatial_merge_size": [4]},
    **{"vision_feature_layer": [[-1, -2]], "mm_tokens_per_image": [64]},
}


def with_tower(model_type):
    """Configs of a class with a tower, one field of its tower, of its text model or of itself at another value each."""
    cls = transformers.CONFIG_MAPPING[model_type]
    own = {field.name for field in dataclasses.fields(cls)}
    vision = type(cls().vision_config)
    fields = {field.name for field in dataclasses.fields(vision)}
    base = {
        "model_type": model_type,
        "architectures": [TOWERED[model_type].name],
        "tie_word_embeddings": False,
        "text_config": small(TEXT_OF[model_type]),
        "vision_config": {"model_type": vision.model_type, **{k: v for k, v in TOWER.items() if k in fields}},
    }
    yield base
    yield {key: value for key, value in base.items() if key != "tie_word_embeddings"}
    yield {key: value for key, value in base.items() if key != "architectures"}
    for field, others in OF_TOWER.items():
        for other in others if field in fields else ():
            yield {**base, "vision_config": {**base["vision_config"], field: other}}
    for field, others in OF_WHOLE.items():
        for other in others if field in own else ():
            yield {**base, field: other}
    for field, other in (("attention_bias", True), ("tie_word_embeddings", True), ("hidden_size", 192)):
        yield {**base, "text_config": {**base["text_config"], field: other}}


@pytest.mark.parametrize("model_type", sorted(TOWERED))
def test_towers_are_counted_as_the_class_has_them(model_type):
    assert equal_configs(with_tower(model_type)) > 5
