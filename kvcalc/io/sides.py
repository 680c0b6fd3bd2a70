"""The two sides of a comparison: files, folders, git revisions, or the working tree.

    kvcalc diff old.yaml new.yaml            two files
    kvcalc diff old/ new/                    two folders
    kvcalc diff main                         a revision, and the working tree
    kvcalc diff main HEAD plans/             two revisions, below a folder
    kvcalc diff main..HEAD, main...HEAD      the same, and since the merge base, as in git

A word that is both a file and a revision is refused, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from kvcalc.errors import InvalidFileError, InvalidValueError
from kvcalc.errors.foreign import name_shown, quoted
from kvcalc.io.deployments.sources import Found, found_in
from kvcalc.io.files import exists, is_file, is_folder, mounted
from kvcalc.io.revisions import Repository, Revision, merge_base, object_of, revision
from kvcalc.report.check import Finding
from kvcalc.report.deployments import Note

_NOW = "the working tree"


class Side(NamedTuple):
    """One side. name: for messages; files: to read.

    shown: displayed path of a file, if different from the one it is read by; keys: common name on both sides. told:
    notes on what is ignored, and why.
    """

    name: str
    files: Found
    shown: Mapping[str, str] = {}
    keys: Mapping[str, str] = {}
    told: tuple[Note, ...] = ()

    def key(self, file: str) -> str:
        """The common name of a file on both sides."""
        return self.keys.get(file, file)

    def file(self, where: str) -> str:
        """The common name of a place's file on both sides."""
        file = where.rpartition(":")[0] if where.rpartition(":")[2].isdecimal() else where
        return self.key(self.shown.get(file, file))

    def findings(self, found: Iterable[Finding]) -> tuple[Finding, ...]:
        """Findings with displayed paths."""
        return tuple(
            each._replace(
                file=self.shown.get(each.file, each.file),
                written=tuple(w._replace(file=self.shown.get(w.file, w.file)) for w in each.written),
            )
            for each in found
        )


@contextmanager
def two_sides(base: str, head: str | None, paths: Sequence[str]) -> Iterator[tuple[Side, Side]]:
    """Both sides, readable within the context. Raises KvcalcError for a word that is neither."""
    if _is_path(base, "BASE"):
        yield _on_disk(base, head, paths)
        return
    with ExitStack() as stack:
        yield _of_revisions(base, head, paths, stack)


def _is_path(word: str, where: str) -> bool:
    """Whether a word is a path and not a revision. Raises InvalidValueError if it is both."""
    there = exists(Path(word))
    if there and not word.startswith(("./", "../", "/")) and not word.endswith("/") and object_of(word) is not None:
        shown = name_shown(word)
        raise InvalidValueError(
            f"{quoted(word)} is both a file or folder here and a revision",
            where=where,
            help=f"write ./{shown} for the file, refs/heads/{shown} or {shown}^0 for the revision",
        )
    return there


# Files and folders -------------------------------------------------------------------------------------------------


def _on_disk(base: str, head: str | None, paths: Sequence[str]) -> tuple[Side, Side]:
    if head is None:
        raise InvalidValueError(
            f"nothing to compare {name_shown(base)} with", where="HEAD", help="name the other file or folder as well"
        )
    if not _is_path(head, "HEAD"):
        raise InvalidFileError("no such file or folder", where=head, help="name an existing one")
    both = Path(base), Path(head)
    folders = [is_folder(path) for path in both]
    if folders[0] != folders[1]:
        one, other = ("folder" if folder else "file" for folder in folders)
        raise InvalidValueError(
            f"{name_shown(base)} is a {one}, but {name_shown(head)} is a {other}",
            where="HEAD",
            help="compare two files or two folders",
        )
    if not folders[0]:
        if paths:
            raise InvalidValueError(
                f"{quoted(paths[0])} does not apply to a comparison of two files",
                where="PATHS",
                help="compare two folders, or remove it",
            )
        return _file(both[0]), _file(both[1])
    for path in paths:
        if not any(exists(folder / path) for folder in both):
            raise InvalidFileError(
                f"is neither in {name_shown(base)} nor in {name_shown(head)}", where=path, help="check the path"
            )
    return _folder(both[0], paths), _folder(both[1], paths)


def _file(path: Path) -> Side:
    return Side(str(path), found_in([path], ()), keys={str(path): ""})


def _folder(folder: Path, paths: Sequence[str]) -> Side:
    """The files of a folder, or those in the paths; both sides know them by their relative path."""
    files = found_in([inner for path in paths or ["."] if exists(inner := folder / path)], ())
    return Side(str(folder), files, keys={s.name: str(Path(s.name).relative_to(folder)) for s in files.sources})


# Revisions and the working tree -------------------------------------------------------------------------------------


def _of_revisions(base: str, head: str | None, paths: Sequence[str], stack: ExitStack) -> tuple[Side, Side]:
    words = [*([] if head is None else [head]), *paths]
    repository = _repository(base)
    if ".." in base and object_of(base) is None:
        base, head_name = _range(base)
    elif words and not _is_path(words[0], "HEAD") and object_of(words[0]) is not None:
        head_name = words.pop(0)
    else:
        head_name = ""
    was = stack.enter_context(revision(repository, base))
    now = stack.enter_context(revision(repository, head_name)) if head_name else None
    inner = [repository.path_of(word) for word in words]
    known = [*was.paths(), *(now.paths() if now else repository.working_files())]
    for path, word in zip(inner, words, strict=True):
        if not any(_is_below(each, path) for each in known):
            one, other = name_shown(base), name_shown(head_name) if now else _NOW
            raise InvalidFileError(f"is neither in {one} nor in {other}", where=word, help="check the path")
    sides = [_at_revision(repository, was, inner, stack)]
    sides.append(_at_revision(repository, now, inner, stack) if now else _working_tree(repository, inner))
    return sides[0], sides[1]


def _repository(base: str) -> Repository:
    try:
        return Repository.here()
    except InvalidValueError as error:
        error.what = f"{quoted(base)} is not a file or folder, and as a revision: {error.what}"
        raise


def _range(words: str) -> tuple[str, str]:
    """Both revisions of `A..B`; for `A...B` their merge base and B; omitted ones are HEAD."""
    between = "..." if "..." in words else ".."
    one, _, other = (part or "HEAD" for part in words.partition(between))
    return (merge_base(one, other) if between == "..." else one), other


def _is_below(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")


def _chosen(paths: Iterable[str], inner: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The paths to read, and whether they were named explicitly."""
    for path in paths:
        if path in inner:
            yield path, True
        elif not inner or any(_is_below(path, folder) for folder in inner):
            yield path, False


def _at_revision(repository: Repository, at: Revision, inner: Sequence[str], stack: ExitStack) -> Side:
    root = stack.enter_context(mounted(f"{at.label}:", at))
    chosen = [(root / path, path, asked) for path, asked in _chosen(at.paths(), inner) if is_file(root / path)]
    files = found_in((path for path, _, asked in chosen if asked), (path for path, _, asked in chosen if not asked))
    submodules = [path for path in at.paths() if at.is_submodule(path) and _overlaps(path, inner)]
    told = tuple(Note(str(root / path), "submodule", "submodules are not read") for path in submodules)
    return Side(at.name, files, {str(path): repository.shown(inner) for path, inner, _ in chosen}, told=told)


def _overlaps(path: str, inner: Sequence[str]) -> bool:
    return not inner or any(_is_below(path, folder) or _is_below(folder, path) for folder in inner)


def _working_tree(repository: Repository, inner: Sequence[str]) -> Side:
    chosen = [(Path(repository.shown(path)), asked) for path, asked in _chosen(repository.working_files(), inner)]
    there = [(path, asked) for path, asked in chosen if is_file(path)]
    return Side(_NOW, found_in((p for p, asked in there if asked), (p for p, asked in there if not asked)))
