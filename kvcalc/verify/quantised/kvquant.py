"""KVQuant, run: codes by a table of unequal steps, and the outliers of each token kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

from kvcalc.verify.quantised._bits import pack, unpack
from kvcalc.verify.quantised._cache import TOKENS, QuantisedCache, Store

_INT32_BYTES = 4
_LOW_16_BITS = 0xFFFF


def table_of(values: Tensor, bits: int) -> Tensor:
    """2^bits unequal steps for values (n, ...): means of equally many of them, (..., 2^bits), ascending."""
    parts = torch.tensor_split(values.float().sort(dim=0).values, 2**bits)
    means = [part.mean(dim=0) if part.shape[0] else torch.zeros_like(values[0]).float() for part in parts]
    return torch.stack(means, dim=-1).sort(dim=-1).values


def nearest(values: Tensor, table: Tensor) -> Tensor:
    """Nearest entry of a table (..., 2^bits) for each of the values (...): uint8."""
    return (values.unsqueeze(-1) - table).abs().argmin(dim=-1).to(torch.uint8)


def looked_up(codes: Tensor, table: Tensor) -> Tensor:
    """Entries of the table (..., 2^bits) that the codes (...) name."""
    wide = table.expand(*codes.shape, table.shape[-1])
    return wide.gather(-1, codes.long().unsqueeze(-1)).squeeze(-1)


class KvquantStore(Store):
    """Tokens in rows of all heads' channels, (B, T, W), W = h * D, except for the first few in fp16.

    The table is made from the prompt instead of calibration: one for each channel of keys, one in all for values. It is
    the same for every sequence and no part of the cache.
    """

    def __init__(self, name: str, bits: int, outliers: Fraction, first: int) -> None:
        self.name = name
        self.bits = bits
        self.share = outliers
        self.first = first
        self.tokens = 0
        self.table = torch.empty(0)
        self.parts: dict[str, Tensor] = {}
        self.shape = torch.Size()
        self.dtype = torch.float32

    @property
    def held(self) -> Mapping[str, Tensor]:
        """Codes, outliers, and the first tokens if they are kept separately."""
        return self.parts

    def append(self, rows: Tensor) -> None:
        """Puts the first tokens apart, and quantises the others."""
        self.dtype = rows.dtype
        flat = rows.transpose(1, TOKENS).flatten(TOKENS)  # (B, h, N, D) -> (B, N, W)
        if not self.tokens:
            self.shape = rows.shape
            by_channel = flat.flatten(0, 1)  # (B * N, W)
            self.table = table_of(by_channel if self.name == "k" else by_channel.flatten(), self.bits)
        still_first = max(0, self.first - self.tokens)
        if self.first:
            kept = rows[:, :, :still_first].to(torch.float16)
            before = self.parts.get("_first", kept[:, :, :0])
            self.parts["_first"] = torch.cat([before, kept], dim=TOKENS)
        later = flat[:, still_first:]
        quantised = self.quantised(later.float(), max(0, self.tokens - self.first))
        for part, new in quantised.items():
            self.parts[part] = torch.cat([self.parts[part], new], dim=1) if part in self.parts else new.contiguous()
        self.tokens += rows.shape[TOKENS]

    def read(self) -> Tensor:
        """The first tokens, then the others looked up, outliers in their places."""
        _, heads, _, width = self.shape
        rows = self.dequantised().unflatten(-1, (heads, width)).transpose(1, TOKENS).to(self.dtype)
        return torch.cat([self.parts["_first"].to(self.dtype), rows], dim=TOKENS) if self.first else rows

    def outliers_until(self, tokens: int) -> int:
        """Outliers of these quantised tokens: their share of the elements, rounded up."""
        _, heads, _, width = self.shape
        return -(-tokens * heads * width * self.share.numerator // self.share.denominator)

    def quantised(self, rows: Tensor, before: int) -> dict[str, Tensor]:
        """Codes of the rows (B, N, W), and of each token those elements that are farthest from the middle."""
        codes = {"_codes": pack(nearest(rows, self.table), self.bits)}
        if not self.share:
            return codes
        ends = [self.outliers_until(before + token) for token in range(rows.shape[1] + 1)]
        each = [self._farthest(rows[:, token], end - start) for token, (start, end) in enumerate(pairwise(ends))]
        none = rows.new_empty((rows.shape[0], 0, 2), dtype=torch.int16)
        return codes | {"_outliers": torch.cat([none, *each], dim=1)}

    def dequantised(self) -> Tensor:
        """Rows (B, T, W)."""
        _, heads, _, width = self.shape
        rows = looked_up(unpack(self.parts["_codes"], self.bits, heads * width), self.table)
        if not self.share:
            return rows
        ends = torch.tensor([self.outliers_until(token) for token in range(rows.shape[1] + 1)], device=rows.device)
        first_of_token = torch.arange(rows.shape[1], device=rows.device).repeat_interleave(ends.diff()) * rows.shape[-1]
        value, index = self.parts["_outliers"].unbind(-1)  # int16 (B, all outliers) each
        places = first_of_token + (index.long() & _LOW_16_BITS)
        exact = value.contiguous().view(torch.float16).float()
        dense: Tensor = rows.flatten(1).scatter(-1, places, exact).unflatten(-1, rows.shape[1:])
        return dense

    def _farthest(self, row: Tensor, count: int) -> Tensor:
        """Values and indices, 16 bits each, of `count` elements of a row (B, W): int16 (B, count, 2)."""
        index = (row - row.median(dim=-1, keepdim=True).values).abs().topk(count, dim=-1).indices
        value = row.gather(-1, index).to(torch.float16).view(torch.int16)
        return torch.stack([value, index.to(torch.int16)], dim=-1)


class DeployedStore(KvquantStore):
    """As the authors' code: equally many upper and lower outliers of each token, 4 bytes for value and index each.

    Values have a separate table for each token. room: tokens whose memory is there from the start.
    """

    def __init__(self, name: str, bits: int, outliers: Fraction, first: int, room: int | None) -> None:
        super().__init__(name, bits, outliers, first)
        self.room = room

    @property
    def held(self) -> Mapping[str, Tensor]:
        """The parts, filled up to the room where one is asked for."""
        if self.room is None:
            return self.parts
        return {
            name: part if name == "_first" else pad(part, (0, 0, 0, self.room - part.shape[1]))
            for name, part in self.parts.items()
        }

    def quantised(self, rows: Tensor, before: int) -> dict[str, Tensor]:  # noqa: ARG002  # each token alike
        """Codes in int32, outliers in fp32 with indices in int32, and of values the table of each token."""
        parts: dict[str, Tensor] = {}
        inner = rows
        if self.share:
            half = int(rows.shape[-1] * self.share / 2) + 1
            index = torch.cat([rows.topk(half).indices, rows.topk(half, largest=False).indices], dim=-1)
            parts = {"_outliers": rows.gather(-1, index), "_outlier_indices": index.to(torch.int32)}
            inner = rows.scatter(-1, index, rows.median(dim=-1, keepdim=True).values.expand(index.shape))
        table = self.table
        if self.name == "v":
            low, high = inner.amin(dim=-1, keepdim=True), inner.amax(dim=-1, keepdim=True)
            spread = (self.table - self.table[0]) / (self.table[-1] - self.table[0])
            table = low + spread * (high - low)  # (B, N, 2^bits)
            parts["_table"] = table
            table = table.unsqueeze(TOKENS)
        return {"_codes": pack(nearest(rows, table), self.bits, _INT32_BYTES).view(torch.int32), **parts}

    def dequantised(self) -> Tensor:
        """Rows (B, T, W)."""
        _, heads, _, width = self.shape
        codes = unpack(self.parts["_codes"].view(torch.uint8), self.bits, heads * width)
        rows = looked_up(codes, self.parts["_table"].unsqueeze(TOKENS) if self.name == "v" else self.table)
        if not self.share:
            return rows
        return rows.scatter(-1, self.parts["_outlier_indices"].long(), self.parts["_outliers"])


class Kvquant(QuantisedCache):
    """Source: Hooper et al. 2024, arXiv 2401.18079, section 3; SqueezeAILab/KVQuant, deployment."""

    def store(self, name: str) -> KvquantStore:
        """As the paper counts, or as deployed."""
        asked = self.arguments
        threshold = asked["sparsity_threshold"]
        outliers = Fraction(1 - (Fraction(str(threshold)) if isinstance(threshold, float) else threshold))
        if asked["deployed"]:
            return DeployedStore(name, asked["bits"], outliers, asked["first_few_fp16"], asked["maxseqlen"])
        return KvquantStore(name, asked["bits"], outliers, asked["first_few_fp16"])


POLICY = Kvquant
