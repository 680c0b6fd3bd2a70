"""DeepSeek-R1 with four kinds of attention at 100,000 tokens, Llama-3-70B at 32K x 8: bytes, and their time.

Bytes: by `verify` in a process of its own, of the whole model or the largest slice that fits. Filling: caches made and
written, against one write of as many bytes. A decode step of one layer: against reading its cache and weights at the
bandwidth of a copy, and for latents against their arithmetic, eager and as a CUDA graph (which leaves out the time that
Python takes to launch kernels). Layers take turns, so that no cache is read from L2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from _step import Step

import kvcalc
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.model import Model, without_origins
from kvcalc.verify.child import in_child
from kvcalc.verify.layer import Caches, Layer
from kvcalc.verify.memory import free_memory_bytes

DTYPE = torch.bfloat16
KEPT_TOKENS, STEPS = 512, 50
TURNS_BYTES = 2**30
"""Caches that take turns hold at least as much: 20 times an H100's L2."""
FILLED_BYTES = 16 * 2**30


class Case(NamedTuple):
    """A model, perhaps with other attention, and what is asked of it."""

    preset: str
    tokens: int
    sequences: int = 1
    attention: str | None = None

    def model(self) -> Model:
        """The model with this attention."""
        model = without_origins(kvcalc.load(self.preset))
        return kvcalc.apply_method(model, self.attention) if self.attention else model


CASES = (
    Case("r1", 100_000),
    Case("r1", 100_000, attention="gqa:16"),
    Case("r1", 100_000, attention="mqa"),
    Case("r1", 100_000, attention="mha"),
    Case("llama-3-70b", 32_768, 8),
)


class Timed:
    """One layer of a case, and caches of it that take turns."""

    def __init__(self, step: Step, case: Case) -> None:
        self.step, self.case = step, case
        self.part = case.model().groups[0].parts
        self.layer = Layer(self.part, dtype=DTYPE, device=step.device)
        shape = (case.sequences, min(KEPT_TOKENS, case.tokens), self.layer.hidden_size)
        self.hidden = torch.randn(shape, dtype=DTYPE, device=step.device)
        self.kept = self.layer.kept(self.hidden)
        self.layer_bytes = self._bytes(self.layer.new_caches(case.sequences, case.tokens, DTYPE))

    def _bytes(self, caches: Caches) -> int:
        return sum(tensor.data.nbytes for cache in caches for tensor in cache.values())

    def filled(self, tokens: int) -> Caches:
        """A cache of the case's capacity with so many tokens in it."""
        caches = self.layer.new_caches(self.case.sequences, self.case.tokens, DTYPE)
        self.layer.write(self.kept, caches, tokens)
        return caches

    def filling(self) -> dict[str, float | int]:
        """Seconds to fill caches, and to write as many bytes once."""
        number = 2 if self.step.rehearses else max(1, min(61, FILLED_BYTES // self.layer_bytes))
        fill = self.step.seconds(lambda: [self.filled(self.case.tokens) for _ in range(number)], runs=5, warm_ups=2)
        sizes, device = [self.layer_bytes] * number, self.step.device
        once = self.step.seconds(
            lambda: [torch.empty(size, dtype=torch.uint8, device=device).fill_(1) for size in sizes], runs=5, warm_ups=2
        )
        return {"layers": number, "bytes": number * self.layer_bytes, "seconds": fill, "write_once_seconds": once}

    def decoding(self, about: dict[str, Any]) -> dict[str, Any]:
        """Seconds of a decode step of one layer, and what its bytes and its arithmetic would take."""
        turns = 2 if self.step.rehearses else max(2, -(-TURNS_BYTES // self.layer_bytes))
        steps = 7 if self.step.rehearses else -(-STEPS // turns) + 6  # each cache takes a token at each of its turns
        caches = [self.filled(self.case.tokens - 3 * steps) for _ in range(turns)]
        query = self.hidden[:, :1]

        def each() -> None:
            for cache in caches:
                self.layer(query, cache)

        eager = self.step.seconds(each, runs=steps - 6) / turns
        weights = sum(weight.nbytes for weight in self.layer.parameters())
        found = {
            "caches_in_turn": turns, "cache_bytes": self.layer_bytes, "weight_bytes": weights,
            "eager_seconds": eager, **self._graph(each, turns),
            "floor_seconds": (self.layer_bytes + weights) / about["copy_bytes_per_second"],
        }  # fmt: skip
        operations = self._operations()
        if operations:
            found["operations"] = operations
            found["arithmetic_seconds"] = operations / about["bf16_operations_per_second"]
        return found

    def _graph(self, work: Callable[[], None], turns: int) -> dict[str, Any]:
        if self.step.device != "cuda":
            return {}
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                work()
        except RuntimeError as error:
            return {"graph_error": str(error)[:300]}
        return {"graph_seconds": self.step.seconds(graph.replay, runs=20) / turns}

    def _operations(self) -> int:
        """Multiplications and additions of absorbed latents: scores over rank + rope, and mixing over rank."""
        facts = self.part[0]
        if not isinstance(facts, MultiHeadLatentAttention):
            return 0
        widths = 2 * facts.kv_lora_rank + facts.qk_rope_head_dim
        return 2 * self.case.sequences * facts.num_query_heads * self.case.tokens * widths


def bytes_of(case: Case, step: Step) -> dict[str, Any]:
    """Predicted and allocated, by the process that the command starts."""
    asked: dict[str, Any] = {"tokens": case.tokens, "sequences": case.sequences, "device": step.device}
    if step.rehearses:
        asked["layers"] = 2
    start = step.synchronised()
    result = in_child("kvcalc.verify.measure:verify", case.model(), fresh_process=True, **asked)
    return {
        "equal": result.equal, "predicted_bytes": result.predicted_bytes, "storage_bytes": result.storage_bytes,
        "memory": result.memory and result.memory._asdict(), "notes": list(result.notes),
        "process_seconds": step.synchronised() - start,
    }  # fmt: skip


def main() -> None:
    step = Step.asked(__file__, __doc__)
    about = json.loads((step.out / "about.json").read_text())
    cases = [case._replace(tokens=400) for case in CASES[:2]] if step.rehearses else CASES
    rows: list[dict[str, Any]] = []
    for case in cases:  # first, while this process holds nothing
        whole = kvcalc.size(case.model(), tokens=case.tokens, sequences=case.sequences).total_bytes
        rows.append({**case._asdict(), "whole_bytes": whole, "bytes": bytes_of(case, step)})
        step.write(rows)
    for case, row in zip(cases, rows, strict=True):
        with torch.no_grad():
            timed = Timed(step, case)
            if timed.layer_bytes * 3 > free_memory_bytes(step.device):
                row["left_out"] = "three layers do not fit"
            else:
                row |= {"filling": timed.filling(), "decode_step_of_a_layer": timed.decoding(about)}
        del timed
        if step.device == "cuda":
            torch.cuda.empty_cache()
        step.write(rows)
    raise SystemExit(not all(row["bytes"]["equal"] for row in rows))


if __name__ == "__main__":
    main()
