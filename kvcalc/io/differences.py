"""The effect of changed files on the caches of their deployments: both sides checked and compared."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from kvcalc.fleet.check import check
from kvcalc.fleet.diff import changes
from kvcalc.io.checking import Given, ToCheck, of_files
from kvcalc.io.sides import Side, two_sides
from kvcalc.report.deployments import Note
from kvcalc.report.diff import Cause, Change, DiffReport


def differences(
    base: str, head: str | None, paths: Sequence[str], given: Given, max_growth: Fraction | None = None
) -> DiffReport:
    """Changes from `base` to `head`, or to the working tree. max_growth: the largest allowed.

    Raises KvcalcError for anything but files and revisions, and if nothing can be checked on either side.
    """
    with two_sides(base, head, paths) as (was, now):
        asked = of_files(was.files, given), of_files(now.files, given)
        before, after = (check(each.deployments, each.refused, each.skipped) for each in asked)
    if not before.findings and not after.findings and after.refused:
        raise after.refused[0].error()
    found, unchanged = changes(
        was.findings(before.findings),
        now.findings(after.findings),
        file_before=was.key,
        file_after=now.key,
        max_growth=max_growth,
        otherwise=Cause("what a file that it names holds", "as it was", "another"),
    )
    lost = _Lost(now, asked[1])
    known = tuple(change._replace(refused=lost.of(change)) for change in found)
    said = {note for change in known for note in change.refused}
    as_before = {_place(was, note) for note in before.refused}
    left = [note for note in after.refused if note not in said]
    still = [note for note in left if _place(now, note) in as_before]
    passed_over = (*before.refused, *was.told, *before.skipped, *now.told, *after.skipped, *still)
    return DiffReport(
        was.name,
        now.name,
        known,
        unchanged,
        refused=tuple(note for note in left if note not in still),
        passed_over=tuple(dict.fromkeys(passed_over)),
    )


def _place(side: Side, note: Note) -> tuple[str, str, str]:
    """A note in a form common to both sides: by its file, without the line."""
    return side.file(note.where), note.about, note.why


class _Lost:
    """What cannot be sized now, by file and name of a deployment, or only by file if the name is unknown."""

    def __init__(self, side: Side, asked: ToCheck) -> None:
        self._named: dict[tuple[str, str], tuple[Note, ...]] = {}
        self._files: dict[str, tuple[Note, ...]] = {}
        for each in asked.unsized:
            self._named.setdefault((side.key(side.shown.get(each.file, each.file)), each.name), each.notes)
        owned = {note for each in asked.unsized if each.name for note in each.notes}
        for note in asked.refused:
            if note not in owned:
                file = side.file(note.where)
                self._files[file] = (*self._files.get(file, ()), note)

    def of(self, change: Change) -> tuple[Note, ...]:
        """Why a deployment is not sized now; empty if it is, or was removed."""
        if change.now is not None:
            return ()
        return self._named.get((change.file, change.deployment)) or self._files.get(change.file, ())
