"""Checking a plan of 10,000 deployments against checking a plan of one, as whole command lines.

Budget: 20 times the CPU time. The rows are about 6 models in 3 engines, each with its own length and number of users.

    python benchmarks/check.py
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from _processes import KVCALC, asked_runs, cpu_seconds

ROWS = 10_000
BUDGET = 20
ANSWERED = (0, 1)
"""Exit codes of a plan that fits, and of one that does not."""
MODELS = ("r1", "llama-3.1-8b", "gpt-oss-20b", "qwen3-next-80b-a3b", "mixtral-8x7b", "deepseek-v3.2")
ENGINES = ("ideal", "transformers", "vllm")


def row(number: int) -> str:
    model, engine = MODELS[number % len(MODELS)], ENGINES[number // len(MODELS) % len(ENGINES)]
    return (
        f"  - name: d{number}\n    model: {model}\n    engine: {engine}\n"
        f"    tokens: {1000 + 7 * (number % 4096)}\n"
        f"    concurrency: {1 + number % 64}\n    gpu: h200\n    gpus: 4\n    tp: 4\n"
        f"    weights: {20 + number % 50}GB\n"
    )


def main() -> None:
    runs = asked_runs(__doc__, 3)
    print(f"CPU time of `kvcalc check` of {ROWS:,} deployments, against that of the same plan with its first row alone")
    with tempfile.TemporaryDirectory() as folder:
        one, many = Path(folder) / "one.yaml", Path(folder) / "many.yaml"
        one.write_text("deployments:\n" + row(0))
        many.write_text("deployments:\n" + "".join(map(row, range(ROWS))))
        for format in ("json", "table"):
            commands = [[*KVCALC, "check", str(path), "--format", format] for path in (one, many)]
            times = [[cpu_seconds(command, ANSWERED) for command in commands] for _ in range(runs)]
            ratio = statistics.median(of_many / of_one for of_one, of_many in times)
            seconds = statistics.median(of_many for _, of_many in times)
            print(f"  --format {format:6} {ratio:.1f}  (budget {BUDGET}; {seconds:.1f} s)")


if __name__ == "__main__":
    main()
