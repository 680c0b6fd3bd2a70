"""Shared code of families: the kind of each layer, and the facts of a part from a config's fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kvcalc.attention.cross import CrossAttention
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.none import NoCache
from kvcalc.cache.dtypes import DTYPES
from kvcalc.errors import InvalidValueError
from kvcalc.errors.foreign import quoted
from kvcalc.io.families._config import Config
from kvcalc.model import DRAFTS, MAX_LAYERS, Attention, Origin
from kvcalc.units import positive_int, shown

FULL, SLIDING, CHUNKED, REFERENCE = "full", "sliding", "chunked", "reference"
INDEXED, LINEAR, CONV, HYBRID, HYBRID_SLIDING = "indexed", "linear", "conv", "hybrid", "hybrid-sliding"
CSA, HCA, MLP, SHARED, SHARED_SLIDING = "csa", "hca", "mlp", "shared", "shared-sliding"
ALL = "all"
"""Name of the only group of a model with equal layers."""

KIND_OF_LAYER_TYPE = {
    "full_attention": FULL,
    "attention": FULL,
    "sliding_attention": SLIDING,
    "chunked_attention": CHUNKED,
    "reference_sliding_attention": REFERENCE,
    "indexed_attention": INDEXED,
    "deepseek_sparse_attention": INDEXED,
    "qwen_sparse_attention": INDEXED,
    "minimax_m3_sparse": INDEXED,
    "linear_attention": LINEAR,
    "mamba": LINEAR,
    "conv": CONV,
    "hybrid": HYBRID,
    "hybrid_sliding": HYBRID_SLIDING,
    "compressed_sparse_attention": CSA,
    "heavily_compressed_attention": HCA,
    "moe": MLP,
    "mlp": MLP,
}
"""Names of `layer_types`, old and new, as transformers reads them (configuration_utils.py, ALLOWED_LAYER_TYPES)."""
KIND_OF_LETTER = {"F": FULL, "S": SLIDING, "C": CHUNKED, "L": LINEAR, "I": INDEXED, "c": CONV, "-": MLP}
_ROTARY_INTERVAL = 4
REACH_FIELDS = {
    SLIDING: ("sliding_window", "sliding_window"),
    HYBRID_SLIDING: ("sliding_window", "sliding_window"),
    CHUNKED: ("attention_chunk_size", "attention_chunk_size"),
    REFERENCE: ("reference_window", "sliding_window"),
}
"""For each kind of layer with limited reach: the fact, and its field."""


class Layer(NamedTuple):
    """One layer: its parts, and the places of their facts."""

    parts: tuple[Attention, ...]
    origins: Mapping[str, object] = {}

    def __add__(self, other: object) -> Layer:  # a layer and an additional part
        assert isinstance(other, Layer)
        return Layer((*self.parts, *other.parts), {**self.origins, **other.origins})


class Decoder(NamedTuple):
    """Layers as read by a family: the group of each layer, and the groups.

    drafts: names of the groups for multi-token prediction. notes: for the reader.
    """

    layer_names: tuple[str, ...]
    layers: Mapping[str, Layer]
    num_layers_origin: object = ""
    drafts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


NO_CACHE = Layer((NoCache(),))
READS_CACHE = Layer((NoCache(reads_cache=True),))
READS_SLIDING = Layer((NoCache(reads_cache=True, reads_sliding=True),))


class Facts:
    """Keyword arguments for an attention kind, collected field by field, each with its place."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.values: dict[str, object] = {}
        self.origins: dict[str, object] = {}
        self.fields: dict[str, str] = {}

    def put(self, name: str, value: object, origin: object) -> Facts:
        """Sets a fact."""
        self.values[name] = value
        self.origins[name] = origin
        return self

    def take(self, name: str, field: str = "") -> Facts:
        """Sets the fact `name` from a required field (of the same name by default)."""
        field = field or name
        value = self.config.value(field)
        if value is None:
            raise self.config.missing(field)
        self.fields[name] = field
        self.config.note_default(field)
        self.values[name] = value
        self.origins[name] = self.config.origin(field)
        return self

    def take_if_there(self, name: str, field: str = "") -> Facts:
        """Sets the fact `name` if the field exists and is not null."""
        return self.take(name, field) if (field or name) in self.config else self

    def take_dtype(self, name: str, field: str) -> Facts:
        """Sets a fact that is a format, in its short spelling, if the field exists and is not null."""
        if field in self.config:
            self.take(name, field)
            written = str(self.values[name]).lower()
            known = next((dtype.name for dtype in DTYPES if written in (dtype.name, *dtype.aliases)), None)
            self.values[name] = known or self.values[name]
        return self

    def build(self, kind: Callable[..., Attention]) -> Layer:
        """Layer of one part with these facts. Errors name the place of the fact's field."""
        try:
            return Layer((kind(**self.values),), self.origins)
        except InvalidValueError as error:
            raise self._located(error) from None

    def whole(self, name: str) -> int:
        """A fact that others are derived from: a whole number of at least 1. Errors have a place as in `build`."""
        try:
            return positive_int(self.values[name], name)
        except InvalidValueError as error:
            raise self._located(error) from None

    def _located(self, error: InvalidValueError) -> InvalidValueError:
        field = self.fields.get(error.field)
        document, path = self.config.document, self.config.path
        return self.config.located(field, error) if field else error.at(document.where(path))


def num_layers(config: Config) -> int:
    """num_hidden_layers."""
    return config.integer("num_hidden_layers", most=MAX_LAYERS)


def gqa_facts(config: Config, *, own_head_dim: bool = True) -> Facts:
    """Facts of grouped-query attention from the usual fields.

    num_key_value_heads is num_attention_heads if it is null, missing, or not a field of the class; head_dim is
    hidden_size / num_attention_heads, unless the class has (own_head_dim) and the config gives its own.
    """
    facts = Facts(config).take("num_query_heads", "num_attention_heads")
    if config.declares("num_key_value_heads") and "num_key_value_heads" in config:
        facts.take("num_kv_heads", "num_key_value_heads")
    else:
        words = f"{config.key('num_attention_heads')} (no num_key_value_heads)"
        facts.put("num_kv_heads", facts.values["num_query_heads"], config.origin("num_attention_heads", words))
        facts.fields["num_kv_heads"] = "num_attention_heads"
    if own_head_dim and "head_dim" in config:
        return facts.take("head_dim")
    return facts.put("head_dim", hidden_per_head(config), per_head_origin(config))


def only(config: Config, kind: str, *known: str) -> None:
    """Raises InvalidValueError if layer_types has a kind that this family does not have."""
    if kind not in known:
        raise config.wrong(
            "layer_types",
            f"{config.key('layer_types')} names {kind} layers, but {config.model_type} supports {', '.join(known)}",
            "write the model's facts as a preset and pass that with --model",
        )


def per_head_origin(config: Config, heads_field: str = "num_attention_heads") -> Origin:
    """Source of a derived head_dim."""
    return config.origin("hidden_size", f"{config.key('hidden_size')} / {config.key(heads_field)}")


def hidden_per_head(config: Config, heads_field: str = "num_attention_heads") -> int:
    """hidden_size / num_attention_heads. Raises InvalidValueError if it is not a whole number."""
    hidden_size, heads = config.integer("hidden_size"), config.integer(heads_field)
    if hidden_size % heads:
        raise config.wrong(
            "hidden_size",
            f"hidden_size ({hidden_size}) is not a multiple of {heads_field} ({heads}), and there is no head_dim",
            "add head_dim if the model sets it explicitly",
        )
    return hidden_size // heads


def with_reach(facts: Facts, kind: str) -> Facts:
    """`facts` with the reach of a layer of this kind."""
    if kind in REACH_FIELDS:
        facts.take(*REACH_FIELDS[kind])
    return facts


def gqa_layer(kind: str, config: Config, *, own_head_dim: bool = True) -> Layer:
    """Grouped-query attention with the reach of `kind`, and cross-attention if there is an encoder."""
    only(config, kind, FULL, SLIDING, CHUNKED, REFERENCE)
    layer = with_reach(gqa_facts(config, own_head_dim=own_head_dim), kind).build(GroupedQueryAttention)
    return layer + cross_layer(config, layer) if config.cross else layer


def cross_layer(config: Config, layer: Layer) -> Layer:
    """Cross-attention with the KV heads of the layer's own attention."""
    (attention, *_), origins = layer
    facts = Facts(config)
    facts.put("cross_num_kv_heads", getattr(attention, "num_kv_heads"), origins["num_kv_heads"])  # noqa: B009
    facts.put("cross_head_dim", getattr(attention, "head_dim"), origins["head_dim"])  # noqa: B009
    return facts.build(CrossAttention)


def kinds_of(config: Config, default: Callable[[int], Sequence[str]], *, field: str = "layer_types") -> list[str]:
    """Kind of each layer: from `layer_types`, else `default` of the number of layers.

    The last num_kv_shared_layers cache nothing, and read a layer of their own kind. Raises InvalidValueError if
    layer_types has another length or an unknown kind.
    """
    layers = num_layers(config)
    if field in config:
        types = config.texts(field)
        if len(types) != layers:
            raise config.wrong(
                field,
                f"{config.key(field)} has {len(types)} entries, but {config.key('num_hidden_layers')} is {layers}",
                "give one entry per layer",
            )
        kinds = [KIND_OF_LAYER_TYPE.get(name, "") for name in types]
        if "" in kinds:
            raise config.wrong(
                field,
                f"{config.key(field)} names {types[kinds.index('')]!r}; known: {', '.join(KIND_OF_LAYER_TYPE)}",
                "write the model's facts as a preset and pass that with --model",
            )
    else:
        kinds = list(default(layers))
    shared = whole_number_or(config, "num_kv_shared_layers", 0)
    if shared >= layers:
        raise config.wrong(
            "num_kv_shared_layers",
            f"num_kv_shared_layers ({shared}) leaves none of the {layers} layers with a cache to share",
            "use fewer shared layers than num_hidden_layers",
        )
    own = layers - shared
    return kinds[:own] + [SHARED_SLIDING if kind in REACH_FIELDS else SHARED for kind in kinds[own:]]


def whole_number_or(config: Config, name: str, default: int) -> int:
    """A whole number of at least 0, or `default` if missing or null."""
    return 0 if config.value(name) == 0 and config.value(name) is not False else config.integer_or(name, default) or 0


def letters(pattern: str) -> Callable[[int], list[str]]:
    """`SSF`, repeated over the layers, as a default for `kinds_of`."""
    kinds = [KIND_OF_LETTER[letter] for letter in pattern]
    return lambda layers: [kinds[layer % len(kinds)] for layer in range(layers)]


def full_each(period: int, other: str = SLIDING) -> Callable[[int], list[str]]:
    """The last layer of each `period` is full, the others are of another kind."""
    return lambda layers: [FULL if (layer + 1) % period == 0 else other for layer in range(layers)]


def by_reach(config: Config) -> Callable[[int], list[str]]:
    """The kind of all layers if they are equal: sliding if there is a window, chunked if there is a chunk."""
    kind = next((kind for kind in (SLIDING, CHUNKED) if REACH_FIELDS[kind][1] in config), FULL)
    return lambda layers: [kind] * layers


def decoder_of(
    config: Config,
    kinds: Sequence[str],
    layer_of: Callable[[str, Config], Layer],
    *,
    draft: str = "",
    num_drafts: int = 0,
    notes: tuple[str, ...] = (),
) -> Decoder:
    """Decoder of layers of these kinds, each kind built once by `layer_of` from its fields.

    Layers with fields overridden by `per_layer_config` are separate groups. draft: kind of the num_drafts layers for
    multi-token prediction.
    """
    overrides = _overrides(config, len(kinds))
    names: list[str] = list(kinds)
    layers: dict[str, Layer] = {}
    if not overrides:
        layers = {kind: _built(kind, config, layer_of) for kind in dict.fromkeys(kinds)}
    known: dict[tuple[str, str], str] = {}
    for index, kind in enumerate(kinds if overrides else ()):
        own = overrides.get(index, {})
        key = (kind, repr(own))
        if key not in known:
            layer = _built(kind, config.with_values(own) if own else config, layer_of)
            known[key] = _group_name(kind, layer, layers)
            layers[known[key]] = layer
        names[index] = known[key]
    drafts: tuple[str, ...] = ()
    if num_drafts:
        layers[DRAFTS] = layers[draft] if draft in layers and not overrides else _built(draft, config, layer_of)
        drafts = (DRAFTS,) * num_drafts
    if len(layers) == 1 + bool(drafts) and names[0] in (FULL, SLIDING, CHUNKED, LINEAR, HYBRID, INDEXED):
        layers[ALL] = layers.pop(names[0])
        names = [ALL] * len(names)
    return Decoder(tuple(names), layers, config.origin("num_hidden_layers"), drafts, notes)


def _built(kind: str, config: Config, layer_of: Callable[[str, Config], Layer]) -> Layer:
    alike = {MLP: NO_CACHE, SHARED: READS_CACHE, SHARED_SLIDING: READS_SLIDING}
    return alike[kind] if kind in alike else layer_of(kind, config)


def _group_name(kind: str, layer: Layer, layers: Mapping[str, Layer]) -> str:
    """`kind`, with a number if layers of that kind differ; equal layers share a name."""
    name, number = kind, 1
    while name in layers and layers[name].parts != layer.parts:
        number += 1
        name = f"{kind}-{number}"
    return name


def _overrides(config: Config, layers: int) -> dict[int, Mapping[str, object]]:
    """`per_layer_config`: fields of single layers, with numbers or texts such as "02" as keys."""
    if "per_layer_config" not in config:
        return {}
    section = config.section("per_layer_config")
    found: dict[int, Mapping[str, object]] = {}
    for key in section.values:
        if not (key.isascii() and key.isdecimal() and int(key) < layers):
            raise section.wrong(key, f"{quoted(key)} is not a layer of 0 to {layers - 1}", "use layer indices as keys")
        found[int(key)] = section.section(key).values if key in section else {}
    config.overrides += found.values()
    return found


def flags(config: Config, field: str, layers: int) -> list[int]:
    """A list of 0 or 1 for each layer. Raises InvalidValueError for anything else."""
    values = config.value(field)
    if not isinstance(values, list) or len(values) != layers or any(flag not in (0, 1) for flag in values):
        raise config.wrong(
            field,
            f"{field} must be {layers} flags of 0 or 1 (num_hidden_layers), not {shown(values)}",
            "write one flag per layer, or remove the field",
        )
    return list(values)


def rotary_layers(config: Config, layers: int) -> list[int]:
    """For each layer 1 if it has rotary positions, else 0.

    no_rope_layers if the config has it, else each no_rope_layer_interval-th (4th) layer has none.
    """
    if config.value("no_rope_layers"):
        return flags(config, "no_rope_layers", layers)
    interval = config.integer_or("no_rope_layer_interval", _ROTARY_INTERVAL) or _ROTARY_INTERVAL
    return [int((layer + 1) % interval != 0) for layer in range(layers)]
