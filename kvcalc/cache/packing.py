"""Memory layout of quantised elements: codes packed into words, plus the scales and offsets of each group.

A group is `group_size` neighbouring elements that share a scale and an offset. How its codes are packed is data: a
`Dtype` whose block is a word, such as 2 codes in 1 byte, or 10 codes of 3 bits in 4 bytes.
"""

from __future__ import annotations

from kvcalc.cache.dtypes import Dtype
from kvcalc.cache.slots.methods import packed
from kvcalc.cache.slots.rule import SlotRule
from kvcalc.cache.tensor import CacheTensor, Dim

BITS_PER_BYTE = 8
SCALE_AND_OFFSET = Dim("scale_and_offset", 2)
"""Of one group: elements are code * scale + offset (a library's shift, zero or minimum)."""


def int_codes(bits: int) -> Dtype:
    """Codes of 1, 2, 4 or 8 bits, packed into bytes; of 3 bits, eight in three bytes."""
    if BITS_PER_BYTE % bits:
        return Dtype(f"int{bits}", BITS_PER_BYTE, bits, f"{BITS_PER_BYTE} in {bits} bytes")
    return Dtype(f"int{bits}", BITS_PER_BYTE // bits, 1, "packed into bytes")


def grouped(
    tensor: CacheTensor,
    codes: Dtype,
    group_size: int,
    rule: SlotRule,
    *,
    scale_dtype: Dtype | None = None,
    rows_of_groups: bool = False,
) -> tuple[CacheTensor, CacheTensor]:
    """Codes, and scales with offsets, of a tensor with the slot rule `rule`; group_size divides a slot's elements.

    Bytes of t slots with n groups each: codes.bytes_of(group_size) * n * t for codes packed within their group.
    rows_of_groups: the codes of as many groups as a word holds are packed together, so that ceil(n * t /
    block_elements) rows have group_size words each; the last row may be partly filled.
    scale_dtype: of scale and offset; None for that of the model.
    """
    width = tensor.dims[-1]
    in_heads = width.size % group_size == 0
    groups = tensor.elements_per_slot // group_size
    scales = scales_of(tensor, group_size, rule, scale_dtype)
    in_word = codes.block_elements
    whole_words = (width.size // group_size if rows_of_groups else group_size) % in_word == 0
    named = tensor._replace(name=f"{tensor.name}_codes", dtype=codes, slot_rule=rule)
    if in_heads and whole_words:
        return named, scales
    if not rows_of_groups:
        return named._replace(dims=(Dim("group_size", group_size),), slot_rule=packed(groups, 1, rule)), scales
    word = Dtype(f"{in_word} x {codes.name}", 1, codes.block_bytes, codes.source)
    row = named._replace(dims=(Dim("words", group_size),), dtype=word, slot_rule=packed(groups, in_word, rule))
    return row, scales


def scales_of(tensor: CacheTensor, group_size: int, rule: SlotRule, dtype: Dtype | None) -> CacheTensor:
    """Scale and offset of each group of neighbouring elements, per head if groups divide it."""
    *outer, width = tensor.dims
    dims = (*outer, Dim("groups", width.size // group_size), SCALE_AND_OFFSET)
    if width.size % group_size:
        dims, rule = (SCALE_AND_OFFSET,), packed(tensor.elements_per_slot // group_size, 1, rule)
    return CacheTensor(f"{tensor.name}_scales", dims, rule, dtype, quantizable=False)


def with_residual(parts: tuple[CacheTensor, ...], tensor: CacheTensor, waiting: SlotRule) -> tuple[CacheTensor, ...]:
    """Quantised parts of a tensor, and the pending tokens in its own format."""
    return (*parts, tensor._replace(name=f"{tensor.name}_residual", slot_rule=waiting, quantizable=False))
