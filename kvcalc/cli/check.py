"""`kvcalc check`: do the deployments of capacity plans fit?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidValueError

if TYPE_CHECKING:
    from kvcalc.report.check import CheckReport


def run(
    *,
    plans: Sequence[str],
    baseline: str | None,
    update_baseline: bool,
    max_growth: str | None,
    exact: bool,
    format: str,
) -> int:
    """Runs `kvcalc check`."""
    check_output_format(format, findings=True)
    if baseline is None and (update_baseline or max_growth is not None):
        where = "--update-baseline" if update_baseline else "--max-growth"
        raise InvalidValueError("there is no baseline", where=where, help="name its file: --baseline kvcalc.json")

    from kvcalc.fleet.check import check as check_deployments
    from kvcalc.io.plans import load_plans

    read = load_plans([Path(plan) for plan in plans])
    found = check_deployments(read.deployments)
    report = found._replace(exact=exact, passed_over=read.passed_over)
    if baseline is not None and not update_baseline:
        return _compared(report, Path(baseline), max_growth, format)
    if baseline is not None:
        from kvcalc.io.baselines import write_baseline

        write_baseline(Path(baseline), report.findings)
    show(report, format)
    return 0 if report.fits or update_baseline else 1


def _compared(report: CheckReport, baseline: Path, max_growth: str | None, format: str) -> int:
    """Shows what changed since a baseline; only what it does not know already fails."""
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
    difference = DiffReport(str(baseline), "now", found, unchanged, report.exact, report.passed_over)
    show(difference, format)
    return 1 if difference.fails else 0


COMMAND = Command(
    help=(
        "Whether each deployment's cache fits its budget or GPU. Exit code 0: all fit, 1: one does not, "
        "2: bad input.\n\n"
        "With --baseline what changed since it was kept: 1 only where something no longer fits, or grew by more than "
        "--max-growth."
    ),
    epilog="Example: kvcalc check plans/*.yaml --format github",
    takes=(
        options.PLANS,
        options.BASELINE,
        options.UPDATE_BASELINE,
        options.MAX_GROWTH._replace(help="With --baseline: largest growth of a deployment's bytes: 10%."),
        options.EXACT,
        options.FORMAT,
    ),
    run=run,
)
