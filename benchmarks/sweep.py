"""A sweep of 1,000,000 points through the API, as a ratio to one numpy multiply-add per distinct layer group.

Budget: 5, at most. Both are timed in this run, on arrays of the same size.

    python benchmarks/sweep.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import kvcalc

POINTS = 1_000_000
BUDGET = 5
MODELS = ("r1", "llama3-70b", "gpt-oss-120b", "gemma-3-27b", "llama-4-scout")


def best_seconds(work: Callable[[], object], runs: int = 9) -> float:
    """Shortest of several runs."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    random = np.random.default_rng(0)
    tokens = random.integers(1, 1_000_000, POINTS)
    sequences = random.integers(1, 256, POINTS)
    multiply_add = best_seconds(lambda: tokens * 70_272 + sequences)
    print(f"{POINTS:,} (tokens, batch) points, against a numpy multiply-add per layer group")
    for name in MODELS:
        model = kvcalc.load(name)
        groups = len(model.groups)
        sweep = best_seconds(lambda model=model: kvcalc.sweep(model, tokens=tokens, sequences=sequences))
        print(f"  {name:14} {sweep / (groups * multiply_add):.2f}  (budget {BUDGET}, {groups} groups)")
    models = [kvcalc.load(name) for name in MODELS]
    groups = sum(len(model.groups) for model in models)
    part_tokens, part_sequences = tokens[: POINTS // len(models)], sequences[: POINTS // len(models)]
    together = best_seconds(lambda: kvcalc.sweep(models, tokens=part_tokens, sequences=part_sequences))
    base = best_seconds(lambda: [part_tokens * 70_272 + part_sequences for _ in range(groups)])
    size = f"{groups} groups, {len(models)} models x {len(part_tokens):,}"
    print(f"  all together   {together / base:.2f}  (budget {BUDGET}, {size})")


if __name__ == "__main__":
    main()
