"""Bytes of a model's weights, their source, and each rank's share. They are never guessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import NamedTuple

from kvcalc.errors import InvalidValueError
from kvcalc.methods import METHODS
from kvcalc.methods._traits import ARCHITECTURE
from kvcalc.model import Model
from kvcalc.model.checkpoint import PARTS, Inventory, WeightTensor, Widths
from kvcalc.model.weight_formats import WeightFormat, stored
from kvcalc.parallel import EVENLY, Parallel, Sharing, stages_of
from kvcalc.units import both_units, plural, shown

GIVEN = "given"
HOW_TO_SAY = (
    "write 671GB, 625GiB or `70B x 4.5bit`, or the path of a model.safetensors.index.json, safetensors files or a GGUF "
    "file"
)
EXPERTS, ROUTER, EMBEDDING, HEAD = "experts", "router", "embedding", "head"
_MTP = "mtp"
_OF_LAYERS = ("attention", "state", "mlp", "shared experts", "experts", "router", "norm")
"""Parts whose layers are the decoder's; towers and encoders have their own numbering."""
_OF_THE_LAST = ("head", "norm", "mtp")
"""Parts after the last layer that belong to no layer."""
_COPIED_PARTS = ("norm", "router")
_COPIED = ("q_a_proj", "kv_a_proj", "indexer.", "norm")
"""Tensors that every tensor-parallel rank holds completely: down-projections to latents, and indexers."""
_OF_KV_HEADS = ("k_proj", "v_proj")


class Stored(NamedTuple):
    """A tensor with its bytes in each of its layers, or once if it belongs to no layer."""

    tensor: WeightTensor
    bytes_by_layer: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """In all layers."""
        return sum(self.bytes_by_layer)


class Part(NamedTuple):
    """One part of a checkpoint, such as `experts`."""

    name: str
    parameters: int
    bytes: int


class Weights(NamedTuple):
    """Bytes of a whole model's weights, and the source of the number.

    estimate: whether a format was assumed for matrices that were not read. tensors: if known; their sum may differ if
    another format was counted than the files have. unloaded_bytes: rest of the checkpoint, which engines do not load.
    widths: of activations. experts_per_token: routed experts per token, 0 if none or unknown. form: their format, and
    repository: where they are published; empty if unknown.
    """

    bytes: int
    source: str
    estimate: bool = False
    tensors: tuple[Stored, ...] = ()
    unloaded_bytes: int = 0
    widths: Widths | None = None
    experts_per_token: int = 0
    form: str = ""
    repository: str = ""

    @property
    def parameters(self) -> int | None:
        """Total parameters; None if the tensors are unknown."""
        return sum(each.tensor.parameters for each in self.tensors) or None

    def words(self) -> Iterator[str]:
        """Notes on the source of the bytes; none if given as bytes."""
        if self.source != GIVEN:
            yield f"{'estimated ' if self.estimate else ''}weights of {both_units(self.bytes)}, {self.source}"
        if self.unloaded_bytes:
            yield (
                f"without {both_units(self.unloaded_bytes)} of multi-token prediction, which engines load only for "
                "speculation"
            )

    @property
    def parts(self) -> tuple[Part, ...]:
        """Bytes of each part of the checkpoint, in the order of PARTS."""
        return tuple(
            Part(name, sum(each.tensor.parameters for each in of_part), sum(each.bytes for each in of_part))
            for name in PARTS
            if (of_part := [each for each in self.tensors if each.tensor.part == name and each.tensor.times])
        )


def counted(inventory: Inventory, form: WeightFormat, words: str) -> Weights:
    """The tensors of a checkpoint in a format; an estimate unless the format stores all of them equally."""
    tensors = tuple(Stored(tensor, each_bytes) for tensor, each_bytes in stored(inventory.tensors, form))
    total_bytes = sum(each.bytes for each in tensors)
    source = f"{plural(inventory.parameters, 'parameter')} of {inventory.source}, {words} ({form.words})"
    return Weights(
        total_bytes,
        source,
        not form.exact,
        tensors,
        widths=inventory.widths,
        experts_per_token=inventory.experts_per_token,
    )


def weights_of(model: Model, given_bytes: int | Weights | None = None) -> Weights:
    """The weights as given (or read, with a source), else as the authors published them.

    Raises InvalidValueError if neither is known, or if the model was rebuilt as another architecture, which was never
    published.
    """
    if isinstance(given_bytes, Weights):
        return given_bytes
    if given_bytes is not None:
        if type(given_bytes) is not int or given_bytes < 0:
            raise InvalidValueError(
                f"weights_bytes must be a number of bytes, not {shown(given_bytes)}",
                field="weights_bytes",
                help="for example weights_bytes=2**30",
            )
        return Weights(given_bytes, GIVEN)
    if rebuilt := rebuilt_as(model):
        raise unknown_weights(f"; as {rebuilt} the model was never published")
    if model.weights_bytes is None:
        raise unknown_weights()
    return Weights(model.weights_bytes, f"as published ({model.weights_source or model.source})")


def rebuilt_as(model: Model) -> str:
    """The architecture that a what-if gave the model; empty without one."""
    return next(
        (each.name for each in reversed(model.methods) if METHODS.module(each.name).TRAITS.kind == ARCHITECTURE), ""
    )


def unknown_weights(why: str = "", help: str = HOW_TO_SAY) -> InvalidValueError:
    """The error for weights of unknown size."""
    return InvalidValueError(f"weights size unknown{why}", field="weights", help=help)


def loaded(weights: Weights, model: Model) -> Weights:
    """Without the layers of multi-token prediction, which engines load only for speculation.

    Unchanged if the tensors are unknown, if there are none, and if the model was requested with them.
    """
    drafts = any(group.drafts for group in model.groups)
    kept = tuple(each for each in weights.tensors if drafts or each.tensor.part != _MTP)
    if len(kept) == len(weights.tensors):
        return weights
    left_bytes = weights.bytes * sum(each.bytes for each in kept) // sum(each.bytes for each in weights.tensors)
    return weights._replace(bytes=left_bytes, tensors=kept, unloaded_bytes=weights.bytes - left_bytes)


def with_drafter(weights: Weights, drafts: Weights, name: str) -> Weights:
    """Both together, where a checkpoint of this name drafts, which stands on the last stage."""
    both = weights.tensors and drafts.tensors
    own = (each._replace(tensor=each.tensor._replace(part=_MTP)) for each in drafts.tensors)
    return weights._replace(
        bytes=weights.bytes + drafts.bytes,
        source=f"{weights.source}; of them {both_units(drafts.bytes)} of {name}, which drafts: {drafts.source}",
        estimate=weights.estimate or drafts.estimate,
        tensors=(*weights.tensors, *own) if both else (),
    )


def divided_words(weights: Weights, ranks: Parallel) -> str:
    """How ranks divide the weights, as a note."""
    on = f"{both_units(weights.bytes)} of weights"
    if not weights.tensors:
        return f"{on}: assumed to be divided evenly over {ranks.tp * ranks.pp:,} GPUs"
    experts = f", experts by EP {ranks.ep}" if ranks.ep > 1 else ""
    return f"{on}, divided tensor by tensor: {ranks}{experts}; norms, routers and down-projections are copied"


def on_rank(weights: Weights, model: Model, ranks: Parallel, sharing: Sharing = EVENLY) -> int:
    """Bytes on a rank of the largest stage, rounded up.

    If the tensors are known, each is divided as engines do: matrices by tp, experts by ep if larger, layers by stages,
    embeddings to the first stage and logits to the last; norms, routers and down-projections to latents are copied, as
    are KV heads if there are more ranks than heads. Other weights are divided evenly by tp x pp, as are all if layers
    do not divide.
    """
    if not weights.tensors or (ranks.tp, ranks.pp, ranks.ep) == (1, 1, 1):
        return -(-weights.bytes // (ranks.tp * ranks.pp))
    try:
        stages = stages_of(model, ranks.pp, sharing)
    except InvalidValueError:  # the engine reports this, or has its own stages
        return -(-weights.bytes // (ranks.tp * ranks.pp))
    return ceil(weights.bytes * _share_of_heaviest(weights.tensors, tuple(stages), fewest_kv_heads(model), ranks))


@lru_cache(maxsize=256)
def _share_of_heaviest(
    tensors: tuple[Stored, ...], stages: tuple[range, ...], kv_heads: int | None, ranks: Parallel
) -> Fraction:
    """Share of a rank of the stage that holds most. Plans ask it of thousands of deployments of a few models."""
    held = [Fraction(0)] * len(stages)
    for each in tensors:
        for stage, own_bytes in on_stages(each, stages):
            held[stage] += own_bytes * share_of_rank(each.tensor, kv_heads, ranks)
    if len(stages) > 1 and any(each.tensor.part == HEAD and each.tensor.shares for each in tensors):
        held[-1] += Fraction(sum(each.bytes for each in tensors if each.tensor.part == EMBEDDING), ranks.tp)
    return max(held) / sum(each.bytes for each in tensors)


def on_stages(each: Stored, stages: Sequence[range]) -> Iterator[tuple[int, int]]:
    """Stages with a tensor, each with its bytes there."""
    tensor, last = each.tensor, len(stages) - 1
    if tensor.part in _OF_LAYERS and tensor.layers:
        for stage, layers in enumerate(stages):
            own = (size for layer, size in zip(tensor.layers, each.bytes_by_layer, strict=False) if layer in layers)
            yield stage, sum(own)
    elif tensor.part in _OF_THE_LAST:
        yield last, each.bytes
    else:
        yield 0, each.bytes


def share_of_rank(tensor: WeightTensor, kv_heads: int | None, ranks: Parallel) -> Fraction:
    """The share of a tensor that each tensor-parallel rank holds."""
    if tensor.part in _COPIED_PARTS or any(name in tensor.name for name in _COPIED):
        return Fraction(1)
    if tensor.part == EXPERTS:
        return Fraction(1, max(ranks.tp, ranks.ep))
    if kv_heads is not None and any(name in tensor.name for name in _OF_KV_HEADS):
        return Fraction(1, min(ranks.tp, kv_heads))
    return Fraction(1, ranks.tp)


def fewest_kv_heads(model: Model) -> int | None:
    """The fewest KV heads of any layer; None if no layer has heads that are copied."""
    found = (part.shared_facts.get("num_kv_heads") for group in model.groups for part in group.parts)
    return min((heads for heads in found if heads), default=None)
