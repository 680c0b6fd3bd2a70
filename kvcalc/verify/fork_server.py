"""The process that forks ranks: it imports torch once for all of them, and they share its memory."""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing import forkserver

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Elsewhere libraries may crash when they are forked, and each rank imports torch itself."""


def start() -> None:
    """Starts it, if it does not run yet. Called before this process imports torch, both do so at once."""
    if START_METHOD == "forkserver":
        multiprocessing.set_forkserver_preload(["kvcalc.verify.ranks"])
        forkserver.ensure_running()
