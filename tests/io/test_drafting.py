"""Draft models by every door: named by an engine's setting, or given; each answer against what vLLM itself planned."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import kvcalc

DATA = Path(__file__).parents[1] / "data" / "vllm_drafts.jsonl.gz"
SPECULATIVE = {"model": "Qwen/Qwen3-0.6B", "num_speculative_tokens": 3}
NAMED = json.dumps(SPECULATIVE)


def rows() -> list[dict[str, Any]]:
    """Start-ups of vLLM 0.33.0 that planned drafts of another checkpoint, on one stage and without sharing of tokens."""
    with gzip.open(DATA, "rt") as lines:
        every = [json.loads(line) for line in lines]
    plain = [row for row in every if row["question"]["engine"] == "vllm@0.33.0" and "refused" not in row["want"]]
    return [row for row in plain if not {"pp", "dcp"} & row["question"].get("parallel", {}).keys()]


def asked_of(row: dict[str, Any], folder: Path) -> tuple[dict[str, Any], Path]:
    """The question, whose setting names the draft by its path, and the path."""
    path = folder / "draft.json"
    path.write_text(json.dumps(row["drafter"]))
    question = {**row["question"], "parallel": kvcalc.Parallel(**row["question"].get("parallel", {}))}
    speculative = {**question["engine_settings"]["speculative"], "model": str(path)}
    settings = {"gpu": "h100-80gb", **question["engine_settings"], "speculative": speculative}
    return {**question, "engine_settings": settings}, path


def test_a_setting_that_names_the_draft_is_enough(tmp_path):
    checked = 0
    for row in rows():
        if row["name"].startswith("mtp"):
            continue
        question, _ = asked_of(row, tmp_path)
        report = kvcalc.fit(row["config"], **question)
        assert (row["name"], report.num_blocks, report.tokens) == (
            row["name"],
            row["want"]["num_blocks"],
            row["want"]["tokens"],
        )
        checked += 1
    assert checked > 40


def test_a_draft_that_is_given_is_the_one_that_is_named(tmp_path):
    row = next(row for row in rows() if "draft_model" in row["question"]["engine_settings"]["speculative"].values())
    question, path = asked_of(row, tmp_path)
    named = kvcalc.fit(row["config"], **question)
    del question["engine_settings"]["speculative"]["model"]
    for given in (path, row["drafter"], kvcalc.load(row["drafter"])):
        report = kvcalc.fit(row["config"], draft_model=given, **question)
        assert (report.num_blocks, report.tokens) == (named.num_blocks, named.tokens)


def log_of(row: dict[str, Any], draft: str) -> str:
    """What vLLM prints of such a start-up."""
    asked, want, question = row["question"]["engine_settings"]["speculative"], row["want"], row["question"]
    longest = question["engine_settings"].get("max_model_len", row["config"]["max_position_embeddings"])
    gib = question["available_bytes"] / 2**30
    return (
        "INFO [core.py:1] Initializing a V1 LLM engine (v0.33.0) with config: model='x', speculative_config="
        f"SpeculativeConfig(method='{asked['method']}', model='{draft}', "
        f"num_spec_tokens={asked['num_speculative_tokens']}), max_seq_len={longest}, dtype=torch.bfloat16\n"
        f"INFO [gpu_worker.py:1] Available KV cache memory: {gib:.2f} GiB\n"
        f"INFO [kv_cache_utils.py:1] GPU KV cache size: {want['tokens']:,} tokens\n"
        f"INFO [kv_cache_utils.py:2] Maximum concurrency for {longest:,} tokens per request: "
        f"{want['max_concurrency']:.2f}x\n"
    )


def test_explain_judges_a_log_with_the_draft_it_is_given(tmp_path, cli):
    row = next(
        row for row in rows() if row["question"]["engine_settings"]["speculative"].get("method") == "draft_model"
    )
    _, path = asked_of(row, tmp_path)
    log, config = tmp_path / "vllm.log", tmp_path / "config.json"
    log.write_text(log_of(row, "/models/draft-of-another-machine"))
    config.write_text(json.dumps(row["config"]))
    asked = ("explain", str(log), "--model", str(config), "--engine-set", "gpu=h100-80gb")
    without = cli([*asked])
    assert without.code == 2
    assert "help: name the model that drafts: --draft-model" in without.stderr
    agreed = cli([*asked, "--draft-model", str(path)])
    assert (agreed.code, agreed.stderr) == (0, "")
    assert f"{row['want']['tokens']:,}" in agreed.stdout


def test_explain_takes_the_draft_that_a_log_names(tmp_path, cli):
    """28 + 28 layers of 8 heads of 128, K and V in bf16: 229,376 bytes a token, 3,670,016 a block of 16."""
    log = tmp_path / "vllm.log"
    tokens = 4 * 2**30 // 3_670_016 * 16
    log.write_text(
        "INFO [core.py:1] Initializing a V1 LLM engine (v0.33.0) with config: model='Qwen/Qwen3-1.7B', "
        "speculative_config=SpeculativeConfig(method='draft_model', model='Qwen/Qwen3-0.6B', num_spec_tokens=3), "
        "max_seq_len=8192, dtype=torch.bfloat16\n"
        "INFO [gpu_worker.py:1] Available KV cache memory: 4.00 GiB\n"
        f"INFO [kv_cache_utils.py:1] GPU KV cache size: {tokens:,} tokens\n"
    )
    done = cli(["explain", str(log), "--engine-set", "gpu=h100-80gb"])
    assert (done.code, done.stderr) == (0, "")
    assert f"{tokens:,}" in done.stdout


def test_weights_of_the_draft_are_counted(cli):
    """596,049,920 parameters of Qwen3-0.6B in bf16."""
    asked = ("fit", "qwen3-14b", "--gpu", "h100-80gb", "--engine", "vllm", "--tp", "1", "-t", "32K", "--format", "json")
    alone, drafted = cli([*asked]), cli([*asked, "--engine-set", f"speculative={NAMED}"])
    found = [json.loads(done.stdout)["weights_bytes"] for done in (alone, drafted)]
    assert found[1] - found[0] == 1_192_099_840


def test_weights_that_nothing_says_are_asked_for(tmp_path, cli):
    draft = tmp_path / "draft.json"
    layers = {"num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 512}
    draft.write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 32768, **layers}))
    asked = ("fit", "qwen3-14b", "--gpu", "h100-80gb", "--engine", "vllm", "--tp", "1", "-t", "8K")
    setting = f'speculative={{"model": "{draft}", "num_speculative_tokens": 3}}'
    done = cli([*asked, "--engine-set", setting])
    assert done.code == 2
    assert done.stderr.startswith("--reserve: draft model draft: weights size unknown")
    assert cli([*asked, "--engine-set", setting, "--reserve", "5GB"]).code == 0


def test_plans_read_the_draft_of_their_settings(tmp_path, cli):
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "deployments:\n"
        "  - name: chat\n    model: qwen3-14b\n    engine: vllm\n    tokens: 8K\n    budget: 40GB\n"
        f"    engine_settings: {{speculative: {NAMED}}}\n"
    )
    done = cli(["check", str(plan), "--format", "json"])
    needed = json.loads(done.stdout)["findings"][0]["needed_bytes"]
    assert needed == (8192 + 16) * (40 + 28) * 8 * 128 * 2 * 2  # and the block that vLLM keeps empty


def test_layouts_are_chosen_with_the_draft_and_a_page_says_how(tmp_path, cli):
    """A setting that is a mapping has no hash; the commands of a page ask for the same draft."""
    asked = ["fit", "qwen3-14b", "--gpu", "h100", "--gpus", "2", "--engine", "vllm", "-t", "8K"]
    done = cli([*asked, "--engine-set", f"speculative={NAMED}"])
    assert (done.code, done.stderr) == (0, "")
    plan, page = tmp_path / "plan.yaml", tmp_path / "page.html"
    plan.write_text(
        "deployments:\n  - name: chat\n    gpu: h100-80gb\n    args: >-\n"
        f"      vllm serve Qwen/Qwen3-14B --max-model-len 8192 --speculative-config '{NAMED}'\n"
    )
    assert cli(["report", str(plan), "-o", str(page)]).code == 0
    assert "kvcalc size qwen3-14b --tokens 8192 --engine vllm@0.33.0" in page.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--engine-set", f"speculative={NAMED}", "--mtp"),
            "--engine-set: --mtp selects the model's own draft layers, but another checkpoint drafts",
        ),
        (
            ("--draft-model", "qwen3-0.6b"),
            "--draft-model: speculative does not say how many tokens qwen3-0.6b drafts",
        ),
        (
            ("--draft-model", "no-such-model", "--engine-set", f"speculative={NAMED}"),
            "--draft-model: no model is called 'no-such-model'",
        ),
    ],
)
def test_a_draft_that_cannot_be_is_named(cli, words, message):
    done = cli(["size", "r1", "-t", "8K", "--engine", "vllm", *words])
    assert done.code == 2
    assert done.stderr.startswith(message)


def test_engines_without_drafts_say_so(cli):
    done = cli(["size", "qwen3-14b", "-t", "8K", "--engine", "lmdeploy", "--draft-model", "qwen3-0.6b"])
    assert done.code == 2
    assert "what LMDeploy caches for drafts of another checkpoint (qwen3-0.6b) is not modelled" in done.stderr


def test_what_could_be_a_secret_is_not_printed(cli):
    named = {**SPECULATIVE, "model": "hf_abcdefghijklmnopqrstuvwxyz0123"}
    done = cli(
        ["size", "qwen3-14b", "-t", "8K", "--engine", "vllm", "--engine-set", f"speculative={json.dumps(named)}"]
    )
    assert done.code == 2
    assert "hf_" not in done.stderr


def test_every_format_of_the_weights_has_those_of_the_draft_beside_it():
    """Qwen3-14B is published in 8 bits, too; Qwen3-0.6B's 1,192,099,840 bytes are loaded with either."""
    asked = {"users": 1, "gpu": "h100-80gb", "tokens": "8K", "gpus": 2}
    alone = kvcalc.fits("qwen3-14b", **asked)
    drafted = kvcalc.fits("qwen3-14b", engine_settings={"speculative": SPECULATIVE}, **asked)
    texts = [json.dumps(report.to_dict()) for report in (alone, drafted)]
    assert ["of qwen3-0.6b, which drafts" in text for text in texts] == [False, True]


def test_replicas_serve_with_the_draft():
    """One GPU: what is left for the cache is less by the draft's weights, and no row has pipeline stages."""
    asked = {"users": 10, "workload": "p50=1K,max=4K", "gpu": "h100-80gb"}
    alone = kvcalc.replicas("qwen3-14b", **asked).to_dict()["fleets"]
    drafted = kvcalc.replicas("qwen3-14b", engine_settings={"speculative": SPECULATIVE}, **asked).to_dict()["fleets"]
    assert alone[0]["cache_bytes"] - drafted[0]["cache_bytes"] == 1_192_099_840
    assert not any("PP" in row["replica"] for row in drafted)
