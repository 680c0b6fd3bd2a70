"""Several models on one GPU: what the others take is what `fit` says of them, and no more is left for the first."""

from __future__ import annotations

import json

import pytest

LINE = "fit llama-3.1-8b --gpu h100 --tokens 32K"
OTHER = "--with qwen3-0.6b,tokens=8K,users=4"


def answer(cli, line: str) -> dict:
    outcome = cli(f"{line} --format json")
    assert outcome.code in (0, 1), outcome.stderr
    return json.loads(outcome.stdout)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llama_cpp", "ideal"])
def test_another_model_takes_what_a_fit_of_it_says(cli, engine):
    both, first = answer(cli, f"{LINE} -e {engine} {OTHER}"), answer(cli, f"{LINE} -e {engine}")
    (other,) = both["others"]
    alone = answer(cli, f"fit qwen3-0.6b -e {engine} --gpu h100 --tokens 8K --batch 4")
    assert (other["weights_bytes"], other["cache_bytes"]) == (alone["weights_bytes"], max(alone["needed_bytes"]))
    low, high = alone["at_best"]["beside_bytes"] if alone["at_best"] else (0, 0)
    assert other["beside_bytes"] == [low, high]
    assert first["cache_bytes"] - both["cache_bytes"] == other["most_bytes"]
    if first["at_best"]:
        assert first["at_best"]["cache_bytes"] - both["at_best"]["cache_bytes"] == other["least_bytes"]
    assert both["max_sequences"] <= first["max_sequences"]


def test_shares_of_vllm_add_up_to_the_whole(cli):
    """request_memory of vLLM: each takes ceil(total * gpu_memory_utilization) of the device."""
    notes = " ".join(answer(cli, f"{LINE} -e vllm {OTHER}")["notes"])
    shares = "each vLLM takes a share of the whole GPU (gpu_memory_utilization): llama-3.1-8b 0.796, qwen3-0.6b 0.124"
    assert shares in notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{LINE} -e vllm --gpus 2 {OTHER}", "--with: --with needs one GPU and one layout"),
        (f"{LINE} -e vllm --as vllm {OTHER}", "--with: --with needs one GPU and one layout"),
        (f"{LINE} -e vllm --tp 2 {OTHER}", "other models need a single GPU, and TP 2 has 2"),
        (f"{LINE} -e vllm --with qwen3-0.6b,n=4", "--with: not another model: 'qwen3-0.6b,n=4'"),
        (f"{LINE} -e vllm --with nobody-9b", "--with: no model is called 'nobody-9b'"),
        ("fit llama-3.1-8b --gpu h100 -e vllm --with qwen3-0.6b", "--with: no context given for 'qwen3-0.6b'"),
    ],
)
def test_what_is_not_answered_is_refused(cli, line, message):
    outcome = cli(line)
    assert (outcome.code, outcome.stderr.startswith(message)) == (2, True), outcome.stderr
