"""`kvcalc diff`: what a change does to the caches of the deployments in the files."""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.check import REFUSED
from kvcalc.cli.commands import Command


def run(
    *,
    base: str,
    head: str | None,
    paths: Sequence[str],
    variables: Sequence[str],
    hub: bool,
    gpu: str | None,
    weights: str | None,
    reserve: str | None,
    max_growth: str | None,
    exact: bool,
    format: str,
) -> int:
    """Runs `kvcalc diff`."""
    check_output_format(format, findings=True)

    from kvcalc.fleet.check import check
    from kvcalc.fleet.diff import changes
    from kvcalc.io.checking import Given, of_files
    from kvcalc.io.deployments.given import variables_of
    from kvcalc.io.sides import two_sides
    from kvcalc.report.diff import Cause, DiffReport
    from kvcalc.units import parse_percent

    agreed = None if max_growth is None else asking.located("--max-growth", parse_percent, max_growth, "max_growth")
    given = Given(gpu, weights, reserve, variables_of(variables), hub)
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
        max_growth=agreed,
        otherwise=Cause("contents of a file that it names", "before the change", "another"),
    )
    known = tuple(change for change in found if change.now is not None or change.file not in unread)
    passed_over = tuple(dict.fromkeys((*before.refused, *was.told, *before.skipped, *now.told, *after.skipped)))
    report = DiffReport(was.name, now.name, known, unchanged, exact, after.refused, passed_over)
    show(report, format)
    return REFUSED if report.refused else 1 if report.fails else 0


COMMAND = Command(
    help=(
        "What a change does to each deployment's cache: bytes, users and context, and the field that caused it.\n\n"
        "BASE and HEAD are files, folders or git revisions; without HEAD, a revision is compared with the working "
        "tree. Exit code 0: nothing got worse, 1: something no longer fits, or grew by more than --max-growth, 2: bad "
        "input."
    ),
    epilog="Example: kvcalc diff main HEAD plans/ --max-growth 10% --format markdown",
    takes=(
        options.BASE,
        options.HEAD,
        options.PATHS,
        options.SET,
        options.HUB._replace(help="Read the models of all plans from the Hugging Face Hub."),
        options.GPU,
        options.WEIGHTS,
        options.RESERVE._replace(
            help="On each GPU for activations, graphs and the rest; default: an estimate for the engine.", default=None
        ),
        options.MAX_GROWTH,
        options.EXACT,
        options.FORMAT_OF_FINDINGS,
    ),
    run=run,
)
