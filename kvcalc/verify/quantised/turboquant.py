"""TurboQuant, run: rotated unit vectors rounded to a table, coordinate by coordinate, and their norms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from kvcalc.verify.quantised._bits import pack, unpack
from kvcalc.verify.quantised._cache import TOKENS, QuantisedCache, Store, TokenStore

_SEED = 0
_ROUNDS = 500


class Rotation:
    """A random rotation of vectors of one width, and the table for coordinates of rotated unit vectors.

    The table loses least of what such coordinates are, close to normal with variance 1 / width. It and the rotation
    are one for all layers and tokens.
    """

    def __init__(self, width: int, bits: int, device: torch.device) -> None:
        made = torch.Generator().manual_seed(_SEED)
        self.matrix = torch.linalg.qr(torch.randn(width, width, generator=made)).Q.to(device)
        self.table = (_nearest_means(2**bits) / width**0.5).float().to(device)

    def encode(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest entry of each rotated coordinate, uint8 (..., D), and norms in fp32 (...)."""
        norms = rows.float().norm(dim=-1)
        rotated = (rows.float() / norms.where(norms > 0, 1).unsqueeze(-1)) @ self.matrix
        codes = (rotated.unsqueeze(-1) - self.table).abs().argmin(dim=-1).to(torch.uint8)
        return codes, norms

    def decode(self, codes: Tensor, norms: Tensor) -> Tensor:
        """Vectors in float32, (..., D)."""
        rows: Tensor = self.table[codes.long()] @ self.matrix.T * norms.unsqueeze(-1)
        return rows


def _nearest_means(levels: int) -> Tensor:
    """Levels that are the means of all normal numbers nearest to them: Lloyd's, to a fixed point."""
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
    means: Tensor = normal.icdf((torch.arange(levels, dtype=torch.float64) + 0.5) / levels)
    infinite = torch.tensor([torch.inf], dtype=torch.float64)
    for _ in range(_ROUNDS):
        borders = torch.cat([-infinite, (means[:-1] + means[1:]) / 2, infinite])
        density = torch.exp(-borders.square() / 2) / (2 * torch.pi) ** 0.5
        likely: Tensor = normal.cdf(borders).diff()
        means = -density.diff() / likely  # E[x | border i < x < border i + 1]
    return means


@cache
def rotation(width: int, bits: int, device: torch.device) -> Rotation:
    """The one rotation of vectors of this width, and its table."""
    return Rotation(width, bits, device)


class PackedStore(TokenStore):
    """codes (B, h, T, D * bits / 8) and norms (B, h, T)."""

    def __init__(self, bits: int, width: int) -> None:
        super().__init__()
        self.bits = bits
        self.width = width

    def encode(self, rows: Tensor) -> dict[str, Tensor]:
        """Packed codes, and norms."""
        codes, norms = rotation(self.width, self.bits, rows.device).encode(rows)
        return {"_codes": pack(codes, self.bits), "_norms": norms}

    def decode(self, held: Mapping[str, Tensor]) -> Tensor:
        """Rotated back."""
        codes = unpack(held["_codes"], self.bits, self.width)
        return rotation(self.width, self.bits, codes.device).decode(codes, held["_norms"])


class PackageStore(Store):
    """All tokens (B, h, T, D), those before the residual dequantised; and what the package holds in addition."""

    def __init__(self, bits: int, width: int, residual_len: int) -> None:
        self.bits = bits
        self.width = width
        self.residual_len = residual_len
        self.rows = self.codes = self.norms = self.residual = torch.empty(0)

    @property
    def held(self) -> Mapping[str, Tensor]:
        """The rows, codes of a byte each, norms, and the residual, once there is more than the residual."""
        return {"": self.rows, "_codes": self.codes, "_norms": self.norms, "_residual": self.residual}

    def append(self, rows: Tensor) -> None:
        """Quantises what has become older than the residual, and dequantises all of it into one tensor."""
        turned = rotation(self.width, self.bits, rows.device)
        if not self.rows.numel():
            self.codes = rows.new_empty(*rows.shape[:TOKENS], 0, self.width, dtype=torch.uint8)
            self.norms = rows.new_empty(*rows.shape[:TOKENS], 0, dtype=torch.float32)
            self.residual = self.rows = rows[:, :, :0].clone()
        newest = torch.cat([self.residual if self.codes.numel() else self.rows, rows], dim=TOKENS)
        older = max(0, newest.shape[TOKENS] - self.residual_len)
        codes, norms = turned.encode(newest[:, :, :older])
        self.codes, self.norms = torch.cat([self.codes, codes], TOKENS), torch.cat([self.norms, norms], TOKENS)
        newest = newest[:, :, older:].clone()
        decoded = turned.decode(self.codes, self.norms).to(rows.dtype)
        self.rows = torch.cat([decoded, newest], dim=TOKENS)
        if self.codes.numel():
            self.residual = newest

    def read(self) -> Tensor:
        """The rows that are there for attention to read."""
        return self.rows


class TurboQuant(QuantisedCache):
    """Source: Zandieh et al. 2025, arXiv 2504.19874, algorithm 1; the package as turboquant 0.2.0 on PyPI."""

    def store(self, name: str) -> Store:
        """As the package holds it, or packed."""
        width = self.place.attention.head_widths[name == "v"]
        if self.arguments["package"]:
            return PackageStore(self.arguments["bits"], width, self.arguments["residual_len"])
        return PackedStore(self.arguments["bits"], width)


POLICY = TurboQuant
