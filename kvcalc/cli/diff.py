"""`kvcalc diff`: what a change does to the caches of the deployments in the files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from kvcalc.cli import asking, options
from kvcalc.cli._added import AddedOptions, given_by
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command


def run(
    *,
    base: str,
    head: str | None,
    paths: Sequence[str],
    max_growth: str | None,
    exact: bool,
    format: str,
    **added: Unpack[AddedOptions],
) -> int:
    """Runs `kvcalc diff`."""
    check_output_format(format, findings=True)

    from kvcalc.io.differences import differences
    from kvcalc.units import parse_percent

    agreed = None if max_growth is None else asking.located("--max-growth", parse_percent, max_growth, "max_growth")
    report = differences(base, head, paths, given_by(added), agreed)._replace(exact=exact)
    show(report, format)
    return int(report.fails)


COMMAND = Command(
    help=(
        "What a change does to each deployment's cache: bytes, users and context, and the field that caused it.\n\n"
        "BASE and HEAD are files, folders or git revisions; without HEAD, a revision is compared with the working "
        "tree. Exit code 0: nothing got worse, 1: something no longer fits or can no longer be sized, or grew by more "
        "than --max-growth, 2: bad input."
    ),
    epilog="Example: kvcalc diff main HEAD plans/ --max-growth 10% --format markdown",
    takes=(
        options.BASE,
        options.HEAD,
        options.PATHS,
        options.SET,
        options.HUB._replace(help="Read the models of all plans from the Hugging Face Hub."),
        *options.ADDED,
        options.MAX_GROWTH,
        options.EXACT,
        options.FORMAT_OF_FINDINGS,
    ),
    run=run,
)
