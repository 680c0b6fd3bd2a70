"""What every quantised cache has: a store for keys and one for values, which attention reads dequantised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.model import MethodArguments
from kvcalc.verify.policies._policy import Place, Policy, attention_weights, mixed

TOKENS = 2
"""Dimension of the tokens in keys and values, (B, h, T, D), and in what is stored of them."""


class Store(ABC):
    """What is stored of the keys, or of the values, of one layer."""

    @property
    @abstractmethod
    def held(self) -> Mapping[str, Tensor]:
        """What is stored, by what follows k or v in the names that sizing gives."""

    @abstractmethod
    def append(self, rows: Tensor) -> None:
        """Takes the rows (B, h, N, D) of the next tokens: those of a prompt first, then one at a time."""

    @abstractmethod
    def read(self) -> Tensor:
        """All tokens (B, h, T, D), as close to the input as the stored bits allow."""


class TokenStore(Store):
    """Quantises each token once, on arrival."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}
        self.dtype = torch.float32

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Codes, and each token's scales."""
        return self._held

    @abstractmethod
    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        """What is stored of the rows (B, h, N, D), each with its tokens in dimension 2."""

    @abstractmethod
    def decode(self, held: Mapping[str, Tensor]) -> Tensor:
        """The rows (B, h, T, D) that are stored so, in float32."""

    def append(self, rows: Tensor) -> None:
        """Encodes the new tokens and puts them behind the others."""
        self.dtype = rows.dtype
        new = self.encode(rows)
        self._held = {
            name: torch.cat([self._held[name], part], dim=TOKENS) if self._held else part.contiguous()
            for name, part in new.items()
        }

    def read(self) -> Tensor:
        """All tokens, decoded."""
        return self.decode(self._held).to(self.dtype)


class QuantisedCache(Policy):
    """A policy that keeps every token, in fewer bits."""

    def __init__(self, place: Place, arguments: MethodArguments) -> None:
        super().__init__(place, arguments)
        self.stores = {"k": self.store("k"), "v": self.store("v")}

    @abstractmethod
    def store(self, name: str) -> Store:
        """Store of the keys (k) or of the values (v)."""

    @property
    def held(self) -> Mapping[str, Tensor]:
        """What both stores hold."""
        return {name + rest: part for name, store in self.stores.items() for rest, part in store.held.items()}

    @property
    def key(self) -> Tensor:
        """Keys as attention sees them, (B, h, T, D)."""
        return self.stores["k"].read()

    @property
    def value(self) -> Tensor:
        """Values as attention sees them, (B, h, T, D_v)."""
        return self.stores["v"].read()

    def prefill(self, query: Tensor, key: Tensor, value: Tensor) -> None:  # noqa: ARG002  # no score is needed
        """Stores the prompt."""
        self.stores["k"].append(key)
        self.stores["v"].append(value)

    def step(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Stores the token, and lets its query read all of them."""
        self.prefill(query, key, value)
        return mixed(attention_weights(query, self.key), self.value)
