"""The tensors of each layer in whole blocks: a page's contents and its padding."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.tensor import CacheTensor, Dim
from kvcalc.engines.base import Allocation
from kvcalc.engines.base.rows import ONCE, STATES_OF_A_BLOCK
from kvcalc.engines.vllm.dtypes import MODEL
from kvcalc.engines.vllm.layers import ATTENTION, Cache
from kvcalc.engines.vllm.planner import Planned
from kvcalc.engines.vllm.run import Run
from kvcalc.engines.vllm.specs import STATE, Spec
from kvcalc.errors import NotApplicableError
from kvcalc.model import LayerGroup, Model

_STATE = (ONCE,)
HOLDS = {
    **{ATTENTION: ("k", "c_kv"), "indexer": ("index_k",), "cross_attn": ("cross_k",)},
    **{"window": ("kv",), "entries": ("compressed_kv",)},
    **{"states": _STATE, "n-gram conv": _STATE, "conv": _STATE},
}
"""Caches, with the tensors of a model that they may hold; the others are pending entries, or padding."""
_BYTE = Dtype("byte", 1, 1, "padding")


def allocation_of(model: Model, planned: Planned) -> Allocation:
    """What one layer of each group stores. Raises NotApplicableError if its layers differ."""
    spec_of = {m: spec for group in planned.groups for m, spec in zip(group.members, group.specs, strict=True)}
    by_layer: dict[int, list[CacheTensor]] = {}
    for position, cache in enumerate(planned.caches):
        tensors = _tensors_of(cache, spec_of[position], planned.run)
        by_layer.setdefault(cache.layer, []).extend(tensors)
    return tuple(_of_group(group, by_layer) for group in model.groups)


def told_apart(model: Model, unquantised: Collection[int]) -> Model:
    """`model` with each group's unquantised layers as a separate group."""
    groups = [part for group in model.groups for part in _told_apart(group, unquantised)]
    return replace(model, groups=tuple(groups))


def _told_apart(group: LayerGroup, unquantised: Collection[int]) -> Iterator[LayerGroup]:
    own = tuple(layer for layer in group.layers if layer in unquantised)
    if group.drafts or not own or own == group.layers:
        yield group
        return
    yield replace(group, layers=tuple(layer for layer in group.layers if layer not in unquantised))
    yield replace(group, name=f"{group.name}, unquantised", layers=own)


def _of_group(group: LayerGroup, by_layer: Mapping[int, Sequence[CacheTensor]]) -> tuple[CacheTensor, ...]:
    """What each layer of the group stores."""
    found = {tuple(by_layer.get(layer, ())) for layer in group.layers}
    if len(found) > 1:
        raise NotApplicableError(
            f"vLLM stores {group.name} layers in several formats with these settings, and kvcalc size supports one "
            "per group",
            help="use kvcalc fit, which distinguishes the layers",
        )
    return found.pop()


def _tensors_of(cache: Cache, spec: Spec, run: Run) -> tuple[CacheTensor, ...]:
    """A slot is a block; its elements are those of all states that one page holds."""
    rule = spec.held(run.limits)
    states = 1 if spec.kind == STATE else spec.block_size // spec.tokens_per_state
    elements = prod(dim.size for dim in cache.dims)
    found = []
    if elements:
        stored = Dtype(_name_of(spec, run), elements, spec.state_bytes, f"vLLM {run.version}, kv_cache_interface.py")
        dims = (Dim(STATES_OF_A_BLOCK, states), *cache.dims)
        found.append(CacheTensor(cache.name, dims, rule, stored, quantizable=False))
    padding_bytes = spec.page_bytes - spec.unpadded_bytes
    if padding_bytes:
        found.append(CacheTensor(f"{cache.name} padding", (Dim("padding_bytes", padding_bytes),), rule, _BYTE))
    return tuple(found)


def _name_of(spec: Spec, run: Run) -> str:
    """Format of the content, as the spec knows it; states have several."""
    name = next((part for part in spec.shape if isinstance(part, str)), "bytes")
    return run.model_dtype if name in MODEL else name
