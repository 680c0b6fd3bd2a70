"""A deadline for ranks: all are ended when one hangs, and that one is named."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import psutil

from kvcalc.errors import RankDiedError
from kvcalc.units import plural

TIMEOUT_SECONDS = 1800
"""Default time by which all ranks must be done."""
STOPPED_SECONDS = 10
"""Time after which a stopped rank (SIGSTOP, a debugger, a frozen container) is given up."""
_POLL_SECONDS = 0.5
_DONE = ".done"
_folder: list[Path] = []


def arrive(folder: str, rank: int) -> None:
    """Called by each rank when it starts: tells its process id, and where `done` leaves its mark."""
    _folder[:] = [Path(folder, str(rank))]
    _folder[0].write_text(str(os.getpid()))


def done() -> None:
    """Called by a rank that has done its own work and waits for the others."""
    for own in _folder:
        own.with_name(own.name + _DONE).touch()


class Watch:
    """Ends all ranks at the deadline, or when one has been stopped for a while; `blamed` is then an error."""

    def __init__(self, folder: Path, num_ranks: int, timeout_seconds: float) -> None:
        self.folder, self.num_ranks, self.timeout_seconds = folder, num_ranks, timeout_seconds
        self.blamed: RankDiedError | None = None
        self._stopped_since: dict[int, float] = {}
        self._over = Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches inside its context."""
        before = set(multiprocessing.active_children())
        thread = Thread(target=self._watch, args=(before, time.monotonic() + self.timeout_seconds), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self, before: set[multiprocessing.process.BaseProcess], deadline: float) -> None:
        while not self._over.wait(_POLL_SECONDS):
            self.blamed = self._stopped() or (self._late() if time.monotonic() > deadline else None)
            if self.blamed:
                for child in set(multiprocessing.active_children()) - before:
                    if child.pid is not None:
                        os.kill(child.pid, signal.SIGKILL)
                return

    def _stopped(self) -> RankDiedError | None:
        """Why a rank is given up that has been stopped for too long; None if none has."""
        for rank in range(self.num_ranks):
            if not self._is_stopped(rank):
                self._stopped_since.pop(rank, None)
            elif time.monotonic() - self._stopped_since.setdefault(rank, time.monotonic()) > STOPPED_SECONDS:
                return RankDiedError(
                    f"rank {rank} of {self.num_ranks} was stopped, for over {STOPPED_SECONDS} seconds",
                    help="all ranks were ended; continue it (SIGCONT), or find out what stops it",
                )
        return None

    def _is_stopped(self, rank: int) -> bool:
        try:
            return psutil.Process(int((self.folder / str(rank)).read_text())).status() == psutil.STATUS_STOPPED
        except (OSError, ValueError, psutil.Error):  # it has not started yet, or is gone
            return False

    def _late(self) -> RankDiedError:
        late = [rank for rank in range(self.num_ranks) if not (self.folder / f"{rank}{_DONE}").exists()]
        who = ", ".join(map(str, late or range(self.num_ranks)))
        return RankDiedError(
            f"rank {who} of {self.num_ranks} did not finish within {plural(round(self.timeout_seconds), 'second')}",
            help="all ranks were ended; raise --timeout, or use fewer tokens",
        )
