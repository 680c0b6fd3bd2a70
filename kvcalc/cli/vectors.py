"""`kvcalc vectors`: measured allocations of engines, to check any estimator against."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kvcalc.cli import asking, options
from kvcalc.cli._output import check_output_format, show
from kvcalc.cli.commands import Command, Group
from kvcalc.errors import InvalidValueError


def list_vectors(*, format: str) -> int:
    """Runs `kvcalc vectors list`."""
    check_output_format(format)

    from kvcalc.io.vectors import REFUSED, read_vectors
    from kvcalc.report.vectors import VectorsList

    rows = ((v.engine, v.version, REFUSED in v.answer, v.how) for v in read_vectors())
    show(VectorsList.of(rows), format)
    return 0


def run(*, command: str, engines: Sequence[str], timeout: int, format: str) -> int:
    """Runs `kvcalc vectors run`."""
    check_output_format(format)

    from shlex import split

    from kvcalc.io.vectors import read_vectors
    from kvcalc.io.vectors.running import run as run_command
    from kvcalc.report.vectors import VectorsReport
    from kvcalc.units import positive_int

    try:
        words = split(command)
    except ValueError as error:
        raise InvalidValueError(f"COMMAND has {str(error).lower()}", help="fix its shell quoting") from None
    if not words:
        raise InvalidValueError("COMMAND is empty", help="name the estimator's command: 'python3 estimator.py'")
    seconds = asking.located("--timeout", positive_int, timeout, "timeout")
    vectors = asking.located("--engine", read_vectors, [engine.replace("-", "_").lower() for engine in engines])
    report = VectorsReport(command, tuple(asking.located("COMMAND", run_command, words, vectors, seconds=seconds)))
    show(report, format)
    return 0 if report.agrees else 1


def answer() -> int:
    """Runs `kvcalc vectors answer`."""
    from kvcalc.io.vectors.own import answers

    for line in answers(sys.stdin):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return 0


COMMAND = Group(
    help="Measured allocations of engines: list them, or check an estimator against them.",
    commands={
        "list": Command(
            help="Engines and versions that were measured, and how they were.",
            epilog="Example: kvcalc vectors list",
            takes=(options.FORMAT,),
            run=list_vectors,
        ),
        "run": Command(
            help="Run an estimator: one JSON question per line on its input, one JSON answer per line on its output.",
            epilog=(
                "Example: kvcalc vectors run 'python3 estimator.py' --engine vllm. Exit code 1: an answer differs or "
                "is missing; refusals are counted separately."
            ),
            takes=(options.ESTIMATOR, options.MEASURED_ENGINES, options.ANSWER_TIMEOUT, options.FORMAT),
            run=run,
        ),
        "answer": Command(
            help="kvcalc as an estimator: answers questions from standard input.",
            epilog="Example: kvcalc vectors run 'kvcalc vectors answer'",
            takes=(),
            run=answer,
        ),
    },
)
