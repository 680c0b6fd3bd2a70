"""What a change of files does to the caches of the deployments in them: both sides checked, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from kvcalc.fleet.check import check
from kvcalc.fleet.diff import changes
from kvcalc.io.checking import Given, of_files
from kvcalc.io.sides import two_sides
from kvcalc.report.diff import Cause, DiffReport


def differences(
    base: str, head: str | None, paths: Sequence[str], given: Given, max_growth: Fraction | None = None
) -> DiffReport:
    """Changes from `base` to `head`, or to the files as they are now. max_growth: the largest that is agreed.

    Raises KvcalcError for what is neither a file nor a revision, and where nothing can be checked now.
    """
    with two_sides(base, head, paths) as (was, now):
        before, after = (check(*of_files(side.files, given)) for side in (was, now))
    if len(after.refused) == 1 and not after.findings:
        raise after.refused[0].error()
    unread = {now.key(now.shown.get(file, file)) for note in after.refused for file in (note.where.rpartition(":")[0],)}
    found, unchanged = changes(
        was.findings(before.findings),
        now.findings(after.findings),
        file_before=was.key,
        file_after=now.key,
        max_growth=max_growth,
        otherwise=Cause("what a file that it names holds", "as it was", "another"),
    )
    known = tuple(change for change in found if change.now is not None or change.file not in unread)
    passed_over = tuple(dict.fromkeys((*before.refused, *was.told, *before.skipped, *now.told, *after.skipped)))
    return DiffReport(was.name, now.name, known, unchanged, refused=after.refused, passed_over=passed_over)
