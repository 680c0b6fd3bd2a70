"""What a command line costs in a process of its own: processor seconds and peak memory, never wall time."""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

_CHILD = """
import sys, time
from pathlib import Path
from kvcalc.cli import main
code = main(sys.argv[1:])
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(code, time.process_time(), peak, file=sys.stderr)
"""


class Cost(NamedTuple):
    """err: what was printed to stderr. seconds: of the processor, start-up included; peak_bytes: most memory held."""

    code: int
    err: str
    seconds: float
    peak_bytes: int


def cost(*arguments: str) -> Cost:
    """Runs `kvcalc` with these arguments and says what it took. A child that began as a copy of this process would
    count its memory, too: the kernel's own figure starts anew with each program."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    *err, last = done.stderr.splitlines(keepends=True)
    code, seconds, peak = last.split()
    return Cost(int(code), "".join(err), float(seconds), int(peak) * 1024)
