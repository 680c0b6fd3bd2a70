"""Drafts of another checkpoint in SGLang, as its own code lays out both pools, and as logs of users print them.

Start-ups of 0.5.23 by `tools/measure_sglang.py`: its arguments resolved, the pools of the model and of the draft's own
worker built. Targets of one kind of layer, with windows, states, latents and sparse latents; eagles, whole models and
DFLASH; ranks, pages, formats and refusals.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import kvcalc
from kvcalc.report.pool import PoolReport

DATA = Path(__file__).parents[1] / "data" / "sglang_drafts.jsonl.gz"
GIB = 2**30
NOT_PLANNED = {
    "llama eagle3 dp": "how SGLang shares model, which drafts, with data parallelism of attention",
    "qwen2.5 standalone": r"num_query_heads \(14\) is not a multiple of tp \(4\)",
    "moe drafts": "loads a qwen3_moe checkpoint that drafts as layers of multi-token prediction",
}
"""Laid out by SGLang and refused here: its classes do not load the last two, and the first's ranks were not built."""


@cache
def rows() -> list[dict[str, Any]]:
    with gzip.open(DATA, "rt") as lines:
        return [json.loads(line) for line in lines]


def planned(row: dict[str, Any]) -> dict[str, object]:
    settings = dict(row["args"]) | {"gpu": row["gpu"]}
    tp, dp = settings.pop("tp_size", 1), settings.pop("dp_size", 1)
    settings.pop("enable_dp_attention", None)
    report = kvcalc.fit(
        row["config"],
        engine="sglang@0.5.23",
        engine_settings=settings,
        draft_model=row["draft"],
        parallel=kvcalc.Parallel(tp=tp // dp, dp=dp),
        available_bytes=row.get("want", {}).get("available_bytes", 2**36),
    )
    assert isinstance(report, PoolReport)
    pools = report.stages[0]
    drafts = [pool for pool in pools if pool.name.startswith("drafts")]
    return {
        "tokens": report.tokens,
        "page_size": dict(report.resolved)["page_size"],
        "max_requests": report.max_requests,
        "kv_bytes": sum(pool.bytes for pool in pools if pool.name != "states" and pool not in drafts),
        "state_bytes": sum(pool.bytes for pool in pools if pool.name == "states"),
        "draft_kv_bytes": sum(pool.bytes for pool in drafts),
    }


def test_both_pools_are_sglangs_own():
    started = [row for row in rows() if "want" in row and row["name"] not in NOT_PLANNED]
    assert len(started) == 38
    wrong = [
        (row["name"], row["want"], found)
        for row in started
        if (found := planned(row)) != {name: row["want"][name] for name in found}
    ]
    assert wrong == []


def test_what_is_not_known_is_refused():
    for row in rows():
        if row["name"] in NOT_PLANNED:
            with pytest.raises(kvcalc.KvcalcError, match=NOT_PLANNED[row["name"]]):
                planned(row)


def test_what_sglang_refuses_is_refused():
    (row,) = [row for row in rows() if "refused" in row]
    with pytest.raises(kvcalc.NotApplicableError) as refusal:
        planned(row)
    assert row["refused"] == f"ValueError: {refusal.value}"


DFLASH = {"model_type": "qwen3", "num_hidden_layers": 5, "num_attention_heads": 32, "num_key_value_heads": 8}
DFLASH |= {"head_dim": 128, "hidden_size": 5120, "max_position_embeddings": 262_144}


def test_pools_are_those_of_a_users_report():
    """sgl-project/sglang#40665: Qwen3.8-27B and a draft of 5 layers with windows, 450,060 slots: 27.5 and 8.6 GiB.

    Heads of the draft are inferred from the 8.6 GiB.
    """
    windows = {"layer_types": ["sliding_attention"] * 5, "sliding_window": 2048, "use_sliding_window": True}
    report = kvcalc.fit(
        "qwen3.8-27b",
        engine="sglang",
        engine_settings={
            "speculative_algorithm": "DFLASH",
            "speculative_num_draft_tokens": 16,
            "max_running_requests": 8,
            "max_total_tokens": 450_060,
            "gpu": "h200",
        },
        draft_model=DFLASH | windows,
        available_bytes=100 * GIB,
    )
    assert report.tokens == 450_060
    own, drafts = (next(each for each in report.stages[0] if each.name == name) for name in ("full", "drafts"))
    assert (f"{own.bytes / GIB:.1f}", f"{drafts.bytes / GIB:.1f}") == ("27.5", "8.6")


def test_a_log_with_a_draft_is_judged_with_it(tmp_path, cli):
    """noonghunna/club-3090#1261: Qwen3.6-27B on two GPUs in fp8, with a DFLASH draft, whose heads are inferred."""
    log, draft = tmp_path / "sglang.log", tmp_path / "draft.json"
    draft.write_text(json.dumps(DFLASH))
    lines = (
        "KV Cache is allocated. dtype: torch.float8_e4m3fn, #tokens: 454112, K size: 3.46 GB, V size: 3.46 GB",
        "KV Cache is allocated. dtype: torch.float8_e4m3fn, #tokens: 454112, K size: 1.08 GB, V size: 1.08 GB",
    )
    arguments = (
        "server_args=ServerArgs(tp_size=2, speculative_algorithm='DFLASH', speculative_draft_model_path='/models/dflash'"
        ", speculative_num_draft_tokens=16)"
    )
    log.write_text("\n".join([arguments, *(f"[TP{rank}] {line}" for rank in (0, 1) for line in lines)]))
    asked = ["explain", str(log), "qwen3.6-27b", "--format", "json"]
    unknown, known = (json.loads(cli(words).stdout) for words in (asked, [*asked, "--draft-model", str(draft)]))
    assert unknown["outcome"] == known["outcome"] == "agrees"
    assert [row["judged"] for row in unknown["compared"]] == [True, True, False, False]
    assert [(row["logged"], row["predicted"]) for row in known["compared"]] == [
        ("3.46 GB", "3.46 GB"),
        ("3.46 GB", "3.46 GB"),
        ("1.08 GB", "1.08 GB"),
        ("1.08 GB", "1.08 GB"),
    ]


def test_an_error_of_a_server_with_an_unknown_draft_is_explained(tmp_path, cli):
    """Whose checkpoint drafts changes no page of the model's own."""
    log = tmp_path / "sglang.log"
    log.write_text(
        "server_args=ServerArgs(tp_size=1, mem_fraction_static=0.5, speculative_algorithm='EAGLE3', "
        "speculative_draft_model_path='/models/eagle')\nLoad weight begin. avail mem=23.00 GB\n"
        "Load weight end. type=X, avail mem=7.00 GB, mem usage=16.00 GB\n"
        "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.\n"
    )
    done = cli(["explain", str(log), "qwen3-8b"])
    assert (done.code, done.stderr) == (0, "")
    assert "--mem-fraction-static" in done.stdout


def fit(draft: dict[str, Any], model: str = "qwen3-8b", **settings: Any) -> PoolReport:
    ranks = kvcalc.Parallel(**{name: settings.pop(name) for name in ("tp", "pp", "dp") if name in settings})
    found = kvcalc.fit(
        model,
        engine="sglang",
        engine_settings={"speculative_algorithm": "EAGLE3"} | settings,
        draft_model=draft,
        parallel=ranks,
        available_bytes=40 * GIB,
    )
    assert isinstance(found, PoolReport)
    return found


EAGLE = {"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 32, "num_key_value_heads": 8}
EAGLE |= {"head_dim": 128, "hidden_size": 4096, "max_position_embeddings": 32_768}


def test_a_draft_that_takes_more_than_is_set_aside_is_told():
    """Four times the model's heads: 16,384 bytes of a token, and 4,096 are set aside."""
    report = fit(EAGLE | {"num_key_value_heads": 32})
    assert any("takes 12,288 bytes more than SGLang sets aside for it" in note for note in report.notes)
    assert not any("sets aside" in note for note in fit(EAGLE).notes)


def test_a_plan_sizes_the_draft_that_its_command_names(tmp_path, cli):
    """36 layers of the model and one of the draft, each with K and V of 8 heads of 128 in bf16."""
    (tmp_path / "eagle").mkdir()
    (tmp_path / "eagle" / "config.json").write_text(json.dumps(EAGLE))
    plan = tmp_path / "plan.yaml"
    line = "python -m sglang.launch_server --model-path Qwen/Qwen3-8B --context-length 8192"
    plan.write_text(
        f"deployments:\n  - name: chat\n    budget: 40GB\n    args: {line} --speculative-algorithm EAGLE3 "
        "--speculative-draft-model-path ./eagle\n"
    )
    (found,) = json.loads(cli(["check", str(plan), "--format", "json"]).stdout)["findings"]
    assert found["needed_bytes"] == 8192 * (36 + 1) * 8 * 128 * 2 * 2
    assert "1 draft layer of eagle, planned as layers of this model" in found["notes"]


def test_the_models_own_checkpoint_drafts_with_its_own_layers():
    named = fit(kvcalc.load("r1"), "r1", speculative_algorithm="EAGLE", tp=8)  # type: ignore[arg-type]
    own = kvcalc.fit(
        "r1",
        engine="sglang",
        engine_settings={"speculative_algorithm": "EAGLE"},
        parallel=kvcalc.Parallel(tp=8),
        available_bytes=40 * GIB,
    )
    assert named.tokens == own.tokens
    assert named.stages == own.stages


WRONG: dict[str, tuple[dict[str, Any], str, dict[str, Any], str]] = {
    "without an algorithm": (
        EAGLE,
        "qwen3-8b",
        {"speculative_algorithm": None},
        "speculative_algorithm does not say how",
    ),
    "stages": (EAGLE, "qwen3-8b", {"pp": 2}, "how SGLang shares model, which drafts, with pipeline stages"),
    "latents": (
        {"model_type": "minicpm3", "num_hidden_layers": 1, "hidden_size": 512, "num_attention_heads": 8}
        | {"num_key_value_heads": 8, "kv_lora_rank": 64, "q_lora_rank": 64, "qk_rope_head_dim": 16}
        | {"qk_nope_head_dim": 16, "v_head_dim": 32, "max_position_embeddings": 8192},
        "qwen3-8b",
        {"speculative_algorithm": "STANDALONE"},
        "does not know the pool of",
    ),
    "windows of its own": (
        {"model_type": "gpt_oss", "num_hidden_layers": 2, "hidden_size": 512, "num_attention_heads": 8}
        | {"num_key_value_heads": 2, "head_dim": 64, "sliding_window": 128, "max_position_embeddings": 8192}
        | {"layer_types": ["sliding_attention", "full_attention"]},
        "gpt-oss-120b",
        {"speculative_algorithm": "STANDALONE"},
        "does not know the two pools of a draft with windows",
    ),
    "DeepSeek-V4": (EAGLE, "deepseek-v4-flash", {}, "what SGLang sets aside next to deepseek-v4-flash for drafts"),
    "tokens of a block": (DFLASH, "qwen3.6-27b", {"speculative_algorithm": "DFLASH"}, "from the draft's own config"),
}


@pytest.mark.parametrize(("draft", "model", "settings", "words"), WRONG.values(), ids=list(WRONG))
def test_a_draft_that_does_not_go_is_named(draft, model, settings, words):
    with pytest.raises(kvcalc.KvcalcError) as refusal:
        fit(draft, model, **settings)
    assert words in str(refusal.value)
    assert refusal.value.help


def test_an_algorithm_that_needs_a_draft_asks_for_it():
    with pytest.raises(kvcalc.NotApplicableError, match="EAGLE3 drafts with another checkpoint, and none is named"):
        kvcalc.size("qwen3-8b", tokens="8K", engine="sglang", engine_settings={"speculative_algorithm": "EAGLE3"})
