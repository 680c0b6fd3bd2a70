"""Ranks as processes: torch's launcher starts them, torch.distributed connects them, and none outlives the others.

The launcher ends all ranks when one dies, and hands signals on to them; a thread of each rank watches the parent, and
one of the parent watches for ranks that hang.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
from tempfile import TemporaryDirectory
from typing import TypeVar, TypeVarTuple

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from kvcalc.errors import RankDiedError
from kvcalc.verify import fork_server
from kvcalc.verify.child import OutOfResourcesError, end_with_parent
from kvcalc.verify.watch import TIMEOUT_SECONDS, Watch, arrive

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
_POLL_SECONDS = 0.1
"""How often the launcher checks that all ranks are alive."""
_GRACE_SECONDS = 5.0
"""Wait of a rank before it fails: if its peer died, the launcher finds the peer first, and blames that."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""Signals that the launcher handles."""
_FILES, _FILES_OF_A_RANK = 48, 4
"""Open files that the launcher takes, and more for each rank: about 40 for two ranks, 70 for eight, as measured."""
_SHELL_SIGNAL_BASE = 128
"""Exit codes above it name a signal, as shells tell it."""


def run_ranks(
    entry: Callable[[*Arguments], Result],
    num_ranks: int,
    *arguments: *Arguments,
    backend: str = "gloo",
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Result:
    """What rank 0 returns of `entry(*arguments)`, which num_ranks processes run, connected by torch.distributed.

    entry: a function of a module. backend: gloo, or nccl, which needs a CUDA device for each rank. timeout_seconds: by
    when all of them are done.
    Raises RankDiedError, which names the rank and what ended it, or which hung; OutOfResourcesError where this process
    may not open as many files as they take. No rank is left then, nor after Ctrl-C.
    """
    _check_open_files(num_ranks)
    fork_server.start()
    with TemporaryDirectory(prefix="kvcalc-ranks-") as logs, _no_rank_left(), _signal_handlers_kept(), _silent():
        watch = Watch(Path(logs), num_ranks, timeout_seconds)
        try:
            with watch.watching():
                results = elastic_launch(_config(num_ranks, logs), _as_rank)(entry, backend, logs, arguments)
                result: Result = results[0]
                return result
        except ChildFailedError as error:
            raise watch.blamed or _died(error, num_ranks, Path(logs)) from None
        except SignalException as stop:
            if stop.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(_SHELL_SIGNAL_BASE + stop.sigval) from None


def _check_open_files(num_ranks: int) -> None:
    """Raises OutOfResourcesError before starting anything that could not be cleaned up."""
    needed, limit = _FILES + num_ranks * _FILES_OF_A_RANK, getrlimit(RLIMIT_NOFILE)[0]
    if limit != RLIM_INFINITY and limit < needed:
        raise OutOfResourcesError(
            f"{num_ranks} ranks need up to {needed} open files, but this process may open {limit}",
            help=f"raise the limit: ulimit -n {needed}",
        )


def _config(num_ranks: int, logs: str) -> LaunchConfig:
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_ranks,
        run_id="kvcalc",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # any free port
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=_POLL_SECONDS,
        start_method=fork_server.START_METHOD,
        logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=Std.ALL),
    )


def _as_rank(entry: Callable[[*Arguments], Result], backend: str, logs: str, arguments: tuple[*Arguments]) -> Result:
    """What each process runs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, even inside of a collective
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which the server that forked it holds back
    end_with_parent()
    arrive(logs, int(os.environ["RANK"]))
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        distributed.init_process_group(backend)
        result = entry(*arguments)
        distributed.destroy_process_group()
    except RuntimeError:
        time.sleep(_GRACE_SECONDS)
        raise
    return result


@contextmanager
def _no_rank_left() -> Iterator[None]:
    """Ends what was started and still runs: a signal may arrive before the launcher knows its ranks."""
    before = multiprocessing.active_children()
    try:
        yield
    finally:
        for child in multiprocessing.active_children():
            if child not in before:
                child.kill()
                child.join()


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restores the signal handlers that the launcher replaces, which it only does in the main thread."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def _silent() -> Iterator[None]:
    """Silences the launcher's log: the error reports a dead rank."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _died(error: ChildFailedError, num_ranks: int, logs: Path) -> RankDiedError:
    rank, failure = error.get_first_failure()
    return RankDiedError(f"rank {rank} of {num_ranks} {_how(failure)}", help=_why(failure, rank, logs))


def _how(failure: ProcessFailure) -> str:
    if failure.exitcode < 0:
        return f"was ended by {signal.Signals(-failure.exitcode).name}"
    return f"died with exit code {failure.exitcode}"


def _why(failure: ProcessFailure, rank: int, logs: Path) -> str:
    """What is known of the reason: the last line that the rank printed, or what the signal usually means."""
    if failure.exitcode == -signal.SIGKILL:
        return "likely out of memory: use fewer tokens, or --device meta"
    printed = [text for log in logs.rglob(f"{rank}/stderr.log") if (text := log.read_text(errors="replace").strip())]
    if isinstance(failure.message, dict):  # what it raised
        printed.append(str(failure.message.get("message")))
    return f"its last output was: {printed[-1].splitlines()[-1]}" if printed else "it printed nothing; try again"
