"""The tensors of each layer in whole blocks: what its page holds, and what it is padded with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from kvcalc.dtypes import Dtype
from kvcalc.engines import Allocation
from kvcalc.engines._vllm import VERSION
from kvcalc.engines._vllm.dtypes import MODEL
from kvcalc.engines._vllm.layers import Cache
from kvcalc.engines._vllm.planning import Plan
from kvcalc.engines._vllm.run import Run
from kvcalc.engines._vllm.specs import CHUNKED, CROSS, SLIDING, SLIDING_MLA, STATE, Limits, Spec
from kvcalc.errors import NotApplicableError
from kvcalc.model import LayerGroup, Model
from kvcalc.slots.engines import whole_blocks
from kvcalc.slots.layers import once
from kvcalc.slots.rule import SlotRule
from kvcalc.tensors import CacheTensor, Dim

_BYTE = Dtype("byte", 1, 1, "padding")


def allocation_of(model: Model, planned: Plan) -> Allocation:
    """For each group of the model what one of its layers stores. Raises NotApplicableError where its layers differ."""
    spec_of = {m: spec for group in planned.groups for m, spec in zip(group.members, group.specs, strict=True)}
    by_layer: dict[int, list[CacheTensor]] = {}
    for position, cache in enumerate(planned.caches):
        tensors = _tensors_of(cache, spec_of[position], planned.run)
        by_layer.setdefault(cache.layer, []).extend(tensors)
    return tuple(_of_group(group, by_layer) for group in model.groups)


def _of_group(group: LayerGroup, by_layer: Mapping[int, Sequence[CacheTensor]]) -> tuple[CacheTensor, ...]:
    """What each layer of the group stores."""
    found = {tuple(by_layer.get(layer, ())) for layer in group.layers}
    if len(found) > 1:
        raise NotApplicableError(
            f"vLLM stores {group.name} layers in several formats with these settings, and a size knows one for all",
            help="ask kvcalc.fit, which tells the layers apart",
        )
    return found.pop()


def _tensors_of(cache: Cache, spec: Spec, run: Run) -> tuple[CacheTensor, ...]:
    """A slot is a block; its elements are those of all states that one page holds."""
    rule = block_rule(spec, run.limits)
    states = 1 if spec.kind == STATE else spec.block_size // spec.tokens_per_state
    elements = prod(dim.size for dim in cache.dims)
    found = []
    if elements:
        stored = Dtype(_name_of(spec, run), elements, spec.state_bytes, f"vLLM {VERSION}, kv_cache_interface.py")
        dims = (Dim("states of a block", states), *cache.dims)
        found.append(CacheTensor(cache.name, dims, rule, stored, quantizable=False))
    padding_bytes = spec.page_bytes - spec.unpadded_bytes
    if padding_bytes:
        found.append(CacheTensor(f"{cache.name} padding", (Dim("padding_bytes", padding_bytes),), rule, _BYTE))
    return tuple(found)


def block_rule(spec: Spec, limits: Limits) -> SlotRule:
    """Blocks that a request of t tokens takes: `Spec.blocks` as a rule."""
    window, in_flight = spec.window or 0, limits.in_flight_tokens
    if spec.kind in (SLIDING, SLIDING_MLA):
        return whole_blocks(spec.block_size, window - 1 + limits.extra_window_tokens + in_flight, 1)
    if spec.kind == CHUNKED:
        return whole_blocks(spec.block_size, window + in_flight)
    if spec.kind in (CROSS, STATE):
        return once(spec.blocks(limits), words="blocks of its own")
    return whole_blocks(spec.block_size * limits.dcp)


def _name_of(spec: Spec, run: Run) -> str:
    """Format of the content, as the spec knows it; states have several."""
    name = next((part for part in spec.shape if isinstance(part, str)), "bytes")
    return run.model_dtype if name in MODEL else name
