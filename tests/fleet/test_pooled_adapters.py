"""LoRA's pool in SGLang: what its own LoRAMemoryPool makes for six types, on ranks, with several sets of modules."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from test_lora_buffers import ROWS, weights_of

import kvcalc
from kvcalc.fleet.pooled_adapters import PooledAdapters
from kvcalc.parallel import Parallel

DATA = Path(__file__).parent.parent / "data" / "sglang_lora.jsonl"
OF_TYPE = {row["config"]["model_type"]: row for row in reversed(ROWS)}


@cache
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]


def kept(row: dict[str, Any], ranks: Parallel | None = None, **changed: Any) -> int | None:
    own = OF_TYPE[row["model_type"]]
    names = ("max_loras_per_batch", "max_lora_rank", "lora_target_modules")
    given = row | {"lora_target_modules": tuple(row["target_modules"])} | changed
    adapters = PooledAdapters(**{name: given[name] for name in names})
    return adapters.on_rank(weights_of(own), kvcalc.load(own["config"]), ranks or Parallel(tp=row["tp"]))


def test_a_rank_keeps_what_sglangs_pool_makes():
    assert len(rows()) == 60
    wrong = [(row, kept(row)) for row in rows() if kept(row) != row["bytes"]]
    assert wrong == []


def test_ranks_share_the_rows_of_logits():
    """1,024 of them: on two ranks the matrix of so many rows has half, twice, since embeddings have adapters, too."""
    row = next(row for row in rows() if row["target_modules"] == ["all"] and row["model_type"] == "llama")
    one = dict.fromkeys(("q_proj", "o_proj", "gate_proj", "down_proj", "embed_tokens"))
    both, alone = (kept(row, Parallel(tp=2), lora_target_modules=each) for each in (("all",), tuple(one)))
    once = 3 * 16 * 2
    assert both is not None and alone is not None
    assert both - alone == once * (2 * (256 + 512) + (1024 + 256))


@pytest.mark.parametrize(
    "changed",
    [
        {"max_lora_rank": None},
        {"lora_target_modules": ()},
        {"lora_target_modules": ("q_proj", "router")},
        {"ranks": Parallel(tp=2, dp=2)},
        {"ranks": Parallel(tp=3)},
    ],
)
def test_what_is_not_said_or_measured_is_unknown(changed):
    assert kept(rows()[0], **changed) is None


def test_a_type_that_was_not_measured_is_unknown():
    own = OF_TYPE["gemma2"]
    adapters = PooledAdapters(8, 16, ("q_proj",))
    assert adapters.on_rank(weights_of(own), kvcalc.load(own["config"]), Parallel()) is None


LINE = "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B-Instruct --context-length 8192 "


def test_check_counts_the_pool(tmp_path, cli):
    """8 slots of rank 64 for q, k, v and o of Llama-3.1-8B, 32 layers: (3 * 4096 + 6144 + 4096 + 4096) x 64 x 2."""
    plan = tmp_path / "plan.yaml"
    row = f"deployments:\n  - name: chat\n    gpu: h100-80gb\n    args: {LINE}"
    plan.write_text(f"{row}--enable-lora --max-lora-rank 64 --lora-target-modules q_proj k_proj v_proj o_proj\n")
    done = cli(["check", str(plan), "--format", "json"])
    (found,) = json.loads(done.stdout)["findings"]
    taken = 8 * 32 * (3 * 4096 + 6144 + 4096 + 4096) * 64 * 2
    assert any(note.startswith(f"{taken:,} bytes") and "8 adapters of rank 64" in note for note in found["notes"])
    plan.write_text(f"{row}--enable-lora --lora-paths a=b\n")
    assert "--enable-lora: adapters take memory" in cli(["check", str(plan)]).stderr
