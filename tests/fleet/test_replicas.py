"""`kvcalc fit --workload`: replicas for users whose requests differ, against `fit` of one length and as laws."""

from __future__ import annotations

import json
from typing import Any

import pytest

import kvcalc

AZURE = "examples/traces/azure.csv"


@pytest.fixture
def replicas(cli, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)

    def ask(options: str, workload: str = AZURE) -> Any:
        return json.loads(cli(f"fit llama3-8b --workload {workload} {options} --format json").stdout)

    return ask


@pytest.mark.parametrize("engine", ["vllm", "sglang", "ideal"])
@pytest.mark.parametrize("tp", [1, 2])
def test_one_length_takes_as_many_as_fit_says(replicas, engine, tp):
    said = replicas(f"--gpu l40s --users 1000 -e {engine} --tp {tp}", "5000")
    fleet = next(each for each in said["fleets"] if each["replica"] == f"TP {tp}")
    one = kvcalc.fit_gpus("llama3-8b", gpu="l40s", tokens=5000, engine=engine, tp=tp)
    assert fleet["replica_users"] == one.max_sequences
    assert fleet["replicas"] == -(-1000 // one.max_sequences)
    assert fleet["gpus"] == tp * fleet["replicas"]
    assert (fleet["share"], said["fits"]) == (1.0, True)


def test_the_fewest_gpus_hold_all_users_and_one_fewer_does_not(replicas):
    said = replicas("--gpu h100,l40s --users 2000 -e vllm")
    best = said["fleets"][0]
    assert best["held"] >= 2000
    assert best["share"] >= 0.99
    assert [fleet["gpus"] for fleet in said["fleets"]] == sorted(fleet["gpus"] for fleet in said["fleets"])
    fewer, enough, *more = said["steps"]
    assert (fewer["gpus"], enough["gpus"]) == (best["gpus"] - 1, best["gpus"])
    assert fewer["users"] < 2000 <= enough["users"]
    assert fewer["share"] < 0.99
    users = [step["users"] for step in (fewer, enough, *more)]
    assert users == sorted(users)


def test_more_of_the_time_never_takes_fewer_gpus(replicas):
    gpus = [
        replicas(f"--gpu l40s --tp 2 --users 700 -e vllm --quantile {share}")["fleets"][0]["gpus"]
        for share in ("50", "99", "99.9", "100")
    ]
    assert gpus == sorted(gpus)
    assert gpus[0] < gpus[-1]


def test_requests_at_a_time_limit_a_replica(replicas):
    (fleet,) = replicas("--gpu h200 --users 2000 -e vllm --engine-set max_num_seqs=100 --tp 2", "1K")["fleets"]
    assert (fleet["replica_users"], fleet["binds"], fleet["replicas"]) == (100, "requests", 20)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--gpu l40s --users 900 -e vllm --workload 5000 --gpus 2", 1, "TOO LARGE for 2 GPUs"),
        ("--gpu l4 --users 1 -e vllm --workload 1K --weights 900GB", 1, "no layout tried holds even one user"),
        ("--gpu l4 --users 1 -e vllm --workload 9K", 2, "--workload: a prompt of 9216 tokens is not shorter"),
        ("--gpu l4 --users 1 -e vllm --workload 1K --tokens 1K", 2, "--tokens: --workload already gives the length"),
        ("--gpu h100 --users 1 -e vllm --workload 1K --ep 2 --tp 2", 2, "--ep: --ep shares experts among replicas"),
        (
            "--gpu h100 --users 1 -e vllm --workload 1K --active 0",
            2,
            "--active: must be above 0 and at most 100 percent",
        ),
        ("--gpu h100 --users 1 --output 5", 2, "--output: this option needs --workload"),
        (
            "--gpu h100 --users 1 -e llama_cpp --workload 1K",
            2,
            "has one context for all users, so a mix of lengths cannot be counted",
        ),
    ],
)
def test_what_does_not_fit_and_what_is_refused(cli, options, code, words):
    outcome = cli(f"fit llama3-8b {options}", columns=120)
    assert outcome.code == code
    assert words in outcome.stdout + outcome.stderr
