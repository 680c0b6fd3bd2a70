"""Sources of files: paths, folders, standard input, git revisions; and what is ignored in a folder."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from posixpath import normpath
from typing import NamedTuple

from kvcalc.errors import InvalidFileError, InvalidValueError, KvcalcError
from kvcalc.io.deployments.documents import STDIN as STDIN_NAME
from kvcalc.io.deployments.documents import Source
from kvcalc.io.deployments.reading.flags import names
from kvcalc.io.files import exists, is_folder, read_bytes
from kvcalc.report.deployments import Note

MAX_FILE_BYTES = 2 * 2**20
MOST_FILES = 20_000
"""Most files examined in a folder."""
STDIN = "-"
_HELP = "pass a manifest, a compose file, a script, a folder, or - for standard input"
_SKIPPED_FOLDERS = frozenset(
    (
        ".git",
        "node_modules",
        "__pycache__",
        ".venv",
        "venv",
        ".tox",
        ".mypy_cache",
        ".terraform",
        "site-packages",
        ".hg",
    )
)
_SUFFIXES = names("""
    .yaml .yml .json .sh .bash .sbatch .slurm .service .container .conf .hcl .nomad .tf .py .env .properties .modelfile
""")
_NAMES = re.compile(r"(?:.*[._-])?(?:Dockerfile|Containerfile|Modelfile)(?:[._-].*)?|\.env(?:[._-].*)?")
_ENGINES = re.compile(
    rb"vllm|sglang|llama[-_.](?:server|cpp|swap)|ollama|OLLAMA|trtllm|tensorrt_llm|lmdeploy|mlx_lm|text-generation|"
    rb"nvcr\.io/nim|NIM_|djl|option\.model_id|llm_configs|modelArtifacts|modelURL|kaito\.sh|kubeai\.org|llm\.load\.|"
    rb"LLMInferenceService|InferenceService|context_size|max[-_]model[-_]len|deployments:|LLAMA_ARG|GGUF|gguf|FROM |"
    rb"kind: ConfigMap|resources:|_kind: "
)
"""Words that mark a file in a folder as a possible deployment."""
_REVISION = re.compile(r"(?P<revision>[^:\s-][^:\s]*):(?P<path>[^\n]*)")


class Found(NamedTuple):
    """Files read, and the others: refused if named, skipped if in a folder."""

    sources: tuple[Source, ...]
    refused: tuple[Note, ...]
    skipped: tuple[Note, ...]
    from_folder: frozenset[str]


def found(paths: Sequence[str]) -> Found:
    """All files of paths, folders, revisions and standard input, without duplicates."""
    gathered = _Gathered()
    for path in paths:
        try:
            gathered.add(path)
        except KvcalcError as error:
            gathered.refuse(error, path)
    return gathered.found()


def found_in(named: Iterable[Path], below: Iterable[Path]) -> Found:
    """All named files, and those of folders that may have a deployment."""
    gathered = _Gathered()
    for path in named:
        try:
            gathered.add(str(path))
        except KvcalcError as error:
            gathered.refuse(error, str(path))
    for path in below:
        gathered.candidate(path)
    return gathered.found()


def opener(path: str) -> str | None:
    """The text of a neighbouring file; None if it does not exist or is not text."""
    file = Path(path)
    try:
        return _text(read_bytes(file, MAX_FILE_BYTES, "configuration file", _HELP), path) if exists(file) else None
    except KvcalcError:
        return None


class _Gathered:
    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.refused: list[Note] = []
        self.skipped: list[Note] = []
        self.from_folder: set[str] = set()

    def found(self) -> Found:
        """All of it."""
        notes = tuple(self.refused), tuple(self.skipped)
        return Found(tuple(self.sources.values()), *notes, frozenset(self.from_folder))

    def add(self, path: str) -> None:
        """A path from the command line. Raises KvcalcError."""
        revision = None if exists(Path(path)) else _REVISION.fullmatch(path)
        if path == STDIN:
            self._take(STDIN_NAME, _stdin())
        elif is_folder(Path(path)):
            self._folder(path)
        elif revision is not None:
            for name, content in _of_revision(revision["revision"], revision["path"]):
                self._candidate(f"{revision['revision']}:{name}", name, partial(bytes, content))
        else:
            self._take(path, _text(read_bytes(Path(path), MAX_FILE_BYTES, "configuration file", _HELP), path))

    def refuse(self, error: KvcalcError, path: str) -> None:
        """Notes that a named file cannot be read."""
        self.refused.append(Note.of(error, path))

    def _take(self, name: str, words: str) -> None:
        self.sources.setdefault(name, Source(name, words))

    def _folder(self, path: str) -> None:
        for number, file in enumerate(_files_below(path)):
            if number >= MOST_FILES:
                self.skipped.append(Note(path, "the folder", f"only its first {MOST_FILES:,} files are examined"))
                return
            self.candidate(file)

    def candidate(self, file: Path) -> None:
        """A file in a folder."""
        self._candidate(str(file), file.name, partial(read_bytes, file, MAX_FILE_BYTES, "configuration file", _HELP))

    def _candidate(self, name: str, own: str, read: Callable[[], bytes]) -> None:
        """A file in a folder: read if it may have a deployment, else skipped."""
        base = own.rpartition("/")[2]
        suffix = os.path.splitext(base)[1].lower()  # noqa: PTH122
        if suffix not in _SUFFIXES and not _NAMES.fullmatch(base) and suffix:
            return
        try:
            raw = read()
            if not suffix and not _NAMES.fullmatch(base) and not raw.startswith(b"#!"):
                return
            if not _ENGINES.search(raw):
                return
            self._take(name, _text(raw, name))
            self.from_folder.add(name)
        except InvalidFileError as error:
            self.skipped.append(Note.of(error, name))


def _files_below(path: str) -> Iterator[Path]:
    """Files of a folder in order; symlinks to folders are not followed."""
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        for name in sorted(files):
            yield Path(folder) / name


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 text: byte {error.start:,} is 0x{raw[error.start]:02x}"
        raise InvalidFileError(what, where=name, help=_HELP) from error


def _stdin() -> str:
    """Standard input, up to its end. Raises InvalidFileError above the size limit of files."""
    stream = sys.stdin
    if stream is None or stream.isatty():
        raise InvalidValueError("standard input is a terminal", where=STDIN_NAME, help="pipe a file into it")
    raw = stream.buffer.read(MAX_FILE_BYTES + 1) if hasattr(stream, "buffer") else stream.read().encode()
    if len(raw) > MAX_FILE_BYTES:
        raise InvalidFileError(
            f"is larger than {MAX_FILE_BYTES:,} bytes", where=STDIN_NAME, help="pass files, or a folder"
        )
    return _text(raw, STDIN_NAME)


def _of_revision(name: str, path: str) -> Iterator[tuple[str, bytes]]:
    """Files of a revision below a path, relative to the top of the repository, as in git."""
    from kvcalc.io.revisions import Repository, folders_above, revision

    below = normpath(path) if path.strip("/") else "."
    with revision(Repository.here(), name) as tree:
        held = (each for each in tree.paths() if tree.kind(each) and below in (".", each, *folders_above(each)))
        names = list(islice(held, MOST_FILES))
        if not names:
            raise InvalidFileError(
                "the revision has no such file", where=f"{name}:{path}", help="`git ls-tree` lists them"
            )
        yield from ((each, tree.content(each)) for each in names if tree.size(each) <= MAX_FILE_BYTES)
