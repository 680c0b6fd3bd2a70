"""Answers that rest on an estimate: a range of which both ends are exact, and which every format shows."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.units import GIB

ENDS = [
    ("llama-3.1-8b", "vllm", "h100", kvcalc.Parallel()),
    ("qwen3.6-27b", "vllm", "h200", kvcalc.Parallel(tp=2)),
    ("r1", "vllm", "h200", kvcalc.Parallel(tp=8, dcp=8)),
    ("qwen3-32b", "sglang", "h100", kvcalc.Parallel(tp=4)),
    ("qwen3-8b", "llama_cpp", "4090", kvcalc.Parallel()),
]


@pytest.mark.parametrize(("model", "engine", "gpu", "parallel"), ENDS)
def test_both_ends_are_what_a_reserve_of_as_much_answers(model, engine, gpu, parallel):
    asked = {"engine": engine, "gpu": gpu, "parallel": parallel, "tokens": 8192, "batch": 4}
    whole = kvcalc.fit_gpus(model, **asked)
    assert whole.estimate
    low, high = whole.at_best.beside_bytes
    least, most = (kvcalc.fit_gpus(model, **asked, reserve_bytes=end) for end in (high, low))
    assert (least.max_sequences, least.max_tokens) == (whole.max_sequences, whole.max_tokens)
    assert (most.max_sequences, most.max_tokens) == (whole.at_best.max_sequences, whole.at_best.max_tokens)
    assert least.at_best is None
    between = kvcalc.fit_gpus(model, **asked, reserve_bytes=(low + high) // 2)
    assert least.max_tokens <= between.max_tokens <= most.max_tokens


@given(st.integers(24, 160), st.integers(0, 40), st.sampled_from(("vllm", "sglang", "ideal")))
def test_more_memory_never_holds_fewer_users(gib, more, engine):
    settings = {"mem_fraction_static": 0.85} if engine == "sglang" else None
    asked = {"engine": engine, "engine_settings": settings, "tokens": 4096, "reserve_bytes": 2 * GIB}
    small, large = (kvcalc.fit_gpus("qwen3-8b", gpu="h100", memory=f"{each}GiB", **asked) for each in (gib, gib + more))
    assert (small.max_sequences or 0) <= (large.max_sequences or 0)
    assert (small.max_tokens or 0) <= (large.max_tokens or 0)


def test_every_format_says_that_it_is_an_estimate(cli):
    line = "fit llama-3.1-8b -e vllm --gpu h100 --tokens 32K"
    document = json.loads(cli(f"{line} --format json").stdout)
    assert document["estimate"] is True
    low, high = document["max_sequences"], document["at_best"]["max_sequences"]
    assert low < high
    (row,) = csv.DictReader(io.StringIO(cli(f"{line} --format csv").stdout.partition("\n\n")[0]))
    assert (row["estimate"], row["max_sequences"], row["max_sequences_at_best"]) == ("true", str(low), str(high))
    for form in ("table", "markdown"):
        assert f"max users {low} to {high}" in " ".join(cli(f"{line} --format {form}").stdout.split())


def test_a_given_reserve_replaces_the_estimate_and_zero_is_named(cli):
    line = "fit llama-3.1-8b -e vllm --gpu h100 --tokens 32K --format json --reserve"
    given, nothing = (json.loads(cli(f"{line} {reserve}").stdout) for reserve in ("4GB", "0"))
    assert (given["estimate"], given["reserve_bytes"]) == (False, 4_000_000_000)
    assert (nothing["estimate"], nothing["reserve_bytes"]) == (False, 0)
    assert any("reserve is set to 0" in note for note in nothing["notes"])
    assert not any("reserve 0" in note for note in given["notes"])


def test_weights_that_were_counted_in_another_format_are_an_estimate(cli):
    outcome = cli("fit llama-3.1-8b -e vllm --gpu h100 --tokens 32K --weights-dtype int4 --reserve 4GB")
    assert "weights, estimated" in outcome.stdout
    exact = cli("fit llama-3.1-8b -e vllm --gpu h100 --tokens 32K --weights-dtype bf16 --reserve 4GB")
    assert "estimated" not in exact.stdout
