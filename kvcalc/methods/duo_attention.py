"""DuoAttention: a few retrieval heads keep every token, the others stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.methods._traits import SELECTION, Traits
from kvcalc.model import LayerGroup, Model
from kvcalc.tensors import CacheTensor, EveryToken, SinksAndLast
from kvcalc.units import positive_int

TRAITS = Traits(
    SELECTION,
    "every token in retrieval heads, sinks and the newest in the others",
    "Xiao et al. 2024, arXiv 2410.10819; mit-han-lab/duo-attention",
    per_head_paging=True,
    caveat="which heads retrieve is learned for each model; retrieval_heads tells how many",
)


def apply(model: Model, retrieval_heads: Sequence[int] = (), sink_size: int = 64, recent_size: int = 256) -> Model:
    """Slots per layer: f * t for its f retrieval heads, (h - f) * min(t, sink_size + recent_size) for the others.

    retrieval_heads: f of each layer, written 4+2+0+..., or one number for all; without it half of the heads of each,
    as the evaluation's sparsity of 0.5 has it in the mean. sink_size, recent_size: as in the evaluation scripts.
    Raises InvalidValueError for more retrieval heads than there are, or for a list of another length.
    """
    rule = SinksAndLast(positive_int(sink_size, "sink_size") + positive_int(recent_size, "recent_size"), sink_size)
    number = model.num_layers
    if len(retrieval_heads) not in (0, 1, number):
        raise InvalidValueError(
            f"retrieval_heads has {len(retrieval_heads)} numbers, and {model.name} has {number} layers",
            field="retrieval_heads",
            help="give one number for all layers, or one for each",
        )
    if not any(tensor.slot_rule == EveryToken() for group in model.groups for tensor in group.tensors):
        raise NotApplicableError(
            f"DuoAttention has no head to tell apart in {model.name}: no layer keeps every token",
            help="use it on a model with MHA, GQA or MQA",
        )
    each = list(retrieval_heads) * (number if len(retrieval_heads) == 1 else 1)
    groups = [part for group in model.groups for part in _with_heads(model, group, each, rule)]
    return replace(model, name=f"{model.name} with DuoAttention", groups=tuple(groups))


def _with_heads(model: Model, group: LayerGroup, each: list[int], rule: SinksAndLast) -> list[LayerGroup]:
    """The group, split into layers of equally many retrieval heads."""
    if not any(tensor.slot_rule == EveryToken() for tensor in group.tensors):
        return [group]
    attention = next((part for part in group.parts if isinstance(part, GroupedQueryAttention)), None)
    if attention is None:
        raise NotApplicableError(
            f"DuoAttention tells heads apart, and the {group.name} layers of {model.name} are {group.label}",
            help="use it on a model with MHA, GQA or MQA",
        )
    layers: dict[int, list[int]] = {}
    for layer in group.layers:
        heads = each[layer] if each else attention.num_kv_heads // 2
        if not 0 <= heads <= attention.num_kv_heads:
            raise InvalidValueError(
                f"layer {layer} has {attention.num_kv_heads} KV heads, and retrieval_heads says {heads}",
                field="retrieval_heads",
                help=f"give a number from 0 to {attention.num_kv_heads}",
            )
        layers.setdefault(heads, []).append(layer)
    return [
        replace(
            group,
            name=group.name if len(layers) == 1 else f"{group.name}-{heads}",
            layers=tuple(indices),
            tensors=tuple(
                part for tensor in group.tensors for part in _parts(tensor, heads, attention.num_kv_heads - heads, rule)
            ),
        )
        for heads, indices in layers.items()
    ]


def _parts(tensor: CacheTensor, retrieval: int, streaming: int, rule: SinksAndLast) -> list[CacheTensor]:
    """A tensor's retrieval heads and its streaming ones, as far as there are any."""
    if tensor.slot_rule != EveryToken():
        return [tensor]
    heads, *rest = tensor.dims
    halves = ((tensor.name, retrieval, tensor.slot_rule), (f"{tensor.name}_streaming", streaming, rule))
    return [
        tensor._replace(name=name, dims=(heads._replace(size=number), *rest), slot_rule=slots)
        for name, number, slots in halves
        if number
    ]
