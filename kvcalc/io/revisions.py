"""Files of a git revision, read by git's own command line: nothing is checked out, and no filter, hook or driver runs.

A revision is a `Tree`: a listing of names, kinds and sizes, and contents by their object ids from one `git cat-file`.
Names are bytes in git, and may contain anything a path may; they are exchanged with zero bytes as separators.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from posixpath import dirname, join, normpath
from typing import IO, NamedTuple

from kvcalc.errors import InvalidFileError, InvalidValueError, KvcalcError
from kvcalc.errors.foreign import name_shown, quoted

MAX_BLOB_BYTES = 64 * 2**20
"""Largest file read from a revision; models and plans are texts."""
_MAX_LINKS = 10
_NOT_RUN = ("-c", "core.fsmonitor=false", "-c", "core.quotepath=false")
"""Overrides of a repository's configuration that would start programs or change the spelling of names."""
_QUIETLY = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
_DEADLINE_SECONDS = 60
_PLAIN = re.compile(r"\w(?:[\w.^~@{}-]|/(?=\w))*")
"""A revision allowed in a path, such as `origin/main~1`."""
_LINK, _SUBMODULE = 0o120000, 0o160000
_NO_REPOSITORY = "name two existing files or folders, or run inside a git repository"


class Blob(NamedTuple):
    """A file of a revision. mode: git's, including links and submodules; size: except for submodules."""

    mode: int
    object_id: str
    size: int


class Repository(NamedTuple):
    """A repository. top: its working tree; prefix: of the current folder, as in git: `plans/`."""

    top: str
    prefix: str

    @classmethod
    def here(cls) -> Repository:
        """The repository of the current folder. Raises InvalidValueError if there is none."""
        try:
            top, prefix = (_git("rev-parse", what).removesuffix("\n") for what in ("--show-toplevel", "--show-prefix"))
        except _GitError as error:
            raise InvalidValueError(error.what, help=_NO_REPOSITORY) from None
        return cls(top, prefix)

    def path_of(self, path: str) -> str:
        """A path relative to the current folder, as a path from the top of the repository; empty for the top.

        Raises InvalidValueError for a path outside it.
        """
        inner = os.path.relpath(os.path.join(os.path.realpath(os.curdir), path), self.top)  # noqa: PTH118
        if inner == os.pardir or inner.startswith(f"{os.pardir}/"):
            raise InvalidValueError(
                f"{name_shown(path)} is outside the repository {name_shown(self.top)}",
                help="name paths inside it, or compare two folders",
            )
        return "" if inner == os.curdir else inner

    def shown(self, path: str) -> str:
        """A path from the top, relative to the current folder."""
        return os.path.relpath(path, self.prefix or os.curdir)

    def working_files(self) -> list[str]:
        """Paths of the working tree from its top: tracked ones, and untracked ones that are not ignored."""
        listed = _git("-C", self.top, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        return sorted(set(filter(None, listed.split("\0"))))


class Revision:
    """The files of a revision, a `Tree`. name: as written; label: as a path prefix."""

    def __init__(self, repository: Repository, name: str) -> None:
        object_id = object_of(name)
        if object_id is None:
            raise InvalidValueError(
                f"{quoted(name)} is neither a revision of this repository nor a file or folder",
                help="`git branch --all` and `git tag` list revisions; a shallow clone has few: git fetch --unshallow",
            )
        self.name = name
        self.label = name if _PLAIN.fullmatch(name) else object_id[:12]
        self._top = repository.top
        self._files = _listed(repository.top, object_id)
        self._folders = {".", *(folder for path in self._files for folder in folders_above(path))}
        self._reader: subprocess.Popen[bytes] | None = None

    def paths(self) -> list[str]:
        """Paths of all files, sorted, including submodules."""
        return sorted(self._files)

    def is_submodule(self, path: str) -> bool:
        """Whether it is a submodule, whose files are not in this repository."""
        return path in self._files and self._files[path].mode == _SUBMODULE

    def kind(self, path: str) -> int:
        """The file type, following links; 0 if it does not exist."""
        path = self._followed(path)
        if path in self._folders:
            return stat.S_IFDIR
        return stat.S_IFREG if path in self._files and not self.is_submodule(path) else 0

    def size(self, path: str) -> int:
        """Bytes of a file, links followed."""
        return self._files[self._followed(path)].size

    def content(self, path: str) -> bytes:
        """Content of a file. Raises InvalidFileError if it is too large, InvalidValueError if this clone lacks it."""
        return self._content(self._files[self._followed(path)])

    def _followed(self, path: str) -> str:
        """The target of a path, following links; the path itself for broken links."""
        for _ in range(_MAX_LINKS):
            link = next((part for part in (*folders_above(path), path) if self._is_link(part)), None)
            if link is None:
                break
            target = os.fsdecode(self._content(self._files[link]))
            path = normpath(join(dirname(link), target) + path[len(link) :])
        return path

    def _is_link(self, path: str) -> bool:
        return path in self._files and self._files[path].mode == _LINK

    def _content(self, blob: Blob) -> bytes:
        if blob.size > MAX_BLOB_BYTES:
            raise InvalidFileError(
                f"is larger than {MAX_BLOB_BYTES:,} bytes ({blob.size:,}), too large to be read from a revision",
                help="check out that revision, and name its folder",
            )
        asked, answered = self._pipes()
        asked.write(f"{blob.object_id}\n".encode())
        asked.flush()
        header = answered.readline().split()
        if len(header) != 3 or header[1] != b"blob":  # noqa: PLR2004  # object id, type, size
            raise InvalidValueError("is not in this clone", help="git fetch it, or clone without --filter")
        content = answered.read(int(header[2]))
        answered.readline()
        return content

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Both ends of the `git cat-file` process that delivers contents."""
        if self._reader is None:
            self._reader = subprocess.Popen(
                _line("-C", self._top, "cat-file", "--batch"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
            )
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        return self._reader.stdin, self._reader.stdout

    def close(self) -> None:
        """Ends the reader."""
        if self._reader is not None:
            self._reader.communicate()
            self._reader = None


@contextmanager
def revision(repository: Repository, name: str) -> Iterator[Revision]:
    """A revision of a repository. Raises InvalidValueError for an unknown one."""
    found = Revision(repository, name)
    try:
        yield found
    finally:
        found.close()


def object_of(name: str) -> str | None:
    """The tree of a revision; None for anything else, or without git."""
    if not name or name.startswith("-") or any(char in name for char in "\0\n:"):
        return None
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{name}^{{tree}}").strip() or None
    except KvcalcError:
        return None


def merge_base(one: str, other: str) -> str:
    """The merge base of two revisions. Raises InvalidValueError if there is none."""
    for name in (one, other):
        if object_of(name) is None:
            raise InvalidValueError(
                f"{quoted(name)} is not a revision of this repository",
                help="`git branch --all` and `git tag` list them",
            )
    try:
        return _git("merge-base", one, other).split()[0]
    except (_GitError, IndexError):
        raise InvalidValueError(
            f"{quoted(one)} and {quoted(other)} have no common ancestor in this clone",
            help="a shallow clone has few: git fetch --unshallow; or compare them directly, with two dots",
        ) from None


def _listed(top: str, object_id: str) -> dict[str, Blob]:
    """Files of a tree by their paths. Raises InvalidValueError for invalid paths."""
    found: dict[str, Blob] = {}
    for entry in filter(None, _git("-C", top, "ls-tree", "-r", "-z", "-l", "--full-tree", object_id).split("\0")):
        about, _, path = entry.partition("\t")
        mode, _, object_id, size = about.split()
        if path != normpath(path) or path.startswith(("/", "../")) or path == os.pardir:
            raise InvalidValueError(f"the revision contains a file called {quoted(path)}", help="check it: git fsck")
        found[path] = Blob(int(mode, 8), object_id, int(size) if size.isdecimal() else 0)
    return found


def folders_above(path: str) -> list[str]:
    """The parent folders of a path, outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:number]) for number in range(1, len(parts))]


class _GitError(KvcalcError):
    """git's output as one line."""


def _git(*words: str) -> str:
    """Output of git, with decoded names. Raises KvcalcError with the first line of its error."""
    try:
        done = subprocess.run(
            _line(*words), capture_output=True, check=False, timeout=_DEADLINE_SECONDS, env=_environment()
        )
    except FileNotFoundError:
        raise InvalidValueError("git is not installed here", help="name two files or two folders instead") from None
    except subprocess.TimeoutExpired:
        raise InvalidValueError(
            f"git {words[0]} did not finish within {_DEADLINE_SECONDS} s", help="compare two folders instead"
        ) from None
    if done.returncode:
        said = os.fsdecode(done.stderr).strip().partition("\n")[0].removeprefix("fatal: ")
        raise _GitError(f"git: {said or f'exit code {done.returncode}'}", help=_NO_REPOSITORY)
    return os.fsdecode(done.stdout)


def _line(*words: str) -> Sequence[str]:
    return ("git", "--no-pager", "--literal-pathspecs", *_NOT_RUN, *words)


def _environment() -> dict[str, str]:
    """The environment in which git does not prompt, fetch or lock, and prints untranslated messages."""
    return {**os.environ, **_QUIETLY}
