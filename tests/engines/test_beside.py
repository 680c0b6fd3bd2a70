"""What engines hold beside weights and cache, against what they printed and reported.

vLLM: start-ups in public threads and files (each row's source) that printed the share, the weights and the cache; what
lies between them is compared. llama.cpp: 90 contexts of the library itself (llama-cpp-python 0.3.36, CPU), whose
compute buffer it reported. SGLang's own share of memory stands in test_sglang.py.
"""

from __future__ import annotations

import gzip
import json
import statistics
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.engines.base.beside import Beside
from kvcalc.engines.llama_cpp.beside import compute_bytes
from kvcalc.engines.sglang.beside import beside as beside_sglang
from kvcalc.engines.vllm.beside import beside
from kvcalc.hardware import gpu_named
from kvcalc.io.weights import find_weights
from kvcalc.model.checkpoint import Widths
from kvcalc.units import GIB

DATA = Path(__file__).parents[1] / "data"


def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


PRESETS = {
    **{"Llama-3-8B": "llama-3-8b", "Llama-3.1-8B": "llama-3.1-8b", "Llama-3.2-3B": "llama-3.2-3b"},
    **{"Qwen2.5-0.5B": "qwen2.5-0.5b", "Qwen2.5-0.5B-bnb": "qwen2.5-0.5b", "Qwen2.5-1.5B": "qwen2.5-1.5b"},
    **{"Qwen2.5-Math-1.5B": "qwen2.5-1.5b", "Qwen2.5-7B": "qwen2.5-7b", "Qwen2.5-7B-bnb": "qwen2.5-7b"},
    **{"DeepSeek-R1-0528-Qwen3-8B": "qwen3-8b", "Phi-4-bnb": "phi-4", "DeepSeek-R1 (wna16)": "deepseek-r1"},
    **{"Qwen3-235B-A22B": "qwen3-235b-a22b", "Qwen3-235B-A22B-2507": "qwen3-235b-a22b"},
    **{
        "Qwen3-Next-80B-A3B": "qwen3-next-80b-a3b",
        "Qwen3.5-9B": "qwen3.5-9b",
        "DeepSeek-V4-Flash": "deepseek-v4-flash",
    },
    **{"Qwen3.8-27B-AWQ": "qwen3.6-27b", "Qwen3.8-27B-int4": "qwen3.6-27b", "Qwen3.6-35B-A3B-int4": "qwen3.6-35b-a3b"},
}
"""Presets of the widths of each row's model."""
OTHERS = {"Qwen2.5-VL-3B": Widths(2048, 11008, 151_936, has_towers=True)}
"""Widths of a model without a preset, by its config.json."""


@cache
def widths(model: str) -> Widths:
    found = OTHERS.get(model) or find_weights(kvcalc.load(PRESETS[model]), None, None).widths
    assert found is not None
    return found


def minor(row: dict[str, Any]) -> int:
    return int("".join(digit for digit in row["version"].split(".")[1] if digit.isdigit()))


def batch(row: dict[str, Any]) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs, a server's defaults where the row does not say."""
    large = row["total_gib"] >= 70 and minor(row) >= 8
    longest = row.get("max_model_len", 0)
    whole = longest if minor(row) < 8 and longest <= 32_768 else 0  # V0 splits longer prompts alone
    return row.get("mnbt", max(whole, 8192 if large else 2048)), row.get("max_num_seqs", 1024 if large else 256)


def interval(row: dict[str, Any]) -> Beside:
    found = beside(widths(row["model"]), *batch(row), row.get("tp", 16), minor(row))
    return found.on_unified_memory() if row["gpu"] == "GB10" else found


def printed_bytes(row: dict[str, Any]) -> float:
    """What vLLM took of its share for neither weights nor cache."""
    return (row["util"] * row["total_gib"] - row["weights_gib"] - row["kv_gib"]) * GIB


VLLM = [row for row in rows("overheads") if row["engine"] == "vllm"]
UNEXPLAINED = [("0.6.6", "Llama-3-8B", "A100-40")]
"""A peak of 9.37 GiB, six times that of the same model on other cards; its batch is not printed."""


def test_what_vllm_printed_lies_in_the_interval():
    assert len(VLLM) == 33
    missed = [
        (row["version"], row["model"], row["gpu"])
        for row in VLLM
        if not interval(row).low_bytes <= printed_bytes(row) <= interval(row).high_bytes
    ]
    assert missed == UNEXPLAINED


def test_the_interval_is_narrow_against_the_card():
    shares = [(interval(row).high_bytes - interval(row).low_bytes) / (row["total_gib"] * GIB) for row in VLLM]
    assert statistics.median(shares) <= 0.12
    assert statistics.median(shares) == pytest.approx(0.082, abs=0.001)  # moved on purpose alone


BUFFERS = {
    **{"llama3.2-3b": "llama-3.2-3b", "llama3.1-8b": "llama-3.1-8b", "llama2-7b": "llama-2-7b"},
    **{"qwen2.5-3b": "qwen2.5-3b", "qwen2.5-7b": "qwen2.5-7b", "qwen3-4b": "qwen3-4b", "qwen3-14b": "qwen3-14b"},
    **{"qwen3-30b-a3b": "qwen3-30b-a3b", "llama3-70b": "llama-3-70b"},
}


def test_compute_buffers_are_those_that_llama_cpp_reported():
    found = rows("llama_cpp_compute_buffers")
    assert len(found) == 90
    for row in found:
        preset = BUFFERS[Path(row["model"]).stem]
        buffer = compute_bytes(
            find_weights(kvcalc.load(preset), None, None).widths,
            kvcalc.load(preset),
            row["n_ctx"],
            row["n_ubatch"],
            flash_attn=bool(row["fa"]),
        )
        assert buffer == pytest.approx(row["compute"], rel=0.001), row


def test_what_sglang_printed_lies_in_the_interval():
    """Free before loading against the memory of the card: contexts and communicators."""
    (row,) = [row for row in rows("overheads") if row["engine"] == "sglang" and row["gpu"] == "H100-80"]
    taken_bytes = gpu_named("h100-80gb").memory_bytes - row["x_avail_before"] * GIB
    assert beside_sglang(row["tp"]).low_bytes <= taken_bytes <= beside_sglang(row["tp"]).high_bytes


@given(
    st.builds(Widths, st.integers(64, 16_384), st.integers(0, 65_536), st.integers(1, 262_144), st.booleans()),
    st.integers(1, 65_536),
    st.integers(1, 2048),
    st.sampled_from((1, 2, 4, 8)),
    st.integers(0, 40),
)
def test_larger_batches_never_take_less(widths, tokens, sequences, ranks, version):
    small, large = (beside(widths, tokens * times, sequences * times, ranks, version) for times in (1, 2))
    assert 0 <= small.low_bytes <= small.high_bytes
    assert small.low_bytes <= large.low_bytes
    assert small.high_bytes <= large.high_bytes


PRINTED = {
    "stored-file:70682754770": ("llama-3.1-8b", "h100", "vllm@0.31", {}, 131_072),
    "stored-file:38962983769": (
        *("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "l40s", "vllm@0.10.2"),
        *({"tp": 8, "ep": 8}, 32_768),
    ),
    "stored-file:7292846353": ("qwen3-next-80b-a3b", "h200", "vllm@0.10.2", {"tp": 2}, 262_144),
}
"""Start-ups whose model, card and version are all known: by source, what `fit` is asked."""


@pytest.mark.parametrize("source", PRINTED)
def test_the_cache_that_vllm_printed_lies_in_the_range_of_fit(source):
    """With weights as published or counted, and defaults of batches: nothing of the start-up but its command."""
    (row,) = [row for row in VLLM if row["source"] == source]
    model, gpu, engine, layout, tokens = PRINTED[source]
    found = kvcalc.fit_gpus(model, gpu=gpu, engine=engine, tokens=tokens, **layout)
    assert found.cache_bytes <= row["kv_gib"] * GIB <= found.at_best.cache_bytes
