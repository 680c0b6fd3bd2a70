"""A Hugging Face config.json as a Model: fields and family rules only, none of the model's code.

Each family of model types is one file in `families/`, found by being there; it knows how that family's fields decide
what each layer caches. A model type that no family knows is refused, never guessed.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from kvcalc.errors import UnknownArchitectureError
from kvcalc.io import families
from kvcalc.io.documents import Document
from kvcalc.io.fields import Fields
from kvcalc.model import Model, group_layers
from kvcalc.units import shown

DECIDING_FIELDS = (
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_size",
    "kv_lora_rank",
    "qk_rope_head_dim",
    "v_head_dim",
    "multi_query",
    "layer_types",
    "sliding_window",
    "attention_chunk_size",
    "linear_attn_config",
    "index_head_dim",
    "is_encoder_decoder",
)
"""Fields that most often decide what a decoder caches, named when a family is not known."""


def parse_hf_config(document: Document, name: str) -> Model:
    """Model of a config.json document, called `name`.

    Raises UnknownArchitectureError for a model_type that no family knows, InvalidValueError for a bad field.
    """
    top = Fields(document)
    config = top.section("text_config") if "text_config" in top else top
    model_type = config.text("model_type") or top.text("model_type")
    family = _family_of(model_type)
    if family is None:
        raise _unknown(top, config)
    decoder = family.decoder(config, model_type)
    return Model(
        name=name,
        groups=group_layers(decoder.layer_names, decoder.attention, decoder.origins),
        model_type=top.text("model_type"),
        source=document.name,
        max_model_len=config.integer_or("max_position_embeddings", None),
        origins={"num_layers": config.origin(decoder.num_layers_field)},
    )


def known_model_types() -> list[str]:
    """Every model_type that a family reads, sorted."""
    return sorted(model_type for family in _families() for model_type in family.MODEL_TYPES)


def _families() -> list[ModuleType]:
    names = sorted(m.name for m in iter_modules(families.__path__) if not m.name.startswith("_"))
    return [import_module(f"{families.__name__}.{name}") for name in names]


def _family_of(model_type: str) -> ModuleType | None:
    return next((family for family in _families() if model_type in family.MODEL_TYPES), None)


def _unknown(top: Fields, config: Fields) -> UnknownArchitectureError:
    from difflib import get_close_matches

    present = [f"{name} {shown(config.values[name])}" for name in DECIDING_FIELDS if name in config]
    model_type = config.values.get("model_type", top.values.get("model_type"))
    named = (
        f"model_type {shown(model_type)} is not a family that kvcalc knows" if model_type else "model_type is missing"
    )
    near = get_close_matches(str(model_type), known_model_types(), n=3, cutoff=0.7)
    closest = f"nearest known: {', '.join(near)}; " if near else ""
    return UnknownArchitectureError(
        f"{named}; its cache is decided by {', '.join(present) or 'fields that are not there'}",
        where=config.document.where((*config.path, "model_type") if "model_type" in config else config.path),
        help=f"{closest}write its facts as a preset (`kvcalc schema preset`) and pass that with --model",
    )
