"""Bytes of the weights in files. Only headers are read.

    model.safetensors.index.json    metadata.total_size
    *.safetensors, or a folder      the header's length (8 bytes) and the header (JSON), whose data_offsets end with the
                                    tensors: the sum over files
    *.gguf                          the tensors that the header lists, each by its shape and type; all parts of a split

Source: github.com/huggingface/safetensors (format); ggml/docs/gguf.md of llama.cpp.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from kvcalc.errors import InvalidFileError
from kvcalc.fleet.weights import HOW_TO_SAY
from kvcalc.io.documents import Document, parse_json, read_text
from kvcalc.io.files import Readable, exists, is_folder, opened
from kvcalc.units import shown

MAX_HEADER_BYTES = 100_000_000
"""Longest header that safetensors itself reads."""
MAX_HEADER_VALUES = 2**20
"""Most values in a header, about seven per tensor: the largest checkpoints have about 100,000 tensors."""
MAX_INDEX_BYTES = 2**25
"""Largest index; that of DeepSeek-R1 has 9 MB."""
SUFFIXES = (".json", ".safetensors", ".gguf")
_INDEX, _TENSORS, _GGUF = ".safetensors.index.json", ".safetensors", ".gguf"
_LENGTH = Struct("<Q")


class StoredTensor(NamedTuple):
    """A tensor in a file's header. dtype: in safetensors' spelling, such as BF16."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


def bytes_of_path(path: Path) -> int:
    """Bytes of the weights in an index, a file or a folder of files. Raises InvalidFileError."""
    if is_folder(path):
        return _bytes_of_folder(path)
    if path.name.endswith(_INDEX):
        return _bytes_of_index(path)
    if path.suffix == _TENSORS:
        return _bytes_of_safetensors(path)
    from kvcalc.io.gguf.header import is_gguf

    if is_gguf(path):
        from kvcalc.io.gguf.tensors import tensor_bytes

        return tensor_bytes(path)
    if not exists(path):
        raise InvalidFileError("no such file", where=str(path), help=HOW_TO_SAY)
    raise InvalidFileError("contains no known weights", where=str(path), help=HOW_TO_SAY)


def _bytes_of_folder(folder: Path) -> int:
    """The index of a folder, or all its safetensors files; a GGUF file if there are none."""
    for index in sorted(folder.glob(f"*{_INDEX}")):
        return _bytes_of_index(index)
    files = sorted(folder.glob(f"*{_TENSORS}"))
    if files:
        return sum(map(_bytes_of_safetensors, files))
    ggufs = sorted(folder.glob(f"*{_GGUF}"))
    if len(ggufs) == 1:
        return bytes_of_path(ggufs[0])
    several = f"{len(ggufs)} GGUF files, possibly several models" if ggufs else "no safetensors and no GGUF"
    raise InvalidFileError(f"is a folder with {several}", where=str(folder), help=HOW_TO_SAY)


def _bytes_of_index(path: Path) -> int:
    return bytes_of_index(parse_json(read_text(path, most=MAX_INDEX_BYTES), str(path)))


def bytes_of_index(document: Document) -> int:
    """metadata.total_size of an index. Raises InvalidFileError."""
    data = document.data
    metadata = data.get("metadata") if isinstance(data, dict) else None
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    if isinstance(size, float) and size.is_integer():  # some writers write 1.6e10
        size = int(size)
    if type(size) is not int or size < 0:
        raise InvalidFileError(
            f"has no metadata.total_size in bytes, but {shown(size)}",
            where=document.where(("metadata", "total_size")),
            help="pass the folder with the safetensors files, or the bytes",
        )
    return size


def _bytes_of_safetensors(path: Path) -> int:
    """Bytes of all tensors of one file, from its header."""
    with opened(path) as file:
        return sum(tensor.bytes for tensor in read_safetensors(file, os.fstat(file.fileno()).st_size, str(path)))


def read_safetensors(file: Readable, size_bytes: int, where: str) -> tuple[StoredTensor, ...]:
    """Tensors of one file of `size_bytes`, called `where` in errors; only its header is read.

    Raises InvalidFileError.
    """
    raw = file.read(_LENGTH.size)
    length = _LENGTH.unpack(raw)[0] if len(raw) == _LENGTH.size else None
    if length is None or length > min(MAX_HEADER_BYTES, size_bytes - _LENGTH.size):
        claims = "is too short for one" if length is None else f"claims {length:,} bytes"
        raise _wrong(where, f"has no safetensors header: it {claims}, and the file has {size_bytes:,}")
    return _tensors(where, _entries(where, file.read(length)), size_bytes - _LENGTH.size - length)


def _entries(where: str, text: bytes) -> dict[str, object]:
    """Entries of a header, with a limit: parsed, each takes some ten times its length in memory."""
    values = text.count(b",")
    if values > MAX_HEADER_VALUES:
        raise _wrong(where, f"has a header of more than {values:,} values; the limit is {MAX_HEADER_VALUES:,}")
    try:
        header = json.loads(text.decode("latin-1"))  # one letter outside of it would make four bytes of each other
    except (ValueError, RecursionError) as error:
        raise _wrong(where, "has a header that is not JSON") from error
    if not isinstance(header, dict):
        raise _wrong(where, f"has a header that is not a JSON object, but {shown(header)}")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _tensors(where: str, entries: dict[str, object], data_bytes: int) -> tuple[StoredTensor, ...]:
    """Each entry, with its bytes checked against the file."""
    found = []
    for name, entry in entries.items():
        match entry:
            case {"data_offsets": [int(first), int(end)], **rest} if 0 <= first <= end <= data_bytes:
                found.append(StoredTensor(name, str(rest.get("dtype", "")), _shape(rest.get("shape")), end - first))
            case _:
                offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
                raise _wrong(where, f"puts {shown(name)} at {shown(offsets)} of {data_bytes:,} bytes of data")
    total = sum(tensor.bytes for tensor in found)
    if total > data_bytes:
        raise _wrong(where, f"has tensors of {total:,} bytes, but {data_bytes:,} bytes of data")
    return tuple(found)


def _shape(value: object) -> tuple[int, ...]:
    return tuple(size for size in value if type(size) is int) if isinstance(value, list) else ()


def _wrong(where: str, what: str) -> InvalidFileError:
    return InvalidFileError(what, where=where, help="download the file again, or pass the bytes: 671GB")
