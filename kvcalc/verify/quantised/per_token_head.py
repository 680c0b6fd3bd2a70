"""fp8, int8 or int4 keys and values with a scale for each token and head, run."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.cache.dtypes import dtype_named
from kvcalc.verify.devices import torch_dtype
from kvcalc.verify.quantised._bits import pack, unpack
from kvcalc.verify.quantised._cache import QuantisedCache, TokenStore

_LARGEST = {"fp8": 448.0, "int8": 127.0, "int4": 7.0}
"""Code of the element of a head that is largest in size."""
_INT4, _INT4_BITS, _INT4_ZERO = "int4", 4, 8


class PerTokenHeadStore(TokenStore):
    """codes (B, h, T, D), or (B, h, T, D / 2) for int4, and scales (B, h, T): the largest of a head / largest code."""

    def __init__(self, name: str, scale_dtype: torch.dtype) -> None:
        super().__init__()
        self.name = name
        self.scale_dtype = scale_dtype
        self.width = 0

    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        """Elements / scale, rounded."""
        self.width = rows.shape[-1]
        largest = _LARGEST[self.name]
        scales = (rows.float().abs().amax(dim=-1) / largest).to(self.scale_dtype)  # (B, h, N)
        steps = rows.float() / scales.float().where(scales > 0, 1).unsqueeze(-1)
        steps = steps.clamp(-largest, largest)
        if self.name == "fp8":
            return {"_codes": steps.to(torch.float8_e4m3fn), "_scales": scales}
        if self.name == _INT4:
            return {"_codes": pack(steps.round().to(torch.int32) + _INT4_ZERO, _INT4_BITS), "_scales": scales}
        return {"_codes": steps.round().to(torch.int8), "_scales": scales}

    def decode(self, held: Mapping[str, Tensor]) -> Tensor:
        """Codes * scale."""
        codes = held["_codes"]
        steps = unpack(codes, _INT4_BITS, self.width).float() - _INT4_ZERO if self.name == _INT4 else codes.float()
        return steps * held["_scales"].float().unsqueeze(-1)


class PerTokenHead(QuantisedCache):
    """Each head of each token with its own scale."""

    def store(self, name: str) -> PerTokenHeadStore:  # noqa: ARG002  # keys and values alike
        """The format that was asked for."""
        asked = self.arguments["kv_cache_dtype"].lower().removesuffix("_per_token_head")
        return PerTokenHeadStore(asked, torch_dtype(dtype_named(self.arguments["scale_dtype"]).name))


POLICY = PerTokenHead
