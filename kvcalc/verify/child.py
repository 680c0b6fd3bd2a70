"""A separate process for work that fills memory: it starts clean, and ends with its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit
from threading import Thread
from typing import Any, NamedTuple

from kvcalc.errors import KvcalcError
from kvcalc.units import KIB

Progress = Callable[[int, int], None]
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 16),  # glibc gives back what is freed, so that pages are counted right
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",  # a block is split at 512 bytes whatever its size
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",  # its name before torch 2.9, which warns of it where alone
}
_ALLOCATORS = frozenset(ENVIRONMENT) - {"MALLOC_MMAP_THRESHOLD_"}
"""Names of one setting: setting any of them overrides the default."""
_TORCH_BYTES = 10**9
"""Address space of a process that has loaded torch and runs a small layer, as measured with torch 2.13 for CPUs."""
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


class Failed(NamedTuple):
    """An error passed on from the child: its class and message."""

    kind: type[KvcalcError]
    what: str
    help: str
    where: str = ""

    def error(self) -> KvcalcError:
        """The error again."""
        return self.kind(self.what, help=self.help, where=self.where)


class OutOfMemoryError(KvcalcError):
    """The request does not fit in the available memory."""


class ChildDiedError(KvcalcError):
    """The worker process ended without an answer."""


class OutOfResourcesError(KvcalcError):
    """A system limit is below what torch needs to load, or what processes need to start."""


def check_address_space() -> None:
    """Raises OutOfResourcesError if a limit leaves torch too little to load, which would abort this process."""
    limit = getrlimit(RLIMIT_AS)[0]
    if limit != RLIM_INFINITY and limit < _TORCH_BYTES:
        raise OutOfResourcesError(
            f"torch needs {_TORCH_BYTES:,} bytes of address space to load, but this process is limited to {limit:,}",
            help=f"raise the limit: ulimit -v {_TORCH_BYTES // KIB}",
        )


def in_child(work: str, *arguments: object, progress: Progress = lambda _done, _all: None, **named: object) -> Any:
    """Result of `work`, a function named as `module:function`, in a fresh process, which imports the module.

    It is called with the arguments, which travel as pickles like its result, and with a `progress` to call.

    However this ends, including by an error or Ctrl-C, the process is gone afterwards.
    Raises what the work raised, OutOfMemoryError, OutOfResourcesError, or ChildDiedError.
    """
    check_address_space()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, work, arguments, named))
    try:
        with _environment(ENVIRONMENT):
            process.start()
    except OSError as error:
        raise OutOfResourcesError(
            f"no process can be started: {error.strerror or error}", help="raise this shell's limits (ulimit -a)"
        ) from None
    there.close()
    try:
        return _listen(here, progress)
    except EOFError:
        process.join()
        raise _death(process.exitcode or 0) from None
    finally:
        process.kill()
        process.join()


def _listen(connection: Connection, progress: Progress) -> Any:
    while True:
        message = connection.recv()
        if isinstance(message, Failed):
            raise message.error()
        if message[0] == "done":
            return message[1]
        progress(*message[1:])


def _answer(connection: Connection, work: str, arguments: tuple[object, ...], named: dict[str, object]) -> None:
    """The child's whole life."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    module, _, function = work.partition(":")
    try:
        work_of = vars(import_module(module))[function]
    except (ImportError, MemoryError, OSError) as error:
        connection.send(_not_loaded(error))
        return
    try:
        result = work_of(*arguments, progress=lambda done, whole: connection.send(("progress", done, whole)), **named)
        connection.send(("done", result))
    except KvcalcError as error:
        connection.send(Failed(type(error), error.what, error.help, error.where))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        connection.send(_no_memory("memory ran out while the caches were filled"))


def _not_loaded(error: Exception) -> Failed:
    """Message for a library that cannot be loaded, usually because of a shell limit."""
    return Failed(
        OutOfResourcesError,
        f"verify's libraries cannot be loaded: {error or 'memory ran out'}",
        "raise this shell's limits (ulimit -v, ulimit -n), or reinstall torch",
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of Python or torch is about lack of memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def end_with_parent() -> None:
    """Lets this process end as soon as its parent does, however the parent ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _no_memory(what: str) -> Failed:
    return Failed(OutOfMemoryError, what, "run a smaller slice: fewer --layers, fewer --tokens, or --device meta")


def _death(exit_code: int) -> KvcalcError:
    if exit_code == -signal.SIGKILL:
        return _no_memory(
            "the process that filled the caches was killed (signal 9), as happens when memory runs out"
        ).error()
    ended = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    return ChildDiedError(
        f"the process that filled the caches ended without an answer ({ended})",
        help="see its output above; --device meta needs no memory",
    )


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables for a process started meanwhile; the user's own values stay."""
    decided = _ALLOCATORS if _ALLOCATORS & os.environ.keys() else frozenset()
    missing = {name: value for name, value in values.items() if name not in os.environ and name not in decided}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]
