"""`kvcalc check FLEET.jsonl`: a fleet of any size, checked line by line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from kvcalc.cli._output import show
from kvcalc.errors import InvalidFileError, InvalidValueError
from kvcalc.report.check import Finding
from kvcalc.report.deployments import Note
from kvcalc.report.fleet import MOST_SHOWN, FleetReport

REFUSED = 2
_FORMATS = ("table", "json")
_TOLD_EVERY = 256


def checked(path: str, *, hub: bool, format: str) -> int:
    """Streams verdicts to a file; otherwise prints their counts and the first that do not fit."""
    if format not in _FORMATS:
        raise InvalidValueError(
            f"a fleet supports --format {' or '.join(_FORMATS)}, not {format}",
            where="--format",
            help="use one of them, or move the deployments into plan files",
        )
    found = _told(Path(path), hub=hub)
    if format == "json":
        return _as_json(found, path)
    report = _counted(found)
    _check_any(report, path)
    show(report, format)
    return _code(report)


def _told(path: Path, *, hub: bool) -> Iterator[Finding | Note]:
    """Verdicts, with a bar on a terminal."""
    from kvcalc.fleet.check import verdicts
    from kvcalc.formats._progress import progress_bar
    from kvcalc.io.fleets import read_fleet
    from kvcalc.io.traces import count_lines

    with progress_bar(f"checking {path.name}") as bar:
        whole = count_lines(path) if sys.stderr.isatty() else 0
        for number, found in enumerate(verdicts(read_fleet(path, hub=hub))):
            if not number % _TOLD_EVERY:
                bar(number, whole)
            yield found


def _counted(found: Iterator[Finding | Note]) -> FleetReport:
    deployments = failing = refused = 0
    first_failing: list[Finding] = []
    first_refused: list[Note] = []
    for each in found:
        if isinstance(each, Note):
            refused += 1
            first_refused += [each] if refused <= MOST_SHOWN else []
            continue
        deployments += 1
        failing += not each.fits
        first_failing += [each] if not each.fits and failing <= MOST_SHOWN else []
    return FleetReport(deployments, failing, refused, tuple(first_failing), tuple(first_refused))


def _as_json(found: Iterator[Finding | Note], path: str) -> int:
    """One JSON document, written incrementally; refused lines are findings with their reason."""
    from kvcalc.formats.json import line_of
    from kvcalc.report.versions import named

    out = sys.stdout

    def written() -> Iterator[Finding | Note]:
        before = ""
        for each in found:
            out.write(f"{before}\n{line_of(each.to_dict())}")
            before = ","
            yield each

    (version,) = named("fleet").values()
    out.write(f'{{"schema": {line_of(version)}, "findings": [')
    report = _counted(written())
    out.write(f'\n], "totals": {line_of(report.to_dict())}}}\n')
    _check_any(report, path)
    return _code(report)


def _check_any(report: FleetReport, path: str) -> None:
    if not report.deployments and not report.refused:
        raise InvalidFileError("no deployments found", where=path, help="write one JSON object per line")


def _code(report: FleetReport) -> int:
    return REFUSED if report.refused else 0 if report.fits else 1
