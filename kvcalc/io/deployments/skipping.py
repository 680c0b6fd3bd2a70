"""Unreadable files and files without deployments: refused if named, skipped if found in a folder."""

from __future__ import annotations

from typing import NamedTuple

from kvcalc.io.deployments import Deployments
from kvcalc.io.deployments.sources import Found
from kvcalc.report.deployments import THE_FILE, DeploymentsReport, Note

_NOTHING = "no deployments found in it"


class Sorted(NamedTuple):
    """Refused and skipped files. empty: named files without a deployment."""

    refused: tuple[Note, ...]
    skipped: tuple[Note, ...]
    empty: tuple[Note, ...]


def sorted_notes(files: Found, read: Deployments) -> Sorted:
    """All notes. An unreadable file in a folder is only skipped."""
    named = {name: note for name, note in read.unread.items() if name not in files.from_folder}
    below = [note for name, note in read.unread.items() if name in files.from_folder]
    empty = [Note(name, THE_FILE, _NOTHING) for name in read.silent if name not in files.from_folder]
    silent = [Note(name, THE_FILE, _NOTHING) for name in read.silent if name in files.from_folder]
    return Sorted((*files.refused, *named.values(), *read.refused), (*files.skipped, *below, *silent), tuple(empty))


def report_of(files: Found, read: Deployments) -> DeploymentsReport:
    """The document of `kvcalc deployments`."""
    notes = sorted_notes(files, read)
    deployments = tuple(each.deployed for each in read.settled)
    return DeploymentsReport(deployments, notes.refused, (*read.told, *notes.empty), notes.skipped)
