"""`workload:` of a plan: the same answer as `kvcalc traffic`, each error at its line."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import kvcalc
from kvcalc.errors import KvcalcError

PLAN = """\
deployments:
  - name: chat
    model: llama3-8b
    engine: vllm@0.32.0
    budget: 8GiB
    concurrency: {users}
    workload: {workload}
"""
AZURE = Path(__file__).parent.parent.parent / "examples/traces/azure.csv"


def checked(tmp_path: Path, workload: str, users: int = 40) -> Any:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.format(users=users, workload=workload), "utf-8")
    return kvcalc.check(str(path)).findings[0]


@pytest.mark.parametrize(
    ("workload", "options"),
    [
        (f"{AZURE}", f"--context {AZURE}"),
        ("{prompt: 'p50=1K,max=7K', output: 300}", "--context p50=1K,max=7K --output 300"),
        ("{prompt: {1K: 50, 4K: 10}, output: 200}", "--context 1K:50,4K:10 --output 200"),
        (
            "{prompt: 4K, output: 200, shared_prefix: {2K: 60, 0: 40}, prefixes: 2, active: 25, quantile: 90}",
            "--context 4K --output 200 --shared-prefix 2K:60,0:40 --prefixes 2 --active 25 --quantile 90",
        ),
    ],
)
def test_a_plan_and_the_command_say_the_same(cli, tmp_path, workload, options):
    """8 GiB are 4,096 blocks of 16 tokens in bf16 (2 MiB each)."""
    said = json.loads(cli(f"traffic llama3-8b --blocks 4096 {options} --format json").stdout)
    users = said["users"]
    finding = checked(tmp_path, workload, users)
    assert (finding.max_sequences, finding.fits, finding.missing_bytes) == (users, True, 0)
    over = checked(tmp_path, workload, users + 1)
    assert (over.max_sequences, over.fits) == (users, False)
    assert over.missing_bytes > 0
    assert over.mixed.share == said["share_of_one_more"]
    assert "would fit" in over.advice


def test_one_length_is_what_tokens_say(tmp_path):
    finding = checked(tmp_path, "{prompt: 4000}", 16)
    assert (finding.needed_bytes, finding.fits) == ((16 * 250 + 1) * 2 * 2**20, True)
    assert (finding.max_sequences, finding.tokens) == (4095 // 250, 4000)
    assert finding.mixed.quantile == Fraction(99, 100)


def test_users_are_those_of_a_replica(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.format(users=33, workload="{prompt: 4000}") + "    dp: 2\n", "utf-8")
    finding = kvcalc.check(str(path)).findings[0]
    assert (finding.max_sequences, finding.fits) == (2 * 16, False)


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ("none.csv", "workload: .*none.csv: no such file"),
        ("{}", "workload: a workload has a trace or a prompt, and both are missing"),
        ("{trace: a.csv, prompt: 4}", "both are given"),
        ("{trace: a.csv, output: 4}", r"workload.output: a trace already has the outputs"),
        ("{prompts: 4}", r"workload.prompts: no field of a plan is called 'prompts'"),
        ("{prompt: 'p50=4K'}", r"workload.prompt: prompt has no max"),
        ("{prompt: {}}", r"workload.prompt: prompt has no lengths"),
        ("{prompt: 1K, active: 0}", r"workload.active: must be above 0 and at most 100 percent"),
        ("{prompt: 1K, quantile: 101}", r"workload.quantile: must be above 0 and at most 100 percent"),
        ("{prompt: 1K, shared_prefix: '0:1,2K'}", r"workload.shared_prefix: .* without a weight"),
        ("{prompt: 1K, shared_prefix: 2K}", "workload: a prompt of 1024 tokens is not longer than its shared prefix"),
        ("{prompt: 9K}", r"workload: a prompt of 9216 tokens is not shorter than max_model_len"),
        ("{prompt: 1K}\n    tokens: 4K", "tokens: tokens and workload are both given"),
    ],
)
def test_each_error_is_at_its_line(tmp_path, workload, words):
    with pytest.raises(KvcalcError, match=rf"plan.yaml:[78]: deployments\[0\].*{words}"):
        checked(tmp_path, workload)


def test_an_engine_with_one_context_refuses_it():
    entry = {"name": "a", "model": "llama3-8b", "engine": "llama_cpp", "budget": "8GB", "workload": {"prompt": "1K"}}
    report = kvcalc.check(entry)
    assert "has one context for all users, so a mix of lengths cannot be counted" in report.refused[0].sentence
