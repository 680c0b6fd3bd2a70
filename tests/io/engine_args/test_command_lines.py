"""Command lines of engines: what each flag sets, what is ignored, what is told, and what is refused by name."""

from __future__ import annotations

import pytest

from kvcalc.errors import InvalidValueError, NotApplicableError
from kvcalc.io.engine_args import read_arguments, read_command

SERVE = "vllm serve deepseek-ai/DeepSeek-R1"
SGLANG = "python -m sglang.launch_server --model-path m"


def told(command) -> list[str]:
    return [said.about for said in command.told]


def refused(command) -> list[str]:
    return [refusal.about for refusal in command.refused]


def test_a_command_line_is_read_as_settings_layout_and_model():
    command = read_arguments(
        f"{SERVE} --tensor-parallel-size 8 --pipeline-parallel-size=2 -dp 2 --kv-cache-dtype fp8 --max-model-len 128K "
        "--gpu-memory-utilization 0.85 --max_num_seqs 256 --no-enable-prefix-caching --async-scheduling --block-size 64 "
        """--speculative-config '{"method": "mtp", "num_speculative_tokens": 1}' --port 8000 --trust-remote-code"""
    )
    assert (command.engine, command.title, command.program) == ("vllm", "vLLM", "vllm")
    assert command.model == "deepseek-ai/DeepSeek-R1"
    assert command.parallel == {"tp": 8, "pp": 2, "dp": 2}
    assert command.settings == {
        "kv_cache_dtype": "fp8",
        "max_model_len": 131_072,
        "gpu_memory_utilization": 0.85,
        "max_num_seqs": 256,
        "enable_prefix_caching": False,
        "async_scheduling": True,
        "block_size": 64,
        "speculative": {"method": "mtp", "num_speculative_tokens": 1},
    }
    assert command.told == ()
    assert [said.about for said in command.ignored] == ["--port", "--trust-remote-code"]


NORMAL = {
    "numbers, switches and JSON": (
        "vllm serve M -tp 2 --max-model-len 32k --gpu-memory-utilization .9 --no-enable-prefix-caching --port 8000 "
        """--kv-transfer-config '{"kv_connector": "NixlConnector", "kv_role": "kv_both"}'""",
        {
            "tensor-parallel-size": 2,
            "max-model-len": 32_000,
            "gpu-memory-utilization": 0.9,
            "enable-prefix-caching": False,
            "kv-transfer-config": {"kv_connector": "NixlConnector", "kv_role": "kv_both"},
        },
    ),
    "auto as it is written": ("vllm serve M --max-model-len auto", {"max-model-len": "auto"}),
    "what weights take": (
        "vllm serve M --quantization awq --cpu-offload-gb 0",
        {"quantization": "awq", "cpu-offload-gb": 0},
    ),
    "a beginning as the whole flag": ("vllm serve M --tensor_parallel 2", {"tensor-parallel-size": 2}),
    "another name of the same": ("vllm serve M --device-memory-utilization 0.8", {"gpu-memory-utilization": 0.8}),
    "SGLang": (
        f"{SGLANG} --tp 8 --mem-frac 0.87 --page-size 64 --disable-radix-cache --chunked-prefill-size -1",
        {
            **{"tp-size": 8, "mem-fraction-static": 0.87, "page-size": 64, "disable-radix-cache": True},
            "chunked-prefill-size": -1,
        },
    ),
    "llama.cpp": (
        "llama-server -m m.gguf -c 16K -np 2 -ctk q8_0 -fa 1 --no-kv-unified -ngl 99",
        {
            **{"ctx-size": 16_384, "parallel": 2, "cache-type-k": "q8_0", "flash-attn": "on", "kv-unified": False},
            "n-gpu-layers": 99,
        },
    ),
    "llama.cpp by its variables": (
        "LLAMA_ARG_CTX_SIZE=16384 LLAMA_ARG_N_PARALLEL=2 LLAMA_ARG_FLASH_ATTN=on llama-server -hf a/b",
        {"ctx-size": 16_384, "parallel": 2, "flash-attn": "on"},
    ),
    "Ollama by its variables": (
        "OLLAMA_KV_CACHE_TYPE=q8_0 OLLAMA_FLASH_ATTENTION=1 OLLAMA_NUM_PARALLEL=4 ollama serve",
        {"OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": True, "OLLAMA_NUM_PARALLEL": 4},
    ),
    "TensorRT-LLM": (
        "trtllm-serve M --max_seq_len=40960 --tp_size 2 --kv_cache_free_gpu_memory_fraction 0.8 --backend pytorch",
        {
            **{"max-seq-len": 40_960, "tp-size": 2, "kv-cache-free-gpu-memory-fraction": 0.8},
            "backend": "pytorch",
        },
    ),
    "LMDeploy": (
        "lmdeploy serve api_server M --tp 2 --session-len 8192 --cache-max-entry-count 0.5 --quant-policy int8",
        {"tp": 2, "session-len": 8192, "cache-max-entry-count": 0.5, "quant-policy": "int8"},
    ),
    "MLX-LM": ("mlx_lm.server --model M --kv-bits 8 --max-kv 4096", {"kv-bits": 8, "max-kv-size": 4096}),
}


@pytest.mark.parametrize(("line", "args"), NORMAL.values(), ids=list(NORMAL))
def test_args_in_normal_form(line, args):
    command = read_command(line)
    assert command.args == args
    assert command.refused == ()


@pytest.mark.parametrize(
    ("written", "tokens"),
    [("-1", -1), ("auto", -1), ("8k", 8000), ("8K", 8192), ("25.6k", 25_600), ("131072", 131_072), ("32K", 32_768)],
)
def test_lengths_are_read_as_vllm_reads_them(written, tokens):
    """utils/argparse_utils.py, human_readable_int: lower case is decimal, upper case binary."""
    assert read_arguments(f"{SERVE} --max-model-len {written}").settings["max_model_len"] == tokens
    assert read_arguments(f"{SERVE} --max-model-len={written}").settings["max_model_len"] == tokens


def test_variables_before_the_command_count_too():
    command = read_arguments(f"VLLM_PP_LAYER_PARTITION=31,30 CUDA_VISIBLE_DEVICES=0,1 /usr/bin/{SERVE} -pp 2")
    assert command.settings == {"pp_layer_partition": [31, 30]}
    assert command.gpus == 2
    assert command.told == ()


@pytest.mark.parametrize(
    ("variables", "gpus"),
    [
        ("CUDA_VISIBLE_DEVICES=0,1,2,3", 4),
        ('HIP_VISIBLE_DEVICES="4,5,6,7"', 4),
        ("ASCEND_RT_VISIBLE_DEVICES=0", 1),
        ("NVIDIA_VISIBLE_DEVICES=all", None),
        ("CUDA_VISIBLE_DEVICES=", None),
        ("CUDA_VISIBLE_DEVICES=GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-11111111", 2),
        ("CUDA_VISIBLE_DEVICES=$GPUS", None),
    ],
)
def test_visible_devices_are_counted(variables, gpus):
    assert read_command(f"{variables} vllm serve m").gpus == gpus


def test_more_ranks_than_visible_gpus_are_told():
    few = "CUDA_VISIBLE_DEVICES=0,1 vllm serve m -tp 4"
    assert [(said.about, said.why) for said in read_command(few).told] == [
        ("GPUs", "4 ranks are requested, but 2 GPUs are visible: it would not start")
    ]
    assert told(read_command(f"{few} --nnodes 2")) == []


def test_device_ids_of_vllm_win_over_the_variable():
    assert read_command("CUDA_VISIBLE_DEVICES=0 vllm serve m --device-ids 2,3,5,7").gpus == 4


def test_arguments_alone_are_those_of_the_engine_that_is_named():
    assert read_arguments("--tp 8 --model x", "sglang").parallel == {"tp": 8}
    assert (
        read_arguments("-np 4 -c 8K", "llama_cpp").tokens == read_arguments("-np 4 -c 8K", "llama-cpp").tokens == 8192
    )


def test_an_unknown_flag_takes_its_value_along_and_is_told():
    command = read_arguments("vllm serve --colour teal --temperament -1 --tune=abc deepseek-ai/DeepSeek-R1")
    assert command.model == "deepseek-ai/DeepSeek-R1"
    assert told(command) == ["--colour", "--temperament", "--tune"]
    assert {said.why for said in command.told} == {
        "not a known flag of vLLM; its name does not suggest an effect on memory"
    }


def test_a_variable_that_is_not_known_is_told_by_its_name():
    command = read_command("VLLM_LUCKY_NUMBER=7 HF_TOKEN=x PATH=y vllm serve m")
    assert [(said.about, said.why) for said in command.told] == [("VLLM_LUCKY_NUMBER", "not a known variable of vLLM")]


def test_the_last_of_a_repeated_flag_counts():
    command = read_command("vllm serve m --max-model-len 1K --max-model-len=2K -tp 4 --tensor-parallel-size 2")
    assert (command.args, command.parallel) == ({"max-model-len": 2048, "tensor-parallel-size": 2}, {"tp": 2})


def test_dotted_keys_make_one_object_and_win_over_json():
    """vLLM writes them out behind all other arguments, and argparse keeps the last."""
    line = """vllm serve m --speculative-config.method mtp --speculative-config '{"method": "ngram", "a": 1}'
    --speculative_config.num_speculative_tokens=2 --kv-transfer-config.kv_connector NixlConnector
    --kv-transfer-config.kv_connector_extra_config.x+ 1 --kv-transfer-config.kv_connector_extra_config.x+ 2"""
    command = read_command(line)
    assert command.settings["speculative"] == {"method": "mtp", "num_speculative_tokens": 2}
    assert command.args["kv-transfer-config"]["kv_connector_extra_config"] == {"x": [1, 2]}


def test_the_parts_of_speculation_make_one_object():
    command = read_command("vllm serve m --spec-method mtp --spec-tokens 2")
    assert command.settings["speculative"] == {"method": "mtp", "num_speculative_tokens": 2}
    assert command.args == {"spec-method": "mtp", "spec-tokens": 2}


REFUSED = {
    "a flag by its family": (
        f"{SERVE} --kv-transfer-config.kv_connector MyConnector",
        "--kv-transfer-config: the effect of its connector on the cache layout is unknown",
    ),
    "a flag that sounds as if it did": (
        f"{SERVE} --kv-cache-shrink-ray 3",
        "--kv-cache-shrink-ray: its effect on memory is unknown",
    ),
    "a variable that does": (
        f"VLLM_KV_CACHE_LAYOUT=HND {SERVE}",
        "VLLM_KV_CACHE_LAYOUT: its effect on memory is unknown",
    ),
    "latents turned off": (
        f"VLLM_MLA_DISABLE=1 {SERVE}",
        "VLLM_MLA_DISABLE: latents are then cached as keys and values of every head",
    ),
    "a switch turned off": (
        f"{SERVE} --no-enable-chunked-prefill",
        "--no-enable-chunked-prefill: without chunked prefill, batches are longer",
    ),
    "the same, turned around": (
        f"{SERVE} --disable-chunked-prefill",
        "--disable-chunked-prefill: without chunked prefill, batches are longer",
    ),
    "vLLM-Omni": (
        "vllm serve fishaudio/s2-pro --omni --port 8000",
        "--omni: vLLM-Omni serves several stages, each with its own engine, or a diffusion model without a KV cache",
    ),
    "a file that is not there": (
        f"{SERVE} --config x.yaml",
        "--config: arguments in a file that is not next to the input",
    ),
    "a pooling model": (
        "vllm serve BAAI/bge-m3 --runner pooling",
        "--runner: a pooling model keeps no cache between steps",
    ),
    "a field that shapes the model": (
        """vllm serve m --hf-overrides '{"num_hidden_layers": 4}'""",
        "--hf-overrides: num_hidden_layers may change the model's shape",
    ),
    "states of every block": (
        "vllm serve m --mamba-cache-mode all",
        "--mamba-cache-mode: only none and align are modelled",
    ),
    "a key of attention": (
        "vllm serve m --attention-config.indexer_kv_dtype fp8",
        "--attention-config: the effect of indexer_kv_dtype on memory is unknown",
    ),
    "drafts as old versions have them": (
        "vllm serve m --speculative-model d --num-speculative-tokens 4",
        "--speculative-model: draft flags of older versions are not modelled",
    ),
    "diffusion in SGLang": (
        "SGLANG_CACHE_DIT_ENABLED=true sglang serve --model-path Qwen/Qwen-Image",
        "SGLANG_CACHE_DIT_ENABLED: what it starts has no decoder with a KV cache",
    ),
    "SGLang's benchmark": (
        "sglang serve --model-path m --dataset-name random --num-prompts 320",
        "--dataset-name: these are arguments of a benchmark, not of a server",
    ),
    "a diffusion language model": (
        f"{SGLANG} --dllm-algorithm LowConfidence",
        "--dllm-algorithm: a diffusion language model is not modelled",
    ),
    "several cards of llama.cpp": (
        "llama-server -m m -ts 1,1",
        "-ts: one context on several GPUs is not modelled",
    ),
    "the cache on the host": (
        "llama-server -m m -nkvo",
        "-nkvo: the cache is then in host memory",
    ),
    "an engine that is not modelled": (
        "text-generation-launcher --model-id m --max-total-tokens 4096",
        "TGI: TGI is not modelled; what decides its cache is max-total-tokens, num-shard, cuda-memory-fraction and "
        "kv-cache-dtype",
    ),
    "beams": ("trtllm-serve m --max_beam_width 4", "--max_beam_width: each beam has its own cache"),
    "another backend": (
        "trtllm-serve m --backend tensorrt",
        "--backend: only its PyTorch backend is modelled",
    ),
}
WRONG = {
    "a quote": (f"{SERVE} --dtype 'auto", "the arguments cannot be split into words: unclosed quote"),
    "a bracket": (f"{SERVE} --dtype ${{A", "the arguments cannot be split into words: unclosed {"),
    "no command": ("kubectl get pods", "it does not begin with a known command"),
    "two commands": ("vllm serve a & vllm serve b", "2 engines are started, but expected one"),
    "no value": (f"{SERVE} --block-size", "--block-size: it has no value"),
    "a number": (f"{SERVE} --gpu-memory-utilization most", "--gpu-memory-utilization: must be a number, not 'most'"),
    "a count": (f"{SERVE} -tp many", "-tp: must be a whole number, not 'many'"),
    "JSON": (f"{SERVE} --speculative-config mtp", "--speculative-config: must be a JSON object"),
    "GiB": (f"{SERVE} --cpu-offload-gb much", "--cpu-offload-gb: must be a number of GiB"),
    "a stray word": (f"{SERVE} other/model", "word 4: it does not belong to any flag"),
    "two words in one": (
        "vllm serve '--max-model-len 16384'",
        "word 3: --max-model-len and its value are one word, which vLLM reads as the name of the model",
    ),
    "a switch with a value": (
        f"{SERVE} --enable-chunked-prefill=false",
        "--enable-chunked-prefill: it takes no value in vLLM",
    ),
    "several flags": (f"{SERVE} --max-num 3", "--max-num: it is a prefix of several flags"),
    "a variable": (f"{SERVE} --max-model-len ${{LEN:-5}}", "--max-model-len: LEN is an unset variable"),
    "a variable for a model": ("vllm serve $(MODEL_ID)", "word 3: MODEL_ID is an unset variable"),
    "a template": ("vllm serve '{{ .Values.model }}'", "word 3: an unrendered template"),
    "a command's output": (
        f"{SERVE} -tp $(nvidia-smi -L | wc -l)",
        "-tp: the output of a command, which is not run",
    ),
    "groups of attention": (
        f"{SGLANG} --tp 8 --dp 3 --enable-dp-attention",
        "--enable-dp-attention: tp (8) is not a multiple of its groups (3)",
    ),
    "a half that is none": (
        f"{SGLANG} --disaggregation-mode both",
        "--disaggregation-mode: must be prefill or decode",
    ),
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


def test_everything_that_is_wrong_is_found_at_once():
    command = read_command(["vllm", "serve", "m", "--omni", "--block-size", "x", "stray", "--max-num", "3"])
    assert [(one.about, one.at) for one in command.refused] == [
        ("word 7", 6),
        ("--max-num", 7),
        ("--omni", 3),
        ("--block-size", 4),
    ]


SETTLED = [
    f"{SERVE} --no-enable-chunked-prefill --max-num-batched-tokens 32768",
    f"{SERVE} --kv-offloading-size 0",
    f"{SERVE} --kv-transfer-config null",
    f"{SERVE} --cpu-offload-gb 0",
    f"{SERVE} --enable-chunked-prefill",
    f"{SERVE} -pcp 1",
    f"{SERVE} --runner generate --convert none",
    f"{SGLANG} --dcp-size 1 --attn-cp-size 1 --disaggregation-mode null",
    f"{SGLANG} --enable-dp-attention --tp 8",
    "llama-server -m m -sm none --kv-offload",
]


@pytest.mark.parametrize("line", SETTLED)
def test_defaults_and_flags_that_another_settles_ask_for_nothing(line):
    command = read_command(line)
    assert (command.refused, command.weighed, command.offloaded_bytes) == ((), (), 0)


def test_experts_of_replicas_leave_the_cache_and_change_the_weights():
    one, several = (read_command(f"{SERVE} --enable-expert-parallel -dp {dp}") for dp in (1, 8))
    assert (one.refused, one.weighed, several.refused) == ((), (), ())
    assert [(each.about, each.needs) for each in several.weighed] == [("--enable-expert-parallel", "experts")]
    assert (one.parallel, several.parallel["ep"]) == ({"dp": 1}, 8)


def test_what_else_a_gpu_holds_is_weighed():
    command = read_command("vllm serve m --enable-lora --max-loras 4 --max-lora-rank 64 -q fp8 --cpu-offload-gb 10")
    assert [(each.about, each.needs) for each in command.weighed] == [("--enable-lora", "adapters"), ("-q", "weights")]
    assert command.offloaded_bytes == 10 * 2**30
    assert told(command) == ["--cpu-offload-gb"]


@pytest.mark.parametrize(
    ("flags", "parallel", "role", "settings"),
    [
        ("--tp 8 --dp 8 --enable-dp-attention", {"tp": 1, "dp": 8}, None, {}),
        ("--tp-size 8 --dp 2 --enable-dp-attention", {"tp": 4, "dp": 2}, None, {}),
        ("--tp 8 --attn-dp-size 4", {"tp": 2, "dp": 4}, None, {}),
        ("--tp 8 --enable-dp-attention", {"tp": 8}, None, {}),
        ("--disaggregation-mode prefill", {}, "prefill", {}),
        ("--disaggregation-mode decode", {}, "decode", {"disable_radix_cache": True, "disaggregation_mode": "decode"}),
        (
            "--disaggregation-mode decode --disaggregation-decode-enable-radix-cache",
            {},
            "decode",
            {"disaggregation_mode": "decode"},
        ),
    ],
)
def test_sglang_shares_attention_and_halves_servers(flags, parallel, role, settings):
    """server_args.py and pd_disaggregation_hook.py of 0.5.23: --dp-size N with it is --attn-dp-size N and dp 1."""
    command = read_command(f"{SGLANG} {flags}")
    assert (command.parallel, command.role, command.settings, command.refused) == (parallel, role, settings, ())
    assert ("--disaggregation-mode" in told(command)) == (role is not None)
    assert command.args.get("tp-size") in (None, 8)


CONNECTORS = {
    # vLLM 0.33: connectors that are SupportsHMA keep the hybrid manager, config/vllm.py; up to 0.20.2 none does
    "hybrid": ("NixlConnector", "", {}),
    "plain": ("P2pNcclConnector", "", {"disable_hybrid_kv_cache_manager": True}),
    "said otherwise": (
        "P2pNcclConnector",
        "--no-disable-hybrid-kv-cache-manager",
        {"disable_hybrid_kv_cache_manager": False},
    ),
    "on the host": (
        "LMCacheConnectorV1",
        "",
        {
            "disable_hybrid_kv_cache_manager": True,
            "kv_transfer_config": {"kv_connector": "LMCacheConnectorV1", "kv_connector_extra_config": {}},
        },
    ),
}


@pytest.mark.parametrize(("name", "more", "settings"), CONNECTORS.values(), ids=list(CONNECTORS))
def test_connectors_may_turn_off_the_hybrid_manager(name, more, settings):
    command = read_command(f"""vllm serve m --kv-transfer-config '{{"kv_connector": "{name}"}}' {more}""")
    assert (command.settings, command.refused) == (settings, ())
    assert told(command) == ["--kv-transfer-config"]


def test_older_versions_turn_it_off_for_every_connector():
    line = """--model m --kv-transfer-config '{"kv_connector": "NixlConnector", "kv_role": "kv_producer"}'"""
    command = read_command(line, image="vllm/vllm-openai:v0.18.1")
    assert (command.settings, command.role) == ({"disable_hybrid_kv_cache_manager": True}, "prefill")


def test_several_connectors_in_one_are_each_looked_at():
    several = '{"kv_connector": "MultiConnector", "kv_connector_extra_config": {"connectors": [%s]}}'
    nixl, strange = '{"kv_connector": "NixlConnector"}', '{"kv_connector": "X"}'
    assert read_command(f"vllm serve m --kv-transfer-config '{several % nixl}'").refused == ()
    assert refused(read_command(f"vllm serve m --kv-transfer-config '{several % f'{nixl}, {strange}'}'")) == [
        "--kv-transfer-config"
    ]


def test_overrides_of_the_length_lift_the_longest_request():
    rope = """vllm serve m --hf-overrides '{"text_config": {"rope_parameters": {"factor": 4}}}'"""
    assert read_command(rope).overrides == {"max_model_len": None}
    named = """vllm serve m --hf-overrides '{"max_position_embeddings": 500000}'"""
    assert read_command(named).overrides == {"max_model_len": 500_000}
    assert read_command("VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 vllm serve m").overrides == {"max_model_len": None}
    assert read_command("VLLM_ALLOW_LONG_MAX_MODEL_LEN=0 vllm serve m").overrides == {}


@pytest.mark.parametrize(
    ("variable", "settings"),
    [
        ("VLLM_CPU_KVCACHE_SPACE=40", {"kv_cache_memory_bytes": 40 * 2**30}),
        ("VLLM_CPU_KVCACHE_SPACE=0", {}),
        ("VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE=1", {"disable_hybrid_kv_cache_manager": False}),
        ("VLLM_MLA_DISABLE=0", {}),
        ("VLLM_USE_V2_MODEL_RUNNER=0", {"use_v2_model_runner": False}),
    ],
)
def test_variables_of_vllm_that_decide(variable, settings):
    command = read_command(f"{variable} vllm serve m")
    assert (command.settings, command.refused) == (settings, ())


def test_the_backend_of_attention_by_any_of_its_names():
    for line in (
        "vllm serve m --attention-backend FLASHINFER",
        "VLLM_ATTENTION_BACKEND=FLASHINFER vllm serve m",
        "vllm serve m --attention-config.backend FLASHINFER",
        """vllm serve m -ac '{"backend": "FLASHINFER", "use_trtllm_attention": true}'""",
    ):
        command = read_command(line)
        assert (command.settings, command.refused) == ({"attention_backend": "FLASHINFER"}, ())


@pytest.mark.parametrize(
    ("flags", "version", "about"),
    [
        ("--disable-log-requests", "0.16.0", "--disable-log-requests"),
        ("--swap-space 16", "0.17.1", "--swap-space"),
        ("--num-scheduler-steps 8", "0.9.2", "--num-scheduler-steps"),
        ("--guided-decoding-backend xgrammar", "0.10.2", "--guided-decoding-backend"),
    ],
)
def test_flags_of_older_versions_are_read_and_told(flags, version, about):
    command = read_command(f"vllm serve m {flags}")
    assert command.refused == ()
    assert [(said.about, said.why) for said in command.told] == [
        (about, f"no longer a flag of vLLM 0.33.0 (last in {version})")
    ]
    assert read_command(f"--model m {flags}", image=f"vllm/vllm-openai:v{version}").told == ()


def test_a_flag_that_is_gone_is_no_beginning_of_another():
    """--speculative-m began --speculative-model in 0.7.3, and begins nothing now."""
    assert refused(read_command("vllm serve m --swap-spac 1")) == ["--swap-spac"]


SAME = """vllm serve deepseek-ai/DeepSeek-R1 -tp 8 -dcp 2 --max-model-len 131072
    --speculative-config '{"method": "mtp", "num_speculative_tokens": 1}'"""


@pytest.mark.parametrize(
    "line",
    [
        SAME.replace("\n", " \\\n"),  # as in a YAML block: |
        SAME.replace("\n", " \\ "),  # and folded: >-
        "env VLLM_USE_V2_MODEL_RUNNER=1 exec " + SAME.replace("\n", " "),
        SAME.replace("vllm serve", "/opt/bin/python3.11 -m vllm.entrypoints.openai.api_server --model").replace(
            "\n", " "
        ),
        SAME.replace("-tp 8 -dcp 2", "--tensor_parallel_size=8 --decode_context_parallel_size 2")
        .replace("131072", "128K")
        .replace("\n", " "),
        SAME.partition("\n")[0] + " --speculative-config.method mtp --speculative_config.num_speculative_tokens=1",
        SAME.replace("\n", " ")
        + " --served-model-name r1 reasoner --api-key a b --host 0.0.0.0 --port 8000 -O3 --no-enable-log-requests",
        SAME.replace("\n", " ")
        + """ --compilation-config '{"cudagraph_capture_sizes": [1, 2]}' --allowed-origins '["*"]' --enforce-eager""",
    ],
)
def test_the_same_command_line_in_other_spellings(line):
    read, same = read_arguments(line), read_arguments(SAME.replace("\n", " "))
    settings = {name: value for name, value in read.settings.items() if name != "use_v2_model_runner"}
    assert (read.model, settings, read.parallel) == (same.model, same.settings, same.parallel)
    assert (same.parallel, same.settings["max_model_len"], same.told) == ({"tp": 8, "dcp": 2}, 131_072, ())


def test_drafts_and_schedules_of_sglang_are_settings():
    read = read_arguments(
        "sglang serve --model-path m --speculative-algo EAGLE --speculative-num-steps 3 --speculative-eagle-topk 1 "
        "--speculative-num-draft-tokens 4 --disable-overlap-schedule --mamba-radix-cache-strategy extra_buffer"
    )
    drafts = {"speculative_num_steps": 3, "speculative_eagle_topk": 1, "speculative_num_draft_tokens": 4}
    schedule = {"disable_overlap_schedule": True, "mamba_radix_cache_strategy": "extra_buffer"}
    assert read.settings == {"speculative_algorithm": "EAGLE", **drafts, **schedule}
    assert read_arguments("sglang serve --model-path m --speculative-draft-model-path d").draft == "d"


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
    assert "not a known flag of" in error.value.what
    assert error.value.help.startswith(f"did you mean {flag}")


@pytest.mark.parametrize(
    "line",
    [
        "python -m sglang.launch_server --model-path m --tp 8 --host 0.0.0.0 --log-level info --cuda-graph-bs-decode 1 2",
        "llama-server -m m --host 0.0.0.0 -ngl 99 -ctk q8_0 -ctv q8_0 -np 4 -c 8192 --jinja --no-warmup -t 8 --temp 0.7",
        "llama-server -hf m -fa on -kvu -ub 512 -b 2048 --cache-ram 8192 --ctx-checkpoints 4 -ot exps=CPU",
        "llama-server --flash-attn --metrics -m m --samplers 'top_k;top_p' -ngld 99",
        "SGLANG_USE_AITER=0 SGLANG_ENABLE_SPEC_V2=1 sglang serve --model-path m --ep 2",
    ],
)
def test_what_does_not_concern_the_cache_is_ignored_in_silence(line):
    command = read_arguments(line)
    assert (command.model, command.told) == ("m", ())


def test_layers_on_the_host_are_told():
    assert told(read_command("llama-server -m m -ngl 20")) == ["-ngl"]
    assert told(read_command("llama-server -m m -ngl 99")) == []
