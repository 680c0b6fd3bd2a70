"""`kvcalc deployments`: what the files start, and what is missing; sizes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.cli import options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.asking import located
from kvcalc.cli.commands import Command


def run(*, paths: Sequence[str], variables: Sequence[str], format: str) -> int:
    """Runs `kvcalc deployments`."""
    check_output_format(format)

    from kvcalc.io.deployments import read_deployments
    from kvcalc.io.deployments.given import variables_of
    from kvcalc.io.deployments.skipping import report_of
    from kvcalc.io.deployments.sources import found, opener

    given = located("--set", variables_of, variables)
    files = found(paths)
    show(report_of(files, read_deployments(files.sources, given, opener)), format)
    return 0


COMMAND = Command(
    help="What manifests, compose files, Helm values, scripts and units start: engine, model, arguments, GPUs.",
    epilog="Example: kvcalc deployments k8s/ --format json",
    takes=(options.DEPLOYMENT_FILES, options.SET, options.FORMAT),
    run=run,
)
