"""Command lines of engines in plans: what `check` makes of them."""

from __future__ import annotations

import json

import pytest

SERVE = "vllm serve deepseek-ai/DeepSeek-R1"

ROW = f"""deployments:
  - name: served
    args: {SERVE} --tensor-parallel-size 8 --kv-cache-dtype fp8 --max-model-len 32K
    concurrency: 30
    gpu: h200
    weights: 671GB
"""


def checked(cli, tmp_path, text: str):
    plan = tmp_path / "plan.yaml"
    plan.write_text(text)
    outcome = cli(f"check {plan} --format json")
    assert "Traceback" not in outcome.stderr
    return outcome, plan


def finding(cli, tmp_path, text: str) -> dict:
    outcome, _ = checked(cli, tmp_path, text)
    (only,) = json.loads(outcome.stdout)["findings"]
    return only


def test_a_command_line_is_a_deployment(cli, tmp_path):
    found = finding(cli, tmp_path, ROW)
    # fp8 latents on Hopper: 61 layers x 64 tokens x 576 bytes a block; 30 requests of 512 blocks and the null block
    assert found["needed_bytes"] == (30 * 512 + 1) * 61 * 64 * 576
    assert found["available_bytes"] == 138_102_114_878 - 83_875_000_000
    assert (found["model"], found["engine"], found["parallel"]) == ("deepseek-r1", "vllm", "TP 8")
    assert found["workload"] == {"tokens": 32_768, "sequences": 30, "kv_dtype": "fp8"}
    assert found["max_sequences"] == (54_227_114_878 // (61 * 64 * 576) - 1) // 512


def test_fields_and_command_lines_say_the_same(cli, tmp_path):
    by_fields = """deployments:
  - name: served
    model: r1
    engine: vllm
    engine_settings: {kv_cache_dtype: fp8, max_model_len: 32768}
    tokens: 32K
    sequences: 30
    gpu: NVIDIA H200
    gpus: 8
    tp: 8
    weights: 671GB
"""
    own, other = finding(cli, tmp_path, ROW), finding(cli, tmp_path, by_fields)
    assert own == other


def test_the_models_of_arguments_are_presets_repositories_or_paths(cli, tmp_path):
    (tmp_path / "mine").mkdir()
    config = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 40_000}))
    for name, model in {"./mine": "mine", "openai/gpt-oss-20b": "gpt-oss-20b", "llama3-8b": "llama-3-8b"}.items():
        text = ROW.replace("deepseek-ai/DeepSeek-R1", name).replace(
            "--kv-cache-dtype fp8 --max-model-len 32K", "--max-model-len 2K"
        )
        text = text.replace("--tensor-parallel-size 8 ", "").replace("671GB", "1GB")
        assert finding(cli, tmp_path, text)["model"] == model


def test_weights_of_a_plan_may_be_a_file_beside_it(cli, tmp_path):
    index = {"metadata": {"total_size": 671 * 10**9}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    by_file = finding(cli, tmp_path, ROW.replace("671GB", "model.safetensors.index.json"))
    assert by_file == finding(cli, tmp_path, ROW)
    published = finding(cli, tmp_path, ROW.replace("    weights: 671GB\n", ""))
    assert published["available_bytes"] == by_file["available_bytes"] - (688_586_727_753 - 671 * 10**9 + 7) // 8
    assert published["notes"][-1].endswith("as published (deepseek-ai/DeepSeek-R1 at 56d4cbbb4d29, safetensors files)")


PLAN_ERRORS = {
    "an unknown repository": (
        ROW.replace("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R9"),
        "{file}:3: deployments[0].args: no repository called deepseek-ai/DeepSeek-R9 is known here, and its name "
        "alone does not say what it caches\nhelp: did you mean 'deepseek-",
    ),
    "a flag that is refused": (
        ROW.replace("--kv-cache-dtype fp8", "--enable-dbo"),
        "{file}:3: deployments[0].args: --enable-dbo: two batches at a time change what is in flight",
    ),
    "another engine": (
        ROW + "    engine: sglang\n",
        "{file}:3: deployments[0].args: these are arguments of vllm, and the engine is sglang\nhelp: leave engine out",
    ),
    "another layout": (
        ROW + "    tp: 4\n",
        "{file}:7: deployments[0].tp: tp (4) is not what args say (8)\nhelp: give it in one place",
    ),
    "another setting": (
        ROW + "    engine_settings: {kv_cache_dtype: auto}\n",
        "{file}:7: deployments[0].engine_settings: kv_cache_dtype ('auto') is not what args say ('fp8')\nhelp: give",
    ),
    "other GPUs than ranks": (
        ROW + "    gpus: 4\n",
        "{file}:7: deployments[0].gpus: 4 GPUs are not the 8 of tp 8 x pp 1 x dp 1\nhelp: say how they share",
    ),
    "users said twice": (
        ROW + "    sequences: 4\n",
        "{file}:4: deployments[0].concurrency: sequences and concurrency are both given, and are the same\nhelp: give",
    ),
    "no users": (ROW.replace("30", "0"), "{file}:4: deployments[0].concurrency: concurrency must be at least 1, not 0"),
    "neither model nor arguments": (
        "deployments:\n  - name: a\n    tokens: 1\n    budget: 1GB\n",
        "{file}:2: deployments[0]: model is missing\nhelp: add model",
    ),
    "ranks that the model cannot be shared by": (
        ROW.replace("size 8", "size 3"),
        "{file}:2: deployments[0]: Total number of attention heads (128) must be divisible by tensor parallel size (3)",
    ),
    "a request longer than the server takes": (
        ROW + "    tokens: 64K\n",
        "{file}:2: deployments[0]: a request of 65,536 tokens is longer than max_model_len (32,768)\nhelp: ask for",
    ),
    "a share said twice": (
        ROW.replace("--kv-cache-dtype fp8", "--gpu-memory-utilization 0.9") + "    gpu_memory_utilization: 0.8\n",
        "{file}:3: deployments[0].args: utilization and gpu_memory_utilization are both given, and are the same",
    ),
    "a degree that is none": (ROW + "    dp: 0\n", "{file}:7: deployments[0].dp: dp must be at least 1, not 0"),
    "weights that are not there": (
        ROW.replace("671GB", "weights/model.safetensors"),
        "{file}:6: deployments[0].weights: ",
    ),
}


@pytest.mark.parametrize(("text", "message"), PLAN_ERRORS.values(), ids=list(PLAN_ERRORS))
def test_a_wrong_row_is_explained_at_its_line(cli, tmp_path, text, message):
    outcome, plan = checked(cli, tmp_path, text)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(message.replace("{file}", str(plan)))
    assert outcome.stderr.splitlines()[-1].startswith("help: ")
