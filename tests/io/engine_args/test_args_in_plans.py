"""Command lines of engines in plans: what `check` makes of them."""

from __future__ import annotations

import json

import pytest

import kvcalc

SERVE = "vllm serve deepseek-ai/DeepSeek-R1"

ROW = f"""deployments:
  - name: served
    args: {SERVE} --tensor-parallel-size 8 --kv-cache-dtype fp8 --max-model-len 32K
    concurrency: 30
    gpu: h200
    weights: 671GB
    reserve: 0
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
    available = found["available_bytes"]
    assert 0 < 138_102_114_878 - 83_875_000_000 - available < 2 * 10**9  # down-projections, which every rank has whole
    assert (found["model"], found["engine"], found["parallel"]) == ("deepseek-r1", "vllm", "TP 8")
    assert found["workload"] == {"tokens": 32_768, "sequences": 30, "kv_dtype": "fp8"}
    assert found["max_sequences"] == (available // (61 * 64 * 576) - 1) // 512


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
    reserve: 0
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
    assert by_file["notes"][0].endswith("read from model.safetensors.index.json")
    assert "without" in by_file["notes"][1]  # layers of multi-token prediction, of what files hold
    assert by_file["available_bytes"] > finding(cli, tmp_path, ROW)["available_bytes"]
    published = finding(cli, tmp_path, ROW.replace("    weights: 671GB\n", ""))
    more = by_file["available_bytes"] - published["available_bytes"]
    assert abs(more * 8 / (688_586_727_753 - 671 * 10**9) - 1) < 0.02  # of the whole, less what is not loaded
    assert "as published (deepseek-ai/DeepSeek-R1 at 56d4cbbb4d29, safetensors files)" in published["notes"][0]


def plan_of(**fields: object) -> str:
    return json.dumps({"deployments": [{"name": "a", "budget": "40GiB", **fields}]})


def test_the_layer_of_an_eagle_is_one_more_layer(cli, tmp_path):
    """vLLM's planner takes a draft's layer as an ordinary one: 32 + 1 layers of 513 blocks of 16 tokens."""
    config = {"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 32, "num_key_value_heads": 8}
    (tmp_path / "eagle").mkdir()
    (tmp_path / "eagle" / "config.json").write_text(json.dumps(config | {"hidden_size": 4096}))
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 8192"
    drafts = '{"method": "eagle3", "model": "./eagle", "num_speculative_tokens": 3}'
    found = finding(cli, tmp_path, plan_of(args=f"{line} --speculative-config '{drafts}'"))
    assert found["needed_bytes"] == 33 * 513 * 16 * 2 * 8 * 128 * 2
    assert "1 draft layer of eagle, planned as layers of this model" in found["notes"]
    assert finding(cli, tmp_path, plan_of(args=line))["needed_bytes"] == 32 * 513 * 16 * 2 * 8 * 128 * 2


def test_a_whole_model_drafts(cli, tmp_path):
    """80 layers of 8 heads of 128 and 16 of 8 of 64, 513 blocks of 16 tokens; weights of both on each of 4 GPUs."""
    line = "vllm serve meta-llama/Llama-3.1-70B-Instruct -tp 4 --max-model-len 8192"
    drafts = '{"model": "meta-llama/Llama-3.2-1B-Instruct", "num_speculative_tokens": 5}'
    drafted = f"{line} --speculative-config '{drafts}'"
    found = finding(cli, tmp_path, plan_of(args=drafted))
    assert found["needed_bytes"] == 513 * 16 * 2 * 2 * 2 * (80 * 128 + 16 * 64)
    assert "16 draft layers of llama-3.2-1b, planned as layers of this model" in found["notes"]
    on_gpu = {"budget": None, "gpu": "h100-80gb", "reserve": 0}
    with_both, alone = (finding(cli, tmp_path, plan_of(args=each, **on_gpu)) for each in (drafted, line))
    less = alone["available_bytes"] - with_both["available_bytes"]
    copied = (2 * 16 + 1) * 2048 * 2  # two norms a layer and the last, which every rank holds whole
    assert less == pytest.approx((2_471_628_800 - copied) / 4 + copied, rel=1e-3)


def test_weights_of_a_draft_that_nobody_says_are_asked_for(cli, tmp_path):
    config = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 8}
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text(json.dumps(config | {"hidden_size": 4096}))
    drafts = '{"method": "eagle3", "model": "./own", "num_speculative_tokens": 3}'
    line = f"vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 8192 --speculative-config '{drafts}'"
    outcome, plan = checked(cli, tmp_path, plan_of(args=line, budget=None, gpu="h100-80gb"))
    assert outcome.code == 2
    assert outcome.stderr.startswith(
        f"{plan}:1: deployments[0].args: draft model own: weights size unknown\nhelp: include them in reserve"
    )
    assert finding(cli, tmp_path, plan_of(args=line, budget=None, gpu="h100-80gb", reserve="4GB"))["fits"]


def test_replicas_share_experts_and_not_the_cache(cli, tmp_path):
    """62 layers x 8 KV heads x 128 x 2 x 2 bytes, 16,384 blocks of 16 tokens and the null block."""
    line = "vllm serve Qwen/Qwen3-Coder-480B-A35B-Instruct -dp 8 --enable-expert-parallel --max-model-len 262144"
    assert finding(cli, tmp_path, plan_of(args=line))["needed_bytes"] == 62 * 16_385 * 16 * 2 * 8 * 128 * 2


def test_experts_of_replicas_are_divided_where_the_tensors_are_known(cli, tmp_path):
    """vLLM's ranks of two replicas each hold an eighth of attention and a sixteenth of the experts."""
    line = (
        "vllm serve r1 --tensor-parallel-size 8 --data-parallel-size 2 --enable-expert-parallel --max-model-len 32768"
    )
    found = finding(cli, tmp_path, plan_of(args=line, concurrency=2).replace('"budget": "40GiB"', '"gpu": "h200"'))
    one = kvcalc.fit_gpus("r1", gpu="h200", tp=8, dp=2, ep=16, engine="vllm", tokens=32_768, batch=2)
    assert found["parallel"] == "TP 8, DP 2, EP 16"
    assert found["available_bytes"] == one.cache_bytes


def test_groups_of_attention_hold_whole_latents(cli, tmp_path):
    """tp 8 with dp 8 and DP attention: each rank holds the latents of its own requests."""
    line = "python -m sglang.launch_server --model-path r1 --tp 8 --dp 8 --enable-dp-attention --context-length 32768"
    found = finding(cli, tmp_path, plan_of(args=line, concurrency=8))
    assert found["parallel"] == "DP 8"
    assert found["needed_bytes"] >= 61 * 32_768 * 576 * 2


def test_ollama_makes_the_context_that_its_variables_say(cli, tmp_path):
    """num_ctx x num_parallel cells: 32 layers x 8 KV heads x 128 x 2 x 2 bytes."""
    cells = 32 * 8 * 128 * 2 * 2
    line = "OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_NUM_PARALLEL=2 ollama run llama3.1:8b"
    assert finding(cli, tmp_path, plan_of(args=line))["needed_bytes"] == 16_384 * cells
    alone = finding(cli, tmp_path, plan_of(args="ollama run llama3.1:8b"))
    assert alone["needed_bytes"] == 4096 * cells
    assert alone["notes"][-1] == "no tokens given: using Ollama's context of 4,096"


def test_the_version_of_an_image_counts(cli, tmp_path):
    """vLLM 0.11 has one batch in flight: 18 x 131,072 x 2,048 + 18 x 73 blocks x 32,768, vllm-project/vllm#27508.

    The null block of the pool is one more.
    """
    more = "--model openai/gpt-oss-120b --max-num-batched-tokens 1024 --max-model-len 131072"
    found = finding(cli, tmp_path, plan_of(args=f"docker run --gpus all vllm/vllm-openai:v0.11.0 {more}"))
    assert found["needed_bytes"] == 18 * 131_072 * 2048 + 18 * (73 + 1) * 32_768
    old = finding(cli, tmp_path, plan_of(args=f"docker run vllm/vllm-openai:v0.5.2 {more}"))
    assert any(note.startswith("vLLM 0.5.2 is outside the known versions") for note in old["notes"])


def test_weights_on_the_host_leave_room(cli, tmp_path):
    with_gpu = ROW.replace("--kv-cache-dtype fp8", "--cpu-offload-gb {}")
    none, some = (finding(cli, tmp_path, with_gpu.format(gib)) for gib in (0, 10))
    assert some["available_bytes"] - none["available_bytes"] == 10 * 2**30


def test_lengths_beyond_the_config_are_taken_where_the_command_lifts_them(cli, tmp_path):
    line = "vllm serve Qwen/Qwen3-8B --max-model-len 131072"
    rope = """ --hf-overrides '{"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}'"""
    outcome, _ = checked(cli, tmp_path, plan_of(args=line))
    assert (outcome.code, "longer" in outcome.stderr or "greater" in outcome.stderr) == (2, True)
    for lifted in (line + rope, "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 " + line):
        assert finding(cli, tmp_path, plan_of(args=lifted))["needed_bytes"] == 36 * 8193 * 16 * 2 * 8 * 128 * 2


def test_arguments_may_be_a_list_of_words(cli, tmp_path):
    words = ["vllm", "serve", "r1", "--tensor-parallel-size", "8", "--max-model-len", "32K"]
    assert finding(cli, tmp_path, plan_of(args=words)) == finding(cli, tmp_path, plan_of(args=" ".join(words)))


@pytest.mark.parametrize(
    "args",
    [{"HF_TOKEN": "hf_abcdefghij"}, [["hf_abcdefghij"]], ["vllm", "serve", "r1", "hf_abcdefghij"], "sk-abcdefghij x"],
)
def test_no_word_of_args_is_quoted_back(cli, tmp_path, args):
    outcome, _ = checked(cli, tmp_path, plan_of(args=args))
    assert outcome.code == 2
    assert "abcdefghij" not in outcome.stdout + outcome.stderr


PLAN_ERRORS = {
    "an unknown repository": (
        ROW.replace("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R9"),
        "{file}:3: deployments[0].args: deepseek-ai/DeepSeek-R9 is not a known repository, and its name alone does not determine its cache\nhelp: did you mean 'deepseek-",
    ),
    "a flag that is refused": (
        ROW.replace("--kv-cache-dtype fp8", "--enable-dbo"),
        "{file}:3: deployments[0].args: --enable-dbo: two concurrent batches change what is in flight",
    ),
    "experts of replicas on a GPU": (
        ROW.replace("--kv-cache-dtype fp8", "--enable-expert-parallel -dp 2").replace(
            "deepseek-ai/DeepSeek-R1", "kimi-k3"
        ),
        "{file}:3: deployments[0].args: --enable-expert-parallel: replicas then divide the experts, and no GPU holds all weights of its rank\nhelp: give a budget for the cache",
    ),
    "adapters without a reserve": (
        ROW.replace("--kv-cache-dtype fp8", "--enable-lora")
        .replace("    reserve: 0\n", "")
        .replace("deepseek-ai/DeepSeek-R1", "qwen3-next-80b-a3b"),
        "{file}:3: deployments[0].args: --enable-lora: adapters take memory in addition to the weights; the cache is unchanged"
        "\nhelp: add reserve: and their bytes",
    ),
    "a draft that is not known": (
        ROW.replace("--kv-cache-dtype fp8", "--speculative-config.method eagle3 --speculative-config.model a/b"),
        "{file}:3: deployments[0].args: a/b is not a known repository",
    ),
    "a draft of layers that are not known": (
        ROW.replace("--kv-cache-dtype fp8", "--speculative-config.method medusa --speculative-config.model qwen3-8b"),
        "{file}:3: deployments[0].args: kvcalc does not know what layers of qwen3-8b cache under the speculative method "
        "'medusa'\nhelp: use draft_model, eagle, eagle3, dflash or mtp",
    ),
    "a draft without an algorithm": (
        ROW.replace(SERVE, "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-R1").replace(
            "--tensor-parallel-size 8 --kv-cache-dtype fp8 --max-model-len 32K",
            "--tp 8 --speculative-draft-model-path qwen3-8b",
        ),
        "{file}:3: deployments[0].args: qwen3-8b drafts, and speculative_algorithm does not say how\n"
        "help: set speculative_algorithm, for example EAGLE3",
    ),
    "an engine that is not modelled": (
        "deployments:\n  - name: a\n    args: text-generation-launcher --model-id r1\n    budget: 1GB\n",
        "{file}:3: deployments[0].args: TGI: TGI is not modelled; what decides its cache is max-total-tokens",
    ),
    "another engine": (
        ROW + "    engine: sglang\n",
        "{file}:3: deployments[0].args: these are arguments of vllm, but the engine is sglang\nhelp: remove engine",
    ),
    "another layout": (
        ROW + "    tp: 4\n",
        "{file}:8: deployments[0].tp: tp (4) differs from args (8)\nhelp: give it in one place",
    ),
    "another setting": (
        ROW + "    engine_settings: {kv_cache_dtype: auto}\n",
        "{file}:8: deployments[0].engine_settings: kv_cache_dtype ('auto') differs from args ('fp8')\nhelp: give",
    ),
    "other GPUs than ranks": (
        ROW + "    gpus: 4\n",
        "{file}:8: deployments[0].gpus: 4 GPUs, but tp 8 x pp 1 x dp 1 needs 8\nhelp: say how they share",
    ),
    "users said twice": (
        ROW + "    sequences: 4\n",
        "{file}:4: deployments[0].concurrency: sequences and concurrency are the same field, and both are given\nhelp: give",
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
        "{file}:2: deployments[0]: a request of 65,536 tokens exceeds max_model_len (32,768)\nhelp: use at most",
    ),
    "a share said twice": (
        ROW.replace("--kv-cache-dtype fp8", "--gpu-memory-utilization 0.9") + "    gpu_memory_utilization: 0.8\n",
        "{file}:3: deployments[0].args: utilization and gpu_memory_utilization are the same setting, and both are given",
    ),
    "a degree that is none": (ROW + "    dp: 0\n", "{file}:8: deployments[0].dp: dp must be at least 1, not 0"),
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
