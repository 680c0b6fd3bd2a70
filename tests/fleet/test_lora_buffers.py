"""Buffers for LoRA adapters: what vLLM 0.32.0 allocated on a CPU, and what ranks of 0.33.0 make by its own classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kvcalc
from kvcalc.fleet.adapters import Adapters
from kvcalc.fleet.weights import Stored, Weights
from kvcalc.model.checkpoint import WeightTensor
from kvcalc.parallel import Parallel

DATA = Path(__file__).parent.parent / "data" / "lora.jsonl"
MEASURED_RANKS = 50
ROWS = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]


def weights_of(row):
    tensors = (
        WeightTensor(part, name, tuple(shape), tuple(layers), shares=shares)
        for part, name, shape, layers, shares in row["tensors"]
    )
    return Weights(1, "rows", tensors=tuple(Stored(each, (1,) * max(1, len(each.layers))) for each in tensors))


def kept(row, ranks=Parallel()):  # noqa: B008  # frozen
    slots = Adapters(row["max_loras"], row["max_lora_rank"])
    return slots.on_rank(weights_of(row), kvcalc.load(row["config"]), ranks)


OF_RANKS = [
    (row, layout, expected) for row in ROWS for layout, expected in row["ranks"].items() if expected is not None
]


def layout_of(text):
    return Parallel(**{name: int(number) for name, _, number in (part.partition("=") for part in text.split(","))})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["config"]["model_type"])
def test_a_server_keeps_what_vllm_allocated(row):
    assert kept(row) == row["bytes"]


def test_a_rank_keeps_what_vllm_s_classes_make():
    """Ranks of tensor parallelism, and experts that these share."""
    assert len(OF_RANKS) >= MEASURED_RANKS
    wrong = [
        (row["config"]["model_type"], layout, expected, kept(row, layout_of(layout)))
        for row, layout, expected in OF_RANKS
        if kept(row, layout_of(layout)) != expected
    ]
    assert wrong == [("phi3", "tp=4", 235_520, None)]  # two KV heads within one projection of all heads


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["config"]["model_type"])
@pytest.mark.parametrize("ranks", [Parallel(2), Parallel(4), Parallel(2, 3)])
def test_a_rank_keeps_a_part_and_all_ranks_no_less_than_one(row, ranks):
    if (row["config"]["model_type"], ranks.tp) == ("phi3", 4):
        return
    assert row["bytes"] <= kept(row, ranks) * ranks.num_ranks
    assert kept(row, ranks) < row["bytes"]


def test_a_type_that_was_not_measured_is_not_known():
    row = next(row for row in ROWS if row["config"]["model_type"] == "llama")
    assert kept({**row, "config": {**row["config"], "model_type": "stablelm"}}) is None


def test_they_leave_less_for_the_cache_of_a_deployment(cli, tmp_path):
    script = tmp_path / "serve.sh"
    command = "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 8192"

    def available(more):
        script.write_text(f"{command} {more}\n")
        (found,) = json.loads(cli(["check", str(script), "--gpu", "h100", "--format", "json"]).stdout)["findings"]
        return found["available_bytes"]

    assert available("") - available("--enable-lora --max-loras 4 --max-lora-rank 64") == 1_477_705_728
    assert available("") == available("--max-lora-rank 64")
