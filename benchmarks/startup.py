"""Start-up of the command line in CPU time, as ratios to `python -c "import typer"` run beside it.

Budgets: JSON 1.5, table 2.0, --help 1.5, each at most. Run it with the Python of an installed kvcalc:

    python benchmarks/startup.py [--runs 15]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

BASE = [sys.executable, "-c", "import typer"]
KVCALC = [sys.executable, "-m", "kvcalc"]
SIZE = [*KVCALC, "size", "--preset", "r1", "--tokens", "100000"]
COMMANDS = {
    "size --format json": ([*SIZE, "--format", "json"], 1.5),
    "size (table)": (SIZE, 2.0),
    "--help": ([*KVCALC, "--help"], 1.5),
}


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one run."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    print("CPU time against `python -c 'import typer'`, median of the ratios of pairs run one after the other")
    for name, (command, budget) in COMMANDS.items():
        cpu_seconds(command), cpu_seconds(BASE)
        ratios = [cpu_seconds(command) / cpu_seconds(BASE) for _ in range(runs)]
        print(f"  {name:20} {statistics.median(ratios):.2f}  (budget {budget}, {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
