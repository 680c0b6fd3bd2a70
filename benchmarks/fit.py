"""What `kvcalc fit` takes, with the search for the fewest GPUs, against `kvcalc size` of the same model and engine.

Budget: 1.3 times the CPU time.

    python benchmarks/fit.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

BUDGET = 1.3
KVCALC = [sys.executable, "-m", "kvcalc"]
CASES = {
    "r1": "--gpu h200 --gpus 8 --tp 8 --weights 671GB",
    "gpt-oss-120b": "--gpu h100 --gpus 2 --tp 2 --weights 65.3GB",
    "llama-3.3-70b": "--gpu a100 --gpus 4 --tp 4 --weights 141GB",
}
ENGINES = ("ideal", "vllm")


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one run."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{command} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    print("CPU time of `kvcalc fit` against `kvcalc size` of the same model in the same engine, medians of pairs")
    for name, gpus in CASES.items():
        for engine in ENGINES:
            asked = ["--preset", name, "--engine", engine, "--tokens", "8192", "--batch", "4"]
            fit, size = [*KVCALC, "fit", *asked, *gpus.split()], [*KVCALC, "size", *asked]
            ratios = [cpu_seconds(fit) / cpu_seconds(size) for _ in range(runs)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"  {name:14} {engine:6} {statistics.median(ratios):.2f}  (budget {BUDGET}, {spread})")


if __name__ == "__main__":
    main()
