"""The command line: each command is a thin file that loads, calls, renders, and returns an exit code.

Exit codes: 0 fine, 1 a plan does not fit, 2 bad input. Errors go to stderr as `where: what` and `help: what to try`,
with nothing on stdout. Start-up is part of the product: a plain command line is read without typer, only the command
that runs is loaded, and it imports its dependencies when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn, TextIO

from kvcalc.errors import InvalidValueError, KvcalcError
from kvcalc.errors.foreign import visible

OK, INTERRUPTED = 0, 130
_ON_ONE_LINE = "1000"
"""Width for completion descriptions: fish reads every line as another completion."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code; prints errors instead of raising them."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  # closed by the parent process: stay silent
    if sys.stdout is None:
        return _print_error(InvalidValueError("standard output is closed", help="remove >&-"))
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot encode is printed as an escape instead of raising.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except KvcalcError as error:
        return _print_error(error)
    except BrokenPipeError:
        _drop_what_is_left(sys.stdout)
        return OK
    except OSError as error:
        _drop_what_is_left(sys.stdout)
        where = f"{error.filename}: " if error.filename else "standard output: "
        return _print_error(InvalidValueError(f"{where}{error.strerror}", help="write the output somewhere else"))
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def run() -> NoReturn:
    """Entry point of the console script."""
    raise SystemExit(main())


def _run(arguments: Sequence[str] | None) -> int:
    """Runs a plain command line directly; the typer application handles the rest, completion and Windows' globs."""
    from kvcalc.cli.spellings import as_written, spelled_out

    line = sys.argv[1:] if arguments is None else arguments
    try:
        return _run_words(spelled_out(line))
    except KvcalcError as error:
        raise as_written(line, error) from None


def _run_words(words: Sequence[str]) -> int:
    from kvcalc.cli.plain import read

    completing = "_KVCALC_COMPLETE" in os.environ
    if completing:
        os.environ["COLUMNS"] = _ON_ONE_LINE
    for_typer = completing or os.name == "nt"
    plain = None if for_typer else read(words)
    if plain is not None:
        command, given = plain
        return command.run(**given)

    from kvcalc.cli.application import run_line

    return run_line(words)


def _print_error(error: KvcalcError) -> int:
    try:
        print(error, file=sys.stderr)
        if error.help:
            print(f"help: {visible(error.help)}", file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        _drop_what_is_left(sys.stderr)
    return error.exit_code


def _drop_what_is_left(stream: TextIO) -> None:
    """Redirects stdout to devnull: Python would flush it again at exit and print an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
