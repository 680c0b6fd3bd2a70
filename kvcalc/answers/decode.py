"""What a decode step reads of a cache: all that a layer keeps, or what its indexer chooses.

    bytes(t) = sequences * sum over groups and tensors of  num_layers * bytes_per_slot * slots read at t

A window keeps what it sees, so it is read whole, and so are states. Where an indexer chooses, a step reads index_topk
tokens of latents, or of K and V, and every key of the index; of compressed entries index_topk. What waits to be
compressed is not read.

Quest reads of a cache that keeps everything the least and the largest key of each page, and the pages that score best:

    K and V of min(t, token_budget) tokens, and 2 keys for each ceil(t / page_size) pages

in layers that see everything, but for the first ones. Nothing is saved in memory: the pages' keys come on top.
Source: DeepSeek-V3.2 report, section 2.1; DeepSeek-V4 report, section 2.3; Quest, arXiv 2406.10774, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.attention.region_summary import RegionSummary
from kvcalc.cache.slots.primitives import AtMost, Ceil, Constant, Floor
from kvcalc.cache.slots.rule import SlotRule, ordinal
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base.footprint import Footprint
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import LayerGroup, Model
from kvcalc.question import Question
from kvcalc.units import parse_tokens, positive_int, shown

_ENTRIES = ("compressed_kv",)
_WAITING = ("pending", "overlap", "open_region", "index_gate", "index_mask")
"""Tensors that a step reads only when a group of tokens is full, or not at all."""
_NOTHING = SlotRule(Constant(0), "nothing")
_KEYS_OF_PAGE = 2


class Quest(NamedTuple):
    """Pages of a cache that a query chooses, as in Quest. full_layers: first layers that read everything."""

    token_budget: int
    page_size: int = 16
    full_layers: int = 2

    @classmethod
    def of(cls, spec: str) -> Quest:
        """`token_budget=1024,page_size=16`, or the budget alone. Raises InvalidValueError."""
        given: dict[str, int] = {}
        for part in spec.split(","):
            name, equals, value = (each.strip() for each in part.rpartition("="))
            name = name if equals else cls._fields[0]
            if name not in cls._fields or name in given:
                raise InvalidValueError(
                    f"Quest has no such parameter: {shown(name)}", help=f"write {', '.join(cls._fields)}"
                )
            least = 0 if name == cls._fields[-1] else 1
            given[name] = 0 if value == str(least) == "0" else positive_int(parse_tokens(value, name), name)
        if cls._fields[0] not in given:
            raise InvalidValueError("nothing says how many tokens are read", help="write token_budget=1024")
        return cls(**given)


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


def cache_reads(question: Question, whole: Model, quest: Quest | None = None, first_layer: int = 0) -> CacheReads:
    """What a step reads of each tensor. whole: the model that the question's is a rank's share of, from first_layer on.

    Raises NotApplicableError where nobody says how many tokens are chosen.
    """
    model, kv_dtype = question.model, question.kv_dtype
    allocation = question.engine.allocate(model, kv_dtype)
    found = CacheReads(
        tuple(
            ReadTensor(group, tensor, _read_rule(tensor, group, whole), tensor.bytes_per_slot(kv_dtype))
            for group, tensors in zip(model.groups, allocation, strict=True)
            for tensor in tensors
        )
    )
    if quest is None:
        return found
    return CacheReads(tuple(own for each in found.tensors for own in _by_pages(each, quest, first_layer)))


def check_pages(model: Model) -> None:
    """Raises NotApplicableError where no layer has K and V of every token, among which pages are chosen."""
    kept = [t for group in model.groups for t in group.tensors if t.name == "k" and t.slot_rule.window is None]
    if not kept:
        raise NotApplicableError(
            f"no layer of {model.name} caches K and V of every token, of which Quest chooses pages",
            help="leave it out: latents, windows and states are read as they are",
        )


def _by_pages(each: ReadTensor, quest: Quest, first_layer: int) -> Iterator[ReadTensor]:
    """A tensor as Quest reads it, with the keys of its pages; others as they are."""
    group, tensor, read_rule, slot_bytes = each
    if tensor.name not in ("k", "v") or read_rule is not tensor.slot_rule or tensor.slot_rule.window is not None:
        yield each
        return
    full = tuple(layer for layer in group.layers if layer + first_layer < quest.full_layers)
    paged = tuple(layer for layer in group.layers if layer + first_layer >= quest.full_layers)
    if full:
        yield each._replace(group=replace(group, layers=full, name=f"{group.name}, first"))
    if paged:
        of_pages = replace(group, layers=paged)
        words = f"at most {quest.token_budget:,}"
        yield ReadTensor(of_pages, tensor, SlotRule(AtMost(tensor.slot_rule, quest.token_budget), words), slot_bytes)
        if tensor.name == "k":
            pages = SlotRule(Ceil(tensor.slot_rule, 1, quest.page_size), f"every page of {quest.page_size:,}")
            keys = tensor._replace(name="keys of pages", slot_rule=pages)
            yield ReadTensor(of_pages, keys, pages, _KEYS_OF_PAGE * slot_bytes)


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
