"""Separate formats for keys and values, run: block formats in bytes, others in torch's own types."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

from kvcalc.cache.dtypes import Dtype, dtype_named
from kvcalc.verify.devices import torch_dtype
from kvcalc.verify.quantised._bits import pack, unpack
from kvcalc.verify.quantised._blocks import CODECS
from kvcalc.verify.quantised._cache import TOKENS, QuantisedCache, TokenStore

_INTEGERS = {"int8": 8, "int4": 4}
_CLIPPED_AT = 4.0
"""Largest size that int8 and int4 hold here: their scale is one for the tensor, and no part of the cache."""


class RowStore(TokenStore):
    """Rows of all heads, (B, 1, T, bytes): each in whole blocks, the last filled up with zeros.

    dtype: None for that of the model.
    """

    def __init__(self, format: Dtype | None) -> None:
        super().__init__()
        self.format = format
        self.shape = torch.Size()

    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows in the format."""
        self.shape = rows.shape
        flat = rows.transpose(1, TOKENS).flatten(TOKENS).unsqueeze(1)  # (B, h, N, D) -> (B, 1, N, h * D)
        if self.format is None:
            return {"": flat}
        if self.format.name in CODECS:
            elements = self.format.block_elements
            blocks = pad(flat.float(), (0, -flat.shape[-1] % elements)).unflatten(-1, (-1, elements))
            return {"": CODECS[self.format.name].encode(blocks).flatten(-2)}
        if self.format.name not in _INTEGERS:
            return {"": flat.to(torch_dtype(self.format.name))}
        bits = _INTEGERS[self.format.name]
        zero = 2 ** (bits - 1)
        codes = (flat.float() * (zero - 1) / _CLIPPED_AT).round().clamp(1 - zero, zero - 1) + zero
        return {"": pack(codes, bits)}

    def decode(self, held: Mapping[str, Tensor]) -> Tensor:
        """Rows in float32, by heads."""
        batch, heads, _, width = self.shape
        stored, elements = held[""], heads * width
        if self.format is not None and self.format.name in CODECS:
            blocks = stored.unflatten(-1, (-1, self.format.block_bytes))
            flat = CODECS[self.format.name].decode(blocks).flatten(-2)[..., :elements]
        elif self.format is not None and self.format.name in _INTEGERS:
            bits = _INTEGERS[self.format.name]
            zero = 2 ** (bits - 1)
            flat = (unpack(stored, bits, elements).float() - zero) * _CLIPPED_AT / (zero - 1)
        else:
            flat = stored.float()
        return flat.reshape(batch, -1, heads, width).transpose(1, TOKENS)


class KvDtype(QuantisedCache):
    """Each token's row when it comes."""

    def store(self, name: str) -> RowStore:
        """The format of keys, or of values."""
        asked = self.arguments[f"{name}_dtype"]
        return RowStore(None if asked is None else dtype_named(asked))


POLICY = KvDtype
