"""A Hugging Face config.json as a Model: fields and family rules only, none of the model's code.

Each family of model types is one file in `families/`, found by being there; it knows how that family's fields decide
what each layer caches. An unknown model type is refused, never guessed, unless the user says what it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from kvcalc.errors import UnknownArchitectureError, UnknownNameError
from kvcalc.errors.foreign import listed, name_shown
from kvcalc.io import families
from kvcalc.io._published import published
from kvcalc.io._weights_format import weights_format
from kvcalc.io.documents import Document, Keys
from kvcalc.io.families._config import Config, TypeEntry
from kvcalc.io.families._decoder import Decoder
from kvcalc.io.families._names import ARCHITECTURES, NAMED_BY_ARCHITECTURE, entries, mistral_type
from kvcalc.io.families._older import older_configs
from kvcalc.io.fields import Fields
from kvcalc.io.parameters import tensors_of
from kvcalc.io.parameters.widths import widths_of
from kvcalc.io.unread import unread_fields
from kvcalc.model import LayerGroup, Model, group_layers
from kvcalc.model.checkpoint import Checkpoint, Inventory
from kvcalc.units import MAX_COUNT, shown

SECTIONS = (
    *("text_config", "language_config", "llm_config", "decoder", "decoder_config", "generator", "thinker_config"),
    *("vlm_config", "text_model_config", "language_model_config"),
)
"""Sections of the text part in models with several towers, in order of preference."""
_FLAT = ("num_hidden_layers", "hidden_size")
"""Fields that show that the text part of a multi-tower config has no separate section."""
PAIRS = {"encoder-decoder", "vision-encoder-decoder", "speech-encoder-decoder"}
"""Types whose decoder always attends to an encoder, although the class does not say so."""
DECIDING_FIELDS = (
    *("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size", "kv_lora_rank"),
    *("qk_rope_head_dim", "v_head_dim", "multi_query", "layer_types", "sliding_window", "attention_chunk_size"),
    *("linear_attn_config", "index_head_dim", "is_encoder_decoder"),
)
"""Fields that most often decide what a decoder caches, named for unknown families."""
ASSUMED = {"gqa": "llama", "mha": "llama", "mla": "deepseek_v3"}
"""What --assume accepts for an unknown family, and the type as which it is then read."""


def parse_hf_config(document: Document, name: str, *, assume: str | None = None) -> Model:
    """Model of a config.json document, called `name`.

    assume: how to read an unknown type, one of ASSUMED; the model's notes say so. Raises UnknownArchitectureError for a
    model_type that no family knows, InvalidValueError for a bad field.
    """
    if assume is not None:
        check_assumption(assume)
    document = document._replace(data=whole_floats(document.data))
    config, model_type = _decoder_config(document)
    notes: tuple[str, ...] = ()
    if not config.entry.family:
        if assume is None:
            raise _unknown(config)
        config.entry = _entries()[ASSUMED[assume]]._replace(defaults={})
        config.model_type = ASSUMED[assume]
        _check_heads(config, assume)
        notes = (f"assumed: {model_type or 'the model'} was read as plain {assume.upper()}, because --assume said so",)
    read = _family(config.entry.family).decoder
    decoder = read(config)
    longest = config.values.get(config.key("max_position_embeddings"))
    return Model(
        name=name_shown(name),
        groups=_groups(decoder, decoder.layer_names),
        model_type=model_type,
        source=document.name,
        max_model_len=longest if type(longest) is int and longest > 0 else None,
        notes=(*notes, *decoder.notes, *_defaults_used(config), *_not_understood(config)),
        origins={"num_layers": decoder.num_layers_origin},
        draft_groups=_groups(decoder, decoder.drafts, first=len(decoder.layer_names)),
        published=published(config),
        checkpoint=_checkpoint(config, len(decoder.layer_names), assumed=bool(notes)),
        older_readings={
            rule: _groups(older, older.layer_names)
            for rule, older in ((rule, read(values)) for rule, values in older_configs(config).items())
        },
    )


def _checkpoint(config: Config, num_layers: int, *, assumed: bool) -> Checkpoint:
    """What is known of the weights: their format, and their tensors where all fields are understood."""
    form = weights_format(config.top.values, config.values)
    own = Config(config.document, config.path, config.model_type, config.entry, cross=config.cross, top=config.top)
    if assumed:
        return Checkpoint(format=form, not_counted="its family is assumed")
    found = tensors_of(own, num_layers)
    if isinstance(found, Inventory):
        return Checkpoint(format=form, inventory=found, widths=found.widths)
    return Checkpoint(format=form, not_counted=found, widths=widths_of(own))


def _groups(decoder: Decoder, names: tuple[str, ...], first: int = 0) -> tuple[LayerGroup, ...]:
    parts = {group: layer.parts for group, layer in decoder.layers.items()}
    origins = {group: layer.origins for group, layer in decoder.layers.items()}
    return group_layers(names, parts, origins, first=first)


def whole_floats(value: Any) -> Any:
    """The same values, with whole floats as integers: some writers write 64.0, and -0.0 is 0."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= MAX_COUNT else value
    if isinstance(value, Mapping):
        return {key: whole_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole_floats(inner) for inner in value]
    return value


def check_assumption(assume: str) -> None:
    """Raises UnknownNameError for an unknown assumption."""
    if assume not in ASSUMED:
        raise UnknownNameError.among("assumption", assume, ASSUMED)


def _check_heads(config: Config, assume: str) -> None:
    """Multi-head attention does not share KV heads, so a config with fewer of them contradicts it."""
    heads, kv_heads = config.value("num_attention_heads"), config.value("num_key_value_heads")
    if assume == "mha" and kv_heads not in (None, heads):
        raise config.wrong(
            "num_key_value_heads",
            f"--assume mha conflicts with num_key_value_heads ({shown(kv_heads)}), which differs from "
            f"num_attention_heads ({shown(heads)})",
            "pass --assume gqa",
        )


def known_model_types() -> list[str]:
    """Every supported model_type, sorted: decoders, and multi-tower models with one of them."""
    return sorted(_entries())


def family_files() -> dict[str, ModuleType]:
    """Every family by its file name."""
    names = sorted(m.name for m in iter_modules(families.__path__) if not m.name.startswith("_"))
    return {name: import_module(f"{families.__name__}.{name}") for name in names}


@cache
def _family(name: str) -> ModuleType:
    return import_module(f"{families.__name__}.{name}")


@cache
def _entries() -> Mapping[str, TypeEntry]:
    """The entries of all model types."""
    text = Path(__file__).with_name("model_types.json").read_text("utf-8")
    known = {name: TypeEntry(**entry) for name, entry in json.loads(text).items()}
    return {**known, **dict(entries(known))}


def _decoder_config(document: Document) -> tuple[Config, str]:
    """The section of the decoder, as its type reads it, and that type."""
    entries = _entries()
    top = Fields(document)
    path: Keys = ()
    here, model_type = top, _top_type(top)
    cross = False
    while True:
        entry = entries.get(model_type, TypeEntry())
        if entry.family and "text_config" not in here:
            break
        if "text_config" in here:
            here.section("text_config")  # an error is raised later if it is something else
        known = (entry.section, *SECTIONS) if entry.section else SECTIONS
        section = next((name for name in known if isinstance(here.value(name), Mapping)), "")
        if not section and not entry.section:
            break
        if not section and any(field in here for field in _FLAT):  # as Qwen2-VL was published: the text's fields on top
            model_type, entry = entry.section_type, entries[entry.section_type]
            break
        pair = here.boolean("is_encoder_decoder", default=bool(entry.defaults.get("is_encoder_decoder")))
        cross = cross or model_type in PAIRS or pair
        if not section:  # nothing but defaults
            empty = Document(document.name, {}, document.lines)
            inner = entries[entry.section_type]
            return Config(empty, (), entry.section_type, inner, cross=cross, top=top), entry.section_type
        path = (*path, section)
        here = Fields(document, path)
        model_type = here.text("model_type") or entry.section_type
    model_type = entry.like or model_type
    config = Config(document, path, model_type, entry, cross=cross, top=top)
    config.cross = cross or config.boolean("is_encoder_decoder")
    return config, model_type


def _top_type(top: Fields) -> str:
    """The type named by the file; by its architecture if it names none, or the wrong one.

    A params.json of Mistral's own format names neither.
    """
    model_type = top.text("model_type") or mistral_type(top.values)
    if model_type in NAMED_BY_ARCHITECTURE:
        return next((ARCHITECTURES[name] for name in top.texts("architectures") if name in ARCHITECTURES), model_type)
    return model_type


def _defaults_used(config: Config) -> tuple[str, ...]:
    """A note on missing fields whose default decides what is cached."""
    if not config.defaulted:
        return ()
    values = ", ".join(f"{name} {shown(value)}" for name, value in config.defaulted.items())
    return (f"missing in the config, so the defaults of {config.model_type} apply: {values}",)


def _not_understood(config: Config) -> tuple[str, ...]:
    """A note on fields that kvcalc does not read for this type and that may decide what is cached."""
    unused: tuple[str, ...] = _family(config.entry.family).UNUSED
    names = listed(tuple(dict.fromkeys(unread_fields(config, unused, SECTIONS))))
    return (f"fields unknown for {config.model_type}, ignored: {names}",) if names else ()


def _unknown(config: Config) -> UnknownArchitectureError:
    from difflib import get_close_matches

    present = [
        f"{name} {shown(config.values[name])}" for name in DECIDING_FIELDS if config.values.get(name) is not None
    ]
    model_type = config.values.get("model_type") or config.top.value("model_type")
    named = f"unknown model_type {shown(model_type)}" if model_type else "model_type is missing"
    near = get_close_matches(str(model_type), known_model_types(), n=3, cutoff=0.7)
    closest = f"nearest known: {', '.join(near)}; " if near else ""
    return UnknownArchitectureError(
        f"{named}; its cache is decided by {', '.join(present) or 'fields that are missing'}",
        where=config.document.where((*config.path, "model_type") if "model_type" in config.values else config.path),
        help=f"{closest}state its attention with --assume {' or '.join(ASSUMED)}, or write its facts as a preset "
        "(`kvcalc schema preset`) and pass that with --model",
    )
