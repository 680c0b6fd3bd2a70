"""Shared code of benchmarks of whole command lines: the CPU time of one, and how often it is run."""

from __future__ import annotations

import argparse
import atexit
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping

KVCALC = [sys.executable, "-m", "kvcalc"]


@functools.cache
def _with_bytecode() -> Mapping[str, str]:
    """An environment in which modules are compiled once, as pip leaves them, whatever this one says."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": folder.name}


@functools.cache
def _compile(command: tuple[str, ...]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, env=_with_bytecode(), check=False)


def cpu_seconds(command: list[str], exit_codes: Collection[int] = (0,)) -> float:
    """User and system time of one run, which has to end with one of these exit codes. The first is run once before."""
    _compile(tuple(command))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=_with_bytecode()) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in exit_codes:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def asked_runs(doc: str | None, default: int) -> int:
    """How often each command is to be run, by --runs."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=default)
    runs: int = parser.parse_args().runs
    return runs
