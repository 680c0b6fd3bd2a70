"""`kvcalc check`: do the deployments of plans, manifests, compose files, scripts and units fit?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidFileError, InvalidValueError

if TYPE_CHECKING:
    from kvcalc.report.check import CheckReport

REFUSED = 2
"""Exit code if anything cannot be checked, whatever else was found."""


def run(
    *,
    paths: Sequence[str],
    variables: Sequence[str],
    hub: bool,
    gpu: str | None,
    memory: str | None,
    budget: str | None,
    weights: str | None,
    reserve: str | None,
    tokens: str | None,
    batch: str | None,
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
        raise InvalidValueError("no baseline given", where=where, help="pass its file: --baseline kvcalc.json")

    from kvcalc.io.fleets import is_fleet

    if is_fleet(list(paths)):
        added = {"--gpu": gpu, "--memory": memory, "--budget": budget, "--weights": weights, "--reserve": reserve}
        _check_plain(baseline, {**added, "--tokens": tokens, "--batch": batch, "--set": variables})
        from kvcalc.cli._fleet import checked

        return checked(paths[0], hub=hub, format=format)

    from kvcalc.fleet.check import check as check_deployments
    from kvcalc.io.checking import Given, to_check

    given = Given.of(
        variables,
        hub=hub,
        dashes="--",
        gpu=gpu,
        memory=memory,
        budget=budget,
        weights=weights,
        reserve=reserve,
        tokens=tokens,
        batch=batch,
    )
    asked = to_check(paths, given)
    report = check_deployments(*asked)._replace(exact=exact)
    if not report.findings and len(report.refused) == 1:
        raise report.refused[0].error()
    if not report.findings and not report.refused:
        raise InvalidFileError(
            "no deployments found", where=", ".join(paths), help="`kvcalc deployments PATH` shows what is read"
        )
    if baseline is not None and not update_baseline:
        return _compared(report, Path(baseline), max_growth, format)
    if baseline is not None and not report.refused:
        from kvcalc.io.baselines import write_baseline

        write_baseline(Path(baseline), report.findings)
    show(report, format)
    return REFUSED if report.refused else 0 if report.fits or update_baseline else 1


def _check_plain(baseline: str | None, given: Mapping[str, object]) -> None:
    """Raises InvalidValueError for options that a fleet file sets itself, or that do not apply to fleets."""
    if baseline is not None:
        raise InvalidValueError(
            "a fleet cannot be kept as a baseline", where="--baseline", help="use plan files, or remove the option"
        )
    for option, value in given.items():
        if value:
            raise InvalidValueError(
                "a fleet sets this on each line", where=option, help="add it to the lines of the file"
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
        options.FORMAT_OF_FINDINGS,
    ),
    run=run,
)
