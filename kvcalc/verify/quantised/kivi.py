"""KIVI, run: keys quantised per channel, values per token, and the newest tokens unquantised."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.verify.quantised._bits import Affine, affine, pack, unpack
from kvcalc.verify.quantised._cache import TOKENS, QuantisedCache, Store

_INT32_BITS, _INT32_BYTES = 32, 4


class KiviStore(Store):
    """codes in int32 and scales (scale and minimum in fp16) of the tokens before the residual (B, h, waiting, D)."""

    def __init__(self, bits: int, group_size: int, residual_length: int) -> None:
        self.bits = bits
        self.group_size = group_size
        self.residual_length = residual_length
        self.codes: Tensor | None = None
        self.scales: Tensor | None = None
        self.residual: Tensor | None = None

    @abstractmethod
    def settled(self, waiting: int) -> int:
        """How many of these waiting tokens are quantised now, the oldest first."""

    @abstractmethod
    def lines(self, rows: Tensor) -> Tensor:
        """Rows (B, h, N, D) with the dimension last along which they are grouped."""

    @property
    @abstractmethod
    def line_tokens(self) -> int:
        """Dimension of the tokens in lines."""

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Codes, scales and the residual."""
        parts = {"_codes": self.codes, "_scales": self.scales, "_residual": self.residual}
        return {name: part for name, part in parts.items() if part is not None}

    def append(self, rows: Tensor) -> None:
        """Lets the tokens wait, and quantises those that have waited long enough."""
        waiting = rows if self.residual is None else torch.cat([self.residual, rows], dim=TOKENS)
        number = self.settled(waiting.shape[TOKENS])
        self.residual = waiting[:, :, number:].clone()
        if number or self.codes is None:
            self._quantise(waiting[:, :, :number])

    def read(self) -> Tensor:
        """What is quantised, then the residual."""
        held = self.held
        return torch.cat([self._dequantised().to(held["_residual"].dtype), held["_residual"]], dim=TOKENS)

    def _quantise(self, rows: Tensor) -> None:
        lines = self.lines(rows)
        if not lines.numel():  # no group has a least or a largest yet
            width = lines.shape[-1]
            codes = lines.new_empty((*lines.shape[:-1], width * self.bits // _INT32_BITS), dtype=torch.int32)
            scales = lines.new_empty((*lines.shape[:-1], width // self.group_size, 2), dtype=torch.float16)
        else:
            quantised = affine(lines.unflatten(-1, (-1, self.group_size)), self.bits, torch.float16)
            codes = pack(quantised.codes.flatten(-2), self.bits, _INT32_BYTES).view(torch.int32)
            scales = quantised.scales
        dim = self.line_tokens
        self.codes = codes if self.codes is None else torch.cat([self.codes, codes], dim=dim)
        self.scales = scales if self.scales is None else torch.cat([self.scales, scales], dim=dim)

    def _dequantised(self) -> Tensor:
        held = self.held
        groups = held["_scales"].shape[-2]
        codes = unpack(held["_codes"].view(torch.uint8), self.bits, groups * self.group_size)
        values = Affine(codes.unflatten(-1, (groups, self.group_size)), held["_scales"]).values()
        return self.lines(values.flatten(-2))


class KeyStore(KiviStore):
    """Each residual_length tokens at once, in groups of group_size tokens of each channel."""

    line_tokens = 3  # (B, h, D, N)

    def settled(self, waiting: int) -> int:
        """All but what fills no residual_length."""
        return waiting - waiting % self.residual_length

    def lines(self, rows: Tensor) -> Tensor:
        """(B, h, N, D) as (B, h, D, N), and back."""
        return rows.transpose(-1, -2)


class ValueStore(KiviStore):
    """Each token when residual_length newer ones wait, in groups of group_size channels."""

    line_tokens = TOKENS

    def settled(self, waiting: int) -> int:
        """All but the newest residual_length."""
        return max(0, waiting - self.residual_length)

    def lines(self, rows: Tensor) -> Tensor:
        """As they are."""
        return rows


class Kivi(QuantisedCache):
    """Source: Liu et al. 2024, arXiv 2402.02750, section 3.3."""

    def store(self, name: str) -> KiviStore:
        """Keys and values each in their own way."""
        own = self.arguments[f"{name}_bits"]
        bits = self.arguments["bits"] if own is None else own
        kind = KeyStore if name == "k" else ValueStore
        return kind(bits, self.arguments["group_size"], self.arguments["residual_length"])


POLICY = Kivi
