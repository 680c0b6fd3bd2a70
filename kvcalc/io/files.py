"""Files, opened without blocking: anything that blocks, has no end or is not a file is refused immediately.

Nothing is read completely before its size is known to be plausible. Regular files are read directly. A pipe is read if
it is named and has a writer (`<(command)`, `/dev/stdin`, a FIFO); devices, sockets and kernel files, whose size is 0
and whose reading may consume data (/proc/kmsg), are not.

A tree outside this disk (a git revision) may be mounted under a name: paths that begin with the name are then read from
it, by all code that reads files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from kvcalc.errors import InvalidFileError, KvcalcError

_CHECK = "check the path"
_WHAT = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a pipe",
}


class Readable(Protocol):
    """Random access to bytes, like an open file."""

    def seek(self, at: int, /) -> int:
        """Reads on from there."""
        ...

    def read(self, size: int, /) -> bytes:
        """The next bytes: `size`, or as many as are left."""
        ...


class Tree(Protocol):
    """Files that are not on this disk, by their paths from the top: no `.` or `..`, no slash in front."""

    def kind(self, path: str) -> int:
        """The file type, as in `stat`; 0 if it does not exist."""
        ...

    def content(self, path: str) -> bytes:
        """Content of a file. Raises InvalidFileError."""
        ...


_mounted: dict[str, Tree] = {}


@contextmanager
def mounted(name: str, tree: Tree) -> Iterator[Path]:
    """A tree as a folder of that name, within the context. Paths that lead out of it do not exist."""
    _mounted[name] = tree
    try:
        yield Path(name)
    finally:
        _mounted.pop(name, None)


def _in_a_tree(path: Path) -> tuple[Tree, str] | None:
    """The tree of a path, and the path from its top; None for this disk."""
    for name, tree in _mounted.items():
        if str(path) == name or str(path).startswith(f"{name}/"):
            return tree, os.path.normpath(str(path)[len(name) + 1 :] or ".")
    return None


def read_bytes(path: Path, most: int, what: str, help: str) -> bytes:
    """Bytes of a file of at most `most` bytes, the limit for `what` (a configuration file). Raises InvalidFileError."""
    with opened(path, pipes=True) as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            content = file.read(most + 1) if 0 < status.st_size <= most else b""
            size_bytes = max(status.st_size, len(content))
        else:
            content = _of_pipe(file, path, most + 1)
            size_bytes = len(content)
    if size_bytes > most:
        size = f"{size_bytes:,}" if stat.S_ISREG(status.st_mode) else "and has not ended"
        raise InvalidFileError(
            f"is larger than {most:,} bytes ({size}), too large for a {what}", where=str(path), help=help
        )
    return content


@contextmanager
def opened(path: Path, *, pipes: bool = False) -> Iterator[BinaryIO]:
    """A regular file, or a pipe if `pipes`; errors while it is open also raise InvalidFileError."""
    if (found := _in_a_tree(path)) is not None:
        with _copied(*found, path) as file:
            yield file
        return
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            kind = stat.S_IFMT(os.fstat(file.fileno()).st_mode)
            if kind != stat.S_IFREG and not (pipes and kind == stat.S_IFIFO):
                raise InvalidFileError(
                    f"is {_WHAT.get(kind, 'something else')}, not a file", where=str(path), help=_CHECK
                )
            yield file
    except FileNotFoundError as error:
        raise InvalidFileError("no such file", where=str(path), help=_CHECK) from error
    except (OSError, ValueError) as error:
        raise InvalidFileError(f"cannot be read: {reason(error)}", where=str(path), help=_CHECK) from error


@contextmanager
def _copied(tree: Tree, inner: str, path: Path) -> Iterator[BinaryIO]:
    """A file of a tree, as an unnamed file on this disk."""
    kind = tree.kind(inner)
    if kind != stat.S_IFREG:
        what = f"is {_WHAT.get(kind, 'something else')}, not a file" if kind else "no such file"
        raise InvalidFileError(what, where=str(path), help=_CHECK)

    import tempfile  # imports random and compressors

    with tempfile.TemporaryFile() as file:
        try:
            file.write(tree.content(inner))
        except KvcalcError as error:
            raise error.at(str(path)) from None
        file.seek(0)
        yield file


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically. Raises InvalidFileError if it cannot be written."""
    import tempfile  # imports random and compressors

    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as new:
            new.write(content)
        Path(new.name).chmod(0o644)
        Path(new.name).replace(path)
    except (OSError, ValueError) as error:
        raise InvalidFileError(
            f"cannot be written: {reason(error)}", where=str(path), help="name a file in an existing folder"
        ) from None


def exists(path: Path) -> bool:
    """Whether a path exists; invalid names do not."""
    return _kind(path) != 0


def is_file(path: Path) -> bool:
    """Whether it is an existing regular file."""
    return _kind(path) == stat.S_IFREG


def is_folder(path: Path) -> bool:
    """Whether it is an existing folder."""
    return _kind(path) == stat.S_IFDIR


def _kind(path: Path) -> int:
    if (found := _in_a_tree(path)) is not None:
        return found[0].kind(found[1])
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):  # a name that is too long, or contains a zero byte, for example
        return 0


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read, in words."""
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def _of_pipe(file: BinaryIO, path: Path, most: int) -> bytes:
    """The contents of a pipe, up to its end. Raises InvalidFileError without a writer."""
    pipe = file.fileno()
    try:
        content = os.read(pipe, most)
    except BlockingIOError:  # it has a writer
        content = b""
    else:
        if not content:
            raise InvalidFileError("is a pipe without a writer", where=str(path), help="start its writer first")
    os.set_blocking(pipe, True)
    parts = [content]
    while (left := most - sum(map(len, parts))) > 0 and (part := os.read(pipe, left)):
        parts.append(part)
    return b"".join(parts)
