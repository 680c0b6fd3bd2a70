"""What a decode step reads of a cache: everything a layer keeps, or what its indexer selects.

    bytes(t) = sequences * sum over groups and tensors of  num_layers * bytes_per_slot * slots read at t

A window keeps exactly what it sees, so it is read completely, as are states. With an indexer, a step reads index_topk
tokens of latents or of K and V, and every key of the index; of compressed entries index_topk. Tokens pending
compression are not read.

Of a cache that keeps everything, Quest reads the minimum and maximum key of each page, and the pages that score best:

    K and V of min(t, token_budget) tokens, and 2 keys for each ceil(t / page_size) pages

in full-attention layers except the first ones. It saves no memory: the pages' keys are extra.

Of what an engine stores, kernels read rows: a slot's bytes in its format, without the block around it and its padding.
Layers that share the cache of an earlier layer read that layer's, each of them again.
Source: DeepSeek-V3.2 report, section 2.1; DeepSeek-V4 report, section 2.3; Quest, arXiv 2406.10774, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from kvcalc.answers.stored import Layers
from kvcalc.attention.compressed import CompressedAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.none import NoCache
from kvcalc.attention.region_summary import RegionSummary
from kvcalc.cache.slots.primitives import AtMost, Ceil, Constant, Floor
from kvcalc.cache.slots.rule import SlotRule, ordinal
from kvcalc.cache.tensor import CacheTensor
from kvcalc.engines.base.rows import Row
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.model import LayerGroup, Model
from kvcalc.question import Question
from kvcalc.units import parse_tokens, positive_int, shown

_ENTRIES = ("compressed_kv",)
_WAITING = ("pending", "overlap", "open_region", "index_gate", "index_mask")
"""Tensors that a step reads only when a group of tokens is complete, or not at all."""
_NOTHING = SlotRule(Constant(0), "nothing")
_ONCE = SlotRule(Constant(1), "once")
_KEYS_OF_PAGE = 2


class Quest(NamedTuple):
    """Pages of a cache that a query selects, as in Quest. full_layers: first layers, which read everything."""

    token_budget: int
    page_size: int = 16
    full_layers: int = 2

    @classmethod
    def of(cls, spec: str) -> Quest:
        """Parses `token_budget=1024,page_size=16`, or only the budget. Raises InvalidValueError."""
        given: dict[str, int] = {}
        for part in spec.split(","):
            name, equals, value = (each.strip() for each in part.rpartition("="))
            name = name if equals else cls._fields[0]
            if name not in cls._fields or name in given:
                raise InvalidValueError(
                    f"Quest has no parameter {shown(name)}", help=f"its parameters are {', '.join(cls._fields)}"
                )
            least = 0 if name == cls._fields[-1] else 1
            given[name] = 0 if value == str(least) == "0" else positive_int(parse_tokens(value, name), name)
        if cls._fields[0] not in given:
            raise InvalidValueError("token_budget is missing", help="write token_budget=1024")
        return cls(**given)


class ReadTensor(NamedTuple):
    """A stored tensor of layers: the rule by which a step reads rows of it, and bytes of those of one layer.

    layers: their indices in the whole model. held_rule, held_bytes: slots that are stored, and bytes of one; nothing
    where the rows are those of other layers. owner: the group of these.
    """

    group: LayerGroup
    layers: tuple[int, ...]
    stored: CacheTensor
    read_rule: SlotRule
    row_bytes: int
    held_bytes: int
    owner: str = ""

    @property
    def name(self) -> str:
        """`k`, `k of full`."""
        return f"{self.stored.name} of {self.owner}" if self.owner else self.stored.name


def cache_reads(question: Question, layers: Layers, whole: Model) -> Iterator[ReadTensor]:
    """What a step of one sequence reads of each tensor. layers: what ranks store of the whole model, of every stage.

    Raises NotApplicableError if the number of selected tokens is unknown.
    """
    kv_dtype, engine = question.kv_dtype, question.serving
    found = []
    for group, first_layer, stored in layers:
        own = tuple(first_layer + layer for layer in group.layers)
        for row in engine.rows(group, stored, kv_dtype):
            rule = _rule_of(row, group, whole, at_all=not _reader(group))
            found.append(ReadTensor(group, own, row.stored, rule, row.bytes, row.stored.bytes_per_slot(kv_dtype)))
    yield from found
    for group, first_layer, _ in layers:
        if (reader := _reader(group)) is not None:
            yield from _of_others(group, [first_layer + layer for layer in group.layers], reader, found)


def _rule_of(row: Row, group: LayerGroup, whole: Model, *, at_all: bool) -> SlotRule:
    """Slots that a step reads of a stored tensor; at_all: whether the layers read what is stored of them."""
    if not at_all or not row.bytes:
        return _NOTHING
    if row.of is None:
        return _ONCE
    rule, kept = _read_rule(row.of, group, whole), _most(row.stored.slot_rule)
    seen = _most(rule)
    if kept is None or not row.is_slot or (seen is not None and seen <= kept):
        return rule
    return SlotRule(AtMost(rule, kept), f"{rule}, at most {kept:,}", window=rule.window)


def _most(rule: SlotRule) -> int | None:
    """Most slots; None for a rule without a limit."""
    full = rule.saturates_at
    return None if full is None else rule.slots(full)


def _reader(group: LayerGroup) -> NoCache | None:
    """The part that attends to the cache of an earlier layer."""
    return next((part for part in group.parts if isinstance(part, NoCache) and part.reads_cache), None)


def _of_others(
    group: LayerGroup, layers: Sequence[int], reader: NoCache, found: Sequence[ReadTensor]
) -> Iterator[ReadTensor]:
    """Rows that the layers of a group read of the nearest earlier layer of their kind that caches tokens."""
    offered = [
        each
        for each in found
        if each.read_rule is not _NOTHING
        and each.read_rule.constant is None
        and (each.read_rule.window is not None) == reader.reads_sliding
    ]
    read: dict[int, list[int]] = {}
    for layer in layers:
        nearest = max((own for each in offered for own in each.layers if own < layer), default=None)
        if nearest is not None:
            read.setdefault(nearest, []).append(layer)
    for nearest, own in read.items():
        for each in offered:
            if nearest in each.layers:
                yield each._replace(group=group, layers=tuple(own), held_bytes=0, owner=each.group.name)


def check_pages(model: Model) -> None:
    """Raises NotApplicableError if no layer has K and V of every token to select pages from."""
    kept = [t for group in model.groups for t in group.tensors if t.name == "k" and t.slot_rule.window is None]
    if not kept:
        raise NotApplicableError(
            f"no layer of {model.name} caches K and V of every token, from which Quest selects pages",
            help="remove it: latents, windows and states are always read completely",
        )


def by_pages(each: ReadTensor, quest: Quest) -> Iterator[ReadTensor]:
    """A tensor as read by Quest, with its page keys; other tensors unchanged."""
    stored, rule = each.stored, each.read_rule
    if stored.name not in ("k", "v") or rule is not stored.slot_rule or rule.window is not None:
        yield each
        return
    full = tuple(layer for layer in each.layers if layer < quest.full_layers)
    paged = tuple(layer for layer in each.layers if layer >= quest.full_layers)
    if full:
        yield each._replace(group=replace(each.group, name=f"{each.group.name}, first"), layers=full)
    if paged:
        words = f"at most {quest.token_budget:,}"
        yield each._replace(layers=paged, read_rule=SlotRule(AtMost(rule, quest.token_budget), words))
        if stored.name == "k":
            pages = SlotRule(Ceil(rule, 1, quest.page_size), f"every page of {quest.page_size:,}")
            keys = stored._replace(name="keys of pages", slot_rule=pages)
            both = _KEYS_OF_PAGE * each.row_bytes
            held_bytes = both if each.held_bytes else 0
            yield ReadTensor(each.group, paged, keys, pages, both, held_bytes, each.owner)


def remarks(model: Model) -> Iterator[str]:
    """What the numbers do not include."""
    if any(group.facts.get("closed_groups") for group in model.groups):
        yield "entries are counted once, for the layers that produce them; reads by other layers are not counted"


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
    """Whether an index (of its own or an earlier layer) selects the slots of a tensor that are read."""
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
            f"the number of tokens that the indexer of {group.name} layers of {model.name} selects is unknown",
            help="add index_topk to its config.json or preset",
        )
    return topk
