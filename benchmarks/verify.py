"""What filling a cache costs, against writing as many bytes once; on CUDA also what a decode step costs.

`python benchmarks/verify.py` on the CPU: DeepSeek-R1's MLA at 100,000 tokens and Llama-3-70B at 32K. Each case runs in
two fresh processes: one writes as many bytes once with `Tensor.fill_`, the other fills the model's caches as `kvcalc
verify` does. Printed are the times, their ratio, and the second process's peak memory against what it must hold. The
attention of a prompt is timed apart.

`python benchmarks/verify.py --device cuda` runs the variants of R1 and Llama-3-70B at full length, and writes what was
predicted, allocated and timed to benchmarks/results/, with device, driver and torch version.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import psutil
import torch

import kvcalc
from kvcalc.verify.child import in_child
from kvcalc.verify.layer import Layer
from kvcalc.verify.memory import free_memory_bytes
from kvcalc.verify.slices import largest_slice
from kvcalc.workload import Workload

RESULTS = Path(__file__).parent / "results"
KEPT_TOKENS, PROMPT_TOKENS, STEPS = 512, 256, 20
DTYPE = torch.bfloat16


class Case(NamedTuple):
    """A model, perhaps with other attention, and what is asked of it."""

    preset: str
    tokens: int
    sequences: int = 1
    attention: str | None = None

    def __str__(self) -> str:
        attention = f" {self.attention}" if self.attention else ""
        return f"{self.preset}{attention}, {self.tokens:,} tokens x {self.sequences}"

    def model(self, memory_bytes: int) -> tuple[kvcalc.Model, Workload]:
        """The model and its workload, or the largest slice that fits."""
        model = kvcalc.load(self.preset)
        if self.attention:
            model = kvcalc.apply_method(model, self.attention)
        return largest_slice(model, Workload.of(self.tokens, self.sequences), memory_bytes)


ON_CPU = (Case("r1", 100_000), Case("llama-3-70b", 32_768))
ON_CUDA = (
    *(Case("r1", 100_000, attention=attention) for attention in ("mha", "gqa:16", "mqa")),
    *(Case("r1", 100_000), Case("llama-3-70b", 32_768, 8)),
)


def synchronised(device: str) -> float:
    """The time, once the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
    return perf_counter()


def filled_once(case: Case, progress: object) -> dict[str, Any]:  # noqa: ARG001
    """Seconds to allocate a layer's bytes and write them once, for all layers."""
    model, workload = case.model(free_memory_bytes("cpu"))
    total = kvcalc.size(model, tokens=workload.tokens, sequences=workload.sequences).total_bytes
    start = perf_counter()
    kept_alive = [torch.empty(total // model.num_layers, dtype=torch.uint8).fill_(1) for _ in range(model.num_layers)]
    return {"seconds": perf_counter() - start, "bytes": sum(tensor.numel() for tensor in kept_alive)}


def filled_by_modules(case: Case, progress: object) -> dict[str, Any]:  # noqa: ARG001
    """Seconds to fill the model's caches, peak memory, and the attention of a prompt, apart."""
    process = psutil.Process()
    model, workload = case.model(free_memory_bytes("cpu"))
    base = process.memory_info().rss
    weights = seconds = 0
    alive = []
    with torch.no_grad():
        for group in model.groups:
            layer = Layer(group.parts, dtype=DTYPE, device="cpu")
            weights += sum(weight.numel() * weight.element_size() for weight in layer.parameters())
            hidden = torch.randn(workload.sequences, KEPT_TOKENS, layer.hidden_size, dtype=DTYPE)
            kept = layer.kept(hidden)
            start = perf_counter()
            for _ in group.layers:
                alive.append(layer.new_caches(workload.sequences, workload.tokens, DTYPE))
                layer.write(kept, alive[-1], workload.tokens)
            seconds += perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base
        held = sum(tensor.data.nbytes for caches in alive for cache in caches for tensor in cache.values())
        prompt = hidden[:, :PROMPT_TOKENS]
        start = perf_counter()
        layer(prompt, layer.new_caches(workload.sequences, PROMPT_TOKENS, DTYPE))
        attention = perf_counter() - start
    return {
        "seconds": seconds, "bytes": held, "weights": weights, "workspace": hidden.nbytes + _bytes(kept),
        "peak": peak, "attention": attention, "layers": model.num_layers, "tokens": workload.tokens,
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


def on_device(case: Case, device: str, bandwidth: float) -> dict[str, Any]:
    """One case measured: predicted and allocated bytes, and a decode step of one layer against reading its cache."""
    from kvcalc.verify.measure import verify

    model, workload = case.model(free_memory_bytes(device))
    asked = {"tokens": workload.tokens, "sequences": workload.sequences}
    result = verify(model, **asked, device=device)
    layer = Layer(model.groups[0].parts, dtype=DTYPE, device=device)
    with torch.no_grad():
        hidden = torch.randn(workload.sequences, KEPT_TOKENS, layer.hidden_size, dtype=DTYPE, device=device)
        caches = layer.new_caches(workload.sequences, workload.tokens, DTYPE)
        layer.write(layer.kept(hidden), caches, workload.tokens - STEPS - 1)
        layer(hidden[:, :1], caches)  # kernels are chosen and compiled at the first
        start = synchronised(device)
        for _ in range(STEPS):
            layer(hidden[:, :1], caches)
        seconds = (synchronised(device) - start) / STEPS
    read = sum(tensor.data.nbytes for cache in caches for tensor in cache.values())
    return {
        "case": str(case), **asked, "layers_run": model.num_layers, "equal": result.equal,
        "predicted_bytes": result.predicted_bytes, "storage_bytes": result.storage_bytes,
        "memory": result.memory and result.memory._asdict(), "decode_step_of_a_layer_seconds": seconds,
        "cache_bytes_read": read, "at_bandwidth_seconds": read / bandwidth,
        "ratio": seconds / (read / bandwidth), "notes": list(result.notes),
    }  # fmt: skip


def bandwidth_of(device: str) -> float:
    """Bytes a second that the device copies, read and written, the best of some runs."""
    size = 2**30 if device == "cuda" else 2**27
    source = torch.empty(size, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    times = []
    for _ in range(5):
        start = synchronised(device)
        target.copy_(source)
        times.append(synchronised(device) - start)
    return 2 * source.numel() / min(times)


def about(device: str) -> dict[str, str]:
    """Device, driver and torch."""
    name, driver = "cpu", ""
    if device == "cuda":
        name = torch.cuda.get_device_name()
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
    return {"device": name, "driver": driver, "torch": torch.__version__, "cuda": str(torch.version.cuda)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--tokens", type=int, help="as many in every case, to try it out")
    parser.add_argument("--only", default="", help="the cases of this preset")
    parser.add_argument("--results", action="store_true", help="measure the variants and write them, on the CPU too")
    options = parser.parse_args()
    of_cpu = options.device == "cpu" and not options.results
    cases = [
        case._replace(tokens=options.tokens or case.tokens)
        for case in (ON_CPU if of_cpu else ON_CUDA)
        if case.preset.startswith(options.only)
    ]
    if of_cpu:
        on_cpu(options.runs, cases)
        return
    bandwidth = bandwidth_of(options.device)
    measured = [on_device(case, options.device, bandwidth) for case in cases]
    found = {**about(options.device), "bandwidth_bytes_per_second": round(bandwidth), "cases": measured}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"verify-{found['device'].lower().replace(' ', '-')}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))  # so that the processes it starts find its functions
    main()
