"""What engines hold beside weights and cache, against what they printed and reported.

Start-ups in public threads and files (each row's source) printed the share, the weights and the cache; what lies
between them is compared. overheads.jsonl.gz: 33 of vLLM and 4 of SGLang, by which the first bounds were made.
overheads_more.jsonl: 106 collected later, of vLLM, SGLang and TensorRT-LLM; as the bounds then were, 24 of its 72 rows
of vLLM lay in them, and by it they were made anew. llama.cpp: 90 contexts of the library itself (llama-cpp-python
0.3.36, CPU), whose compute buffer it reported.
"""

from __future__ import annotations

import gzip
import json
import re
import statistics
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.engines.base.beside import Beside
from kvcalc.engines.llama_cpp.beside import compute_bytes
from kvcalc.engines.sglang.beside import beside as beside_sglang
from kvcalc.engines.tensorrt_llm.beside import beside as beside_tensorrt_llm
from kvcalc.engines.vllm.beside import Batch, beside
from kvcalc.hardware import gpu_named
from kvcalc.io.weights import find_weights
from kvcalc.model.checkpoint import Widths
from kvcalc.parallel import Parallel
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
OTHERS = {"Qwen2.5-VL-3B": Widths(2048, 11008, 151_936, has_towers=True, tower_size=1280, any_image_size=True)}
"""Widths of a model without a preset, by its config.json."""

FIRST = rows("overheads")
MORE = [json.loads(line) for line in (DATA / "overheads_more.jsonl").read_text().splitlines()]
WORKERS = {"vllm-project/vllm#14447": 16}
"""Workers of a start-up whose split is not printed."""


def of(engine: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in found if row["engine"] == engine]


@cache
def published(preset: str) -> Widths:
    found = find_weights(kvcalc.load(preset), None, None).widths
    assert found is not None
    return found


def widths(row: dict[str, Any]) -> Widths:
    """What activations are as wide as: of a preset, or as the model's config.json says."""
    if "widths" in row:
        return Widths(**row["widths"])
    found = OTHERS.get(row["model"]) or published(row.get("preset") or PRESETS[row["model"]])
    return found._replace(has_towers=False) if row.get("text_only") else found


def minor(row: dict[str, Any]) -> int:
    found = re.match(r"\d+", row["version"].split(".")[1])
    assert found is not None
    return int(found[0])


def batch(row: dict[str, Any]) -> Batch:
    """max_num_batched_tokens and max_num_seqs, a server's defaults where the row does not say."""
    large = row["total_gib"] >= 70 and minor(row) >= 8 and row["gpu"] != "GB10"
    longest = row.get("max_model_len", 0)
    whole = longest if minor(row) < 8 and longest <= 32_768 else 0  # V0 splits longer prompts alone
    tokens = row.get("mnbt", max(whole, 8192 if large else 2048))
    return Batch(tokens, row.get("max_num_seqs", 1024 if large else 256), longest or 32_768)


class Compared(NamedTuple):
    """Bytes that were printed, the interval, and the card's."""

    row: dict[str, Any]
    printed: float
    interval: Beside
    card: float

    @property
    def hits(self) -> bool:
        return self.interval.low_bytes <= self.printed <= self.interval.high_bytes

    @property
    def width(self) -> float:
        return (self.interval.high_bytes - self.interval.low_bytes) / self.card

    @property
    def key(self) -> tuple[str, str]:
        return self.row["source"], self.row.get("model", self.row["gpu"])


def compared_vllm(found: list[dict[str, Any]]) -> Iterator[Compared]:
    """What vLLM took of its share for neither weights nor cache."""
    for row in found:
        ranks = Parallel(tp=row.get("tp", WORKERS.get(row["source"], 1)), pp=row.get("pp", 1))
        interval = beside(widths(row), batch(row), ranks, minor(row))
        if row["gpu"] == "GB10" or row.get("unified"):
            interval = interval.on_unified_memory()
        share = row["util"] * row["total_gib"]
        printed = row["beside_gib"] if "beside_gib" in row else share - row["weights_gib"] - row["kv_gib"]
        yield Compared(row, printed * GIB, interval, row["total_gib"] * GIB)


def compared_sglang(found: list[dict[str, Any]]) -> Iterator[Compared]:
    """Memory of a card less what was free before SGLang loaded anything."""
    for row in found:
        card = row.get("card") or SGLANG_CARDS.get(row["gpu"])
        if card is not None and not card.startswith("mi3"):  # SGLang on AMD is not modelled
            gpu = gpu_named(card)
            card_bytes = row["total_gib"] * GIB if "total_gib" in row else gpu.memory_bytes
            before = row.get("avail_before_gib", row.get("x_avail_before"))
            yield Compared(row, card_bytes - before * GIB, beside_sglang(gpu, row["tp"], Fraction(1)), card_bytes)


def compared_tensorrt_llm(found: list[dict[str, Any]]) -> Iterator[Compared]:
    """Memory of a card less weights and what TensorRT-LLM's PyTorch backend found free."""
    for row in found:
        if row.get("backend") != "tensorrt" and not row.get("unified"):
            used = row["total_gib"] - row["weights_gib"] - row.get("others_gib", 0)
            printed = row["beside_gib"] if "beside_gib" in row else used - row["kv_gib"] / row["share"]
            interval = beside_tensorrt_llm(widths(row), row["max_num_tokens"], row.get("tp", 1))
            yield Compared(row, printed * GIB, interval, row["total_gib"] * GIB)


SGLANG_CARDS = {"GH200/96G": "gh200-96gb", "H100-80": "h100-80gb", "GB10": "gb10"}
COMPARED = {
    "vllm": [*compared_vllm(of("vllm", FIRST))],
    "vllm, later": [*compared_vllm(of("vllm", MORE))],
    "sglang": [*compared_sglang(of("sglang", FIRST + MORE))],
    "tensorrt_llm": [*compared_tensorrt_llm(of("tensorrt-llm", MORE))],
}
MISSED = {
    "vllm": [("stored-file:56929649277", "Llama-3-8B")],
    "vllm, later": [
        ("stored-file:3706561278", "DeepSeek-Coder-V2-Lite"),
        ("stored-file:54553382182", "Llama-3.2-90B-Vision"),
    ],
    "sglang": [("stored-file:58570512044", "Llama-3.1-8B")],
    "tensorrt_llm": [],
}
"""A peak six times that of the same model on other cards, whose batch is not printed; a V0 of eight ranks; an encoder of
another kind of images; a GH200, whose driver keeps 3 GiB."""
FOUND = {"vllm": (33, 0.085), "vllm, later": (72, 0.039), "sglang": (23, 0.026), "tensorrt_llm": (6, 0.160)}
"""Rows, and the median width against the card: moved on purpose alone. Four of TensorRT-LLM's cards have 8 to 16 GB."""


@pytest.mark.parametrize("engine", COMPARED)
def test_what_engines_printed_lies_in_the_interval(engine):
    found = COMPARED[engine]
    assert len(found) == FOUND[engine][0]
    assert [each.key for each in found if not each.hits] == MISSED[engine]
    assert sum(each.hits for each in found) >= 0.9 * len(found)


@pytest.mark.parametrize("engine", COMPARED)
def test_the_interval_is_narrow_against_the_card(engine):
    found = COMPARED[engine]
    assert statistics.median(each.width for each in found) == pytest.approx(FOUND[engine][1], abs=0.001)
    large = [each.width for each in found if each.card >= 20 * GIB]
    assert statistics.median(large) <= 0.12


def test_pools_of_sglang_lie_in_the_range_of_its_arithmetic():
    """(memory - context) * share - weights, on cards whose weights and share were printed, too."""
    found = [row for row in of("sglang", MORE) if {"share", "kv_gib"} <= row.keys() and row["gpu"] != "MI355X"]
    assert len(found) == 8
    for row in found:
        lost = beside_sglang(gpu_named(row["card"]), row["tp"], Fraction(str(row["share"])))
        most_bytes = (row["total_gib"] * row["share"] - row["weights_gib"]) * GIB
        assert most_bytes - lost.high_bytes <= row["kv_gib"] * GIB <= most_bytes - lost.low_bytes


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


WIDTHS = st.builds(
    Widths,
    st.integers(64, 16_384),
    st.integers(0, 65_536),
    st.integers(1, 262_144),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2048),
    st.booleans(),
)
RANKS = st.builds(Parallel, tp=st.sampled_from((1, 2, 4, 8)), pp=st.sampled_from((1, 2)))


@given(WIDTHS, st.integers(1, 65_536), st.integers(1, 2048), RANKS, st.integers(0, 40))
def test_larger_batches_never_take_less(widths, tokens, sequences, ranks, version):
    small, large = (
        beside(widths, Batch(tokens * times, sequences * times, 4096 * times), ranks, version) for times in (1, 2)
    )
    assert 0 <= small.low_bytes <= small.high_bytes
    assert small.low_bytes <= large.low_bytes
    assert small.high_bytes <= large.high_bytes


@given(WIDTHS, RANKS, st.integers(0, 40))
def test_bounds_are_the_sums_of_their_terms(widths, ranks, version):
    found = beside(widths, Batch(8192, 256, 8192), ranks, version)
    assert found.low_bytes == sum(term.low_bytes for term in found.terms)
    assert found.high_bytes == sum(term.high_bytes for term in found.terms)
    assert all(0 <= term.low_bytes <= term.high_bytes for term in found.terms)


ENGINES = ("vllm", "sglang", "tensorrt_llm", "lmdeploy", "llama_cpp", "ollama")
"""Those that count what lies beside weights and cache."""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("tokens", [4096, 32_768])
def test_a_range_has_the_answers_of_its_ends(engine, tokens):
    """A reserve that is given replaces the estimate: each end of it, or any between, is answered within the range."""
    asked = {"model": "qwen3-8b", "gpu": "l40s", "engine": engine, "tokens": tokens}
    found = kvcalc.fit_gpus(**asked)
    low, high = found.at_best.beside_bytes
    assert found.reserve_bytes == high
    answers = [kvcalc.fit_gpus(**asked, reserve_bytes=each) for each in (high, (low + high) // 2, low)]
    assert all(each.at_best is None for each in answers)
    users = [each.max_sequences for each in answers]
    assert users == sorted(users)
    assert (users[0], users[-1]) == (found.max_sequences, found.at_best.max_sequences)
    assert answers[0].cache_bytes == found.cache_bytes
    assert answers[-1].cache_bytes == found.at_best.cache_bytes


@pytest.mark.parametrize("engine", ENGINES)
def test_more_memory_never_holds_fewer_users(engine):
    """At either end, with the same settings: SGLang's default share falls where a larger card has larger graphs."""
    given = {"mem_fraction_static": 0.85} if engine == "sglang" else None
    found = [
        kvcalc.fit_gpus("qwen3-8b", gpu="l40s", engine=engine, engine_settings=given, tokens=8192, memory=f"{gib}GiB")
        for gib in range(28, 64, 4)
    ]
    assert [each.max_sequences for each in found] == sorted(each.max_sequences for each in found)
    best = [each.at_best.max_sequences for each in found]
    assert best == sorted(best)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_reserve_of_0_is_an_upper_bound_and_said_to_be_one(engine):
    estimated = kvcalc.fit_gpus("qwen3-8b", gpu="l40s", engine=engine, tokens=8192)
    without = kvcalc.fit_gpus("qwen3-8b", gpu="l40s", engine=engine, tokens=8192, reserve_bytes=0)
    assert without.max_sequences >= estimated.at_best.max_sequences
    assert not without.estimate
    assert any(
        note.startswith(
            "reserve is set to 0: activations, CUDA graphs and the rest are not counted, so this is an upper bound"
        )
        for note in without.notes
    )


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
    (row,) = [row for row in of("vllm", FIRST) if row["source"] == source]
    model, gpu, engine, layout, tokens = PRINTED[source]
    found = kvcalc.fit_gpus(model, gpu=gpu, engine=engine, tokens=tokens, **layout)
    assert found.cache_bytes <= row["kv_gib"] * GIB <= found.at_best.cache_bytes
