"""`kvcalc diff`: what a change of files does to the caches of the deployments in them."""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command


def run(*, base: str, head: str | None, paths: Sequence[str], max_growth: str | None, exact: bool, format: str) -> int:
    """Runs `kvcalc diff`."""
    check_output_format(format, findings=True)

    from kvcalc.fleet.check import check
    from kvcalc.fleet.diff import changes
    from kvcalc.io.plans import deployments_of
    from kvcalc.io.sides import two_sides
    from kvcalc.report.diff import Cause, DiffReport
    from kvcalc.units import parse_percent

    agreed = None if max_growth is None else asking.located("--max-growth", parse_percent, max_growth, "max_growth")
    with two_sides(base, head, paths) as (was, now):
        read = deployments_of(was.texts, lenient=True), deployments_of(now.texts)
    refused: list[str] = []
    before, after = check(read[0].deployments, refused).findings, check(read[1].deployments).findings
    found, unchanged = changes(
        before,
        after,
        file_before=was.key,
        file_after=now.key,
        max_growth=agreed,
        otherwise=Cause("what a file that it names holds", "as it was", "another"),
    )
    passed_over = dict.fromkeys(
        (*was.passed_over, *read[0].passed_over, *refused, *now.passed_over, *read[1].passed_over)
    )
    report = DiffReport(was.name, now.name, found, unchanged, exact, tuple(passed_over))
    show(report, format)
    return 1 if report.fails else 0


COMMAND = Command(
    help=(
        "What a change does to each deployment's cache: bytes, users and context, and the field that made it.\n\n"
        "BASE and HEAD are files, folders or git revisions; without HEAD a revision is compared with the files as they "
        "are now. Exit code 0: all is as agreed, 1: something no longer fits, or grew by more than --max-growth, "
        "2: bad input."
    ),
    epilog="Example: kvcalc diff main..HEAD plans/ --max-growth 10% --format markdown",
    takes=(
        options.BASE,
        options.HEAD,
        options.PATHS,
        options.MAX_GROWTH,
        options.EXACT,
        options.FORMAT,
    ),
    run=run,
)
