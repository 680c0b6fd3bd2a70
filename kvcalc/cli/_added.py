"""What users add to deployments whose files do not say it, and the check of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from kvcalc.errors import InvalidFileError

if TYPE_CHECKING:
    from kvcalc.fleet.check import Deployment
    from kvcalc.io.checking import Given
    from kvcalc.report.check import CheckReport


class AddedOptions(TypedDict):
    """What `run` of a command gets for `options.SET`, `options.HUB` and `options.ADDED`."""

    variables: Sequence[str]
    hub: bool
    gpu: str | None
    memory: str | None
    budget: str | None
    weights: str | None
    reserve: str | None
    tokens: str | None
    batch: str | None


def given_by(added: AddedOptions) -> Given:
    """What they say; errors name the option."""
    from kvcalc.io.checking import Given

    return Given.of(**added, dashes="--")


def checked(paths: Sequence[str], given: Given) -> tuple[CheckReport, tuple[Deployment, ...]]:
    """The deployments of files, and whether each fits.

    Raises InvalidFileError if there are none, and the error that refuses the only one.
    """
    from kvcalc.fleet.check import check
    from kvcalc.io.checking import to_check

    asked = to_check(paths, given)
    report = check(asked.deployments, asked.refused, asked.skipped)
    if not report.findings and len(report.refused) == 1:
        raise report.refused[0].error()
    if not report.findings and not report.refused:
        raise InvalidFileError(
            "no deployments found", where=", ".join(paths), help="`kvcalc deployments PATH` shows what is read"
        )
    return report, asked.deployments
