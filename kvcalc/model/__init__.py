"""A model, as far as it concerns the cache: groups of equal layers, each owning named cache tensors.

A layer is made of parts, most often one: gqa; mla and an indexer; gqa and a parallel Mamba. Its tensors are those of
its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

from kvcalc.cache.tensor import CacheTensor, Rounding
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model.checkpoint import Checkpoint
from kvcalc.units import plural, positive_int

MAX_LAYERS = 10_000
"""Most plausible layers; the deepest published decoders have a few hundred."""


DRAFTS, DRAFT = "mtp", "draft"
"""Name of a group of multi-token-prediction layers, and prefix for those of another model."""


class Attention(Protocol):
    """Interface of every attention kind: its facts are its dataclass fields."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def label(self) -> str:
        """Short usual name, such as GQA-8."""
        ...

    @property
    def shared_facts(self) -> dict[str, int]:
        """What tensor parallelism splits, or copies where it cannot be split further."""
        ...

    @property
    def HAS_KV_CHANNELS(self) -> bool:  # noqa: N802  # a constant of the kind
        """Whether the part that tensor parallelism splits also has channels of the layer's KV heads."""
        ...

    @property
    def ROUNDED(self) -> tuple[str, ...]:  # noqa: N802  # a constant of the kind
        """Facts that some engines round if ranks do not divide them."""
        ...

    def tensors(self) -> tuple[CacheTensor, ...]:
        """What one layer caches for one sequence."""
        ...

    def shard(self, tp: int, rounding: Rounding = "even") -> Attention:
        """The part of one of `tp` tensor-parallel ranks. Raises InvalidValueError if it cannot be divided."""
        ...

    def can_shard(self, tp: int, rounding: Rounding = "even") -> bool:
        """Whether `tp` ranks can divide it."""
        ...

    def copies(self, tp: int) -> bool:
        """Whether several ranks hold the same heads or groups of it."""
        ...


class Origin(NamedTuple):
    """Source of a fact: `place` finds the line of `path` on demand, `words` describe the value there."""

    place: Callable[[tuple[str | int, ...]], str]
    path: tuple[str | int, ...]
    words: str

    def __str__(self) -> str:
        return f"{self.place(self.path)} {self.words}"


def sent(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields as sent to another process: read-only mappings as plain ones."""
    return {name: dict(value) if isinstance(value, MappingProxyType) else value for name, value in fields.items()}


@dataclass(frozen=True)
class LayerGroup:
    """Equal layers.

    name: unique in its model, such as full or sliding.
    layers: their indices, ascending.
    parts: of each layer, with their facts.
    tensors: cached by each (methods may change these, never the facts).
    uncut: cached by each before a method cuts the prompt; empty without such a method.
    origins: for each fact, where it was read, such as `presets/llama-3-70b.yaml:12`.
    """

    name: str
    layers: tuple[int, ...]
    parts: tuple[Attention, ...]
    tensors: tuple[CacheTensor, ...]
    origins: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    uncut: tuple[CacheTensor, ...] = ()

    def __getstate__(self) -> dict[str, object]:
        return sent(vars(self))

    @classmethod
    def of(
        cls,
        name: str,
        layers: Iterable[int],
        parts: Attention | Sequence[Attention],
        origins: Mapping[str, object] | None = None,
    ) -> LayerGroup:
        """Group whose tensors are those of its parts."""
        several = tuple(parts) if isinstance(parts, Sequence) else (parts,)
        return cls(name, tuple(layers), several, _tensors_of(several), origins or {})

    @property
    def drafts(self) -> bool:
        """Whether these are draft layers, of the model itself (multi-token prediction) or another."""
        return self.name == DRAFTS or self.name.startswith(f"{DRAFT} ")

    @property
    def own_tensors(self) -> tuple[CacheTensor, ...]:
        """Tensors of each layer before any method."""
        return _tensors_of(self.parts)

    @property
    def is_as_built(self) -> bool:
        """Whether no method changed these layers."""
        return self.tensors == self.own_tensors

    @property
    def label(self) -> str:
        """Short name of its layers' attention, such as `MLA 512+64 + indexer 128`."""
        return " + ".join(part.label for part in self.parts)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of all parts that are set, by name."""
        return {name: value for part in self.parts for name, value in facts(part).items()}


def _tensors_of(parts: Iterable[Attention]) -> tuple[CacheTensor, ...]:
    return tuple(tensor for part in parts for tensor in part.tensors())


class PromptCut(NamedTuple):
    """When a method cuts a fully cached prompt.

    layer_by_layer: each layer's right after its attention; otherwise all of them after the last layer.
    prompt_tokens: where the prompt ends; None: all cached tokens are the prompt.
    scoring_queries: number of the prompt's last tokens whose attention is recomputed for the selection; None if that of
    all tokens is needed, 0 if none.
    """

    layer_by_layer: bool
    prompt_tokens: int | None = None
    scoring_queries: int | None = 0


MethodArguments = Mapping[str, Any]
"""Arguments of a method by name, typed as in the method."""


class Applied(NamedTuple):
    """A method applied to a model. arguments: all of them, by name, including defaults."""

    name: str
    arguments: MethodArguments


class Vision(NamedTuple):
    """An image encoder of a decoder. num_layers, hidden_size: None if the config does not give them."""

    num_layers: int | None = None
    hidden_size: int | None = None


class Published(NamedTuple):
    """Facts of a config that do not decide the cache themselves, but are read by engines.

    model_type: of the whole model, which may have several towers.
    dtype: of the published weights, such as bfloat16.
    kv_dtype: cache format requested by the checkpoint, in its own spelling.
    longest_tokens: the smallest of its lengths, before `rope_factor` scales it. lengths: all of them, by field.
    rope_type, rope_factor: position scaling.
    original_tokens: longest training sequence before position scaling.
    sees_images_whole: whether tokens of an image see each other in both directions.
    state_dtype: format of recurrent states in the config itself, not the class's default.
    vision: the image encoder, if any. encoder_layers: of an encoder that layers cross-attend to.
    vocab_size: logits of a token. index_topk: tokens, or compressed entries, that an indexer selects for a query.
    """

    model_type: str = ""
    dtype: str = ""
    kv_dtype: str = ""
    longest_tokens: int | None = None
    lengths: tuple[tuple[str, int], ...] = ()
    rope_type: str = ""
    rope_factor: int | float = 1
    original_tokens: int | None = None
    sees_images_whole: bool = False
    state_dtype: str = ""
    vision: Vision | None = None
    encoder_layers: int = 0
    vocab_size: int | None = None
    index_topk: int | None = None


@dataclass(frozen=True)
class Model:
    """Groups of layers, with their origin.

    model_type: that of the decoder, for a model of several towers.
    source: publication of the facts, or the file they were read from.
    max_model_len: the model's context, if its config gives it.
    notes: for the reader, such as dimensions assumed by a what-if; part of every output.
    draft_groups: draft layers (multi-token prediction), numbered after the last layer, and not part of the model before
    `with_draft_layers`. drafter: their model, if it is another.
    prompt_cut: when a method cuts the prompt, if any does.
    methods: applied to the model, in order.
    published: facts of its config besides the cache, for engines.
    older_readings: groups of the same config as read by older versions of an engine, by version rule
    (`engines/*/versions.py`). weights_bytes, weights_source: of the whole published checkpoint, and the source.
    checkpoint: the weights of its name. Raises InvalidValueError if a layer is in two groups or missing.
    """

    name: str
    groups: tuple[LayerGroup, ...]
    model_type: str = ""
    source: str = ""
    max_model_len: int | None = None
    notes: tuple[str, ...] = ()
    origins: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    draft_groups: tuple[LayerGroup, ...] = ()
    drafter: Model | None = None
    prompt_cut: PromptCut | None = None
    methods: tuple[Applied, ...] = ()
    published: Published = field(default=Published(), compare=False)
    older_readings: Mapping[str, tuple[LayerGroup, ...]] = field(
        default_factory=lambda: MappingProxyType({}), compare=False
    )
    weights_bytes: int | None = None
    weights_source: str = ""
    checkpoint: Checkpoint = field(default=Checkpoint(), compare=False, repr=False)

    def __getstate__(self) -> dict[str, object]:
        return sent(vars(self))

    def __post_init__(self) -> None:
        layers = sorted(layer for group in (*self.groups, *self.draft_groups) for layer in group.layers)
        if layers != list(range(len(layers))) or not self.groups:
            raise InvalidValueError(
                f"the groups of {self.name} must contain each layer from 0 on exactly once, not {len(layers)} layers "
                f"up to index {layers[-1] if layers else None}",
                help="number the layers of all groups from 0 without gaps",
            )

    def _repr_html_(self) -> str:
        from kvcalc.registry import Registry

        html: str = Registry("kvcalc.answers", "answer").module("card").html_card(self)  # above: found when it is shown
        return html

    @property
    def num_layers(self) -> int:
        """Total number of layers."""
        return sum(len(group.layers) for group in self.groups)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Group name of each layer, in order."""
        by_layer = {layer: group.name for group in self.groups for layer in group.layers}
        return tuple(by_layer[layer] for layer in range(self.num_layers))


def with_draft_layers(model: Model) -> Model:
    """`model` with its multi-token-prediction layers, which cache tokens like its other layers.

    Raises NotApplicableError if it has none.
    """
    if not model.draft_groups:
        raise NotApplicableError(
            f"{model.name} has no multi-token-prediction layers",
            help="remove the option, or add num_mtp_layers to the preset",
        )
    number = sum(len(group.layers) for group in model.draft_groups)
    whose = "of multi-token prediction" if model.drafter is None else f"of the draft model {model.drafter.name}"
    note = f"with {plural(number, 'layer')} {whose}"
    return replace(model, groups=(*model.groups, *model.draft_groups), draft_groups=(), notes=(*model.notes, note))


def with_drafter(model: Model, drafter: Model, groups: Iterable[LayerGroup]) -> Model:
    """`model` with draft layers of another model, numbered after its last layer."""
    layers = sorted((layer, group.name) for group in groups for layer in group.layers)
    parts = {f"{DRAFT} {group.name}": group.parts for group in groups}
    origins = {f"{DRAFT} {group.name}": group.origins for group in groups}
    names = [f"{DRAFT} {name}" for _, name in layers]
    return replace(model, draft_groups=group_layers(names, parts, origins, first=model.num_layers), drafter=drafter)


def with_drafts_apart(model: Model) -> Model:
    """`model` with separate multi-token-prediction layers, if they were added to the others."""
    own = tuple(group for group in model.groups if not group.drafts)
    added = tuple(group for group in model.groups if group.drafts)
    return replace(model, groups=own, draft_groups=added) if own and added else model


def without_origins(model: Model) -> Model:
    """`model` without the places of its facts, which another process does not need and cannot receive."""
    groups = tuple(replace(group, origins={}) for group in model.groups)
    drafter = model.drafter and without_origins(model.drafter)
    return replace(model, groups=groups, origins={}, older_readings={}, drafter=drafter)


def group_layers(
    names: Iterable[str],
    parts: Mapping[str, Attention | Sequence[Attention]],
    origins: Mapping[str, Mapping[str, object]] | None = None,
    *,
    first: int = 0,
) -> tuple[LayerGroup, ...]:
    """Groups for a model whose layer first + i is in the group names[i], in the order of their first layers.

    parts: of a layer in each group; origins: for each group, the place of each fact.
    """
    in_order = tuple(names)
    layers: dict[str, list[int]] = {name: [] for name in dict.fromkeys(in_order)}
    for index, name in enumerate(in_order, first):
        layers[name].append(index)
    return tuple(
        LayerGroup.of(name, indices, parts[name], (origins or {}).get(name)) for name, indices in layers.items()
    )


def repeated(pattern: tuple[str, ...] | list[str], num_layers: int) -> tuple[str, ...]:
    """`pattern` repeated over the layers, cut at the last: SSF over 7 layers is SSFSSFS."""
    positive_int(num_layers, "num_layers", most=MAX_LAYERS)
    return tuple(pattern[layer % len(pattern)] for layer in range(num_layers))


def facts(attention: Attention) -> dict[str, Any]:
    """Fields of an attention kind that are set, by name: required ones, then optional ones."""
    values = ((name, getattr(attention, name)) for name in _required_first(type(attention)))
    return {name: value for name, value in values if value is not None and value is not False}


@cache
def _required_first(kind: type[Attention]) -> tuple[str, ...]:
    in_order = sorted(fields(kind), key=lambda field: field.default is not MISSING)
    return tuple(field.name for field in in_order)
