"""Many models, devices, layouts and traces: each as it is alone, wherever it is counted."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import kvcalc

TRACES = Path(__file__).parents[2] / "examples" / "traces"
MODELS = ["llama3-8b", "gpt-oss-20b"]
AT_8K = {"users": 20, "tokens": "8K", "gpu": ["l40s", "h100"]}
OF_TRACES = {"users": 500, "workload": [TRACES / "azure.csv", TRACES / "counts.jsonl"], "gpu": "l40s", "tp": 2}


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor


def test_each_workload_is_as_it_is_alone():
    report = kvcalc.fits(MODELS, **OF_TRACES)
    assert [(fit.report.model, Path(fit.trace).name) for fit in report.fits] == [
        (kvcalc.load(model).name, path.name) for model in MODELS for path in OF_TRACES["workload"]
    ]
    for fit in report.fits:
        assert fit.report == kvcalc.replicas(fit.report.model, **{**OF_TRACES, "workload": fit.trace})


@pytest.mark.parametrize("asked", [AT_8K, OF_TRACES], ids=["lengths", "traces"])
def test_workers_answer_as_one_process_does(processes, asked):
    assert kvcalc.fits(MODELS, **asked, executor=processes) == kvcalc.fits(MODELS, **asked)


def test_the_command_says_the_same(cli):
    line = f"fit {','.join(MODELS)} --gpu l40s,h100 --users 20 --tokens 8K -e vllm --format json"
    assert json.loads(cli(line).stdout) == json.loads(json.dumps(kvcalc.fits(MODELS, **AT_8K).to_dict()))
    line = f"fit {','.join(MODELS)} --gpu l40s --tp 2 --users 500 --workload {TRACES} -e vllm -f json"
    own = [TRACES / "azure.csv", TRACES / "counts.jsonl", TRACES / "mooncake.jsonl"]
    of_all = kvcalc.fits(MODELS, **{**OF_TRACES, "workload": own}).to_dict()
    assert json.loads(cli(line).stdout) == json.loads(json.dumps(of_all))


@pytest.mark.parametrize("tokens", ["8K", "4K"])
def test_each_length_is_as_the_table_of_one_model_has_it(cli, tokens):
    """`fit` of two devices prints every layout of one model; the first of them is what many models show."""
    one = json.loads(cli(f"fit llama3-8b --gpu l40s,h100 --users 20 --tokens {tokens} -e vllm -f json").stdout)
    (fit, _) = kvcalc.fits(MODELS, **{**AT_8K, "tokens": tokens}).to_dict()["fits"]
    assert json.loads(json.dumps(fit["layouts"])) == one


class Lost(ThreadPoolExecutor):
    """Workers that bring nothing back."""

    def submit(self, fn, /, *args, **kwargs):
        def lost() -> None:
            raise EOFError("gone")

        return super().submit(lost)


@pytest.mark.parametrize("asked", [AT_8K, OF_TRACES], ids=["lengths", "traces"])
def test_lost_workers_cost_no_result_and_are_said(asked):
    with Lost(1) as executor:
        report = kvcalc.fits(MODELS, **asked, executor=executor)
    number = len(MODELS) * len(asked.get("workload", [1]))
    assert report.fits == kvcalc.fits(MODELS, **asked).fits
    assert report.notes == (
        f"{number} of {number} parts failed on workers (EOFError) and had to be computed on this machine",
    )


def test_one_that_is_refused_keeps_no_other(cli):
    report = kvcalc.fits(MODELS, **{**AT_8K, "tokens": "32K"})
    assert [fit.report.model for fit in report.fits] == ["gpt-oss-20b"]
    assert [note.about for note in report.refused] == ["llama-3-8b"]
    assert "tokens exceeds max_model_len (8,192)" in report.refused[0].why
    with pytest.raises(kvcalc.NotApplicableError, match=r"tokens exceeds max_model_len \(8,192\)"):
        kvcalc.fits("llama3-8b", **{**AT_8K, "tokens": "32K"})
    shown = cli("fit llama3-8b,gpt-oss-20b --gpu l40s,h100 --users 20 --tokens 32K -e vllm -f csv")
    assert shown.code == 2
    assert "tokens exceeds max_model_len" in shown.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--as vllm --tokens 4K", "--as: this option is for one model and one workload"),
        ("--with qwen3-0.6b --tokens 4K", "--with: this option is for one model"),
        ("--weights 16GB --tokens 4K", "--weights: this option is for one model"),
        ("--tokens 4K -f svg", "--format"),
        ("--workload docs", "docs: no trace found"),
    ],
)
def test_what_is_asked_wrongly(cli, options, says):
    result = cli(f"fit {','.join(MODELS)} --gpu l40s --users 20 -e vllm {options}")
    assert (result.code, result.stdout) == (2, "")
    assert says in result.stderr
