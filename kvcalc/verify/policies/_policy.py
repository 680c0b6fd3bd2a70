"""Base of every torch policy: it takes a prompt, then tokens one by one, and holds what its method keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.model import MethodArguments


class Place(NamedTuple):
    """The layer that a policy runs in: its attention, its index, and how many layers there are."""

    attention: GroupedQueryAttention
    layer: int = 0
    num_layers: int = 1


class Policy(ABC):
    """The cache of one layer under a method.

    arguments: all of the method's, by name. Queries are (B, H, N, D), keys (B, h, N, D) and values (B, h, N, D_v), for
    B sequences, H query heads, h KV heads and N tokens; keys come rotated.
    """

    def __init__(self, place: Place, arguments: MethodArguments) -> None:
        self.place = place
        self.arguments = arguments

    @property
    @abstractmethod
    def held(self) -> Mapping[str, Tensor]:
        """What is kept, by the names that sizing gives it."""

    @abstractmethod
    def prefill(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Takes a prompt, and keeps of it what the method keeps."""

    @abstractmethod
    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Takes one token. Returns what its query reads of the kept tokens and itself, (B, H, 1, D_v)."""


class TokenPolicy(Policy):
    """Keeps whole tokens, as many in every head of the layer; which ones is what a subclass decides.

    key, value: (B, h, kept, D). positions: of the kept tokens in the sequence, ascending, (B, h, kept).
    """

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Keys and values."""
        return {"k": self.key, "v": self.value}

    @abstractmethod
    def after_prompt(self, query: Tensor) -> None:
        """Cuts the prompt that is held whole; query: (B, H, n, D)."""

    def before_step(self) -> None:
        """Makes room for the next token."""

    def after_step(self, weights: Tensor) -> None:
        """Cuts what is held with the new token; weights: what its query gave each of them, (B, H, 1, kept)."""

    def prefill(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """The prompt whole, then cut."""
        self.key, self.value = self.stored(key), self.stored(value)
        heads, tokens = self.key.shape[1:3]
        self.seen = tokens
        self.positions = torch.arange(tokens, device=key.device).expand(key.shape[0], heads, tokens)
        self.after_prompt(query)

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Makes room, adds the token, lets it attend, and cuts."""
        self.before_step()
        self.add(key, value)
        weights = attention_weights(query, self.key)
        output = mixed(weights, self.value)
        self.after_step(weights)
        return output

    def add(self, key: Tensor, value: Tensor) -> None:
        """Puts the next token behind those that are held."""
        self.key = torch.cat([self.key, self.stored(key)], dim=-2)
        self.value = torch.cat([self.value, self.stored(value)], dim=-2)
        self.positions = pad(self.positions, (0, 1), value=self.seen)
        self.seen += 1

    def stored(self, rows: Tensor) -> Tensor:
        """Rows as they are cached: of each KV head, or repeated for its query heads where the code does that first."""
        if self.arguments.get("gqa_support", True):
            return rows.contiguous()
        return rows.repeat_interleave(self.place.attention.num_query_heads // rows.shape[1], dim=1)

    def keep(self, indices: Tensor) -> None:
        """Keeps the tokens of these ascending indices into what is held, (B, h, kept), in separate memory."""
        self.key, self.value = gathered(self.key, indices), gathered(self.value, indices)
        self.positions = self.positions.gather(-1, indices)

    def of_kv_heads(self, scores: Tensor) -> Tensor:
        """Scores of query heads (B, H, ...) as those of the heads that are held: the mean of each one's group."""
        heads = self.key.shape[1]
        mean: Tensor = scores.unflatten(1, (heads, -1)).mean(dim=2)  # (B, H, ...) -> (B, h, G, ...) -> (B, h, ...)
        return mean


# ---- attention, and choices by it


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)), (B, H, N, T), of the last N of T tokens, in float32 or wider: none looks ahead."""
    heads, kv_heads = query.shape[1], key.shape[1]
    shared = wide(query).unflatten(1, (kv_heads, heads // kv_heads))  # (B, H, N, D) -> (B, h, G, N, D)
    scores = (shared @ wide(key).unsqueeze(2).transpose(-1, -2)) * query.shape[-1] ** -0.5
    queries, tokens = scores.shape[-2:]
    ahead = torch.ones(queries, tokens, dtype=torch.bool, device=query.device).triu(tokens - queries + 1)
    weights: Tensor = scores.masked_fill(ahead, -torch.inf).softmax(dim=-1).flatten(1, 2)
    return weights


def wide(numbers: Tensor) -> Tensor:
    """Narrower formats as float32."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def received(query: Tensor, key: Tensor, queries_at_once: int = 256) -> Tensor:
    """What each token of a prompt was given by all queries, summed up: (B, H, n); a block of queries at a time."""
    total = wide(query.new_zeros(*query.shape[:2], key.shape[-2]))
    for start in range(0, query.shape[-2], queries_at_once):
        end = min(start + queries_at_once, query.shape[-2])
        total[..., :end] += attention_weights(query[..., start:end, :], key[..., :end, :]).sum(dim=-2)
    return total


def mixed(weights: Tensor, value: Tensor) -> Tensor:
    """Values (B, h, T, D_v) by the weights (B, H, N, T) of the heads that share them: (B, H, N, D_v)."""
    shared = weights.unflatten(1, (value.shape[1], -1))  # (B, H, N, T) -> (B, h, G, N, T)
    output: Tensor = (shared.to(value.dtype) @ value.unsqueeze(2)).flatten(1, 2)
    return output


def best(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest scores along the last dimension, ascending."""
    return scores.topk(count, dim=-1).indices.sort(dim=-1).values


def with_last(indices: Tensor, count: int, tokens: int) -> Tensor:
    """Indices, followed by those of the last `count` of these tokens."""
    last = torch.arange(tokens - count, tokens, device=indices.device).expand(*indices.shape[:-1], count)
    return torch.cat([indices, last], dim=-1)


def gathered(rows: Tensor, indices: Tensor) -> Tensor:
    """Rows (B, h, T, D) of the indices (B, h, kept)."""
    return rows.gather(-2, indices.unsqueeze(-1).expand(*indices.shape, rows.shape[-1]))


def share_kept(tokens: int, compression_ratio: float | Fraction) -> int:
    """What kvpress keeps of a prompt: max(1, int(n * (1 - compression_ratio)))."""
    return max(1, int(tokens * (1 - float(compression_ratio))))
