"""What filling a cache costs on the CPU, against writing as many bytes once; on a GPU see `benchmarks/on_gpu`.

DeepSeek-R1's MLA at 100,000 tokens and Llama-3-70B at 32K. Each case runs in two fresh processes: one writes as many
bytes once with `Tensor.fill_`, the other fills the model's caches as `kvcalc verify` does. Printed are the times, their
ratio, and the second process's peak memory against what it must hold. The attention of a prompt is timed apart.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import psutil
import torch

import kvcalc
from kvcalc.question import Question
from kvcalc.verify.child import in_child
from kvcalc.verify.layer import Layer
from kvcalc.verify.memory import free_memory_bytes
from kvcalc.verify.slices import largest_slice

KEPT_TOKENS, PROMPT_TOKENS = 512, 256
DTYPE = torch.bfloat16


class Case(NamedTuple):
    """A model and its tokens."""

    preset: str
    tokens: int

    def __str__(self) -> str:
        return f"{self.preset}, {self.tokens:,} tokens"

    def fitting(self, memory_bytes: int) -> Question:
        """What is asked, or the largest slice of it that fits."""
        return largest_slice(Question.of(kvcalc.load(self.preset), tokens=self.tokens), memory_bytes)


CASES = (Case("r1", 100_000), Case("llama-3-70b", 32_768))


def filled_once(case: Case, progress: object) -> dict[str, Any]:  # noqa: ARG001
    """Seconds to allocate a layer's bytes and write them once, for all layers."""
    asked = case.fitting(free_memory_bytes("cpu"))
    model = asked.model
    total = kvcalc.size(model, tokens=asked.tokens).total_bytes
    start = perf_counter()
    kept_alive = [torch.empty(total // model.num_layers, dtype=torch.uint8).fill_(1) for _ in range(model.num_layers)]
    return {"seconds": perf_counter() - start, "bytes": sum(tensor.numel() for tensor in kept_alive)}


def filled_by_modules(case: Case, progress: object) -> dict[str, Any]:  # noqa: ARG001
    """Seconds to fill the model's caches, peak memory, and the attention of a prompt, apart."""
    process = psutil.Process()
    asked = case.fitting(free_memory_bytes("cpu"))
    model = asked.model
    base = process.memory_info().rss
    weights = seconds = 0
    alive = []
    with torch.no_grad():
        for group in model.groups:
            layer = Layer(group.parts, dtype=DTYPE, device="cpu")
            weights += sum(weight.numel() * weight.element_size() for weight in layer.parameters())
            hidden = torch.randn(asked.sequences, KEPT_TOKENS, layer.hidden_size, dtype=DTYPE)
            kept = layer.kept(hidden)
            start = perf_counter()
            for _ in group.layers:
                alive.append(layer.new_caches(asked.sequences, asked.tokens, DTYPE))
                layer.write(kept, alive[-1], asked.tokens)
            seconds += perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
        held = sum(tensor.data.nbytes for caches in alive for cache in caches for tensor in cache.values())
        prompt = hidden[:, :PROMPT_TOKENS]
        start = perf_counter()
        layer(prompt, layer.new_caches(asked.sequences, PROMPT_TOKENS, DTYPE))
        attention = perf_counter() - start
    return {
        "seconds": seconds, "bytes": held, "weights": weights, "workspace": hidden.nbytes + _bytes(kept),
        "peak": peak, "attention": attention, "layers": model.num_layers, "tokens": asked.tokens,
    }  # fmt: skip


def _bytes(kept: Any) -> int:
    return sum(rows.nbytes for part in kept for rows in part.values())


def on_cpu(runs: int, cases: Iterable[Case]) -> None:
    """Prints what each case took: the best of some runs of each way."""
    for case in cases:
        once = [in_child("verify:filled_once", case) for _ in range(runs)]
        ours = [in_child("verify:filled_by_modules", case) for _ in range(runs)]
        best, best_ours = (min(results, key=lambda result: result["seconds"]) for results in (once, ours))
        must = best_ours["bytes"] + best_ours["weights"] + best_ours["workspace"]
        print(
            f"{case}: {best_ours['layers']} layers, {best_ours['bytes']:,} bytes\n"
            f"  filled in {best_ours['seconds']:.2f} s, written once with fill_ in {best['seconds']:.2f} s: "
            f"{best_ours['seconds'] / best['seconds']:.2f}x (budget 2)\n"
            f"  peak {best_ours['peak']:,} bytes, cache + weights + one layer's input {must:,}: "
            f"{best_ours['peak'] / must:.3f}x (budget 1.1)\n"
            f"  attention of a prompt of {PROMPT_TOKENS} tokens, one layer: {best_ours['attention']:.2f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--tokens", type=int, help="as many in every case, to try it out")
    parser.add_argument("--only", default="", help="the cases of this preset")
    options = parser.parse_args()
    cases = [
        case._replace(tokens=options.tokens or case.tokens) for case in CASES if case.preset.startswith(options.only)
    ]
    on_cpu(options.runs, cases)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))  # so that the processes it starts find its functions
    main()
