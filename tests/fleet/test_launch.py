"""Command lines and manifests that `fit --as` prints: read back, they are the layout and the numbers that were chosen."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml

TRIPS = {
    "vllm, tensor-parallel": ("qwen3-32b", "vllm", "h100", "--gpus 4 --tp 4 --tokens 32K --users 8"),
    "vllm, stages": ("qwen3-32b", "vllm", "h100", "--gpus 4 --pp 4 --tokens 32K --users 8 --dtype fp8"),
    "vllm, the best of many": ("qwen3-32b", "vllm", "h100", "--gpus 1-8 --tokens 32K --users 8"),
    "vllm, latents shared by tokens": ("r1", "vllm", "h200", "--gpus 8 --tp 8 --dcp 8 --tokens 32K"),
    "vllm, experts of replicas": ("r1", "vllm", "h200", "--gpus 16 --tp 8 --dp 2 --ep 16 --tokens 32K --users 2"),
    "vllm, settings": (
        "qwen3-8b",
        "vllm",
        "h100",
        "--tokens 16K --engine-set max_num_seqs=64 --engine-set gpu_memory_utilization=0.85 "
        "--engine-set enable_prefix_caching=false",
    ),
    "vllm, other weights": ("qwen3-32b", "vllm", "l40s", "--weights-dtype awq --tokens 8K"),
    "sglang, tensor-parallel": ("qwen3-32b", "sglang", "h100", "--gpus 4 --tp 4 --tokens 32K --users 8"),
    "sglang, replicas": ("qwen3-8b", "sglang", "h100", "--gpus 2 --dp 2 --tokens 32K --users 8"),
    "sglang, the best of many": ("qwen3-32b", "sglang", "h100", "--gpus 1-8 --tokens 32K --users 8"),
    "llama.cpp": ("qwen3-8b", "llama-server", "4090", "--weights-dtype q4_k_m --tokens 32K --users 4"),
    "llama.cpp, 8 bits": ("qwen3-8b", "llama-server", "4090", "--weights-dtype q8_0 --dtype q8_0 --tokens 32K"),
}


def answered(cli, model: str, server: str, gpu: str, line: str) -> dict:
    """Layout and numbers of the row that --as writes."""
    engine = "llama_cpp --engine-set defaults=server" if server == "llama-server" else server
    found = json.loads(cli(f"fit {model} -e {engine} --gpu {gpu} {line} --format json").stdout)
    return found["choices"][0] if "choices" in found else found | {"kv_dtype": found["workload"]["kv_dtype"]}


def checked(cli, tmp_path, text: str, name: str, gpu: str, form: str = "") -> list[dict]:
    file = tmp_path / name
    file.write_text(text)
    outcome = cli(["check", str(file), "--gpu", gpu, "--format", "json", *shlex.split(form)])
    assert outcome.code in (0, 1), outcome.stderr + outcome.stdout
    return json.loads(outcome.stdout)["findings"]


@pytest.mark.parametrize(("model", "server", "gpu", "line"), TRIPS.values(), ids=TRIPS)
def test_a_command_line_is_read_back_as_the_layout_and_the_numbers(cli, tmp_path, model, server, gpu, line):
    best = answered(cli, model, server, gpu, line)
    written = cli(f"fit {model} --gpu {gpu} {line} --as {server}")
    assert (written.code, written.stderr, written.stdout.count("\n")) == (0, "", 1)
    (found,) = checked(cli, tmp_path, written.stdout, "run.sh", gpu)
    assert (found["parallel"] or "TP 1") == best["parallel"]
    assert found["available_bytes"] == best["cache_bytes"]
    assert found["workload"]["tokens"] == 32_768 or "8K" in line or "16K" in line
    if server != "llama-server":
        assert found["max_sequences"] == best["max_sequences"]
    if server == "vllm":
        assert found["workload"]["kv_dtype"] == best["kv_dtype"]


@pytest.mark.parametrize("form", ["compose", "kubernetes"])
@pytest.mark.parametrize("server", ["vllm", "sglang"])
def test_a_manifest_is_read_back_as_the_layout_and_the_numbers(cli, tmp_path, server, form):
    line = "--gpus 4 --tp 4 --tokens 32K --users 8"
    best = answered(cli, "qwen3-32b", server, "h100", line)
    text = cli(f"fit qwen3-32b -e {server} --gpu h100 {line} --as {form}").stdout
    assert yaml.safe_load(text)
    name = "docker-compose.yaml" if form == "compose" else "k8s.yaml"
    (found,) = checked(cli, tmp_path, text, name, "h100")
    for field, same in (
        ("parallel", "parallel"),
        ("available_bytes", "cache_bytes"),
        ("max_sequences", "max_sequences"),
    ):
        assert found[field] == best[same]
    (deployed,) = json.loads(cli(f"deployments {tmp_path / name} --format json").stdout)["deployments"]
    assert (deployed["gpus"], deployed["engine"], deployed["model"]) == (4, server, "Qwen/Qwen3-32B")


def test_replicas_are_pods_of_their_own(cli, tmp_path):
    line = "--gpus 8 --tp 4 --dp 2 --tokens 32K --users 8"
    whole = answered(cli, "qwen3-32b", "vllm", "h100", line)
    text = cli(f"fit qwen3-32b -e vllm --gpu h100 {line} --as kubernetes").stdout
    (found,) = checked(cli, tmp_path, text, "k8s.yaml", "h100")
    (deployed,) = json.loads(cli(f"deployments {tmp_path / 'k8s.yaml'} --format json").stdout)["deployments"]
    assert (deployed["replicas"], deployed["gpus"], found["parallel"]) == (2, 4, "TP 4")
    assert found["max_sequences"] * 2 == whole["max_sequences"]


ERRORS = {
    "a form that is not known": (
        "fit r1 --gpu h200 --as helm",
        "--as: no launch format is called 'helm'\nhelp: known: compose, kubernetes, llama-server, sglang, vllm\n",
    ),
    "another engine": (
        "fit qwen3-8b --gpu h100 -e sglang --as vllm",
        "--as: --as vllm conflicts with --engine sglang\nhelp: remove --engine, or use --engine vllm\n",
    ),
    "an engine whose command lines are not written": (
        "fit qwen3-8b --gpu h100 -e lmdeploy --as compose --tokens 8K",
        "--as: kvcalc writes command lines for vllm, sglang, llama-server, but the engine is lmdeploy\n"
        "help: name one: --engine vllm\n",
    ),
    "more than a node": (
        "fit r1 --gpu h200 -e vllm --tp 8 --pp 2 --as kubernetes --tokens 8K",
        "--as: TP 8, PP 2 takes 16 GPUs, but --as kubernetes writes one node of 8\n"
        "help: print only the command: --as vllm; or choose another layout: --tp 8\n",
    ),
    "no GGUF": (
        "fit qwen3-8b --gpu 4090 --as llama-server --tokens 8K",
        "--as: llama-server needs GGUF files, but these weights are bf16\n"
        "help: choose a format: --weights-dtype q4_k_m, or name the file\n",
    ),
    "a setting without a flag": (
        "fit llama-3.1-8b --gpu h100 -e vllm --engine-set pp_layer_partition=16,16 --pp 2 --as vllm --tokens 8K",
        "--as: vLLM has no flag for pp_layer_partition ([16, 16])\n"
        "help: remove pp_layer_partition, or set it where you start the engine\n",
    ),
    "a method": (
        "fit llama-3.1-8b --gpu h100 -e vllm --attention mqa --weights 16GB --as vllm --tokens 8K",
        "--as: no flag applies mqa to the model\nhelp: remove --method and --attention\n",
    ),
    "weights without a known repository": (
        "fit aya-23-8b --gpu h100 -e vllm --weights-dtype nvfp4 --as vllm --tokens 8K",
        "--as: no known repository of aya-23-8b in nvfp4 to start\nhelp: name the model by its repository or path\n",
    ),
    "experts by another engine": (
        "fit r1 --gpu h200 -e sglang --tp 8 --dp 2 --ep 16 --as sglang --tokens 8K",
        "--as: kvcalc knows no SGLang arguments for EP 16 in TP 8, DP 2, EP 16\n"
        "help: choose a layout without EP: --tp, --pp, --dp\n",
    ),
}


@pytest.mark.parametrize(("line", "error"), ERRORS.values(), ids=ERRORS)
def test_what_cannot_be_written_is_refused_with_the_reason(cli, line, error):
    outcome = cli(line)
    assert (outcome.stdout, outcome.stderr, outcome.code) == ("", error, 2)


def test_what_does_not_fit_is_shown_and_not_started(cli):
    outcome = cli("fit r1 --gpu 4090 -e vllm --gpus 1,2 --tokens 8K --as vllm")
    assert outcome.code == 1
    assert "vllm serve" not in outcome.stdout
