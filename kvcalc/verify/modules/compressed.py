"""Compressed attention of DeepSeek-V4 and V4.1: a window of tokens, and one entry for several earlier ones."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.verify.modules._attention import attention, heads_beside, split_heads
from kvcalc.verify.modules._module import ALONE, CacheModule, Context, Kept, rotate
from kvcalc.verify.modules._slots import Cache, Reach, Slots, State
from kvcalc.verify.modules.indexer import INDEX_HEADS, INDEX_TOPK

KV, GATE = 0, 1
NEXT, OWN = 0, 1
"""Of the two entries that CSA compresses a token into: the one after its block's, and its block's own."""


class Waiting(NamedTuple):
    """Kv and gate of tokens (sequences, tokens, 2, entries, width), and of the block before them for the overlap."""

    tokens: Tensor
    overlap: Tensor | None


class CompressedModule(CacheModule):
    """K and V are one entry of head_dim for all query heads; the compressor makes an entry of each m tokens.

    HCA: entry = sum over the m tokens of softmax(gate) * kv, channel by channel. CSA: the same over the m tokens and
    the m before them, and an indexer chooses among the entries. V4.1 (closed_groups): as HCA, in float32, and the
    index keys are projections of the entries. A layer that has only its window compresses nothing.
    Source: DeepSeek-V4 report, arXiv 2606.19348, section 2.3; MLX-LM 0.32.2 models/deepseek_v41.py.
    """

    topk = INDEX_TOPK

    facts: CompressedAttention

    def __init__(self, facts: CompressedAttention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.width, self.rate = facts.head_dim, facts.compress_rate or 0
        self.index_width = facts.index_head_dim or 0
        self.overlaps = bool(self.index_width) and not facts.closed_groups
        self.entries = 2 if self.overlaps else 1
        self.pooled_width = self.width + (self.index_width if self.overlaps else 0)
        self.waiting_dtype = torch.float32 if facts.closed_groups else dtype
        self.reach = Reach(window=facts.sliding_window)
        self.q_proj = self.linear(hidden_size, facts.num_query_heads * self.width)
        self.kv_proj = self.linear(hidden_size, self.width)
        self.compressor = self.linear(hidden_size, 2 * self.entries * self.pooled_width)
        makes_keys = facts.closed_groups and self.index_width
        self.index_k = self.linear(self.width, self.index_width) if makes_keys else None
        self.index_q = self.linear(hidden_size, INDEX_HEADS * self.index_width) if self.index_width else None
        self.o_proj = self.linear(facts.num_query_heads * self.width, hidden_size)

    # ---- the cache

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:
        """kv: the window's slots; compressed_kv and index_k: one slot for m tokens; pending and overlap: none yet."""
        cache: dict[str, Slots | State] = {"kv": self._slots(sequences, self.width, capacity, self.reach, dtype)}
        if not self.rate:
            return cache
        cache["compressed_kv"] = self._slots(sequences, self.width, capacity // self.rate, Reach(), dtype)
        waiting = self._nothing(sequences)
        if self.index_width:
            cache["index_k"] = self._slots(sequences, self.index_width, capacity // self.rate, Reach(), dtype)
        if self.overlaps:
            cache["overlap"] = State(waiting[..., 0, :])
        if self.waits:
            cache["pending"] = State(waiting)
        return cache

    @property
    def waits(self) -> bool:
        """Whether tokens wait to be compressed: not if each makes its own entry."""
        return self.rate > 1 or not self.facts.closed_groups

    def _slots(self, sequences: int, width: int, capacity: int, reach: Reach, dtype: torch.dtype) -> Slots:
        return Slots(sequences, (width,), capacity, reach, dtype, self.device)

    def _nothing(self, sequences: int) -> Tensor:
        shape = (sequences, 0, 2, self.entries, self.pooled_width)
        return torch.empty(shape, dtype=self.waiting_dtype, device=self.device)

    def kept(self, hidden: Tensor) -> Kept:
        """Rows of the window, entries of at least one block, and the tokens that made it."""
        rows = {"kv": rotate(self.kv_proj(hidden), torch.arange(hidden.shape[1], device=hidden.device))}
        if not self.rate:
            return rows
        waiting = self._project(hidden.repeat(1, -(-self.rate // hidden.shape[1]), 1))
        entries, _ = self._compress(Waiting(waiting, None))
        return {**rows, **self._split(entries), "pending": waiting}

    def write(self, kept: Kept, cache: Cache, tokens: int) -> None:
        """The window, an entry for each full block, and what waits after the last."""
        cast("Slots", cache["kv"]).repeat(kept["kv"], tokens)
        if not self.rate:
            return
        for name in cache.keys() & {"compressed_kv", "index_k"}:
            cast("Slots", cache[name]).repeat(kept[name], tokens // self.rate)
        waiting = kept["pending"]
        last = waiting[:, : self.rate] if tokens >= self.rate else None
        self._keep(cache, Waiting(waiting[:, : tokens % self.rate], last))

    # ---- the compressor

    def _project(self, hidden: Tensor) -> Tensor:
        """Kv and gate of each token, (sequences, tokens, 2, entries, width)."""
        projected: Tensor = self.compressor(hidden).unflatten(-1, (2, self.entries, -1))
        return projected.to(self.waiting_dtype)

    def _compress(self, waiting: Waiting) -> tuple[Tensor, Waiting]:
        """Entries (sequences, blocks, width) of the full blocks, and what still waits after them."""
        number = waiting.tokens.shape[1] // self.rate
        blocks = waiting.tokens[:, : number * self.rate].unflatten(1, (number, self.rate))  # (B, n, m, 2, e, W)
        rest = waiting.tokens[:, number * self.rate :]
        if self.entries == 1:
            kv, gate = blocks[..., KV, 0, :], blocks[..., GATE, 0, :]
            return (gate.softmax(dim=2) * kv).sum(dim=2), Waiting(rest, None)
        last = waiting.overlap
        if last is None:  # before the first block there is none: its gates let nothing through
            last = torch.zeros_like(waiting.tokens[:, :1]).expand(-1, self.rate, -1, -1, -1).clone()
            last[:, :, GATE] = -torch.inf
        if not number:
            return waiting.tokens[:, :0, KV, 0], Waiting(rest, waiting.overlap)
        before = torch.cat([last[:, None], blocks[:, :-1]], dim=1)
        both = torch.cat([before[..., NEXT, :], blocks[..., OWN, :]], dim=2)  # (B, n, 2m, 2, W)
        entries = (both[..., GATE, :].softmax(dim=2) * both[..., KV, :]).sum(dim=2)
        return entries, Waiting(rest, blocks[:, -1])

    def _split(self, entries: Tensor) -> dict[str, Tensor]:
        """Entries as rows of the cache: K = V, and the index key."""
        entries = entries.to(self.dtype)
        if not self.index_width:
            return {"compressed_kv": entries}
        if self.index_k is not None:
            return {"compressed_kv": entries, "index_k": self.index_k(entries)}
        compressed, index = entries.split([self.width, self.index_width], dim=-1)
        return {"compressed_kv": compressed, "index_k": index}

    def _append(self, cache: Cache, entries: Tensor) -> None:
        for name, rows in self._split(entries).items():
            cast("Slots", cache[name]).append(rows)

    def _held_back(self, cache: Cache) -> Waiting:
        """What waits, as the compressor takes it; of the overlap only the half for the next entry is kept."""
        if not self.waits:
            return Waiting(self._nothing(cache["kv"].data.shape[0]), None)
        overlap = cache["overlap"].data if self.overlaps else None
        if overlap is None or not overlap.shape[1]:
            return Waiting(cache["pending"].data, None)
        return Waiting(cache["pending"].data, overlap.unsqueeze(3).expand(-1, -1, -1, self.entries, -1))

    def _keep(self, cache: Cache, waiting: Waiting) -> None:
        """Fresh storage for what waits now: a slice would keep all that waited alive."""
        if self.waits:
            cache["pending"].data = waiting.tokens.clone(memory_format=torch.contiguous_format)
        if self.overlaps and waiting.overlap is not None:
            cache["overlap"].data = waiting.overlap[..., NEXT, :].clone(memory_format=torch.contiguous_format)

    # ---- attention

    def forward(self, hidden: Tensor, cache: Cache | None = None, context: Context = ALONE) -> Tensor:  # noqa: ARG002
        """Attends to the window and to every entry whose block was complete; with an indexer, to the best of them."""
        held = cache if cache is not None else self.new_cache(hidden.shape[0], hidden.shape[1], self.dtype)
        window = cast("Slots", held["kv"])
        positions = torch.arange(window.tokens, window.tokens + hidden.shape[1], device=hidden.device)
        kv = rotate(self.kv_proj(hidden), positions)
        before, seen = window.held()
        rows, seen = torch.cat([before.to(kv.dtype), kv], dim=1), torch.cat([seen, positions])
        window.append(kv)
        mask = (seen <= positions[:, None]) & (seen >= self.reach.first_seen(positions)[:, None])
        mask = mask.expand(hidden.shape[0], -1, -1)
        if self.rate:
            entries, waiting = self._compress(self._waiting_with(held, hidden))
            self._append(held, entries)
            self._keep(held, waiting)
            compressed = cast("Slots", held["compressed_kv"]).held()[0].to(kv.dtype)
            rows = torch.cat([rows, compressed], dim=1)
            mask = torch.cat([mask, self._entries_seen(hidden, positions, held)], dim=-1)
        query = rotate(split_heads(self.q_proj(hidden), self.facts.num_query_heads), positions)  # (B, H, N, D)
        mixed = attention(query, rows[:, None], rows[:, None], mask[:, None], self.width**-0.5)
        output: Tensor = self.o_proj(heads_beside(mixed))
        return output

    def _waiting_with(self, cache: Cache, hidden: Tensor) -> Waiting:
        waiting = self._held_back(cache)
        return waiting._replace(tokens=torch.cat([waiting.tokens, self._project(hidden)], dim=1))

    def _entries_seen(self, hidden: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """(sequences, queries, entries): whether an entry is complete and, with an index, among the best."""
        number = cast("Slots", cache["compressed_kv"]).tokens
        ends = (torch.arange(number, device=hidden.device) + 1) * self.rate
        complete = (ends <= positions[:, None] + 1).expand(hidden.shape[0], -1, -1)
        if self.index_q is None or number <= self.topk:
            return complete
        query = split_heads(self.index_q(hidden), INDEX_HEADS)  # (B, J, N, D)
        key = cast("Slots", cache["index_k"]).held()[0].to(query.dtype)
        scores = torch.einsum("bjnd,btd->bnt", query, key).masked_fill(~complete, -torch.inf)
        best = scores.topk(self.topk, dim=-1).indices
        return complete & torch.zeros_like(complete).scatter(-1, best, True)


MODULE = CompressedModule
