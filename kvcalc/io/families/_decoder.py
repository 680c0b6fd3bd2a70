"""What the families share: which layer is of which kind, and the facts of a kind from a config's fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.errors import InvalidValueError
from kvcalc.io.fields import Fields
from kvcalc.model import MAX_LAYERS, Attention, repeated

FULL, SLIDING, CHUNKED = "full", "sliding", "chunked"
ALL = "all"
"""Name of the only group of a model whose layers are all alike."""

_LAYER_TYPES = {"full_attention": FULL, "sliding_attention": SLIDING, "chunked_attention": CHUNKED}
_REACH_FIELDS = {FULL: "", SLIDING: "sliding_window", CHUNKED: "attention_chunk_size"}


@dataclass(frozen=True)
class Decoder:
    """Layers as a family read them: the name of each layer's group, and each group's facts and their origins."""

    layer_names: tuple[str, ...]
    attention: dict[str, Attention]
    origins: dict[str, dict[str, str]]
    num_layers_field: str = "num_hidden_layers"


class Facts:
    """Keyword arguments for an attention kind, gathered field by field, each with where it stands."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.fields: dict[str, str] = {}

    def put(self, name: str, value: Any, origin: str) -> None:
        """Sets a fact."""
        self.values[name] = value
        self.origins[name] = origin

    def take(self, config: Fields, name: str, field: str) -> None:
        """Sets the fact `name` from a field of the config that must be there."""
        self.put(name, config.integer(field), config.origin(field))
        self.fields[name] = field

    def build(self, kind: type[Attention], config: Fields) -> Attention:
        """Attention of these facts. Errors are located at the field that the fact came from."""
        try:
            return kind(**self.values)
        except InvalidValueError as error:
            field = self.fields.get(error.field)
            raise (config.located(field, error) if field else error.at(config.document.where(config.path))) from None


def num_layers(config: Fields) -> int:
    """num_hidden_layers."""
    return config.integer("num_hidden_layers", most=MAX_LAYERS)


def gqa_facts(config: Fields) -> Facts:
    """Facts of grouped-query attention from the usual fields.

    num_key_value_heads is num_attention_heads where it is missing, head_dim is hidden_size / num_attention_heads.
    Raises InvalidValueError where that does not divide.
    """
    found = Facts()
    found.take(config, "num_query_heads", "num_attention_heads")
    if "num_key_value_heads" in config:
        found.take(config, "num_kv_heads", "num_key_value_heads")
    else:
        heads = found.values["num_query_heads"]
        found.put("num_kv_heads", heads, f"{config.origin('num_attention_heads')} (no num_key_value_heads)")
    put_head_dim(found, config)
    return found


def put_head_dim(found: Facts, config: Fields) -> None:
    """head_dim as it stands, or hidden_size / num_attention_heads."""
    if "head_dim" in config:
        found.take(config, "head_dim", "head_dim")
        return
    hidden_size, heads = config.integer("hidden_size"), found.values["num_query_heads"]
    if hidden_size % heads:
        raise config.wrong(
            "hidden_size",
            f"hidden_size ({hidden_size}) is not a multiple of num_attention_heads ({heads}), and there is no head_dim",
            "add head_dim if the model has one of its own",
        )
    found.put("head_dim", hidden_size // heads, f"{config.origin('hidden_size')} / num_attention_heads")


def layer_kinds(config: Fields, default: Sequence[str]) -> tuple[str, ...]:
    """full, sliding or chunked for each layer: `layer_types` where the config has it, else `default`, repeated.

    Raises InvalidValueError where layer_types has another length or names a kind that is none of these.
    """
    layers = num_layers(config)
    types = config.texts("layer_types")
    if not types:
        return repeated(list(default), layers)
    if len(types) != layers:
        raise config.wrong(
            "layer_types",
            f"layer_types has {len(types)} entries and num_hidden_layers is {layers}",
            "name each layer once",
        )
    unknown = next((name for name in types if name not in _LAYER_TYPES), None)
    if unknown is not None:
        raise config.wrong(
            "layer_types",
            f"layer_types names {unknown!r}; this family has {', '.join(_LAYER_TYPES)}",
            "write the model's facts as a preset and pass that with --model",
        )
    return tuple(_LAYER_TYPES[name] for name in types)


def reach_by_rule(config: Fields) -> str:
    """What every layer is where nothing tells them apart: sliding if there is a window, chunked if there is a chunk."""
    return next((kind for kind in (SLIDING, CHUNKED) if _REACH_FIELDS[kind] in config), FULL)


def decoder_of(config: Fields, facts: Facts, kind: type[Attention], names: tuple[str, ...]) -> Decoder:
    """Decoder whose layers differ only in how far back they look."""
    distinct = tuple(dict.fromkeys(names))
    attention: dict[str, Attention] = {}
    origins: dict[str, dict[str, str]] = {}
    for name in distinct:
        own = Facts()
        own.values, own.origins, own.fields = dict(facts.values), dict(facts.origins), dict(facts.fields)
        if field := _REACH_FIELDS[name]:
            own.take(config, field, field)
        attention[name], origins[name] = own.build(kind, config), own.origins
    if len(distinct) == 1:
        only = distinct[0]
        return Decoder((ALL,) * len(names), {ALL: attention[only]}, {ALL: origins[only]})
    return Decoder(names, attention, origins)


def gqa_decoder(config: Fields, default: Sequence[str]) -> Decoder:
    """Decoder of grouped-query layers that are full, sliding or chunked."""
    return decoder_of(config, gqa_facts(config), GroupedQueryAttention, layer_kinds(config, default))
