"""Devices in `fit`, `check`, plans and the library: named, given by their memory, or refused by an engine."""

from __future__ import annotations

import json

import pytest

import kvcalc
from kvcalc.cli.options import GPU
from kvcalc.engines import ENGINES, Engine
from kvcalc.hardware import gpu_named
from kvcalc.io.plans import load_plan
from kvcalc.units import GB

LLAMA = kvcalc.load("llama-3.1-8b")
WEIGHTS = 16 * GB
PER_TOKEN = 131_072
FIT = "fit -p llama-3.1-8b --weights 16GB -t 8K"


def fit(**asked):
    return kvcalc.fit_gpus(LLAMA, weights_bytes=WEIGHTS, **asked)


@pytest.mark.parametrize(
    "gpu", ["h100", "4090", "mi300x", "m3-max-64gb", "arc-pro-b60", "tpu-v5p", "gaudi3", "gb10", "t4"]
)
def test_memory_less_weights_is_for_the_cache(gpu):
    report = fit(gpu=gpu)
    card = gpu_named(gpu)
    assert report.cache_bytes == card.memory_bytes - WEIGHTS
    assert report.max_tokens == max(0, (card.memory_bytes - WEIGHTS) // PER_TOKEN)
    assert (report.gpu_source, report.gpu_memory_from) == (card.source, card.memory_from)
    assert [note for note in report.notes if note.startswith("memory of")] == list(card.remarks())


@pytest.mark.parametrize("memory", ["64GB", 64 * GB])
def test_any_other_device_is_its_memory(memory):
    report = fit(memory=memory)
    assert (report.gpu_bytes, report.gpu_memory_from) == (64 * GB, "given")
    assert report.to_dict()["gpu"]["memory_from"] == "given"


def test_memory_of_a_gpu_may_be_given_and_its_kernels_stay():
    given = fit(gpu="4090", memory="48GB", engine="vllm")
    assert (given.gpu, given.gpu_bytes) == ("rtx-4090", 48 * GB)
    assert dict(given.engine_settings)["gpu"] == "rtx-4090@48GB"
    assert "memory of rtx-4090: given as 48GB" in given.notes
    assert fit(gpu="sm_89", memory="48GB", engine="vllm").max_tokens == given.max_tokens


def test_a_cpu_with_its_memory_is_a_device():
    taken = -(-64 * GB * 92 // 100)
    report = fit(gpu="cpu", memory="64GB", engine="vllm")
    assert (report.gpu, report.cache_bytes) == ("cpu", taken - WEIGHTS)
    assert fit(gpu="cpu", memory="64GB").cache_bytes == 64 * GB - WEIGHTS
    with pytest.raises(kvcalc.NotApplicableError, match="the memory of a CPU does not follow from its name"):
        fit(gpu="cpu", engine="vllm")
    with pytest.raises(kvcalc.NotApplicableError, match="cpu is not an NVIDIA GPU; kvcalc models SGLang's"):
        fit(gpu="cpu", memory="64GB", engine="sglang")


def test_neither_a_gpu_nor_memory_is_refused(cli):
    with pytest.raises(kvcalc.InvalidValueError, match="no GPU given"):
        fit()
    assert cli(FIT).stderr.startswith("--gpu: no GPU given\n")


def test_memory_without_a_unit_is_refused(cli):
    assert cli(f"{FIT} --memory 64").stderr.startswith("--memory: memory would be 64 bytes\n")


ADDED_UP = {"ideal", "llama-cpp", "mlx-lm", "ollama", "transformers"}
"""Engines whose caches are the same on any device."""


@pytest.mark.parametrize("name", ENGINES.names())
@pytest.mark.parametrize("gpu", ["mi300x", "m3-max-64gb", "gaudi3", "tpu-v5p", "64GB"])
def test_an_engine_answers_for_devices_whose_rules_are_known(name, gpu):
    if name in ADDED_UP:
        assert fit(gpu=gpu, engine=name).gpu_bytes == gpu_named(gpu).memory_bytes
        return
    title = Engine.of(name).TITLE
    with pytest.raises(kvcalc.NotApplicableError, match=f"NVIDIA GPU; kvcalc models {title}'s NVIDIA kernels only"):
        fit(gpu=gpu, engine=name)


@pytest.mark.parametrize("name", ["vllm", "sglang", "tensorrt_llm"])
def test_a_setting_names_a_device_as_an_option_does(name):
    with pytest.raises(kvcalc.NotApplicableError, match="mi300x is not an NVIDIA GPU"):
        kvcalc.size(LLAMA, tokens=1, engine=name, engine_settings={"gpu": "mi300x"})
    with pytest.raises(kvcalc.InvalidValueError, match="'a100' is ambiguous"):
        kvcalc.size(LLAMA, tokens=1, engine=name, engine_settings={"gpu": "a100"})


def test_two_names_of_a_gpu_do_not_contradict_each_other():
    same = fit(gpu="NVIDIA H100 80GB HBM3", engine="vllm", engine_settings={"gpu": "h100"})
    assert dict(same.engine_settings)["gpu"] == "h100-80gb"
    with pytest.raises(kvcalc.InvalidValueError, match="differs from the requested GPU"):
        fit(gpu="h200", engine="vllm", engine_settings={"gpu": "h100"})


PLAN = """\
deployments:
- {name: number, model: llama-3.1-8b, tokens: 8K, gpu: 4090, weights: 16GB}
- {name: label, model: llama-3.1-8b, tokens: 8K, gpu: NVIDIA-H100-80GB-HBM3-SHARED, weights: 16GB}
- {name: other, model: llama-3.1-8b, tokens: 8K, memory: 64GB, weights: 16GB, reserve: 1GB}
- {name: rebuilt, model: llama-3.1-8b, tokens: 8K, gpu: rtx-4090, memory: 48GB, weights: 16GB, reserve: 0, engine: vllm}
- {name: mac, model: llama-3.1-8b, tokens: 8K, gpu: apple-36gb, weights: 16GB, reserve: 0, engine: llama_cpp}
"""


def test_a_plan_names_devices_or_gives_their_memory(tmp_path, cli):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    available = [deployment.limit.available_bytes for deployment in load_plan(path)]
    taken = -(-48 * GB * 92 // 100)
    assert available == [
        gpu_named("4090").memory_bytes - WEIGHTS,
        gpu_named("h100").memory_bytes - WEIGHTS,
        64 * GB - WEIGHTS - GB,
        taken - WEIGHTS,
        28_991_029_248 - WEIGHTS,
    ]
    notes = [each["notes"] for each in json.loads(cli(f"check {path} --format json").stdout)["findings"]]
    assert "memory of rtx-4090: 24,210 MiB assumed; Windows reports 24,564 MiB" in notes[0]
    assert not [note for note in notes[1] + notes[2] if note.startswith("memory of")]
    assert "memory of rtx-4090: given as 48GB" in notes[3]
    assert any(note.startswith("memory of apple-36gb: assuming older macOS's limit") for note in notes[4])


def test_a_plan_with_an_engine_that_does_not_know_the_device_says_where(tmp_path, cli):
    path = tmp_path / "plan.yaml"
    path.write_text("deployments:\n- {name: a, model: r1, tokens: 1, engine: vllm,\n   gpu: mi300x, weights: 1GB}\n")
    outcome = cli(f"check {path}")
    assert outcome.code == 2
    assert "mi300x is not an NVIDIA GPU; kvcalc models vLLM's NVIDIA kernels only" in outcome.stderr


def test_a_log_is_explained_on_a_gpu_with_memory_of_its_own(cli):
    log = "explain-log tests/logs/vllm_qwen3_14b.log --preset qwen3-14b --weights 29.5GB --gpu"
    named, given = cli(f"{log} h100"), cli(f"{log} h100@85045477376B")
    assert named.code == given.code
    (row,) = [line for line in named.stdout.splitlines() if "left by the weights" in line]
    assert row in given.stdout.splitlines()


def test_the_shell_is_offered_names():
    assert {"h100", "h100-80gb", "h100-nvl"} <= set(GPU.offered("h100"))
    assert "auto" in GPU.offered("")


def test_words_list_devices_and_a_name_shows_one(cli):
    assert {each["vendor"] for each in json.loads(cli("gpus apple --format json").stdout)} == {"apple"}
    assert {each["architecture"] for each in json.loads(cli("gpus nvidia ada --format json").stdout)} == {"Ada"}
    assert json.loads(cli("gpus RTX 4090 --format json").stdout)["name"] == "rtx-4090"
    assert len(json.loads(cli("gpus a100 --format json").stdout)) == 5
    assert cli("gpus h300").code == 2


@pytest.mark.parametrize("gpu", kvcalc.gpus(), ids=lambda gpu: gpu.name)
def test_every_page_has_its_sources(cli, gpu):
    page = json.loads(cli(f"gpus {gpu.name} --format json").stdout)
    assert (page["memory_bytes"], page["memory_source"]) == (gpu.memory_bytes, gpu.source)
    assert gpu.name in cli(f"gpus {gpu.name}").stdout
