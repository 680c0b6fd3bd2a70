"""`kvcalc check`: do the deployments of capacity plans fit?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kvcalc.cli import options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command


def run(*, plans: Sequence[str], hub: bool, format: str) -> int:
    """Runs `kvcalc check`."""
    check_output_format(format, findings=True)

    from kvcalc.fleet.check import check as check_deployments
    from kvcalc.io.plans import load_plans

    report = check_deployments(load_plans([Path(plan) for plan in plans], hub=hub))
    show(report, format)
    return 0 if report.fits else 1


COMMAND = Command(
    help="Whether each deployment's cache fits its budget or GPU. Exit code 0: all fit, 1: one does not, 2: bad input.",
    epilog="Example: kvcalc check plans/*.yaml --format github",
    takes=(
        options.PLANS,
        options.HUB._replace(help="Read the models of all plans from the Hugging Face Hub."),
        options.FORMAT_OF_FINDINGS,
    ),
    run=run,
)
