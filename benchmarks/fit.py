"""What `kvcalc fit` takes, with the search for the fewest GPUs, against `kvcalc size` of the same model and engine.

Budget: 1.3 times the CPU time. Then what every layout of 16 GPUs takes, with all formats that are published and a cache
of 8 bits, against `kvcalc fit` of one of them. Budget: 3 times the CPU time.

    python benchmarks/fit.py
"""

from __future__ import annotations

import statistics

from _processes import KVCALC, asked_runs, cpu_seconds

BUDGET, LAYOUTS_BUDGET = 1.3, 3
ANSWERED = (0, 1)
"""Exit codes of what fits, and of what does not."""
CASES = {
    "r1": "--gpu h200 --gpus 8 --tp 8 --weights 671GB",
    "gpt-oss-120b": "--gpu h100 --gpus 2 --tp 2 --weights 65.3GB",
    "llama-3.3-70b": "--gpu a100-80gb --gpus 4 --tp 4 --weights 141GB",
}
LAYOUTS = {
    "r1": "--gpu h200 --gpus 16 {} --tokens 32K --users 50",
    "qwen3-235b-a22b": "--gpu h100 --gpus 16 {} --tokens 32K --users 50",
    "qwen3-32b": "--gpu h100 --gpus 16 {} --tokens 32K --users 50",
    "gpt-oss-120b": "--gpu h100 --gpus 16 {} --tokens 32K --users 50",
}
ENGINES = ("ideal", "vllm")


def main() -> None:
    runs = asked_runs(__doc__, 7)
    print("CPU time of `kvcalc fit` against `kvcalc size` of the same model in the same engine, medians of pairs")
    for name, gpus in CASES.items():
        for engine in ENGINES:
            asked = ["--preset", name, "--engine", engine, "--tokens", "8192", "--batch", "4"]
            fit, size = [*KVCALC, "fit", *asked, *gpus.split()], [*KVCALC, "size", *asked]
            ratios = [cpu_seconds(fit, ANSWERED) / cpu_seconds(size) for _ in range(runs)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"  {name:14} {engine:6} {statistics.median(ratios):.2f}  (budget {BUDGET}, {spread})")
    print("CPU time of all layouts of 16 GPUs against one of them, medians of pairs")
    for name, line in LAYOUTS.items():
        for engine in ("vllm", "sglang"):
            whole, one = (
                [*KVCALC, "fit", name, "--engine", engine, *line.format(layout).split()]
                for layout in ("", "--tp 8 --dp 2")
            )
            ratios = [cpu_seconds(whole, ANSWERED) / cpu_seconds(one, ANSWERED) for _ in range(runs)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"  {name:16} {engine:6} {statistics.median(ratios):.2f}  (budget {LAYOUTS_BUDGET}, {spread})")


if __name__ == "__main__":
    main()
