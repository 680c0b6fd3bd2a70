"""Bytes of a repository's weights, by its index or the headers of its files; their data is never fetched."""

from __future__ import annotations

import re
from typing import NamedTuple

from kvcalc.errors import InvalidFileError, UnknownNameError
from kvcalc.errors.foreign import listed
from kvcalc.io.documents import Document, parse_json
from kvcalc.io.gguf.header import SPLIT, Header, read_header
from kvcalc.io.gguf.tensors import bytes_of_list
from kvcalc.io.hub.repository import Repository
from kvcalc.io.sources import FOLDER_FILES, PIPELINE, nothing_in
from kvcalc.io.weights.files import MAX_INDEX_BYTES, StoredTensor, bytes_of_index, read_safetensors

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
CONSOLIDATED = re.compile(r"consolidated(?:-\d{5}-of-\d{5})?\.safetensors")
"""Files in Mistral's own format, which duplicate the tensors of model.safetensors if both exist."""
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
MAX_HEADERS = 256
"""Most files whose headers are fetched; larger checkpoints have an index."""
GGUF_AHEAD_BYTES = 2**20
"""Bytes of a GGUF header to fetch at once: most have 5 to 12 MB of tokenizer."""
_PROJECTOR = "mmproj"
_OTHER_WORDS = re.compile(r"[^a-z0-9_]+")


class HubWeights(NamedTuple):
    """Bytes of all weights, and their source. tensors: if headers were read instead of an index."""

    bytes: int
    source: str
    tensors: tuple[StoredTensor, ...] = ()


def weights_of(repository: Repository) -> HubWeights | None:
    """Weights in safetensors; None if there are none, or the files may not be the whole model.

    Raises KvcalcError for an invalid file.
    """
    if repository.has(INDEX):
        index = parse_json(repository.text(INDEX, most=MAX_INDEX_BYTES), repository.place(INDEX))
        if _says_its_size(index):
            return HubWeights(bytes_of_index(index), _source(repository, INDEX))
    for names in ((SINGLE,), _matching(repository, SHARD), _matching(repository, CONSOLIDATED)):
        if names and all(map(repository.has, names)) and len(names) <= MAX_HEADERS:
            tensors = tuple(tensor for name in names for tensor in _header(repository, name))
            files = names[0] if len(names) == 1 else f"headers of {len(names)} safetensors files"
            return HubWeights(sum(tensor.bytes for tensor in tensors), _source(repository, files), tensors)
    return None


def _says_its_size(index: Document) -> bool:
    match index.data:
        case {"metadata": {"total_size": _}}:
            return True
    return not isinstance(index.data, dict)  # an invalid index is refused when it is read


def _matching(repository: Repository, pattern: re.Pattern[str]) -> tuple[str, ...]:
    return tuple(sorted(filter(pattern.fullmatch, repository.files)))


def _header(repository: Repository, name: str) -> tuple[StoredTensor, ...]:
    with repository.opened(name) as (file, size_bytes):
        return read_safetensors(file, size_bytes, repository.place(name))


def _source(repository: Repository, file: str) -> str:
    return f"{repository.name} at {repository.commit}, {file}"


# GGUF ---------------------------------------------------------------------------------------------------------------


class HubGguf(NamedTuple):
    """Metadata of a GGUF file of a repository, and its weights."""

    name: str
    metadata: Document
    weights: HubWeights


def gguf_of(repository: Repository, file: str, quantisation: str) -> HubGguf | None:
    """The GGUF file of a name or a quantisation; else the only one in a repository without a config.

    All parts of a split file are read. None for a repository with a config. Raises UnknownNameError for none or
    several, InvalidFileError if there is no config either.
    """
    if not (file or quantisation) and any(map(repository.has, FOLDER_FILES)):
        return None
    name = file or _chosen(repository, quantisation)
    parts = _parts(repository, name)
    headers = [_gguf_header(repository, part) for part in parts]
    total = sum(bytes_of_list(h.tensors, repository.place(part)) for part, h in zip(parts, headers, strict=True))
    return HubGguf(parts[0], headers[0].metadata, HubWeights(total, _source(repository, parts[0])))


def gguf_files(repository: Repository) -> tuple[str, ...]:
    """GGUF files of models; of split ones the first part."""
    found = sorted(name for name in repository.files if name.endswith(".gguf"))
    return tuple(name for name in found if _PROJECTOR not in name.lower() and _is_first(name))


def _is_first(name: str) -> bool:
    part = SPLIT.search(name)
    return part is None or int(part[1]) == 1


def _chosen(repository: Repository, quantisation: str) -> str:
    files = gguf_files(repository)
    found = [name for name in files if not quantisation or _is_of(name, quantisation)]
    if len(found) == 1:
        return found[0]
    if not quantisation:
        raise nothing_in(repository.place("").rstrip("/"), repository.has(PIPELINE), files)
    raise UnknownNameError(
        f"has {len(found)} GGUF files of {quantisation}" if files else "has no GGUF file",
        where=repository.name,
        help=f"name one: {repository.name}/FILE.gguf: {listed(found or files)}" if files else "remove it",
    )


def _is_of(name: str, quantisation: str) -> bool:
    """Whether the name of a file or its folder contains a quantisation."""
    words = _OTHER_WORDS.sub(" ", name.lower().removesuffix(".gguf"))
    return f" {_OTHER_WORDS.sub(' ', quantisation.lower())} " in f" {words} "


def _parts(repository: Repository, name: str) -> tuple[str, ...]:
    """All files of a split model, each of which must exist."""
    split = SPLIT.search(name)
    if split is None:
        if not repository.has(name):
            raise UnknownNameError(
                "has no such file", where=repository.place(name), help=f"it has {listed(gguf_files(repository))}"
            )
        return (name,)
    start, number = name[: split.start()], int(split[2])
    if number > MAX_HEADERS:
        raise InvalidFileError(
            f"is one of {number:,} parts; the limit is {MAX_HEADERS}",
            where=repository.place(name),
            help="download it and name its folder",
        )
    parts = tuple(f"{start}-{part:05}-of-{split[2]}.gguf" for part in range(1, number + 1))
    for part in parts:
        if not repository.has(part):
            raise InvalidFileError(
                f"is one of {number:,} parts, but does not exist",
                where=repository.place(part),
                help="name another quantisation",
            )
    return parts


def _gguf_header(repository: Repository, name: str) -> Header:
    with repository.opened(name, ahead=GGUF_AHEAD_BYTES) as (file, size_bytes):
        return read_header(file, size_bytes, repository.place(name))
