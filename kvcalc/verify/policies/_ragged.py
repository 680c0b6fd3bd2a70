"""Layers whose heads keep different numbers of tokens: a separate policy for each share of the heads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from kvcalc.verify.policies._policy import Policy, TokenPolicy

Value = TypeVar("Value")


class Part(NamedTuple):
    """KV heads of a layer, by their indices, what their tensors are called by after their name, and their policy."""

    heads: Sequence[int]
    suffix: str
    policy: Policy


class RaggedPolicy(Policy):
    """Divides the KV heads of a layer once the prompt is there, and lets each part keep what it keeps.

    parts: those that hold a head.
    """

    @abstractmethod
    def divide(self, heads: int, tokens: int) -> Sequence[Part]:
        """Parts of this many KV heads for a prompt of this many tokens; each head is in one of them."""

    @property
    def held(self) -> Mapping[str, Tensor]:
        """What the parts hold, each under its suffix."""
        return {f"{name}{part.suffix}": held for part in self.parts for name, held in part.policy.held.items()}

    def prefill(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """The prompt, part by part."""
        key, value = self.stored(key), self.stored(value)
        heads, tokens = key.shape[1:3]
        self.parts = [part for part in self.divide(heads, tokens) if part.heads]
        for part in self.parts:
            part.policy.prefill(_of_heads(query, heads, part.heads), key[:, part.heads], value[:, part.heads])

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The token, part by part; outputs come back in the order of the heads."""
        key, value = self.stored(key), self.stored(value)
        heads = key.shape[1]
        outputs = [
            part.policy.step(_of_heads(query, heads, part.heads), key[:, part.heads], value[:, part.heads])
            for part in self.parts
        ]
        read = torch.cat([out.unflatten(1, (len(p.heads), -1)) for out, p in zip(outputs, self.parts, strict=True)], 1)
        order = torch.tensor([head for part in self.parts for head in part.heads], device=read.device)
        output: Tensor = read[:, order.argsort()].flatten(1, 2)  # (B, h, G, 1, D_v) -> (B, H, 1, D_v)
        return output

    def stored(self, rows: Tensor) -> Tensor:
        """Rows as they are cached: of each KV head, or repeated for its query heads where the code does that first."""
        if self.arguments.get("gqa_support", True):
            return rows
        return rows.repeat_interleave(self.place.attention.num_query_heads // rows.shape[1], dim=1)


class Everything(TokenPolicy):
    """Heads that keep every token."""

    def after_prompt(self, query: Tensor) -> None:
        """Nothing goes."""


def alike(values: Sequence[Value]) -> dict[Value, list[int]]:
    """Heads by what they have in common, in the order of the first of each."""
    found: dict[Value, list[int]] = {}
    for head, value in enumerate(values):
        found.setdefault(value, []).append(head)
    return found


def _of_heads(query: Tensor, heads: int, some: Sequence[int]) -> Tensor:
    """Queries (B, H, N, D) of those that share some of the KV heads."""
    shared: Tensor = query.unflatten(1, (heads, -1))[:, some]  # (B, H, N, D) -> (B, h, G, N, D)
    return shared.flatten(1, 2)
