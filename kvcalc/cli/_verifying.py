"""Measures a cache in separate processes, with a progress bar on a terminal."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from kvcalc.errors import KvcalcError
from kvcalc.errors.extras import install

if TYPE_CHECKING:
    from types import FrameType

    from kvcalc.model import Model
    from kvcalc.parallel import Parallel
    from kvcalc.report.ranks import RanksVerification
    from kvcalc.report.verification import Verification

NOT_EQUAL = 1
"""Exit code of a measurement that contradicts its prediction."""


def verified(
    model: Model, parallel: Parallel | None = None, timeout_seconds: int | None = None, **question: Any
) -> Verification | RanksVerification:
    """The model's cache, measured in a fresh process, or in one for each rank of a parallel layout.

    timeout_seconds: limit for all ranks; None: a generous default.
    """
    needs("torch", "psutil")
    if parallel is not None:
        in_time = {} if timeout_seconds is None else {"timeout_seconds": timeout_seconds}
        return _on_ranks(model, parallel, **question, **in_time)

    from kvcalc.model import without_origins

    return measured("kvcalc.verify.measure:verify", without_origins(model), fresh_process=True, **question)


def measured(work: str, *arguments: Any, **question: Any) -> Verification:
    """The result of a function of the verify package, run in a fresh process."""
    from kvcalc.formats._progress import progress_bar
    from kvcalc.verify.child import in_child

    with progress_bar("building and filling caches") as progress:
        result: Verification = in_child(work, *arguments, progress=progress, **question)
    return result


def _on_ranks(model: Model, parallel: Parallel, **question: Any) -> RanksVerification:
    from kvcalc.verify import fork_server
    from kvcalc.verify.child import check_address_space

    check_address_space()
    fork_server.start()  # it imports torch while this process imports its own
    with _ending_at_once():
        try:
            from kvcalc.verify.ranks import verify_ranks
        except (ImportError, MemoryError, OSError) as error:
            help = "raise this shell's limits (ulimit -v, ulimit -n), or reinstall torch"
            raise KvcalcError(f"verify's libraries cannot be loaded: {error}", help=help) from None

    return verify_ranks(model, parallel, **question)


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Lets signals end this process silently while it imports: an import may swallow KeyboardInterrupt.

    The server that forks ranks ends with this process; its socket is removed as at any exit.
    """
    before = {number: signal.getsignal(number) for number in _ENDING}
    for number in _ENDING:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> NoReturn:
    atexit._run_exitfuncs()
    os._exit(_SHELL_SIGNAL_BASE + number)


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_SHELL_SIGNAL_BASE = 128
"""Exit codes above it are 128 + a signal, as in shells."""
_EXTRA_OF = {"transformers": "against", "mcp": "mcp"}
"""The extra that installs a library, if it is not `verify`."""


def needs(*libraries: str, by: str = "verify") -> None:
    """Raises KvcalcError with the command that installs the first missing library."""
    from importlib.util import find_spec

    for library in libraries:
        try:
            there = find_spec(library) is not None
        except ValueError:  # a module without a spec, or None in its place
            there = False
        if not there:
            extra = _EXTRA_OF.get(library, "verify")
            raise KvcalcError(f"{by} needs {library}, which is not installed: {install(extra)}", help="")
