"""Which of the files that hold no deployment are worth a word: those that were named, and those that were skipped."""

from __future__ import annotations

from kvcalc.io.deployments import Deployments
from kvcalc.io.deployments.sources import Found
from kvcalc.report.deployments import DeploymentsReport, Note

_NOTHING = "no deployment is found in it"


def report_of(files: Found, read: Deployments) -> DeploymentsReport:
    """What was read. Files of a folder without one are skipped, named ones are told."""
    named = [Note(f"{name}:1", "the file", _NOTHING) for name in read.silent if name not in files.from_folder]
    silent = [Note(name, "the file", _NOTHING) for name in read.silent if name in files.from_folder]
    return DeploymentsReport(
        tuple(each.deployed for each in read.settled),
        (*files.refused, *read.refused),
        (*read.told, *named),
        (*files.skipped, *silent),
    )
