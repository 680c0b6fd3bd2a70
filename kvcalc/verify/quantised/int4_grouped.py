"""4-bit keys and values in groups of channels, run."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.verify.quantised._bits import Affine, affine, pack, unpack
from kvcalc.verify.quantised._cache import QuantisedCache, TokenStore

_BITS = 4


class Int4Store(TokenStore):
    """codes (B, h, T, D / 2), and scales (B, h, T, groups, 2): scale and zero of each group of channels, in fp16."""

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size

    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        """Each group of channels rounded to 16 levels between its least and its largest."""
        quantised = affine(rows.unflatten(-1, (-1, self.group_size)), _BITS, torch.float16)
        return {"_codes": pack(quantised.codes.flatten(-2), _BITS), "_scales": quantised.scales}

    def decode(self, held: Mapping[str, Tensor]) -> Tensor:
        """Codes * scale + zero."""
        groups = held["_scales"].shape[-2]
        codes = unpack(held["_codes"], _BITS, groups * self.group_size).unflatten(-1, (groups, self.group_size))
        return Affine(codes, held["_scales"]).values().flatten(-2)


class Int4Grouped(QuantisedCache):
    """Each token when it comes, in groups of group_size channels."""

    def store(self, name: str) -> Int4Store:  # noqa: ARG002  # keys and values alike
        """Both alike."""
        return Int4Store(self.arguments["group_size"])


POLICY = Int4Grouped
