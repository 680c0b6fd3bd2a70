"""Attention over cached tokens: rows are projected, written into slots, and read back by every later query."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

from kvcalc.model import Attention
from kvcalc.verify.modules._module import ALONE, CacheModule, Context, Kept
from kvcalc.verify.modules._slots import Cache, Reach, Slots

BEFORE_ALL = -1
"""Position of rows that stand before the first token."""


class AttentionModule(CacheModule):
    """A part that keeps rows of each token, as far back as its queries see."""

    def __init__(self, facts: Attention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.reach = Reach(getattr(facts, "sliding_window", None), getattr(facts, "attention_chunk_size", None))

    @abstractmethod
    def row_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of one token's row in each cache tensor, (*heads, width), read off the weights."""

    @abstractmethod
    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """Rows that the cache keeps of `hidden` (sequences, tokens, hidden_size), by the cache's names."""

    @abstractmethod
    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """Attention of `hidden` at `positions` over cache rows. mask: (..., queries, rows); None: all are seen."""

    def read(self, rows: Mapping[str, Tensor], seen: Tensor) -> Mapping[str, Tensor]:  # noqa: ARG002
        """What attention uses instead of cache rows, for tokens at the positions `seen`."""
        return rows

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:
        """Slots for each kind of row, as many as the reach needs."""
        return {
            name: Slots(sequences, shape, capacity, self.reach, dtype, self.device)
            for name, shape in self.row_shapes().items()
        }

    def kept(self, hidden: Tensor) -> Kept:
        """Rows of `hidden`."""
        return self.project(hidden, torch.arange(hidden.shape[1], device=hidden.device))

    def write(self, kept: Kept, cache: Cache, tokens: int) -> None:
        """Each slot, once."""
        for name, slots in _slots_of(cache).items():
            slots.repeat(kept[name], tokens)

    def forward(self, hidden: Tensor, cache: Cache | None = None, context: Context = ALONE) -> Tensor:
        """Projects, caches, and attends to what the reach and the context allow."""
        slots = _slots_of(cache)
        start = next((held.tokens for held in slots.values()), 0)
        positions = torch.arange(start, start + hidden.shape[1], device=hidden.device)
        rows, seen = self._written(slots, self.project(hidden, positions), positions)
        rows = self.read(rows, seen)
        if context.standing:
            rows = {name: torch.cat([context.standing[name], data], dim=-2) for name, data in rows.items()}
            number = next(iter(context.standing.values())).shape[-2]
            seen = pad(seen, (number, 0), value=BEFORE_ALL)
        return self.attend(hidden, positions, rows, self.mask(positions, seen, context))

    def _written(
        self, slots: Mapping[str, Slots], new: Mapping[str, Tensor], positions: Tensor
    ) -> tuple[Mapping[str, Tensor], Tensor]:
        """All rows that a query may see and the positions of their tokens, once the new ones are in the cache."""
        turns = any(held.tokens + len(positions) > held.size for held in slots.values())
        if turns or not slots:  # a ring would forget what the first of these tokens still see: read before writing
            before = {name: held.held() for name, held in slots.items()}
            seen = torch.cat([next(iter(before.values()))[1], positions]) if slots else positions
            rows = {
                name: torch.cat([before[name][0].to(data.dtype), data], dim=-2) if slots else data
                for name, data in new.items()
            }
        for name, held in slots.items():
            held.append(new[name])
        if turns or not slots:
            return rows, seen
        after = {name: held.held() for name, held in slots.items()}
        return {name: data.to(self.dtype) for name, (data, _) in after.items()}, next(iter(after.values()))[1]

    def mask(self, positions: Tensor, seen: Tensor, context: Context) -> Tensor | None:
        """Which rows each query sees, (queries, rows); None if each sees all of them."""
        if context.chosen is None and len(positions) == 1 and self.reach.limit is None:
            return None
        near = (seen >= self.reach.first_seen(positions)[:, None]) | (seen == BEFORE_ALL)
        mask = (seen <= positions[:, None]) & near
        if context.chosen is None:
            return mask
        return (mask & context.chosen.index_select(-1, seen)).unsqueeze(1)  # (B, 1, N, T)


def _slots_of(cache: Cache | None) -> Mapping[str, Slots]:
    return cast("Mapping[str, Slots]", cache or {})


CUDA_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Not cuDNN's, which torch would take first: on an H100 it made a plan of 50 ms for each new length, and gave all
tokens of a KV head to one processor, 4 to 13 times as slow as FlashAttention for the few heads of GQA and MQA."""
FUSED_WIDTH = 256
"""Widest head of FlashAttention, the one kernel that shares the tokens of a query among many processors."""


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """SDPA of (sequences, heads, queries, width) over (sequences, kv_heads, tokens, width), heads grouped over KV.

    No key is repeated for the heads that share it: the heads of a group become further queries of their one key.
    (torch's enable_gqa reads a shared key once for each head on a CPU, which took 40 times as long, and repeats it in
    memory where CUDA's fastest kernel does not apply: with a mask, in fp32, with widths that differ.)
    """
    heads, kv_heads = query.shape[1], key.shape[1]
    group = heads // kv_heads
    if key.shape[-1] != value.shape[-1] and kv_heads > 1 and not query.is_cuda:
        each = (  # a CPU has no fused kernel for it: head by head, as it copies what it reads
            attention(query[:, h * group : (h + 1) * group], key[:, h : h + 1], value[:, h : h + 1], mask, scale)
            for h in range(kv_heads)
        )
        return torch.cat(list(each), dim=1)
    folded = query.unflatten(1, (kv_heads, group)).flatten(2, 3)  # (B, H, N, D) -> (B, H_kv, G * N, D)
    if mask is not None and group > 1:
        mask = mask.repeat(*(1,) * (mask.dim() - 2), group, 1)  # (..., N, T) -> (..., G * N, T)
    if query.is_cuda and mask is None and key.shape[-1] > FUSED_WIDTH:
        mixed = products([(folded, key)], value, scale)
    else:
        with sdpa_kernel(CUDA_KERNELS) if query.is_cuda else nullcontext():
            mixed = scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scale)
    unfolded: Tensor = mixed.unflatten(2, (group, -1)).flatten(1, 2)  # (B, H_kv, G * N, D) -> (B, H, N, D)
    return unfolded


def products(parts: Sequence[tuple[Tensor, Tensor]], value: Tensor, scale: float) -> Tensor:
    """softmax(sum of q k^T over parts) v by plain products, with all scores in memory between them.

    parts: queries (sequences, kv_heads, queries, width) and their keys (..., tokens, width), of one width each.
    CUDA's fused kernel for wide heads gives all tokens of a query to one processor: 10 ms for 100,000 latents on an
    H100, where these products take 0.2.
    """
    (query, key), *others = parts
    scores = (query * scale) @ key.mT  # (B, H_kv, G * N, T)
    for query, key in others:
        scores += (query * scale) @ key.mT
    return scores.softmax(dim=-1) @ value


def heads_beside(mixed: Tensor) -> Tensor:
    """(sequences, heads, tokens, width) -> (sequences, tokens, heads * width)."""
    return mixed.transpose(1, 2).flatten(2)  # (B, H, N, D) -> (B, N, H * D)


def split_heads(projected: Tensor, heads: int) -> Tensor:
    """(sequences, tokens, heads * width) -> (sequences, heads, tokens, width)."""
    split: Tensor = projected.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, N, H * D) -> (B, H, N, D)
    return split
