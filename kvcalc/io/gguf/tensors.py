"""Bytes of a GGUF file's tensors, by the list after its metadata: names, shapes, types.

Each entry: name (length and bytes), number of dimensions (u32), dimensions (u64, in version 1 u32), type (u32), offset
(u64). A row comes in blocks of its type. Source: ggml/docs/gguf.md and ggml.c (type_traits) of llama.cpp.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

from kvcalc.errors import InvalidFileError
from kvcalc.io.gguf.header import SPLIT, TensorList, read_tensor_list
from kvcalc.units import shown

_BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 30: (1, 2), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8)},
    **{2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82)},
    **{23: (256, 136), 29: (256, 56), 34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36)},
}
"""Type: elements and bytes of a block. 0 f32, 1 f16, 30 bf16, 24..28 i8 i16 i32 i64 f64, 2..9 q4_0 q4_1 q5_0 q5_1 q8_0
q8_1, 10..15 q2_K to q8_K, 16..23 and 29 iq2_xxs iq2_xs iq3_xxs iq1_s iq4_nl iq3_s iq2_s iq4_xs iq1_m, 34 and 35 tq1_0
tq2_0, 39 mxfp4, 40 nvfp4."""


def tensor_bytes(path: Path) -> int:
    """Bytes of all tensors; of a split model those of every part. Raises InvalidFileError."""
    return sum(map(_bytes_of_file, _parts(path)))


def _parts(path: Path) -> list[Path]:
    """All files of a split model, each of which must exist."""
    split = SPLIT.search(path.name)
    if split is None:
        return [path]
    start, number = path.name[: split.start()], int(split[2])
    found = [file for file in path.parent.glob("*.gguf") if re.fullmatch(_part_of(start, split[2]), file.name)]
    if len(found) != number:
        raise InvalidFileError(
            f"is one of {number:,} parts, of which {len(found):,} exist",
            where=str(path),
            help="put all parts in the same folder, or pass the bytes: 671GB",
        )
    return sorted(found)


def _part_of(start: str, number: str) -> str:
    return rf"{re.escape(start)}-\d{{5}}-of-{number}\.gguf"


def _bytes_of_file(path: Path) -> int:
    return bytes_of_list(read_tensor_list(path), str(path))


def bytes_of_list(listed: TensorList, where: str) -> int:
    """Bytes of the tensors listed in the file `where`. Raises InvalidFileError if they exceed the file."""
    total = 0
    for name, dims, kind in listed.tensors:
        if kind not in _BLOCKS:
            raise InvalidFileError(
                f"stores {shown(name)} in an unknown type {kind:,}",
                where=where,
                help="pass the bytes of the weights: 671GB",
            )
        elements, block_bytes = _BLOCKS[kind]
        total += -(-dims[0] // elements) * block_bytes * prod(dims[1:])
    if total > listed.left_bytes:
        raise InvalidFileError(
            f"lists tensors of {total:,} bytes, but {listed.left_bytes:,} are left in the file",
            where=where,
            help="download the file again, and compare its size with the published one",
        )
    return total
