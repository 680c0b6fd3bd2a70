"""`kvcalc report`: a page about deployments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from kvcalc.cli import options
from kvcalc.cli._added import AddedOptions, checked, given_by
from kvcalc.cli._output import check_output_format, format_of, show
from kvcalc.cli.check import REFUSED
from kvcalc.cli.commands import Command


def run(
    *,
    paths: Sequence[str],
    out: str | None,
    format: str | None,
    **added: Unpack[AddedOptions],
) -> int:
    """Runs `kvcalc report`."""
    chosen = format_of(format, out, "html")
    check_output_format(chosen, to_file=out is not None)

    from shlex import join

    from kvcalc.io.page import page_of

    given = given_by(added)
    report, deployments = checked(paths, given)
    words = [
        *paths,
        *(word for each in added["variables"] for word in ("--set", each)),
        *(["--hub"] if added["hub"] else []),
    ]
    words += [word for name, value in given.fields.items() for word in (given.called[name], str(value))]
    page = page_of(deployments, report, f"kvcalc report {join(words)}", "KV cache of the deployments")
    show(page, chosen, out)
    return REFUSED if report.refused else 0 if report.fits else 1


COMMAND = Command(
    help=(
        "A page about deployments: verdicts, memory, layouts, curves, formulas and the command to reproduce each.\n\n"
        "A single self-contained file. Exit code 0: all fit, 1: one does not, 2: bad input."
    ),
    epilog="Example: kvcalc report k8s/ --gpu h100 -o report.html",
    takes=(
        options.CHECKED_FILES,
        options.SET,
        options.HUB._replace(help="Read the models of all plans from the Hugging Face Hub."),
        *options.ADDED,
        options.OUT,
        options.FORMAT._replace(default=None, help="Output format: {known}; default: html."),
    ),
    run=run,
)
