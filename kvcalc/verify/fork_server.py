"""The process that forks ranks: it imports torch once, and all ranks share its memory."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from multiprocessing import forkserver, resource_tracker

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Elsewhere libraries may crash when they are forked, and each rank imports torch itself."""


def start() -> None:
    """Starts it, if it is not running. If called before this process imports torch, both import it in parallel.

    It ignores Ctrl-C, which a terminal also sends to it: it ends with its parent.
    """
    if START_METHOD != "forkserver":
        return
    multiprocessing.set_forkserver_preload(["kvcalc.verify.ranks"])
    resource_tracker.ensure_running()  # first, since it lets signals through again when it has started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
