"""`kvcalc check`: do the deployments of capacity plans fit?"""

from pathlib import Path
from typing import Annotated

import typer

from kvcalc.cli import _options
from kvcalc.cli._options import command_app
from kvcalc.cli._output import check_output_format, show

app = command_app()


@app.command(
    help="Whether each deployment's cache fits its budget or GPU. Exit code 0: all fit, 1: one does not, 2: bad input.",
    epilog="Example: kvcalc check plans/*.yaml --format github",
)
def check(
    plans: Annotated[
        list[Path], typer.Argument(metavar="PLAN...", help="Capacity-planning files (`kvcalc schema plan`).")
    ],
    format: _options.Format = "table",
) -> None:
    """Runs `kvcalc check`."""
    check_output_format(format, findings=True)

    from kvcalc.fleet.check import check as check_deployments
    from kvcalc.io.plans import load_plans

    report = check_deployments(load_plans(plans))
    show(report, format)
    raise typer.Exit(0 if report.fits else 1)
