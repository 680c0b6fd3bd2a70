"""The lightning indexer: a small key for each token, by which its layer's attention selects tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import pad, relu

from kvcalc.attention.indexer import Indexer
from kvcalc.verify.devices import TORCH_DTYPES
from kvcalc.verify.modules._attention import split_heads
from kvcalc.verify.modules._module import Advisor, Context, Kept, rotate
from kvcalc.verify.modules._slots import Cache, Reach, Slots

INDEX_HEADS, INDEX_TOPK = 8, 2048
"""Query heads of the indexer and tokens that it chooses; no byte depends on them."""
POOLED_TOKENS = 4
"""Neighbours whose keys are pooled, where keys are."""


class IndexerModule(Advisor):
    """I(t, s) = sum over heads j of w(t, j) * relu(q(t, j) . k(s)); the INDEX_TOPK best tokens are chosen.

    Source: DeepSeek-V3.2 report, section 2.1; with pooling, transformers 5.23 modeling_glm5_next.py.
    """

    topk = INDEX_TOPK

    facts: Indexer

    def __init__(self, facts: Indexer, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        width = facts.index_head_dim
        self.q_proj = self.linear(hidden_size, INDEX_HEADS * width)
        self.k_proj = self.linear(hidden_size, width)
        self.gate_proj = self.linear(hidden_size, width) if facts.index_pooling else None
        self.head_weights = self.linear(hidden_size, INDEX_HEADS)

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:
        """index_k: (sequences, tokens, index_head_dim); with pooling index_gate, and index_mask of width 1."""
        named = self.facts.dtype_of("index_dtype")
        stored = TORCH_DTYPES[named.name] if named else dtype
        widths = {"index_k": self.k_proj.out_features}
        if self.gate_proj:
            widths |= {"index_gate": self.gate_proj.out_features, "index_mask": 1}
        return {
            name: Slots(sequences, (width,), capacity, Reach(), stored, self.device) for name, width in widths.items()
        }

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """Rows (sequences, tokens, width); the mask says that a token is there."""
        rows = {"index_k": rotate(self.k_proj(hidden), positions)}
        if self.gate_proj:
            rows |= {"index_gate": self.gate_proj(hidden), "index_mask": torch.ones_like(hidden[..., :1])}
        return rows

    def kept(self, hidden: Tensor) -> Kept:
        """Rows of `hidden`."""
        return self.project(hidden, torch.arange(hidden.shape[1], device=hidden.device))

    def write(self, kept: Kept, cache: Cache, tokens: int) -> None:
        """Each slot, once."""
        for name, rows in kept.items():
            cast("Slots", cache[name]).repeat(rows, tokens)

    def advise(self, hidden: Tensor, cache: Cache | None, context: Context) -> Context:
        """The chosen tokens of each query, (sequences, queries, tokens)."""
        slots = {name: cast("Slots", held) for name, held in (cache or {}).items()}
        start = next((held.tokens for held in slots.values()), 0)
        positions = torch.arange(start, start + hidden.shape[1], device=hidden.device)
        rows = self.project(hidden, positions)
        for name, held in slots.items():
            held.append(rows[name])
        if slots:
            rows = {name: held.held()[0].to(self.dtype) for name, held in slots.items()}
        return context._replace(chosen=self.choose(self.scores(hidden, positions, rows), positions))

    def scores(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor]) -> Tensor:
        """I(t, s) of each query and token, (sequences, queries, tokens)."""
        query = rotate(split_heads(self.q_proj(hidden), INDEX_HEADS), positions)  # (B, J, N, D)
        key = rows["index_k"] if self.gate_proj is None else pooled(rows)
        products = relu(torch.einsum("bjnd,btd->bjnt", query, key))
        return torch.einsum("bnj,bjnt->bnt", self.head_weights(hidden), products)

    def choose(self, scores: Tensor, positions: Tensor) -> Tensor:
        """The best of the tokens that a query may see at all."""
        tokens = scores.shape[-1]
        future = torch.arange(tokens, device=scores.device) > positions[:, None]
        best = scores.masked_fill(future, -torch.inf).topk(min(self.topk, tokens), dim=-1).indices
        return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)


def pooled(rows: Mapping[str, Tensor]) -> Tensor:
    """Keys of a block of POOLED_TOKENS neighbours, weighted by their gates: for each token, of its block so far."""
    tokens = rows["index_k"].shape[1]
    key, gate, there = (
        pad(rows[name], (0, 0, 0, -tokens % POOLED_TOKENS)).unflatten(
            1, (-1, POOLED_TOKENS)
        )  # (B, T, D) -> (B, T/4, 4, D)
        for name in ("index_k", "index_gate", "index_mask")
    )
    weights = (gate - gate.amax(dim=2, keepdim=True)).exp() * there
    mean = (weights * key).cumsum(dim=2) / weights.cumsum(dim=2)
    flat: Tensor = mean.flatten(1, 2)[:, :tokens]  # (B, T/4, 4, D) -> (B, T, D)
    return flat


MODULE = IndexerModule
