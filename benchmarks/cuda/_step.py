"""What the steps of `benchmarks/on_gpu` share: where they run, how they time, and where their results go."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch


class Step(NamedTuple):
    """One step: its name, the device, and the folder for its result. On a CPU it is a rehearsal with small sizes."""

    name: str
    device: str
    out: Path

    @classmethod
    def asked(cls, file: str, doc: str | None) -> Step:
        """As the command line says."""
        parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
        parser.add_argument("--out", type=Path, default=Path())
        options = parser.parse_args()
        return cls(Path(file).stem, options.device, options.out)

    @property
    def rehearses(self) -> bool:
        """Whether sizes are small."""
        return self.device == "cpu"

    def write(self, found: Any) -> None:
        """The result so far, in the place of what was written before."""
        path = self.out / f"{self.name}.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(found, indent=1) + "\n")
        new.replace(path)

    def synchronised(self) -> float:
        """The time, once the device has done what it was told."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return perf_counter()

    def seconds(self, work: Callable[[], object], runs: int, warm_ups: int = 3) -> float:
        """Median time of `work`: between CUDA's events, or by the clock."""
        for _ in range(warm_ups):
            work()
        return statistics.median(self._once(work) for _ in range(runs))

    def _once(self, work: Callable[[], object]) -> float:
        if self.device != "cuda":
            start = perf_counter()
            work()
            return perf_counter() - start
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        work()
        after.record()
        torch.cuda.synchronize()
        milliseconds: float = before.elapsed_time(after)
        return milliseconds / 1000
