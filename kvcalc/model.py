"""A model, as far as its cache is concerned: groups of equal layers, each owning named cache tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Protocol

from kvcalc.errors import InvalidValueError
from kvcalc.tensors import CacheTensor
from kvcalc.units import positive_int

MAX_LAYERS = 10_000
"""Most layers taken for real; the deepest published decoders have a few hundred."""


class Attention(Protocol):
    """What every attention kind offers: its facts are its dataclass fields."""

    @property
    def label(self) -> str:
        """Short name in the field's words, such as GQA-8."""
        ...

    @property
    def num_query_heads(self) -> int:
        """Attention heads of a layer."""
        ...

    def tensors(self) -> tuple[CacheTensor, ...]:
        """What one layer caches for one sequence."""
        ...


@dataclass(frozen=True)
class LayerGroup:
    """Layers that are alike.

    name: unique in its model, such as full or sliding.
    layers: their indices, ascending.
    attention: the facts of each of them; tensors: what each caches (methods may change these, never the facts).
    origins: for each fact, where it was read, such as `presets/llama-3-70b.yaml:12`.
    """

    name: str
    layers: tuple[int, ...]
    attention: Attention
    tensors: tuple[CacheTensor, ...]
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    @classmethod
    def of(
        cls, name: str, layers: Iterable[int], attention: Attention, origins: Mapping[str, str] | None = None
    ) -> LayerGroup:
        """Group whose tensors are those of its attention kind."""
        return cls(name, tuple(layers), attention, attention.tensors(), MappingProxyType(dict(origins or {})))


@dataclass(frozen=True)
class Model:
    """Groups of layers with what is known about where they came from.

    source: where the facts were published, or the file that they were read from.
    max_model_len: longest context that the model was made for, where its config says so.
    notes: what a reader of any number must know, such as dimensions that a what-if took; part of every output.
    Raises InvalidValueError where two groups claim a layer or one is missing between the first and the last.
    """

    name: str
    groups: tuple[LayerGroup, ...]
    model_type: str = ""
    source: str = ""
    max_model_len: int | None = None
    notes: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    def __post_init__(self) -> None:
        layers = sorted(layer for group in self.groups for layer in group.layers)
        if layers != list(range(len(layers))) or not layers:
            raise InvalidValueError(
                f"the groups of {self.name} must hold each layer from 0 on exactly once, not {len(layers)} layers "
                f"up to index {layers[-1] if layers else None}",
                help="number the layers of all groups from 0 without a gap",
            )

    @property
    def num_layers(self) -> int:
        """Layers in all."""
        return sum(len(group.layers) for group in self.groups)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Group name of each layer, in order."""
        by_layer = {layer: group.name for group in self.groups for layer in group.layers}
        return tuple(by_layer[layer] for layer in range(self.num_layers))


def group_layers(
    names: Iterable[str],
    attention: Mapping[str, Attention],
    origins: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[LayerGroup, ...]:
    """Groups for a model whose layer i is of the group names[i], in the order of their first layers.

    attention: facts of each group; origins: for each group, where each fact was read.
    """
    layers: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        layers.setdefault(name, []).append(index)
    return tuple(
        LayerGroup.of(name, indices, attention[name], (origins or {}).get(name)) for name, indices in layers.items()
    )


def repeated(pattern: tuple[str, ...] | list[str], num_layers: int) -> tuple[str, ...]:
    """`pattern` laid down the layers again and again, cut at the last: SSF over 7 layers is SSFSSFS."""
    positive_int(num_layers, "num_layers", most=MAX_LAYERS)
    return tuple(pattern[layer % len(pattern)] for layer in range(num_layers))


def facts(attention: Attention) -> dict[str, Any]:
    """Fields of an attention kind that are set, by name: those it must have, then those it may have."""
    declared: tuple[Field[Any], ...] = fields(attention)  # type: ignore[arg-type]  # each kind is a dataclass
    required_first = sorted(declared, key=lambda field: field.default is not MISSING)
    return {f.name: value for f in required_first if (value := getattr(attention, f.name)) is not None}
