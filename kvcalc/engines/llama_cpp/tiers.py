"""What llama-server keeps in host memory: context checkpoints of each slot, and prompts of reused slots.

A checkpoint is the part of a slot's state that cannot be truncated: recurrent states, and the cells of sliding layers.
Models with neither have none. `--ctx-checkpoints` of them are kept for each slot, dropping the oldest first. Prompts
fill up to `--cache-ram` MiB, or one prompt's state if larger; their checkpoints are included there again.

Headers of about 1 KB per checkpoint, and a draft context's bytes per token, are not counted.
Source: llama.cpp, tools/server/server-context.cpp and server-task.cpp; #15293, #16391.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base import Allocation
from kvcalc.engines.llama_cpp.tensors import STATES
from kvcalc.model import LayerGroup, Model
from kvcalc.report.tiers import HOST, Tier
from kvcalc.units import MIB, both_units

NAME = "context checkpoints"
UNLIMITED = -1


class Kept(NamedTuple):
    """What a server keeps: slots, streams of their cache, checkpoints per slot, and MiB of prompts.

    windows: whether sliding layers have separate cells. state_rows: rows of a recurrent state.
    """

    slots: int
    streams: int
    checkpoints: int
    cache_ram: int
    windows: bool
    state_rows: int


def tiers_of(model: Model, allocation: Allocation, kept: Kept, tokens: int, kv_dtype: Dtype) -> Iterator[Tier]:
    """Checkpoints and prompts. tokens: of the whole context."""
    if kept.checkpoints and any(isinstance(part, CompressedAttention) for g in model.groups for part in g.parts):
        yield Tier(NAME, HOST, None, None, "the bytes of compressed entries in a checkpoint are unknown")
    elif kept.checkpoints and (state_bytes := _state_bytes(model.groups, allocation, kept, tokens, kv_dtype)):
        all_bytes = kept.slots * kept.checkpoints * state_bytes
        words = f"{kept.slots:,} slots x {kept.checkpoints:,} of {both_units(state_bytes)}"
        yield Tier(NAME, HOST, all_bytes, all_bytes, words, at_most=True)
    if kept.cache_ram == UNLIMITED:
        yield Tier("prompt cache", HOST, None, None, "no limit (cache_ram -1)")
    elif kept.cache_ram:
        prompts_bytes = kept.cache_ram * MIB
        words = f"cache_ram {kept.cache_ram:,} MiB, or one prompt's state if larger"
        yield Tier("prompt cache", HOST, prompts_bytes, prompts_bytes, words, at_most=True)


def _state_bytes(groups: Sequence[LayerGroup], allocation: Allocation, kept: Kept, tokens: int, kv_dtype: Dtype) -> int:
    """Upper bound of one checkpoint."""
    return sum(
        len(group.layers) * tensor.bytes_per_slot(kv_dtype) * _slots(tensor, group, kept, tokens)
        for group, tensors in zip(groups, allocation, strict=True)
        for tensor in tensors
    )


def _slots(tensor: CacheTensor, group: LayerGroup, kept: Kept, tokens: int) -> int:
    """Slots of a tensor that are part of a checkpoint: one sequence's state, or the cells of its stream."""
    if tensor.slot_rule.constant is not None:
        has_states = any(isinstance(part, STATES) for part in group.parts)
        return tensor.slot_rule.constant // kept.state_rows if has_states else 0
    limited = any(limit in group.facts for limit in ("sliding_window", "attention_chunk_size"))
    return tensor.slot_rule.slots(tokens) // kept.streams if kept.windows and limited else 0
