"""Classes with a tower for images: what stands in front of the text model, one row each, by model type.

Source: transformers 5.24.0, modeling_*.py of each type and of its vision model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kvcalc.io.parameters._facts import Derived
from kvcalc.io.parameters._layers import ALWAYS, linear
from kvcalc.io.parameters.classes import CLASSES

NO_SIZES: Derived = {}


class Towered(NamedTuple):
    """Tensors of a class in addition to its text model's.

    texts, towers: model types of both. tower, layers: tensors of the tower and of each of its layers; listed: of each
    entry of a field that is a list. projector: tensors between tower and text, by fields of the config itself, where
    `tower` and `text` are the widths of both. fields, derived: sizes of the tower; defaults, own_defaults: of its class
    and of the class itself. refused: a switch of the tower that must be off.
    has_text_class: whether the same model type has a class without a tower.
    """

    name: str
    texts: tuple[str, ...]
    towers: tuple[str, ...]
    tower: tuple[str, ...]
    layers: tuple[str, ...]
    defaults: Mapping[str, object]
    own_defaults: Mapping[str, object]
    projector: tuple[str, ...] = ()
    listed: tuple[str, tuple[str, ...]] = ("", ())
    fields: Mapping[str, str] = {}
    derived: Derived = NO_SIZES
    refused: str = ""
    has_text_class: bool = False


def _each(*parts: tuple[str, str] | tuple[str, str, str]) -> tuple[str, ...]:
    """Weights and biases by name and shape; biases are always there unless a third word says otherwise."""
    return tuple(text for name, shape, *bias in parts for text in linear(name, shape, bias[0] if bias else ALWAYS))


_SIGLIP = "vision_tower.encoder.layers"
_PIXTRAL = "vision_tower.transformer.layers"
_SQUARE = "hidden x hidden"


def _qwen3(name: str, texts: tuple[str, ...], tower: str, *, tied: bool, deep: bool = True) -> Towered:
    """Qwen3-VL and its successors. deep: whether outputs of inner layers go to the text model, too."""
    merger = (("linear_fc1", "merged x merged"), ("linear_fc2", "out x merged"))
    listed = _each(("visual.deepstack_merger_list.norm", "merged"))
    listed += _each(*((f"visual.deepstack_merger_list.{part}", shape) for part, shape in merger))
    return Towered(
        name,
        texts,
        (tower, tower.removesuffix("_vision")),
        (
            *_each(("visual.patch_embed.proj", "hidden x channels x time x patch x patch")),
            "visual.pos_embed.weight: positions x hidden",
            *_each(("visual.merger.norm", "hidden")),
            *_each(*((f"visual.merger.{part}", shape) for part, shape in merger)),
        ),
        _each(
            ("visual.blocks.norm1", "hidden"),
            ("visual.blocks.norm2", "hidden"),
            ("visual.blocks.attn.qkv", "3*hidden x hidden"),
            ("visual.blocks.attn.proj", _SQUARE),
            ("visual.blocks.mlp.linear_fc1", "ffn x hidden"),
            ("visual.blocks.mlp.linear_fc2", "hidden x ffn"),
        ),
        defaults={
            **{"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "in_channels": 3, "patch_size": 16},
            **{"spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 2304, "num_heads": 16},
            **{"out_hidden_size": 3584, **({"deepstack_visual_indexes": [8, 16, 24]} if deep else {})},
        },
        own_defaults={"tie_word_embeddings": tied},
        listed=("deepstack_visual_indexes", listed) if deep else ("", ()),
        has_text_class=not deep,
        fields={
            **{"layers": "depth", "channels": "in_channels", "patch": "patch_size", "time": "temporal_patch_size"},
            **{"positions": "num_position_embeddings", "merge": "spatial_merge_size", "out": "out_hidden_size"},
        },
        derived={"merged": lambda size: size("hidden") * size("merge") ** 2},
    )


TOWERED = {
    "gemma3": Towered(
        "Gemma3ForConditionalGeneration",
        ("gemma3_text",),
        ("siglip_vision_model",),
        (
            *_each(("vision_tower.embeddings.patch_embedding", "hidden x channels x patch x patch")),
            "vision_tower.embeddings.position_embedding.weight: positions x hidden",
            *_each(("vision_tower.post_layernorm", "hidden")),
        ),
        _each(
            *((f"{_SIGLIP}.layer_norm{number}", "hidden") for number in (1, 2)),
            *((f"{_SIGLIP}.self_attn.{part}", _SQUARE) for part in ("k_proj", "v_proj", "q_proj", "out_proj")),
            (f"{_SIGLIP}.mlp.fc1", "ffn x hidden"),
            (f"{_SIGLIP}.mlp.fc2", "hidden x ffn"),
        ),
        defaults={
            **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
            **{"num_channels": 3, "image_size": 224, "patch_size": 16, "vision_use_head": True},
        },
        own_defaults={"tie_word_embeddings": True, "mm_tokens_per_image": 256},
        projector=(
            "multi_modal_projector.mm_input_projection_weight: tower x text",
            "multi_modal_projector.mm_soft_emb_norm.weight: tower",
        ),
        fields={"channels": "num_channels", "patch": "patch_size", "image": "image_size"},
        derived={"positions": lambda size: (size("image") // size("patch")) ** 2},
        refused="vision_use_head",
    ),
    "mistral3": Towered(
        "Mistral3ForConditionalGeneration",
        ("mistral", "ministral3"),
        ("pixtral",),
        ("vision_tower.patch_conv.weight: hidden x channels x patch x patch", "vision_tower.ln_pre.weight: hidden"),
        _each(
            (f"{_PIXTRAL}.attention_norm", "hidden", ""),
            (f"{_PIXTRAL}.ffn_norm", "hidden", ""),
            *((f"{_PIXTRAL}.feed_forward.{part}", "ffn x hidden", "") for part in ("gate_proj", "up_proj")),
            (f"{_PIXTRAL}.feed_forward.down_proj", "hidden x ffn", ""),
            *((f"{_PIXTRAL}.attention.{part}", _SQUARE, "") for part in ("k_proj", "v_proj", "q_proj", "o_proj")),
        ),
        defaults={
            **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
            **{"num_channels": 3, "image_size": 1024, "patch_size": 16, "head_dim": None},
        },
        own_defaults={
            **{"multimodal_projector_bias": False, "spatial_merge_size": 2, "vision_feature_layer": -1},
            **{"projector_hidden_act": "gelu"},
        },
        projector=(
            "multi_modal_projector.norm.weight: tower",
            "multi_modal_projector.patch_merger.merging_layer.weight: tower x merge*merge*tower",
            *linear("multi_modal_projector.linear_1", "text x tower", "multimodal_projector_bias"),
            *linear("multi_modal_projector.linear_2", "text x text", "multimodal_projector_bias"),
        ),
        fields={"channels": "num_channels", "patch": "patch_size", "merge": "spatial_merge_size"},
    ),
    "qwen3_vl": _qwen3("Qwen3VLForConditionalGeneration", ("qwen3_vl_text",), "qwen3_vl_vision", tied=False),
    "qwen3_vl_moe": _qwen3(
        "Qwen3VLMoeForConditionalGeneration", ("qwen3_vl_moe_text",), "qwen3_vl_moe_vision", tied=False
    ),
    "qwen3_5": _qwen3("Qwen3_5ForConditionalGeneration", ("qwen3_5_text",), "qwen3_5_vision", deep=False, tied=False),
    "qwen3_5_moe": _qwen3(
        "Qwen3_5MoeForConditionalGeneration", ("qwen3_5_moe_text",), "qwen3_5_moe_vision", deep=False, tied=False
    ),
}
"""Classes with a tower, by model type."""
TEXTS = {"qwen3_vl_text": CLASSES["qwen3"], "qwen3_vl_moe_text": CLASSES["qwen3_moe"]}
"""Text models of classes with a tower that are no class of their own, with the row of the class like which they are."""
