"""`kvcalc check`: do the deployments of plans, manifests, compose files, scripts and units fit?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from kvcalc.cli import asking, options
from kvcalc.cli._added import AddedOptions, checked, given_by
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.report.check import CheckReport

REFUSED = 2
"""Exit code if anything cannot be checked, whatever else was found."""


def run(
    *,
    paths: Sequence[str],
    baseline: str | None,
    update_baseline: bool,
    max_growth: str | None,
    exact: bool,
    format: str,
    **added: Unpack[AddedOptions],
) -> int:
    """Runs `kvcalc check`."""
    check_output_format(format, findings=True, charts=baseline is None or update_baseline)
    if baseline is None and (update_baseline or max_growth is not None):
        where = "--update-baseline" if update_baseline else "--max-growth"
        raise InvalidValueError("no baseline given", where=where, help="pass its file: --baseline kvcalc.json")

    from kvcalc.io.fleets import is_fleet

    if is_fleet(list(paths)):
        _check_plain(baseline, added)
        from kvcalc.cli._fleet import checked as checked_as_a_stream

        return checked_as_a_stream(paths[0], hub=added["hub"], format=format)

    report = checked(paths, given_by(added))[0]._replace(exact=exact)
    if baseline is not None and not update_baseline:
        return _compared(report, Path(baseline), max_growth, format)
    if baseline is not None and not report.refused:
        from kvcalc.io.baselines import write_baseline

        write_baseline(Path(baseline), report.findings)
    show(report, format)
    return REFUSED if report.refused else 0 if report.fits or update_baseline else 1


def _check_plain(baseline: str | None, added: AddedOptions) -> None:
    """Raises InvalidValueError for options that a fleet file sets itself, or that do not apply to fleets."""
    if baseline is not None:
        raise InvalidValueError(
            "a fleet cannot be kept as a baseline", where="--baseline", help="use plan files, or remove the option"
        )
    for row in (options.SET, *options.ADDED):
        if added.get(row.name):
            raise InvalidValueError(
                "a fleet sets this on each line", where=row.flags[0], help="add it to the lines of the file"
            )


def _compared(report: CheckReport, baseline: Path, max_growth: str | None, format: str) -> int:
    """Shows what changed since a baseline; failures that the baseline already has do not count."""
    from kvcalc import __version__
    from kvcalc.fleet.diff import changes
    from kvcalc.io.baselines import known_as, read_baseline
    from kvcalc.report.diff import Cause, DiffReport
    from kvcalc.units import parse_percent

    agreed = None if max_growth is None else asking.located("--max-growth", parse_percent, max_growth, "max_growth")
    kept = read_baseline(baseline)
    found, unchanged = changes(
        kept.findings,
        report.findings,
        file_before=known_as,
        file_after=known_as,
        max_growth=agreed,
        otherwise=Cause("kvcalc", kept.kvcalc, __version__) if kept.kvcalc != __version__ else None,
    )
    difference = DiffReport(str(baseline), "now", found, unchanged, report.exact, report.refused, report.skipped)
    show(difference, format)
    return REFUSED if difference.refused else 1 if difference.fails else 0


COMMAND = Command(
    help=(
        "Whether each deployment's cache fits its budget or GPU. Exit code 0: all fit, 1: one does not, 2: bad "
        "input.\n\nWith --baseline: what changed since it was written; 1 only if something no longer fits, or grew by "
        "more than --max-growth."
    ),
    epilog="Example: kvcalc check plans/*.yaml k8s/ --format github",
    takes=(
        options.CHECKED_FILES,
        options.SET,
        options.HUB._replace(help="Read the models of all plans from the Hugging Face Hub."),
        *options.ADDED,
        options.BASELINE,
        options.UPDATE_BASELINE,
        options.MAX_GROWTH._replace(help="With --baseline: largest growth of a deployment's bytes: 10%."),
        options.EXACT,
        options.FORMAT_OF_CHECKS,
    ),
    run=run,
)
