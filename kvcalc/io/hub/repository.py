"""A hub repository at one commit: its list of files, their text, and parts of large ones."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

from kvcalc.errors import InvalidFileError, UnknownNameError
from kvcalc.errors.foreign import name_shown
from kvcalc.io.documents import MAX_FILE_BYTES, parse_json, text_of
from kvcalc.io.files import Readable, is_file, opened, read_bytes
from kvcalc.io.hub.cache import Cached
from kvcalc.io.hub.client import Client
from kvcalc.io.resolve.reference import Reference
from kvcalc.units import shown

MAX_LISTING_BYTES = 2**24
"""Largest description of a repository: with 10,000 files it has about 1 MB."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ID = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?", re.ASCII)
_FILE = re.compile(r"(?:[\w.+ -]+/)*[\w.+ -]+")
"""Names of files that are considered; models have no others."""
_NOT_A_HUB = "check HF_ENDPOINT: this is not a hub's answer"


class Repository:
    """A repository at a commit. files: names of all its files; offline, of those in the cache.

    name: the hub's name, which differs from the requested one if it was renamed.
    """

    is_remote: ClassVar[bool] = True

    def __init__(self, client: Client, asked: str, name: str, commit: str, files: frozenset[str]) -> None:
        self._client = client
        self._asked = asked
        self._cached = Cached(client.cache, asked)
        self.name = name
        self.commit = commit
        self.files = files

    @property
    def where(self) -> str:
        """Its source and commit."""
        hub = "the cache of the Hub" if self._client.is_offline else f"the Hub ({self._client.host})"
        return f"read from {hub}: {self.name} at commit {self.commit}"

    def has(self, file: str) -> bool:
        """Whether there is a file of that name."""
        return file in self.files

    def place(self, file: str) -> str:
        """The file with its repository and commit."""
        return f"{self.name}@{self.commit}/{file}"

    def text(self, file: str, *, most: int = MAX_FILE_BYTES) -> str:
        """Text of a file of at most `most` bytes. Raises KvcalcError."""
        path = self._cached.snapshot(self.commit) / file
        if is_file(path):
            return text_of(read_bytes(path, most, "configuration file", "delete it from the cache"), self.place(file))
        answer = self._client.file(self._asked, self.commit, file, most)
        self._check_commit(answer.headers.get("x-repo-commit"), file)
        text = text_of(answer.content, self.place(file))
        etag = answer.headers.get("x-linked-etag") or answer.headers.get("etag", "")
        self._cached.keep(self.commit, file, answer.content, etag, symlinks=self._client.has_symlinks)
        return text

    @contextmanager
    def opened(self, file: str, *, ahead: int = 0) -> Iterator[tuple[Readable, int]]:
        """A large file and its total bytes; if it is not in the cache, only the parts read are fetched.

        ahead: least number of bytes to fetch, if more than requested will be needed.
        """
        path = self._cached.snapshot(self.commit) / file
        if is_file(path):
            with opened(path) as local:
                yield local, os.fstat(local.fileno()).st_size
        else:
            remote = _Remote(self, file, ahead)
            yield remote, remote.size_bytes

    def part(self, file: str, first: int, number: int) -> tuple[bytes, int]:
        """Bytes of a file from `first` on, and its total size."""
        answer = self._client.part(self._asked, self.commit, file, first, number)
        self._check_commit(answer.headers.get("x-repo-commit"), file)
        return answer.content, answer.total_bytes or len(answer.content)

    def _check_commit(self, said: str | None, file: str) -> None:
        if said is not None and said != self.commit:
            raise InvalidFileError(
                f"was requested at {self.commit}, but is from commit {name_shown(said)}",
                where=self.place(file),
                help=_NOT_A_HUB,
            )


def pinned(reference: Reference) -> Repository:
    """The repository at the commit that its revision is now. Raises KvcalcError."""
    client = Client()
    if client.is_offline:
        return _in_cache(client, reference)
    answer = client.repository(reference.id, reference.revision, MAX_LISTING_BYTES)
    listing = _Listing.read(answer.content, reference)
    Cached(client.cache, reference.id).keep_revision(reference.revision, listing.commit)
    return Repository(client, reference.id, listing.id, listing.commit, listing.files)


def _in_cache(client: Client, reference: Reference) -> Repository:
    """The cached files. Raises UnknownNameError if there are none."""
    cached = Cached(client.cache, reference.id)
    commit = cached.commit(reference.revision)
    files = cached.files(commit) if _COMMIT.fullmatch(commit) else frozenset()
    if not files:
        raise UnknownNameError(
            f"revision {reference.revision} is not in the cache, and HF_HUB_OFFLINE is set",
            where=reference.id,
            help="unset HF_HUB_OFFLINE to read it from the Hub",
        )
    return Repository(client, reference.id, reference.id, commit, files)


class _Listing(NamedTuple):
    """A hub's description of a repository: its name, which may differ from the requested one, and files."""

    id: str
    commit: str
    files: frozenset[str]

    @classmethod
    def read(cls, content: bytes, reference: Reference) -> _Listing:
        """Raises InvalidFileError for an invalid description."""
        data = parse_json(text_of(content, reference.id), reference.id).data
        match data:
            case {"sha": str(commit), "siblings": list(files)} if _COMMIT.fullmatch(commit):
                names = (file.get("rfilename") for file in files if isinstance(file, dict))
                kept = frozenset(name for name in names if isinstance(name, str) and _is_file_name(name))
            case _:
                wrong = data.get("sha") if isinstance(data, dict) else data
                raise InvalidFileError(
                    f"has no commit and list of files, but {shown(wrong)}", where=reference.id, help=_NOT_A_HUB
                )
        own = data.get("id")
        known = isinstance(own, str) and _ID.fullmatch(own) and ".." not in own
        return cls(own if known else reference.id, commit, kept)


def _is_file_name(name: str) -> bool:
    return _FILE.fullmatch(name) is not None and not {".", ".."} & {*name.split("/")}


class _Remote:
    """A file of a repository, fetched in parts as it is read."""

    def __init__(self, repository: Repository, file: str, ahead: int) -> None:
        self._repository, self._file, self._ahead = repository, file, ahead
        self._at = self._start = 0
        self._part, self.size_bytes = repository.part(file, 0, max(ahead, _FIRST_BYTES))

    def seek(self, at: int, /) -> int:
        """Reads on from there."""
        self._at = at
        return at

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        number = min(size, self.size_bytes - self._at)
        if number <= 0:
            return b""
        if not self._start <= self._at <= self._at + number <= self._start + len(self._part):
            wanted = min(max(number, self._ahead), self.size_bytes - self._at)
            self._part, total = self._repository.part(self._file, self._at, wanted)
            self._start = self._at
            if total != self.size_bytes:
                raise InvalidFileError(
                    f"changed its size from {self.size_bytes:,} to {total:,} bytes",
                    where=self._repository.place(self._file),
                    help="try again",
                )
        begin = self._at - self._start
        self._at += number
        return self._part[begin : begin + number]


_FIRST_BYTES = 8
"""Bytes fetched of a file to learn its size: the length of a safetensors header."""
