"""How ranks share a model, and the model that each of them holds.

What one rank holds is a Model of its own: fewer layers (pipeline parallelism), fewer heads (tensor parallelism). It is
sized, allocated and verified as any other. Data-parallel ranks hold the same, for sequences of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from kvcalc.attention._facts import MAX_RANKS, degree_near
from kvcalc.errors import InvalidValueError
from kvcalc.model import LayerGroup, Model
from kvcalc.slots.methods import Packed
from kvcalc.slots.rule import SlotRule
from kvcalc.tensors import Dim
from kvcalc.units import positive_int


@dataclass(frozen=True)
class Parallel:
    """Layout of tp x pp x dp ranks.

    tp: tensor-parallel ranks, which share the heads of a layer; where they outnumber the KV heads, each holds one, and
    what all heads share (the latent of MLA) every rank holds.
    pp: pipeline stages, which share the layers.
    dp: data-parallel replicas, which share the sequences.
    dcp: tensor-parallel ranks that share the tokens of what they would else hold copies of (decode context
    parallelism). Engines do that, in blocks of their own: `kvcalc.fit` knows how.
    Raises InvalidValueError for one that is not a whole number of at least 1, or for more ranks than there are.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    dcp: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, positive_int(getattr(self, field.name), field.name, most=MAX_RANKS))
        positive_int(self.num_ranks, "tp x pp x dp", most=MAX_RANKS)

    def __str__(self) -> str:
        degrees = [f"{field.name.upper()} {getattr(self, field.name)}" for field in fields(self)]
        return ", ".join(degree for degree in degrees if not degree.endswith(" 1")) or degrees[0]

    @property
    def num_ranks(self) -> int:
        """Ranks in all."""
        return self.tp * self.pp * self.dp

    def sequences_of_rank(self, sequences: int) -> int:
        """Sequences of each data-parallel replica. Raises InvalidValueError where they do not divide."""
        if sequences % self.dp:
            below = sequences - sequences % self.dp
            raise InvalidValueError(
                f"sequences ({sequences:,}) is not a multiple of dp ({self.dp:,})",
                field="sequences",
                help=f"give {f'{below:,} or ' if below else ''}{below + self.dp:,} sequences",
            )
        return sequences // self.dp


class RankModel(NamedTuple):
    """What one rank holds. first_layer: index in the whole model of its layer 0."""

    rank: int
    tp_rank: int
    pp_rank: int
    dp_rank: int
    first_layer: int
    model: Model


def rank_models(model: Model, parallel: Parallel) -> tuple[RankModel, ...]:
    """The model of each rank, in the order of ranks: tensor-parallel ranks are neighbours, then come the stages.

    Tensor-parallel and data-parallel ranks of a stage hold equal models.
    Raises InvalidValueError where layers or heads cannot be shared evenly, and for ranks that share tokens.
    """
    if parallel.dcp > 1:
        raise InvalidValueError(
            f"what dcp ({parallel.dcp:,}) ranks hold of each other's tokens depends on an engine's blocks",
            field="dcp",
            help="ask kvcalc.fit, or leave dcp out",
        )
    stages = _stages(_sharded(model, parallel.tp), parallel.pp)
    coordinates = (
        (dp_rank, pp_rank, tp_rank)
        for dp_rank in range(parallel.dp)
        for pp_rank in range(parallel.pp)
        for tp_rank in range(parallel.tp)
    )
    first_layers = [stages[0].num_layers * pp_rank for pp_rank in range(parallel.pp)]
    return tuple(
        RankModel(rank, tp_rank, pp_rank, dp_rank, first_layers[pp_rank], stages[pp_rank])
        for rank, (dp_rank, pp_rank, tp_rank) in enumerate(coordinates)
    )


def can_shard(model: Model, tp: int) -> bool:
    """Whether `tp` tensor-parallel ranks can share each layer evenly."""
    return all(_can_shard(group, tp) for group in model.groups)


def _stages(model: Model, pp: int) -> list[Model]:
    """Pipeline stages of equally many neighbouring layers, each numbered from 0."""
    layers = model.num_layers
    if layers % pp:
        raise InvalidValueError(
            f"num_layers ({layers:,}) is not a multiple of pp ({pp:,})",
            field="pp",
            help=degree_near("pp", pp, lambda stages: layers % stages == 0),
        )
    return [_stage(model, range(first, first + layers // pp)) for first in range(0, layers, layers // pp)]


def _stage(model: Model, layers: range) -> Model:
    own = [(group, tuple(layer - layers.start for layer in group.layers if layer in layers)) for group in model.groups]
    groups = tuple(replace(group, layers=kept) for group, kept in own if kept)
    return replace(model, groups=groups, draft_groups=())


def _sharded(model: Model, tp: int) -> Model:
    """What a tensor-parallel rank holds of each layer."""
    try:
        return replace(model, groups=tuple(_sharded_group(group, tp) for group in model.groups))
    except InvalidValueError as error:
        help = degree_near("tp", tp, lambda ranks: can_shard(model, ranks))
        raise InvalidValueError(error.what, field="tp", where=error.where, help=help) from None


def _sharded_group(group: LayerGroup, tp: int) -> LayerGroup:
    """The group with its parts shared, and its tensors with those dimensions that thereby became narrower."""
    try:
        parts = tuple(part.shard(tp) for part in group.parts)
    except InvalidValueError as error:
        raise error.at(f"{group.name} layers") from None
    for dim in _some_heads(group):
        if dim.size % tp:
            raise InvalidValueError(
                f"{dim.name} ({dim.size:,} of them, by the method) is not a multiple of tp ({tp:,})",
                field="tp",
                help="",
                where=f"{group.name} layers",
            )
    if _copies_channels(group, tp):
        raise InvalidValueError(
            f"tp ({tp:,}) ranks hold copies of KV heads, and which of the channels in {group.label} go with them is "
            "not known",
            field="tp",
            help="",
            where=f"{group.name} layers",
        )
    narrower = {
        before: after
        for part, shard in zip(group.parts, parts, strict=True)
        for whole, own in zip(part.tensors(), shard.tensors(), strict=True)
        for before, after in zip(whole.dims, own.dims, strict=True)
    }
    narrower |= {
        Dim(name, value): Dim(name, shard.shared_facts[name])
        for part, shard in zip(group.parts, parts, strict=True)
        for name, value in part.shared_facts.items()
    }
    narrower |= {dim: dim._replace(size=dim.size // tp) for dim in _some_heads(group)}
    shares = _head_shares(group, tp)
    held, uncut = (
        tuple(
            t._replace(
                dims=tuple(narrower.get(dim, dim) for dim in t.dims), slot_rule=_shared(t.slot_rule, shares, t.name)
            )
            for t in tensors
        )
        for tensors in (group.tensors, group.uncut)
    )
    return replace(group, parts=parts, tensors=held, uncut=uncut)


def _some_heads(group: LayerGroup) -> list[Dim]:
    """Dimensions of tensors that hold some of the heads, where a method tells heads apart."""
    shared = {Dim(name, value) for part in group.parts for name, value in part.shared_facts.items()}
    names = {dim.name for dim in shared}
    return [dim for t in (*group.tensors, *group.uncut) for dim in t.dims if dim.name in names and dim not in shared]


def _head_shares(group: LayerGroup, tp: int) -> int:
    """How many ranks a layer's KV heads, or its heads where it has no others, are shared by."""
    for part in group.parts:
        for name in ("num_kv_heads", "num_query_heads"):
            if name in part.shared_facts:
                return part.shared_facts[name] // part.shard(tp).shared_facts[name]
    return 1


def _shared(rule: SlotRule, shares: int, name: str) -> SlotRule:
    """Slot rule of a rank's heads: of what all heads pack together, it packs its own share."""
    if not isinstance(rule, Packed) or shares == 1:
        return rule
    if rule.units % shares:
        raise InvalidValueError(
            f"{name} packs {rule.units:,} of each token for all heads, which {shares:,} ranks cannot share",
            field="tp",
            help="",
        )
    return Packed(rule.units // shares, rule.per_slot, rule.rule)


def _packs_evenly(group: LayerGroup, tp: int) -> bool:
    shares = _head_shares(group, tp)
    rules = (tensor.slot_rule for tensor in (*group.tensors, *group.uncut))
    return all(rule.units % shares == 0 for rule in rules if isinstance(rule, Packed))


def _can_shard(group: LayerGroup, tp: int) -> bool:
    """Whether `tp` ranks can share the layers evenly."""
    divide = all(dim.size % tp == 0 for dim in _some_heads(group))
    parts_divide = all(part.can_shard(tp) for part in group.parts)
    return divide and parts_divide and not _copies_channels(group, tp) and _packs_evenly(group, tp)


def _copies_channels(group: LayerGroup, tp: int) -> bool:
    """Whether ranks hold copies of KV heads whose channels in other parts are told apart by nobody."""
    return any(part.HAS_KV_CHANNELS for part in group.parts) and any(part.copies(tp) for part in group.parts)
