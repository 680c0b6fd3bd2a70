"""GGUF files for tests, written field by field; nothing here is shared with the reader."""

from __future__ import annotations

import struct

UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 5, 6, 7, 8, 9, 10
TINY = {
    "general.architecture": "llama",
    "general.name": "tiny",
    "llama.block_count": 2,
    "llama.context_length": 4096,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": [2, 1],
}


def length(number: int, order: str = "<", code: str = "Q") -> bytes:
    return struct.pack(order + code, number)


def text(value: str | bytes, order: str = "<", code: str = "Q") -> bytes:
    raw = value if isinstance(value, bytes) else value.encode()
    return length(len(raw), order, code) + raw


def typed(value, order: str = "<", code: str = "Q") -> bytes:
    """Type and value."""
    if isinstance(value, bool):
        return struct.pack(f"{order}I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack(f"{order}II", UINT32, value) if value < 2**32 else struct.pack(f"{order}IQ", UINT64, value)
    if isinstance(value, float):
        return struct.pack(f"{order}If", FLOAT32, value)
    if isinstance(value, str):
        return struct.pack(f"{order}I", STRING) + text(value, order, code)
    head = struct.pack(f"{order}I", ARRAY)
    if value and isinstance(value[0], str):
        strings = b"".join(text(entry, order, code) for entry in value)
        return head + struct.pack(f"{order}I", STRING) + length(len(value), order, code) + strings
    kinds = {bool: (BOOL, "?"), float: (FLOAT32, "f")}
    kind, element = kinds.get(type(value[0]), (INT32, "i")) if value else (INT32, "i")
    elements = struct.pack(f"{order}{len(value)}{element}", *value)
    return head + struct.pack(f"{order}I", kind) + length(len(value), order, code) + elements


def header(pairs: int, tensors: int = 0, version: int = 3, order: str = "<") -> bytes:
    code = "I" if version == 1 else "Q"
    return b"GGUF" + struct.pack(f"{order}I", version) + length(tensors, order, code) + length(pairs, order, code)


def gguf(metadata: dict, version: int = 3, order: str = "<", tensors: int = 0) -> bytes:
    """A whole header with this metadata."""
    code = "I" if version == 1 else "Q"
    pairs = (text(key, order, code) + typed(value, order, code) for key, value in metadata.items())
    return header(len(metadata), tensors, version, order) + b"".join(pairs)
