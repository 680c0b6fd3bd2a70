"""What a decode step reads of a cache: all that a layer keeps, or what its indexer chooses.

    bytes(t) = sequences * sum over groups and tensors of  num_layers * bytes_per_slot * slots read at t

A window keeps what it sees, so it is read whole, and so are states. Where an indexer chooses, a step reads index_topk
tokens of latents, or of K and V, and every key of the index; of compressed entries index_topk. What waits to be
compressed is not read. Source: DeepSeek-V3.2 report, section 2.1; DeepSeek-V4 report, section 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.attention.region_summary import RegionSummary
from kvcalc.cache.slots.primitives import AtMost, Constant, Floor
from kvcalc.cache.slots.rule import SlotRule, ordinal
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import NotApplicableError
from kvcalc.model import LayerGroup, Model
from kvcalc.question import Question

_ENTRIES = ("compressed_kv",)
_WAITING = ("pending", "overlap", "open_region", "index_gate", "index_mask")
"""Tensors that a step reads only when a group of tokens is full, or not at all."""
_NOTHING = SlotRule(Constant(0), "nothing")


class ReadTensor(NamedTuple):
    """A tensor of a group's layers: what each of them keeps of it, and the rule by which a step reads that."""

    group: LayerGroup
    tensor: CacheTensor
    read_rule: SlotRule
    slot_bytes: int

    @property
    def layer_bytes(self) -> int:
        """Bytes of one slot in all layers of the group."""
        return self.slot_bytes * len(self.group.layers)


class CacheReads(NamedTuple):
    """What one sequence's step reads. read, held: bytes by cached tokens."""

    tensors: tuple[ReadTensor, ...]

    @property
    def read(self) -> Footprint:
        """Bytes that a step reads, by tokens."""
        return Footprint.summed((each.layer_bytes, each.read_rule) for each in self.tensors)

    @property
    def held(self) -> Footprint:
        """Bytes that are cached, by tokens."""
        return Footprint.summed((each.layer_bytes, each.tensor.slot_rule) for each in self.tensors)


def cache_reads(question: Question, whole: Model) -> CacheReads:
    """What a step reads of each tensor. whole: the model that the question's is a rank's share of.

    Raises NotApplicableError where nobody says how many tokens are chosen.
    """
    model, kv_dtype = question.model, question.kv_dtype
    allocation = question.engine.allocate(model, kv_dtype)
    return CacheReads(
        tuple(
            ReadTensor(group, tensor, _read_rule(tensor, group, whole), tensor.bytes_per_slot(kv_dtype))
            for group, tensors in zip(model.groups, allocation, strict=True)
            for tensor in tensors
        )
    )


def remarks(model: Model) -> Iterator[str]:
    """What the numbers leave out."""
    readers = sum(len(group.layers) for group in model.groups if any(isinstance(part, NoCache) for part in group.parts))
    if readers:
        yield f"{readers:,} layers keep no cache; what any of them reads of another layer's is not counted"
    if any(group.facts.get("closed_groups") for group in model.groups):
        yield "entries are counted once, for the layers that make them; what other layers read of them is not counted"


def _read_rule(tensor: CacheTensor, group: LayerGroup, model: Model) -> SlotRule:
    if tensor.name in _WAITING:
        return _NOTHING
    indexer = next((part for part in group.parts if isinstance(part, Indexer)), None)
    if tensor.name == "index_k" and indexer is not None and indexer.index_pool_tokens:
        pooled = indexer.index_pool_tokens
        return SlotRule(Floor(tensor.slot_rule, 1, pooled), f"every {ordinal(pooled)} token")
    if not _is_chosen(tensor, group, model):
        return tensor.slot_rule
    topk = _topk(group, model)
    return SlotRule(AtMost(tensor.slot_rule, topk), f"{tensor.slot_rule}, at most {topk:,}")


def _is_chosen(tensor: CacheTensor, group: LayerGroup, model: Model) -> bool:
    """Whether an index decides which slots of a tensor are read: its own layer's, or an earlier one's."""
    if tensor.name in _ENTRIES:
        return "index_head_dim" in group.facts
    if tensor.slot_rule.constant is not None or tensor.name in _names_of_index(group):
        return False
    if any(isinstance(part, Indexer | RegionSummary) for part in group.parts):
        return True
    shares = any(isinstance(part, Indexer) for other in model.groups for part in other.parts)
    latent = any(isinstance(part, MultiHeadLatentAttention) for part in group.parts)
    return shares and latent and tensor.slot_rule.window is None


def _names_of_index(group: LayerGroup) -> frozenset[str]:
    parts = (part for part in group.parts if isinstance(part, Indexer | RegionSummary | CompressedAttention))
    return frozenset(tensor.name for part in parts for tensor in part.tensors())


def _topk(group: LayerGroup, model: Model) -> int:
    topk = model.published.index_topk
    if topk is None:
        raise NotApplicableError(
            f"nothing says how many tokens a query of {group.name} layers of {model.name} reads, which an indexer "
            "chooses",
            help="write index_topk in its config.json or preset",
        )
    return topk
