"""Command lines of engines in plans: what each flag sets, what is told, and what is refused by name."""

from __future__ import annotations

import json

import pytest

from kvcalc.engines import Engine
from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.io.engine_args import PROGRAMS, program_of, read_arguments

SERVE = "vllm serve deepseek-ai/DeepSeek-R1"


def test_a_command_line_is_read_as_settings_layout_and_model():
    arguments = read_arguments(
        f"{SERVE} --tensor-parallel-size 8 --pipeline-parallel-size=2 -dp 2 --kv-cache-dtype fp8 --max-model-len 128K "
        "--gpu-memory-utilization 0.85 --max_num_seqs 256 --no-enable-prefix-caching --async-scheduling --block-size 64 "
        """--speculative-config '{"method": "mtp", "num_speculative_tokens": 1}' --port 8000 --trust-remote-code"""
    )
    assert arguments.engine == "vllm"
    assert arguments.model == "deepseek-ai/DeepSeek-R1"
    assert arguments.layout == {"tp": 8, "pp": 2, "dp": 2}
    assert arguments.settings == {
        "kv_cache_dtype": "fp8",
        "max_model_len": 131_072,
        "gpu_memory_utilization": 0.85,
        "max_num_seqs": 256,
        "enable_prefix_caching": False,
        "async_scheduling": True,
        "block_size": 64,
        "speculative": {"method": "mtp", "num_speculative_tokens": 1},
    }
    assert arguments.unknown == ()


@pytest.mark.parametrize(
    ("written", "tokens"),
    [("-1", -1), ("auto", -1), ("8k", 8000), ("8K", 8192), ("25.6k", 25_600), ("131072", 131_072)],
)
def test_lengths_are_read_as_vllm_reads_them(written, tokens):
    """utils/argparse_utils.py, human_readable_int: lower case is decimal, upper case binary."""
    assert read_arguments(f"{SERVE} --max-model-len {written}").settings["max_model_len"] == tokens
    assert read_arguments(f"{SERVE} --max-model-len={written}").settings["max_model_len"] == tokens


def test_variables_before_the_command_count_too():
    arguments = read_arguments(f"VLLM_PP_LAYER_PARTITION=31,30 CUDA_VISIBLE_DEVICES=0,1 /usr/bin/{SERVE} -pp 2")
    assert arguments.settings == {"pp_layer_partition": [31, 30]}
    assert arguments.unknown == ("CUDA_VISIBLE_DEVICES",)


def test_arguments_alone_are_those_of_the_engine_that_is_named():
    assert read_arguments("--tp 8 --model x", "sglang").layout == {"tp": 8}
    assert (
        read_arguments("-np 4 -c 8K", "llama_cpp").tokens == read_arguments("-np 4 -c 8K", "llama-cpp").tokens == 8192
    )


def test_an_unknown_flag_takes_its_value_along():
    arguments = read_arguments("vllm serve --colour teal --temperament -1 --tune=abc deepseek-ai/DeepSeek-R1")
    assert arguments.model == "deepseek-ai/DeepSeek-R1"
    assert arguments.unknown == ("--colour", "--temperament", "--tune")


@pytest.mark.parametrize("engine", PROGRAMS.names())
def test_every_flag_sets_something_that_the_engine_has(engine):
    program, settings = program_of(engine), Engine.of(engine).settings_by_name()
    others = {"model", "tokens", "tp", "pp", "dp", "dcp"}
    for flag in (*program.flags.values(), *program.environment.values()):
        assert flag.to in {*settings, *others}
    known = set(program.flags)
    assert not known & (program.switches | program.harmless | set(program.refused))
    assert not set(program.refused) & (program.switches | program.harmless)


REFUSED = {
    "a flag that is known to matter": (
        f"{SERVE} --cpu-offload-gb 10",
        "--cpu-offload-gb: it keeps weights in the host's memory, and which is not known here",
    ),
    "a flag by its family": (
        f"{SERVE} --kv-transfer-config.kv_connector NixlConnector",
        "--kv-transfer-config.kv_connector: a connector may change the layout and the block size",
    ),
    "a flag that sounds as if it did": (
        f"{SERVE} --kv-cache-shrink-ray 3",
        "--kv-cache-shrink-ray: what it does to memory is not known here",
    ),
    "a variable that does": (
        f"VLLM_KV_CACHE_LAYOUT=HND {SERVE}",
        "VLLM_KV_CACHE_LAYOUT: what it does to memory is not known here",
    ),
    "a switch turned off": (
        f"{SERVE} --no-enable-chunked-prefill",
        "--no-enable-chunked-prefill: whole prompts make batches longer; give --max-num-batched-tokens in its place",
    ),
    "experts among replicas": (
        f"{SERVE} --enable-expert-parallel --data-parallel-size 8",
        "--enable-expert-parallel: replicas then share experts, and not all of them hold all weights",
    ),
}
WRONG = {
    "a quote": (f"{SERVE} --dtype 'auto", "the arguments cannot be split into words: No closing quotation"),
    "no command": ("ollama run r1", "the arguments begin with 'ollama run', which is no command that is known here"),
    "no value": (f"{SERVE} --block-size", "--block-size has no value"),
    "a number": (f"{SERVE} --gpu-memory-utilization most", "--gpu-memory-utilization must be a number, not 'most'"),
    "a count": (f"{SERVE} -tp many", "-tp must be a positive whole number, not 'many'"),
    "JSON": (f"{SERVE} --speculative-config mtp", "--speculative-config must be a JSON object, not 'mtp'"),
    "a stray word": (f"{SERVE} other/model", "'other/model' follows no flag that takes it"),
}


@pytest.mark.parametrize(("line", "what"), REFUSED.values(), ids=list(REFUSED))
def test_what_matters_and_is_not_modelled_is_refused_by_name(line, what):
    with pytest.raises(NotApplicableError) as error:
        read_arguments(line)
    assert error.value.what == what
    assert error.value.help


@pytest.mark.parametrize(("line", "what"), WRONG.values(), ids=list(WRONG))
def test_what_cannot_be_read_is_named(line, what):
    with pytest.raises(InvalidValueError) as error:
        read_arguments(line)
    assert error.value.what == what
    assert error.value.help


def test_one_replica_may_share_its_experts():
    assert read_arguments(f"{SERVE} --enable-expert-parallel -tp 8").unknown == ()


SAME = """vllm serve deepseek-ai/DeepSeek-R1 -tp 8 -dcp 2 --max-model-len 131072
    --speculative-config '{"method": "mtp", "num_speculative_tokens": 1}'"""


@pytest.mark.parametrize(
    "line",
    [
        SAME.replace("\n", " \\\n"),  # as in a YAML block: |
        SAME.replace("\n", " \\ "),  # and folded: >-
        "env VLLM_USE_V2_MODEL_RUNNER=1 exec " + SAME,
        SAME.replace("vllm serve", "/opt/bin/python3.11 -m vllm.entrypoints.openai.api_server --model"),
        SAME.replace("-tp 8 -dcp 2", "--tensor_parallel_size=8 --decode_context_parallel_size 2").replace(
            "131072", "128K"
        ),
        SAME.partition("--spec")[0] + "--speculative-config.method mtp --speculative_config.num_speculative_tokens=1",
        SAME + " --served-model-name r1 reasoner --api-key a b --host 0.0.0.0 --port 8000 -O3 --no-enable-log-requests",
        SAME
        + """ --compilation-config '{"cudagraph_capture_sizes": [1, 2]}' --allowed-origins '["*"]' --enforce-eager""",
    ],
)
def test_the_same_command_line_in_other_spellings(line):
    read, same = read_arguments(line), read_arguments(SAME)
    settings = {name: value for name, value in read.settings.items() if name != "use_v2_model_runner"}
    assert read._replace(settings=settings) == same
    assert (same.layout, same.settings["max_model_len"], same.unknown) == ({"tp": 8, "dcp": 2}, 131_072, ())


def test_drafts_and_schedules_of_sglang_are_settings():
    read = read_arguments(
        "sglang serve --model-path m --speculative-algorithm EAGLE --speculative-num-steps 3 --speculative-eagle-topk 1 "
        "--speculative-num-draft-tokens 4 --disable-overlap-schedule --mamba-radix-cache-strategy extra_buffer"
    )
    drafts = {"speculative_num_steps": 3, "speculative_eagle_topk": 1, "speculative_num_draft_tokens": 4}
    schedule = {"disable_overlap_schedule": True, "mamba_radix_cache_strategy": "extra_buffer"}
    assert read.settings == {"speculative_algorithm": "EAGLE", **drafts, **schedule}
    with pytest.raises(NotApplicableError, match="draft model of its own"):
        read_arguments("sglang serve --model-path m --speculative-draft-model-path d")


def test_values_of_a_list_may_stand_apart():
    for written in ("0,3,sliding_window", "0 3 sliding_window"):
        read = read_arguments(f"{SERVE} --kv-cache-dtype-skip-layers {written} --enforce-eager")
        assert read.settings == {"kv_cache_dtype_skip_layers": [0, 3, "sliding_window"]}


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        (f"{SERVE} --kv-cache-dtpye fp8", "--kv-cache-dtype"),
        (f"{SERVE} --max-model-length 8K", "--max-model-len"),
        (f"{SERVE} --tensor-paralel-size 8", "--tensor-parallel-size"),
        (f"{SERVE} --gpu-memory-utilisation 0.9", "--gpu-memory-utilization"),
        (f"{SERVE} --speculativ-config mtp", "--speculative-config"),
        ("llama-server --ctx-sise 8192", "--ctx-size"),
        ("llama-server --cache-type-kk q8_0", "--cache-type-k"),
        ("sglang serve --mem-fraction-statik 0.8", "--mem-fraction-static"),
    ],
)
def test_a_flag_that_is_misspelt_is_refused_with_what_was_meant(line, flag):
    with pytest.raises(NotApplicableError) as error:
        read_arguments(line)
    assert error.value.what.endswith("is not known to have this flag")
    assert error.value.help.startswith(f"did you mean {flag}")


@pytest.mark.parametrize(
    "line",
    [
        "python -m sglang.launch_server --model-path m --tp 8 --host 0.0.0.0 --log-level info --cuda-graph-bs 1 2 4",
        "llama-server -m m --host 0.0.0.0 -ngl 99 -ctk q8_0 -ctv q8_0 -np 4 -c 8192 --jinja --no-warmup -t 8 --temp 0.7",
        "llama-server -hf m -fa on -kvu -ub 512 -b 2048 --cache-ram 8192 --ctx-checkpoints 4 -ot exps=CPU",
    ],
)
def test_what_does_not_concern_the_cache_is_passed_over_in_silence(line):
    read = read_arguments(line)
    assert (read.model, read.unknown) == ("m", ())


# In plans ----------------------------------------------------------------------------------------------------------

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
    given = finding(cli, tmp_path, ROW)
    assert by_file["notes"][0].endswith("read from model.safetensors.index.json")
    assert "without" in by_file["notes"][1]  # layers of multi-token prediction, of what files hold
    assert by_file["available_bytes"] > given["available_bytes"]
    published = finding(cli, tmp_path, ROW.replace("    weights: 671GB\n", ""))
    more = by_file["available_bytes"] - published["available_bytes"]
    assert abs(more * 8 / (688_586_727_753 - 671 * 10**9) - 1) < 0.02  # of the whole, less what is not loaded
    assert "as published (deepseek-ai/DeepSeek-R1 at 56d4cbbb4d29, safetensors files)" in published["notes"][0]


PLAN_ERRORS = {
    "an unknown repository": (
        ROW.replace("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R9"),
        "{file}:3: deployments[0].args: no repository called deepseek-ai/DeepSeek-R9 is known here, and its name "
        "alone does not say what it caches\nhelp: did you mean 'deepseek-",
    ),
    "a flag that is refused": (
        ROW.replace("--kv-cache-dtype fp8", "--cpu-offload-gb 10"),
        "{file}:3: deployments[0].args: --cpu-offload-gb: it keeps weights in the host's memory",
    ),
    "another engine": (
        ROW + "    engine: sglang\n",
        "{file}:3: deployments[0].args: these are arguments of vllm, and the engine is sglang\nhelp: leave engine out",
    ),
    "another layout": (
        ROW + "    tp: 4\n",
        "{file}:8: deployments[0].tp: tp (4) is not what args say (8)\nhelp: give it in one place",
    ),
    "another setting": (
        ROW + "    engine_settings: {kv_cache_dtype: auto}\n",
        "{file}:8: deployments[0].engine_settings: kv_cache_dtype ('auto') is not what args say ('fp8')\nhelp: give",
    ),
    "other GPUs than ranks": (
        ROW + "    gpus: 4\n",
        "{file}:8: deployments[0].gpus: 4 GPUs are not the 8 of tp 8 x pp 1 x dp 1\nhelp: say how they share",
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
