"""`kvcalc check`: do deployments fit, of plans and as manifests, compose files, scripts and units have them?"""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.cli import options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command
from kvcalc.errors import InvalidFileError

REFUSED = 2
"""Exit code where something cannot be checked, whatever else was found."""


def run(
    *,
    paths: Sequence[str],
    variables: Sequence[str],
    gpu: str | None,
    weights: str | None,
    reserve: str | None,
    format: str,
) -> int:
    """Runs `kvcalc check`."""
    check_output_format(format, findings=True)

    from kvcalc.fleet.check import check as check_deployments
    from kvcalc.io.checking import Given, to_check
    from kvcalc.io.deployments.given import variables_of

    asked = to_check(paths, Given(gpu, weights, reserve, variables_of(variables)))
    report = check_deployments(*asked)
    if not report.findings and len(report.refused) == 1:
        raise report.refused[0].error()
    if not report.findings and not report.refused:
        raise InvalidFileError(
            "no deployment is found", where=", ".join(paths), help="`kvcalc deployments PATH` shows what is read"
        )
    show(report, format)
    return REFUSED if report.refused else 0 if report.fits else 1


COMMAND = Command(
    help="Whether each deployment's cache fits its budget or GPU. Exit code 0: all fit, 1: one does not, 2: bad input.",
    epilog="Example: kvcalc check plans/*.yaml k8s/ --format github",
    takes=(
        options.CHECKED_FILES,
        options.SET,
        options.GPU,
        options.WEIGHTS,
        options.RESERVE._replace(default=None),
        options.FORMAT,
    ),
    run=run,
)
