"""Numbers that users published from logs of engines, each row reproduced, or explained in a sentence; and explain-log.

`engine_logs` are llama.cpp, SGLang and TensorRT-LLM; `vllm_logs` start-ups of vLLM from 0.6 to 0.27. Where a row says
that a shape or a setting was inferred from the log itself, it shows that the numbers fit together, and no more.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from costs import cost
from hypothesis import given
from hypothesis import strategies as st

import kvcalc
from kvcalc.engines import ENGINES
from kvcalc.fleet.explain import EXPLAINERS, Printed, explain
from kvcalc.io.engine_logs import LOG_FORMATS, read_engine_log, read_lines

DATA, LOGS = Path(__file__).parents[1] / "data", Path(__file__).parents[1] / "logs"
MIB, GIB = 2**20, 2**30


@cache
def rows(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


# llama.cpp, SGLang, TensorRT-LLM ------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """What a row is: tensors of a model in llama.cpp, or in a branch of it that stored them as the model has them."""

    model: str
    tokens: int
    names: tuple[str, ...]
    groups: tuple[str, ...] = ()
    settings: dict[str, Any] = {}  # noqa: RUF012
    engine: str = "llama_cpp"

    def bytes(self) -> int:
        settings = {"defaults": "cli", **self.settings} if self.engine == "llama_cpp" else {}
        model = kvcalc.load(self.model if self.model != "gemma-3-270m" else str(LOGS / "gemma-3-270m.json"))
        report = kvcalc.size(model, tokens=self.tokens, engine=self.engine, engine_settings=settings)
        return sum(
            tensor.bytes
            for group in report.groups
            for tensor in group.tensors
            if tensor.name in self.names and group.name in (self.groups or (group.name,))
        )


class Pool(NamedTuple):
    """What a row is: a pool of SGLang or TensorRT-LLM with so many tokens."""

    model: str
    engine: str
    tokens: int
    names: tuple[str, ...] = ()
    settings: dict[str, Any] = {}  # noqa: RUF012
    tp: int = 1

    def bytes(self) -> int:
        limit = {"sglang": "max_total_tokens", "tensorrt_llm": "max_tokens"}[self.engine]
        report = kvcalc.fit(
            kvcalc.load(self.model),
            engine=self.engine,
            available_bytes=2**45,
            parallel=kvcalc.Parallel(tp=self.tp),
            engine_settings={**self.settings, limit: self.tokens},
        )
        assert report.tokens == self.tokens
        (pool,) = report.stages[0]
        return pool.bytes_of(*self.names) if self.names else pool.bytes


_Q8 = {"type_k": "q8_0", "type_v": "q8_0"}
_THREE = {"n_seq_max": 3}
_RAW_FP8 = {"kv_cache_dtype": "fp8_e4m3", "dsa_decode_backend": "trtllm"}
ENGINE_ROWS: tuple[Asked | Pool | str, ...] = (
    Asked("deepseek-v4-flash", 131_072, ("k",)),
    Asked("deepseek-v4-flash", 131_072, ("compressed_k",), ("csa",)),
    Asked("glm-5", 65_536, ("index_k",), settings=_Q8),  # GLM-5 has GLM-5.2's indexer in all 78 layers
    Asked("glm-5.2", 65_536, ("index_k",), settings=_Q8),
    Asked("glm-5.2", 131_072, ("index_k",)),  # 21 layers with an indexer, as the row has them
    Asked("qwen3.6-27b", 4096, ("conv_state",), settings=_THREE),
    Asked("qwen3.6-27b", 4096, ("recurrent_state",), settings=_THREE),
    Asked("gemma-3-270m", 1024, ("k", "v"), settings=_THREE),
    Asked("llama-3.1-8b", 4096, ("k", "v")),
    "137,438,953,504 is K and V of 1,048,576 tokens and 32 bytes to align them in the buffer, which are not counted",
    "a GGUF of old, without the keys of MLA: each head's key and value; 43,200 MiB, 'about 43G' to the reporter",
    Asked("r1", 32_768, ("k_rope",), engine="ideal"),  # two tensors in that branch, K^R and c^KV, in 16 bit
    Asked("r1", 32_768, ("c_kv",), engine="ideal"),
    Asked("r1", 32_768, ("k",), settings=_Q8),
    "the buffer on a CUDA device pads each quantised tensor to rows of 512 elements; 1166.625 MiB are data",
    Pool("qwen3-235b-a22b", "sglang", 367_404, ("k",), tp=4),
    Pool("qwen3-235b-a22b", "sglang", 367_404, ("v",), tp=4),
    Pool("glm-5", "sglang", 2_574_848, settings=_RAW_FP8),  # before the change all 78 layers had index keys
    Pool("glm-5.2", "sglang", 3_002_752, settings=_RAW_FP8),
    Pool("tinyllama-1.1b", "tensorrt_llm", 3_731_744),
)
"""For each row what it is, or why it is another number than ours."""


def agrees(row: dict[str, Any], number: int) -> bool:
    """Whether `number` is printed as the row's, with two decimals; what was published without any is exact."""
    text = f"{row['reported']:.2f}"
    return f"{number / (MIB if 'M' in row['unit'] else GIB):.2f}" == text


@pytest.mark.parametrize(
    ("row", "asked"),
    [pair for pair in zip(range(20), ENGINE_ROWS, strict=True) if not isinstance(pair[1], str)],
    ids=str,
)
def test_what_users_saw_in_their_logs(row, asked):
    assert agrees(rows("engine_logs")[row], asked.bytes())


def test_every_row_is_reproduced_or_explained():
    assert len(rows("engine_logs")) == len(ENGINE_ROWS) == 20
    assert sum(not isinstance(asked, str) for asked in ENGINE_ROWS) == 17


def test_explained_rows_are_what_they_are_explained_with():
    """The parts that the explanations name, each worked out."""
    row = rows("engine_logs")
    whole = Asked("llama-3-8b", 1_048_576, ("k", "v")).bytes()
    assert whole + 32 == row[9]["reported"]
    every_head = kvcalc.apply_method(kvcalc.load("deepseek-v2-lite"), "mla-naive")
    assert kvcalc.size(every_head, tokens=163_840).total_bytes == 43_200 * MIB  # 42.19 GiB
    assert row[10]["reported"] == 43_200 // 1000
    both = Asked("r1", 32_768, ("k",)).bytes()  # in one row, as llama.cpp has them since
    assert both == (row[11]["reported"] + row[12]["reported"]) * MIB
    data = Asked("r1", 32_768, ("k",), settings=_Q8).bytes()
    padding = 61 * -(-(512 - 576 % 512) // 32) * 34  # 448 elements of q8_0 for each layer's tensor
    aligned = data + 61 * -(-padding // 61 // 128) * 128
    assert f"{aligned / MIB:.2f}" == f"{row[14]['reported']:.2f}"


def test_a_wrong_model_is_noticed():
    assert not agrees(rows("engine_logs")[18], Pool("glm-5", "sglang", 3_002_752, settings=_RAW_FP8).bytes())
    assert not agrees(rows("engine_logs")[15], Pool("qwen3-235b-a22b", "sglang", 367_404, ("k",), tp=2).bytes())
    assert not agrees(rows("engine_logs")[8], Asked("llama-3.1-8b", 4097, ("k", "v")).bytes())


OTHER_LOGS = {
    "a Qwen2ForCausalLM of 62 GB, 47376055009": (
        "qwen2.5-32b",
        {"tp": 4},
        {},
        "[2025-03-08 12:29:21 TP0] KV Cache is allocated. #tokens: 46611, K size: 1.42 GB, V size: 1.42 GB",
    ),
    "Qwen3.8-27B-FP8 on an H100, 65830671609": (
        "qwen3.6-27b",
        {},
        {},
        "Mamba Cache is allocated. max_mamba_cache_size: 124, conv_state size: 0.34GB, ssm_state size: 17.58GB",
        "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 330323, K size: 10.08 GB, V size: 10.08 GB",
    ),
    "Qwen3.8-27B-NVFP4, whose cache is fp8, 69213517065": (
        "qwen3.6-27b",
        {},
        {"kv_cache_dtype": "fp8_e4m3"},
        "Mamba Cache is allocated. max_mamba_cache_size: 360, conv_state size: 0.99GB, ssm_state size: 50.77GB",
        "KV Cache is allocated. #tokens: 228520, K size: 3.49 GB, V size: 3.49 GB",
    ),
    "Nemotron 3 on four ranks, of 2 KV heads, 70117488909": (
        "nemotron-3-nano",
        {"tp": 4},
        {},
        "Mamba Cache is allocated. max_mamba_cache_size: 2211, conv_state size: 0.44GB, ssm_state size: 24.84GB",
        "KV Cache is allocated. dtype: torch.float8_e4m3fn, #tokens: 19644177, K size: 14.05 GB, V size: 14.05 GB",
    ),
    "an unnamed hybrid that drafts, its own pools, 70920711276": (
        "qwen3.5-9b",
        {},
        {},
        "Mamba Cache is allocated. max_mamba_cache_size: 64, conv_state size: 0.07GB, ssm_state size: 3.05GB "
        "intermediate_ssm_state_cache size: 48.75GB intermediate_conv_window_cache size: 0.43GB",
        "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 295950, K size: 4.52 GB, V size: 4.52 GB",
    ),
    "Qwen3-Reranker-0.6B in TensorRT-LLM, 66094399229": (
        "qwen3-0.6b",
        {},
        {},
        "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 68.69 GiB for max tokens in paged KV cache (643136).",
    ),
    "an engine of 8B in fp8, 26725295630": (
        "llama-3.1-8b",
        {},
        {"dtype": "fp8"},
        "[TensorRT-LLM][INFO] Number of tokens per block: 32.",
        "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 16.05 GiB for max tokens in paged KV cache (263008)",
    ),
    "an unnamed model, 6858746206": (
        "llama-3.1-8b",
        {},
        {},
        "[TensorRT-LLM][INFO] Number of tokens per block: 64.",
        "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 26.91 GiB for max tokens in paged KV cache (220480).",
    ),
}
"""Lines of start-ups that users published in files of GitHub, whose index has these numbers; read after SGLang and
TensorRT-LLM were written. Ranks and settings stand beside them; where no model does, it is one of that shape."""


def test_logs_that_were_read_later_are_predicted_too():
    for what, (model, ranks, settings, *lines) in OTHER_LOGS.items():
        name = "tensorrt_llm" if "TensorRT" in lines[0] else "sglang"
        reading = LOG_FORMATS.module(name).read(lines)
        report = explain(kvcalc.load(model), reading, settings=settings, ranks=ranks)
        assert report.agrees, (what, report.verdict)


# vLLM ---------------------------------------------------------------------------------------------------------------

_SMALL = "rtx-3090"
_MTP3 = {"method": "mtp", "num_speculative_tokens": 3}
_QWEN = {"gpu": _SMALL, "kv_cache_dtype": "fp8_e5m2", "dtype": "float16"}
_NEXT = {"gpu": "a100-80gb", "mamba_ssm_cache_dtype": "float16"}
VLLM_ROWS: tuple[tuple[str, dict[str, Any]] | str, ...] = (
    ("llama-3.1-8b", {"gpu": _SMALL}),
    "no model, no memory: 127,626 blocks of 16 are its 2,042,016 tokens, 997.08 times its 2,048",
    ("qwen3-14b", {}),
    ("qwen3.6-27b", {**_QWEN, "max_num_batched_tokens": 8192, "speculative": _MTP3}),
    ("qwen3.6-27b", {**_QWEN, "speculative": _MTP3}),
    ("qwen3.6-27b", _QWEN),
    ("qwen3.5-27b", {"gpu": _SMALL, "kv_cache_dtype": "fp8_e4m3", "max_num_batched_tokens": 8192}),
    "vLLM 0.24 made blocks of 2,096 tokens on an RTX 5090, what a state takes, and 0.33 makes them multiples of 64: in "
    "6.01 GiB are 300, and a request takes 69",
    ("qwen3-next-80b-a3b", _NEXT),
    ("qwen3-next-80b-a3b", _NEXT),
    ("gemma-3-27b", {"max_num_batched_tokens": 8192, "version": "0.20.0"}),
    ("glm-5.1", {"gpu": "h200"}),
    ("llama-3.1-70b", {"max_model_len": 4096}),  # the log does not say a length, and 16 divides this one
    ("qwen2.5-7b", {}),
    ("qwen3-8b", {}),
    ("qwen3-0.6b", {}),
    ("glm-4.5", {"kv_cache_dtype": "fp8"}),  # GLM-4.7 is of the same shape
    ("qwen2.5-14b", {}),
    ("qwen3-30b-a3b", {}),
    ("qwen2.5-0.5b", {}),
    "DeepSeek-V4 was packed otherwise in that version, which the row does not name: whole blocks as 0.33 has them give "
    "no such number",
    "DeepSeek-V4 in rounded figures of a title: 150,000 tokens",
    "the settings of its drafts are cut off, and no draft layer of the model itself gives its number",
    "the settings of its drafts are cut off, and no draft layer of the model itself gives its number",
    "a branch for another make of GPU, with drafts of a model of their own",
    "about 55,000 tokens as vLLM counted to 0.20.0: 20,480 blocks of 16 in 6 groups; no exact number was published",
    "vLLM 0.14 counted the layers of all pipeline stages as if each had them; 0.33 counts a stage's own",
)


def log_of(row: dict[str, Any]) -> list[str]:
    """The lines that such a start-up prints."""
    lines = [f"INFO Available KV cache memory: {row['available_gib']:.2f} GiB"] if row["available_gib"] else []
    lines.append(f"INFO GPU KV cache size: {row['tokens']:,} tokens")
    if row["concurrency"] is not None:
        length, concurrency = row["max_model_len"], row["concurrency"]
        lines.append(f"INFO Maximum concurrency for {length:,} tokens per request: {concurrency:.2f}x")
    if row["num_gpu_blocks"] is not None:
        lines.append(f"INFO # GPU blocks: {row['num_gpu_blocks']}, # CPU blocks: 0")
    return lines


def explained(row: dict[str, Any], model: str, settings: dict[str, Any]):
    reading = LOG_FORMATS.module("vllm").read(log_of(row))
    length = {"max_model_len": row["max_model_len"]} if row["max_model_len"] else {}
    ranks = {name: row["settings"].get(name, 1) for name in ("tp", "pp")}
    return explain(kvcalc.load(model), reading, settings={**length, **settings}, ranks=ranks)


@pytest.mark.parametrize(
    ("row", "asked"),
    [pair for pair in zip(range(27), VLLM_ROWS, strict=True) if not isinstance(pair[1], str)],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_what_users_of_vllm_saw_in_their_logs(row, asked):
    """A row without its memory decides nothing: some number of blocks gives its tokens, and nothing contradicts."""
    report = explained(rows("vllm_logs")[row], *asked)
    assert report.outcome == ("agrees" if rows("vllm_logs")[row]["available_gib"] else "undecided"), report.verdict


def test_every_row_of_vllm_is_reproduced_or_explained():
    assert len(rows("vllm_logs")) == len(VLLM_ROWS) == 27
    asked = [row for row, asked in zip(rows("vllm_logs"), VLLM_ROWS, strict=True) if not isinstance(asked, str)]
    assert (len(asked), sum(row["available_gib"] is not None for row in asked)) == (18, 16)


def test_explained_rows_of_vllm_are_what_they_are_explained_with():
    row = rows("vllm_logs")
    assert row[1]["num_gpu_blocks"] * 16 == row[1]["tokens"]
    assert f"{row[1]['tokens'] / row[1]['max_model_len']:.2f}" == f"{row[1]['concurrency']:.2f}"
    state_bytes = 3 * 8192 * 2 + 32 * 128 * 128 * 4  # Qwen3.6-35B-A3B: convolution in 16 bit, the rest in float32
    assert state_bytes == 2096 * 2 * 2 * 256  # tokens of K and V in fp8, 2 heads of 256
    assert int(row[7]["available_gib"] * GIB) // (10 * state_bytes) == 300  # 10 layers of each of 4 kinds
    full, states = -(-row[7]["max_model_len"] // 2096), 3 * 2
    assert 300 * row[7]["max_model_len"] // (full + states) == row[7]["tokens"]
    assert not any(
        blocks * row[20]["max_model_len"] // request == row[20]["tokens"]
        for blocks in range(28_010, 28_021)  # of 1,002,240 bytes, in 26.145 to 26.155 GiB
        for request in range(1, 20_000)
    )
    fitted = kvcalc.fit(kvcalc.load("gemma-4-31b"), available_bytes=50 * GIB, engine_settings={"gpu": "a100-80gb"})
    assert fitted.to_dict()["num_blocks"] * 16 // 6 == 54_613
    per_token = 92 * 8 * 128 * 2 * 2  # all layers of GLM-4.x: heads, width, K and V, bytes
    assert f"{row[26]['max_model_len'] * per_token / GIB:.2f}" == f"{row[26]['needed_gib']:.2f}"
    longest = int((row[26]["available_gib"] + 0.005) * GIB) // per_token
    assert row[26]["estimated_max_model_len"] <= longest < row[26]["estimated_max_model_len"] + 32
    assert not explained(row[7], "qwen3.6-35b-a3b", {"gpu": "rtx-5090", "kv_cache_dtype": "fp8"}).agrees


@pytest.mark.slow
def test_a_wrong_setting_of_vllm_is_noticed():
    row = rows("vllm_logs")
    assert not explained(row[5], "qwen3.6-27b", {**_QWEN, "speculative": _MTP3}).agrees
    assert not explained(row[10], "gemma-3-27b", {"max_num_batched_tokens": 2048}).agrees
    assert not explained(row[17], "qwen2.5-7b", {}).agrees


# Real logs of vLLM on a CPU, and of engines that print little ----------------------------------------------------------


@pytest.mark.parametrize("row", rows("vllm_cpu_logs"), ids=lambda row: row["name"])
def test_a_log_of_vllm_on_a_cpu_agrees_by_itself(row):
    """A start-up of 0.32.0 with its config alone: block sizes, formats, auto-fit, overrides and drafts are its own."""
    reading = LOG_FORMATS.module("vllm").read(row["log"].splitlines())
    report = explain(kvcalc.load(row["config"]), reading)
    assert report.outcome == "agrees", report.verdict
    numbers = {compared.what: compared.predicted for compared in report.compared}
    assert numbers["requests at a time"] == f"{row['want']['concurrency']:.2f}"
    assert numbers["tokens"] == f"{row['want']['tokens']:,}"


def test_real_logs_do_not_agree_with_another_model():
    """With the next row's config: a verdict that always agrees would say nothing."""
    every = rows("vllm_cpu_logs")
    outcomes = []
    for row, other in zip(every[::4], every[2::4], strict=False):
        reading = LOG_FORMATS.module("vllm").read(row["log"].splitlines())
        compared = compared_of(kvcalc.load(other["config"]), reading)
        outcomes.append(row["config"] == other["config"] or not all(one.agrees for one in compared))
    assert outcomes.count(True) >= 10 * len(outcomes) // 14, outcomes  # some shapes cache alike


def compared_of(model, reading):
    try:
        compare = EXPLAINERS.module(reading.engine).compare
        return compare(model, reading, reading.settings, kvcalc.Parallel(**reading.ranks))
    except kvcalc.KvcalcError:
        return [kvcalc_refused()]


def kvcalc_refused():
    from kvcalc.report.log import Compared

    return Compared("a refusal", "", "", agrees=False, line=0)


GEMMA3_12B = {
    "model_type": "gemma3_text",
    "hidden_size": 3840,
    "num_attention_heads": 16,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
    "sliding_window": 1024,
    "head_dim": 256,
}
_MLA = "llama_new_context_with_model: n_ctx = {}\nllama_new_context_with_model: mla_attn = 3\n"
_MLA += "llama_new_context_with_model: KV self size = {} MiB, c^KV ({}): {} MiB, kv^T: not used\n"
_OFFLOAD = 'memory.required.kv="{}" memory.weights.total="4.9 GiB"\ncmd="ollama runner --ctx-size {} --batch-size 512'
_OFFLOAD += ' --parallel {} --port 1"\n'
_LOADED = 'load request="{{Operation:commit LoraPath:[] Parallel:1 BatchSize:512 FlashAttention:true KvSize:{} '
_LOADED += (
    'KvCacheType: NumThreads:8}}"\nmsg="model weights" device=CPU size="1.3 GiB"\nmsg="kv cache" device=CPU size="{}"\n'
)
PUBLISHED = {
    "ik_llama.cpp, DeepSeek-R1, ikawrakow/ik_llama.cpp#235": ("r1", _MLA.format(32768, "2196.00", "f16", "2196.00")),
    "ik_llama.cpp, DeepSeek-R1, stored file 17707504965": ("r1", _MLA.format(16384, "1098.00", "f16", "1098.00")),
    "ik_llama.cpp, Kimi-K2, stored file 38968073384": ("kimi-k2", _MLA.format(131072, "4666.50", "q8_0", "4666.50")),
    "ik_llama.cpp, twice printed, stored file 52494515924": (
        "r1",
        "n_ctx = 80128\nKV self size  = 5369.91 MiB, K (f16): 5369.91 MiB, V (f16):    0.00 MiB\n"
        "KV self size  = 5369.91 MiB, c^KV (f16): 5369.91 MiB, kv^T: not used\n",
    ),
    "Ollama, Llama 3.1 8B, stored file 48629668660": ("llama-3.1-8b", _OFFLOAD.format("1.0 GiB", 8192, 4)),
    "Ollama, Llama 3 8B, stored file 13469410870": ("llama-3-8b", _OFFLOAD.format("256.0 MiB", 2048, 1)),
    "Ollama, Phi-4, stored file 19789658215": ("phi-4", _OFFLOAD.format("400.0 MiB", 2048, 1)),
    "Ollama, Gemma 3 27B, stored file 2813348729": (
        "gemma-3-27b",
        "Listening on 127.0.0.1:11434 (version 0.9.6)\n" + _OFFLOAD.format("1.6 GiB", 8192, 2),
    ),
    "Ollama, Gemma 3 12B, ollama/ollama#12000": (GEMMA3_12B, _OFFLOAD.format("992.0 MiB", 8192, 1)),
    "Ollama, Llama 3.2 3B, stored file 40749440253": ("llama-3.2-3b", _LOADED.format(4096, "448.0 MiB")),
    "Ollama, gpt-oss-120b, stored file 56930313189": ("gpt-oss-120b", _LOADED.format(8192, "450.0 MiB")),
    "TensorRT-LLM 0.8, Llama 2 7B, NVIDIA/TensorRT-LLM#1400": (
        "llama-2-7b",
        "[TensorRT-LLM][INFO] Allocate 69524783104 bytes for k/v cache. \n"
        "[TensorRT-LLM][INFO] Using 132608 tokens in paged KV cache.\n",
    ),
    "llama.cpp in early 2025, Mistral 7B, fedora-copr/logdetective#106": (
        "mistral-7b-v0.1",
        "llama_new_context_with_model: n_ctx      = 32768\nllama_new_context_with_model: n_batch    = 512\n"
        "llama_kv_cache_init:      CUDA0 KV buffer size =  4096.00 MiB\n"
        "llama_new_context_with_model: KV self size  = 4096.00 MiB, K (f16): 2048.00 MiB, V (f16): 2048.00 MiB\n",
    ),
    "SGLang, Qwen3-235B on four ranks, vllm-project/vllm#21348": (
        "qwen3-235b-a22b",
        "server_args=ServerArgs(tp_size=4, mem_fraction_static=0.93)\n"
        "KV Cache is allocated. #tokens: 367404, K size: 8.23 GB, V size: 8.23 GB\n",
    ),
    "TurboMind, InternLM/lmdeploy#3411": (
        "internlm2.5-7b",
        "[TM][INFO] [BlockManager] block_size = 8.000 MB\n[TM][INFO] [BlockManager] max_block_count = 6214\n",
    ),
}
"""Lines that users published, the context of some of them worked out from their bytes: they show that all fits."""


@pytest.mark.parametrize(("model", "log"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_logs_of_other_engines_are_predicted(model, log):
    reading = read_lines(log.splitlines())
    report = explain(kvcalc.load(model), reading)
    assert report.outcome == "agrees", report.verdict


def test_a_version_of_ollama_is_searched_where_the_log_names_none():
    """Estimates of a scheduler are of old versions; told that it is a new one, the old is found."""
    reading = read_lines(_OFFLOAD.format("1.6 GiB", 8192, 2).splitlines())
    assert explain(kvcalc.load("gemma-3-27b"), reading).agrees
    report = explain(kvcalc.load("gemma-3-27b"), reading, settings={"version": "0.24.0"})
    assert (report.outcome, report.explanations) == ("differs", ("version=0.11.0",))


def test_the_cache_of_several_devices_is_one():
    """Stored file 55579426224 in its form: 20 of 49 layers on the GPU; only the sum is the model's."""
    log = _LOADED.format(8192, "448.0 MiB") + 'msg="kv cache" device=CUDA0 size="448.0 MiB"\n'
    reading = read_lines(log.splitlines())
    assert len(reading.caches) == 2
    report = explain(kvcalc.load("llama-3.2-3b"), reading)
    assert (report.outcome, report.compared[0].what) == ("agrees", "kv cache of 2 devices")


SPECULATIVE = """\
[TP0] KV Cache is allocated. dtype: torch.float8_e4m3fn, #tokens: 454112, K size: 3.46 GB, V size: 3.46 GB
[TP0] KV Cache is allocated. dtype: torch.float8_e4m3fn, #tokens: 454112, K size: {0} GB, V size: {0} GB
[TP1] KV Cache is allocated. dtype: torch.float8_e4m3fn, #tokens: 454112, K size: 3.46 GB, V size: 3.46 GB
[TP1] KV Cache is allocated. dtype: torch.float8_e4m3fn, #tokens: 454112, K size: {0} GB, V size: {0} GB
"""


def test_a_draft_model_s_pool_spoils_no_verdict(cli, tmp_path):
    """github.com/noonghunna/club-3090/issues/1261."""
    model, log = kvcalc.load("qwen3.6-27b"), SPECULATIVE.format("1.08")
    report = explain(model, read_lines(log.splitlines()), ranks={"tp": 2})
    assert [one.verdict for one in report.compared] == ["equal", "equal", "not judged", "not judged"]
    assert report.agrees
    wrong = explain(model, read_lines(log.replace("3.46", "3.40").splitlines()), ranks={"tp": 2})
    assert wrong.outcome == "differs"
    alone = explain(model, read_lines(log.splitlines()[1:2]), ranks={"tp": 2})
    assert alone.outcome == "differs"  # nothing says that it is a draft's


@pytest.mark.parametrize(
    ("written", "speculative"),
    [
        (
            "speculative_config={'method': 'mtp', 'num_speculative_tokens': 2}",
            {"method": "mtp", "num_speculative_tokens": 2},
        ),
        (
            "speculative_config=SpeculativeConfig(method='qwen3_next_mtp', model='x', num_spec_tokens=3)",
            {"method": "qwen3_next_mtp", "num_speculative_tokens": 3},
        ),
        ("speculative_config=None", None),
    ],
)
def test_drafts_of_vllm_are_read(written, speculative):
    reading = read_lines(
        [f"LLM engine (v0.30.0) with config: {written}, max_seq_len=8192", "GPU KV cache size: 1 tokens"]
    )
    assert reading.settings.get("speculative") == speculative


def test_drafts_of_another_model_are_not_guessed(cli, tmp_path):
    log = tmp_path / "vllm.log"
    log.write_text(
        "non-default args: {'speculative_config': {'method': 'eagle3', 'model': 'x', 'num_speculative_tokens': 3}}\n"
        "Available KV cache memory: 6.51 GiB\nGPU KV cache size: 40,000 tokens\n"
    )
    said = cli(f"explain {log} qwen3-14b")
    assert (said.code, said.stdout) == (2, "")
    assert "drafts with 'eagle3': layers of another model" in said.stderr


def test_a_rank_with_less_memory_explains_fewer_tokens():
    """github.com/eugr/spark-vllm-docker/issues/396: two ranks, one memory line, 0.9 % fewer tokens."""
    log = "Available KV cache memory: 28.74 GiB\nGPU KV cache size: 240,816 tokens\n"
    log += "Maximum concurrency for 196,608 tokens per request: 1.22x\n"
    model, reading = kvcalc.load("minimax-m2.7"), read_lines(log.splitlines())
    report = explain(model, reading, ranks={"tp": 2})
    assert report.outcome == "explained"
    assert "another rank had 28.48 GiB (15,051 blocks x 2,031,616 B)" in report.verdict
    both = read_lines(("Available KV cache memory: 28.74 GiB\n" + log).splitlines())
    assert explain(model, both, ranks={"tp": 2}).outcome == "differs"  # both said how much they had
    assert explain(model, reading, ranks={"tp": 1}).outcome == "differs"
    far = read_lines(log.replace("28.74", "40.74").splitlines())
    assert explain(model, far, ranks={"tp": 2}).outcome == "differs"


def test_a_version_that_the_log_does_not_name_is_found():
    """Gemma 3 27B counted blocks up to 0.20.0."""
    row = rows("vllm_logs")[10]
    settings = {"max_model_len": row["max_model_len"], "max_num_batched_tokens": 8192}
    reading = LOG_FORMATS.module("vllm").read(log_of(row))
    assert explain(kvcalc.load("gemma-3-27b"), reading, settings=settings).agrees
    newer = {**settings, "version": "0.25.1"}
    report = explain(kvcalc.load("gemma-3-27b"), reading, settings=newer)
    assert any(explanation.startswith("version=0.") for explanation in report.explanations)


def test_memory_that_was_fixed_is_read_and_may_be_given():
    """The bytes of an argument are exact; as a setting they are the same."""
    row = next(row for row in rows("vllm_cpu_logs") if row["name"] == "qwen3")
    lines = row["log"].splitlines()
    without = [line.replace("'kv_cache_memory_bytes': 67108864, ", "") for line in lines if "Explicitly" not in line]
    reading = LOG_FORMATS.module("vllm").read(without)
    model = kvcalc.load(row["config"])
    assert explain(model, reading).outcome == "undecided"
    assert explain(model, reading, settings={"kv_cache_memory_bytes": 64 * MIB}).outcome == "agrees"
    assert explain(model, reading, settings={"kv_cache_memory_bytes": 65 * MIB}).outcome == "differs"


# explain-log --------------------------------------------------------------------------------------------------------


def report_of(log: str, model: str, **given: Any):
    return explain(kvcalc.load(model), read_engine_log(LOGS / log), **given)


def all_equal(model: str, reading) -> bool:
    """Whether each line of a log is as predicted, where nobody asks what would explain it."""
    compare = EXPLAINERS.module(reading.engine).compare
    return all(c.agrees for c in compare(kvcalc.load(model), reading, reading.settings, kvcalc.Parallel()))


def test_a_setting_that_the_log_does_not_say_is_found():
    """GLM-4.7 in NVFP4 on four GPUs: its checkpoint wants the cache in fp8, which its log does not say."""
    report = report_of("vllm_glm_4_5_tp4.log", "glm-4.5", ranks={"tp": 4})
    assert not report.agrees
    assert "kv_cache_dtype=fp8" in report.explanations
    assert report_of("vllm_glm_4_5_tp4.log", "glm-4.5", ranks={"tp": 4}, settings={"kv_cache_dtype": "fp8"}).agrees


def test_ranks_that_the_log_does_not_say_are_found():
    report = report_of("sglang_without_tp.log", "qwen3-235b-a22b")
    assert report.explanations == ("tp=4", "tp=8", "tp=16")  # 4 KV heads: one each, and copies from there on


def test_two_settings_are_found_where_no_single_one_explains(tmp_path):
    """Llama 3.1 8B in mxfp8 on two ranks: 1,000,000 tokens in 32 layers of 4 heads of 128, 33 bytes for 32."""
    size = f"{1_000_001 * 32 * 4 * 128 * 33 // 32 / GIB:.2f}"
    log = tmp_path / "sglang.log"
    log.write_text(f"KV Cache is allocated. #tokens: 1000000, K size: {size} GB, V size: {size} GB\n")
    report = explain(kvcalc.load("llama-3.1-8b"), read_engine_log(log))
    assert report.explanations == ("kv_cache_dtype=mxfp8 and tp=2", "kv_cache_dtype=mxfp8 and pp=2")


def test_each_rank_prints_the_same_and_counts_once():
    reading = read_engine_log(LOGS / "sglang_qwen3_235b.log")
    assert len(reading.caches) == 1
    assert reading.ranks == {"tp": 4}


def test_pools_of_full_and_sliding_layers_are_told_apart(tmp_path):
    fitted = kvcalc.fit(kvcalc.load("gpt-oss-20b"), engine="sglang", available_bytes=2**35)
    log = tmp_path / "sglang.log"
    log.write_text("\n".join(fitted.log_lines))
    report = explain(kvcalc.load("gpt-oss-20b"), read_engine_log(log))
    assert [c.agrees for c in report.compared] == [True] * 4
    assert not all_equal("gpt-oss-120b", read_engine_log(log))


def test_states_of_sglang_are_read(tmp_path):
    """Qwen3-Next: states in float32 unless --mamba-ssm-dtype says bfloat16, half of them then."""
    model = kvcalc.load("qwen3-next-80b-a3b")
    fitted = kvcalc.fit(model, engine="sglang", available_bytes=2**35, engine_settings={"mamba_ssm_dtype": "bfloat16"})
    assert fitted.log_lines[1].startswith("Mamba Cache is allocated. max_mamba_cache_size: ")
    log = tmp_path / "sglang.log"
    log.write_text("\n".join(fitted.log_lines))
    report = explain(model, read_engine_log(log))
    assert [c.agrees for c in report.compared] == [True, True, True, False]
    assert report.explanations == ("mamba_ssm_dtype=bfloat16", "mamba_ssm_dtype=float16")
    assert not all_equal("llama-3.1-8b", read_engine_log(log))


def test_old_lines_of_llama_cpp_are_read(tmp_path):
    log = tmp_path / "llama.log"
    log.write_text(
        "llama_new_context_with_model: n_ctx      = 4096\n"
        "llama_new_context_with_model: KV self size  =  512.00 MiB, K (f16):  256.00 MiB, V (f16):  256.00 MiB\n"
    )
    assert explain(kvcalc.load("llama-3.1-8b"), read_engine_log(log)).agrees


def test_states_of_llama_cpp_are_read(tmp_path):
    """github.com/ggml-org/llama.cpp/pull/23792."""
    log = tmp_path / "llama.log"
    log.write_text(
        "llama_context: n_seq_max = 3\nllama_context: n_ctx = 4096\n"
        "llama_memory_recurrent: size = 448.88 MiB (3 cells, 65 layers, 3 seqs 0 rs_seq), "
        "R (f32): 16.88 MiB, S (f32): 432.00 MiB\n"
    )
    report = explain(kvcalc.load("qwen3.6-27b"), read_engine_log(log))
    assert report.agrees
    assert [c.what for c in report.compared] == ["R", "S"]


def test_an_engine_that_should_not_have_started_agrees_with_nothing():
    report = report_of("vllm_glm_4_5_tp4.log", "glm-4.5", settings={"max_model_len": 131_072})
    assert [c.predicted for c in report.compared] == ["a refusal"]
    assert report.notes[-1].startswith("the prediction is a refusal: To serve at least one request")


def test_a_number_is_equal_within_the_rounding_of_its_print():
    printed = Printed("8.23", "GB", 1)
    assert printed.is_print_of(int(8.2345 * GIB))
    assert not printed.is_print_of(int(8.2355 * GIB))
    assert Printed("42,656", "", 1).is_print_of(42_656)
    assert not Printed("42,656", "", 1).is_print_of(42_657)


@pytest.mark.parametrize(
    ("content", "words"), [("", "no cache reported in 0 lines"), ("GET /health 200\n" * 3, "no cache reported in 3")]
)
def test_a_log_without_such_a_line_is_refused_with_what_was_looked_for(tmp_path, content, words):
    log = tmp_path / "nginx.log"
    log.write_text(content)
    with pytest.raises(kvcalc.InvalidFileError) as refusal:
        read_engine_log(log)
    assert words in str(refusal.value)
    for part in ("KV Cache is allocated", "GPU KV cache size", "paged KV cache", "llama_kv_cache"):
        assert part in refusal.value.help


def test_without_the_memory_any_number_of_blocks_may_be_meant(tmp_path):
    log = tmp_path / "vllm.log"
    lines = (LOGS / "vllm_qwen3_14b.log").read_text().splitlines()
    log.write_text("\n".join(line for line in lines if "Available" not in line))
    report = explain(kvcalc.load("qwen3-14b"), read_engine_log(log))
    assert (report.outcome, report.agrees) == ("undecided", False)
    assert report.verdict.startswith("undecided: the log does not state its memory")
    assert {compared.verdict for compared in report.compared} == {"possible"}
    assert explain(kvcalc.load("qwen3-8b"), read_engine_log(log)).outcome == "undecided"  # of any model as plain
    assert explain(kvcalc.load("gemma-3-27b"), read_engine_log(log)).outcome == "differs"
    log.write_text(lines[-1])  # 1.30x of 2,048 blocks each
    assert explain(kvcalc.load("qwen3-14b"), read_engine_log(log)).compared[0].what == "requests at a time"


def test_weights_say_the_memory_that_a_log_does_not(tmp_path, cli):
    """Qwen3-8B on a GPU of 150,110,994,432 bytes: 0.9 of them less 16.4 GB are 50,311 blocks of 2,359,296."""
    log = tmp_path / "vllm.log"
    log.write_text(f"max_seq_len=40960\nGPU KV cache size: {50_311 * 16:,} tokens\n")
    told = f"explain-log {log} --preset qwen3-8b --gpu h200 --weights 16.4GB"
    assert cli(f"{told} --engine-set gpu_memory_utilization=0.9").code == 0
    outcome = cli(told, columns=200)  # 0.92 is the default
    assert outcome.code == 1
    assert "it would agree with gpu_memory_utilization=0.9 or version=0.19.0\n" in outcome.stdout  # 0.9 by default
    assert cli(f"{told} --reserve 3002219888").code == 0  # the other 0.02 of the memory
    asked = f"explain-log {log} --preset qwen3-8b --weights 16.4GB"
    assert cli(asked).stderr.startswith("--weights: GPU unknown: --weights needs its memory\nhelp: add")
    log.write_text("Available KV cache memory: 110.55 GiB\n" + log.read_text())
    outcome = cli(f"{told} --engine-set gpu_memory_utilization=0.9 --format json")
    assert (outcome.code, json.loads(outcome.stdout)["compared"][0]["predicted"]) == (0, "110.55 GiB")
    refused = cli(f"explain-log {LOGS / 'sglang_qwen3_235b.log'} --preset qwen3-235b-a22b --weights 1GB")
    assert refused.stderr.startswith("--weights: a sglang log states the bytes of its cache")


def test_what_the_log_says_is_no_explanation(tmp_path):
    """The log's own tp=1 is not doubted; what a user gives over it is."""
    reading = read_engine_log(LOGS / "vllm_qwen3_14b.log")
    assert reading.ranks == {"tp": 1, "pp": 1}
    assert explain(kvcalc.load("qwen3-14b"), reading, ranks={"tp": 2}).explanations == ("tp=1",)
    settings = {"max_model_len": 32_768, "dtype": "bfloat16", "version": "0.11.0"}
    assert reading.settings == settings


def test_a_size_that_was_rounded_to_nothing_decides_nothing(tmp_path):
    log = tmp_path / "sglang.log"
    log.write_text("KV Cache is allocated. #tokens: 8, K size: 0.00 GB, V size: 0.00 GB\n")
    report = explain(kvcalc.load("llama-3.1-8b"), read_engine_log(log))
    assert (report.outcome, report.verdict.partition(";")[0]) == (
        "undecided",
        "undecided: the log prints no pool larger than 0.00 GB",
    )


def test_the_memory_that_older_logs_state_is_read():
    """vLLM 0.6 and 0.7; github.com/vllm-project/vllm/issues/10517."""
    lines = [
        "the rest of the memory reserved for KV Cache is 3.81GiB.",
        "# GPU blocks: 1952, # CPU blocks: 2048",
        "Maximum concurrency for 20000 tokens per request: 1.56x",
    ]
    report = explain(kvcalc.load("llama-3.1-8b"), LOG_FORMATS.module("vllm").read(lines))
    assert report.outcome == "agrees"


def test_of_the_ranks_of_one_start_up_the_least_is_what_all_use():
    """Before 0.11 each rank of vLLM printed its own; a later start-up is another one."""
    lines = ["non-default args: {'max_model_len': 8192}"]
    for tokens, count in (("81,920", "10.00"), ("65,536", "8.00"), ("81,920", "10.00")):
        lines += [f"GPU KV cache size: {tokens} tokens", f"Maximum concurrency for 8,192 tokens per request: {count}x"]
    read = LOG_FORMATS.module("vllm").read
    assert [str(each) for each in read(lines).caches[0].values()] == ["65,536", "8.00"]
    assert [str(each) for each in read([*lines[:5], *lines]).caches[0].values()] == ["65,536", "8.00"]
    assert [str(each) for each in read([*lines, *lines[:3]]).caches[0].values()] == ["81,920", "10.00"]


MEMORIES = {
    "0.6.4": (
        "Memory profiling results: total_gpu_memory=79.10GiB initial_memory_usage=15.52GiB non_torch_memory=0.62GiB "
        "kv_cache_size=54.06GiB gpu_memory_utilization=0.90",
        "# GPU blocks: 27680, # CPU blocks: 2048",
        "54.06 GiB",
    ),
    "0.8.1, which calls the device as PyTorch does": (
        "PyTorch activation peak memory takes 1.20GiB; the rest of the memory reserved for KV Cache is 54.06GiB.",
        "# cuda blocks: 27680, # CPU blocks: 2048",
        "54.06 GiB",
    ),
    "0.11, fixed": (
        "Initial free memory 78.52 GiB, reserved 10.00 GiB memory for KV Cache as specified by kv_cache_memory_bytes "
        "config and skipped memory profiling.",
        "GPU KV cache size: 81,920 tokens\nMaximum concurrency for 8,192 tokens per request: 10.00x",
        "10.00 GiB",
    ),
}
"""Lines as these versions print them; the numbers are those of Llama 3.1 8B, 131,072 bytes a token, by arithmetic."""


@pytest.mark.parametrize(("memory", "cache", "said"), MEMORIES.values(), ids=MEMORIES)
def test_what_a_version_says_of_its_memory_is_read_with_the_blocks_of_the_gpu(memory, cache, said):
    reading = LOG_FORMATS.module("vllm").read([memory, *cache.split("\n")])
    assert str(reading.caches[0]["memory"]) == said
    assert explain(kvcalc.load("llama-3.1-8b"), reading).outcome == "agrees"


def test_a_start_up_of_tensorrt_llm_that_measures_first_prints_two_pools(tmp_path):
    """Llama 3.1 8B in bf16, 131,072 bytes a token: 257 blocks while activations are measured, then 6,890."""
    log = tmp_path / "trtllm.log"
    log.write_text(
        "[TensorRT-LLM][INFO] Number of tokens per block: 32.\n"
        "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 1.00 GiB for max tokens in paged KV cache (8224).\n"
        "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 26.91 GiB for max tokens in paged KV cache (220480).\n"
        "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 26.91 GiB for max tokens in paged KV cache (220480).\n"
    )
    model = kvcalc.load("llama-3.1-8b")
    report = explain(model, read_engine_log(log))
    assert [(c.line, c.predicted, c.agrees) for c in report.compared] == [(2, "1.00 GiB", True), (3, "26.91 GiB", True)]
    in_fp8 = explain(model, read_engine_log(log), settings={"dtype": "fp8"})
    assert "dtype=float16" in in_fp8.explanations
    in_64 = explain(model, read_engine_log(log), settings={"tokens_per_block": 64})
    assert [c.what for c in in_64.compared][1] == "tokens in whole blocks"  # 8224 are 128.5 blocks of 64


def test_whoever_writes_logs_is_an_engine_that_is_predicted():
    assert set(LOG_FORMATS.names()) == set(EXPLAINERS.names()) <= set(ENGINES.names())


def test_a_log_that_is_not_there_or_of_an_unknown_engine_is_refused(tmp_path):
    with pytest.raises(kvcalc.InvalidFileError, match="no such file"):
        read_engine_log(tmp_path / "none.log")
    with pytest.raises(kvcalc.UnknownNameError, match="no engine with supported logs is called 'tgi'"):
        read_engine_log(LOGS / "vllm_qwen3_14b.log", "tgi")


def test_bytes_that_are_no_text_are_passed_over(tmp_path):
    log = tmp_path / "colours.log"
    log.write_bytes(b"\xff\xfe\x1b[32mINFO\x1b[0m GPU KV cache size: \x1b[1m42,656\x1b[0m tokens\n")
    assert read_engine_log(log).caches[0]["tokens"].text == "42,656"


REAL_LINES = [line for path in sorted(LOGS.glob("*.log")) for line in path.read_text().splitlines()]


@given(st.lists(st.sampled_from(REAL_LINES), min_size=1, max_size=4), st.data())
def test_spoiled_lines_are_read_or_refused_and_never_crash(lines, data):
    """A character of each line replaced by another that a log may have there."""
    spoiled = []
    for line in lines:
        place = data.draw(st.integers(0, len(line) - 1))
        spoiled.append(line[:place] + data.draw(st.sampled_from("0123456789.,xGMi ()=")) + line[place + 1 :])
    model = kvcalc.load("tinyllama-1.1b")
    for name in LOG_FORMATS.names():
        reading = LOG_FORMATS.module(name).read(spoiled)
        if reading is not None:
            try:
                compared = EXPLAINERS.module(reading.engine).compare(
                    model, reading, reading.settings, kvcalc.Parallel()
                )
            except kvcalc.KvcalcError as refusal:
                assert refusal.help
            else:
                assert compared or reading.refusal


@pytest.mark.parametrize(
    ("preset", "log"),
    [
        ("deepseek-v4-pro", "Available KV cache memory: 31.77 GiB\nGPU KV cache size: 123,457 tokens\n"),
        ("gemma-4-31b", "Available KV cache memory: 31.77 GiB\nGPU KV cache size: 123,457 tokens\n"),
        ("zaya1-8b", "KV Cache is allocated. #tokens: 367404, K size: 8.23 GB, V size: 8.23 GB\n"),
    ],
)
def test_a_log_that_nothing_explains_is_answered_soon(tmp_path, preset, log):
    file = tmp_path / "engine.log"
    file.write_text(log)
    took = cost("explain-log", str(file), "-p", preset)
    assert took.code == 1
    assert took.seconds < 3  # of which less than 1 was promised; it took 6
