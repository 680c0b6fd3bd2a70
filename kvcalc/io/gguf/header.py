"""The header of a GGUF file: only its metadata, no tensor data, robust against any claims in the file.

Layout, in the file's byte order: the magic `GGUF`, a version (u32), the numbers of tensors and of key-value pairs, then
each pair: key (length and bytes), type (u32), value; an array's value is its element type, its length, its elements.
Lengths are u64, in version 1 u32. Source: ggml/docs/gguf.md of llama.cpp.

Unused parts (the tokenizer, long texts, long arrays) are skipped, not built. Every length is checked against the rest
of the file before it is used, and everything against limits far above real headers.
"""

from __future__ import annotations

import os
import re
from itertools import repeat
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from kvcalc.errors import InvalidFileError
from kvcalc.io.documents import Document
from kvcalc.io.files import Readable, exists, is_file, opened
from kvcalc.units import shown

MAGIC = b"GGUF"
MAX_PAIRS = 2**14
"""Most key-value pairs; real files have some fifty."""
MAX_HEADER_BYTES = 2**27
"""Longest header; those with the largest vocabularies take about 20 MB."""
MAX_STRINGS = 900_000
"""Most strings in all arrays together; the largest tokenizers have about 800,000."""
MAX_KEY_BYTES = 2**10
MAX_KEPT_TEXT_BYTES, MAX_KEPT_ELEMENTS = 2**12, 2**12
"""Longest text and array that are built; llama.cpp itself has a limit of 512 layers."""
MAX_ALL_KEPT = 2**18
"""Most bytes of texts and array elements built in total."""
_VERSIONS = (1, 2, 3)
_CHUNK_BYTES = 2**18
_STRING, _ARRAY = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of fixed size, as `struct` names them."""
_NOT_BUILT = ("tokenizer.",)
TOKENS = "tokenizer.ggml.tokens"
"""The vocabulary, of which only the length is kept."""
SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
"""Name of one part of a split model: its number, and the number of parts."""
MAX_TENSORS, MAX_TENSOR_NAME_BYTES = 2**14, 2**8
"""Most tensors of a file, whose largest have about 2,000, and longest name of one; llama.cpp ends at 64 bytes."""
MAX_DIMS = 4
"""Most dimensions of a tensor: llama.cpp's own limit."""
_HELP = "download the file again, and compare its size with the published one"


class Array(NamedTuple):
    """An array that was skipped because of its length."""

    length: int


Value = int | float | str | list[int | float] | Array


def is_gguf(path: Path) -> bool:
    """Whether a file is named like a GGUF file or begins like one; only regular files are examined."""
    if path.suffix.lower() == ".gguf":
        return True
    if not is_file(path):
        return False
    try:
        with opened(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except InvalidFileError:
        return False


def read_metadata(path: Path) -> Document:
    """Metadata of a GGUF file by key; of a split model from its first part, the only one with all metadata.

    Arrays of up to MAX_KEPT_ELEMENTS elements are lists, longer ones are `Array`s; the tokenizer's keys are omitted.
    Raises InvalidFileError if the file cannot be read or is not a GGUF file.
    """
    part = SPLIT.search(path.name)
    first = path.with_name(f"{path.name[: part.start()]}-00001-of-{part[2]}.gguf") if part else path
    if first != path and not exists(first):
        raise InvalidFileError(
            f"is part {int(part[1]):,} of {int(part[2]):,}, and {first.name} is not next to it" if part else "",
            where=str(path),
            help="the first part has the metadata: put it in the same folder",
        )
    with opened(first) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        return Document(str(first), _Reader(file, size_bytes, str(first)).metadata())


class TensorList(NamedTuple):
    """Name, dimensions and type of each tensor of a file, and the number of bytes after the list."""

    tensors: tuple[tuple[str, tuple[int, ...], int], ...]
    left_bytes: int


def read_tensor_list(path: Path) -> TensorList:
    """The tensors that one GGUF file lists. Raises InvalidFileError as `read_metadata` does."""
    with opened(path) as file:
        return read_header(file, os.fstat(file.fileno()).st_size, str(path)).tensors


class Header(NamedTuple):
    """Everything before the data of a file."""

    metadata: Document
    tensors: TensorList


def read_header(file: Readable, size_bytes: int, name: str) -> Header:
    """Metadata and tensors of one file of `size_bytes`, which errors call `name`. Raises InvalidFileError."""
    reader = _Reader(file, size_bytes, name)
    metadata = reader.metadata()
    return Header(Document(name, metadata), reader.tensors())


class _Reader:
    """A file read from its start, a chunk at a time. Raises InvalidFileError for an invalid header."""

    def __init__(self, file: Readable, size_bytes: int, name: str) -> None:
        self._file = file
        self._size = size_bytes
        self._name = name
        self._chunk = b""
        self._start = 0  # of the chunk in the file
        self._at = 0  # what comes next, in the chunk
        self._strings = 0
        self._kept = 0
        self._order = "<"
        self._length = Struct("<Q")
        self._key = ""
        self._num_tensors = 0

    def tensors(self) -> TensorList:
        """The list after the metadata."""
        self._key = ""
        if self._num_tensors > MAX_TENSORS:
            raise self._wrong(f"claims {self._num_tensors:,} tensors; the limit is {MAX_TENSORS:,}")
        found = tuple(self._tensor() for _ in range(self._num_tensors))
        return TensorList(found, self._size - self._start - self._at)

    def _tensor(self) -> tuple[str, tuple[int, ...], int]:
        name = self._text(self._checked(self._long(), MAX_TENSOR_NAME_BYTES, "a tensor's name"), "a tensor's name")
        number = self._u32()
        if not 0 < number <= MAX_DIMS:
            raise self._wrong(f"gives {shown(name)} {number:,} dimensions; the limit is {MAX_DIMS}")
        dims = tuple(self._long() for _ in range(number))
        kind = self._u32()
        self._number("Q")  # where its data begins
        return name, dims, kind

    def metadata(self) -> dict[str, Value]:
        """All pairs that are built."""
        magic = self._bytes(min(len(MAGIC), self._size))
        if magic != MAGIC:
            raise self._wrong(f"is not a GGUF file: it starts with {shown(magic)}", "pass a file that ends in .gguf")
        self._read_version()
        self._num_tensors = self._long()
        pairs = self._long()
        if pairs > MAX_PAIRS:
            raise self._wrong(f"claims {pairs:,} keys; the limit is {MAX_PAIRS:,}")
        values: dict[str, Value] = {}
        for _ in range(pairs):
            self._key = ""
            key = self._text(self._checked(self._long(), MAX_KEY_BYTES, "a key"), "a key")
            if key in values:
                raise self._wrong(f"the key {shown(key)} occurs twice")
            self._key = key
            values[key] = self._value(self._u32(), build=not key.startswith(_NOT_BUILT))
        return {key: value for key, value in values.items() if key == TOKENS or not key.startswith(_NOT_BUILT)}

    def _read_version(self) -> None:
        """Byte order and width of lengths: only one of the two readings of the version is a small number."""
        raw = self._bytes(4)
        little, big = int.from_bytes(raw, "little"), int.from_bytes(raw, "big")
        version = little if little in _VERSIONS else big
        if version not in _VERSIONS:
            raise self._wrong(f"has GGUF version {little:,}; supported: {_VERSIONS[0]} to {_VERSIONS[-1]}")
        self._order = "<" if version == little else ">"
        self._length = Struct(f"{self._order}{'I' if version == 1 else 'Q'}")

    def _value(self, kind: int, *, build: bool) -> Value:
        if kind in _FORMATS:
            return self._number(_FORMATS[kind])
        if kind == _STRING:
            length = self._checked(self._long(), None, "a text")
            if not build or length > MAX_KEPT_TEXT_BYTES:
                return self._skip(length)
            return self._text(self._keep(length), "a text")
        if kind == _ARRAY:
            element, length = self._u32(), self._long()
            return self._array(element, length, build=build and length <= MAX_KEPT_ELEMENTS)
        raise self._wrong(f"is of type {kind:,}, which GGUF does not have")

    def _array(self, kind: int, length: int, *, build: bool) -> Value:
        if kind == _STRING:
            self._skip_strings(length)
            return Array(length)
        if kind not in _FORMATS:
            nested = "an array of arrays" if kind == _ARRAY else f"an array of type {kind:,}"
            raise self._wrong(f"is {nested}, which no GGUF reader accepts")
        of_one = Struct(f"{self._order}{_FORMATS[kind]}")
        size_bytes = self._checked(length * of_one.size, None, "an array")
        if not build:
            self._skip(size_bytes)
            return Array(length)
        return [value for (value,) in of_one.iter_unpack(self._bytes(self._keep(size_bytes)))]

    def _skip_strings(self, number: int) -> None:
        """Skips strings, reading only their lengths."""
        self._strings += number
        if self._strings > MAX_STRINGS:
            raise self._wrong(f"brings the strings of all arrays to {self._strings:,}; the limit is {MAX_STRINGS:,}")
        unpack, width = self._length.unpack_from, self._length.size  # local names: this loop dominates reading a header
        self._checked(number * width, None, "an array")
        chunk, at, last = self._chunk, self._at, len(self._chunk) - width
        for _ in repeat(None, number):
            if at > last:
                self._at = at
                self._fill(width)
                chunk, at, last = self._chunk, self._at, len(self._chunk) - width
            at += width + unpack(chunk, at)[0]
        self._at = at
        self._checked(0, None, "a text in an array")

    def _long(self) -> int:
        """A length or count."""
        number: int = self._length.unpack(self._bytes(self._length.size))[0]
        return number

    def _u32(self) -> int:
        """A type, or a number of dimensions."""
        return int(self._number("I"))

    def _number(self, code: str) -> int | float:
        of_one = Struct(f"{self._order}{code}")
        number: int | float = of_one.unpack(self._bytes(of_one.size))[0]
        return number

    def _text(self, length: int, what: str) -> str:
        raw = self._bytes(length)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._wrong(f"contains {what} that is not UTF-8: {shown(raw)}") from error

    def _keep(self, size: int) -> int:
        self._kept += size
        if self._kept > MAX_ALL_KEPT:
            raise self._wrong(f"exceeds the limit of the header's values: {MAX_ALL_KEPT:,} bytes")
        return size

    def _checked(self, length: int, most: int | None, what: str) -> int:
        """`length` if that many bytes are left, in the file and within the header limit."""
        here = self._start + self._at
        if length > self._size - here:
            raise self._wrong(
                f"ends in the middle of {what}: it needs {length:,} more bytes, and {max(0, self._size - here):,} are "
                "left"
            )
        if most is not None and length > most:
            raise self._wrong(f"has {what} of {length:,} bytes; the limit is {most:,}")
        return length

    def _bytes(self, length: int) -> bytes:
        self._checked(length, None, "a value")
        if self._at + length > len(self._chunk):
            self._fill(length)
        self._at += length
        return self._chunk[self._at - length : self._at]

    def _skip(self, length: int) -> Array:
        self._at += length
        return Array(length)

    def _fill(self, length: int) -> None:
        """Reads ahead, so that `length` bytes are available."""
        self._checked(length, None, "a value")
        here = self._start + self._at
        if here + length > MAX_HEADER_BYTES:
            raise self._wrong(f"has a header longer than {MAX_HEADER_BYTES:,} bytes")
        self._file.seek(here)
        self._chunk, self._start, self._at = self._file.read(max(length, _CHUNK_BYTES)), here, 0
        if len(self._chunk) < length:
            raise self._wrong("became shorter while being read")

    def _wrong(self, what: str, help: str = _HELP) -> InvalidFileError:
        where = f"{self._name}: {shown(self._key)[1:-1]}" if self._key else self._name
        return InvalidFileError(what, where=where, help=help)
