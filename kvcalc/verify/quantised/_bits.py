"""Codes of a few bits, packed into bytes and unpacked again; and the rounding of numbers to codes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

BITS_PER_BYTE = 8


def pack(codes: Tensor, bits: int, word_bytes: int = 1) -> Tensor:
    """Codes (..., n), each below 2^bits, one after the other from the lowest bit on: uint8 (..., bytes).

    The last word is filled up with zeros.
    """
    stream = _regrouped(codes.to(torch.uint8), bits, 1)
    filled = pad(stream, (0, -stream.shape[-1] % (BITS_PER_BYTE * word_bytes)))
    return _regrouped(filled, 1, BITS_PER_BYTE)


def unpack(packed: Tensor, bits: int, number: int) -> Tensor:
    """The first `number` codes of what `pack` made: uint8 (..., number)."""
    if BITS_PER_BYTE % bits == 0:
        return _regrouped(packed, BITS_PER_BYTE, bits)[..., :number]
    stream = _regrouped(packed, BITS_PER_BYTE, 1)
    return _regrouped(stream[..., : number * bits], 1, bits)


def _regrouped(codes: Tensor, bits: int, into: int) -> Tensor:
    """A stream of codes of `bits` bits as one of codes of `into` bits; one of the two divides the other."""
    if bits == into:
        return codes
    if bits > into:
        places = torch.arange(0, bits, into, dtype=torch.uint8, device=codes.device)
        split: Tensor = codes.unsqueeze(-1) >> places & 2**into - 1
        return split.flatten(-2)
    places = torch.arange(0, into, bits, dtype=torch.uint8, device=codes.device)
    parts = codes.unflatten(-1, (-1, into // bits)) << places
    joined: Tensor = parts.sum(dim=-1, dtype=torch.uint8)
    return joined


class Affine(NamedTuple):
    """Codes with a scale and an offset for each group: value = code * scale + offset.

    codes: (..., groups, group_size). scales: scale and offset, (..., groups, 2), in the format that they are stored in.
    """

    codes: Tensor
    scales: Tensor

    def values(self) -> Tensor:
        """What the codes stand for, in float32, (..., groups, group_size)."""
        scale, offset = self.scales.float().unsqueeze(-2).unbind(-1)  # (..., groups, 1) each
        return self.codes.float() * scale + offset


def affine(values: Tensor, bits: int, dtype: torch.dtype) -> Affine:
    """Values (..., groups, group_size) rounded to the 2^bits levels from the least to the largest of each group.

    Scale and offset are rounded to `dtype` first, so that codes fit what is stored.
    """
    low, high = values.float().aminmax(dim=-1, keepdim=True)
    most = 2**bits - 1
    scales = torch.cat([(high - low) / most, low], dim=-1).to(dtype)  # (..., groups, 2)
    scale, offset = scales.float().unsqueeze(-2).unbind(-1)
    steps = (values.float() - offset) / scale.where(scale > 0, 1)
    return Affine(steps.round().clamp(0, most).to(torch.uint8), scales)
