"""How ranks divide a model, and the model held by each rank.

The part held by one rank is itself a Model: fewer layers (pipeline parallelism), fewer heads (tensor parallelism). It
is sized, allocated and verified like any other. Data-parallel ranks hold the same, for their own sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import accumulate, pairwise, starmap
from typing import Literal, NamedTuple

from kvcalc.attention._facts import MAX_RANKS, degree_near
from kvcalc.cache.slots.methods import packed
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import Dim, Rounding
from kvcalc.errors import InvalidValueError
from kvcalc.model import LayerGroup, Model
from kvcalc.units import positive_int


@dataclass(frozen=True)
class Parallel:
    """Layout of tp x pp x dp ranks.

    tp: tensor-parallel ranks, which divide the heads of a layer; if they outnumber the KV heads, each holds one, and
    every rank holds what all heads share (the latent of MLA).
    pp: pipeline stages, which divide the layers.
    dp: data-parallel replicas, which divide the sequences.
    dcp: tensor-parallel ranks that divide the tokens of what they would otherwise hold as copies (decode context
    parallelism), as vLLM does in its blocks.
    ep: ranks across all replicas that divide the routed experts; 1: each replica divides them like the rest. Affects
    the weights of a rank, not the cache. Raises InvalidValueError for a degree that is not a whole number of at least
    1, or for too many ranks.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    dcp: int = 1
    ep: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, positive_int(getattr(self, field.name), field.name, most=MAX_RANKS))
        positive_int(self.num_ranks, "tp x pp x dp", most=MAX_RANKS)
        if self.tp * self.dp % self.ep:
            raise InvalidValueError(
                f"ep ({self.ep:,}) does not divide tp x dp ({self.tp * self.dp:,}), the ranks that can divide experts",
                field="ep",
                help=degree_near("ep", self.ep, lambda ranks: self.tp * self.dp % ranks == 0),
            )

    def __str__(self) -> str:
        degrees = [f"{field.name.upper()} {getattr(self, field.name)}" for field in fields(self)]
        return ", ".join(degree for degree in degrees if not degree.endswith(" 1")) or degrees[0]

    @property
    def num_ranks(self) -> int:
        """Total number of ranks."""
        return self.tp * self.pp * self.dp

    def sequences_of_rank(self, sequences: int) -> int:
        """Sequences of each data-parallel replica. Raises InvalidValueError if they do not divide."""
        if sequences % self.dp:
            below = sequences - sequences % self.dp
            raise InvalidValueError(
                f"sequences ({sequences:,}) is not a multiple of dp ({self.dp:,})",
                field="sequences",
                help=f"use {f'{below:,} or ' if below else ''}{below + self.dp:,} sequences",
            )
        return sequences // self.dp


class Sharing(NamedTuple):
    """How ranks divide what does not divide evenly.

    kv_heads: of 10 KV heads each of 4 ranks holds 2 (`floor`) or 3 (`ceil`), or the layout is refused (`even`).
    extra_layers: which stages have one more layer: of 10 layers 4 stages hold 3 + 3 + 2 + 2 (`first`), 2 + 2 + 3 + 3
    (`last`) or 2 + 3 + 3 + 2 (`before last`), or the layout is refused (`none`).
    stages: layers of each stage if a setting gives them, and the setting's name.
    drafts_last: whether draft layers are not counted, and are all on the last stage.
    tokens: whether the engine defines how ranks divide tokens (dcp). experts: whether replicas may divide routed
    experts (ep).
    caveat: for rounded heads.
    """

    kv_heads: Rounding = "even"
    extra_layers: Literal["none", "first", "last", "before last"] = "none"
    stages: tuple[tuple[int, ...], str] | None = None
    drafts_last: bool = False
    tokens: bool = False
    experts: bool = False
    caveat: str = ""


EVENLY = Sharing()


class RankModel(NamedTuple):
    """The part of one rank. first_layer: index of its layer 0 in the whole model."""

    rank: int
    tp_rank: int
    pp_rank: int
    dp_rank: int
    first_layer: int
    model: Model


def rank_models(model: Model, parallel: Parallel, sharing: Sharing = EVENLY) -> tuple[RankModel, ...]:
    """The model of each rank, in the order of ranks: tensor-parallel ranks are neighbours, then come the stages.

    Tensor-parallel and data-parallel ranks of a stage hold equal models. Raises InvalidValueError if layers or heads
    cannot be divided, and for ranks that divide tokens.
    """
    if parallel.dcp > 1 and not sharing.tokens:
        raise InvalidValueError(
            f"how dcp ({parallel.dcp:,}) ranks divide tokens depends on an engine's blocks",
            field="dcp",
            help="name an engine with decode context parallelism, or remove dcp",
        )
    layers = stages_of(model, parallel.pp, sharing)
    shared = _sharded(model, parallel.tp, sharing)
    stages = [_stage(shared, own) for own in layers]
    coordinates = (
        (dp_rank, pp_rank, tp_rank)
        for dp_rank in range(parallel.dp)
        for pp_rank in range(parallel.pp)
        for tp_rank in range(parallel.tp)
    )
    return tuple(
        RankModel(rank, tp_rank, pp_rank, dp_rank, layers[pp_rank].start, stages[pp_rank])
        for rank, (dp_rank, pp_rank, tp_rank) in enumerate(coordinates)
    )


def stages_of(model: Model, pp: int, sharing: Sharing = EVENLY) -> list[range]:
    """Layers of each pipeline stage. Raises InvalidValueError if they cannot be divided."""
    drafts = sum(len(group.layers) for group in model.groups if group.drafts and sharing.drafts_last)
    layers = _layers_of_stages(model.num_layers - drafts, pp, sharing)
    layers[-1] = range(layers[-1].start, model.num_layers)
    return layers


def can_shard(model: Model, tp: int, sharing: Sharing = EVENLY) -> bool:
    """Whether `tp` tensor-parallel ranks can divide each layer."""
    return all(_can_shard(group, tp, sharing.kv_heads) for group in model.groups)


def rounded_heads(model: Model, tp: int, sharing: Sharing) -> tuple[str, ...]:
    """A note for each number of heads that ranks do not divide and an engine rounds."""
    if sharing.kv_heads == "even":
        return ()
    rounded = {
        (name, part.shared_facts[name], part.shard(tp, sharing.kv_heads).shared_facts[name])
        for group in model.groups
        for part in group.parts
        if not part.can_shard(tp)
        for name in part.ROUNDED
    }
    return tuple(
        f"{name} ({whole:,}) do not divide among {tp:,} ranks; each holds {own:,}: {sharing.caveat}"
        for name, whole, own in sorted(rounded)
    )


def _layers_of_stages(layers: int, pp: int, sharing: Sharing) -> list[range]:
    """Neighbouring layers of each pipeline stage: floor(layers / pp), and one more in as many as remain."""
    if sharing.stages is not None:
        return _stages_as_given(layers, pp, *sharing.stages)
    each, remaining = divmod(layers, pp)
    if remaining and (sharing.extra_layers == "none" or not each):
        evenly = sharing.extra_layers == "none"
        raise InvalidValueError(
            f"num_layers ({layers:,}) is {'not a multiple of' if evenly else 'less than'} pp ({pp:,})",
            field="pp",
            help=degree_near("pp", pp, lambda stages: layers % stages == 0 if evenly else stages <= layers),
        )
    first_with_more = {"last": pp - remaining, "before last": pp - 1 - remaining}.get(sharing.extra_layers, 0)
    firsts = [0]
    for stage in range(pp):
        firsts.append(firsts[-1] + each + (0 <= stage - first_with_more < remaining))
    return list(starmap(range, pairwise(firsts)))


def _stages_as_given(layers: int, pp: int, given: tuple[int, ...], setting: str) -> list[range]:
    check_stages_of(layers, pp, given, setting)
    ends = list(accumulate(given))
    return [range(end - own, end) for own, end in zip(given, ends, strict=True)]


def check_stages_of(layers: int, pp: int, given: tuple[int, ...], setting: str) -> None:
    """Raises InvalidValueError if a setting does not match the stages or the layers."""
    if len(given) != pp or sum(given) != layers or min(given) < 0:
        raise InvalidValueError(
            f"{setting} ({', '.join(map(str, given))}) must give {pp} stages with {layers} layers in total",
            field=setting,
            help="remove it for the engine's own partition",
        )


def _stage(model: Model, layers: range) -> Model:
    """The model's layers of one stage, numbered from 0."""
    own = [(group, tuple(layer - layers.start for layer in group.layers if layer in layers)) for group in model.groups]
    groups = tuple(replace(group, layers=kept) for group, kept in own if kept)
    return replace(model, groups=groups, draft_groups=(), older_readings={})


def _sharded(model: Model, tp: int, sharing: Sharing) -> Model:
    """A tensor-parallel rank's part of each layer."""
    try:
        groups = tuple(_sharded_group(group, tp, sharing.kv_heads) for group in model.groups)
        return replace(model, groups=groups, older_readings={})
    except InvalidValueError as error:
        help = degree_near("tp", tp, lambda ranks: can_shard(model, ranks, sharing))
        raise InvalidValueError(error.what, field="tp", where=error.where, help=help) from None


def _sharded_group(group: LayerGroup, tp: int, rounding: Rounding) -> LayerGroup:
    """The group with its parts divided, and its tensors with the narrower dimensions."""
    try:
        parts = tuple(part.shard(tp, rounding) for part in group.parts)
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
            f"tp ({tp:,}) ranks hold copies of KV heads, and the channels in {group.label} that belong to them are "
            "unknown",
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
    shares = _head_shares(group, tp, rounding)
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
    """Dimensions of tensors with only some of the heads, if a method treats heads separately."""
    shared = {Dim(name, value) for part in group.parts for name, value in part.shared_facts.items()}
    names = {dim.name for dim in shared}
    return [dim for t in (*group.tensors, *group.uncut) for dim in t.dims if dim.name in names and dim not in shared]


def _head_shares(group: LayerGroup, tp: int, rounding: Rounding) -> int:
    """Number of ranks that divide a layer's KV heads, or its heads if it has no KV heads."""
    for part in group.parts:
        for name in ("num_kv_heads", "num_query_heads"):
            if name in part.shared_facts:
                return part.shared_facts[name] // part.shard(tp, rounding).shared_facts[name]
    return 1


def _shared(rule: SlotRule, shares: int, name: str) -> SlotRule:
    """Slot rule of a rank's heads: its share of what all heads pack together."""
    if rule.packing is None or shares == 1:
        return rule
    units, per_slot, each = rule.packing
    if units % shares:
        raise InvalidValueError(
            f"{name} packs {units:,} of each token for all heads, which {shares:,} ranks cannot divide",
            field="tp",
            help="",
        )
    return packed(units // shares, per_slot, each)


def _packs_evenly(group: LayerGroup, tp: int, rounding: Rounding) -> bool:
    shares = _head_shares(group, tp, rounding)
    packings = (tensor.slot_rule.packing for tensor in (*group.tensors, *group.uncut))
    return all(units % shares == 0 for units, _, _ in filter(None, packings))


def _can_shard(group: LayerGroup, tp: int, rounding: Rounding) -> bool:
    """Whether `tp` ranks can divide the layers."""
    divide = all(dim.size % tp == 0 for dim in _some_heads(group))
    parts_divide = all(part.can_shard(tp, rounding) for part in group.parts)
    return divide and parts_divide and not _copies_channels(group, tp) and _packs_evenly(group, tp, rounding)


def _copies_channels(group: LayerGroup, tp: int) -> bool:
    """Whether ranks hold copies of KV heads whose channels in other parts cannot be distinguished."""
    return any(part.HAS_KV_CHANNELS for part in group.parts) and any(part.copies(tp) for part in group.parts)
