"""Block formats, bit by bit: a number of float32 elements becomes bytes, and elements again.

Layouts of GGUF's formats are those of ggml-common.h and ggml-quants.c; in nvfp4 and mxfp4 the scale comes first, and
two neighbours share a byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kvcalc.verify.quantised._bits import pack, unpack

BLOCK = 32
"""Elements of each block of GGUF's formats."""
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Sizes that four bits of floating point can have; the fifth value is a sign's."""
IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""Levels of iq4_nl: ggml-common.h, kvalues_iq4nl."""
_E8M0_BIAS, _E2M1_LARGEST_EXPONENT = 127, 2
_E4M3_LARGEST = 448.0


class Codec(NamedTuple):
    """encode: float32 (..., block_elements) to uint8 (..., block_bytes). decode: back."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def halves(values: Tensor) -> Tensor:
    """fp16 numbers (..., n) as bytes (..., 2 n)."""
    return values.to(torch.float16).view(torch.uint8)


def from_halves(data: Tensor) -> Tensor:
    """Bytes (..., 2 n) as the fp16 numbers that they are, in float32."""
    numbers: Tensor = data.contiguous().view(torch.float16)
    return numbers.float()


def _q8_0() -> Codec:
    def encode(x: Tensor) -> Tensor:
        scale = (x.abs().amax(dim=-1, keepdim=True) / 127).to(torch.float16)  # largest int8
        codes = (x / _nonzero(scale.float())).round().clamp(-127, 127).to(torch.int8)
        return torch.cat([halves(scale), codes.view(torch.uint8)], dim=-1)

    return Codec(encode, lambda data: from_halves(data[..., :2]) * data[..., 2:].contiguous().view(torch.int8).float())


def _symmetric(bits: int) -> Codec:
    """q4_0 and q5_0: the element that is largest in size becomes the lowest level, and zero is a level."""
    zero = 2 ** (bits - 1)

    def encode(x: Tensor) -> Tensor:
        largest = x.gather(-1, x.abs().argmax(dim=-1, keepdim=True))
        scale = (largest / -zero).to(torch.float16)
        codes = (x / _nonzero(scale.float()) + zero).round().clamp(0, 2 * zero - 1).to(torch.uint8)
        return torch.cat([halves(scale), _block_codes(codes, bits)], dim=-1)

    def decode(data: Tensor) -> Tensor:
        levels: Tensor = _from_block_codes(data[..., 2:], bits).float() - zero
        return from_halves(data[..., :2]) * levels

    return Codec(encode, decode)


def _with_minimum(bits: int) -> Codec:
    """q4_1 and q5_1: levels from the least element to the largest."""
    most = 2**bits - 1

    def encode(x: Tensor) -> Tensor:
        low, high = x.aminmax(dim=-1, keepdim=True)
        scale, minimum = ((high - low) / most).to(torch.float16), low.to(torch.float16)
        codes = ((x - minimum.float()) / _nonzero(scale.float())).round().clamp(0, most).to(torch.uint8)
        return torch.cat([halves(scale), halves(minimum), _block_codes(codes, bits)], dim=-1)

    def decode(data: Tensor) -> Tensor:
        codes = _from_block_codes(data[..., 4:], bits).float()
        return from_halves(data[..., :2]) * codes + from_halves(data[..., 2:4])

    return Codec(encode, decode)


def _iq4_nl() -> Codec:
    def encode(x: Tensor) -> Tensor:
        levels = torch.tensor(IQ4_NL, dtype=torch.float32, device=x.device)
        largest = x.gather(-1, x.abs().argmax(dim=-1, keepdim=True))
        scale = (largest / levels[0]).to(torch.float16)
        codes = (x.unsqueeze(-1) - scale.float().unsqueeze(-1) * levels).abs().argmin(dim=-1).to(torch.uint8)
        return torch.cat([halves(scale), _block_codes(codes, 4)], dim=-1)

    def decode(data: Tensor) -> Tensor:
        levels = torch.tensor(IQ4_NL, dtype=torch.float32, device=data.device)
        return from_halves(data[..., :2]) * levels[_from_block_codes(data[..., 2:], 4).long()]

    return Codec(encode, decode)


def _nvfp4() -> Codec:
    """A scale in e4m3 for 16 elements; the scale of the whole tensor is 1."""

    def encode(x: Tensor) -> Tensor:
        scale = (x.abs().amax(dim=-1, keepdim=True) / E2M1[-1]).clamp(max=_E4M3_LARGEST).to(torch.float8_e4m3fn)
        return torch.cat([scale.view(torch.uint8), _e2m1(x / _nonzero(scale.float()))], dim=-1)

    def decode(data: Tensor) -> Tensor:
        return data[..., :1].contiguous().view(torch.float8_e4m3fn).float() * _from_e2m1(data[..., 1:])

    return Codec(encode, decode)


def _mxfp4() -> Codec:
    """A power of two for 32 elements, so large that the largest element is below 8 of it."""

    def encode(x: Tensor) -> Tensor:
        largest = x.abs().amax(dim=-1, keepdim=True)
        exponent = largest.where(largest > 0, 1).log2().floor() - _E2M1_LARGEST_EXPONENT
        exponent = exponent.clamp(-_E8M0_BIAS, _E8M0_BIAS)
        return torch.cat([(exponent + _E8M0_BIAS).to(torch.uint8), _e2m1(x / exponent.exp2())], dim=-1)

    def decode(data: Tensor) -> Tensor:
        return (data[..., :1].float() - _E8M0_BIAS).exp2() * _from_e2m1(data[..., 1:])

    return Codec(encode, decode)


CODECS = {
    "q8_0": _q8_0(),
    "q5_1": _with_minimum(5),
    "q5_0": _symmetric(5),
    "q4_1": _with_minimum(4),
    "q4_0": _symmetric(4),
    "iq4_nl": _iq4_nl(),
    "nvfp4": _nvfp4(),
    "mxfp4": _mxfp4(),
}


def _nonzero(scale: Tensor) -> Tensor:
    return scale.where(scale != 0, 1)


def _block_codes(codes: Tensor, bits: int) -> Tensor:
    """32 codes as GGUF lays them out: fifth bits, if any, in four bytes; then byte i has those of i and i + 16."""
    low = codes & 0xF
    nibbles = low[..., : BLOCK // 2] | low[..., BLOCK // 2 :] << 4
    return nibbles if bits == 4 else torch.cat([pack(codes >> 4, 1), nibbles], dim=-1)  # noqa: PLR2004


def _from_block_codes(data: Tensor, bits: int) -> Tensor:
    nibbles = data[..., -BLOCK // 2 :]
    codes = torch.cat([nibbles & 0xF, nibbles >> 4], dim=-1)
    return codes if bits == 4 else codes | unpack(data[..., : BLOCK // 8], 1, BLOCK) << 4  # noqa: PLR2004


def _e2m1(values: Tensor) -> Tensor:
    """Values (..., n) as four bits of floating point each, the nearest there is: uint8 (..., n / 2)."""
    sizes = torch.tensor(E2M1, device=values.device)
    codes = (values.abs().unsqueeze(-1) - sizes).abs().argmin(dim=-1) | (values < 0) << 3
    return pack(codes, 4)


def _from_e2m1(data: Tensor) -> Tensor:
    codes = unpack(data, 4, 2 * data.shape[-1]).long()
    sizes = torch.tensor(E2M1, device=data.device)[codes & 7]  # the three bits below the sign
    return sizes.where(codes <= 7, -sizes)  # noqa: PLR2004
